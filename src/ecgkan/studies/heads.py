"""The study of heads under protocol `inter-patient`: MLP or KAN, and what each mend of the KAN does for it.

Every arm has the same encoder, starting from the same weights for the same seed, the same beats in the same order and
the same recipe but for what its name says; recipes lie frozen in `results/inter-patient/recipes/`. Each run trains on
all of DS1 for a fixed number of epochs, so nothing is chosen, and is then scored once on DS2, in the log.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecgkan.data.beat_table import BeatTable
from ecgkan.errors import DataError, EcgkanError
from ecgkan.evaluation.ds2_log import append_ds2_scoring, check_frozen, file_sha256
from ecgkan.evaluation.evaluate import CodeVersion, code_version, predict_logits
from ecgkan.evaluation.inter_patient import RecordConfusions, record_confusions
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.studies.random_split import StudyFolders
from ecgkan.training.fit import write_json
from ecgkan.training.recipe import Recipe, load_recipe

SEEDS: Final = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Arm:
    """One kind of model in the study.

    Attributes
    ----------
    name : str
        Of the arm and of its recipe.
    model : str
        `cnn_mlp` or `cnn_kan`.
    title : str
        What tables and figures call it.
    """

    name: str
    model: str
    title: str


ARMS: Final = (
    Arm("mlp", "cnn_mlp", "MLP, as published"),
    Arm("kan", "cnn_kan", "KAN, as published"),
    Arm("kan-equal-parameters", "cnn_kan", "KAN, parameters as MLP"),
    Arm("mlp-equal-latency", "cnn_mlp", "MLP, latency as KAN"),
    Arm("kan-range", "cnn_kan", "KAN, grid on [-3, 3]"),
    Arm("kan-batch-norm", "cnn_kan", "KAN, batch norm"),
    Arm("kan-init", "cnn_kan", "KAN, scaled init"),
    Arm("kan-no-spline-decay", "cnn_kan", "KAN, splines not decayed"),
    Arm("kan-grid-3", "cnn_kan", "KAN, grid size 3"),
    Arm("kan-grid-8", "cnn_kan", "KAN, grid size 8"),
    Arm("kan-mended", "cnn_kan", "KAN, all four mends"),
    Arm("kan-mended-equal-parameters", "cnn_kan", "KAN, mended, parameters as MLP"),
)
"""The published KAN has grid size 5 on [-1, 1], layer norm, the reference's init, and decay on everything.

At equal latency the MLP is widened instead of the KAN narrowed: however few hidden units it has, a KAN head evaluates
splines of 256 inputs, and takes longer than the published MLP head (benchmarks/head_latency.py).
"""

COMPARISONS: Final = (
    ("kan", "mlp"),
    ("kan-equal-parameters", "mlp"),
    ("kan", "mlp-equal-latency"),
    ("kan-mended", "mlp"),
    ("kan-mended-equal-parameters", "mlp"),
    ("kan-range", "kan"),
    ("kan-batch-norm", "kan"),
    ("kan-init", "kan"),
    ("kan-no-spline-decay", "kan"),
    ("kan-grid-3", "kan"),
    ("kan-grid-8", "kan"),
    ("kan-mended", "kan"),
)
"""Arm, and the arm it is compared with. Holm's correction runs over all of them."""

VALIDATED_ARMS: Final = ("mlp", "kan")
VALIDATION_FOLD: Final = 1
"""Fold of DS1 whose curves justify the number of epochs; seed 0."""

LONGER: Final = "-20-epochs"
"""What the recipes, and runs, are called that show in the fold what twice the epochs would bring."""


@dataclass(frozen=True, slots=True)
class HeadRun:
    """One training of the study; in a fold of DS1 it shows a validation curve, else it is scored on DS2."""

    arm: Arm
    seed: int
    fold: int | None = None
    longer: bool = False

    @property
    def recipe(self) -> str:
        """Name of its recipe."""
        return self.arm.name + (LONGER if self.longer else "")

    @property
    def name(self) -> str:
        """What its folder and its result file are called."""
        return f"{self.recipe}-{self.seed}" + ("" if self.fold is None else f"-fold{self.fold}")


def arm_named(name: str) -> Arm:
    """Return an arm by its name."""
    return next(arm for arm in ARMS if arm.name == name)


def planned_runs() -> list[HeadRun]:
    """Return the runs that are scored: the two published heads first, then seed by seed."""
    first = [HeadRun(arm, seed) for seed in SEEDS for arm in ARMS[:2]]
    return first + [HeadRun(arm, seed) for seed in SEEDS for arm in ARMS[2:]]


def validation_runs() -> list[HeadRun]:
    """Return the runs in a fold of DS1, by the arms' recipes and for twice the epochs."""
    return [HeadRun(arm_named(name), 0, VALIDATION_FOLD, longer) for longer in (False, True) for name in VALIDATED_ARMS]


def recipe_file(folders: StudyFolders, name: str) -> Path:
    """Return the frozen recipe of an arm, or of a run (`HeadRun.recipe`)."""
    return folders.results / "recipes" / f"{name}.json"


def result_file(folders: StudyFolders, run: HeadRun) -> Path:
    """Return the file of a run's result."""
    return folders.results / ("runs" if run.fold is None else "validation") / f"{run.name}.json"


def train_missing(
    folders: StudyFolders,
    data_dir: Path | None,
    *,
    jobs: int,
    announce: Callable[[str], None],
    runs: Sequence[HeadRun] | None = None,
) -> None:
    """Train, or resume, every run without a result or a finished folder, so many at a time, one thread each.

    Raises
    ------
    EcgkanError
        If a training fails; the others go on and are kept.
    """
    wanted = [*validation_runs(), *planned_runs()] if runs is None else runs
    missing = [run for run in wanted if not result_file(folders, run).is_file() and not _finished(folders, run)]

    def train(run: HeadRun) -> str | None:
        announce(f"training {run.name}")
        done = subprocess.run(_training_command(folders, run, data_dir), capture_output=True, text=True, check=False)
        return None if done.returncode == 0 else f"{run.name}: {done.stderr.strip()[-500:]}"

    with ThreadPoolExecutor(jobs) as pool:
        failures = [failure for failure in pool.map(train, missing) if failure]
    if failures:
        raise EcgkanError("training failed; run the same command again to go on\n" + "\n".join(failures))


def _training_command(folders: StudyFolders, run: HeadRun, data_dir: Path | None) -> list[str]:
    out = folders.runs / run.name
    command = [sys.executable, "-m", "ecgkan.cli", "train", "--protocol", "inter-patient", "--model", run.arm.model]
    command += ["--recipe", str(recipe_file(folders, run.recipe)), "--seed", str(run.seed), "--out", str(out)]
    command += ["--threads", "1", "--accelerator", "cpu"]
    if run.fold is not None:
        command += ["--fold", str(run.fold)]
    if (out / "recipe.json").is_file():
        command.append("--resume")
    return command + (["--data-dir", str(data_dir)] if data_dir is not None else [])


def _finished(folders: StudyFolders, run: HeadRun) -> bool:
    return (folders.runs / run.name / "run.json").is_file()


def note_validation(folders: StudyFolders) -> None:
    """Write the curves of finished validation runs among the results."""
    for run in validation_runs():
        file = result_file(folders, run)
        if _finished(folders, run) and not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            curve = {"fold": run.fold, "history": _trained(folders, run)["history"]}
            write_json(file, _identity(folders, run) | curve)


def unscored_runs(folders: StudyFolders) -> list[HeadRun]:
    """Return the finished runs that have no result."""
    return [run for run in planned_runs() if _finished(folders, run) and not result_file(folders, run).is_file()]


def score_missing(folders: StudyFolders, beats: BeatTable, *, announce: Callable[[str], None]) -> list[HeadRun]:
    """Score every finished run without a result on DS2, once, in the log; return those scored.

    Parameters
    ----------
    beats : BeatTable
        DS2.

    Raises
    ------
    DataError
        If any recipe of the study is not committed: all arms are frozen before the first scoring; or if a run was
        trained by another recipe than the committed one.
    """
    check_frozen([recipe_file(folders, arm.name) for arm in ARMS])
    scored, code = unscored_runs(folders), code_version()
    for run in scored:
        announce(f"scoring {run.name}")
        _score(folders, run, beats, code)
    return scored


def _score(folders: StudyFolders, run: HeadRun, beats: BeatTable, code: CodeVersion) -> None:
    checkpoint = load_checkpoint(folders.runs / run.name / f"{run.arm.model}.pth")
    trained, recipe = _trained(folders, run), recipe_file(folders, run.recipe)
    if trained["recipe_fields"] != _plain(load_recipe(recipe)):
        raise DataError(f"{folders.runs / run.name} was trained by another recipe than {recipe}; train it anew")
    logits = predict_logits(checkpoint.beat_model, beats.model_input(np.arange(len(beats))))
    confusions = record_confusions(beats.labels, logits.argmax(axis=1), beats.records)
    append_ds2_scoring(
        folders.log,
        recipe=recipe,
        model=run.arm.model,
        seed=run.seed,
        weights_sha256=checkpoint.sha256,
        confusion=confusions.total,
        code=code,
    )
    result_file(folders, run).parent.mkdir(parents=True, exist_ok=True)
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    write_json(
        result_file(folders, run),
        {
            **_identity(folders, run),
            "commit": code.commit,
            "parameters": parameters,
            "weights_sha256": checkpoint.sha256,
            "train_loss": [entry["train_loss"] for entry in trained["history"]],
            "ds2_confusion_by_record": confusions.to_dict(),
        },
    )


def _identity(folders: StudyFolders, run: HeadRun) -> dict[str, Any]:
    trained = _trained(folders, run)
    return {
        "arm": run.arm.name,
        "model": run.arm.model,
        "seed": run.seed,
        "recipe_sha256": file_sha256(recipe_file(folders, run.recipe)),
        "epochs": len(trained["history"]),
        **{key: trained[key] for key in ("seconds", "cpu_seconds", "resumed", "device", "torch")},
    }


def _trained(folders: StudyFolders, run: HeadRun) -> dict[str, Any]:
    trained: dict[str, Any] = json.loads((folders.runs / run.name / "run.json").read_text())
    return trained


def _plain(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's fields as JSON gives them back."""
    fields: dict[str, Any] = json.loads(json.dumps(recipe.to_dict()))
    return fields


@dataclass(frozen=True, slots=True, eq=False)
class HeadResult:
    """A scored run: what its file says, and its confusion matrices by record."""

    document: dict[str, Any]
    confusions: RecordConfusions


Results = dict[str, dict[int, HeadResult]]
"""Arm → seed → result."""


def load_results(folders: StudyFolders) -> Results:
    """Read the results of all runs that have one.

    Raises
    ------
    DataError
        If a result comes from another recipe than the one that is there now.
    """
    results: Results = {}
    for run in planned_runs():
        file = result_file(folders, run)
        if not file.is_file():
            continue
        document = json.loads(file.read_text())
        if document["recipe_sha256"] != file_sha256(recipe_file(folders, run.recipe)):
            raise DataError(f"{file} comes from another version of {recipe_file(folders, run.recipe)}; remove it")
        confusions = RecordConfusions.from_dict(document["ds2_confusion_by_record"])
        results.setdefault(run.arm.name, {})[run.seed] = HeadResult(document, confusions)
    return results


def load_validation(folders: StudyFolders) -> list[tuple[HeadRun, list[dict[str, float]]]]:
    """Return the validation curves that are there: run and history by epoch."""
    files = [(run, result_file(folders, run)) for run in validation_runs()]
    return [(run, json.loads(file.read_text())["history"]) for run, file in files if file.is_file()]
