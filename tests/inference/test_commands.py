"""`ecgkan classify`, `ecgkan explain` and `ecgkan demo` as a user runs them: exit status, text, JSON, files."""

import datetime
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import wfdb
from rich.console import Console
from tests.inference.annotated import annotate
from tests.synthetic import synthetic_ecg, write_record
from typer.testing import CliRunner

from ecgkan.cli import app, main
from ecgkan.inference.console import print_classified
from ecgkan.inference.record import ClassifiedRecord


@pytest.fixture
def record(tmp_path):
    """A record with two leads and an annotator, under a name of the training database."""
    signal, rpeaks = synthetic_ecg(360.0, 20.0)
    path = write_record(tmp_path / "records", "100", 360.0, {"V5": 0.7 * signal, "MLII": signal})
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


def test_classify_prints_a_summary_and_names_its_files(record, checkpoints, tmp_path):
    out = tmp_path / "out"
    text = run("classify", record, "--model", checkpoints["cnn_kan"], "--out", out)
    assert "Record 100, 0 min 20 s" in text
    assert "Lead MLII (MLII by name) · R peaks by detector · model cnn_kan" in text
    assert "mean 75/min" in text
    assert "none of at least 2 s; longest RR 0.8" in text
    assert "Agreement" not in text
    names = ["100.csv", "100.ecgkan", "100.html", "100.json"]
    assert sorted(file.name for file in out.iterdir()) == names
    assert all(f"  {out / name}\n" in text for name in names)
    assert max(len(line) for line in text.splitlines() if str(out) not in line) <= 100
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
    summary = document["summary"]
    assert summary["beats"] == sum(summary["counts"].values()) == document["agreement"]["beats"]
    assert np.sum(document["agreement"]["confusion"], axis=1).tolist()[:2] == [1, 1]
    assert [file.rpartition(".")[2] for file in document["files"]] == ["ecgkan", "csv", "json", "html"]


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


@pytest.mark.parametrize("command", ["classify", "demo", "explain"])
def test_help_has_an_example(command):
    assert f"ecgkan {command}" in " ".join(run(command, "--help").split())


def test_a_record_without_beats_is_no_error(checkpoints, tmp_path):
    path = write_record(tmp_path / "records", "flat", 250.0, {"II": np.zeros(5000)})
    text = run("classify", path, "--model", checkpoints["cnn_kan"], "--out", tmp_path)
    assert "heart rate         unknown" in text
    assert "ventricular        none" in text
    assert (tmp_path / "flat.csv").read_text().count("\n") == 1
    assert "N" not in wfdb.rdann(str(tmp_path / "flat"), "ecgkan").symbol


def printed(annotations, **changes) -> str:
    """What `ecgkan classify` prints into a pipe for these annotations."""
    console = Console(file=io.StringIO(), width=100, markup=False, highlight=False)
    values = {"agreement": None, "note": None, "files": (Path("out/rec.csv"),)}
    print_classified(console, ClassifiedRecord(annotations, **(values | changes)))
    return console.file.getvalue()


def long_recording(**changes):
    """Two hours and a half: a run, a couplet, bigeminy, a pause, noise, uncertain beats."""
    classes = ["N"] * 9000
    classes[100:104], classes[200:202], classes[300:307] = "VVVV", "VV", "VNVNVNV"
    classes[500:503] = "SSS"
    steps = np.full(9000, 360)
    steps[4000] = 4 * 360
    probabilities = np.full((9000, 5), 0.01, dtype=np.float32)
    probabilities[:, 0] = 0.96
    probabilities[:90, 0] = 0.5
    noisy = np.array([[1_000_000, 1_003_600], [2_000_000, 2_000_720]])
    values = {"duration_s": 9010.0, "probabilities": probabilities, "left_out": np.array([1_000_100, 1_000_500])}
    values |= {"noisy": noisy, "noisy_reasons": ("noise", "missing")}
    return annotate(classes, np.cumsum(steps), **(values | changes))


def test_what_is_printed_of_a_long_recording():
    text = " ".join(printed(long_recording()).split())
    for said in (
        "Record rec, 2 h 30 min",
        "mean 60/min, lowest 60/min at 0:00:05, highest 60/min at",
        "variability SDNN 0 ms, RMSSD 0 ms over 8,964 NN intervals",
        "pauses 1 of at least 2 s; longest RR 4.00 s at 1:06:40",
        "ventricular 10 beats: 4 isolated, 1 couplet, 1 run; longest run 4 beats at 0:01:41; fastest 60/min at 0:01:41",
        "bigeminy 1 episode, 8 beats",
        "supraventricular 3 beats: 0 isolated, 0 couplets, 1 run; longest run 3 beats at 0:08:21; fastest 60/min",
        "uncertain 90 beats (1.0 %)",
        "excluded 12.1 s (noise 10.0 s, missing 2.0 s, beat left out 0.1 s); 2 beats left out",
        "not a medical device",
    ):
        assert said in text
    lines = printed(long_recording()).splitlines()
    hours = [line.split() for line in lines[[line.startswith("hour ") for line in lines].index(True) + 2 :]][:3]
    assert hours[0] == ["1", "60", "min", "3,599", "60/min", "60/min", "60/min", "3", "10", "0", "0.4", "%"]
    assert [hour[0] for hour in hours] == ["1", "2", "3"]
    assert sum(int(hour[3].replace(",", "")) for hour in hours) == 9000
    assert max(map(len, lines)) <= 100


def test_episodes_of_flutter_are_listed_the_longest_of_many():
    flutter = 100_000 + np.arange(20)[:, None] * 10_000 + np.array([0, 360])
    flutter[3:15, 1] += 720  # three seconds instead of one
    text = " ".join(printed(long_recording(flutter=flutter[:4])).split())
    assert "flutter 4 episodes marked by the annotator, 6.0 s together; 1.0 s at 0:04:37, 1.0 s at" in text
    assert "1.0 s at 0:05:33, 3.0 s at 0:06:01" in text
    text = " ".join(printed(long_recording(flutter=flutter)).split())
    assert "20 episodes marked by the annotator, 44.0 s together; the 12 longest: 3.0 s at 0:06:01, 3.0 s" in text
    assert text.count("3.0 s at") == 12
    assert "flutter" not in printed(long_recording())


def test_what_the_reader_noticed_and_the_time_of_day_are_printed():
    annotations = long_recording(
        started=datetime.datetime(2024, 3, 1, 23, 10),
        inverted=True,
        lead_reason="first lead; none is named MLII or II",
        notes=("units taken as mV",),
    )
    text = " ".join(printed(annotations, note="A note.").split())
    assert "Record rec, 2 h 30 min, started 2024-03-01 23:10:00" in text
    assert "Lead MLII (first lead; none is named MLII or II)" in text
    assert "looks upside down" in text
    assert "Note: units taken as mV" in text
    assert "longest RR 4.00 s at 1:06:40 (00:16:40)" in text
    assert "A note. Wrote" in text
    assert "upside down" not in printed(long_recording())


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
