"""Missing signal: where a lead holds nothing to look at, and values that let a filter run over it."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError

MAX_GAP_S: Final = 0.2
"""Gaps up to this long, about two QRS complexes, are bridged by a straight line and count as signal."""

FLAT_S: Final = 2.0
"""A value held this long is a lead that is off; shorter plateaus occur between the beats of a clean signal."""

MAX_ABSOLUTE_MV: Final = 1e6
"""Beyond it a value is no voltage on a body, and its square no longer safe to compute with."""


class FilledSignal(NamedTuple):
    """A lead without NaN, and where it really holds signal.

    Attributes
    ----------
    values : ndarray
        `[n_samples]` float64, mV; missing samples lie on a straight line between their neighbours.
    present : ndarray
        `[n_samples]` bool; False in gaps longer than `MAX_GAP_S` and where one value is held for `FLAT_S` or longer.
    """

    values: NDArray[np.float64]
    present: NDArray[np.bool_]


def fill_missing(signal: NDArray[np.floating], fs: float) -> FilledSignal:
    """Bridge the missing samples of a lead, and say where there is no signal.

    Parameters
    ----------
    signal : ndarray
        `[n_samples]`, mV; NaN and infinite values are missing samples.
    fs : float
        Sampling rate, Hz.

    Raises
    ------
    DataError
        If the shape is another one or values are no millivolts.
    """
    values = np.array(signal, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"expected one lead of shape [n_samples] with at least one sample, got {list(values.shape)}")
    finite = np.isfinite(values)
    if not finite.any():
        return FilledSignal(np.zeros_like(values), finite)
    _check_amplitude(values[finite])
    if not finite.all():
        where = np.arange(len(values))
        values = np.interp(where, where[finite], values[finite])
    gap = _in_runs(~finite, longer_than=MAX_GAP_S * fs)
    # A line drawn over a gap is not a value held: what lies beside a gap does not hang on what lies beyond it.
    return FilledSignal(values, ~(gap | _flat(np.where(gap, np.nan, values), at_least=FLAT_S * fs)))


def stretches(present: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return `(start, stop)` of every run of True in `[n]` bool, stop exclusive, in order.

    Examples
    --------
    >>> stretches(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    starts, stops = _runs(present)
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    changes = np.flatnonzero(mask[1:] != mask[:-1]) + 1
    first, last = ([0] if mask[0] else [], [len(mask)] if mask[-1] else []) if len(mask) else ([], [])
    edges = np.concatenate([np.array(first, np.int64), changes, np.array(last, np.int64)])
    return edges[::2], edges[1::2]


def _in_runs(mask: NDArray[np.bool_], *, longer_than: float) -> NDArray[np.bool_]:
    starts, stops = _runs(mask)
    long_runs = np.zeros_like(mask)
    chosen = stops - starts > longer_than  # a quiet signal holds its value for a sample or two thousands of times
    for start, stop in zip(starts[chosen], stops[chosen], strict=True):
        long_runs[start:stop] = True
    return long_runs


def _flat(values: NDArray[np.float64], *, at_least: float) -> NDArray[np.bool_]:
    held = values[1:] == values[:-1]  # k equal pairs join k + 1 samples
    starts, stops = _runs(held)
    flat = np.zeros(len(values), dtype=bool)
    chosen = stops + 1 - starts >= at_least
    for start, stop in zip(starts[chosen], stops[chosen], strict=True):
        flat[start : stop + 1] = True
    return flat


def _check_amplitude(values: NDArray[np.float64]) -> None:
    largest = float(np.abs(values).max())
    if largest > MAX_ABSOLUTE_MV:
        raise DataError(
            f"the signal reaches {largest:.3g} mV; expected an ECG of some millivolts: check the gain and the unit "
            "in the recording's header"
        )
