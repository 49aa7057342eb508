"""Training under protocol `inter-patient`: without validation beats, in folds, and with heads that share a start."""

import ast
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import ecgkan.training
from ecgkan.data.protocols import BeatSplit
from ecgkan.errors import DataError
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.models.cnn_kan import ECGCNNWithKAN
from ecgkan.training.fit import TrainedModel, build_model, train_model
from ecgkan.training.module import parameter_groups
from ecgkan.training.recipe import REFERENCE, Recipe
from tests.training.test_fit import synthetic_split

FIXED = dataclasses.replace(
    REFERENCE,
    name="fixed",
    schedule="one_cycle",
    epochs=2,
    early_stopping_patience=None,
    select_by="last",
    batch_size=32,
    normal_beats_per_epoch=20,
    same_encoder_start=True,
)


def whole_split() -> BeatSplit:
    split = synthetic_split()
    nothing = np.zeros(0, dtype=np.int64)
    return dataclasses.replace(
        split, protocol="inter-patient", train=np.arange(len(split.table)), validation=nothing, test=nothing
    )


def train(out: Path, recipe: Recipe, split: BeatSplit, *, resume: bool = False) -> TrainedModel:
    trained = train_model(
        "cnn_kan",
        recipe,
        3,
        split,
        out,
        resume=resume,
        threads=1,
        compile_encoder=False,
        trainer_options={"accelerator": "cpu"},
    )
    assert trained is not None
    return trained


def test_without_validation_beats_the_last_epoch_is_kept(tmp_path: Path) -> None:
    trained = train(tmp_path / "run", FIXED, whole_split())
    assert (trained.selected_epoch, trained.epochs) == (1, 2)
    assert trained.validation_loss is trained.validation_macro_f1 is None
    assert trained.temperature == 1.0
    noted = json.loads((tmp_path / "run" / "run.json").read_text())
    assert noted["validation"] == {"loss": None, "macro_f1": None}
    assert [sorted(entry) for entry in noted["history"]] == [["epoch", "learning_rate", "train_loss"]] * 2
    assert not (tmp_path / "run" / "best.ckpt").exists()
    assert load_checkpoint(trained.checkpoint).protocol == "inter-patient"


@pytest.mark.parametrize(
    "change", [{"select_by": "loss"}, {"schedule": "plateau"}, {"early_stopping_patience": 2}], ids=str
)
def test_a_recipe_that_chooses_by_validation_needs_validation_beats(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(DataError, match="chooses by validation beats"):
        train(tmp_path / "run", dataclasses.replace(FIXED, **change), whole_split())
    assert not (tmp_path / "run").exists()


def test_a_fold_is_validated_and_is_no_other_folds_run(tmp_path: Path) -> None:
    split = dataclasses.replace(synthetic_split(), protocol="inter-patient", fold=1)
    assert train(tmp_path / "run", FIXED, split).validation_loss is not None
    with pytest.raises(DataError, match="has fold 1, expected 2"):
        train(tmp_path / "run", FIXED, dataclasses.replace(split, fold=2), resume=True)


def test_other_heads_start_from_the_same_encoder() -> None:
    kan = dataclasses.replace(FIXED, kan_hidden_features=18, kan_grid_size=3, kan_normalization="batch")
    first, second = build_model("cnn_mlp", FIXED, 5), build_model("cnn_kan", kan, 5)
    for name, weight in first.encoder.state_dict().items():
        assert torch.equal(weight, second.encoder.state_dict()[name]), name
    other_seed = build_model("cnn_mlp", FIXED, 6).encoder.state_dict()
    assert not torch.equal(other_seed["0.block.0.weight"], first.encoder.state_dict()["0.block.0.weight"])


def test_a_head_of_another_size_is_loaded_as_it_was_trained(tmp_path: Path) -> None:
    recipe = dataclasses.replace(FIXED, epochs=1, kan_hidden_features=7, kan_grid_size=3, kan_normalization="batch")
    model = load_checkpoint(train(tmp_path / "run", recipe, whole_split()).checkpoint).model
    assert isinstance(model, ECGCNNWithKAN)
    assert list(model.kan_head.kan1.spline_weight.shape) == [7, 256, 6]
    assert model.kan_head.kan1.normalization == "batch"


def test_decay_spares_splines_alone_when_asked() -> None:
    model = ECGCNNWithKAN()
    (everything,) = parameter_groups(model, FIXED)
    decayed, spared = parameter_groups(model, dataclasses.replace(FIXED, decay_splines=False))
    assert {id(p) for p in spared["params"]} == {
        id(model.kan_head.kan1.spline_weight),
        id(model.kan_head.kan2.spline_weight),
    }
    assert spared["weight_decay"] == 0.0
    assert len(decayed["params"]) + 2 == len(everything["params"])


def test_training_names_no_way_to_the_test_records() -> None:
    for file in Path(ecgkan.training.__file__).parent.glob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)}
        names |= {
            alias.name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not names & {"DS2", "ds2", "load_test_beats"}, file.name
