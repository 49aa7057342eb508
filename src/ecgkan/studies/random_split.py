"""The study of protocol `random-split`: both heads, our recipe and the reference's, several seeds each.

Trains what is missing, two runs at a time with one thread each; ships, per head, the seed with the best
validation macro F1, chosen before any test beat is scored; scores every run once, in the log; and writes the
results page.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ecgkan.data.protocols import BeatSplit
from ecgkan.errors import DataError, DataNotFoundError, EcgkanError
from ecgkan.evaluation.evaluate import Evaluation, evaluate_checkpoint
from ecgkan.evaluation.scoring_log import append_scorings, check_log
from ecgkan.models.checkpoint import MODELS, load_checkpoint
from ecgkan.training.fit import write_json

SEEDS: Final = {"best": (0, 1, 2, 3, 4), "reference": (0, 1, 2)}
"""Recipe → seeds of the study."""


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """One training of the study."""

    recipe: str
    model: str
    seed: int

    @property
    def name(self) -> str:
        """What its folder and its result file are called."""
        return f"{self.recipe}-{self.model}-{self.seed}"


@dataclass(frozen=True, slots=True)
class StudyFolders:
    """Where the study keeps things.

    Attributes
    ----------
    runs : Path
        Training runs, one folder each: checkpoints and logs (not for version control).
    results : Path
        One JSON file per finished run, and `selection.json`.
    log : Path
        The log of test-set scorings.
    """

    runs: Path
    results: Path
    log: Path


def planned_runs() -> list[Run]:
    """Return all runs of the study, those of our recipe first."""
    return [Run(recipe, model, seed) for recipe, seeds in SEEDS.items() for seed in seeds for model in MODELS]


def train_missing(
    folders: StudyFolders, data_dir: Path | None, *, jobs: int = 2, announce: Callable[[str], None]
) -> list[Run]:
    """Train, or resume, every run that has neither a result nor a finished folder; return those trained.

    Raises
    ------
    EcgkanError
        If a training fails; the others go on and are kept.
    """
    missing = [
        run
        for run in planned_runs()
        if not result_file(folders, run).is_file() and not (folders.runs / run.name / "run.json").is_file()
    ]

    def train(run: Run) -> str | None:
        announce(f"training {run.name}")
        done = subprocess.run(_training_command(folders, run, data_dir), capture_output=True, text=True, check=False)
        return None if done.returncode == 0 else f"{run.name}: {done.stderr.strip()[-500:]}"

    with ThreadPoolExecutor(jobs) as pool:
        failures = [failure for failure in pool.map(train, missing) if failure]
    if failures:
        raise EcgkanError("training failed; run the same command again to go on\n" + "\n".join(failures))
    return missing


def _training_command(folders: StudyFolders, run: Run, data_dir: Path | None) -> list[str]:
    out = folders.runs / run.name
    command = [sys.executable, "-m", "ecgkan.cli", "train", "--model", run.model, "--recipe", run.recipe]
    command += ["--seed", str(run.seed), "--out", str(out), "--threads", "1"]
    if (out / "recipe.json").is_file():
        command.append("--resume")
    return command + (["--data-dir", str(data_dir)] if data_dir is not None else [])


def select_shipped(folders: StudyFolders) -> dict[str, Run]:
    """Choose, per head, the run of recipe `best` with the highest validation macro F1, and note it.

    The choice is made once: `selection.json` is written before a test beat is scored, and read ever after.

    Raises
    ------
    DataNotFoundError
        If a run of recipe `best` has not finished.
    """
    file = folders.results / "selection.json"
    if file.is_file():
        chosen = json.loads(file.read_text())
        return {model: Run("best", model, entry["seed"]) for model, entry in chosen.items()}
    chosen = {}
    for model in MODELS:
        figures = {seed: _validation(folders, Run("best", model, seed)) for seed in SEEDS["best"]}
        best = max(figures, key=lambda seed: figures[seed])
        chosen[model] = {
            "seed": best,
            "validation_macro_f1": figures[best],
            "validation_macro_f1_by_seed": {str(seed): value for seed, value in figures.items()},
            "weights_sha256": load_checkpoint(_checkpoint(folders, Run("best", model, best))).sha256,
        }
    folders.results.mkdir(parents=True, exist_ok=True)
    write_json(file, chosen)
    return {model: Run("best", model, entry["seed"]) for model, entry in chosen.items()}


def _validation(folders: StudyFolders, run: Run) -> float:
    file = folders.runs / run.name / "run.json"
    if not file.is_file():
        raise DataNotFoundError(
            f"{file} is missing: run {run.name} has not finished; the shipped models are chosen among all seeds, so "
            "train it first (ecgkan compare --train)"
        )
    return float(json.loads(file.read_text())["validation"]["macro_f1"])


def score_missing(folders: StudyFolders, split: BeatSplit, *, announce: Callable[[str], None]) -> list[Run]:
    """Score every finished run without a result on the test set, once; return those scored.

    Raises
    ------
    DataError
        If the shipped models have not been chosen yet.
    """
    if not (folders.results / "selection.json").is_file():
        raise DataError(f"{folders.results / 'selection.json'} is missing: choose the shipped models before scoring")
    check_log(folders.log)
    scored = []
    for run in planned_runs():
        finished = (folders.runs / run.name / "run.json").is_file()
        if finished and not result_file(folders, run).is_file():
            announce(f"scoring {run.name}")
            checkpoint = load_checkpoint(_checkpoint(folders, run))
            evaluation = evaluate_checkpoint(checkpoint, split, label=run.name, measure_speed=False, resamples=200)
            append_scorings(folders.log, [evaluation])
            write_json(result_file(folders, run), _result(folders, run, evaluation))
            scored.append(run)
    return scored


def _result(folders: StudyFolders, run: Run, evaluation: Evaluation) -> dict[str, Any]:
    trained = json.loads((folders.runs / run.name / "run.json").read_text())
    document = evaluation.to_dict()
    kept = ("recipe", "seed", "selected_epoch", "validation", "recipe_fields", "history", "seconds", "torch")
    return {
        "model": run.model,
        **{key: trained[key] for key in kept},
        "epochs": len(trained["history"]),
        "weights_sha256": evaluation.weights_sha256,
        "temperature": evaluation.temperature,
        "note": evaluation.note,
        "test": {
            **{name: document["metrics"][name]["value"] for name in document["metrics"]},
            "f1": {letter: figures["f1"]["value"] for letter, figures in document["classes"].items()},
            "confusion": document["confusion"]["counts"],
        },
    }


def result_file(folders: StudyFolders, run: Run) -> Path:
    """Return the file of a run's result."""
    return folders.results / f"{run.name}.json"


def load_results(folders: StudyFolders) -> dict[Run, dict[str, Any]]:
    """Read the results of all runs that have one."""
    files = {run: result_file(folders, run) for run in planned_runs()}
    return {run: json.loads(file.read_text()) for run, file in files.items() if file.is_file()}


def _checkpoint(folders: StudyFolders, run: Run) -> Path:
    return folders.runs / run.name / f"{run.model}.pth"


def shipped_checkpoint(folders: StudyFolders, model: str) -> Path:
    """Return the checkpoint of the run chosen for a head."""
    return _checkpoint(folders, select_shipped(folders)[model])


@dataclass(frozen=True, slots=True)
class MeanAndSd:
    """Mean and sample standard deviation over seeds (NaN with one seed)."""

    mean: float
    sd: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.sd:.4f}" if self.n > 1 else f"{self.mean:.4f}"


def over_seeds(values: Sequence[float]) -> MeanAndSd:
    """Summarize one figure over seeds."""
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    return MeanAndSd(statistics.fmean(values), sd, len(values))
