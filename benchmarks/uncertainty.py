"""Which probability a beat's class needs, so as not to be flagged `uncertain`: a table over thresholds.

    python benchmarks/uncertainty.py

The shipped models with their calibrated probabilities. Those of single beats on the validation beats of protocol
random-split (never its test beats): patients are shared between training and validation, so on a new patient more beats
are wrong, on either side of the threshold. Those for new patients on DS2, which their weights have met before (docs/
ds2-scorings.jsonl), all five classes; the threshold was chosen earlier. Needs the database (ECGKAN_DATA).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan import load_checkpoint
from ecgkan.data.ds2 import load_test_context
from ecgkan.data.protocols import load_split
from ecgkan.evaluation.evaluate import predict_logits, softmax
from ecgkan.inference.annotation import UNCERTAIN_BELOW
from ecgkan.models.patient import PatientClassifier
from ecgkan.training.patients import predict_context

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


class Scored(NamedTuple):
    """Beats of a model: `[n, 5]` probabilities, `[n]` labels, and what they are."""

    name: str
    beats: str
    probabilities: NDArray[np.floating]
    labels: NDArray[np.int64]


def scored() -> Iterator[Scored]:
    split = load_split("random-split")
    beats = split.table.model_input(split.validation)  # [n, 1, 256]
    for name in ("cnn_mlp", "cnn_kan"):
        checkpoint = load_checkpoint(name)
        probabilities = softmax(predict_logits(checkpoint.beat_model, beats) / checkpoint.temperature)
        yield Scored(name, "validation beats", probabilities, split.table.labels[split.validation])
    table = load_test_context()
    for name in ("patient_mlp", "patient_kan"):
        checkpoint = load_checkpoint(name)
        assert isinstance(checkpoint.model, PatientClassifier)
        probabilities = softmax(predict_context(checkpoint.model, table).astype(np.float64) / checkpoint.temperature)
        yield Scored(name, "beats of DS2, new patients", probabilities[table.counted], table.labels[table.counted])


def main() -> None:
    for name, beats, probabilities, labels in scored():
        wrong = probabilities.argmax(axis=1) != labels
        confidence = probabilities.max(axis=1)
        print(f"\n{name}, {len(labels):,} {beats}, {wrong.sum():,} of them wrong ({100 * wrong.mean():.2f} %)\n")
        print("| flagged below | flagged | accuracy of the flagged | accuracy of the rest | wrong beats flagged |")
        print("|---|---|---|---|---|")
        for threshold in THRESHOLDS:
            flagged = confidence < threshold
            shares = (flagged.mean(), 1 - wrong[flagged].mean(), 1 - wrong[~flagged].mean(), flagged[wrong].mean())
            mark = " (chosen)" if np.isclose(threshold, UNCERTAIN_BELOW) else ""
            print(f"| {threshold}{mark} | " + " | ".join(f"{100 * share:.2f} %" for share in shares) + " |")


if __name__ == "__main__":
    main()
