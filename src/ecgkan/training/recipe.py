"""Training recipes: every choice of a training run that is neither architecture, data nor seed.

`reference` is the published recipe to the letter; `best` is ours, chosen on validation data alone
(docs/recipe-search.md).
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from ecgkan.errors import DataError, DataNotFoundError
from ecgkan.models.kan import Normalization, SplineInit


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training recipe.

    Attributes
    ----------
    name : str
        What it is called in logs and results.
    optimizer : {"adam", "adamw"}
        "adam" adds `weight_decay` to the gradient (L2), "adamw" decouples it.
    learning_rate : float
        Initial ("plateau") or peak ("one_cycle") learning rate.
    weight_decay : float
        Weight decay.
    decay_everything : bool
        Decay spline coefficients, norms and biases too, as the reference does. Otherwise only convolution,
        linear and base weights are decayed: decay pulls splines towards the zero function, which is no simpler edge.
    decay_splines : bool
        False spares the spline coefficients even where everything else decays.
    schedule : {"plateau", "one_cycle"}
        ReduceLROnPlateau(0.5, patience 5) on the validation loss, or one cycle over all steps.
    warmup_fraction : float
        Part of a one-cycle schedule in which the learning rate rises.
    epochs : int
        Number of epochs, at most.
    early_stopping_patience : int or None
        Stop after so many epochs without a better validation loss.
    select_by : {"loss", "macro_f1", "last"}
        Validation figure by which the epoch is chosen; "last" chooses none: a fixed number of epochs, and the only
        choice without validation beats.
    batch_size : int
        Beats per step.
    normal_beats_per_epoch : int or None
        Draw so many N beats anew for each epoch, beside all others; class weights count beats as drawn.
    class_weight_power : float
        Loss weights are `(n / (5 n_c)) ** power`: 1 balances the classes fully, 0 not at all.
    label_smoothing : float
        As in `torch.nn.functional.cross_entropy`.
    mixup_alpha : float
        Beta(alpha, alpha) mixing of pairs of beats and their labels; 0 is off.
    dropout_scale : float
        Factor on every dropout probability of the architecture during training.
    gradient_clip_norm : float
        Gradients are scaled down to this norm.
    average_decay : float or None
        Exponential moving average of the weights, validated and kept in their place.
    max_shift_samples : int
        Windows are shifted by up to so many samples either way.
    max_stretch : float
        Windows are stretched in time by a factor of up to `exp(±max_stretch)`.
    precision : {"float32", "bfloat16"}
        Arithmetic of the encoder's training pass; weights, heads and validation stay float32. On a CPU without
        bfloat16 instructions the pass runs in float32 all the same (`ecgkan.training.module.has_bfloat16`).
    kan_grid_range : (float, float)
        Range of the KAN head's splines.
    kan_init : {"kaiming", "reference"}
        Initialization of the KAN head.
    kan_grid_size, kan_hidden_features : int
        Spline intervals and hidden units of the KAN head.
    kan_normalization : {"layer", "batch"}
        What stands before the splines of the KAN head.
    mlp_hidden_features : int
        Units of the first hidden layer of the MLP head; the second has half as many.
    same_encoder_start : bool
        Draw the encoder's first weights from the seed alone, so that models with different heads start from the same.

    Raises
    ------
    DataError
        If a value is out of range.
    """

    name: str
    optimizer: Literal["adam", "adamw"]
    learning_rate: float
    weight_decay: float
    decay_everything: bool
    decay_splines: bool = True
    schedule: Literal["plateau", "one_cycle"]
    warmup_fraction: float = 0.2
    epochs: int
    early_stopping_patience: int | None
    select_by: Literal["loss", "macro_f1", "last"]
    batch_size: int
    normal_beats_per_epoch: int | None = None
    class_weight_power: float
    label_smoothing: float = 0.0
    mixup_alpha: float = 0.0
    dropout_scale: float = 1.0
    gradient_clip_norm: float = 1.0
    average_decay: float | None = None
    max_shift_samples: int = 0
    max_stretch: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    kan_grid_range: tuple[float, float] = (-3.0, 3.0)
    kan_init: SplineInit = "kaiming"
    kan_grid_size: int = 5
    kan_hidden_features: int = 64
    kan_normalization: Normalization = "layer"
    mlp_hidden_features: int = 128
    same_encoder_start: bool = False

    def __post_init__(self) -> None:
        choices = {
            "optimizer": ("adam", "adamw"),
            "schedule": ("plateau", "one_cycle"),
            "select_by": ("loss", "macro_f1", "last"),
            "precision": ("float32", "bfloat16"),
            "kan_init": ("kaiming", "reference"),
            "kan_normalization": ("layer", "batch"),
        }
        for field, allowed in choices.items():
            self._check(field, f"one of {', '.join(allowed)}", getattr(self, field) in allowed)
        self._check("learning_rate", "> 0", self.learning_rate > 0)
        self._check("weight_decay", ">= 0", self.weight_decay >= 0)
        self._check("warmup_fraction", "in (0, 1)", 0 < self.warmup_fraction < 1)
        self._check("epochs", ">= 1", self.epochs >= 1)
        self._check("batch_size", ">= 2 (batch norm needs two beats)", self.batch_size >= 2)
        drawn = self.normal_beats_per_epoch
        self._check("normal_beats_per_epoch", "None or >= 1", drawn is None or drawn >= 1)
        self._check("label_smoothing", "in [0, 1)", 0 <= self.label_smoothing < 1)
        self._check("mixup_alpha", ">= 0", self.mixup_alpha >= 0)
        self._check("dropout_scale", "in [0, 2]", 0 <= self.dropout_scale <= 2)
        self._check("gradient_clip_norm", "> 0", self.gradient_clip_norm > 0)
        self._check("average_decay", "None or in (0, 1)", self.average_decay is None or 0 < self.average_decay < 1)
        self._check("max_shift_samples", "in 0..32", 0 <= self.max_shift_samples <= 32)
        self._check("max_stretch", "in [0, 0.2]", 0 <= self.max_stretch <= 0.2)
        self._check("kan_grid_size", ">= 1", self.kan_grid_size >= 1)
        self._check("kan_hidden_features", ">= 1", self.kan_hidden_features >= 1)
        self._check("mlp_hidden_features", ">= 2", self.mlp_hidden_features >= 2)
        self._check("kan_grid_range", "low < high", self.kan_grid_range[0] < self.kan_grid_range[1])

    def _check(self, field: str, expected: str, holds: bool) -> None:
        if not holds:
            raise DataError(f"recipe {self.name}: {field} = {getattr(self, field)!r}, expected {expected}")

    @property
    def needs_validation(self) -> bool:
        """Whether a choice of this recipe is made on validation beats."""
        return self.schedule == "plateau" or self.early_stopping_patience is not None or self.select_by != "last"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain JSON values."""
        return asdict(self) | {"kan_grid_range": list(self.kan_grid_range)}


REFERENCE: Final = Recipe(
    name="reference",
    optimizer="adam",
    learning_rate=1e-3,
    weight_decay=1e-4,
    decay_everything=True,
    schedule="plateau",
    epochs=50,
    early_stopping_patience=10,
    select_by="loss",
    batch_size=128,
    class_weight_power=1.0,
    kan_grid_range=(-1.0, 1.0),
    kan_init="reference",
)

BEST: Final = Recipe(
    name="best",
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=1e-2,
    decay_everything=False,
    schedule="one_cycle",
    epochs=40,
    early_stopping_patience=None,
    select_by="macro_f1",
    batch_size=256,
    class_weight_power=0.35,
    dropout_scale=0.5,
    average_decay=0.998,
    max_shift_samples=8,
    max_stretch=0.05,
    precision="bfloat16",
)

RECIPES: Final = {"reference": REFERENCE, "best": BEST}
"""Recipe name → recipe."""


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Return a named recipe, or read one from a JSON file holding the fields of `Recipe`.

    Raises
    ------
    DataNotFoundError
        If it is neither a known name nor a file.
    DataError
        If the file is not valid, or a field is unknown, missing or out of range.
    """
    if str(name_or_path) in RECIPES:
        return RECIPES[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        raise DataNotFoundError(f"no recipe {str(path)!r}; expected {' or '.join(RECIPES)}, or a JSON file")
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON ({error}); expected the fields of a recipe") from error
    return recipe_from_dict(values, source=str(path))


def recipe_from_dict(values: Any, *, source: str) -> Recipe:  # noqa: ANN401
    """Build a recipe from plain JSON values; `source` names them in error messages."""
    known = {field.name for field in fields(Recipe)}
    if not isinstance(values, dict) or not set(values) <= known:
        unknown = sorted(set(values) - known) if isinstance(values, dict) else type(values).__name__
        raise DataError(f"{source}: unknown recipe fields {unknown}; expected {', '.join(sorted(known))}")
    if "kan_grid_range" in values:
        values = values | {"kan_grid_range": tuple(values["kan_grid_range"])}
    try:
        return Recipe(**values)
    except TypeError as error:
        raise DataError(f"{source}: {error}") from error
