"""`ecgkan classify` with one and with many recordings: what is printed, JSON, exit status, restart."""

import json
import sys

import pytest
from tests.synthetic import synthetic_ecg, write_record
from typer.testing import CliRunner

from ecgkan.cli import app, main


@pytest.fixture
def archive(tmp_path):
    """A folder with two records in sub-folders, and one whose signal file is cut off."""
    folder = tmp_path / "archive"
    for name, rr_s in (("a/100", 0.8), ("b/200", 0.6)):
        signal, _ = synthetic_ecg(250.0, 10.0, rr_s=rr_s)
        write_record((folder / name).parent, name.rpartition("/")[2], 250.0, {"MLII": signal})
    return folder


def break_one(folder):
    (folder / "broken.hea").write_text("broken 1 250 1000\nmissing.dat 16 200\n")


def run(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.stdout


def fail(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    """Run as the console script does; return the exit status and what was said on standard error."""
    monkeypatch.setattr(sys, "argv", ["ecgkan", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code), " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_many_recordings_print_a_table_and_go_on_after_a_failure(archive, checkpoints, tmp_path):
    break_one(archive)
    out = tmp_path / "out"
    command = ("classify", archive, "--model", checkpoints["cnn_kan"], "--out", out, "--format", "csv,wfdb")
    lines = [" ".join(line.split()) for line in run(*command, status=1).splitlines()]
    assert lines[0] == "recording length beats N S V F Q S and V"
    rows = [line.split() for line in lines if line.startswith(("a/100 ", "b/200 ", "all 2 recordings "))]
    assert [row[0] for row in rows] == ["a/100", "b/200", "all"]
    beats = [int(row[3]) for row in rows[:2]]
    assert beats == [len((out / f"{name}.csv").read_text().splitlines()) - 1 for name in ("a/100", "b/200")]
    assert int(rows[2][5]) == sum(beats)
    [summary] = [line for line in lines if "classified in" in line]
    assert summary.startswith("2 recordings classified in ")
    assert summary.endswith(" per second), 1 failed")
    assert any(line.startswith(f"{archive / 'broken.hea'}: ") and "missing.dat" in line for line in lines)
    assert (out / "failures.csv").read_text().startswith(f"path,error,message\n{archive / 'broken.hea'},")
    assert "A research tool, not a medical device." in lines


def test_many_recordings_as_json_and_resumed(archive, checkpoints, tmp_path):
    out = tmp_path / "out"
    arguments = ("--model", checkpoints["cnn_kan"], "--out", out, "--format", "csv", "--json")
    first = json.loads(run("classify", archive / "a", archive / "b", *arguments))
    assert first["counts"] == {"done": 2, "skipped": 0, "failed": 0}
    assert [recording["relative"] for recording in first["recordings"]] == ["100", "200"]
    assert first["failures"] is None
    assert first["manifest"] == str(out / "manifest.jsonl")
    again = json.loads(run("classify", archive / "a", archive / "b", *arguments, "--resume"))
    assert again["counts"] == {"done": 0, "skipped": 2, "failed": 0}
    assert [{**recording, "status": "done"} for recording in again["recordings"]] == first["recordings"]


def test_a_folder_with_a_single_recording_keeps_its_sub_folder(archive, checkpoints, tmp_path):
    for file in (archive / "b").iterdir():
        file.unlink()
    out = tmp_path / "out"
    run("classify", archive, "--model", checkpoints["cnn_kan"], "--out", out, "--format", "csv")
    assert [str(file.relative_to(out)) for file in out.rglob("*.csv")] == ["a/100.csv"]


def test_one_recording_prints_its_summary_and_keeps_no_manifest(archive, checkpoints, tmp_path):
    command = ("classify", archive / "a" / "*.hea", "--model", checkpoints["cnn_kan"], "--out", tmp_path / "out")
    assert "Record 100, 0 min 10 s" in run(*command, "--format", "csv")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["100.csv"]
    document = json.loads(run(*command, "--format", "csv", "--overwrite", "--json"))
    assert document["record"] == "100"


def test_what_exists_is_not_touched_without_a_word(archive, checkpoints, tmp_path, monkeypatch, capsys):
    (tmp_path / "out" / "b").mkdir(parents=True)
    (tmp_path / "out" / "b" / "200.csv").write_text("mine")
    status, said = fail(
        monkeypatch, capsys, "classify", archive, "--model", checkpoints["cnn_kan"], "--out", tmp_path / "out"
    )
    assert status == 1
    assert "b/200.csv" in said
    assert "--resume" in said
    assert "--overwrite" in said
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["200.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--overwrite", "--resume"], "--resume to skip"),
        (["--format", "csv,pdf"], "unknown formats ['pdf']"),
        (["--format", ""], "unknown formats"),
        (["--workers", "0"], "--workers"),
        (["--annotator", "atr", "--as-annotator", "atr"], "--as-annotator"),
        (["--fs", "fast"], "--fs"),
    ],
)
def test_usage_errors_end_with_2(archive, tmp_path, monkeypatch, capsys, arguments, message):
    status, said = fail(monkeypatch, capsys, "classify", archive, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert message in said
    assert not (tmp_path / "out").exists()


def test_nothing_to_classify_ends_with_1(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    status, said = fail(monkeypatch, capsys, "classify", tmp_path / "empty", "--out", tmp_path / "out")
    assert status == 1
    assert said.startswith("ecgkan: no recordings in")
    assert fail(monkeypatch, capsys, "classify", "memory://nowhere/at/all")[0] == 1


def test_progress_on_a_terminal(archive, checkpoints, tmp_path, monkeypatch, capsys):
    """A line per recording as it finishes, a bar with rate and time left; on standard error."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    break_one(archive)
    arguments = ["classify", archive, "--model", checkpoints["cnn_kan"], "--out", tmp_path, "--format", "csv", "--json"]
    monkeypatch.setattr(sys, "argv", ["ecgkan", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit):
        main()
    captured = capsys.readouterr()
    assert json.loads(captured.out)["counts"]["failed"] == 1
    shown = captured.err
    assert "a/100  " in shown
    assert "FAILED" in shown
    assert "3/3" in shown
    assert "recordings/s" in shown
    assert "left" in shown
