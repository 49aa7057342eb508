"""Which of the beats a model gets wrong to look at, and what to lay beneath them."""

from collections import defaultdict
from itertools import zip_longest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.protocols import BeatSplit
from ecgkan.evaluation.evaluate import Evaluation
from ecgkan.evaluation.plots import BeatPanel

GALLERY_BEATS: Final = 30
TYPICAL_FROM: Final = 3
"""Fewest beats of a record and class whose median is called typical."""


def choose_wrong_beats(evaluation: Evaluation, *, limit: int = GALLERY_BEATS) -> NDArray[np.int64]:
    """Choose among the beats predicted wrong, so that every kind of error is seen.

    One beat of each pair (reference class, predicted class) in turn, the most frequent pair first, within a pair
    the most confident error first.

    Returns
    -------
    ndarray
        `[k]` int64, positions in the evaluation, k ≤ `limit`, in the order they are shown: pair by pair.
    """
    wrong = evaluation.wrong
    predicted = evaluation.predicted
    confidence = evaluation.probabilities[wrong, predicted[wrong]]
    pairs: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position in wrong[np.argsort(-confidence, kind="stable")]:
        pairs[int(evaluation.labels[position]), int(predicted[position])].append(int(position))
    by_frequency = sorted(pairs, key=lambda pair: (-len(pairs[pair]), pair))
    in_turn = [
        (rank, position)
        for positions in zip_longest(*(pairs[pair] for pair in by_frequency))
        for rank, position in enumerate(positions)
        if position is not None
    ]
    chosen = sorted(in_turn[:limit], key=lambda item: item[0])
    return np.array([position for _, position in chosen], dtype=np.int64)


def wrong_beat_panels(evaluation: Evaluation, split: BeatSplit, *, limit: int = GALLERY_BEATS) -> list[BeatPanel]:
    """Prepare the beats that `choose_wrong_beats` picks for `wrong_beats_figure`."""
    predicted = evaluation.predicted
    panels = []
    for position in choose_wrong_beats(evaluation, limit=limit):
        guess = int(predicted[position])
        panels.append(
            BeatPanel(
                window=split.table.model_input(evaluation.indices[[position]])[0, 0],
                record=str(evaluation.records[position]),
                sample=int(evaluation.samples[position]),
                reference=CLASSES[int(evaluation.labels[position])],
                predicted=CLASSES[guess],
                probability=float(evaluation.probabilities[position, guess]),
                typical=_typical_beat(evaluation, split, str(evaluation.records[position]), guess),
            )
        )
    return panels


def _typical_beat(
    evaluation: Evaluation, split: BeatSplit, record: str, class_index: int
) -> NDArray[np.float32] | None:
    """Return the median of a record's evaluated beats of a class, `[256]`; None where there are too few."""
    alike = evaluation.indices[(evaluation.records == record) & (evaluation.labels == class_index)]
    if len(alike) < TYPICAL_FROM:
        return None
    return np.median(split.table.model_input(alike)[:, 0], axis=0).astype(np.float32)
