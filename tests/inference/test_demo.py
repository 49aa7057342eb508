"""The demonstration: its files and text with any models, and what the shipped models make of the recording."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
import wfdb
from rich.console import Console

from ecgkan import classify, read_annotations, read_recording
from ecgkan.data.embedded import EMBEDDED_SOURCE, embedded_recording
from ecgkan.data.rpeaks import detect_rpeaks, reference_rpeaks
from ecgkan.errors import DataError, OutputExistsError
from ecgkan.inference.agreement import agreement_with
from ecgkan.inference.console import print_demo
from ecgkan.inference.demo import run_demo
from ecgkan.models.shipped import find_model_file

FILES = {
    "beats_cnn_mlp.csv",
    "beats_cnn_kan.csv",
    "disagreements.csv",
    "strip.png",
    "classes.png",
    "disagreements.png",
    "recording/embedded.dat",
    "recording/embedded.hea",
    "annotations/cnn_mlp/embedded.ecgkan",
    "annotations/cnn_kan/embedded.ecgkan",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def result(checkpoints, folder):
    return run_demo(folder, models=[checkpoints["cnn_mlp"], checkpoints["cnn_kan"]])


def written(folder) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_it_writes_the_files_it_names_and_no_others(result, folder):
    assert set(written(folder)) == FILES
    assert {file.relative_to(folder).as_posix() for file in result.files} == FILES


def test_both_models_classify_the_detectors_beats(result):
    rpeaks = detect_rpeaks(embedded_recording().signals[:, 0], 360.0)
    assert [annotated.model for annotated in result.annotations] == ["cnn_mlp", "cnn_kan"]
    for annotated in result.annotations:
        assert np.array_equal(annotated.samples, rpeaks)
        assert annotated.rpeaks == "detector"


def test_tables_and_annotation_files_hold_the_beats(result, folder):
    for annotated in result.annotations:
        table = pd.read_csv(folder / f"beats_{annotated.model}.csv")
        assert table["sample"].tolist() == annotated.samples.tolist()
        assert table["class"].tolist() == annotated.classes.tolist()
        read = wfdb.rdann(str(folder / "annotations" / annotated.model / "embedded"), "ecgkan")
        assert read.sample.tolist() == annotated.samples.tolist()
        assert read.symbol == annotated.classes.tolist()


def test_the_record_written_is_the_recording_to_the_bit(result, folder):
    record = read_recording(folder / "recording" / "embedded")
    assert np.array_equal(record.signals, result.recording.signals)
    assert (record.fs, record.leads) == (360.0, ("MLII",))


def test_disagreements_are_all_in_the_table(result, folder):
    mlp, kan = result.annotations
    differ = np.flatnonzero(mlp.classes != kan.classes)
    assert len(differ) > 0, "these weights should disagree somewhere"
    with (folder / "disagreements.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["sample"]) for row in rows] == mlp.samples[differ].tolist()
    assert [row["class_cnn_kan"] for row in rows] == kan.classes[differ].tolist()
    assert float(rows[0]["p_cnn_mlp"]) == pytest.approx(mlp.probabilities[differ[0]].max(), abs=1e-6)


def test_the_text_says_what_a_reader_must_know(result):
    stream = io.StringIO()
    print_demo(Console(file=stream, width=100, markup=False, highlight=False), result)
    text = " ".join(stream.getvalue().split())
    assert "Models and detector were trained on record 208" in text
    assert "not a medical device" in text
    assert f"The models disagree on {len(result.disagreements)} of {len(result.annotations[0])} beats" in text
    for annotated in result.annotations:
        assert str(annotated.summary().counts["N"]) in text
    for file in result.files:
        assert str(file) in stream.getvalue()


def test_nothing_is_overwritten_unless_asked_and_it_is_the_same_every_time(result, checkpoints, folder, tmp_path):
    models = [checkpoints["cnn_mlp"], checkpoints["cnn_kan"]]
    (tmp_path / "classes.png").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"classes\.png"):
        run_demo(tmp_path, models=models)
    assert written(tmp_path) == {"classes.png": b"mine", "notes.txt": b"mine"}
    run_demo(tmp_path, models=models, overwrite=True)
    assert written(tmp_path) == written(folder) | {"notes.txt": b"mine"}


def test_one_model_alone_cannot_be_compared(checkpoints, tmp_path):
    for models in ([], [checkpoints["cnn_mlp"]], [checkpoints["cnn_mlp"]] * 2):
        with pytest.raises(DataError, match="two or more different models"):
            run_demo(tmp_path, models=models)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cnn_mlp", "cnn_kan"])
def test_the_shipped_models_count_the_embedded_recordings_beats(name):
    """Reference: N 358, V 93, F 56, Q 2."""
    annotations = classify(embedded_recording(), find_model_file(name, ".pth"))
    counts = annotations.summary().counts
    assert 340 <= counts["N"] <= 372
    assert 85 <= counts["V"] <= 102
    assert 35 <= counts["F"] <= 70
    assert counts["S"] + counts["Q"] <= 8


@pytest.mark.parametrize("name", ["cnn_mlp", "cnn_kan"])
def test_the_shipped_models_know_the_record_they_were_trained_on(mitdb_dir, name):
    record, start, stop = EMBEDDED_SOURCE
    annotations = read_annotations(mitdb_dir / record, "atr")
    rpeaks = reference_rpeaks(annotations)
    classified = classify(mitdb_dir / record, find_model_file(name, ".pth"), rpeaks=rpeaks)
    inside = (classified.samples >= start) & (classified.samples < stop)
    assert np.count_nonzero(inside) == 509
    assert agreement_with(classified, annotations, "atr").accuracy > 0.95
