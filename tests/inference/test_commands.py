"""`ecgkan classify` and `ecgkan demo` as a user runs them: exit status, text, JSON, files."""

import json
import sys

import numpy as np
import pytest
import wfdb
from tests.synthetic import synthetic_ecg, write_record
from typer.testing import CliRunner

from ecgkan.cli import app, main


@pytest.fixture
def record(tmp_path):
    """A record with two leads and an annotator, under a name of the training database."""
    signal, rpeaks = synthetic_ecg(360.0, 20.0)
    other, _ = synthetic_ecg(360.0, 20.0, rr_s=1.1)
    path = write_record(tmp_path / "records", "100", 360.0, {"V5": other, "MLII": signal})
    symbols = ["N", "A"] + ["V"] * (len(rpeaks) - 2)
    wfdb.wrann("100", "atr", np.array([0, *rpeaks]), symbol=["+", *symbols], write_dir=str(path.parent))
    return path


def run(*arguments) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fail(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    """Run as the console script does; return the exit status and what was said on standard error."""
    monkeypatch.setattr(sys, "argv", ["ecgkan", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code), capsys.readouterr().err


def test_classify_prints_a_summary_and_writes_two_files(record, checkpoints, tmp_path):
    out = tmp_path / "out"
    text = run("classify", record, "--model", checkpoints["cnn_kan"], "--out", out)
    assert "Record 100, 0 min 20 s" in text
    assert "Lead MLII · R peaks by detector" in text
    assert "Heart rate 75/min" in text
    assert "Agreement" not in text
    assert str(out / "100.csv") in text
    assert str(out / "100.ecgkan") in text
    assert sorted(file.name for file in out.iterdir()) == ["100.csv", "100.ecgkan"]
    assert len(wfdb.rdann(str(out / "100"), "ecgkan").sample) == len(synthetic_ecg(360.0, 20.0)[1])


def test_classify_says_that_the_models_know_the_patient(record, checkpoints, tmp_path):
    text = run("classify", record, "--model", checkpoints["cnn_kan"], "--annotator", "atr", "--out", tmp_path)
    assert "Agreement with annotator atr:" in text
    assert "says nothing about how they do on a new one" in " ".join(text.split())


def test_classify_prints_json_and_nothing_else(record, checkpoints, tmp_path):
    arguments = ("--model", checkpoints["cnn_mlp"], "--annotator", "atr", "--lead", "V5", "--out", tmp_path, "--json")
    document = json.loads(run("classify", record.with_suffix(".hea"), *arguments))
    assert (document["record"], document["lead"], document["model"]) == ("100", "V5", "cnn_mlp")
    assert document["rpeaks"] == "annotator atr"
    assert document["beats"] == sum(document["counts"].values()) == document["agreement"]["beats"]
    assert np.sum(document["agreement"]["confusion"], axis=1).tolist()[:2] == [1, 1]
    assert len(document["files"]) == 2


def test_classify_leaves_what_exists(record, checkpoints, tmp_path, monkeypatch, capsys):
    (tmp_path / "100.csv").write_text("mine")
    arguments = ("classify", record, "--model", checkpoints["cnn_kan"], "--out", tmp_path)
    status, message = fail(monkeypatch, capsys, *arguments)
    assert status == 1
    assert "100.csv exists" in message
    assert (tmp_path / "100.csv").read_text() == "mine"
    assert not (tmp_path / "100.ecgkan").exists()
    run(*arguments, "--overwrite")
    assert (tmp_path / "100.csv").read_text().startswith("sample,time_s,class")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--lead", "V9"], "no lead 'V9'"),
        (["--annotator", "qrs"], "no annotation file"),
        (["--model", "cnn_lstm"], "no checkpoint cnn_lstm"),
    ],
)
def test_classify_names_what_is_missing(record, checkpoints, tmp_path, monkeypatch, capsys, changes, message):
    arguments = ["classify", record, "--model", checkpoints["cnn_kan"], "--out", tmp_path / "out", *changes]
    status, said = fail(monkeypatch, capsys, *arguments)
    assert status == 1
    assert message in said
    assert said.startswith("ecgkan: ")
    assert not (tmp_path / "out").exists()


def test_a_missing_record_and_a_missing_argument(tmp_path, monkeypatch, capsys):
    assert fail(monkeypatch, capsys, "classify", tmp_path / "nowhere")[0] == 1
    assert fail(monkeypatch, capsys, "classify")[0] == 2
    assert fail(monkeypatch, capsys, "demo", "--models")[0] == 2


@pytest.mark.parametrize("command", ["classify", "demo"])
def test_help_has_an_example(command):
    assert f"ecgkan {command}" in " ".join(run(command, "--help").split())


def test_a_record_without_beats_is_no_error(checkpoints, tmp_path):
    path = write_record(tmp_path / "records", "flat", 250.0, {"II": np.zeros(5000)})
    text = run("classify", path, "--model", checkpoints["cnn_kan"], "--out", tmp_path)
    assert "Heart rate unknown" in text
    assert (tmp_path / "flat.csv").read_text().count("\n") == 1
    assert wfdb.rdann(str(tmp_path / "flat"), "ecgkan").sample.tolist() == []


def test_demo_names_each_file_it_writes(tmp_path):
    """With the shipped models, from the checkpoints folder."""
    text = run("demo", "--out", tmp_path / "demo")
    files = [file for file in (tmp_path / "demo").rglob("*") if file.is_file()]
    assert len(files) == 10
    for file in files:
        assert str(file) in text
    assert "CNN+MLP" in text
    assert "CNN+KAN" in text
    assert "reference" in text
