"""The shipped models for new patients have the figures that the page, the cards and the log tell."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from ecgkan.cli import app
from ecgkan.models.checkpoint import PATIENT_MODELS, load_checkpoint
from ecgkan.studies.patients import LEADS

ROOT = Path(__file__).parents[2]
run = CliRunner().invoke


def test_shipped_weights_are_those_that_were_scored() -> None:
    log = [json.loads(line) for line in (ROOT / "docs" / "ds2-scorings.jsonl").read_text().splitlines()]
    for model in PATIENT_MODELS:
        checkpoint = load_checkpoint(model)
        recipe = checkpoint.training["recipe"]
        result = json.loads((ROOT / "results" / "patients" / f"{recipe}-{model}-0.json").read_text())
        assert result["weights_sha256"] == checkpoint.sha256
        assert checkpoint.sha256 in (ROOT / "checkpoints" / f"{model}.md").read_text()
        logged = {line.get("leads", 1): line for line in log if line["weights_sha256"] == checkpoint.sha256}
        assert {table: logged[leads]["headline"] for table, leads in LEADS.items()} == {
            table: result[table]["headline"] for table in LEADS
        }
        assert checkpoint.training["recipe_fields"] == json.loads(
            (ROOT / "results" / "patients" / f"{recipe}.json").read_text()
        )


def test_evaluate_tells_what_was_logged(data_dir: Path, tmp_path: Path) -> None:
    told = run(app, ["evaluate", "patient_kan", "--out", str(tmp_path), "--json", "--data-dir", str(data_dir)])
    assert told.exit_code == 0, told.output
    figures = json.loads(told.stdout)["models"]["patient_kan"]["ds2"]
    recipe = load_checkpoint("patient_kan").training["recipe"]
    committed = json.loads((ROOT / "results" / "patients" / f"{recipe}-patient_kan-0.json").read_text())["ds2"]
    for name in ("accuracy", "macro_f1"):
        assert figures["headline"][name] == pytest.approx(committed["headline"][name], abs=2e-4)
    beats = pd.read_csv(tmp_path / "patient_kan_predictions.csv")
    assert len(beats) == 49693
    kept = beats[beats.reference.isin(list("NSV"))]
    for letter in "NSV":  # scikit-learn's figures of the beats written
        f1 = f1_score(kept.reference == letter, kept.predicted == letter)
        assert figures["headline"]["classes"][letter]["f1"] == pytest.approx(f1, abs=1e-6)
    again = run(app, ["evaluate", "patient_kan", "--out", str(tmp_path), "--data-dir", str(data_dir)])
    assert again.exit_code == 1


def test_models_that_have_seen_ds2s_patients_are_not_scored_on_it(tmp_path: Path) -> None:
    refused = run(app, ["evaluate", "cnn_kan", "--protocol", "inter-patient", "--out", str(tmp_path)])
    assert refused.exit_code == 1
    assert re.search("have seen its patients", str(refused.exception))
    assert not list(tmp_path.iterdir())
