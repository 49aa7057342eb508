"""What the ventricular and supraventricular beats look like that the shipped models for new patients miss: by record.

    python benchmarks/missed_beats.py

DS2, reference R peaks, shipped weights, which have met DS2 before (docs/ds2-scorings.jsonl). Medians over the beats of
a record that are found, and that are called another class: likeness of QRS, T and P to the patient's average beat, log
ratio of the QRS width, and of the RR interval to the median of 21. Needs the database (ECGKAN_DATA).
"""

import numpy as np
import torch

from ecgkan import load_checkpoint
from ecgkan.aami import CLASSES
from ecgkan.data.context import RHYTHM_FEATURES
from ecgkan.data.ds2 import load_test_context
from ecgkan.models.patient import COMPARISONS, PatientClassifier, compare_shapes
from ecgkan.training.patients import predict_context

FEWEST = 5
"""Rows of fewer beats are left out."""

COLUMNS = ("likeness of QRS", "likeness of T", "likeness of P", "relative QRS width")


def main() -> None:
    table = load_test_context()
    compared = compare_shapes(torch.from_numpy(table.model_input().shapes)).numpy()
    values = {name: compared[:, COMPARISONS.index(name)] for name in COLUMNS}
    values["rr/median21"] = table.rhythm[:, 0, RHYTHM_FEATURES.index("rr/median21")]
    for name in ("patient_mlp", "patient_kan"):
        model = load_checkpoint(name).model
        assert isinstance(model, PatientClassifier)
        predicted = predict_context(model, table).argmax(axis=1)
        print(f"\n{name}\n\n| record | class | called | beats | " + " | ".join(values) + " |")
        print("|---" * (4 + len(values)) + "|")
        for label in (CLASSES.index("V"), CLASSES.index("S")):
            of_class = table.counted & (table.labels == label)
            for record in dict.fromkeys(table.records[of_class].tolist()):
                beats = of_class & (table.records == record)
                if np.count_nonzero(beats & (predicted != label)) < FEWEST:
                    continue
                for called in np.unique(predicted[beats]):
                    chosen = beats & (predicted == called)
                    if np.count_nonzero(chosen) >= FEWEST:
                        medians = " | ".join(f"{np.median(column[chosen]):+.2f}" for column in values.values())
                        told = f"{record} | {CLASSES[label]} | {CLASSES[called]} | {np.count_nonzero(chosen)}"
                        print(f"| {told} | {medians} |")


if __name__ == "__main__":
    main()
