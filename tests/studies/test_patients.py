"""The study of the models for new patients: validated, frozen, trained, scored once, shipped."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ecgkan.data.mitdb import DS1, DS2
from ecgkan.data.protocols import FOLDS
from ecgkan.errors import DataError, DataNotFoundError
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.studies import patients
from ecgkan.studies.patients import PatientFolders, cross_validate, load_results, score_missing, ship, train_missing
from ecgkan.training import patient_runs
from tests.training.test_patients import NOISE, TINY, a_table


def a_database(records: tuple[str, ...]) -> object:
    """Return made-up beats under real records' names: two of them hold any."""
    from dataclasses import replace

    table = a_table()
    names = np.where(table.records == "101", records[0], records[-1])
    return replace(table, records=names)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatientFolders:
    training = a_database((FOLDS[0][0], FOLDS[1][0]))
    for module in (patients, patient_runs):
        monkeypatch.setattr(module, "load_training_context", lambda _: training)
        monkeypatch.setattr(module, "load_noise", lambda _: NOISE)
    monkeypatch.setattr(patients, "load_test_context", lambda _: a_database(DS2))
    monkeypatch.setattr(patients, "SEEDS", (0,))
    results = tmp_path / "results"
    results.mkdir()
    git(tmp_path, "init", "-q")
    (results / "tiny.json").write_text(json.dumps(TINY.to_dict()))
    return PatientFolders(recipe=results / "tiny.json", runs=tmp_path / "runs", log=tmp_path / "log.jsonl")


def train_here(folders: PatientFolders) -> None:
    """Train as `train_missing` does, but in this process, where the database is made up."""
    for model in ("patient_mlp", "patient_kan"):
        patient_runs.train_patient_run(model, folders.recipe, 0, folders.run(model, 0))


def test_the_study_from_validation_to_shipping(folders: PatientFolders, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(DataNotFoundError, match="ecgkan patients validate"):
        train_missing(folders, announce=said.append)
    for model in ("patient_mlp", "patient_kan"):
        document = cross_validate(folders.recipe, model, announce=said.append)
        assert document["held_out"]["headline"]["beats"] == document["held_out_two_leads"]["headline"]["beats"] == 440
        assert document["calibration"]["class_shift"][0] == 0
        assert document["held_out"]["risk_coverage"]["coverage"][0] == 1
    assert len([line for line in said if "held out" in line]) == 2 * len(FOLDS)
    train_here(folders)
    with pytest.raises(DataError, match="not committed"):
        score_missing(folders, announce=said.append)
    assert not folders.log.exists()
    git(tmp_path, "add", "results")
    git(tmp_path, "commit", "-q", "-m", "freeze")
    assert score_missing(folders, announce=said.append) == ["tiny-patient_mlp-0", "tiny-patient_kan-0"]
    assert score_missing(folders, announce=said.append) == []  # each run meets DS2 once
    log = [json.loads(line) for line in folders.log.read_text().splitlines()]
    expected = [(model, leads) for model in ("patient_mlp", "patient_kan") for leads in (1, 2)]
    assert [(line["model"], line["leads"]) for line in log] == expected
    results = load_results(folders)
    scored = results["patient_kan"][0]
    assert scored["ds2"]["headline"] == log[2]["headline"]
    assert scored["ds2_two_leads"]["headline"] == log[3]["headline"]
    assert set(scored["ds2"]["confusion_by_record"]) == {DS2[0], DS2[-1]}
    (tmp_path / "shipped").mkdir()
    shipped = ship(folders, tmp_path / "shipped")
    assert load_checkpoint(shipped[1]).sha256 == scored["weights_sha256"]


def test_a_result_of_one_lead_is_completed_and_its_line_stays(folders: PatientFolders, tmp_path: Path) -> None:
    for model in ("patient_mlp", "patient_kan"):
        patient_runs.validation_file(folders.recipe, model).write_text(
            json.dumps({"calibration": {"temperature": 1.0, "class_shift": [0, 0, 0, 0, 0]}, "recipe": TINY.to_dict()})
        )
    train_here(folders)
    git(tmp_path, "add", "results")
    git(tmp_path, "commit", "-q", "-m", "freeze")
    score_missing(folders, announce=lambda _: None)
    file = folders.result("patient_kan", 0)
    whole, lines = json.loads(file.read_text()), folders.log.read_text()
    file.write_text(json.dumps({key: value for key, value in whole.items() if key != "ds2_two_leads"}))
    assert score_missing(folders, announce=lambda _: None) == ["tiny-patient_kan-0"]
    assert json.loads(file.read_text()) == whole
    added = folders.log.read_text().removeprefix(lines).splitlines()
    assert [json.loads(line)["leads"] for line in added] == [2]
    file.write_text(json.dumps({"weights_sha256": "0" * 64, "ds2": whole["ds2"]}))
    with pytest.raises(DataError, match="tells of weights 000000000000"):
        score_missing(folders, announce=lambda _: None)


def test_weights_of_another_recipe_are_not_scored(folders: PatientFolders, tmp_path: Path) -> None:
    for model in ("patient_mlp", "patient_kan"):
        patient_runs.validation_file(folders.recipe, model).write_text(
            json.dumps({"calibration": {"temperature": 1.0, "class_shift": [0, 0, 0, 0, 0]}, "recipe": TINY.to_dict()})
        )
    train_here(folders)
    folders.recipe.write_text(json.dumps(TINY.to_dict() | {"epochs": 3}))
    git(tmp_path, "add", "results")
    git(tmp_path, "commit", "-q", "-m", "freeze")
    with pytest.raises(DataError, match="trained by another recipe"):
        score_missing(folders, announce=lambda _: None)


def test_folds_and_test_records_do_not_meet() -> None:
    assert sorted(record for fold in FOLDS for record in fold) == sorted(DS1)
    assert not set(DS1) & set(DS2)
