"""The study of heads on small synthetic beats: frozen recipes, scored once, reported with what is missing."""

import csv
import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgkan.aami import CLASSES
from ecgkan.data.beat_table import BeatTable
from ecgkan.data.protocols import INTER_PATIENT_NOTE
from ecgkan.errors import DataError, EcgkanError
from ecgkan.evaluation.ds2_log import file_sha256, read_ds2_log
from ecgkan.evaluation.evaluate import predict_logits
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.studies import comparison, heads
from ecgkan.studies.comparison import run_head_comparison
from ecgkan.studies.head_contrasts import contrasts, study_summary
from ecgkan.studies.heads import (
    ARMS,
    COMPARISONS,
    HeadRun,
    arm_named,
    load_results,
    planned_runs,
    score_missing,
    validation_runs,
)
from ecgkan.studies.heads_page import write_heads_page
from ecgkan.studies.random_split import StudyFolders
from ecgkan.training.fit import build_model, train_model
from ecgkan.training.recipe import Recipe, load_recipe
from tests.evaluation.test_ds2_log import git
from tests.training.test_fit import synthetic_split
from tests.training.test_inter_patient import whole_split

FROZEN = Path(__file__).parents[2] / "results" / "inter-patient" / "recipes"

PARTS = {
    "mlp": {},
    "kan": {},
    "mlp-equal-latency": {"mlp_hidden_features"},
    "kan-equal-parameters": {"kan_hidden_features"},
    "kan-range": {"kan_grid_range"},
    "kan-batch-norm": {"kan_normalization"},
    "kan-init": {"kan_init"},
    "kan-no-spline-decay": {"decay_splines"},
    "kan-grid-3": {"kan_grid_size"},
    "kan-grid-8": {"kan_grid_size"},
    "kan-mended": {"kan_grid_range", "kan_normalization", "kan_init", "decay_splines"},
    "kan-mended-equal-parameters": {
        "kan_grid_range",
        "kan_normalization",
        "kan_init",
        "decay_splines",
        "kan_hidden_features",
    },
}


def say_nothing(_: str) -> None:
    pass


def parameters(arm: str) -> int:
    model = build_model(arm_named(arm).model, load_recipe(FROZEN / f"{arm}.json"), 0)
    return sum(parameter.numel() for parameter in model.parameters())


def test_sixty_runs_the_published_heads_first() -> None:
    runs = planned_runs()
    assert len(runs) == len(set(runs)) == 60
    assert [run.name for run in runs[:4]] == ["mlp-0", "kan-0", "mlp-1", "kan-1"]
    assert {arm for pair in COMPARISONS for arm in pair} == {arm.name for arm in ARMS}


def test_the_longer_recipes_differ_in_the_epochs_alone() -> None:
    for run in validation_runs()[2:]:
        arm, longer = (load_recipe(FROZEN / f"{name}.json").to_dict() for name in (run.arm.name, run.recipe))
        assert longer["epochs"] == 2 * arm["epochs"]
        assert {key for key in arm if arm[key] != longer[key]} == {"name", "epochs"}


@pytest.mark.parametrize("arm", [arm.name for arm in ARMS])
def test_each_arm_differs_from_the_published_heads_in_what_it_is_named_for(arm: str) -> None:
    published, ours = (load_recipe(FROZEN / f"{name}.json").to_dict() for name in ("kan", arm))
    assert ours["name"] == arm
    assert {key for key in ours if ours[key] != published[key]} - {"name"} == set(PARTS[arm])


def test_the_published_head_is_the_published_head() -> None:
    recipe = load_recipe(FROZEN / "kan.json")
    assert (recipe.kan_grid_range, recipe.kan_init, recipe.kan_grid_size) == ((-1.0, 1.0), "reference", 5)
    assert recipe.decay_everything
    assert recipe.decay_splines
    assert recipe.select_by == "last"
    assert (parameters("mlp"), parameters("kan")) == (175_973, 285_280)


def test_equal_parameters_are_equal_within_one_percent() -> None:
    for arm in ("kan-equal-parameters", "kan-mended-equal-parameters"):
        assert parameters(arm) == pytest.approx(parameters("mlp"), rel=0.01)


def test_equal_latency_is_what_the_benchmark_found() -> None:
    measured = json.loads((FROZEN.parent / "latency.json").read_text())
    recipe = load_recipe(FROZEN / "mlp-equal-latency.json")
    assert recipe.mlp_hidden_features == measured["mlp_width_as_slow_as_kan_batch_128"]
    kan, mlp = (measured["batch_128"][f"{name} hidden"] for name in ("kan, 64", f"mlp, {recipe.mlp_hidden_features}"))
    assert mlp == pytest.approx(kan, rel=0.1)


def short(arm: str) -> Recipe:
    frozen = load_recipe(FROZEN / f"{arm}.json")
    return dataclasses.replace(frozen, epochs=1, batch_size=32, normal_beats_per_epoch=20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    options: dict[str, Any] = {"threads": 1, "compile_encoder": False, "trainer_options": {"accelerator": "cpu"}}
    for arm in ("mlp", "kan-batch-norm"):
        train_model(arm_named(arm).model, short(arm), 0, whole_split(), runs / f"{arm}-0", **options)
    fold = dataclasses.replace(synthetic_split(), protocol="inter-patient", fold=1)
    for run in validation_runs():
        recipe = dataclasses.replace(short(run.recipe), epochs=2 if run.longer else 1)
        train_model(run.arm.model, recipe, 0, fold, runs / run.name, **options)
    return runs


@pytest.fixture
def folders(tmp_path: Path, trained: Path) -> StudyFolders:
    recipes = tmp_path / "results" / "recipes"
    recipes.mkdir(parents=True)
    for arm in ARMS:
        (recipes / f"{arm.name}.json").write_text(json.dumps(short(arm.name).to_dict()))
    for run in validation_runs()[2:]:
        (recipes / f"{run.recipe}.json").write_text(json.dumps(short(run.recipe).to_dict()))
    (tmp_path / "docs").mkdir()
    git(tmp_path, "init")
    git(tmp_path, "add", "results")
    git(tmp_path, "commit", "-m", "freeze")
    return StudyFolders(runs=trained, results=tmp_path / "results", log=tmp_path / "docs" / "ds2.jsonl")


@pytest.fixture(scope="module")
def beats() -> BeatTable:
    table = synthetic_split().table
    records = np.array(["100", "232", "234"])[np.arange(len(table)) % 3]
    return dataclasses.replace(table, records=records)


def test_finished_runs_are_scored_once_and_what_is_missing_is_left(folders: StudyFolders, beats: BeatTable) -> None:
    scored = score_missing(folders, beats, announce=say_nothing)
    assert [run.name for run in scored] == ["mlp-0", "kan-batch-norm-0"]
    assert score_missing(folders, beats, announce=say_nothing) == []
    log = read_ds2_log(folders.log)
    assert [(line["recipe"], line["scoring"]) for line in log] == [("mlp", 1), ("kan-batch-norm", 1)]
    result = load_results(folders)["kan-batch-norm"][0]
    model = load_checkpoint(folders.runs / "kan-batch-norm-0" / "cnn_kan.pth").model
    predicted = predict_logits(model, beats.model_input(np.arange(len(beats)))).argmax(1)
    assert np.trace(result.confusions.total) == (predicted == beats.labels).sum()
    assert result.confusions.records == ("100", "232", "234")
    assert result.document["cpu_seconds"] > 0
    assert result.document["device"]


def test_no_arm_is_scored_before_all_recipes_are_frozen(folders: StudyFolders, beats: BeatTable) -> None:
    recipe = folders.results / "recipes" / "kan-grid-8.json"
    recipe.write_text(recipe.read_text().replace('"epochs": 1', '"epochs": 2'))
    with pytest.raises(DataError, match=r"kan-grid-8\.json is not committed as it is"):
        score_missing(folders, beats, announce=say_nothing)
    assert not folders.log.exists()


def test_a_run_of_another_recipe_is_not_scored(folders: StudyFolders, beats: BeatTable) -> None:
    recipe = folders.results / "recipes" / "mlp.json"
    recipe.write_text(recipe.read_text().replace('"epochs": 1', '"epochs": 2'))
    git(folders.results, "commit", "-am", "another recipe")
    with pytest.raises(DataError, match="was trained by another recipe"):
        score_missing(folders, beats, announce=say_nothing)
    assert not folders.log.exists()


def test_results_of_an_earlier_recipe_are_refused(folders: StudyFolders, beats: BeatTable) -> None:
    score_missing(folders, beats, announce=say_nothing)
    recipe = folders.results / "recipes" / "mlp.json"
    recipe.write_text(recipe.read_text() + "\n")
    with pytest.raises(DataError, match="comes from another version"):
        load_results(folders)


def test_from_runs_to_an_incomplete_page(
    folders: StudyFolders, beats: BeatTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "load_test_beats", lambda _: beats)
    page = folders.log.parent / "kan-vs-mlp.md"
    summary = run_head_comparison(folders, None, report=page, announce=say_nothing)
    assert (summary["runs"], summary["planned"]) == (2, 60)
    text = page.read_text()
    assert INTER_PATIENT_NOTE in text
    assert "**Incomplete: 2 of 60 runs are in.**" in text
    assert "Not yet: a verdict on the heads needs 5 seeds" in text
    assert "Why 1 epochs" in text and "MLP, as published: twice the epochs change macro F1 by " in text
    assert "images/kan-vs-mlp.png" not in text  # nothing to draw yet
    assert json.loads((folders.results / "validation" / "mlp-0-fold1.json").read_text())["fold"] == 1


def write_result(folders: StudyFolders, arm: str, seed: int, right: int, device: str = "a processor") -> None:
    """A run that gets `right` of 100 beats of each of N S V right in each of 22 records, all alike."""
    matrix = np.zeros((5, 5), dtype=int)
    for row in range(3):
        matrix[row, row], matrix[row, (row + 1) % 3] = right, 100 - right
    document = {
        "arm": arm,
        "model": arm_named(arm).model,
        "seed": seed,
        "recipe_sha256": file_sha256(folders.results / "recipes" / f"{arm}.json"),
        "parameters": 1000,
        "cpu_seconds": 10.0 + seed,
        "resumed": False,
        "device": device,
        "ds2_confusion_by_record": {str(record): matrix.tolist() for record in range(200, 222)},
    }
    file = heads.result_file(folders, HeadRun(arm_named(arm), seed))
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document))


def test_a_complete_study_says_which_head_is_better(folders: StudyFolders) -> None:
    right = {"mlp": 80, "mlp-equal-latency": 80, "kan": 70, "kan-mended": 90}
    for arm in ARMS:
        for seed in range(5):
            write_result(folders, arm.name, seed, right.get(arm.name, 80) + seed % 2)
    found = {(c.arm, c.against): c for c in contrasts(load_results(folders))}
    assert found["kan", "mlp"].compared is not None
    assert found["kan", "mlp"].compared.mean == pytest.approx(-0.1)
    assert found["kan", "mlp"].compared.seeds_p == 1 / 16
    assert found["kan", "mlp"].holm_p == pytest.approx(12 * 0.0001, rel=1.0)
    page = folders.log.parent / "kan-vs-mlp.md"
    write_heads_page(folders, page)
    text = page.read_text()
    assert "All 60 runs of the study are in." in text
    assert "better than the MLP: KAN, all four mends" in text
    assert "worse than the MLP: KAN, as published" in text
    assert "not told apart from the MLP by these patients: KAN, parameters as MLP" in text
    assert (page.parent / "images" / "kan-vs-mlp.png").stat().st_size > 10_000
    assert "| MLP, as published | 1,000 | 12 |" in text


def test_the_raw_results_are_one_tidy_table(folders: StudyFolders) -> None:
    write_result(folders, "mlp", 0, 80)
    write_heads_page(folders, folders.log.parent / "page.md")
    with (folders.results / "runs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 22 * 6
    assert sum(int(row["beats"]) for row in rows) == 22 * 300
    right = [row for row in rows if row["reference"] == row["predicted"]]
    assert {row["beats"] for row in right} == {"80"}
    assert {row["reference"] for row in rows} == set(CLASSES[:3])


def test_one_pair_never_mixes_devices(folders: StudyFolders) -> None:
    for seed in (0, 1):
        write_result(folders, "mlp", seed, 80)
    write_result(folders, "kan", 0, 70)
    write_result(folders, "kan", 1, 70, device="another processor")
    found = {(c.arm, c.against): c for c in contrasts(load_results(folders))}
    assert found["kan", "mlp"].seeds == (0,)
    assert study_summary(folders)["comparisons"][0]["seeds"] == [0]


def test_trainings_are_told_recipe_fold_and_resumption(
    folders: StudyFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def noted(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(heads.subprocess, "run", noted)
    elsewhere = dataclasses.replace(folders, runs=tmp_path / "runs")
    begun = elsewhere.runs / "mlp-1"
    begun.mkdir(parents=True)
    (begun / "recipe.json").write_text("{}")
    heads.train_missing(elsewhere, tmp_path, jobs=1, announce=say_nothing)
    assert len(commands) == 64
    told = {command[command.index("--out") + 1].rpartition("/")[2]: command for command in commands}
    assert told["kan-0-fold1"][-4:] == ["--fold", "1", "--data-dir", str(tmp_path)]
    assert "--resume" in told["mlp-1"]
    assert "--resume" not in told["mlp-0"]
    assert str(folders.results / "recipes" / "kan-range.json") in told["kan-range-3"]


def test_a_failed_training_is_named_and_the_others_go_on(
    folders: StudyFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[list[str]] = []

    def fail_once(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        tried.append(command)
        return subprocess.CompletedProcess(command, int(len(tried) == 1), "", "ecgkan: no database mitdb\n")

    monkeypatch.setattr(heads.subprocess, "run", fail_once)
    elsewhere = dataclasses.replace(folders, runs=tmp_path / "runs")
    runs = [HeadRun(arm_named("mlp"), seed) for seed in (0, 1)]
    with pytest.raises(EcgkanError, match=r"go on\nmlp-0: ecgkan: no database mitdb$"):
        heads.train_missing(elsewhere, None, jobs=1, announce=say_nothing, runs=runs)
    assert len(tried) == 2
