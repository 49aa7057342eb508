"""The Holter summary: what a day of classified beats comes to, with the definitions used.

docs/summary.md holds the same definitions for readers.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE
from ecgkan.errors import DataError
from ecgkan.inference.annotation import ECTOPIC_CLASSES, BeatAnnotations
from ecgkan.inference.rhythm import (
    PAUSE_S,
    RUN_BEATS,
    Stretches,
    find_alternation,
    find_ectopic,
    find_pauses,
    local_heart_rates,
    rates,
    rr_intervals,
)

NN_RANGE_S: Final = (0.3, 2.0)
"""RR intervals between two N beats that count for the heart rate's variability; others are missed or invented beats."""

LEFT_OUT: Final = "beat left out"
"""Why time is excluded around a beat that could not be classified, outside of the excluded stretches."""


FLUTTER: Final = "ventricular flutter"
"""Why time is excluded where an annotator marked flutter or fibrillation, outside of the excluded stretches."""


@dataclass(frozen=True, slots=True)
class AnalysedTime:
    """How much of the recording was read.

    Attributes
    ----------
    duration_s : float
        Length of the recording.
    analysed_s, excluded_s : float
        Their sum is the length. Excluded are the stretches marked as not readable, ventricular flutter, and the
        windows (0.71 s) of beats left out elsewhere; where they overlap, time counts once.
    reasons : mapping
        Reason → excluded seconds; they add up to `excluded_s`.
    """

    duration_s: float
    analysed_s: float
    excluded_s: float
    reasons: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class HeartRate:
    """Heart rate, beats per minute; None where no RR interval is known.

    Attributes
    ----------
    mean : float or None
        Known RR intervals divided by the minutes they last together.
    min, max : float or None
        Lowest and highest local rate: 60 s by the median of 8 RR intervals.
    min_time_s, max_time_s : float or None
        When: the R peak in the middle of those intervals, seconds from the start of the recording.
    """

    mean: float | None
    min: float | None
    max: float | None
    min_time_s: float | None
    max_time_s: float | None


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of the recording, counted from its start.

    Attributes
    ----------
    index : int
        0 for the first hour.
    started : datetime or None
        When the hour began by the clock, if the file says when the recording did.
    analysed_minutes : float
        Minutes that were read.
    beats : int
        Classified beats.
    counts : mapping
        Class letter → beats.
    ectopic_burden_percent : float or None
        Beats of class S or V, percent of the hour's classified beats.
    heart_rate_mean, heart_rate_min, heart_rate_max : float or None
        As in `HeartRate`: the mean over RR intervals that end in the hour, the extremes of local rates with their
        middle in it.
    """

    index: int
    started: datetime.datetime | None
    analysed_minutes: float
    beats: int
    counts: Mapping[str, int]
    ectopic_burden_percent: float | None
    heart_rate_mean: float | None
    heart_rate_min: float | None
    heart_rate_max: float | None


@dataclass(frozen=True, slots=True)
class Pauses:
    """Long RR intervals between consecutive beats.

    Attributes
    ----------
    threshold_s : float
        RR interval from which on there is a pause.
    number : int
        Pauses.
    times_s : tuple of float
        When each begins: the R peak before it.
    longest_rr_s, longest_rr_time_s : float or None
        The longest RR interval of the recording, pause or not, and when it begins.
    """

    threshold_s: float
    number: int
    times_s: tuple[float, ...]
    longest_rr_s: float | None
    longest_rr_time_s: float | None


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs: three or more consecutive beats of one ectopic class.

    Attributes
    ----------
    number : int
        Runs.
    beats : int
        Beats in all of them.
    longest_beats : int or None
        Beats of the longest run; of equally long ones the first counts.
    longest_time_s : float or None
        R peak of its first beat.
    fastest_rate : float or None
        Highest mean rate of a run, beats per minute: 60 (beats - 1) / seconds from its first to its last beat.
    fastest_beats : int or None
        Beats of that run.
    fastest_time_s : float or None
        R peak of its first beat.
    """

    number: int
    beats: int
    longest_beats: int | None
    longest_time_s: float | None
    fastest_rate: float | None
    fastest_beats: int | None
    fastest_time_s: float | None


@dataclass(frozen=True, slots=True)
class Alternation:
    """Bigeminy (N V N V N V) or trigeminy (N N V N N V N N V): three or more cycles, one directly after the other.

    Attributes
    ----------
    episodes : int
        Longest possible stretches of such cycles.
    beats : int
        Beats in all of them, the normal ones counted.
    longest_beats : int or None
        Beats of the longest; of equally long ones the first counts.
    longest_time_s : float or None
        R peak of its first beat.
    """

    episodes: int
    beats: int
    longest_beats: int | None
    longest_time_s: float | None


@dataclass(frozen=True, slots=True)
class Ectopy:
    """The ectopic beats of one class (V or S), by what precedes and follows them.

    Attributes
    ----------
    beats : int
        All beats of the class: `isolated` + 2 `couplets` + `runs.beats`.
    burden_percent : float or None
        Percent of all classified beats.
    isolated : int
        Beats with no beat of the class directly before or after.
    couplets : int
        Exactly two in a row.
    runs : Runs
        Three or more in a row.
    bigeminy, trigeminy : Alternation
        Their beats are among the isolated ones.
    """

    beats: int
    burden_percent: float | None
    isolated: int
    couplets: int
    runs: Runs
    bigeminy: Alternation
    trigeminy: Alternation


@dataclass(frozen=True, slots=True)
class Flutter:
    """Ventricular flutter and fibrillation, which have no beats, as the annotator that gave the R peaks marked it.

    Attributes
    ----------
    episodes : int
        Stretches marked; the detector marks none.
    total_s : float
        Seconds in all of them.
    longest_s, longest_time_s : float or None
        Seconds of the longest, and when it begins.
    times_s, lengths_s : tuple of float
        When each begins, and its seconds.
    """

    episodes: int
    total_s: float
    longest_s: float | None
    longest_time_s: float | None
    times_s: tuple[float, ...] = ()
    lengths_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Variability:
    """Heart rate variability over NN intervals: RR intervals of 0.3 to 2.0 s between two consecutive beats of class N.

    Attributes
    ----------
    intervals : int
        NN intervals.
    mean_nn_ms : float or None
        Their mean.
    sdnn_ms : float or None
        Their standard deviation (n - 1); None for fewer than two.
    rmssd_ms : float or None
        Root mean square of the differences between NN intervals that share a beat; None if none do.
    """

    intervals: int
    mean_nn_ms: float | None
    sdnn_ms: float | None
    rmssd_ms: float | None


@dataclass(frozen=True, slots=True)
class HolterSummary:
    """What a Holter recording's summary holds. Times are seconds from the start of the recording.

    Attributes
    ----------
    started : datetime or None
        When the recording began by the clock, if the file says so.
    time : AnalysedTime
        Time analysed and excluded.
    beats : int
        Classified beats.
    left_out : int
        Beats that were found but not classified.
    uncertain : int
        Classified beats whose calibrated confidence is low.
    counts : mapping
        Class letter → classified beats, in the order N S V F Q.
    burden_percent : mapping
        Class letter → percent of the classified beats; None without beats.
    ectopic_burden_percent : float or None
        Beats of class S or V, percent of the classified beats.
    heart_rate : HeartRate
        Mean and extremes.
    hours : tuple of Hour
        One per hour begun.
    pauses : Pauses
        Pauses, and the longest RR interval.
    ventricular, supraventricular : Ectopy
        Of the beats of class V and S.
    flutter : Flutter
        Ventricular flutter, where an annotator marked it.
    variability : Variability
        Of the NN intervals.
    """

    started: datetime.datetime | None
    time: AnalysedTime
    beats: int
    left_out: int
    uncertain: int
    counts: Mapping[str, int]
    burden_percent: Mapping[str, float | None]
    ectopic_burden_percent: float | None
    heart_rate: HeartRate
    hours: tuple[Hour, ...]
    pauses: Pauses
    ventricular: Ectopy
    supraventricular: Ectopy
    flutter: Flutter
    variability: Variability

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold: None where unknown, times of day in ISO format."""
        plain: dict[str, Any] = _plain(self)
        return plain


def summarize(annotations: BeatAnnotations, *, pause_s: float = PAUSE_S) -> HolterSummary:
    """Summarize the classified beats of a recording as a Holter report does.

    Parameters
    ----------
    annotations : BeatAnnotations
        The classified beats.
    pause_s : float
        RR interval, seconds, from which on there is a pause.

    Returns
    -------
    HolterSummary
        With the definitions beside each of its fields.

    Raises
    ------
    DataError
        If `pause_s` is not positive.
    """
    if not pause_s > 0:
        raise DataError(f"a pause must last longer than 0 s, got pause_s={pause_s:g}; the usual one is {PAUSE_S:g} s")
    excluded = _excluded_stretches(annotations)
    counts = _count(annotations.classes)
    return HolterSummary(
        started=annotations.started,
        time=_analysed_time(annotations, excluded),
        beats=len(annotations),
        left_out=len(annotations.left_out),
        uncertain=int(np.count_nonzero(annotations.uncertain)),
        counts=counts,
        burden_percent={letter: _percent(count, len(annotations)) for letter, count in counts.items()},
        ectopic_burden_percent=_ectopic_burden(counts),
        heart_rate=_heart_rate(annotations),
        hours=_hours(annotations, excluded),
        pauses=_pauses(annotations, pause_s),
        ventricular=_ectopy(annotations, "V"),
        supraventricular=_ectopy(annotations, "S"),
        flutter=_flutter(annotations),
        variability=_variability(annotations),
    )


def _count(classes: NDArray[np.str_]) -> dict[str, int]:
    return {letter: int(np.count_nonzero(classes == letter)) for letter in CLASSES}


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _ectopic_burden(counts: Mapping[str, int]) -> float | None:
    return _percent(sum(counts[letter] for letter in ECTOPIC_CLASSES), sum(counts.values()))


def _excluded_stretches(annotations: BeatAnnotations) -> NDArray[np.float64]:
    """Return the union of what was not read: `[k, 2]` seconds, within the recording."""
    left_out_s = annotations.left_out / annotations.fs
    windows = np.column_stack([left_out_s - BEFORE / BEAT_FS, left_out_s + AFTER / BEAT_FS])
    return _union(np.concatenate([_unread_stretches(annotations), windows]), annotations.duration_s)


def _unread_stretches(annotations: BeatAnnotations) -> NDArray[np.float64]:
    """Return noisy stretches and flutter, `[k, 2]` seconds; they may overlap."""
    return np.concatenate([annotations.noisy, annotations.flutter]).reshape(-1, 2) / annotations.fs


def _union(stretches: NDArray[np.float64], duration_s: float) -> NDArray[np.float64]:
    """Join stretches that overlap, within the recording: `[k, 2]` seconds → `[m, 2]`, ascending."""
    stretches = stretches.clip(0.0, duration_s)
    stretches = stretches[np.argsort(stretches[:, 0], kind="stable")]
    reached = np.maximum.accumulate(stretches[:, 1])
    apart = np.flatnonzero(stretches[1:, 0] > reached[:-1])
    ends = np.append(apart, len(stretches) - 1)[: len(stretches)]
    starts = np.append(0, apart + 1)[: len(stretches)]
    return np.column_stack([stretches[starts, 0], reached[ends]])


def _analysed_time(annotations: BeatAnnotations, excluded: NDArray[np.float64]) -> AnalysedTime:
    excluded_s = float(np.diff(excluded, axis=1).sum())
    reasons: dict[str, float] = {}
    noisy = (annotations.noisy.reshape(-1, 2) / annotations.fs).clip(0.0, annotations.duration_s)
    for reason, (start, stop) in zip(annotations.noisy_reasons, noisy.tolist(), strict=True):
        reasons[reason] = reasons.get(reason, 0.0) + stop - start
    unread_s = float(np.diff(_union(_unread_stretches(annotations), annotations.duration_s), axis=1).sum())
    if len(annotations.flutter) and (rest := unread_s - sum(reasons.values())) > 1e-6:
        reasons[FLUTTER] = rest
    if len(annotations.left_out) and (rest := excluded_s - sum(reasons.values())) > 1e-6:
        reasons[LEFT_OUT] = rest
    duration_s = float(annotations.duration_s)
    return AnalysedTime(duration_s, duration_s - excluded_s, excluded_s, reasons)


def _heart_rate(annotations: BeatAnnotations) -> HeartRate:
    local = local_heart_rates(annotations)
    if not len(local.rates):
        return HeartRate(None, None, None, None, None)
    slowest, fastest = int(np.argmin(local.rates)), int(np.argmax(local.rates))
    return HeartRate(
        mean=_mean_rate(rr_intervals(annotations)),
        min=float(local.rates[slowest]),
        max=float(local.rates[fastest]),
        min_time_s=_time_s(annotations, local.middle[slowest]),
        max_time_s=_time_s(annotations, local.middle[fastest]),
    )


def _mean_rate(intervals: NDArray[np.float64]) -> float | None:
    known = intervals[intervals > 0]
    return 60.0 * len(known) / float(known.sum()) if len(known) else None


def _time_s(annotations: BeatAnnotations, beat: np.int64 | int) -> float:
    return float(annotations.samples[beat] / annotations.fs)


def _hours(annotations: BeatAnnotations, excluded: NDArray[np.float64]) -> tuple[Hour, ...]:
    duration_s = float(annotations.duration_s)
    number = max(1, int(np.ceil(duration_s / 3600)))
    hour_of_beat = np.minimum((annotations.samples / annotations.fs // 3600).astype(np.int64), number - 1)
    local, intervals = local_heart_rates(annotations), rr_intervals(annotations)
    hour_of_rate = hour_of_beat[local.middle]
    analysed_minutes = _analysed_minutes(excluded, np.minimum(np.arange(number + 1) * 3600.0, duration_s))
    hours = []
    for index in range(number):
        here = hour_of_beat == index
        some = local.rates[hour_of_rate == index]
        counts = _count(annotations.classes[here])
        started = annotations.started and annotations.started + datetime.timedelta(hours=index)
        hours.append(
            Hour(
                index=index,
                started=started,
                analysed_minutes=float(analysed_minutes[index]),
                beats=int(np.count_nonzero(here)),
                counts=counts,
                ectopic_burden_percent=_ectopic_burden(counts),
                heart_rate_mean=_mean_rate(intervals[here[1:]]),
                heart_rate_min=float(some.min()) if len(some) else None,
                heart_rate_max=float(some.max()) if len(some) else None,
            )
        )
    return tuple(hours)


def _analysed_minutes(excluded: NDArray[np.float64], edges_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the minutes analysed between successive edges: `[k]` seconds → `[k - 1]`."""
    if not len(excluded):
        return np.diff(edges_s) / 60
    lengths = excluded[:, 1] - excluded[:, 0]
    stops = np.cumsum(lengths)
    excluded_until = np.interp(edges_s, excluded.ravel(), np.column_stack([stops - lengths, stops]).ravel())
    return np.diff(edges_s - excluded_until) / 60


def _pauses(annotations: BeatAnnotations, pause_s: float) -> Pauses:
    intervals = rr_intervals(annotations)
    begins = find_pauses(annotations, pause_s).first
    longest = int(np.nanargmax(intervals)) if np.isfinite(intervals).any() else None
    return Pauses(
        threshold_s=pause_s,
        number=len(begins),
        times_s=tuple((annotations.samples[begins] / annotations.fs).tolist()),
        longest_rr_s=None if longest is None else float(intervals[longest]),
        longest_rr_time_s=None if longest is None else _time_s(annotations, longest),
    )


def _flutter(annotations: BeatAnnotations) -> Flutter:
    if not len(annotations.flutter):
        return Flutter(0, 0.0, None, None)
    seconds = np.diff(annotations.flutter, axis=1)[:, 0] / annotations.fs
    times_s, lengths_s = (annotations.flutter[:, 0] / annotations.fs).tolist(), seconds.tolist()
    longest = int(np.argmax(seconds))
    return Flutter(
        episodes=len(seconds),
        total_s=float(seconds.sum()),
        longest_s=lengths_s[longest],
        longest_time_s=times_s[longest],
        times_s=tuple(times_s),
        lengths_s=tuple(lengths_s),
    )


def _ectopy(annotations: BeatAnnotations, letter: str) -> Ectopy:
    stretches = find_ectopic(annotations, letter)
    beats = int(stretches.beats.sum())
    return Ectopy(
        beats=beats,
        burden_percent=_percent(beats, len(annotations)),
        isolated=int(np.count_nonzero(stretches.beats == 1)),
        couplets=int(np.count_nonzero(stretches.beats == 2)),
        runs=_runs(annotations, stretches.where(stretches.beats >= RUN_BEATS)),
        bigeminy=_alternation(annotations, find_alternation(annotations, letter, 2)),
        trigeminy=_alternation(annotations, find_alternation(annotations, letter, 3)),
    )


def _runs(annotations: BeatAnnotations, runs: Stretches) -> Runs:
    if not len(runs.first):
        return Runs(0, 0, None, None, None, None, None)
    run_rates = rates(annotations, runs)
    longest = int(np.argmax(runs.beats))
    fastest = int(np.nanargmax(run_rates)) if np.isfinite(run_rates).any() else None
    return Runs(
        number=len(runs.first),
        beats=int(runs.beats.sum()),
        longest_beats=int(runs.beats[longest]),
        longest_time_s=_time_s(annotations, runs.first[longest]),
        fastest_rate=None if fastest is None else float(run_rates[fastest]),
        fastest_beats=None if fastest is None else int(runs.beats[fastest]),
        fastest_time_s=None if fastest is None else _time_s(annotations, runs.first[fastest]),
    )


def _alternation(annotations: BeatAnnotations, episodes: Stretches) -> Alternation:
    if not len(episodes.first):
        return Alternation(0, 0, None, None)
    longest = int(np.argmax(episodes.beats))
    return Alternation(
        episodes=len(episodes.first),
        beats=int(episodes.beats.sum()),
        longest_beats=int(episodes.beats[longest]),
        longest_time_s=_time_s(annotations, episodes.first[longest]),
    )


def _variability(annotations: BeatAnnotations) -> Variability:
    normal = annotations.classes == "N"
    intervals = rr_intervals(annotations)
    low, high = NN_RANGE_S
    counts = normal[:-1] & normal[1:] & (intervals >= low) & (intervals <= high)
    nn_ms = 1000 * intervals[counts]
    differences_ms = 1000 * np.diff(intervals)[counts[:-1] & counts[1:]]
    return Variability(
        intervals=len(nn_ms),
        mean_nn_ms=float(nn_ms.mean()) if len(nn_ms) else None,
        sdnn_ms=float(nn_ms.std(ddof=1)) if len(nn_ms) > 1 else None,
        rmssd_ms=float(np.sqrt(np.mean(differences_ms**2))) if len(differences_ms) else None,
    )


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Turn nested dataclasses into what JSON has; exact: reading the JSON back gives an equal value."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.datetime) else value
