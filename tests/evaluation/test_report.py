"""The folder that `ecgkan evaluate` writes, on synthetic beats."""

import csv
import json

import numpy as np
import pytest

from ecgkan.errors import CheckpointError, DataError, OutputExistsError
from ecgkan.evaluation import report
from ecgkan.evaluation.report import evaluate_to_folder, to_document

from .conftest import write_checkpoint

FIGURES = ("confusion", "curves", "reliability", "errors", "training")


@pytest.fixture
def scored(monkeypatch, small_split):
    """`evaluate_to_folder` on the synthetic split instead of the database; figures small and as PNG only, for speed."""
    monkeypatch.setattr(report, "load_split", lambda *_: small_split)
    monkeypatch.setattr(report, "FIGURE_FORMATS", ("png",))
    monkeypatch.setattr(report, "FIGURE_DPI", 40)
    return evaluate_to_folder


def test_predictions_csv_has_a_row_per_beat(evaluations):
    rows = list(csv.DictReader(report.predictions_csv(evaluations[0]).splitlines()))
    assert len(rows) == 300
    for i in (0, 150, 299):
        assert rows[i]["record"] == evaluations[0].records[i]
        assert int(rows[i]["sample"]) == evaluations[0].samples[i]
        assert rows[i]["reference"] == "NSVFQ"[evaluations[0].labels[i]]
        assert rows[i]["predicted"] == "NSVFQ"[evaluations[0].predicted[i]]
        shown = [float(rows[i][f"probability_{letter}"]) for letter in "NSVFQ"]
        np.testing.assert_allclose(shown, evaluations[0].probabilities[i], atol=1e-6)
        assert "shared patients" in rows[i]["protocol"]


def test_document_names_protocol_code_and_weights(evaluations):
    document = json.loads(json.dumps(to_document(evaluations), allow_nan=False))
    assert document["protocol"] == "random-split"
    assert document["command"].startswith("ecgkan evaluate ")
    assert document["command"].endswith("--protocol random-split --subset test")
    assert "commit" in document
    assert [model["weights_sha256"] for model in document["models"]] == [e.weights_sha256 for e in evaluations]
    reference = document["reference"]["cnn_kan"]
    assert reference["latency_ms_per_sample"] == {"batch_128": 0.6308, "note": "published, other hardware"}
    expected = round(evaluations[1].metrics.macro_f1 - 0.8167, 4)
    assert reference["figures"]["macro F1"] == {"reference": 0.8167, "difference": expected}


def test_folder_holds_what_the_report_names(scored, checkpoints, tmp_path):
    said = []
    result = scored([str(p) for p in checkpoints.values()], tmp_path / "out", announce=said.append)
    names = {f"{name}_{figure}.png" for name in checkpoints for figure in FIGURES}
    names |= {f"{name}_predictions.csv" for name in checkpoints} | {"evaluation.json", "comparison.png"}
    assert {file.name for file in result.files} == names
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == result.document
    assert any("cnn_kan" in line for line in said)


def test_without_history_there_is_no_training_figure(scored, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "bare.pth", "cnn_mlp", training={})
    result = scored([str(checkpoint)], tmp_path / "out")
    assert "cnn_mlp_training.png" not in {file.name for file in result.files}


def test_nothing_is_overwritten_unasked(scored, checkpoints, tmp_path, monkeypatch):
    existing = tmp_path / "cnn_mlp_curves.png"
    existing.write_text("mine")
    requested = [str(checkpoints["cnn_mlp"])]
    with monkeypatch.context() as patched:
        patched.setattr(report, "evaluate_checkpoint", lambda *_, **__: pytest.fail("scored before looking"))
        with pytest.raises(OutputExistsError, match=r"cnn_mlp_curves.png exist.*--overwrite"):
            scored(requested, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["cnn_mlp_curves.png"]
    assert existing.read_text() == "mine"
    scored(requested, tmp_path, overwrite=True)
    assert existing.read_bytes().startswith(b"\x89PNG")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    (tmp_path / "evaluation.json").write_text("old")

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report._write(tmp_path / "evaluation.json", b"new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_the_same_figure_is_the_same_file(tmp_path, evaluations):
    contents = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        figure = report.plots.confusion_figure(evaluations[0].metrics.confusion, title="Matrix")
        contents.append([file.read_bytes() for file in report._write_figure(figure, tmp_path / folder / "matrix")])
    assert contents[0] == contents[1]


def test_a_bad_request_is_refused_before_scoring(scored, checkpoints, tmp_path):
    checkpoint = str(checkpoints["cnn_mlp"])
    with pytest.raises(DataError, match="leave out --log"):
        scored([checkpoint], tmp_path / "out", subset="validation", log=tmp_path / "log.jsonl")
    with pytest.raises(CheckpointError, match="same weights"):
        scored([checkpoint, checkpoint], tmp_path / "out")
    assert not (tmp_path / "out").exists()
