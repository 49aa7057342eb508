"""Agreement of classified beats with a record's reference annotations, and what it does not say."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beat_table import beat_labels
from ecgkan.data.beats import BEAT_FS
from ecgkan.data.mitdb import RECORDS
from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.errors import DataError
from ecgkan.evaluation.metrics import confusion_matrix
from ecgkan.inference.annotation import BeatAnnotations

_NOISE_STRESS_RECORD: Final = re.compile(r"11[89]e(\d\d|_\d)")


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How far classes agree with an annotator's, on the annotator's own beats.

    Attributes
    ----------
    annotator : str
        Annotator name.
    confusion : ndarray
        `[5, 5]` int64, rows the annotator's class, columns the model's, in the order N S V F Q.
    """

    annotator: str
    confusion: NDArray[np.int64]

    @property
    def beats(self) -> int:
        """Beats compared."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of the beats given the annotator's class; NaN without beats."""
        return float(np.trace(self.confusion)) / self.beats if self.beats else float("nan")


def agreement_with(annotations: BeatAnnotations, reference: ReferenceAnnotations, annotator: str) -> Agreement:
    """Compare classes beat by beat; the annotations must have been made at the annotator's R peaks.

    Raises
    ------
    DataError
        If a classified beat is not one of the annotator's, or a symbol is unknown.
    """
    try:
        labels = beat_labels(reference.symbols)
    except ValueError as error:
        raise DataError(f"annotator {annotator}: {error}") from error
    samples, labels = reference.samples[labels >= 0], labels[labels >= 0]
    classified = ~np.isin(samples, annotations.left_out)
    if not np.array_equal(samples[classified], annotations.samples):
        raise DataError(
            f"record {annotations.record}: the classified beats are not those of annotator {annotator}; "
            "classify at its R peaks, or compare with `ecgkan ec57`"
        )
    predicted = np.array([CLASSES.index(letter) for letter in annotations.classes.tolist()], dtype=np.int64)
    if not len(predicted):
        return Agreement(annotator, np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64))
    return Agreement(annotator, confusion_matrix(labels[classified], predicted))


def training_patient_note(record: str, fs: float) -> str | None:
    """Return the line that goes with a record of the training database, or None for other records."""
    if fs != BEAT_FS or not (record in RECORDS or _NOISE_STRESS_RECORD.fullmatch(record)):
        return None
    return (
        f"Record {record[:3]} belongs to the MIT-BIH Arrhythmia Database, which the models were trained on: "
        "they have seen this patient, so this says nothing about how they do on a new one."
    )
