"""Resampling: a lead at another sampling rate, and positions in it, there and back."""

from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError

MAX_DENOMINATOR: Final = 1000
"""Keeps the polyphase filter short for odd rates; up to 2000 Hz the ratio is then met to 0.05 %."""


def resampling_ratio(fs: float, target_fs: float) -> Fraction:
    """Return the fraction up/down by which `resample` changes the number of samples.

    Raises
    ------
    DataError
        If a rate is not a positive number, or they differ by more than a factor of 1000.

    Examples
    --------
    >>> resampling_ratio(250, 360)
    Fraction(36, 25)
    """
    if not (np.isfinite(fs) and np.isfinite(target_fs) and fs > 0 and target_fs > 0):
        raise DataError(f"cannot resample from {fs} Hz to {target_fs} Hz; expected two positive rates")
    slower, faster = sorted((Fraction(fs), Fraction(target_fs)))
    if faster > MAX_DENOMINATOR * slower:
        raise DataError(f"cannot resample from {fs:g} Hz to {target_fs:g} Hz: more than a factor of {MAX_DENOMINATOR}")
    # Rounded as the slower rate over the faster one, so that the way back is the way there, inverted.
    share = (slower / faster).limit_denominator(MAX_DENOMINATOR)
    return share if target_fs < fs else 1 / share


def resample(signal: NDArray[np.floating], fs: float, target_fs: float) -> NDArray[np.float64]:
    """Resample a lead by a polyphase filter (`scipy.signal.resample_poly`).

    Parameters
    ----------
    signal : ndarray
        `[n_samples]`; NaN where a sample is missing.
    fs, target_fs : float
        Sampling rates before and after, Hz.

    Returns
    -------
    ndarray
        `[ceil(n_samples * ratio)]` float64, and the very values of `signal` where both rates are the same. NaN where
        the nearest sample of `signal` is missing: the filter runs over a straight line there, so NaN does not spread.
        Beyond its ends the signal is continued by its last value.

    Raises
    ------
    DataError
        If `signal` is not of shape `[n_samples]`, or the rates are unusable.
    """
    values = np.asarray(signal, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"expected one lead of shape [n_samples] with at least one sample, got {list(values.shape)}")
    ratio = resampling_ratio(fs, target_fs)
    if ratio == 1:
        return values
    finite = np.isfinite(values)
    if finite.all():
        return _resample_poly(values, ratio)
    n_target = -(-len(values) * ratio.numerator // ratio.denominator)
    if not finite.any():
        return np.full(n_target, np.nan)
    where = np.arange(len(values))
    resampled = _resample_poly(np.interp(where, where[finite], values[finite]), ratio)
    resampled[~finite[_scale(np.arange(n_target), 1 / ratio, len(values))]] = np.nan
    return resampled


def map_samples(
    samples: NDArray[np.integer], fs: float, target_fs: float, *, n_samples: int | None = None
) -> NDArray[np.int64]:
    """Return the positions nearest to `samples` in the signal that `resample` makes.

    Parameters
    ----------
    samples : ndarray
        `[n]` integer positions in the signal at `fs`.
    fs, target_fs : float
        Sampling rates of `samples` and of the result, Hz.
    n_samples : int, optional
        Length of the signal at `target_fs`; positions are kept within it.

    Returns
    -------
    ndarray
        `[n]` int64. There and back is exact upwards (`target_fs >= fs`), else within half a sample at `target_fs`.
    """
    return _scale(np.asarray(samples, dtype=np.int64), resampling_ratio(fs, target_fs), n_samples)


def _scale(samples: NDArray[np.int64], ratio: Fraction, n_samples: int | None) -> NDArray[np.int64]:
    # Integer arithmetic: a product in floating point rounds halves by chance.
    scaled = (2 * samples * ratio.numerator + ratio.denominator) // (2 * ratio.denominator)
    return scaled if n_samples is None else np.clip(scaled, 0, n_samples - 1)


def _resample_poly(values: NDArray[np.float64], ratio: Fraction) -> NDArray[np.float64]:
    from scipy.signal import resample_poly

    resampled: NDArray[np.float64] = resample_poly(values, ratio.numerator, ratio.denominator, padtype="edge")
    return resampled
