"""A small synthetic split, and checkpoints of untrained models, for tests that need no database."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ecgkan.data.beat_table import MARGIN, BeatTable
from ecgkan.data.protocols import BeatSplit
from ecgkan.evaluation.evaluate import Evaluation, evaluate_checkpoint
from ecgkan.models.checkpoint import MODELS, load_checkpoint, save_checkpoint

# Several threads on a busy machine wait for one another far longer than these small models compute.
torch.set_num_threads(1)

HISTORY = [
    {
        "epoch": epoch,
        "train_loss": 1.0 / (epoch + 1),
        "validation_loss": 1.2 / (epoch + 1),
        "validation_macro_f1": 0.5 + 0.1 * epoch,
        "learning_rate": 1e-3,
    }
    for epoch in range(4)
]
TRAINING = {
    "recipe": "best",
    "recipe_fields": {"epochs": 4},
    "seed": 7,
    "selected_epoch": 3,
    "validation": {"macro_f1": 0.8, "loss": 0.3},
    "history": HISTORY,
}


def write_checkpoint(path: Path, name: str, *, seed: int = 0, protocol: str = "random-split", **fields) -> Path:
    """Write a checkpoint of an untrained model."""
    torch.manual_seed(seed)
    options = {"temperature": 0.7, "training": TRAINING} | fields
    save_checkpoint(path, name=name, model=MODELS[name](), protocol=protocol, **options)
    return path


@pytest.fixture(scope="session")
def small_split() -> BeatSplit:
    """600 noisy beats of three records, all five classes in each part."""
    rng = np.random.default_rng(0)
    n = 600
    labels = np.arange(n) % 5
    windows = rng.normal(size=(n, 256 + 2 * MARGIN)).astype(np.float32)
    windows[:, MARGIN + 128] += 10
    table = BeatTable(
        windows=windows,
        labels=labels,
        records=np.array(["100", "208", "232"])[np.arange(n) // 200],
        samples=np.arange(n) * 300 + 200,
    )
    return BeatSplit("random-split", table, np.arange(200), np.arange(200, 300), np.arange(300, 600))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained checkpoints of both models."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: write_checkpoint(folder / f"{name}.pth", name) for name in MODELS}


@pytest.fixture(scope="session")
def evaluations(checkpoints: dict[str, Path], small_split: BeatSplit) -> list[Evaluation]:
    """Both models on the synthetic test beats."""
    return [evaluate_checkpoint(load_checkpoint(path), small_split, resamples=200) for path in checkpoints.values()]
