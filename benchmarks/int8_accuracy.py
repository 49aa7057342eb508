"""What int8 costs: macro F1 of the single-beat models on validation beats, and with the first block in int8, too.

Test beats are not touched. Needs the database (ECGKAN_DATA).

Run: python benchmarks/int8_accuracy.py
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ecgkan.data.protocols import SHARED_PATIENTS_NOTE, BeatSplit, load_random_split
from ecgkan.evaluation.metrics import confusion_matrix, metrics_from_confusion
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.models.onnx_export import to_onnx
from ecgkan.models.onnx_model import OnnxModel, load_onnx_model
from ecgkan.models.onnx_quantization import FIRST_BLOCK, to_int8
from ecgkan.models.shipped import BEAT_NAMES
from ecgkan.studies.export import calibration_beats

BATCH = 512


def macro_f1(model: OnnxModel, split: BeatSplit) -> float:
    """Return macro F1 on the validation beats."""
    starts = range(0, len(split.validation), BATCH)
    logits = [model.logits(split.table.model_input(split.validation[start : start + BATCH])) for start in starts]
    classes = np.concatenate(logits).argmax(axis=1)
    return metrics_from_confusion(confusion_matrix(split.table.labels[split.validation], classes)).macro_f1


def main() -> None:
    """Score and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    split = load_random_split()
    print("| | float32 | int8 | int8, first block too |\n|---|---|---|---|")
    for name in BEAT_NAMES:
        checkpoint = load_checkpoint(name)
        model, beats = to_onnx(checkpoint), calibration_beats(checkpoint)
        figures = [macro_f1(load_onnx_model(name, threads=1), split)]
        with TemporaryDirectory() as folder:
            for kept in (FIRST_BLOCK, 0):
                file = Path(folder) / f"{kept}.onnx"
                file.write_bytes(to_int8(model, beats, kept_nodes=kept))
                figures.append(macro_f1(load_onnx_model(file, threads=1), split))
        print(f"| {name} | " + " | ".join(f"{figure:.4f}" for figure in figures) + " |")
    print(SHARED_PATIENTS_NOTE)


if __name__ == "__main__":
    main()
