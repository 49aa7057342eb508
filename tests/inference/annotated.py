"""Annotations made by hand, for tests of what is said and written about them."""

import numpy as np

from ecgkan.aami import CLASSES
from ecgkan.inference.annotation import BeatAnnotations


def annotate(classes, samples=None, *, rr_s=0.8, fs=360.0, **changes) -> BeatAnnotations:
    """Annotations of these classes, evenly spaced unless samples are given; nothing missing unless stated."""
    n = len(classes)
    samples = np.round((np.arange(n) + 1) * rr_s * fs) if samples is None else np.array(samples)
    samples = samples.astype(np.int64)
    intervals = np.diff(samples) / fs
    end = np.full(min(n, 1), np.nan)
    indices = np.array([CLASSES.index(letter) for letter in classes], dtype=np.int64)
    values = {
        "record": "rec",
        "fs": fs,
        "samples": samples,
        "classes": np.array(CLASSES)[indices],
        "probabilities": (0.01 + 0.95 * np.eye(5)[indices]).astype(np.float32),
        "rr_before_s": np.concatenate([end, intervals]),
        "rr_after_s": np.concatenate([intervals, end]),
        "lead": "MLII",
        "model": "cnn_kan",
        "weights_sha256": "0" * 64,
        "rpeaks": "detector",
        "duration_s": float((samples[-1] if n else 0) / fs + 1.0),
        "quality": np.ones(n, dtype=np.float32),
        "noisy": np.zeros((0, 2), dtype=np.int64),
        "noisy_reasons": (),
        "mean_beats": np.full((5, 256), np.nan, dtype=np.float32),
    }
    return BeatAnnotations(**(values | changes))
