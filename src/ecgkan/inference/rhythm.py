"""What classified beats do one after another: pauses, couplets, runs, bigeminy, trigeminy.

Everything here works on *consecutive* beats: two classified beats with a known RR interval between them, and neither
a beat that was left out, nor an excluded stretch, nor ventricular flutter. Nothing is said across what was not read.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.inference.annotation import HEART_RATE_BEATS, BeatAnnotations, heart_rates, reaches_between

PAUSE_S: Final = 2.0
"""RR interval from which on there is a pause."""

RUN_BEATS: Final = 3
"""Consecutive ectopic beats from which on there is a run; two are a couplet."""

CYCLES: Final = 3
"""Cycles (N V, or N N V) in a row from which on there is bigeminy or trigeminy."""

EVENT_KINDS: Final = (
    "ventricular flutter",
    "pause",
    "ventricular run",
    "ventricular couplet",
    "ventricular bigeminy",
    "ventricular trigeminy",
    "isolated ventricular beat",
    "supraventricular run",
    "supraventricular couplet",
    "supraventricular bigeminy",
    "supraventricular trigeminy",
    "isolated supraventricular beat",
    "fusion beat",
    "highest heart rate",
    "lowest heart rate",
)
"""The kinds of `Event`, in the order a reader wants them."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth a look.

    Attributes
    ----------
    kind : str
        One of `EVENT_KINDS`.
    start_sample, stop_sample : int
        R peaks of its first and its last beat, at the recording's sampling rate. A pause lies between its two.
        Of ventricular flutter, where it begins and ends.
    beats : int
        Beats from the first to the last, both counted; 0 of flutter.
    rate : float or None
        Beats per minute from the first to the last beat: 60 (beats - 1) / seconds. For the heart rate's extremes the
        local rate itself (median of 8 RR intervals). None for single beats and flutter.
    """

    kind: str
    start_sample: int
    stop_sample: int
    beats: int
    rate: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)


class Stretches(NamedTuple):
    """Stretches of consecutive beats, by the indices `[k]` int64 of their first and last beats (both belong)."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @property
    def beats(self) -> NDArray[np.int64]:
        """Beats in each stretch, `[k]`."""
        return self.last - self.first + 1

    def where(self, chosen: NDArray[np.bool_]) -> "Stretches":
        """Return the stretches chosen by `[k]` bool."""
        return Stretches(self.first[chosen], self.last[chosen])


def find_events(annotations: BeatAnnotations, *, pause_s: float = PAUSE_S) -> tuple[Event, ...]:
    """Find every event, in order of time; simultaneous ones in the order of `EVENT_KINDS`.

    Parameters
    ----------
    annotations : BeatAnnotations
        Classified beats.
    pause_s : float
        RR interval, seconds, from which on there is a pause.

    Returns
    -------
    tuple of Event
        Kinds overlap: the beats of bigeminy are isolated beats too. docs/summary.md holds the definitions.
    """
    events = [
        event for kind, stretches in _by_kind(annotations, pause_s) for event in _each(annotations, kind, stretches)
    ]
    events += _rate_extremes(annotations)
    events += [Event("ventricular flutter", start, stop, 0, None) for start, stop in annotations.flutter.tolist()]
    return tuple(sorted(events, key=lambda event: (event.start_sample, EVENT_KINDS.index(event.kind))))


def consecutive(annotations: BeatAnnotations) -> NDArray[np.bool_]:
    """Tell which classified beats are consecutive: `[n - 1]` bool, beat i and beat i + 1.

    They are if the RR interval between them is known, no beat between them was left out, and no excluded stretch
    and no ventricular flutter reaches between them.
    """
    samples = annotations.samples
    if len(samples) < 2:
        return np.zeros(0, dtype=np.bool_)
    known = np.isfinite(annotations.rr_after_s[:-1]) & np.isfinite(annotations.rr_before_s[1:])
    left_out = annotations.left_out
    between = np.searchsorted(left_out, samples[1:], "right") - np.searchsorted(left_out, samples[:-1], "left")
    unread = reaches_between(annotations.noisy, samples) | reaches_between(annotations.flutter, samples)
    together: NDArray[np.bool_] = known & (between == 0) & ~unread
    return together


def rr_intervals(annotations: BeatAnnotations) -> NDArray[np.float64]:
    """Return the RR intervals between consecutive beats, `[n - 1]` seconds; NaN between others."""
    return np.where(consecutive(annotations), annotations.rr_after_s[:-1], np.nan)


def find_pauses(annotations: BeatAnnotations, pause_s: float = PAUSE_S) -> Stretches:
    """Find the RR intervals of at least `pause_s` between consecutive beats."""
    first = np.flatnonzero(rr_intervals(annotations) >= pause_s)
    return Stretches(first, first + 1)


def find_ectopic(annotations: BeatAnnotations, letter: str) -> Stretches:
    """Find the longest possible stretches of consecutive beats of one class, single beats among them."""
    belongs = annotations.classes == letter
    continues = belongs[:-1] & belongs[1:] & consecutive(annotations)
    edge = np.zeros(1, dtype=np.bool_)
    first = np.flatnonzero(belongs & ~np.concatenate([edge, continues])[: len(belongs)])
    last = np.flatnonzero(belongs & ~np.concatenate([continues, edge])[: len(belongs)])
    return Stretches(first, last)


def find_alternation(annotations: BeatAnnotations, letter: str, period: int) -> Stretches:
    """Find bigeminy (`period` 2) or trigeminy (3) of one class.

    A cycle is `period - 1` beats of class N and then one of class `letter`. At least `CYCLES` cycles, one directly
    after the other, all beats consecutive, make a stretch; it lasts from the first N to the last beat of the class.
    """
    together = consecutive(annotations)
    last = np.flatnonzero(annotations.classes == letter)  # of each cycle, if the beats before it are N
    last = last[last >= period - 1]
    for back in range(1, period):
        last = last[(annotations.classes[last - back] == "N") & together[last - back]]
    # One cycle directly follows another if the class's beats are a period apart, and consecutive where they meet.
    follows = (np.diff(last) == period) & together[last[:-1]]
    borders = np.flatnonzero(~follows)
    starts = np.concatenate([[0], borders + 1]).astype(np.int64)[: len(last)]
    stops = np.concatenate([borders, [len(last) - 1]]).astype(np.int64)[: len(last)]
    enough = stops - starts + 1 >= CYCLES
    return Stretches(last[starts[enough]] - (period - 1), last[stops[enough]])


def rates(annotations: BeatAnnotations, stretches: Stretches) -> NDArray[np.float64]:
    """Return the mean rate of each stretch, `[k]` beats per minute; NaN for single beats and beats at one sample."""
    seconds = (annotations.samples[stretches.last] - annotations.samples[stretches.first]) / annotations.fs
    intervals = stretches.last - stretches.first
    per_minute: NDArray[np.float64] = np.full(len(seconds), np.nan)
    np.divide(60.0 * intervals, seconds, out=per_minute, where=seconds > 0)
    return per_minute


class LocalRates(NamedTuple):
    """Local heart rates, each the median of up to 8 RR intervals.

    Attributes
    ----------
    rates : ndarray
        `[k]` float64, beats per minute.
    first, middle, last : ndarray
        `[k]` int64, the beats at the beginning, in the middle and at the end of each.
    unbroken : bool
        Whether all of them are of 8 intervals between consecutive beats.
    """

    rates: NDArray[np.float64]
    first: NDArray[np.int64]
    middle: NDArray[np.int64]
    last: NDArray[np.int64]
    unbroken: bool


def local_heart_rates(annotations: BeatAnnotations) -> LocalRates:
    """Return the heart rate around each beat: 60 s by the median of 8 RR intervals, moved beat by beat.

    The intervals of a median join consecutive beats. Only where a recording has no 8 such intervals in a row
    does a median take known intervals from both sides of what was not read.
    """
    intervals = rr_intervals(annotations)
    known = np.flatnonzero(intervals > 0)
    width = min(HEART_RATE_BEATS, len(known))
    local = heart_rates(intervals)
    first = np.arange(len(local))
    last = first + width - 1
    unbroken = (known[last] - known[first] == HEART_RATE_BEATS - 1) & (width == HEART_RATE_BEATS)
    if unbroken.any():
        local, first, last = local[unbroken], first[unbroken], last[unbroken]
    middle = known[first + (width - 1) // 2] + 1
    return LocalRates(local, known[first], middle, known[last] + 1, bool(unbroken.any()))


def _by_kind(annotations: BeatAnnotations, pause_s: float) -> Iterator[tuple[str, Stretches]]:
    yield "pause", find_pauses(annotations, pause_s)
    for letter, name in (("V", "ventricular"), ("S", "supraventricular")):
        stretches = find_ectopic(annotations, letter)
        yield f"{name} run", stretches.where(stretches.beats >= RUN_BEATS)
        yield f"{name} couplet", stretches.where(stretches.beats == 2)
        yield f"isolated {name} beat", stretches.where(stretches.beats == 1)
        yield f"{name} bigeminy", find_alternation(annotations, letter, 2)
        yield f"{name} trigeminy", find_alternation(annotations, letter, 3)
    fusion = np.flatnonzero(annotations.classes == "F")
    yield "fusion beat", Stretches(fusion, fusion)


def _each(annotations: BeatAnnotations, kind: str, stretches: Stretches) -> Iterator[Event]:
    starts, stops = annotations.samples[stretches.first], annotations.samples[stretches.last]
    columns = (starts, stops, stretches.beats, rates(annotations, stretches))
    for start, stop, beats, rate in zip(*(column.tolist() for column in columns), strict=True):
        yield Event(kind, start, stop, beats, None if isnan(rate) else rate)


def _rate_extremes(annotations: BeatAnnotations) -> Iterator[Event]:
    """Yield the highest and the lowest local rate, if there are 9 consecutive beats."""
    local = local_heart_rates(annotations)
    if not local.unbroken:
        return
    for kind, extreme in (("highest heart rate", np.argmax), ("lowest heart rate", np.argmin)):
        i = int(extreme(local.rates))
        start, stop = (int(annotations.samples[beat]) for beat in (local.first[i], local.last[i]))
        yield Event(kind, start, stop, HEART_RATE_BEATS + 1, float(local.rates[i]))
