"""How much a misplaced window costs: macro F1 of the shipped models by the window's shift, on validation beats.

    python benchmarks/window_shift.py [--step 4] [--json FILE] [CHECKPOINT ...]

A detector never puts its mark just where the reference annotators did. Validation beats of protocol random-split are
cut -20 to 20 samples (360 Hz) off their annotation. No test beat is looked at. Needs the database: set ECGKAN_DATA.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from ecgkan.aami import CLASSES
from ecgkan.data.beat_table import MARGIN
from ecgkan.data.beats import AFTER, BEFORE, normalize_windows
from ecgkan.data.protocols import SHARED_PATIENTS_NOTE, load_random_split
from ecgkan.evaluation.evaluate import predict_logits
from ecgkan.evaluation.metrics import confusion_matrix, metrics_from_confusion
from ecgkan.models.checkpoint import load_checkpoint

FURTHEST = 20
"""Samples at 360 Hz: 56 ms."""


def main() -> None:
    """Measure, print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoints", nargs="*", default=["cnn_mlp", "cnn_kan"])
    parser.add_argument("--step", type=int, default=4, help="samples between two shifts")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    split = load_random_split()
    windows, labels = split.table.windows[split.validation], split.table.labels[split.validation]
    results: dict[str, dict[str, dict[str, float]]] = {}
    print(SHARED_PATIENTS_NOTE)
    print("shift   macro F1      " + "       ".join(CLASSES))
    for name in arguments.checkpoints:
        model = load_checkpoint(name).beat_model
        print(name)
        results[name] = {}
        for shift in range(-FURTHEST, FURTHEST + 1, arguments.step):
            first = MARGIN + shift
            beats = normalize_windows(windows[:, first : first + BEFORE + AFTER])[:, None, :]
            predicted = predict_logits(model, np.ascontiguousarray(beats)).argmax(axis=1)
            metrics = metrics_from_confusion(confusion_matrix(labels, predicted))
            f1 = dict(zip(CLASSES, metrics.f1.tolist(), strict=True))
            results[name][str(shift)] = {"macro_f1": metrics.macro_f1} | f1
            print(f"{shift:5d}     {metrics.macro_f1:.4f}  " + "  ".join(f"{value:.4f}" for value in f1.values()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
