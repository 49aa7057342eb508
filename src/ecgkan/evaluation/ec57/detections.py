"""How well a detector finds beats, whatever their class: the counts of `bxb` without the labels."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.errors import DataError
from ecgkan.evaluation.ec57.annotators import NEVER
from ecgkan.evaluation.ec57.beats import compare_beats
from ecgkan.evaluation.ec57.matching import LEARNING_S


class Detection(NamedTuple):
    """How well a detector finds beats: true positives, false negatives, false positives."""

    found: int
    missed: int
    extra: int

    @property
    def sensitivity_percent(self) -> float:
        """Se: beats found, in percent of all reference beats; NaN without any."""
        beats = self.found + self.missed
        return 100 * self.found / beats if beats else float("nan")

    @property
    def positive_predictivity_percent(self) -> float:
        """+P: beats found, in percent of all detections; NaN without any."""
        detections = self.found + self.extra
        return 100 * self.found / detections if detections else float("nan")


def flutter_episodes(annotations: ReferenceAnnotations) -> list[tuple[int, int]]:
    """Return start and end sample of each episode of ventricular flutter (from `[` to `]`)."""
    episodes, start = [], None
    for sample, symbol in zip(annotations.samples.tolist(), annotations.symbols, strict=True):
        if symbol == "[":
            start = sample
        elif symbol == "]" and start is not None:
            episodes.append((start, sample))
            start = None
    return episodes + ([(start, NEVER)] if start is not None else [])


def compared_beats(
    samples: NDArray[np.integer], fs: float, episodes: Iterable[tuple[int, int]], *, start_s: float = LEARNING_S
) -> NDArray[np.int64]:
    """Return those of `samples` `[n]` that are compared: after the learning period and outside of flutter."""
    kept: NDArray[np.int64] = np.asarray(samples, dtype=np.int64)
    kept = kept[kept >= start_s * fs]
    for start, stop in episodes:
        kept = kept[(kept < start) | (kept > stop)]
    return kept


def compare_detections(
    annotations: ReferenceAnnotations, detected: NDArray[np.integer], fs: float, *, start_s: float = LEARNING_S
) -> Detection:
    """Count the beats that a detector found, missed and made up, as `bxb` does.

    Parameters
    ----------
    annotations : ReferenceAnnotations
        The reference.
    detected : ndarray
        `[n]` integer, the detector's beats at the same sampling rate, ascending.
    fs : float
        Sampling rate, Hz.
    start_s : float
        Where the comparison starts.

    Raises
    ------
    DataError
        If `detected` does not ascend.
    """
    if np.any(np.diff(detected) < 0):
        raise DataError("the detected beats must be in ascending order; sort them")
    test = ReferenceAnnotations(np.asarray(detected, dtype=np.int64), ("N",) * len(detected))
    counts = compare_beats(annotations, test, fs=fs, start_s=start_s, stop=NEVER - 1).counts
    found = int(counts[:5, :5].sum())
    return Detection(found, int(counts[:5].sum()) - found, int(counts[5:].sum()))


def total(detections: Iterable[Detection]) -> Detection:
    """Add up the counts of several records: the figures of the sum are EC57's gross ones."""
    counts = np.array([tuple(detection) for detection in detections], dtype=np.int64).reshape(-1, 3).sum(axis=0)
    return Detection(*counts.tolist())
