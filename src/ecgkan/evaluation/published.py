"""The published reference's results, as printed in its model card and confusion matrices.

Source: the reference model card ("ECG Arrhythmia Classification — CNN+MLP vs CNN+KAN") and the confusion
matrices published with it: one training run of each model, on the test set of protocol `random-split`.
All its figures but the AUC, parameters and latency follow from the matrices, to the printed digits (a test holds that).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.evaluation.metrics import ConfusionMetrics, metrics_from_confusion

SOURCE: Final = "reference model card"
LATENCY_MARK: Final = "published, other hardware"
"""Stands beside every published latency: it is never divided by, or subtracted from, one measured here."""

PROTOCOL: Final = "random-split"
SUBSET: Final = "test"


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A row of the reference's table.

    Attributes
    ----------
    title : str
        Its name there.
    accuracy, macro_f1, weighted_f1, macro_auc : float
        As printed, four decimals.
    f1 : tuple of float
        Per class N S V F Q, as printed.
    parameters : int
        Number of parameters.
    latency_ms : float
        Milliseconds per sample on a CPU at batch 128; published, other hardware.
    epochs : int
        Epochs after which its training stopped.
    confusion : tuple
        `[5][5]`, rows reference, columns predicted.
    """

    title: str
    accuracy: float
    macro_f1: float
    weighted_f1: float
    macro_auc: float
    f1: tuple[float, ...]
    parameters: int
    latency_ms: float
    epochs: int
    confusion: tuple[tuple[int, ...], ...]

    def confusion_array(self) -> NDArray[np.int64]:
        """Return the confusion matrix, `[5, 5]` int64."""
        return np.array(self.confusion, dtype=np.int64)

    def metrics(self) -> ConfusionMetrics:
        """Return the figures that follow from the confusion matrix, unrounded."""
        return metrics_from_confusion(self.confusion_array())


PUBLISHED: Final[dict[str, PublishedModel]] = {
    "cnn_mlp": PublishedModel(
        title="CNN+MLP",
        accuracy=0.9800,
        macro_f1=0.9019,
        weighted_f1=0.9809,
        macro_auc=0.9965,
        f1=(0.9889, 0.8111, 0.9577, 0.7589, 0.9930),
        parameters=175_973,
        latency_ms=0.3664,
        epochs=38,
        confusion=(
            (13348, 139, 52, 38, 12),
            (34, 380, 3, 0, 0),
            (15, 1, 1054, 15, 0),
            (8, 0, 6, 107, 0),
            (3, 0, 1, 1, 1201),
        ),
    ),
    "cnn_kan": PublishedModel(
        title="CNN+KAN",
        accuracy=0.9476,
        macro_f1=0.8167,
        weighted_f1=0.9540,
        macro_auc=0.9924,
        f1=(0.9690, 0.5968, 0.9070, 0.6270, 0.9836),
        parameters=285_280,
        latency_ms=0.6308,
        epochs=47,
        confusion=(
            (12812, 498, 169, 74, 36),
            (22, 390, 3, 2, 0),
            (9, 1, 1053, 22, 0),
            (11, 1, 9, 100, 0),
            (1, 0, 3, 0, 1202),
        ),
    ),
}
"""Model name → the reference's results."""


def published_for(name: str, protocol: str, subset: str) -> PublishedModel | None:
    """Return the reference's results for a model, None where it published none on the same beats."""
    return PUBLISHED.get(name) if (protocol, subset) == (PROTOCOL, SUBSET) else None
