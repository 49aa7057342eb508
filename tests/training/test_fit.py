"""A run can be killed at any moment and resumed, and ends with the weights of an uninterrupted one."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgkan.data.beat_table import BeatTable
from ecgkan.data.protocols import BeatSplit
from ecgkan.errors import DataError, DataNotFoundError, OutputExistsError
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.training.fit import TrainedModel, fit_temperature, train_model
from ecgkan.training.recipe import BEST, REFERENCE, Recipe

SHORT = {
    "reference": dataclasses.replace(REFERENCE, epochs=4, batch_size=32, early_stopping_patience=2),
    "best": dataclasses.replace(BEST, epochs=4, batch_size=32, max_shift_samples=4, mixup_alpha=0.2),
}


def synthetic_split(n_beats: int = 240) -> BeatSplit:
    """Five classes of noisy bumps of different width."""
    rng = np.random.default_rng(7)
    labels = np.arange(n_beats) % 5
    time_axis = np.arange(384) - 192
    bumps = np.exp(-((time_axis / (4.0 + 6.0 * labels[:, None])) ** 2))
    windows = (bumps + 0.3 * rng.standard_normal((n_beats, 384))).astype(np.float32)
    table = BeatTable(windows, labels.astype(np.int64), np.full(n_beats, "100"), np.arange(n_beats))
    order = rng.permutation(n_beats)
    return BeatSplit("synthetic", table, order[: n_beats // 2], order[n_beats // 2 : -40], order[-40:])


def run(out: Path, recipe: Recipe, *, name: str = "cnn_kan", seed: int = 3, resume: bool = False) -> TrainedModel:
    trained = train_model(
        name,
        recipe,
        seed,
        synthetic_split(),
        out,
        resume=resume,
        threads=1,
        compile_encoder=False,
        trainer_options={"accelerator": "cpu"},
    )
    assert trained is not None
    return trained


def state_of(out: Path, name: str = "cnn_kan") -> dict[str, torch.Tensor]:
    return load_checkpoint(out / f"{name}.pth").model.state_dict()


def assert_same_weights(first: Path, second: Path, name: str = "cnn_kan") -> None:
    left, right = state_of(first, name), state_of(second, name)
    assert left.keys() == right.keys()
    for key in left:
        assert torch.equal(left[key], right[key]), key


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.training.test_fit import SHORT, run
run(Path({out!r}), SHORT[{recipe!r}])
"""


def test_a_processor_without_bfloat16_trains_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgkan.training.module.has_bfloat16", lambda _: False)
    run(tmp_path / "imitated", SHORT["best"])
    run(tmp_path / "float32", dataclasses.replace(SHORT["best"], precision="float32"))
    assert_same_weights(tmp_path / "imitated", tmp_path / "float32")


@pytest.mark.parametrize("recipe", ["reference", "best"])
def test_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(tmp_path: Path, recipe: str) -> None:
    run(tmp_path / "whole", SHORT[recipe])
    out = tmp_path / "killed"
    root = Path(__file__).parents[2]
    script = CHILD.format(tests=str(root), out=str(out), recipe=recipe)
    child = subprocess.Popen([sys.executable, "-c", script], cwd=root, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "last.ckpt").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (out / "run.json").exists()
    run(out, SHORT[recipe], resume=True)
    assert_same_weights(tmp_path / "whole", out)
    whole, resumed = (json.loads((tmp_path / part / "run.json").read_text()) for part in ("whole", "killed"))
    assert whole["history"] == resumed["history"]


def test_same_seed_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    short = dataclasses.replace(SHORT["best"], epochs=1)
    run(tmp_path / "a", short, name="cnn_mlp")
    run(tmp_path / "b", short, name="cnn_mlp")
    run(tmp_path / "c", short, name="cnn_mlp", seed=4)
    assert_same_weights(tmp_path / "a", tmp_path / "b", "cnn_mlp")
    first, other = state_of(tmp_path / "a", "cnn_mlp"), state_of(tmp_path / "c", "cnn_mlp")
    assert not torch.equal(first["encoder.0.block.0.weight"], other["encoder.0.block.0.weight"])


def test_interrupted_before_the_first_epoch_starts_anew(tmp_path: Path) -> None:
    out = tmp_path / "run"
    short = dataclasses.replace(SHORT["best"], epochs=1)
    run(tmp_path / "whole", short)
    out.mkdir()
    (out / "recipe.json").write_text((tmp_path / "whole" / "recipe.json").read_text())
    run(out, short, resume=True)
    assert_same_weights(tmp_path / "whole", out)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    short = dataclasses.replace(SHORT["best"], epochs=2)
    run(tmp_path / "run", short)
    before = state_of(tmp_path / "run")
    again = run(tmp_path / "run", short, resume=True)
    assert again.epochs == 2
    assert all(torch.equal(value, before[key]) for key, value in state_of(tmp_path / "run").items())


def test_a_run_is_never_overwritten_or_mixed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    short = dataclasses.replace(SHORT["best"], epochs=1)
    run(out, short)
    with pytest.raises(OutputExistsError, match="--resume"):
        run(out, short)
    with pytest.raises(DataError, match="seed 3, expected 4"):
        run(out, short, seed=4, resume=True)
    with pytest.raises(DataNotFoundError, match="nothing to resume"):
        run(tmp_path / "nowhere", short, resume=True)
    with pytest.raises(DataError, match="unknown model"):
        run(tmp_path / "other", short, name="resnet")


def test_checkpoint_carries_its_training(tmp_path: Path) -> None:
    short = dataclasses.replace(SHORT["reference"], epochs=2)
    trained = run(tmp_path / "run", short, name="cnn_mlp")
    checkpoint = load_checkpoint(trained.checkpoint)
    assert checkpoint.name == "cnn_mlp"
    assert checkpoint.protocol == "synthetic"
    assert checkpoint.temperature == pytest.approx(trained.temperature)
    assert checkpoint.training["seed"] == 3
    assert checkpoint.training["recipe_fields"] == short.to_dict()
    losses = [epoch["validation_loss"] for epoch in checkpoint.training["history"]]
    assert checkpoint.training["selected_epoch"] == int(np.argmin(losses))
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 2
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


DISTRIBUTED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.training.test_fit import SHORT, synthetic_split
from ecgkan.training.fit import train_model
options = {{"accelerator": "cpu", "devices": 2, "strategy": "ddp"}}
trained = train_model(
    "cnn_kan", SHORT["best"], 0, synthetic_split(), Path({out!r}), threads=1, compile_encoder=False,
    trainer_options=options,
)
print("first" if trained is not None else "other")
"""


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    root, out, script = Path(__file__).parents[2], tmp_path / "run", tmp_path / "distributed.py"
    script.write_text(DISTRIBUTED.format(tests=str(root), out=str(out)))
    done = subprocess.run([sys.executable, str(script)], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.split() if line in {"first", "other"}) == ["first", "other"]
    checkpoint = load_checkpoint(out / "cnn_kan.pth")
    assert len(checkpoint.training["history"]) == 4
    assert len((out / "metrics.csv").read_text().splitlines()) == 1 + 4


def test_ctrl_c_leaves_a_resumable_state(tmp_path: Path) -> None:
    run(tmp_path / "whole", SHORT["best"])
    out = tmp_path / "interrupted"
    root = Path(__file__).parents[2]
    script = CHILD.format(tests=str(root), out=str(out), recipe="best")
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=root,
        stderr=subprocess.DEVNULL,
        # Tests that run in the background ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (out / "last.ckpt").exists() and child.poll() is None:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGINT)
    assert child.wait(timeout=60) != 0
    run(out, SHORT["best"], resume=True)
    assert_same_weights(tmp_path / "whole", out)


def test_temperature_undoes_a_known_overconfidence() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(20_000, 5, generator=generator)
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert fit_temperature(3.0 * logits, labels) == pytest.approx(3.0, rel=0.05)
