"""Archives: each recording done once and whole, whatever dies on the way; manifest, restart, stores, workers."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import wfdb
from hypothesis import given
from hypothesis import strategies as st
from tests.synthetic import synthetic_ecg, write_record

from ecgkan.errors import DataError, DataNotFoundError, EcgkanError, MissingExtraError, OutputExistsError
from ecgkan.inference.archive import ArchiveRecording, classify_archive, plan_archive
from ecgkan.inference.cluster import RayCrew
from ecgkan.inference.manifest import (
    Failure,
    ManifestEntry,
    format_failures,
    format_plan,
    read_failures,
    read_manifest,
    read_plan,
)
from ecgkan.inference.record import ClassifyOptions
from ecgkan.inference.stores import LocalFolder, header_files, open_output, publish
from ecgkan.inference.workers import (
    MAX_ATTEMPTS,
    Outcome,
    ProcessCrew,
    RecordingTask,
    WorkerEvent,
    WorkerSetup,
    _delaying_interrupts,
    classify_with,
    fail,
)

LAYOUT = ("a/100", "a/101", "b/100", "top")


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> Path:
    """Four records of ten seconds in three folders, and their R peaks."""
    folder = tmp_path_factory.mktemp("records")
    for i, relative in enumerate(LAYOUT):
        signal, _ = synthetic_ecg(250.0, 10.0, rr_s=0.7 + 0.1 * i)
        path = folder / relative
        write_record(path.parent, path.name, 250.0, {"MLII": signal})
    return folder


@pytest.fixture(scope="session")
def _known() -> dict:
    return {}


@pytest.fixture
def remembered(monkeypatch, _known):
    """Let what these tests classify in this process again and again be classified once; all else is as it is."""
    from ecgkan.inference import record

    classify = record.classify

    def look_up(source, model, **options):
        signals = source.read(0, source.n_samples, range(len(source.leads)))
        key = (source.name, signals.tobytes(), model.sha256, options["lead"])
        if key not in _known:
            _known[key] = classify(source, model, **options)
        return _known[key]

    monkeypatch.setattr(record, "classify", look_up)


@pytest.fixture
def options(checkpoints) -> ClassifyOptions:
    return ClassifyOptions(model=str(checkpoints["cnn_kan"]), formats=("csv", "wfdb"))


def recordings(folder: Path, layout=LAYOUT) -> list[ArchiveRecording]:
    return [
        ArchiveRecording(str(folder / f"{relative}.hea"), str(Path(relative).parent).replace(".", ""))
        for relative in layout
    ]


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.jsonl"
    }


def read_table(path: Path) -> list[dict]:
    return list(csv.DictReader(path.read_text().splitlines()))


def manifest_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def assert_each_done_once(out: Path, layout=LAYOUT) -> None:
    """The manifest has each recording once; what lies there is what it lists, in full, and nothing half-done."""
    lines = manifest_lines(out)
    assert Counter(line["relative"] for line in lines) == Counter(layout)
    listed = {name: size for line in lines for name, size in line["outputs"].items()}
    found = {name: len(contents) for name, contents in files_below(out).items()}
    assert found == listed
    for line in lines:
        beats = wfdb.rdann(str(out / line["relative"]), "ecgkan").symbol
        table = read_table(out / f"{line['relative']}.csv")
        assert line["beats"] == len(table) == sum(symbol in "NSVFQ" for symbol in beats)
    assert not list(out.rglob("*.part"))
    assert not (out / ".ecgkan-plan").exists()


@contextmanager
def one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The manifest


def make_entry(**changes) -> ManifestEntry:
    values = {
        "path": "/r/100.hea",
        "relative": "100",
        "outputs": {"100.csv": 3},
        "beats": 1,
        "counts": dict.fromkeys("NSVFQ", 0),
        "duration_s": 10.0,
        "seconds": 0.1,
        "model": "cnn_kan",
        "weights_sha256": "ab",
        "options": {"lead": None},
        "version": "0",
        "started": "2025-01-01T00:00:00+00:00",
        "finished": "2025-01-01T00:00:01+00:00",
    }
    return ManifestEntry(**(values | changes))


@given(st.lists(st.text(min_size=1), unique=True), st.integers(min_value=1, max_value=30))
def test_a_manifest_cut_short_loses_its_last_line_only(names, cut):
    entries = [make_entry(relative=name, path=f"/r/{name}") for name in names]
    text = "".join(entry.to_line() for entry in entries)
    assert read_manifest(text, "m") == dict(zip(names, entries, strict=True))
    kept = read_manifest(text[:-cut], "m")
    assert list(kept) == names[: max(len(names) - 1, 0)]


def test_of_two_lines_of_one_recording_the_last_counts():
    text = make_entry(beats=1).to_line() + make_entry(beats=2).to_line()
    assert read_manifest(text, "m")["100"].beats == 2


@pytest.mark.parametrize("line", ["{}\n", "[1]\n", "mine\n", '{"path": 1}\n'])
def test_a_file_that_is_no_manifest_is_refused(line):
    with pytest.raises(DataError, match=r"results/manifest\.jsonl, line 2"):
        read_manifest(make_entry().to_line() + line + make_entry().to_line(), "results/manifest.jsonl")


@given(st.lists(st.text(), unique=True))
def test_plans_hold_any_name(names):
    assert read_plan(format_plan(names)) == set(names)
    assert read_plan(format_plan(names)[:-1]) == set(names[:-1])


# Files of a record


def test_header_files_of_single_and_segmented_records():
    headers = {
        "one.hea": "# by hand\none 2 360 1000\none.dat 212 200 11 1024 0 0 0 MLII\none.dat 212 200 11 0 0 0 0 V5\n",
        "two.hea": "two 2 360 1000\ntwo_a.dat 16 200\ntwo_b.dat 16 200\n",
        "layout.hea": "layout 2 360 0\n~ 0 200\n~ 0 200\n",
        "all.hea": "all/4 2 360 2500\nlayout 0\none 1000\n~ 500\ntwo 1000\n# about the patient\n",
    }
    assert list(header_files(headers["one.hea"], headers.__getitem__)) == ["one.dat"]
    assert list(header_files(headers["two.hea"], headers.__getitem__)) == ["two_a.dat", "two_b.dat"]
    assert sorted(header_files(headers["all.hea"], headers.__getitem__)) == [
        "layout.hea",
        "one.dat",
        "one.hea",
        "two.hea",
        "two_a.dat",
        "two_b.dat",
    ]
    assert list(header_files("", headers.__getitem__)) == []


# Workers that die, without workers


class PaperCrew:
    """Workers on paper: those that draw a task listed in `deadly` die, as often as it says."""

    def __init__(self, deadly, stillborn=0):
        self.deadly, self.stillborn = Counter(deadly), stillborn
        self.news, self.alive, self.most, self.dismissed = deque(), set(), 0, False

    def hire(self, worker):
        if self.stillborn:
            self.stillborn -= 1
            self.news.append(WorkerEvent(worker, death="at birth"))
            return
        self.alive.add(worker)
        self.most = max(self.most, len(self.alive))
        self.news.append(WorkerEvent(worker))

    def give(self, worker, task):
        assert worker in self.alive
        if self.deadly[task.path]:
            self.deadly[task.path] -= 1
            self.alive.remove(worker)
            self.news.append(WorkerEvent(worker, death="by signal SIGKILL"))
        else:
            self.news.append(WorkerEvent(worker, outcome=Outcome(task, make_entry(path=task.path), None)))

    def wait(self):
        assert self.news, "waiting for nobody"
        return [self.news.popleft()]

    def dismiss(self):
        self.dismissed = True


@given(
    deaths=st.lists(st.integers(min_value=0, max_value=5), max_size=12),
    size=st.integers(min_value=1, max_value=4),
    stillborn=st.integers(min_value=0, max_value=MAX_ATTEMPTS - 1),
)
def test_each_task_has_one_outcome_whoever_dies(deaths, size, stillborn):
    tasks = [RecordingTask(str(i), str(i), "") for i in range(len(deaths))]
    crew = PaperCrew({str(i): count for i, count in enumerate(deaths)}, stillborn)
    outcomes = {outcome.task.path: outcome for outcome in classify_with(crew, tasks, size)}
    assert sorted(outcomes) == sorted(task.path for task in tasks)
    for i, count in enumerate(deaths):
        failure = outcomes[str(i)].failure
        assert (failure is not None) == (count >= MAX_ATTEMPTS)
        assert failure is None or "died 3 times, at last by signal SIGKILL" in failure.message
    assert crew.most <= size
    assert crew.dismissed


def test_workers_that_never_get_ready_end_the_run():
    crew = PaperCrew({}, stillborn=10**6)
    with pytest.raises(EcgkanError, match="workers die while they start: at birth"):
        list(classify_with(crew, [RecordingTask("a", "a", "")], 2))
    assert crew.dismissed


# Runs in this process


using_memory = pytest.mark.usefixtures("remembered")


@using_memory
def test_outputs_mirror_folders_and_failures_do_not_stop_the_rest(records, options, tmp_path):
    source = recordings(records)
    broken = tmp_path / "broken.hea"
    broken.write_text("broken 1 250 1000\nmissing.dat 16 200\n")
    source.insert(1, ArchiveRecording(str(broken), "b"))
    out = tmp_path / "out"
    report = classify_archive(source, out, options)
    assert [entry.relative for entry in report.done] == list(LAYOUT)
    assert [failure.path for failure in report.failed] == [str(broken)]
    [row] = read_table(out / "failures.csv")
    assert row["path"] == str(broken)
    assert row["error"] == "DataNotFoundError"
    assert "missing.dat" in row["message"]
    (out / "failures.csv").unlink()
    (out / ".ecgkan-plan").unlink()  # for as long as something is left to be done
    assert_each_done_once(out)
    document = report.to_dict()
    assert document["counts"] == {"done": 4, "skipped": 0, "failed": 1}
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@using_memory
def test_the_manifest_says_what_made_it(records, options, checkpoints, tmp_path):
    import hashlib

    classify_archive(recordings(records), tmp_path, options)
    for line in manifest_lines(tmp_path):
        assert line["path"] == str(records / f"{line['relative']}.hea")
        assert line["model"] == "cnn_kan"
        assert line["weights_sha256"] == hashlib.sha256(checkpoints["cnn_kan"].read_bytes()).hexdigest()
        assert line["duration_s"] == 10.0
        assert line["beats"] == sum(line["counts"].values()) > 5
        assert line["started"] <= line["finished"]
        assert line["version"]


@using_memory
def test_what_exists_is_left_alone_before_anything_is_done(records, options, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "100.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"b/100\.csv.*--resume.*--overwrite"):
        classify_archive(recordings(records), tmp_path, options)
    assert [path.name for path in tmp_path.rglob("*")] == ["b", "100.csv"]
    # Nobody said that it was made by a run: to resume does not mean to replace it.
    with pytest.raises(OutputExistsError, match=r"b/100\.csv, which is in no manifest"):
        classify_archive(recordings(records), tmp_path, options, resume=True)
    assert (tmp_path / "b" / "100.csv").read_text() == "mine"


@using_memory
def test_resume_does_what_is_missing_and_nothing_else(records, options, tmp_path):
    source = recordings(records)
    classify_archive(source[:2], tmp_path, options)
    before = files_below(tmp_path)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    with pytest.raises(OutputExistsError):
        classify_archive(source, tmp_path, options)
    report = classify_archive(source, tmp_path, options, resume=True)
    assert [entry.relative for entry in report.done] == ["b/100", "top"]
    assert [entry.relative for entry in report.skipped] == ["a/100", "a/101"]
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == times
    assert_each_done_once(tmp_path)


@using_memory
@pytest.mark.parametrize("harm", ["cut", "removed", "unlisted", "torn"])
def test_resume_redoes_what_is_not_there_in_full(records, options, tmp_path, harm):
    source = recordings(records)
    classify_archive(source, tmp_path, options)
    whole = files_below(tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    victim = tmp_path / "top.csv"
    if harm == "cut":
        victim.write_bytes(victim.read_bytes()[:-20])
    elif harm == "removed":
        victim.unlink()
    else:  # a run that was killed after the outputs were there, before or while the manifest had a line of it
        lines = manifest.read_text().splitlines(keepends=True)
        manifest.write_text("".join(lines[:-1]) + (lines[-1][:40] if harm == "torn" else ""))
        (tmp_path / ".ecgkan-plan").write_text(format_plan(list(LAYOUT)))
    report = classify_archive(source, tmp_path, options, resume=True)
    assert [entry.relative for entry in report.done] == ["top"]
    assert files_below(tmp_path) == whole
    assert_each_done_once(tmp_path)


@using_memory
def test_resume_redoes_a_recording_that_has_changed(records, options, tmp_path):
    signal, _ = synthetic_ecg(250.0, 10.0)
    path = write_record(tmp_path / "records", "100", 250.0, {"II": signal})
    source = [ArchiveRecording(f"{path}.hea", "")]
    out = tmp_path / "out"
    first = classify_archive(source, out, options).done[0]
    assert classify_archive(source, out, options, resume=True).done == ()
    write_record(tmp_path / "records", "100", 250.0, {"II": np.tile(signal, 2)})
    (tmp_path / "records" / "100.hea").touch()
    os.utime(tmp_path / "records" / "100.dat", (time.time() + 5, time.time() + 5))
    again = classify_archive(source, out, options, resume=True).done[0]
    assert again.duration_s == 2 * first.duration_s
    assert [line["duration_s"] for line in manifest_lines(out)] == [20.0]


@using_memory
@pytest.mark.parametrize("change", [{"lead": "MLII"}, {"formats": ("csv",)}, {"model": "cnn_mlp"}])
def test_resume_with_other_options_is_refused(records, options, checkpoints, tmp_path, change):
    classify_archive(recordings(records)[:1], tmp_path, options)
    if "model" in change:
        change = {"model": str(checkpoints["cnn_mlp"])}
    with pytest.raises(OutputExistsError, match="made with other options"):
        classify_archive(recordings(records), tmp_path, replace(options, **change), resume=True)
    assert len(manifest_lines(tmp_path)) == 1


@using_memory
def test_overwrite_does_all_again(records, options, tmp_path):
    classify_archive(recordings(records), tmp_path, options)
    (tmp_path / "top.csv").write_text("mine")
    report = classify_archive(recordings(records)[3:], tmp_path, replace(options, overwrite=True))
    assert [entry.relative for entry in report.done] == ["top"]
    assert_each_done_once(tmp_path)


@using_memory
def test_failures_are_tried_again_and_forgotten_when_mended(records, options, tmp_path):
    broken = tmp_path / "records"
    signal, _ = synthetic_ecg(250.0, 10.0)
    path = write_record(broken, "100", 250.0, {"II": signal})
    hidden = path.with_suffix(".dat").rename(broken / "away")
    source = [ArchiveRecording(f"{path}.hea", "")]
    out = tmp_path / "out"
    assert len(classify_archive(source, out, options).failed) == 1
    assert (out / "failures.csv").exists()
    hidden.rename(path.with_suffix(".dat"))
    assert len(classify_archive(source, out, options, resume=True).done) == 1
    assert_each_done_once(out, ["100"])


def broken_recording(folder: Path, name: str) -> ArchiveRecording:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.hea").write_text(f"{name} 1 250 1000\nmissing.dat 16 200\n")
    return ArchiveRecording(str(folder / f"{name}.hea"), "")


@using_memory
def test_failures_of_recordings_that_a_run_is_not_about_stay_listed(records, options, tmp_path):
    first, second = (broken_recording(tmp_path / "records", name) for name in ("x", "y"))
    out = tmp_path / "out"
    classify_archive([first, second], out, options)
    classify_archive([second, *recordings(records)], out, options, resume=True)
    assert [Path(row["path"]).stem for row in read_table(out / "failures.csv")] == ["x", "y"]
    classify_archive(recordings(records), out, options, resume=True)
    assert [Path(row["path"]).stem for row in read_table(out / "failures.csv")] == ["x", "y"]


@using_memory
def test_failures_are_listed_when_they_happen(options, tmp_path):
    """So that a run that is killed has them."""
    seen = []

    def look(outcome):
        seen.append([Path(row["path"]).stem for row in read_table(tmp_path / "out" / "failures.csv")])

    broken = [broken_recording(tmp_path / "records", name) for name in "xyz"]
    classify_archive(broken, tmp_path / "out", options, on_outcome=look)
    assert seen == [["x"], ["x", "y"], ["x", "y", "z"]]


@given(st.lists(st.builds(Failure, *[st.text(st.characters(exclude_characters="\0\r", codec="utf-8"))] * 3)))
def test_any_failure_is_read_back(failures):
    assert read_failures(format_failures(failures)) == [row for row in failures if row != Failure._fields]
    assert read_failures("") == []


@using_memory
def test_what_an_interrupted_run_left_can_be_resumed_after_a_run_of_a_part(records, options, tmp_path):
    """The run that does all again is stopped after one; a run of another part does not make the rest strangers."""
    classify_archive(recordings(records), tmp_path, options)

    def stop(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify_archive(recordings(records), tmp_path, replace(options, overwrite=True), on_outcome=stop)
    part = classify_archive(recordings(records)[1:2], tmp_path, options, resume=True)
    assert [entry.relative for entry in part.done] == ["a/101"]
    rest = classify_archive(recordings(records), tmp_path, options, resume=True)
    assert [entry.relative for entry in rest.done] == ["b/100", "top"]
    assert_each_done_once(tmp_path)


def test_resume_redoes_a_recording_whose_annotations_have_changed(options, tmp_path):
    signal, rpeaks = synthetic_ecg(250.0, 10.0)
    path = write_record(tmp_path / "records", "100", 250.0, {"II": signal})
    wfdb.wrann("100", "atr", rpeaks, symbol=["N"] * len(rpeaks), write_dir=str(path.parent))
    source, asked = [ArchiveRecording(f"{path}.hea", "")], replace(options, annotator="atr")
    first = classify_archive(source, tmp_path / "out", asked).done[0]
    assert not classify_archive(source, tmp_path / "out", asked, resume=True).done
    wfdb.wrann("100", "atr", rpeaks[:-2], symbol=["N"] * (len(rpeaks) - 2), write_dir=str(path.parent))
    os.utime(path.with_suffix(".atr"), (time.time() + 5, time.time() + 5))
    assert classify_archive(source, tmp_path / "out", asked, resume=True).done[0].beats == first.beats - 2


def test_names_with_dots_are_whole_names(options, tmp_path):
    """What a worker writes and what the plan expects must be the same files."""
    found = [ArchiveRecording(f"{tmp_path}/{name}", "") for name in ("1.2.840.7", "1.2.840.8", "day.1.edf")]
    plan = plan_archive(found, options, LocalFolder(tmp_path), {}, "", resume=False)
    assert [task.name for task in plan.tasks] == ["1.2.840.7", "1.2.840.8", "day.1"]
    assert not plan.failed


def test_a_line_that_a_full_disk_cuts_short_is_taken_back(tmp_path):
    """Here a limit on the size of files; else the next line would be glued to what was left of this one."""
    resource = pytest.importorskip("resource")
    folder, line = LocalFolder(tmp_path), make_entry().to_line()
    folder.append("manifest.jsonl", line)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(line) + 20, before[1]))
    try:
        with pytest.raises(EcgkanError, match=r"cannot write .*manifest\.jsonl.*--resume"):
            folder.append("manifest.jsonl", line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "manifest.jsonl").read_text() == line


@using_memory
def test_two_recordings_do_not_write_the_same_files(records, options, tmp_path):
    signal, _ = synthetic_ecg(250.0, 10.0)
    other = write_record(tmp_path / "records", "top", 250.0, {"II": signal})
    named = write_record(tmp_path / "records", "failures", 250.0, {"II": signal})
    source = [*recordings(records), ArchiveRecording(f"{other}.hea", ""), ArchiveRecording(f"{named}.hea", "")]
    report = classify_archive(source, tmp_path / "out", options)
    assert [entry.relative for entry in report.done] == list(LAYOUT)
    [taken, reserved] = report.failed
    assert taken.path == f"{other}.hea"
    assert f"its output top.csv is that of {records / 'top.hea'}" in taken.message
    assert "failures.csv is that of the list of what was done" in reserved.message


@using_memory
def test_a_recording_is_never_written_over(options, tmp_path):
    signal, _ = synthetic_ecg(250.0, 10.0)
    path = write_record(tmp_path, "100", 250.0, {"II": signal})
    (tmp_path / "100.csv").write_text("II\n" + "\n".join(f"{value:.4f}" for value in signal))
    source = [ArchiveRecording(f"{path}.hea", ""), ArchiveRecording(str(tmp_path / "100.csv"), "")]
    before = (tmp_path / "100.csv").read_bytes()
    report = classify_archive(source, tmp_path, replace(options, overwrite=True))
    assert "100.csv is a recording itself" in report.failed[0].message
    assert (tmp_path / "100.csv").read_bytes() == before


@using_memory
def test_results_beside_the_recordings_are_no_recordings(options, tmp_path):
    signal, _ = synthetic_ecg(250.0, 10.0)
    path = write_record(tmp_path, "100", 250.0, {"II": signal})
    source = [ArchiveRecording(f"{path}.hea", "")]
    classify_archive(source, tmp_path, options)
    found_later = [*source, ArchiveRecording(str(tmp_path / "100.csv"), "")]
    report = classify_archive(found_later, tmp_path, options, resume=True)
    assert (len(report.done), len(report.skipped), len(report.failed)) == (0, 1, 0)


@using_memory
def test_a_second_run_into_the_same_folder_waits_its_turn(records, options, tmp_path):
    first = LocalFolder(tmp_path)
    first.claim()
    with pytest.raises(EcgkanError, match="another run of ecgkan is writing"):
        classify_archive(recordings(records), tmp_path, options)
    first.release([])
    assert len(classify_archive(recordings(records), tmp_path, options).done) == 4


@using_memory
def test_a_missing_model_is_told_before_anything_is_written(records, tmp_path):
    with pytest.raises(DataNotFoundError, match="no checkpoint"):
        classify_archive(recordings(records), tmp_path / "out", ClassifyOptions(model="cnn_lstm"))
    assert not (tmp_path / "out").exists()


# Processes


def test_processes_do_the_same_as_one_and_survive_the_death_of_one(records, options, tmp_path):
    """A worker is killed at its first recording; what all write together is what one process writes."""
    tasks = [RecordingTask(r.path, Path(r.path).stem, r.folder) for r in recordings(records)]
    (tmp_path / "many").mkdir()
    crew = ProcessCrew(WorkerSetup(str(tmp_path / "many"), replace(options, overwrite=True), threads=1))
    outcomes, killed = [], None
    for outcome in classify_with(crew, tasks, 2):
        outcomes.append(outcome)
        if killed is None:
            killed = next(iter(crew._processes.values()))[0]
            os.kill(killed.pid, signal.SIGKILL)
    assert Counter(outcome.task for outcome in outcomes) == Counter(tasks)
    assert not any(outcome.failure for outcome in outcomes)
    assert killed.exitcode == -signal.SIGKILL
    with one_torch_thread():  # the last bits of a small batch depend on it
        classify_archive(recordings(records), tmp_path / "one", options)
    LocalFolder(tmp_path / "many").release(["", "a", "b"])  # as the run that owns the folder does
    assert files_below(tmp_path / "many") == files_below(tmp_path / "one")


def test_a_recording_that_kills_its_workers_becomes_a_failure(options, tmp_path):
    """Its header is a pipe that nobody writes to: whoever opens it waits, and is killed."""
    os.mkfifo(tmp_path / "pipe.hea")
    task = RecordingTask(str(tmp_path / "pipe.hea"), "pipe", "")
    crew = ProcessCrew(WorkerSetup(str(tmp_path / "out"), options, threads=1))
    give = crew.give

    def give_and_kill(worker, task):
        give(worker, task)
        os.kill(crew._processes[worker][0].pid, signal.SIGKILL)

    crew.give = give_and_kill
    [outcome] = classify_with(crew, [task], 1)
    assert outcome.failure.error == "WorkerDiedError"
    assert "died 3 times, at last by signal SIGKILL, as happens when memory runs out" in outcome.failure.message


def test_ctrl_c_while_a_worker_starts_is_heeded_afterwards():
    done = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores the signal
    try:
        with pytest.raises(KeyboardInterrupt), _delaying_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            done.append("started and known")
        assert done
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_unusable_model_is_an_error_and_no_endless_hiring(options, tmp_path):
    setup = WorkerSetup(str(tmp_path), replace(options, model=str(tmp_path / "gone.pth")))
    with pytest.raises(DataNotFoundError, match="no checkpoint"):
        list(classify_with(ProcessCrew(setup), [RecordingTask("a", "a", "")], 2))


def _processes_of_session(session: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
def test_a_worker_ends_with_the_process_that_hired_it(tmp_path):
    """Also where that is killed and cannot say good-bye."""
    (tmp_path / "boss.py").write_text(
        "import multiprocessing, os, signal\n"
        "from ecgkan.inference.workers import _die_with_parent\n"
        "if __name__ == '__main__':\n"
        "    worker = multiprocessing.get_context('spawn').Process(target=_die_with_parent)\n"
        "    worker.start()\n"
        "    print(worker.pid, flush=True)\n"
        "    input()\n"
    )
    command = [sys.executable, str(tmp_path / "boss.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as boss:
        worker = boss.stdout.readline().strip()
        assert worker in _processes_of_session(boss.pid)
        os.kill(boss.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while _processes_of_session(boss.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _processes_of_session(boss.pid) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
def test_an_interrupted_run_leaves_no_process_and_goes_on(records, options, tmp_path):
    many = tmp_path / "records"
    layout = [f"{i:02d}" for i in range(8)]
    for name in layout:
        for extension in (".hea", ".dat"):
            text = (records / f"top{extension}").read_bytes()
            (many / name).parent.mkdir(exist_ok=True)
            (many / f"{name}{extension}").write_bytes(
                text.replace(b"top", name.encode()) if extension == ".hea" else text
            )
    out = tmp_path / "out"
    # SIGINT starts out ignored in a background job; a terminal's Ctrl-C reaches the whole group.
    command = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ecgkan.cli import main; main()"
    )
    arguments = ["classify", str(many), "--out", str(out), "--workers", "2", "--model", options.model]
    run = subprocess.Popen(
        [sys.executable, "-c", command, *arguments, "--format", "csv,wfdb"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (out / "manifest.jsonl").exists() or not (out / "manifest.jsonl").stat().st_size:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=30)[1]
        deadline = time.monotonic() + 10
        while _processes_of_session(run.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _processes_of_session(run.pid) == []
    finally:
        for process in _processes_of_session(run.pid):
            os.kill(int(process), signal.SIGKILL)
    assert run.returncode == 130
    assert "Traceback" not in said
    assert "the same command with --resume goes on" in said
    done = len(manifest_lines(out))
    assert 0 < done < len(layout)
    source = [ArchiveRecording(str(many / f"{name}.hea"), "") for name in layout]
    report = classify_archive(source, out, options, resume=True)
    assert len(report.skipped) == done
    assert_each_done_once(out, layout)


# Ray


@pytest.fixture(scope="module")
def ray_cluster():
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'ecgkan[cluster]'")
    from ecgkan.inference.cluster import _connect, _import_ray

    _import_ray()
    _connect(ray, "local", 2)
    yield ray
    ray.shutdown()


def test_ray_does_each_recording_once_though_a_worker_is_killed(records, options, tmp_path, ray_cluster):
    killed = []

    def kill_a_worker(outcome):
        """Kill one of the processes that Ray gave our actors, once."""
        if killed:
            return
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if b"ray::_Worker" in command.read_bytes():
                    killed.append(int(command.parent.name))
                    os.kill(killed[0], signal.SIGKILL)
                    return
            except OSError:
                continue

    report = classify_archive(recordings(records), tmp_path, options, ray="local", workers=2, on_outcome=kill_a_worker)
    assert killed
    assert not report.failed
    assert_each_done_once(tmp_path)


@pytest.mark.parametrize("error", ["OutOfMemoryError", "NodeDiedError", "WorkerCrashedError", "ObjectLostError"])
def test_whatever_ends_an_actor_is_a_death_and_not_the_recordings_fault(error):
    """Ray has many names for it; a death costs a retry, an outcome would be the last word."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'ecgkan[cluster]'")
    raised = getattr(ray.exceptions, error)
    killed = []

    def get(reference):
        raise raised("0" * 28, "owner", "call site") if error == "ObjectLostError" else raised("no more memory")

    crew = object.__new__(RayCrew)
    crew._ray = SimpleNamespace(get=get, kill=killed.append, exceptions=ray.exceptions)
    crew._actors, crew._pending = {7: "actor"}, {"reference": (7, RecordingTask("p", "n", ""))}
    event = crew._receive("reference")
    assert (event.worker, event.outcome, killed) == (7, None, ["actor"])
    assert event.death


def test_the_cluster_file_in_the_documentation_is_one():
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'ecgkan[cluster]'")
    import jsonschema  # Ray needs it
    import yaml

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    page = (Path(__file__).parents[2] / "docs" / "archives.md").read_text()
    config = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]


def test_without_ray_the_extra_is_named(records, options, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ecgkan\[cluster\]'"):
        classify_archive(recordings(records), tmp_path, options, ray="local")


# Object storage, here in memory


@pytest.fixture
def memory():
    import fsspec

    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@using_memory
def test_from_store_to_store(records, options, memory, tmp_path):
    from ecgkan.inference.search import find_archive

    memory.put(str(records), "/bucket/records", recursive=True)
    found = find_archive(["memory://bucket/records"])
    assert sorted(recording.folder for recording in found) == ["", "a", "a", "b"]
    report = classify_archive(found, "memory://bucket/results", options)
    assert not report.failed
    memory.get("/bucket/results", str(tmp_path / "fetched"), recursive=True)
    assert_each_done_once(tmp_path / "fetched")
    classify_archive(recordings(records), tmp_path / "local", options)
    assert files_below(tmp_path / "fetched") == files_below(tmp_path / "local")

    memory.rm_file("/bucket/results/top.csv")
    with pytest.raises(OutputExistsError):
        classify_archive(found, "memory://bucket/results", options)
    again = classify_archive(found, "memory://bucket/results", options, resume=True)
    assert [entry.relative for entry in again.done] == ["top"]
    assert memory.exists("/bucket/results/top.csv")


def test_a_store_without_the_signal_file(records, options, memory, tmp_path):
    memory.put(str(records / "top.hea"), "/bucket/top.hea")
    report = classify_archive([ArchiveRecording("memory://bucket/top.hea", "")], tmp_path, options)
    assert "top.dat is not there; top.hea needs it" in report.failed[0].message


def test_lines_travel_to_a_store_in_parts_and_are_put_together(memory):
    folder = open_output("memory://bucket/results")
    folder.write_text("manifest.jsonl", "a\n")
    for line in "bcd":
        folder.append("manifest.jsonl", f"{line}\n")
        folder.send()
    assert len(memory.glob("/bucket/results/*")) == 4
    assert open_output("memory://bucket/results").read_text("manifest.jsonl") == "a\nb\nc\nd\n"
    folder.flush()
    assert memory.find("/bucket/results") == ["/bucket/results/manifest.jsonl"]
    assert memory.cat_file("/bucket/results/manifest.jsonl") == b"a\nb\nc\nd\n"


@pytest.fixture
def fragile(memory):
    """A store in which an upload can be seen half-done; the next one of a name in `breaks` stops half-way."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Fragile(MemoryFileSystem):
        protocol = "fragile"
        breaks: ClassVar[set[str]] = set()

        def pipe_file(self, path, value, **keywords):
            if any(name in path for name in self.breaks):
                super().pipe_file(path, value[: len(value) // 2], **keywords)
                raise ConnectionError("the line went dead")
            super().pipe_file(path, value, **keywords)

    fsspec.register_implementation("fragile", Fragile, clobber=True)
    return Fragile


def test_an_upload_that_breaks_off_leaves_what_was_there(fragile):
    folder = open_output("fragile://bucket/results")
    folder.write_text("manifest.jsonl", "old\n")
    fragile.breaks.add("manifest")
    with pytest.raises(EcgkanError, match="the line went dead"):
        folder.write_text("manifest.jsonl", "new and longer\n")
    folder.append("manifest.jsonl", "a line that is cut\n")
    with pytest.raises(EcgkanError, match="the line went dead"):
        folder.send()
    assert open_output("fragile://bucket/results").read_text("manifest.jsonl") == "old\n"
    fragile.breaks.clear()
    folder.flush()
    again = open_output("fragile://bucket/results")
    assert again.read_text("manifest.jsonl") == "old\na line that is cut\n"
    again.remove("manifest.jsonl")
    assert again.read_text("manifest.jsonl") is None


def test_the_summary_is_uploaded_last(memory, tmp_path, monkeypatch):
    for name in ("100.json", "100.csv", "z.html"):
        (tmp_path / name).write_text(name)
    order = []
    put = type(memory).put_file
    monkeypatch.setattr(
        type(memory), "put_file", lambda self, *args, **kw: (order.append(Path(args[1]).name), put(self, *args, **kw))
    )
    publish(tmp_path, "memory://bucket/results")
    assert order[-1] == "100.json"
    assert sorted(order) == ["100.csv", "100.json", "z.html"]


def test_a_store_nobody_knows(options, tmp_path):
    with pytest.raises(DataError, match="nowhere://"):
        classify_archive([ArchiveRecording("x.hea", "")], "nowhere://bucket", options)


def test_outcomes_of_failures_name_the_path():
    outcome = fail(RecordingTask("p", "n", "f"), "DataError", "bad")
    assert (outcome.failure.path, outcome.entry) == ("p", None)
    assert outcome.task.relative == "f/n"
