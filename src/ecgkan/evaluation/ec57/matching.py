"""Which beats of two annotators are the same ones: the pairing of ANSI/AAMI EC57 as WFDB's `bxb` does it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.evaluation.ec57.annotators import NEVER

MATCH_WINDOW_S: Final = 0.15
"""Two beats may be the same one if they lie no further apart."""

LEARNING_S: Final = 300.0
"""The first five minutes are a detector's to learn from, and not compared."""

END_OF_REFERENCE: Final = -1
"""The comparison ends with the reference annotator's last beat (`bxb`, where a header does not say the length)."""

END_OF_EITHER: Final = 0
"""The comparison ends where either annotator's beats end (`bxb -t 0`)."""

PAIRED, MISSED, EXTRA = range(3)


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


class Steps(NamedTuple):
    """The steps of a comparison: at each, where both annotators stood, and what became of the earlier beat.

    Attributes
    ----------
    reference, test : ndarray
        `[n]` int64, positions.
    kind : ndarray
        `[n]` int64: `PAIRED`, `MISSED` (the reference beat) or `EXTRA` (the test beat).
    end : tuple of int
        Positions after the last step.
    """

    reference: NDArray[np.int64]
    test: NDArray[np.int64]
    kind: NDArray[np.int64]
    end: tuple[int, int]

    def at(self, kind: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the positions of both annotators at the steps of one kind."""
        chosen = self.kind == kind
        return self.reference[chosen], self.test[chosen]


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
    padding = [NEVER, NEVER, NEVER]
    steps = walk([*map(int, reference), *padding], [*map(int, test), *padding], 0, 0, window=window, stop=NEVER - 1)
    return MatchedBeats(*steps.at(PAIRED), steps.at(MISSED)[0], steps.at(EXTRA)[1])


def walk(reference: Sequence[int], test: Sequence[int], i: int, j: int, *, window: int, stop: int) -> Steps:
    """Go through two annotators' beats side by side, from position `i` of the one and `j` of the other.

    Parameters
    ----------
    reference, test : sequence of int
        Samples, ending with three times `NEVER`.
    i, j : int
        First positions to compare.
    window : int
        Match window, samples.
    stop : int
        Sample after which the comparison ends, or `END_OF_REFERENCE` or `END_OF_EITHER`. It ends when both
        annotators are past it, so that a pair astride of it counts.
    """
    references, tests, kinds = [], [], []
    until_either = stop == END_OF_EITHER
    last_reference = stop if stop > 0 else NEVER - 1
    last_test = stop if stop > 0 else -1
    this, that = reference[i], test[j]
    while (this <= last_reference or that <= last_test) and not (until_either and that == NEVER):
        references.append(i)
        tests.append(j)
        if that < this:
            gap, rival = this - that, abs(this - test[j + 1])
            otherwise = EXTRA
        else:
            gap, rival = that - this, abs(that - reference[i + 1])
            otherwise = MISSED
        if gap <= window and (gap < rival or abs(reference[i + 1] - test[j + 1]) < rival):
            kinds.append(PAIRED)
            i, j = i + 1, j + 1
            this, that = reference[i], test[j]
        elif otherwise == EXTRA:
            kinds.append(EXTRA)
            j += 1
            that = test[j]
        else:
            kinds.append(MISSED)
            i += 1
            this = reference[i]
    return Steps(np.array(references, np.int64), np.array(tests, np.int64), np.array(kinds, np.int64), (i, j))
