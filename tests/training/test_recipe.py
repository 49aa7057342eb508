"""Recipes are validated when built, and read from JSON with clear errors."""

import dataclasses
import json
from pathlib import Path

import pytest

from ecgkan.errors import DataError, DataNotFoundError
from ecgkan.training.recipe import BEST, REFERENCE, load_recipe


def test_reference_is_the_published_recipe() -> None:
    assert (REFERENCE.optimizer, REFERENCE.learning_rate, REFERENCE.weight_decay) == ("adam", 1e-3, 1e-4)
    assert (REFERENCE.batch_size, REFERENCE.epochs, REFERENCE.early_stopping_patience) == (128, 50, 10)
    assert (REFERENCE.class_weight_power, REFERENCE.gradient_clip_norm) == (1.0, 1.0)
    assert (REFERENCE.schedule, REFERENCE.select_by, REFERENCE.precision) == ("plateau", "loss", "float32")
    assert (REFERENCE.kan_grid_range, REFERENCE.kan_init) == ((-1.0, 1.0), "reference")
    assert REFERENCE.average_decay is None
    assert REFERENCE.dropout_scale == 1.0


@pytest.mark.parametrize("recipe", [REFERENCE, BEST])
def test_json_round_trip(tmp_path: Path, recipe: object) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe.to_dict()))
    assert load_recipe(file) == recipe
    assert load_recipe(recipe.name) is recipe


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "sgd"),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("warmup_fraction", 1.0),
        ("epochs", 0),
        ("batch_size", 1),
        ("label_smoothing", 1.0),
        ("mixup_alpha", -0.1),
        ("dropout_scale", 3.0),
        ("gradient_clip_norm", 0.0),
        ("average_decay", 1.0),
        ("max_shift_samples", 40),
        ("max_stretch", 0.5),
        ("precision", "float16"),
        ("kan_grid_range", (1.0, -1.0)),
    ],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(DataError, match=field):
        dataclasses.replace(BEST, **{field: value})


def test_unreadable_recipes_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no recipe"):
        load_recipe("bset")
    file = tmp_path / "recipe.json"
    file.write_text("{not json")
    with pytest.raises(DataError, match="not valid JSON"):
        load_recipe(file)
    file.write_text(json.dumps(BEST.to_dict() | {"learning_rte": 1}))
    with pytest.raises(DataError, match="learning_rte"):
        load_recipe(file)
    file.write_text(json.dumps({"name": "x"}))
    with pytest.raises(DataError, match="missing"):
        load_recipe(file)
