"""Beat-by-beat comparison of two annotators, as ANSI/AAMI EC57 and WFDB's `bxb` do it: which beats are the same ones.

So far the matching and the figures of a QRS detector (Se and +P of all beats, whatever their class).
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.data.rpeaks import reference_rpeaks
from ecgkan.errors import DataError

MATCH_WINDOW_S: Final = 0.15
"""Two beats may be the same one if they lie no further apart."""

LEARNING_S: Final = 300.0
"""The first five minutes are a detector's to learn from, and not compared."""

_NEVER: Final = 1 << 60
"""A sample after every recording's end."""


class MatchedBeats(NamedTuple):
    """Which beats of two annotators are the same ones.

    Attributes
    ----------
    reference, test : ndarray
        `[k]` int64 each: indices of the beats that were paired, in order of time.
    missed : ndarray
        `[m]` int64, indices of reference beats without a partner.
    extra : ndarray
        `[e]` int64, indices of test beats without a partner.
    """

    reference: NDArray[np.int64]
    test: NDArray[np.int64]
    missed: NDArray[np.int64]
    extra: NDArray[np.int64]


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


def match_beats(reference: Sequence[int], test: Sequence[int], *, window: int) -> MatchedBeats:
    """Pair the beats of two annotators one to one.

    Whichever beat comes first is paired with the other annotator's next one if that lies within the window, and
    unless the beat after it is the better partner: nearer to the other one, which in turn has none that is nearer.

    Parameters
    ----------
    reference, test : sequence of int
        Samples of the beats, ascending.
    window : int
        Largest distance of a pair, samples.

    Notes
    -----
    Gives the counts of WFDB's `bxb` on all records of the MIT-BIH Arrhythmia and Noise Stress databases
    (tests/evaluation/test_ec57.py).
    """
    pairs: list[tuple[int, int]] = []
    missed: list[int] = []
    extra: list[int] = []
    i = j = 0
    expected, found = [*map(int, reference), _NEVER, _NEVER], [*map(int, test), _NEVER, _NEVER]
    while i < len(reference) or j < len(test):
        this, that = expected[i], found[j]
        test_first = that < this
        first, second = (that, this) if test_first else (this, that)
        after_first, after_second = (found[j + 1], expected[i + 1]) if test_first else (expected[i + 1], found[j + 1])
        gap, rival = second - first, abs(second - after_first)
        if gap <= window and (gap < rival or abs(after_second - after_first) < rival):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif test_first:
            extra.append(j)
            j += 1
        else:
            missed.append(i)
            i += 1
    paired = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return MatchedBeats(paired[:, 0], paired[:, 1], np.array(missed, np.int64), np.array(extra, np.int64))


def flutter_episodes(annotations: ReferenceAnnotations) -> list[tuple[int, int]]:
    """Return start and end sample of each episode of ventricular flutter (from `[` to `]`)."""
    episodes, start = [], None
    for sample, symbol in zip(annotations.samples.tolist(), annotations.symbols, strict=True):
        if symbol == "[":
            start = sample
        elif symbol == "]" and start is not None:
            episodes.append((start, sample))
            start = None
    return episodes + ([(start, _NEVER)] if start is not None else [])


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
    episodes = flutter_episodes(annotations)
    reference = compared_beats(reference_rpeaks(annotations), fs, episodes, start_s=start_s)
    test = compared_beats(detected, fs, episodes, start_s=start_s)
    matched = match_beats(reference.tolist(), test.tolist(), window=int(MATCH_WINDOW_S * fs))
    return Detection(len(matched.reference), len(matched.missed), len(matched.extra))


def total(detections: Iterable[Detection]) -> Detection:
    """Add up the counts of several records: the figures of the sum are EC57's gross ones."""
    counts = np.array([tuple(detection) for detection in detections], dtype=np.int64).reshape(-1, 3).sum(axis=0)
    return Detection(*counts.tolist())
