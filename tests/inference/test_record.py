"""classify_to_folder: every format, all of them or none, nothing overwritten, and what a full disk leaves behind."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb
from tests.synthetic import synthetic_ecg, write_record

from ecgkan import classify, load_checkpoint
from ecgkan.errors import DataError, EcgkanError, OutputExistsError
from ecgkan.inference.annotation import BeatAnnotations
from ecgkan.inference.record import FORMATS, ClassifyOptions, classify_to_folder, expected_outputs
from ecgkan.inference.writing import replacing_all


@pytest.fixture(scope="module")
def model(checkpoints):
    return load_checkpoint(checkpoints["cnn_kan"])


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    signal, rpeaks = synthetic_ecg(250.0, 40.0)
    path = write_record(tmp_path_factory.mktemp("records"), "rec", 250.0, {"V5": signal[::-1], "MLII": signal})
    wfdb.wrann("rec", "atr", rpeaks, symbol=["N"] * len(rpeaks), write_dir=str(path.parent))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_every_format_is_written_and_named(record, model, tmp_path):
    options = ClassifyOptions(formats=FORMATS, output_annotator="mine")
    shares = []
    classified = classify_to_folder(record, tmp_path, options, model=model, progress=shares.append)
    assert shares[-1] == 1.0
    assert list(classified.files) == expected_outputs("rec", tmp_path, options)
    names = {"rec.mine", "rec.csv", "rec.parquet", "rec.json", "rec.html", "rec_strips"}
    assert {path.name for path in tmp_path.iterdir()} == names
    annotations = classify(record, model)
    assert np.array_equal(classified.annotations.probabilities, annotations.probabilities)
    assert wfdb.rdann(str(tmp_path / "rec"), "mine").sample.tolist() == annotations.samples.tolist()
    assert pd.read_parquet(tmp_path / "rec.parquet")["sample"].tolist() == annotations.samples.tolist()
    assert len(pd.read_csv(tmp_path / "rec.csv")) == len(annotations)
    assert len(list((tmp_path / "rec_strips").glob("*.png"))) > 0
    document = json.loads((tmp_path / "rec.json").read_text(encoding="utf-8"))
    assert document["summary"]["beats"] == len(annotations)
    assert (document["leads"], document["n_samples"]) == (["V5", "MLII"], 10_000)
    assert document["weights_sha256"] == model.sha256
    files = [str(file) for file in classified.files]
    assert json.loads(json.dumps(classified.to_dict(), allow_nan=False)) == document | {"files": files}


def test_only_what_is_asked_for_is_written(record, model, tmp_path):
    classify_to_folder(record, tmp_path / "out", ClassifyOptions(formats=("csv",)), model=model)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rec.csv"]


def test_the_model_of_the_options_is_loaded_where_none_is_given(record, checkpoints, tmp_path):
    options = ClassifyOptions(model=str(checkpoints["cnn_mlp"]), lead="V5", formats=("csv",))
    annotations = classify_to_folder(record, tmp_path, options).annotations
    assert (annotations.model, annotations.lead) == ("cnn_mlp", "V5")


def test_an_annotators_beats_are_taken_and_compared(record, model, tmp_path):
    options = ClassifyOptions(annotator="atr", formats=("json",))
    classified = classify_to_folder(record, tmp_path, options, model=model)
    assert classified.annotations.rpeaks == "annotator atr"
    document = json.loads((tmp_path / "rec.json").read_text(encoding="utf-8"))
    assert document["agreement"]["beats"] == len(classified.annotations) == len(synthetic_ecg(250.0, 40.0)[1])


def test_what_exists_is_left_unless_asked(record, model, tmp_path):
    options = ClassifyOptions(formats=("csv", "json", "png"))
    classify_to_folder(record, tmp_path, options, model=model)
    (tmp_path / "rec.csv").write_text("mine")
    (tmp_path / "rec_strips" / "old.png").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(OutputExistsError, match="was left as it is"):
        classify_to_folder(record, tmp_path, options, model=model)
    assert contents(tmp_path) == before
    classify_to_folder(record, tmp_path, replace(options, overwrite=True), model=model)
    assert (tmp_path / "rec.csv").read_text().startswith("sample,")
    assert not (tmp_path / "rec_strips" / "old.png").exists()


@pytest.mark.parametrize("writer", ["to_csv", "to_json", "to_wfdb", "to_parquet"])
def test_a_full_disk_leaves_nothing_new_and_everything_old(record, model, tmp_path, monkeypatch, writer):
    options = ClassifyOptions(formats=("wfdb", "csv", "parquet", "json"), overwrite=True)
    classify_to_folder(record, tmp_path, options, model=model)
    before = contents(tmp_path)
    original = getattr(BeatAnnotations, writer)

    def cut_short(*arguments, **keywords):
        original(*arguments, **keywords)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BeatAnnotations, writer, cut_short)
    with pytest.raises(EcgkanError, match=r"cannot write .*No space left on device; nothing was changed"):
        classify_to_folder(record, tmp_path, options, model=model)
    assert contents(tmp_path) == before


def test_the_path_in_the_error_is_the_final_one(record, model, tmp_path, monkeypatch):
    def full(frame, path, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(EcgkanError) as caught:
        classify_to_folder(record, tmp_path / "out", ClassifyOptions(), model=model)
    assert f"cannot write {tmp_path / 'out' / 'rec.csv'}: No space left" in str(caught.value)
    assert contents(tmp_path) == {}


def test_nothing_appears_before_everything_is_there(record, model, tmp_path, monkeypatch):
    seen = []
    original = BeatAnnotations.to_json

    def watched(self, path, **keywords):
        seen.append([file.name for file in tmp_path.iterdir() if not file.name.startswith(".")])
        return original(self, path, **keywords)

    monkeypatch.setattr(BeatAnnotations, "to_json", watched)
    classify_to_folder(record, tmp_path, ClassifyOptions(formats=("wfdb", "csv", "json")), model=model)
    assert seen == [[]]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_rename_that_fails_undoes_those_before_it(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_text("old")
    original = Path.rename

    def fail_on_c(self, target):
        if Path(target) == paths[2] and self.read_text() == "new":
            raise OSError(5, "Input/output error")
        return original(self, target)

    monkeypatch.setattr(Path, "rename", fail_on_c)
    with pytest.raises(EcgkanError, match="Input/output error"), replacing_all(paths, overwrite=True) as places:
        for place in places:
            place.write_text("new")
    assert contents(tmp_path) == {"a": b"old", "b": b"old", "c": b"old"}


def test_bad_input_and_a_bad_place_are_told_before_anything_is_written(record, model, tmp_path):
    with pytest.raises(DataError, match="no lead 'V9'"):
        classify_to_folder(record, tmp_path / "out", ClassifyOptions(lead="V9"), model=model)
    (tmp_path / "taken").write_text("")
    with pytest.raises(EcgkanError, match=r"cannot write into .*is a file"):
        classify_to_folder(record, tmp_path / "taken" / "out", ClassifyOptions(), model=model)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ("csv", "xlsx")}, "unknown formats"),
        ({"formats": ()}, "expected one or more"),
        ({"output_annotator": "a.b"}, "cannot be an annotator's name"),
        ({"annotator": "ecgkan"}, "choose another name"),
    ],
)
def test_options_that_cannot_be(changes, message):
    with pytest.raises(DataError, match=message):
        ClassifyOptions(**changes)


def test_a_name_that_wfdb_cannot_have_is_mapped(tmp_path):
    options = ClassifyOptions(formats=("wfdb", "png"))
    expected = [tmp_path / "Holter_1_edf.ecgkan", tmp_path / "Holter_1_edf_strips"]
    assert expected_outputs("Holter 1.edf", tmp_path, options) == expected
