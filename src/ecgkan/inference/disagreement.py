"""Disagreement: the beats to which models give different classes."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ecgkan.errors import DataError
from ecgkan.inference.annotation import BeatAnnotations
from ecgkan.inference.writing import replacing

MOST_SHOWN: Final = 12
"""How many disagreements a reader looks at; the files hold all of them."""


class Disagreement(NamedTuple):
    """One beat with different classes.

    Attributes
    ----------
    sample : int
        R peak at the recording's sampling rate.
    time_s : float
        The same in seconds.
    models, classes : tuple of str
        Model names and the class each gives the beat.
    confidences : tuple of float
        Calibrated probability of that class, one per model.
    """

    sample: int
    time_s: float
    models: tuple[str, ...]
    classes: tuple[str, ...]
    confidences: tuple[float, ...]


def find_disagreements(annotations: Sequence[BeatAnnotations]) -> tuple[Disagreement, ...]:
    """Return the beats on which the models do not all agree, in order of time.

    Raises
    ------
    DataError
        If the annotations are not of the same beats.
    """
    first = annotations[0]
    if any(not np.array_equal(other.samples, first.samples) for other in annotations):
        raise DataError("models can only be compared on the same beats; classify them all at the same R peaks")
    differs = np.any([other.classes != first.classes for other in annotations], axis=0)
    return tuple(
        Disagreement(
            sample=int(first.samples[i]),
            time_s=float(first.samples[i] / first.fs),
            models=tuple(annotated.model for annotated in annotations),
            classes=tuple(str(annotated.classes[i]) for annotated in annotations),
            confidences=tuple(float(annotated.probabilities[i].max()) for annotated in annotations),
        )
        for i in np.flatnonzero(differs)
    )


def surest(disagreements: Sequence[Disagreement], most: int) -> tuple[Disagreement, ...]:
    """Return up to `most` disagreements, those whose least sure model is surest, in order of time."""
    ranked = sorted(disagreements, key=lambda disagreement: -min(disagreement.confidences))
    return tuple(sorted(ranked[:most], key=lambda disagreement: disagreement.sample))


def write_disagreements(disagreements: Sequence[Disagreement], path: Path, *, overwrite: bool = False) -> Path:
    """Write one line per beat: sample, time_s, and per model its class and the class's probability, as CSV.

    Raises
    ------
    OutputExistsError
        If the file exists and `overwrite` is False.
    """
    models = disagreements[0].models if disagreements else ()
    header = ["sample", "time_s", *(f"{kind}_{model}" for model in models for kind in ("class", "p"))]
    with replacing(path, overwrite=overwrite) as temporary, temporary.open("w", newline="", encoding="ascii") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(header)
        for beat in disagreements:
            verdicts = zip(beat.classes, beat.confidences, strict=True)
            values = [value for letter, p in verdicts for value in (letter, f"{p:.6f}")]
            lines.writerow([beat.sample, f"{beat.time_s:.6f}", *values])
    return path
