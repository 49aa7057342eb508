"""The study end to end on small synthetic beats: choose by validation, score once, ship, report."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from ecgkan.data.protocols import SHARED_PATIENTS_NOTE, BeatSplit
from ecgkan.errors import DataError, DataNotFoundError
from ecgkan.models.checkpoint import Checkpoint, load_checkpoint
from ecgkan.studies import comparison, random_split
from ecgkan.studies.comparison import run_comparison, summarize
from ecgkan.studies.random_split import Run, StudyFolders, over_seeds, planned_runs, score_missing, select_shipped
from ecgkan.training.fit import train_model
from ecgkan.training.recipe import BEST, REFERENCE
from tests.training.test_fit import synthetic_split

SHORT = {
    "best": dataclasses.replace(BEST, epochs=2, batch_size=32, precision="float32"),
    "reference": dataclasses.replace(REFERENCE, epochs=1, batch_size=32),
}


def say_nothing(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def split() -> BeatSplit:
    return dataclasses.replace(synthetic_split(400), protocol="random-split")


@pytest.fixture
def folders(tmp_path: Path, trained: Path, split: BeatSplit, monkeypatch: pytest.MonkeyPatch) -> StudyFolders:
    monkeypatch.setattr(random_split, "SEEDS", {"best": (0, 1), "reference": (0,)})
    monkeypatch.setattr(comparison, "load_split", lambda *_: split)
    (tmp_path / "docs").mkdir()
    return StudyFolders(runs=trained, results=tmp_path / "results", log=tmp_path / "docs" / "scorings.jsonl")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, split: BeatSplit) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    for recipe, seeds in (("best", (0, 1)), ("reference", (0,))):
        for model in ("cnn_mlp", "cnn_kan"):
            for seed in seeds:
                train_model(
                    model,
                    SHORT[recipe],
                    seed,
                    split,
                    runs / f"{recipe}-{model}-{seed}",
                    threads=1,
                    compile_encoder=False,
                    trainer_options={"accelerator": "cpu"},
                )
    return runs


def test_the_study_is_five_seeds_of_ours_and_three_of_the_references_per_head() -> None:
    runs = planned_runs()
    assert len(runs) == len(set(runs)) == 16
    assert sum(run.recipe == "best" and run.model == "cnn_kan" for run in runs) == 5
    assert sum(run.recipe == "reference" and run.model == "cnn_mlp" for run in runs) == 3


def test_the_seed_with_the_best_validation_figure_is_shipped_and_stays_chosen(folders: StudyFolders) -> None:
    chosen = select_shipped(folders)
    for model, run in chosen.items():
        figures = {
            seed: json.loads((folders.runs / f"best-{model}-{seed}" / "run.json").read_text())["validation"]["macro_f1"]
            for seed in (0, 1)
        }
        assert run == Run("best", model, max(figures, key=lambda seed: figures[seed]))
    selection = folders.results / "selection.json"
    noted = json.loads(selection.read_text())
    noted["cnn_mlp"]["seed"] = 1 - noted["cnn_mlp"]["seed"]
    selection.write_text(json.dumps(noted))
    assert select_shipped(folders)["cnn_mlp"].seed == noted["cnn_mlp"]["seed"]


def test_no_test_beat_is_scored_before_the_choice(folders: StudyFolders, split: BeatSplit) -> None:
    with pytest.raises(DataError, match="choose the shipped models before scoring"):
        score_missing(folders, split, announce=say_nothing)
    assert not folders.log.exists()


def test_no_choice_before_all_seeds_have_finished(folders: StudyFolders, tmp_path: Path) -> None:
    unfinished = dataclasses.replace(folders, runs=tmp_path / "nowhere")
    with pytest.raises(DataNotFoundError, match="has not finished"):
        select_shipped(unfinished)


def test_from_runs_to_cards_and_page(folders: StudyFolders, tmp_path: Path) -> None:
    ship, page = tmp_path / "checkpoints", tmp_path / "docs" / "results.md"
    summary = run_comparison(folders, None, ship=ship, report=page, announce=say_nothing)
    assert set(summary["groups"]) == {"best/cnn_mlp", "best/cnn_kan", "reference/cnn_mlp", "reference/cnn_kan"}
    results = [json.loads((folders.results / f"best-cnn_kan-{seed}.json").read_text()) for seed in (0, 1)]
    mean = sum(result["test"]["macro_f1"] for result in results) / 2
    assert summary["groups"]["best/cnn_kan"]["macro F1"]["mean"] == pytest.approx(mean)
    scored = [json.loads(line) for line in folders.log.read_text().splitlines()]
    assert len(scored) == 6 + 2  # each run once, then the two shipped models
    for model in ("cnn_mlp", "cnn_kan"):
        shipped = load_checkpoint(ship / f"{model}.pth")
        chosen = select_shipped(folders)[model]
        assert shipped.training["seed"] == chosen.seed
        card = (ship / f"{model}.md").read_text()
        metadata = yaml.safe_load(card.split("---\n")[1])
        figures = json.loads((folders.results / f"{chosen.name}.json").read_text())["test"]
        (entry,) = metadata["model-index"]
        values = {metric["name"]: metric["value"] for metric in entry["results"][0]["metrics"]}
        assert values["macro F1"] == pytest.approx(figures["macro_f1"], abs=5e-5)
        assert SHARED_PATIENTS_NOTE in card
        assert "not a medical device" in card
        assert shipped.sha256 in card
    text = page.read_text()
    assert SHARED_PATIENTS_NOTE in text
    assert f"{len(scored)} so far" in text
    assert "published, other hardware" in text


def test_what_is_shipped_is_judged_before_its_cards_are_written(
    folders: StudyFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = {}

    def judge(checkpoints: dict[str, Checkpoint], *_: object, **__: object) -> dict[str, object]:
        judged.update({model: checkpoint.path for model, checkpoint in checkpoints.items()})
        return {"models": {}}

    monkeypatch.setattr(comparison, "judge_by_record", judge)
    ship, cards = tmp_path / "checkpoints", tmp_path / "cards"
    summary = run_comparison(folders, None, ship=ship, by_record=True, cards=cards, announce=say_nothing)
    assert judged == {model: ship / f"{model}.pth" for model in ("cnn_mlp", "cnn_kan")}
    assert json.loads((folders.results / "by-record.json").read_text()) == summary["by_record"] == {"models": {}}
    for model in judged:
        card = (cards / f"{model}.md").read_text()
        assert card == (ship / f"{model}.md").read_text()
        assert "Not measured yet for the shipped weights: `ecgkan compare --by-record`" in card


def test_a_second_call_scores_nothing_anew(folders: StudyFolders, split: BeatSplit) -> None:
    select_shipped(folders)
    assert len(score_missing(folders, split, announce=say_nothing)) == 6
    before = folders.log.read_text()
    assert score_missing(folders, split, announce=say_nothing) == []
    assert folders.log.read_text() == before


def test_results_stand_without_the_runs(folders: StudyFolders, split: BeatSplit, tmp_path: Path) -> None:
    select_shipped(folders)
    score_missing(folders, split, announce=say_nothing)
    without = dataclasses.replace(folders, runs=tmp_path / "nowhere")
    assert summarize(without) == summarize(folders)
    assert run_comparison(without, None, announce=say_nothing) == summarize(folders)


def test_mean_and_sample_standard_deviation() -> None:
    over = over_seeds([1.0, 2.0, 3.0])
    assert (over.mean, over.sd, over.n) == (2.0, 1.0, 3)
    assert str(over_seeds([0.5])) == "0.5000"
