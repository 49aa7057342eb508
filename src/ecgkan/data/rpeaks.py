"""R peaks: where the beats are, by a detector or by reference annotations."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import class_of_symbol
from ecgkan.data.missing import fill_missing, stretches
from ecgkan.data.recording import FS_RANGE_HZ, ReferenceAnnotations
from ecgkan.errors import DataError

MIN_STRETCH_S: Final = 2.0
"""The detector learns its thresholds from two seconds; in a shorter stretch of signal it finds nothing."""


def detect_rpeaks(signal: NDArray[np.floating], fs: float) -> NDArray[np.int64]:
    """Detect R peaks with sleepecg's detector, a modified Pan-Tompkins algorithm in C.

    Parameters
    ----------
    signal : ndarray
        `[n_samples]`, mV, one lead; NaN where a sample is missing.
    fs : float
        Sampling rate, Hz, 100 to 2000.

    Returns
    -------
    ndarray
        `[n]` int64, samples in strictly ascending order. Gaps up to 0.2 s are bridged by a straight line. Longer
        gaps, and lines flat for 2 s or longer, divide the signal into stretches in which beats are detected
        separately; stretches shorter than 2 s yield none.

    Raises
    ------
    DataError
        If the shape or the sampling rate is unusable, or values are no millivolts.

    Notes
    -----
    Pan J, Tompkins WJ. A real-time QRS detection algorithm. IEEE Trans Biomed Eng 32(3):230-236 (1985);
    `sleepecg.detect_heartbeats` says where it departs from it. On the MIT-BIH Arrhythmia Database it misses some
    wide ventricular beats (record 208: sensitivity 91.3 % by WFDB's bxb).
    """
    low, high = FS_RANGE_HZ
    if not low <= fs <= high:
        raise DataError(f"cannot detect R peaks at a sampling rate of {fs:g} Hz; expected {low:g} to {high:g} Hz")
    filled = fill_missing(signal, fs)
    found = [start + _detect_in(filled.values[start:stop], fs) for start, stop in stretches(filled.present)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def reference_rpeaks(annotations: ReferenceAnnotations) -> NDArray[np.int64]:
    """Return the samples of the annotations that mark beats: `[n]` int64.

    Raises
    ------
    DataError
        If a symbol is no WFDB annotation symbol.
    """
    try:
        is_beat = [class_of_symbol(symbol) is not None for symbol in annotations.symbols]
    except ValueError as error:
        raise DataError(f"reference annotations: {error}") from error
    samples: NDArray[np.int64] = annotations.samples[np.array(is_beat, dtype=bool)]
    return samples


def _detect_in(stretch: NDArray[np.float64], fs: float) -> NDArray[np.int64]:
    from sleepecg.heartbeats import detect_heartbeats

    # The detector skips a flat beginning by itself, but fails where too little is left behind it.
    start = int(np.argmax(stretch != stretch[0]))
    if len(stretch) - start < math.ceil(MIN_STRETCH_S * fs):
        return np.zeros(0, dtype=np.int64)
    found: NDArray[np.int64] = detect_heartbeats(stretch[start:], fs).astype(np.int64)
    return start + found
