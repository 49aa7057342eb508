"""Recipe of the models for new patients: every choice of a training that is neither architecture, data nor seed."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ecgkan.aami import CLASSES
from ecgkan.errors import DataError, DataNotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRecipe:
    """A training recipe of the models for new patients.

    Attributes
    ----------
    name : str
        What it is called in logs and results.
    epochs, batch_size : int
        Length of the training; no epoch is chosen, the last one's weight average is kept.
    learning_rate, weight_decay : float
        Peak of the one-cycle schedule, and AdamW's decay.
    label_smoothing, gradient_clip_norm, average_decay : float
        As in `ecgkan.training.recipe.Recipe`.
    beats_per_record : tuple of int
        How many beats N S V F Q of each record an epoch draws, at most.
    repeats : int
        How often an epoch repeats a beat other than N, at most.
    made_up_share : float
        Share of each batch that stands in made-up rhythms.
    rhythms_per_record : int
        How many rhythms are made up of each record's beats.
    inverted : float
        Share of beats turned upside down.
    max_shift_samples, max_stretch : float
        Largest shift of the R peak, samples at 120 Hz, and largest stretch in time, `exp(±max_stretch)`.

    Raises
    ------
    DataError
        If a value is out of range.
    """

    name: str
    epochs: int
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 2e-2
    label_smoothing: float = 0.05
    gradient_clip_norm: float = 1.0
    average_decay: float = 0.99
    beats_per_record: tuple[int, ...] = (350, 150, 200, 80, 5)
    repeats: int = 4
    made_up_share: float = 0.35
    rhythms_per_record: int = 6
    inverted: float = 0.3
    max_shift_samples: float = 2.5
    max_stretch: float = 0.08

    def __post_init__(self) -> None:
        self._check("epochs", ">= 1", self.epochs >= 1)
        self._check("batch_size", ">= 4", self.batch_size >= 4)
        self._check("learning_rate", "> 0", self.learning_rate > 0)
        self._check("weight_decay", ">= 0", self.weight_decay >= 0)
        self._check("label_smoothing", "in [0, 1)", 0 <= self.label_smoothing < 1)
        self._check("gradient_clip_norm", "> 0", self.gradient_clip_norm > 0)
        self._check("average_decay", "in (0, 1)", 0 < self.average_decay < 1)
        counts = self.beats_per_record
        self._check("beats_per_record", "five numbers >= 0", len(counts) == len(CLASSES) and min(counts) >= 0)
        self._check("repeats", ">= 1", self.repeats >= 1)
        self._check("made_up_share", "in [0, 0.9]", 0 <= self.made_up_share <= 0.9)
        self._check("rhythms_per_record", ">= 1", self.rhythms_per_record >= 1)
        self._check("inverted", "in [0, 1]", 0 <= self.inverted <= 1)
        self._check("max_shift_samples", "in [0, 10]", 0 <= self.max_shift_samples <= 10)
        self._check("max_stretch", "in [0, 0.3]", 0 <= self.max_stretch <= 0.3)

    def _check(self, field: str, expected: str, holds: bool) -> None:
        if not holds:
            raise DataError(f"recipe {self.name}: {field} = {getattr(self, field)!r}, expected {expected}")

    @property
    def real_per_batch(self) -> int:
        """Beats of a batch that stand in their own record's rhythm."""
        return self.batch_size - int(self.batch_size * self.made_up_share)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain JSON values."""
        return asdict(self) | {"beats_per_record": list(self.beats_per_record)}


def load_patient_recipe(path: Path) -> PatientRecipe:
    """Read a recipe from a JSON file holding the fields of `PatientRecipe`.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    DataError
        If it is not valid, or a field is unknown, missing or out of range.
    """
    if not path.is_file():
        raise DataNotFoundError(f"no recipe {path}; expected a JSON file, such as results/patients/patient-1.json")
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON ({error}); expected the fields of a recipe") from error
    known = {field.name for field in fields(PatientRecipe)}
    if not isinstance(values, dict) or not set(values) <= known:
        unknown = sorted(set(values) - known) if isinstance(values, dict) else type(values).__name__
        raise DataError(f"{path}: unknown recipe fields {unknown}; expected {', '.join(sorted(known))}")
    if "beats_per_record" in values:
        values = values | {"beats_per_record": tuple(values["beats_per_record"])}
    try:
        return PatientRecipe(**values)
    except TypeError as error:
        raise DataError(f"{path}: {error}") from error
