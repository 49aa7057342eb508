"""Checkpoints round-trip, load without running code, and bad ones are refused with the reason."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ecgkan.errors import CheckpointError, DataNotFoundError
from ecgkan.models.checkpoint import load_checkpoint, load_model, save_checkpoint
from ecgkan.models.cnn import ECGCNN
from ecgkan.models.cnn_kan import ECGCNNWithKAN

ROOT = Path(__file__).parents[2]


def save(path: Path, *, kan: bool = False) -> Path:
    torch.manual_seed(0)
    save_checkpoint(
        path,
        name="cnn_kan" if kan else "cnn_mlp",
        model=ECGCNNWithKAN() if kan else ECGCNN(),
        protocol="random-split",
        temperature=1.25,
        training={"seed": 4, "history": [{"epoch": 0, "train_loss": 1.0}]},
    )
    return path


@pytest.mark.parametrize("kan", [False, True])
def test_round_trip(tmp_path: Path, kan: bool) -> None:
    checkpoint = load_checkpoint(save(tmp_path / "model.pth", kan=kan))
    torch.manual_seed(0)
    expected = (ECGCNNWithKAN() if kan else ECGCNN()).eval()
    x = torch.randn(3, 1, 256)
    assert torch.equal(checkpoint.model(x), expected(x))
    assert not checkpoint.model.training
    assert checkpoint.temperature == 1.25
    assert checkpoint.training["seed"] == 4
    assert checkpoint.classes == ("N", "S", "V", "F", "Q")
    assert checkpoint.preprocessing["fs"] == 360.0
    assert re.fullmatch("[0-9a-f]{64}", checkpoint.sha256)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]


def test_a_bare_reference_checkpoint_loads(tmp_path: Path) -> None:
    reference = ECGCNNWithKAN(grid_range=(-1.0, 1.0), init="reference").eval()
    torch.save({"model_state": reference.state_dict()}, tmp_path / "theirs.pth")
    loaded = load_checkpoint(tmp_path / "theirs.pth")
    x = torch.randn(4, 1, 256)
    torch.testing.assert_close(loaded.model(x), reference(x), atol=0, rtol=0)
    assert loaded.protocol == "unknown"
    assert loaded.temperature == 1.0


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_pickle_payload_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    state = ECGCNN().state_dict()
    torch.save({"model_state": state, "extra": Payload(target)}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload(target)))
    for name in ("evil.pth", "evil.pkl"):
        with pytest.raises(CheckpointError, match=f"{name} was not loaded.*could run code"):
            load_model(tmp_path / name)
    assert not target.exists()


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    whole = save(tmp_path / "model.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    for name in ("cut.pth", "empty.pth", "text.pth"):
        with pytest.raises(CheckpointError, match=name):
            load_model(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="model_state"):
        load_model(tmp_path / "list.pth")
    torch.save({"model_state": {"layer.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="neither model"):
        load_model(tmp_path / "other.pth")
    state = ECGCNN().state_dict()
    torch.save({"model_state": state | {"classifier.8.weight": torch.zeros(7, 64)}}, tmp_path / "seven.pth")
    with pytest.raises(CheckpointError, match="do not fit ECGCNN"):
        load_model(tmp_path / "seven.pth")
    state["classifier.8.bias"] = torch.full((5,), float("nan"))
    torch.save({"model_state": state}, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match="NaN"):
        load_model(tmp_path / "nan.pth")
    torch.save({"model_state": ECGCNN().state_dict(), "format_version": 99}, tmp_path / "future.pth")
    with pytest.raises(CheckpointError, match="upgrade"):
        load_model(tmp_path / "future.pth")


def test_a_missing_file_names_the_shipped_models(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="cnn_mlp, cnn_kan"):
        load_model(tmp_path / "nothing.pth")


@pytest.mark.parametrize(("name", "parameters"), [("cnn_mlp", 175_973), ("cnn_kan", 285_280)])
def test_the_shipped_models(name: str, parameters: int) -> None:
    checkpoint = load_checkpoint(name)
    assert sum(p.numel() for p in checkpoint.model.parameters()) == parameters
    assert checkpoint.protocol == "random-split"
    assert checkpoint.training["recipe"] == "best"
    assert checkpoint.temperature != 1.0


HOW_TO_USE = """
import torch
from src.models.cnn import ECGCNN
from src.models.cnn_kan import ECGCNNWithKAN
CHECKPOINT_PATH = {path!r}
# Choose model
model = {model}(num_classes=5)
# Load weights
ckpt = torch.load(CHECKPOINT_PATH, map_location="cpu")
model.load_state_dict(ckpt["model_state"])
model.eval()
# Example input: [batch, 1, 256]
x = torch.randn(1, 1, 256)
proba = torch.softmax(model(x), dim=1)
pred = proba.argmax(dim=1).item()
print(tuple(proba.shape), pred)
"""


@pytest.mark.parametrize(("name", "model"), [("cnn_mlp", "ECGCNN"), ("cnn_kan", "ECGCNNWithKAN")])
def test_the_model_cards_how_to_use_works_from_a_checkout(name: str, model: str) -> None:
    script = HOW_TO_USE.format(path=f"checkpoints/{name}.pth", model=model)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\(1, 5\) [0-4]", done.stdout.strip())
