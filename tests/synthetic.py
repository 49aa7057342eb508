"""Synthetic ECG with known R peaks, at any sampling rate."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WAVES = ((-0.18, 0.025, 0.15), (-0.03, 0.010, -0.12), (0.0, 0.011, 1.2), (0.03, 0.010, -0.25), (0.26, 0.045, 0.3))
"""P, Q, R, S, T: centre (s from the R peak), width (s), height (mV)."""


def synthetic_ecg(
    fs: float, duration_s: float = 30.0, *, rr_s: float = 0.8, first_s: float = 0.5, noise_mv: float = 0.005
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a lead `[n_samples]` in mV with a little noise and baseline wander, and the samples of its R peaks."""
    rng = np.random.default_rng(0)
    t = np.arange(round(duration_s * fs)) / fs
    beats_s = np.arange(first_s, duration_s - 0.01, rr_s)
    signal = 0.1 * np.sin(2 * np.pi * 0.3 * t)
    for beat in beats_s:
        for centre, width, height in WAVES:
            signal += height * np.exp(-0.5 * ((t - beat - centre) / width) ** 2)
    return signal + rng.normal(0, noise_mv, len(t)), np.round(beats_s * fs).astype(np.int64)


def write_record(
    folder: Path, name: str, fs: float, leads: dict[str, NDArray[np.float64]], comments: tuple[str, ...] = ()
) -> Path:
    """Write leads (mV) as a WFDB record of format 16 and return its path without extension; NaN is kept."""
    import wfdb

    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=["mV"] * len(leads),
        sig_name=list(leads),
        p_signal=np.column_stack(list(leads.values())),
        fmt=["16"] * len(leads),
        comments=list(comments),
        write_dir=str(folder),
    )
    return folder / name
