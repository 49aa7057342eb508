"""The shipped models record by record: figures add up, carry their label, and stand in cards and page as measured."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ecgkan.cli import app
from ecgkan.data.mitdb import DS2, PACED_RECORDS, RECORDS
from ecgkan.data.protocols import BeatSplit
from ecgkan.errors import DataError
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.studies import by_record
from ecgkan.studies.by_record import RECORD_SETS, TRAINING_PATIENTS, judge_by_record, read_by_record
from ecgkan.studies.by_record_page import card_ec57, card_failures, ec57_section, records_section
from ecgkan.studies.random_split import StudyFolders
from tests.training.test_fit import synthetic_split

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "random-split"
COMMITTED: dict[str, Any] = json.loads((RESULTS / "by-record.json").read_text())
SHIPPED: dict[str, Any] = json.loads((RESULTS / "shipped.json").read_text())
MODELS = ("cnn_mlp", "cnn_kan")


@pytest.fixture
def folders(tmp_path: Path) -> StudyFolders:
    return StudyFolders(runs=tmp_path / "runs", results=tmp_path, log=tmp_path / "scorings.jsonl")


@pytest.fixture(scope="module")
def split() -> BeatSplit:
    return dataclasses.replace(synthetic_split(400), protocol="random-split")


def test_the_committed_cards_and_page_are_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = ["--runs", str(tmp_path / "none"), "--cards", str(tmp_path), "--report", str(tmp_path / "results.md")]
    written = CliRunner().invoke(app, ["compare", *arguments])
    assert written.exit_code == 0, written.output
    assert (tmp_path / "results.md").read_text() == (ROOT / "docs" / "results.md").read_text()
    for model in MODELS:
        assert (tmp_path / f"{model}.md").read_text() == (ROOT / "checkpoints" / f"{model}.md").read_text()


@pytest.mark.parametrize("model", MODELS)
def test_the_records_test_beats_add_up_to_the_logged_scoring(model: str) -> None:
    (entry,) = [entry for entry in SHIPPED["models"] if entry["model"] == model]
    matrices = COMMITTED["models"][model]["test_confusion_by_record"]
    assert set(matrices) == set(RECORDS)
    assert np.sum(list(matrices.values()), axis=0).tolist() == entry["confusion"]["counts"]
    log = (ROOT / "docs" / "test-scorings.jsonl").read_text()
    assert COMMITTED["models"][model]["weights_sha256"] == load_checkpoint(model).sha256
    assert load_checkpoint(model).sha256 in log


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", RECORD_SETS)
def test_the_records_ec57_counts_add_up_to_the_gross_figures(model: str, name: str) -> None:
    figures = COMMITTED["models"][model]
    for figure in by_record.COUNTED:
        part, whole = np.sum([figures["ec57_by_record"][record][figure] for record in RECORD_SETS[name]], axis=0)
        assert figures["ec57"][name]["gross"][figure] == pytest.approx(100 * part / whole, abs=5e-4)
    part, whole = np.sum([figures["ec57_by_record"][record]["left_out"] for record in RECORD_SETS[name]], axis=0)
    assert figures["ec57"][name]["left_out_percent"] == pytest.approx(100 * part / whole, abs=5e-4)


def test_figures_are_of_the_whole_database_with_or_without_paced_records_never_of_ds2() -> None:
    assert [len(records) for records in RECORD_SETS.values()] == [44, 48]
    assert set(RECORDS) - set(RECORD_SETS["44 records without pacing"]) == set(PACED_RECORDS)
    assert not any(set(records) <= set(DS2) for records in RECORD_SETS.values())
    for model in MODELS:
        assert set(COMMITTED["models"][model]["ec57"]) == set(RECORD_SETS)


def test_every_table_of_known_patients_says_so() -> None:
    assert COMMITTED["patients"] == TRAINING_PATIENTS == "training patients"
    measured = COMMITTED["models"]
    texts = [ec57_section(measured), records_section(measured)]
    texts += [card(measured["cnn_kan"]) for card in (card_ec57, card_failures)]
    for text in texts:
        assert TRAINING_PATIENTS in text.lower()
        assert "DS2" not in text
    header = next(line for line in card_ec57(measured["cnn_kan"]).splitlines() if line.startswith("| percent"))
    assert header.count(TRAINING_PATIENTS) == 4


def test_failures_name_the_records_that_hold_them() -> None:
    figures = {
        "test_confusion_by_record": {
            "100": np.diag([9, 2, 0, 0, 0]).tolist(),
            "208": [[5, 0, 1, 0, 0], [0] * 5, [2, 0, 3, 0, 0], [0] * 5, [0] * 5],
        },
        "ec57_by_record": {
            record: {name: [8, 9] for name in by_record.COUNTED} | {"left_out": [1, 10]} for record in RECORDS
        },
    }
    text = card_failures(figures)
    assert "- any error, 3 of 22: 208 (3 of 11)\n" in text
    assert "- V missed, 2 of 5: 208 (2 of 5)\n- wrongly called V, 1 of 4: 208 (1 of 4)\n" in text
    assert "- S missed, 0 of 2: none\n" in text
    assert "- S missed, 48 of 432: 100 (1 of 9), 101 (1 of 9)" in text


def test_other_weights_than_the_shipped_ones_do_not_meet_the_test_set(split: BeatSplit, tmp_path: Path) -> None:
    other = {"models": [{"model": "cnn_mlp", "weights_sha256": "0" * 64}]}
    with pytest.raises(DataError, match="they would meet the test set uncounted; ship them first"):
        judge_by_record({"cnn_mlp": load_checkpoint("cnn_mlp")}, split, other, data_dir=tmp_path)


def test_figures_of_other_weights_count_as_not_measured(folders: StudyFolders) -> None:
    assert read_by_record(folders, SHIPPED) == {}
    (folders.results / "by-record.json").write_text(json.dumps(COMMITTED))
    assert set(read_by_record(folders, SHIPPED)) == set(MODELS)
    retrained = {"models": [entry | {"weights_sha256": "0" * 64} for entry in SHIPPED["models"]]}
    assert read_by_record(folders, retrained) == {}
    for text in (ec57_section({}), records_section({}), card_ec57(None), card_failures(None)):
        assert "Not measured yet for the shipped weights: `ecgkan compare --by-record`" in text


def test_two_records_are_judged_as_in_the_committed_figures(
    data_dir: Path, split: BeatSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(RECORD_SETS)
    monkeypatch.setattr(by_record, "RECORDS", ("100", "217"))
    monkeypatch.setattr(by_record, "RECORD_SETS", {names[0]: ("100",), names[1]: ("100", "217")})
    document = judge_by_record({"cnn_mlp": load_checkpoint("cnn_mlp")}, split, SHIPPED, data_dir=data_dir)
    judged, committed = document["models"]["cnn_mlp"], COMMITTED["models"]["cnn_mlp"]
    for record in ("100", "217"):
        assert judged["ec57_by_record"][record] == committed["ec57_by_record"][record]
    assert judged["ec57"][names[0]]["left_out_percent"] == 0
    assert np.sum(list(judged["test_confusion_by_record"].values())) == len(split.test)
