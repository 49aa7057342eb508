"""`ecgkan evaluate` end to end, on the real test set with untrained models."""

import csv
import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ecgkan import __version__
from ecgkan.cli import app
from ecgkan.data.protocols import SHARED_PATIENTS_NOTE

from .conftest import write_checkpoint

runner = CliRunner()


@pytest.fixture(scope="module")
def evaluated(data_dir, checkpoints, tmp_path_factory):
    """Result and folder of one run over both models, with a log."""
    out = tmp_path_factory.mktemp("evaluated")
    arguments = ["evaluate", *map(str, checkpoints.values()), "--protocol", "random-split", "--data-dir", str(data_dir)]
    result = runner.invoke(app, [*arguments, "--out", str(out / "figures"), "--log", str(out / "log.jsonl")])
    assert result.exit_code == 0, result.output
    return result, out


def test_prints_tables_and_names_the_files(evaluated):
    result, _ = evaluated
    assert "test set, 16,418 beats" in result.stdout
    assert SHARED_PATIENTS_NOTE in result.stdout
    assert "published, other hardware" in result.stdout
    assert "cnn_kan_errors.png" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_writes_json_about_the_real_test_set(evaluated):
    _, out = evaluated
    document = json.loads((out / "figures" / "evaluation.json").read_text())
    assert document["ecgkan"] == __version__
    assert document["note"] == SHARED_PATIENTS_NOTE
    for model in document["models"]:
        assert model["beats_per_class"] == {"N": 13589, "S": 417, "V": 1085, "F": 121, "Q": 1206}
        assert len(model["weights_sha256"]) == 64
        low, high = model["metrics"]["accuracy"]["interval_95"]
        assert low <= model["metrics"]["accuracy"]["value"] <= high
    assert document["reference"]["cnn_mlp"]["figures"]["accuracy"]["reference"] == 0.98


def test_writes_every_prediction(evaluated):
    _, out = evaluated
    with (out / "figures" / "cnn_mlp_predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 16418
    assert sum(row["reference"] == "F" for row in rows) == 121


def test_draws_every_figure(evaluated):
    _, out = evaluated
    names = {f"{m}_{f}" for m in ("cnn_mlp", "cnn_kan") for f in ("confusion", "curves", "reliability", "errors")}
    for name in names | {"comparison", "cnn_mlp_training", "cnn_kan_training"}:
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_logs_the_scorings(evaluated):
    _, out = evaluated
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["model"] for entry in entries] == ["cnn_mlp", "cnn_kan"]


def test_json_prints_one_document_and_nothing_else(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("ecgkan.evaluation.report.FIGURE_FORMATS", ("png",))
    monkeypatch.setattr("ecgkan.evaluation.report.FIGURE_DPI", 40)
    checkpoint = write_checkpoint(tmp_path / "m.pth", "cnn_mlp", training={})
    arguments = ["evaluate", str(checkpoint), "--subset", "validation", "--data-dir", str(data_dir), "--json"]
    result = runner.invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["subset"] == "validation"
    assert document["models"][0]["beats"] == 16418
    assert document["reference"] == {"cnn_mlp": None}
    assert document == json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert result.stderr == ""


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ecgkan` as a process, for its exit status."""
    command = [sys.executable, "-W", "error", "-m", "ecgkan.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "200"})


def test_a_missing_checkpoint_exits_with_1_and_one_line(tmp_path):
    done = run_command("evaluate", str(tmp_path / "no.pth"), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.startswith("ecgkan: no checkpoint")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "cnn_mlp"],
        ["evaluate", "--out", "x"],
        ["evaluate", "cnn_mlp", "--out", "x", "--protocol", "another"],
        ["evaluate", "cnn_mlp", "--out", "x", "--subset", "train"],
        ["evaluate", "cnn_mlp", "--out", "x", "--subset", "validation", "--log", "log.jsonl"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_help_has_an_example():
    result = runner.invoke(app, ["evaluate", "--help"])
    assert result.exit_code == 0
    assert "ecgkan evaluate cnn_mlp cnn_kan --out evaluation" in " ".join(result.stdout.split())
