"""Moments: the few places of a recording that a reader wants to see, one for each kind of event."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.inference.annotation import HEART_RATE_BEATS, BeatAnnotations
from ecgkan.inference.rhythm import (
    PAUSE_S,
    RUN_BEATS,
    Stretches,
    consecutive,
    find_alternation,
    find_ectopic,
    local_heart_rates,
    rates,
    rr_intervals,
)

if TYPE_CHECKING:
    from ecgkan.data.recording import SignalSource

ROW_S: Final = 7.0
"""Seconds in a row of a strip: what fits across an A4 page at 25 mm/s, beside the calibration pulse."""

MOST_ROWS: Final = 2
"""Rows of a strip; of what lasts longer the beginning is shown."""

MOST_ROWS_OF_ALL: Final = 4
"""A recording of up to so many rows is shown from beginning to end."""

_BEFORE_S: Final = 1.5
"""Signal shown before what is too long for one row, and after it where it fits."""


_MARGIN_S: Final = 0.4
"""Signal on either side without which a moment is not shown."""


class Moment(NamedTuple):
    """Something to look at.

    Attributes
    ----------
    kind : str
        What it is, as part of a file name: "longest-ventricular-run".
    title : str
        What it is, for a reader: "Longest ventricular run".
    detail : str
        Figures that belong to it: "12 beats at 148/min, 1 of 3 runs".
    start_s, stop_s : float
        From its first R peak to its last, seconds in the recording.
    """

    kind: str
    title: str
    detail: str
    start_s: float
    stop_s: float


class ShownStrip(NamedTuple):
    """A part of a recording to draw: `rows` rows of `row_s` seconds from `start_s` on, and what it shows."""

    start_s: float
    row_s: float
    rows: int
    moments: tuple[Moment, ...]

    @property
    def stop_s(self) -> float:
        """End of the last row, seconds; may lie beyond the recording's."""
        return self.start_s + self.rows * self.row_s


class UncertainBeat(NamedTuple):
    """A beat to review.

    Attributes
    ----------
    beat : int
        Which of the annotations it is.
    time_s : float
        Its R peak, seconds in the recording.
    letter, runner_up : str
        The class it was given, and the next likely one.
    probabilities : tuple of float
        In the order N S V F Q.
    """

    beat: int
    time_s: float
    letter: str
    runner_up: str
    probabilities: tuple[float, ...]


def find_moments(annotations: BeatAnnotations) -> tuple[Moment, ...]:
    """Return one moment for each kind of event that occurs, in the order in which a report shows them.

    What a run, a couplet, an isolated beat, bigeminy and trigeminy are is said in `ecgkan.inference.rhythm`. Of runs
    and alternations the longest is chosen, of couplets and single beats the surest.
    """
    return (
        *_typical(annotations),
        *_ectopic(annotations, "V", "ventricular"),
        *_ectopic(annotations, "S", "supraventricular"),
        *_single(annotations, "F", "fusion-beat", "Fusion beat"),
        *_single(annotations, "Q", "class-q-beat", "Paced or unclassifiable beat"),
        *_longest_rr(annotations),
        *_rate_extremes(annotations),
        *_flutter(annotations),
        *_excluded(annotations),
    )


def choose_strips(annotations: BeatAnnotations, *, row_s: float = ROW_S) -> tuple[ShownStrip, ...]:
    """Return the strips that show `find_moments`; a moment that an earlier strip shows gets none of its own.

    A recording of no more than `MOST_ROWS_OF_ALL` rows is one strip, from beginning to end; of one in which nothing
    happens the beginning is shown.
    """
    moments, duration_s = find_moments(annotations), annotations.duration_s
    if duration_s <= row_s * MOST_ROWS_OF_ALL:
        row_s = min(row_s, max(1.0, float(np.ceil(duration_s))))
        return (ShownStrip(0.0, row_s, max(1, int(np.ceil(duration_s / row_s - 1e-9))), moments),)
    strips: list[ShownStrip] = []
    for moment in moments:
        shown = next((i for i, strip in enumerate(strips) if _is_shown(moment, strip)), None)
        if shown is None:
            start_s, rows = _place(moment, duration_s, row_s)
            strips.append(ShownStrip(start_s, row_s, rows, (moment,)))
        else:
            strips[shown] = strips[shown]._replace(moments=(*strips[shown].moments, moment))
    return tuple(strips) or (ShownStrip(0.0, row_s, 1, ()),)


def choose_uncertain(annotations: BeatAnnotations, most: int) -> tuple[UncertainBeat, ...]:
    """Return up to `most` uncertain beats in order of time: the least sure of each kind of doubt, in turn.

    Two beats are the same kind of doubt if their class and the runner-up are the same.
    """
    uncertain = np.flatnonzero(annotations.uncertain)
    probabilities = annotations.probabilities[uncertain]
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    doubts: dict[tuple[int, int], list[int]] = {}
    for place in np.argsort(probabilities.max(axis=1, initial=0.0), kind="stable").tolist():
        doubts.setdefault((int(ranked[place, 0]), int(ranked[place, 1])), []).append(place)
    turns = sorted((turn, place) for queue in doubts.values() for turn, place in enumerate(queue))
    chosen = sorted(place for _, place in turns[:most])
    return tuple(_uncertain_beat(annotations, int(uncertain[place]), int(ranked[place, 1])) for place in chosen)


def read_lead(
    source: "SignalSource", lead_index: int, start_s: float, stop_s: float
) -> tuple[int, NDArray[np.float64]]:
    """Read the part of a lead between two times, as far as the recording goes.

    Returns
    -------
    tuple
        Number of the first sample, and `[n]` float64 mV from it on; NaN where a sample is missing.
    """
    fs = source.fs
    start = min(max(0, int(np.floor(start_s * fs))), source.n_samples)
    stop = min(max(start, int(np.ceil(stop_s * fs)) + 1), source.n_samples)
    if stop == start:
        return start, np.zeros(0)
    values = np.array(source.read(start, stop, [lead_index])[:, 0], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return start, values


def time_text(seconds: float, decimals: int = 0) -> str:
    """Return a time in the recording as `h:mm:ss`, cut off and not rounded, so that no second is reached early.

    Examples
    --------
    >>> time_text(3725.96, 1)
    '1:02:05.9'
    """
    scale = 10**decimals
    whole = int(np.floor(seconds * scale + 1e-6))
    rest, fraction = divmod(whole, scale)
    text = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{text}.{fraction:0{decimals}d}" if decimals else text


def _typical(annotations: BeatAnnotations) -> Iterator[Moment]:
    """Yield the stretch of nothing but sure N beats whose RR intervals and signal quality deviate least."""
    normal = (annotations.classes == "N") & ~annotations.uncertain
    rr_s = np.concatenate([[np.nan], rr_intervals(annotations)])[: len(annotations)]
    usual_s = float(np.median(rr_s[normal & np.isfinite(rr_s)])) if np.any(normal & np.isfinite(rr_s)) else np.nan
    if not usual_s > 0:
        return
    times = annotations.samples / annotations.fs
    deviation = np.nan_to_num(np.abs(rr_s - usual_s) / usual_s, nan=1.0).clip(max=1.0)
    unfit = np.where(normal, deviation + 1.0 - annotations.quality, 100.0)
    last = np.searchsorted(times, times + (ROW_S - 2.0), side="right") - 1
    beats = last - np.arange(len(times)) + 1
    total = np.concatenate([[0.0], np.cumsum(unfit)])
    score = (total[last + 1] - total[:-1]) / beats
    score[beats < 0.8 * min(ROW_S - 2.0, annotations.duration_s - 2.0) / usual_s] += 100.0  # reaches the end, or a gap
    first = int(np.argmin(score))
    if score[first] < 2.0:
        detail = f"beats of class N; RR interval {1000 * np.nanmedian(rr_s[first : last[first] + 1]):.0f} ms"
        yield Moment("typical", "Typical stretch", detail, float(times[first]), float(times[last[first]]))


def _ectopic(annotations: BeatAnnotations, letter: str, name: str) -> Iterator[Moment]:
    stretches = find_ectopic(annotations, letter)
    yield from _runs(annotations, stretches.where(stretches.beats >= RUN_BEATS), name)
    couplets = stretches.where(stretches.beats == 2)
    if len(couplets.first):
        best = _surest(annotations, couplets)
        apart = annotations.samples[couplets.last[best]] - annotations.samples[couplets.first[best]]
        detail = f"{1000 * apart / annotations.fs:.0f} ms apart{_one_of(len(couplets.first), 'couplets')}"
        yield _moment(annotations, couplets, best, f"{name} couplet", detail)
    for period, kind in ((2, "bigeminy"), (3, "trigeminy")):
        episodes = find_alternation(annotations, letter, period)
        if len(episodes.first):
            best = int(np.argmax(episodes.beats))
            detail = f"{episodes.beats[best]} beats{_one_of(len(episodes.first), 'episodes')}"
            yield _moment(annotations, episodes, best, f"longest {name} {kind}", detail)
    isolated = stretches.where(stretches.beats == 1)
    if len(isolated.first):
        best = _surest(annotations, isolated)
        detail = f"probability {_confidence(annotations)[isolated.first[best]]:.2f}"
        detail += _one_of(len(isolated.first), "isolated beats")
        yield _moment(annotations, isolated, best, f"isolated {name} beat", detail)


def _runs(annotations: BeatAnnotations, runs: Stretches, name: str) -> Iterator[Moment]:
    if not len(runs.first):
        return
    per_minute = np.nan_to_num(rates(annotations, runs))
    chosen = {"longest": int(np.argmax(runs.beats)), "fastest": int(np.argmax(per_minute))}
    same = chosen["longest"] == chosen["fastest"]
    for which, best in chosen.items():
        detail = f"{runs.beats[best]} beats at {per_minute[best]:.0f}/min{_one_of(len(runs.first), 'runs')}"
        if not same:
            yield _moment(annotations, runs, best, f"{which} {name} run", detail)
        elif which == "longest":
            both = "longest and fastest" if len(runs.first) > 1 else "longest"
            yield _moment(annotations, runs, best, f"{which} {name} run", detail, title=f"{both} {name} run")


def _single(annotations: BeatAnnotations, letter: str, kind: str, title: str) -> Iterator[Moment]:
    beats = np.flatnonzero(annotations.classes == letter)
    if len(beats):
        alone = Stretches(beats, beats)
        best = _surest(annotations, alone)
        detail = f"probability {_confidence(annotations)[beats[best]]:.2f}{_one_of(len(beats), 'beats')}"
        yield _moment(annotations, alone, best, kind, detail, title=title)


def _longest_rr(annotations: BeatAnnotations) -> Iterator[Moment]:
    intervals = rr_intervals(annotations)
    if np.isfinite(intervals).any():
        first = int(np.nanargmax(intervals))
        pauses = int(np.count_nonzero(intervals >= PAUSE_S))
        kind = "longest pause" if pauses else "longest RR interval"
        detail = f"{intervals[first]:.2f} s{_one_of(pauses, f'pauses of {PAUSE_S:g} s or more') if pauses else ''}"
        index = np.array([first])
        yield _moment(annotations, Stretches(index, index + 1), 0, kind, detail)


def _rate_extremes(annotations: BeatAnnotations) -> Iterator[Moment]:
    local = local_heart_rates(annotations)
    for kind, choose in (("lowest heart rate", np.argmin), ("highest heart rate", np.argmax)):
        if len(local.rates):
            best = int(choose(local.rates))
            detail = f"{local.rates[best]:.0f}/min, by the median of {HEART_RATE_BEATS} RR intervals"
            yield _moment(annotations, Stretches(local.first, local.last), best, kind, detail)


def _flutter(annotations: BeatAnnotations) -> Iterator[Moment]:
    stretches_s = annotations.flutter / annotations.fs
    if len(stretches_s):
        longest = int(np.argmax(stretches_s[:, 1] - stretches_s[:, 0]))
        start_s, stop_s = stretches_s[longest].tolist()
        detail = f"{stop_s - start_s:.1f} s, marked by the annotator" + _one_of(len(stretches_s), "episodes")
        yield Moment("ventricular-flutter", "Longest ventricular flutter", detail, start_s, stop_s)


def _excluded(annotations: BeatAnnotations) -> Iterator[Moment]:
    stretches_s = annotations.noisy.reshape(-1, 2) / annotations.fs
    if len(stretches_s):
        longest = int(np.argmax(stretches_s[:, 1] - stretches_s[:, 0]))
        start_s, stop_s = stretches_s[longest].tolist()
        detail = f"{annotations.noisy_reasons[longest]}, {stop_s - start_s:.1f} s"
        detail += _one_of(len(stretches_s), "excluded stretches")
        yield Moment("excluded", "Longest excluded stretch", detail, start_s, stop_s)


def _moment(
    annotations: BeatAnnotations, stretches: Stretches, which: int, kind: str, detail: str, *, title: str | None = None
) -> Moment:
    title = kind if title is None else title
    start_s, stop_s = (float(annotations.samples[beats[which]] / annotations.fs) for beats in stretches)
    return Moment(kind.lower().replace(" ", "-"), title[:1].upper() + title[1:], detail, start_s, stop_s)


def _confidence(annotations: BeatAnnotations) -> NDArray[np.float32]:
    confidence: NDArray[np.float32] = annotations.probabilities.max(axis=1, initial=0.0)
    return confidence


def _surest(annotations: BeatAnnotations, stretches: Stretches) -> int:
    """Return the stretch whose least sure beat is surest, in signal of good quality, with beats on both sides."""
    sure = _confidence(annotations) * annotations.quality
    together = np.concatenate([[False], consecutive(annotations), [False]])
    inside = together[stretches.first] & together[stretches.last + 1]
    merit = np.minimum(sure[stretches.first], sure[stretches.last])
    return int(np.argmax(np.where(inside, merit, merit - 1.0)))


def _one_of(count: int, what: str) -> str:
    return f"; one of {count:,} {what}" if count > 1 else ""


def _uncertain_beat(annotations: BeatAnnotations, index: int, runner_up: int) -> UncertainBeat:
    return UncertainBeat(
        beat=index,
        time_s=float(annotations.samples[index] / annotations.fs),
        letter=str(annotations.classes[index]),
        runner_up=CLASSES[runner_up],
        probabilities=tuple(float(p) for p in annotations.probabilities[index]),
    )


def _is_shown(moment: Moment, strip: ShownStrip) -> bool:
    return strip.start_s + _MARGIN_S <= moment.start_s and moment.stop_s <= strip.stop_s - _MARGIN_S


def _place(moment: Moment, duration_s: float, row_s: float) -> tuple[float, int]:
    """Return start (a whole second) and rows of the strip that shows a moment with some signal around it."""
    length_s = moment.stop_s - moment.start_s
    if length_s <= row_s - 2:
        start_s, rows = (moment.start_s + moment.stop_s - row_s) / 2, 1
    else:
        rows = int(min(MOST_ROWS, np.ceil((length_s + 2 * _BEFORE_S) / row_s)))
        # Of noise the beginning is enough.
        start_s, rows = moment.start_s - _BEFORE_S, 1 if moment.kind == "excluded" else rows
    start_s = min(float(np.round(start_s)), float(np.ceil(duration_s)) - rows * row_s)
    return max(start_s, 0.0), rows
