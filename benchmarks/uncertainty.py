"""Which probability a beat's class needs, so as not to be flagged `uncertain`: a table over thresholds.

    python benchmarks/uncertainty.py

Scores the shipped models on the validation beats of protocol random-split (never its test beats) with their calibrated
probabilities. Patients are shared between training and validation, so on a new patient more beats are wrong, on
either side of the threshold. Needs the database (ECGKAN_DATA).
"""

import numpy as np

from ecgkan import load_checkpoint
from ecgkan.data.protocols import load_split
from ecgkan.evaluation.evaluate import predict_logits, softmax
from ecgkan.inference.annotation import UNCERTAIN_BELOW

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


def main() -> None:
    split = load_split("random-split")
    beats = split.table.model_input(split.validation)  # [n, 1, 256]
    labels = split.table.labels[split.validation]
    for name in ("cnn_mlp", "cnn_kan"):
        checkpoint = load_checkpoint(name)
        probabilities = softmax(predict_logits(checkpoint.beat_model, beats) / checkpoint.temperature)
        wrong = probabilities.argmax(axis=1) != labels
        confidence = probabilities.max(axis=1)
        print(f"\n{name}, {len(labels):,} validation beats, {wrong.sum()} of them wrong ({100 * wrong.mean():.2f} %)\n")
        print("| flagged below | flagged | accuracy of the flagged | accuracy of the rest | wrong beats flagged |")
        print("|---|---|---|---|---|")
        for threshold in THRESHOLDS:
            flagged = confidence < threshold
            shares = (flagged.mean(), 1 - wrong[flagged].mean(), 1 - wrong[~flagged].mean(), flagged[wrong].mean())
            mark = " (chosen)" if np.isclose(threshold, UNCERTAIN_BELOW) else ""
            print(f"| {threshold}{mark} | " + " | ".join(f"{100 * share:.2f} %" for share in shares) + " |")


if __name__ == "__main__":
    main()
