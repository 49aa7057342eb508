"""Beats: windows cut around R peaks, with their RR intervals. Used alike for training and for inference."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError

BEAT_FS = 360.0
"""Sampling rate of the windows, Hz: that of the training database."""

BEFORE, AFTER = 128, 128
"""Samples of a window before the R peak, and from it on."""

NORMALIZATION_EPSILON = 1e-8
"""Added to the standard deviation, so that a flat window becomes zeros instead of NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class Beats:
    """Windows around R peaks.

    Attributes
    ----------
    windows : ndarray
        `[n, margin + 256 + margin]` float32, mV, as recorded (not normalized).
    margin : int
        Samples on either side beyond the models' window, for augmentation by shifting.
    samples : ndarray
        `[n]` int64, R peaks in the signal they were cut from.
    indices : ndarray
        `[n]` int64, which of the R peaks handed in each beat is: beats at the edges may be left out.
    rr_before_s, rr_after_s : ndarray
        `[n]` float32, seconds to the previous and the next beat handed in; NaN at the ends.
    """

    windows: NDArray[np.float32]
    margin: int
    samples: NDArray[np.int64]
    indices: NDArray[np.int64]
    rr_before_s: NDArray[np.float32]
    rr_after_s: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.samples)

    def model_input(self) -> NDArray[np.float32]:
        """Return the windows as the models take them: `[n, 1, 256]` float32, z-scored beat by beat."""
        return normalize_windows(self.windows[:, self.margin : self.margin + BEFORE + AFTER])[:, None, :]


def normalize_windows(windows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Z-score each window: `[n, width]` → `[n, width]` float32; population standard deviation, epsilon 1e-8."""
    wide = windows.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    scale = wide.std(axis=1, keepdims=True) + NORMALIZATION_EPSILON
    return np.asarray(centred / scale, dtype=np.float32)


def cut_beats(
    signal: NDArray[np.floating],
    samples: NDArray[np.integer],
    *,
    margin: int = 0,
    edges: Literal["drop", "pad"] = "drop",
) -> Beats:
    """Cut the window `[s - 128, s + 128)` around each R peak s.

    Parameters
    ----------
    signal : ndarray
        `[n_samples]`, mV, at 360 Hz.
    samples : ndarray
        `[m]` integer, R peaks in ascending order.
    margin : int
        Further samples to keep on either side; where the signal ends they repeat its last value.
    edges : {"drop", "pad"}
        What becomes of a beat whose window does not fit (`s - 128 < 0` or `s + 128 >= n_samples`, as the
        protocols say): left out, or cut from a signal continued by its last value.

    Returns
    -------
    Beats

    Raises
    ------
    DataError
        If the shapes are wrong, a peak lies outside the signal, or peaks are not in ascending order.
    """
    _check_peaks(signal, samples)
    peaks: NDArray[np.int64] = samples.astype(np.int64)
    if edges == "drop":
        indices = np.flatnonzero((peaks - BEFORE >= 0) & (peaks + AFTER < len(signal)))
    else:
        indices = np.arange(len(peaks))
    padded = np.pad(np.asarray(signal, dtype=np.float32), (BEFORE + margin, AFTER + margin), mode="edge")
    offsets = np.arange(BEFORE + AFTER + 2 * margin)
    windows = padded[peaks[indices, None] + offsets]
    intervals = (np.diff(peaks) / BEAT_FS).astype(np.float32)
    missing = np.full(1 if len(peaks) else 0, np.nan, dtype=np.float32)
    return Beats(
        windows=windows,
        margin=margin,
        samples=peaks[indices],
        indices=indices.astype(np.int64),
        rr_before_s=np.concatenate([missing, intervals])[indices],
        rr_after_s=np.concatenate([intervals, missing])[indices],
    )


def _check_peaks(signal: NDArray[np.floating], samples: NDArray[np.integer]) -> None:
    if signal.ndim != 1 or len(signal) == 0:
        raise DataError(f"cut_beats needs one lead [n_samples], got shape {list(signal.shape)}")
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.integer):
        raise DataError(f"R peaks must be integers of shape [m], got {samples.dtype} {list(samples.shape)}")
    if len(samples) and (samples.min() < 0 or samples.max() >= len(signal)):
        raise DataError(
            f"R peaks from {samples.min()} to {samples.max()} lie outside of the signal's {len(signal)} samples; "
            "are they given at another sampling rate?"
        )
    if np.any(np.diff(samples.astype(np.int64)) < 0):
        raise DataError("R peaks must be in ascending order; sort them with their labels")
