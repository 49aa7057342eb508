"""What surrounds a beat: its shape beside the patient's own average beat so far, and its place in the rhythm.

The models for new patients look at a beat as an electrocardiographer does: is it early, measured by the intervals
around it, and does it look like this patient's usual beats? Hardly anything here is in seconds or millivolts when a
model sees it: intervals are taken as ratios of one another, shapes relative to the average beat. A beat's context
reaches back over the beats before it and ahead to the second beat after it, never further (`DELAY_BEATS`), so that what
is computed from a whole recording is what a monitor knows two beats later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.beats import BEAT_FS
from ecgkan.errors import DataError

DELAY_BEATS: Final = 2
"""How many beats after a beat have to be known before its context is."""

SHAPE_STRIDE: Final = 3
SHAPE_FS: Final = BEAT_FS / SHAPE_STRIDE
"""Sampling rate of shapes, Hz."""

SHAPE_BEFORE, SHAPE_AFTER = 54, 58
"""Samples of a shape before the R peak, and from it on: 0.45 s and 0.48 s, from P wave to T wave."""

SHAPE_WIDTH: Final = SHAPE_BEFORE + SHAPE_AFTER

LOWPASS_HZ: Final = 45.0
LOWPASS_TAPS: Final = 61
BASELINE_S: Final = 0.6
"""Two moving averages of this length in a row are the baseline that is subtracted."""

GROUP_BEATS: Final = 16
"""The average beat is renewed every so many beats."""

AVERAGED_BEATS: Final = 64
"""Over how many beats it looks back."""

PART_BEATS: Final = 256 * GROUP_BEATS
"""So many beats are put into context at a time."""

ALIKE: Final = 0.9
"""Beats whose QRS complexes correlate at least so much are of one kind."""

QRS: Final = slice(SHAPE_BEFORE - 18, SHAPE_BEFORE + 30)
"""Part of a shape by which beats are compared."""

RHYTHM_FEATURES: Final = (
    "rr/mean12",
    "rr/mean40",
    "rr/mean300",
    "rr/upper40",
    "rr/median21",
    "next/mean12",
    "next/upper40",
    "next/median21",
    "previous/mean12",
    "previous/upper40",
    "previous/median21",
    "second previous/median21",
    "second next/median21",
    "rr/previous",
    "next/rr",
    "rr and next/mean12",
    "rr and previous/mean12",
    "upper40/lower40",
    "mean40/upper40",
    "mean12/mean300",
    "median21/upper40",
    "irregularity16",
    "irregularity60",
    "spread22",
    "regular30",
)
NEIGHBOUR_FEATURES: Final = (
    "likeness of previous",
    "likeness of next",
    "size of previous",
    "size of next",
    "width of previous",
    "width of next",
)
CONTEXT_FEATURES: Final = RHYTHM_FEATURES + NEIGHBOUR_FEATURES
"""Names of the context's columns: log ratios of RR intervals, of their irregularity, and how the neighbours look."""

_RR_RANGE_S: Final = (0.2, 4.0)
_LARGEST_LOG: Final = 1.5

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class BeatContext:
    """Beats with their surroundings, as the models for new patients take them.

    Attributes
    ----------
    shapes : ndarray
        `[n, 2, 112]` float32, without unit: the beat, and the average beat so far, both divided by the height of the
        average beat's QRS complex.
    rhythm : ndarray
        `[n, 31]` float32, the columns `CONTEXT_FEATURES`.
    """

    shapes: Array
    rhythm: Array

    def __len__(self) -> int:
        return len(self.rhythm)


def cut_shapes(signal: NDArray[np.floating], samples: NDArray[np.integer]) -> Array:
    """Cut the shape of each beat: low-pass filtered, baseline subtracted, at 120 Hz.

    Parameters
    ----------
    signal : ndarray
        `[n_samples]`, mV, one lead at 360 Hz; where it ends it is continued by its last value.
    samples : ndarray
        `[n]` integer, R peaks.

    Returns
    -------
    ndarray
        `[n, 112]` float32, mV; the R peak is column 54.
    """
    from scipy.ndimage import uniform_filter1d

    if signal.ndim != 1 or len(signal) == 0:
        raise DataError(f"expected one lead [n_samples] with at least one sample, got shape {list(signal.shape)}")
    values = np.asarray(signal, dtype=np.float32)
    length = round(BASELINE_S * BEAT_FS)
    baseline = uniform_filter1d(uniform_filter1d(values, length, mode="nearest"), length, mode="nearest")
    reach = LOWPASS_TAPS // 2
    before, after = SHAPE_STRIDE * SHAPE_BEFORE + reach, SHAPE_STRIDE * SHAPE_AFTER + reach
    padded = np.pad(values - baseline, (before, after), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, before + after - SHAPE_STRIDE + 1)
    shapes: Array = windows[samples] @ _decimation()
    return shapes


@cache
def _decimation() -> Array:
    """Return the low-pass filter and the step to 120 Hz as one matrix `[394, 112]`."""
    from scipy.signal import firwin

    taps = firwin(LOWPASS_TAPS, LOWPASS_HZ, fs=BEAT_FS)
    matrix = np.zeros((SHAPE_STRIDE * (SHAPE_WIDTH - 1) + LOWPASS_TAPS, SHAPE_WIDTH), dtype=np.float32)
    for column in range(SHAPE_WIDTH):
        matrix[SHAPE_STRIDE * column : SHAPE_STRIDE * column + LOWPASS_TAPS, column] = taps
    return matrix


def beat_context(shapes: Array, rr_s: NDArray[np.floating], usable: NDArray[np.bool_] | None = None) -> BeatContext:
    """Put beats into their surroundings.

    Parameters
    ----------
    shapes : ndarray
        `[n, 112]` float32, mV, of consecutive beats, from `cut_shapes`.
    rr_s : ndarray
        `[n]`, RR interval before each beat, seconds; NaN where it is not known.
    usable : ndarray, optional
        `[n]` bool, beats that can be read; the others do not enter the average beat.

    Returns
    -------
    BeatContext
        Of all n beats.
    """
    parts = list(context_in_parts(shapes, rr_s, usable))
    if not parts:
        return BeatContext(np.zeros((0, 2, SHAPE_WIDTH), np.float32), np.zeros((0, len(CONTEXT_FEATURES)), np.float32))
    return BeatContext(
        np.concatenate([part.shapes for _, part in parts]), np.concatenate([part.rhythm for _, part in parts])
    )


def context_in_parts(
    shapes: Array, rr_s: NDArray[np.floating], usable: NDArray[np.bool_] | None = None
) -> Iterator[tuple[slice, BeatContext]]:
    """Put beats into their surroundings a few thousand at a time, so that a day of them is never held twice.

    Parameters
    ----------
    shapes, rr_s, usable
        See `beat_context`.

    Yields
    ------
    tuple of slice and BeatContext
        Which beats, and their context.
    """
    if len(shapes) != len(rr_s):
        raise DataError(f"{len(shapes)} beats but {len(rr_s)} RR intervals; expected as many")
    if len(shapes) == 0:
        return
    groups = _group_averages(shapes, rr_s, usable)
    of_group = np.arange(len(shapes)) // GROUP_BEATS
    parts = [slice(start, start + PART_BEATS) for start in range(0, len(shapes), PART_BEATS)]
    looks = np.concatenate([_looks(shapes[part], groups[of_group[part]]) for part in parts])
    features = np.concatenate([rhythm_features(rr_s), _neighbours(looks)], axis=1)
    for part in parts:
        yield part, BeatContext(scale_shapes(shapes[part], groups[of_group[part]]), features[part])


def context_features(shapes: Array, averages: Array, rr_s: NDArray[np.floating]) -> Array:
    """Return the columns `CONTEXT_FEATURES` of consecutive beats: `[n, 31]` float32."""
    return np.concatenate([rhythm_features(rr_s), neighbour_features(shapes, averages)], axis=1)


def scale_shapes(shapes: Array, averages: Array) -> Array:
    """Divide beats and their averages `[n, 112]` by the height of the averages' QRS complexes: `[n, 2, 112]`."""
    height = np.ptp(averages[:, QRS], axis=1) * np.float32(0.4) + np.float32(0.02)
    scaled: Array = np.clip(np.stack([shapes, averages], axis=1) / height[:, None, None], -8, 8)
    return scaled


def average_beats(shapes: Array, rr_s: NDArray[np.floating], usable: NDArray[np.bool_] | None = None) -> Array:
    """Average the patient's usual beats so far: `[n, 112]` float32, mV.

    Every 16 beats, those of the 64 before and the next two are compared with one another. The beat that most of them
    resemble, early and wide ones counting less (in bigeminy every other beat is ectopic), is averaged with its likes.
    Where none of them can be read, as when a lead has dropped out, the last average stands.
    """
    return np.repeat(_group_averages(shapes, rr_s, usable), GROUP_BEATS, axis=0)[: len(shapes)]


def _group_averages(shapes: Array, rr_s: NDArray[np.floating], usable: NDArray[np.bool_] | None) -> Array:
    """Return the average beat of each group of 16: `[ceil(n / 16), 112]` float32, mV."""
    n = len(shapes)
    rr = _filled(rr_s)
    counts = np.ones(n, bool) if usable is None else usable
    averages = np.zeros((-(-n // GROUP_BEATS), SHAPE_WIDTH), dtype=np.float32)
    for group, start in enumerate(range(0, n, GROUP_BEATS)):
        seen = _seen_beats(start, counts)
        if len(seen) == 0:
            averages[group] = averages[group - 1] if group else 0
            continue
        beats = shapes[seen]
        alike, width = _unit(beats[:, QRS]), _qrs_width(beats)
        early = np.log(rr[seen] / rr[seen].mean())
        weight = 0.1 + 0.9 / (1 + np.exp(-(early + 0.12) / 0.04))
        preferred = weight * (np.median(width) + 0.5) / (width + 0.5)
        likeness = alike @ alike.T
        chosen = int(np.argmax((np.maximum(likeness, 0) ** 6 @ preferred) * preferred))
        likes = likeness[chosen] > ALIKE
        likes[chosen] = True  # a flat line is like nothing, not even itself
        weight = np.where(likes, weight, 0).astype(np.float32)
        averages[group] = weight @ beats / weight.sum()
    return averages


def _seen_beats(start: int, counts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the beats of which the average from beat `start` on is made, of those that count."""
    # Without a past, at the start or after beats that cannot be read, the group looks at itself, which is as much as
    # it takes to begin.
    begins = not counts[:start].any()
    stop = min(start + (GROUP_BEATS if begins else DELAY_BEATS), len(counts))
    first = max(start - AVERAGED_BEATS, 0)
    return first + np.flatnonzero(counts[first:stop])


def neighbour_features(shapes: Array, averages: Array) -> Array:
    """Say how the beats before and after look beside the average beat: `[n, 6]` float32."""
    return _neighbours(_looks(shapes, averages))


def _looks(shapes: Array, averages: Array) -> Array:
    """Say how beats look beside the average beat, by likeness, size and width: `[n, 3]` float32."""
    likeness = (_unit(shapes[:, QRS]) * _unit(averages[:, QRS])).sum(axis=1)
    size = np.log((np.ptp(shapes[:, QRS], axis=1) + 0.02) / (np.ptp(averages[:, QRS], axis=1) + 0.02))
    width = np.log((_qrs_width(shapes) + 0.5) / (_qrs_width(averages) + 0.5))
    looks: Array = np.stack([likeness, np.clip(size, -2, 2), np.clip(width, -1, 1)], axis=1).astype(np.float32)
    return looks


def _neighbours(looks: Array) -> Array:
    """Give each beat what is said of the one before and of the one after, 0 at the ends: `[n, 3]` → `[n, 6]`."""
    shifted = [side for column in looks.T for side in (_ahead(column, -1), _ahead(column, 1))]
    return np.stack([np.where(np.isnan(column), 0, column) for column in shifted], axis=1).astype(np.float32)


def rhythm_features(rr_s: NDArray[np.floating]) -> Array:
    """Describe the rhythm around each beat by ratios of RR intervals: `[n, 25]` float32.

    Parameters
    ----------
    rr_s : ndarray
        `[n]`, RR interval before each beat, seconds; NaN where it is not known. A ratio of it is 0 then, and means,
        medians, quantiles and irregularity are those of the intervals that are known.
    """
    rr = np.clip(np.asarray(rr_s, dtype=np.float64), *_RR_RANGE_S)
    if len(rr) == 0:
        return np.zeros((0, len(RHYTHM_FEATURES)), dtype=np.float32)
    series, last = _known_intervals(rr)
    log_rr = np.log(series)
    change = np.abs(np.diff(log_rr, prepend=log_rr[:1]))
    upper, lower = (_quantiles(series, 40, share)[last] for share in (0.8, 0.15))
    median = _quantiles(series, 21, 0.5)[last]
    mean12, mean40, mean300 = (_means(series, n, last) for n in (12, 40, 300))
    after, after2, before, before2 = (_ahead(rr, k) for k in (1, 2, -1, -2))
    ratios = [
        *(rr / reference for reference in (mean12, mean40, mean300, upper, median)),
        *(after / reference for reference in (mean12, upper, median)),
        *(before / reference for reference in (mean12, upper, median)),
        before2 / median,
        after2 / median,
        rr / before,
        after / rr,
        (rr + after) / 2 / mean12,
        (rr + before) / 2 / mean12,
        upper / lower,
        mean40 / upper,
        mean12 / mean300,
        median / upper,
    ]
    spread = np.sqrt(np.maximum(_means(log_rr**2, 22, last) - _means(log_rr, 22, last) ** 2, 0))
    irregular = [_quantiles(change, n, 0.5)[last] for n in (16, 60)]
    columns = [
        *np.clip(np.log(ratios), -_LARGEST_LOG, _LARGEST_LOG),
        *(np.log(value + 0.005) + 4 for value in irregular),
        np.log(spread + 0.01) + 3,
        2 * _means((change < 0.06).astype(np.float64), 30, last) - 1,
    ]
    features: Array = np.nan_to_num(np.stack(columns, axis=1)).astype(np.float32)
    return features


def _filled(rr_s: NDArray[np.floating]) -> NDArray[np.float64]:
    """Fill unknown intervals `[n]` by the last known one, at the start by the first."""
    known = np.flatnonzero(np.isfinite(rr_s))
    if len(known) == 0:
        return np.full(len(rr_s), 0.8)
    nearest = np.maximum(np.searchsorted(known, np.arange(len(rr_s)), side="right") - 1, 0)
    return np.clip(np.asarray(rr_s, dtype=np.float64)[known[nearest]], *_RR_RANGE_S)


def _ahead(values: NDArray[np.floating], k: int) -> NDArray[np.float64]:
    """Return the value k beats later (earlier, where k is negative), NaN beyond the ends: `[n]`."""
    n = len(values)
    shifted = np.full(n, np.nan)
    if abs(k) < n:
        shifted[max(-k, 0) : n - max(k, 0)] = values[max(k, 0) : n + min(k, 0)]
    return shifted


def _known_intervals(rr: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Leave unknown intervals out.

    Returns
    -------
    tuple of ndarray
        The known intervals `[k]` float64, the first beat's filled in where it has none, and for each beat `[n]` int64
        which of them is the last one up to the second next beat; beyond the end the last one counts again.
    """
    known = np.isfinite(rr)
    known[0] = True
    last = np.cumsum(np.concatenate([known, np.ones(DELAY_BEATS, bool)]))[DELAY_BEATS:] - 1
    return _filled(rr)[known], last


def _quantiles(series: NDArray[np.float64], n: int, share: float) -> NDArray[np.float64]:
    """Return a quantile of the n values up to each one, `[k + 2]`; the first and the last value are repeated."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(series, (n - 1, DELAY_BEATS), mode="edge"), n)
    parts = range(0, len(windows), PART_BEATS)
    return np.concatenate([np.quantile(windows[start : start + PART_BEATS], share, axis=1) for start in parts])


def _means(series: NDArray[np.float64], n: int, last: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average the n values up to the one at `last`, as far as there are any: `[len(last)]`."""
    total = np.concatenate([[0.0], np.cumsum(series)])
    stop, start = np.minimum(last + 1, len(series)), np.maximum(last + 1 - n, 0)
    means: NDArray[np.float64] = (total[stop] - total[start]) / np.maximum(stop - start, 1)
    return means


def _unit(parts: Array) -> Array:
    """Centre each row `[n, k]` and divide it by its length."""
    centred = parts - parts.mean(axis=1, keepdims=True)
    unit: Array = centred / (np.linalg.norm(centred, axis=1, keepdims=True) + np.float32(1e-6))
    return unit


def _qrs_width(shapes: Array) -> Array:
    """Return how far the slopes of the QRS complex are spread, samples at 120 Hz: `[n]`."""
    slopes = np.diff(shapes[:, SHAPE_BEFORE - 24 : SHAPE_BEFORE + 31], axis=1) ** 2 + np.float32(1e-9)
    places = np.arange(slopes.shape[1], dtype=np.float32)
    total = slopes.sum(axis=1)
    centre = slopes @ places / total
    spread: Array = np.sqrt((slopes * (places - centre[:, None]) ** 2).sum(axis=1) / total)
    return spread
