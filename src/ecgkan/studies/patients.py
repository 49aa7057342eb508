"""The models for new patients: cross-validated inside DS1, trained on all of it, scored on DS2.

The order is the protocol's: a recipe is cross-validated record-wise inside DS1, which also fits the calibration; it is
committed; then both heads are trained with every seed; each run meets DS2 once, after the recipe was committed, and
the log says so.
The shipped seed is the first one, whatever the others turn out to be.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.context_table import ContextTable, load_training_context
from ecgkan.data.ds2 import load_test_context
from ecgkan.data.mitdb import DS1
from ecgkan.data.protocols import FOLDS, INTER_PATIENT_NOTE
from ecgkan.errors import DataError, DataNotFoundError, EcgkanError
from ecgkan.evaluation.ds2_log import append_ds2_scoring, check_frozen, read_ds2_log
from ecgkan.evaluation.evaluate import reliability_dict
from ecgkan.evaluation.inter_patient import RecordConfusions, headline_dict, patients_document, record_confusions
from ecgkan.evaluation.metrics import reliability
from ecgkan.evaluation.selective import risk_coverage
from ecgkan.models.checkpoint import PATIENT_MODELS, Checkpoint, load_checkpoint
from ecgkan.models.patient import PatientClassifier
from ecgkan.training.calibration import fit_calibration
from ecgkan.training.fit import write_json
from ecgkan.training.patient_recipe import load_patient_recipe
from ecgkan.training.patient_runs import validation_file
from ecgkan.training.patients import load_noise, predict_context, predict_two_leads, train_patient_model

SEEDS: Final = (0, 1, 2, 3, 4)
"""Seeds of each head."""

SHIPPED_SEED: Final = 0
"""Fixed before anything was scored."""

LEADS: Final = {"ds2": 1, "ds2_two_leads": 2}
"""Table of a run's figures → how many leads the model looked at: the one chosen by name, as in the literature and by
default, or both, as `ecgkan classify --second-lead auto` does."""


@dataclass(frozen=True, slots=True)
class PatientFolders:
    """Where the study keeps things.

    Attributes
    ----------
    recipe : Path
        The frozen recipe; results lie beside it.
    runs : Path
        Training runs, one folder each (not for version control).
    log : Path
        The log of DS2 scorings.
    """

    recipe: Path
    runs: Path
    log: Path

    def run(self, model: str, seed: int) -> Path:
        """Return the folder of a training run."""
        return self.runs / f"{self.recipe.stem}-{model}-{seed}"

    def result(self, model: str, seed: int) -> Path:
        """Return the file of a run's figures on DS2."""
        return self.recipe.with_name(f"{self.recipe.stem}-{model}-{seed}.json")


def cross_validate(
    recipe: Path,
    model: str,
    *,
    repeat: bool = False,
    data_dir: Path | None = None,
    seed: int = 0,
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Cross-validate a recipe record-wise inside DS1, fit the calibration on the held-out beats, and note both.

    Parameters
    ----------
    recipe : Path
        The recipe's file.
    model : str
        `patient_mlp` or `patient_kan`.
    repeat : bool
        Note it as a repetition: the calibration that finished models carry stays as it is. Another machine rounds
        otherwise, so that a repetition differs in the third digit.

    Returns
    -------
    dict
        What is written beside the recipe: figures before and after calibration, and the calibration.
    """
    chosen = load_patient_recipe(recipe)
    table, noise = load_training_context(data_dir), load_noise(data_dir)
    logits, both = np.zeros((2, len(table), len(CLASSES)), dtype=np.float32)
    for fold in FOLDS:
        announce(f"{model}: records {' '.join(fold)} held out")
        training = table.of_records([record for record in DS1 if record not in fold])
        network = train_patient_model(model, chosen, seed, training, noise)
        rows, held_out = np.isin(table.records, fold), table.of_records(fold)
        logits[rows] = predict_context(network, held_out)
        both[rows] = predict_two_leads(network, held_out)
    calibration = fit_calibration(logits[table.counted], table.labels[table.counted])
    shift = np.array(calibration.class_shift, dtype=np.float32)
    document = {
        "model": model,
        "recipe": chosen.to_dict(),
        "seed": seed,
        "folds": [list(fold) for fold in FOLDS],
        "calibration": {"temperature": calibration.temperature, "class_shift": list(calibration.class_shift)},
        "held_out_uncalibrated": headline_dict(_counted(table, logits).total),
        "held_out": figures_of(table, logits + shift, calibration.temperature),
        "held_out_two_leads": figures_of(table, both + shift, calibration.temperature),
    }
    write_json(validation_file(recipe, model, repeated=repeat), document)
    return document


def _counted(table: ContextTable, logits: NDArray[np.float32]) -> RecordConfusions:
    chosen = table.counted
    return record_confusions(table.labels[chosen], logits[chosen].argmax(axis=1), table.records[chosen])


def figures_of(table: ContextTable, logits: NDArray[np.float32], temperature: float) -> dict[str, Any]:
    """Return everything that is told of logits (shifted already), on the beats that the protocol counts."""
    probabilities = calibrated_probabilities(logits[table.counted], temperature)
    labels = table.labels[table.counted]
    risk = risk_coverage(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    return patients_document(_counted(table, logits)) | {
        "reliability": reliability_dict(reliability(labels, probabilities)),
        "risk_coverage": risk.to_dict(),
    }


def calibrated_probabilities(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return `softmax(logits / temperature)`, `[n, 5]`; the model has added its class shifts already."""
    from scipy.special import softmax

    probabilities: NDArray[np.float64] = softmax(logits.astype(np.float64) / temperature, axis=1)
    return probabilities


def train_missing(
    folders: PatientFolders, *, data_dir: Path | None = None, jobs: int = 2, announce: Callable[[str], None]
) -> list[str]:
    """Train, or resume, every run of the study that is neither trained nor scored; return their names.

    Raises
    ------
    DataNotFoundError
        If the recipe has not been cross-validated: its calibration is part of the models.
    EcgkanError
        If a training fails; the others go on and are kept.
    """
    for model in PATIENT_MODELS:
        if not validation_file(folders.recipe, model).is_file():
            raise DataNotFoundError(
                f"{validation_file(folders.recipe, model)} is missing; run `ecgkan patients validate "
                f"--recipe {folders.recipe}` first"
            )
    missing = [
        (model, seed)
        for seed in SEEDS
        for model in PATIENT_MODELS
        if not folders.result(model, seed).is_file() and not (folders.run(model, seed) / "run.json").is_file()
    ]

    def train(run: tuple[str, int]) -> str | None:
        announce(f"training {folders.run(*run).name}")
        done = subprocess.run(_training_command(folders, *run, data_dir), capture_output=True, text=True, check=False)
        return None if done.returncode == 0 else f"{folders.run(*run).name}: {done.stderr.strip()[-500:]}"

    with ThreadPoolExecutor(jobs) as pool:
        failures = [failure for failure in pool.map(train, missing) if failure]
    if failures:
        raise EcgkanError("training failed; run the same command again to go on\n" + "\n".join(failures))
    return [folders.run(*run).name for run in missing]


def _training_command(folders: PatientFolders, model: str, seed: int, data_dir: Path | None) -> list[str]:
    out = folders.run(model, seed)
    command = [sys.executable, "-m", "ecgkan.cli", "train", "--model", model, "--recipe", str(folders.recipe)]
    command += ["--seed", str(seed), "--out", str(out), "--threads", "1"]
    if (out / "recipe.json").is_file():
        command.append("--resume")
    return command + (["--data-dir", str(data_dir)] if data_dir is not None else [])


def score_missing(
    folders: PatientFolders, *, data_dir: Path | None = None, announce: Callable[[str], None]
) -> list[str]:
    """Score every trained run without a result on DS2, once, and log it; return their names.

    Raises
    ------
    DataError
        If the recipe or its cross-validation is not committed as it is.
    """
    frozen = [validation_file(folders.recipe, model) for model in PATIENT_MODELS]
    check_frozen([folders.recipe, *frozen])
    table: ContextTable | None = None
    scored = []
    for model in PATIENT_MODELS:
        for seed in SEEDS:
            trained = (folders.run(model, seed) / "run.json").is_file()
            told = load_result(folders.result(model, seed))
            missing = [name for name in LEADS if name not in told]
            if not trained or not missing:
                continue
            announce(f"scoring {folders.run(model, seed).name}")
            table = load_test_context(data_dir) if table is None else table
            checkpoint = load_checkpoint(folders.run(model, seed) / f"{model}.pth")
            _check_recipe(checkpoint, folders)
            if told and told["weights_sha256"] != checkpoint.sha256:
                raise DataError(
                    f"{folders.result(model, seed)} tells of weights {told['weights_sha256'][:12]}…, "
                    f"{checkpoint.path} holds {checkpoint.sha256[:12]}…; remove one of them"
                )
            figures = {name: score_on(checkpoint, table, leads=LEADS[name]) for name in missing}
            for name in missing:
                append_ds2_scoring(
                    folders.log,
                    recipe=folders.recipe,
                    model=model,
                    seed=seed,
                    weights_sha256=checkpoint.sha256,
                    confusion=RecordConfusions.from_dict(figures[name]["confusion_by_record"]).total,
                    leads=LEADS[name],
                )
            write_json(folders.result(model, seed), (told or _about(folders, checkpoint)) | figures)
            scored.append(folders.run(model, seed).name)
    return scored


def load_result(file: Path) -> dict[str, Any]:
    """Read a run's figures on DS2; nothing where there is no file."""
    told: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return told


def _check_recipe(checkpoint: Checkpoint, folders: PatientFolders) -> None:
    expected = load_patient_recipe(folders.recipe).to_dict()
    if checkpoint.training.get("recipe_fields") != expected:
        raise DataError(
            f"{checkpoint.path} was trained by another recipe than {folders.recipe}; train it anew, or score it by "
            "its own recipe"
        )


def score_on(checkpoint: Checkpoint, table: ContextTable, *, leads: int = 1) -> dict[str, Any]:
    """Return a model's figures on the counted beats of a table, by the lead chosen by name or by both."""
    if not isinstance(checkpoint.model, PatientClassifier):
        raise DataError(f"{checkpoint.path}: {checkpoint.name} is no model for new patients")
    predict = predict_context if leads == 1 else predict_two_leads
    return figures_of(table, predict(checkpoint.model, table), checkpoint.temperature)


def scored_models(names: Sequence[str], log: Path) -> dict[str, tuple[Checkpoint, PatientClassifier]]:
    """Load models for new patients that have met DS2 before: shipped ones, or ones in the log.

    Parameters
    ----------
    names : sequence of str
        Files, or names of shipped models.
    log : Path
        The log of DS2 scorings.

    Raises
    ------
    DataError
        If one is of another kind or protocol, or has never been scored: a first meeting is counted.
    """
    known = {line["weights_sha256"] for line in read_ds2_log(log)}
    models = {}
    for name in names:
        checkpoint = load_checkpoint(name)
        if not isinstance(checkpoint.model, PatientClassifier) or checkpoint.protocol != "inter-patient":
            raise DataError(
                f"{name}: {checkpoint.name}, trained by protocol {checkpoint.protocol}, is not scored on DS2: models "
                f"of protocol random-split have seen its patients; expected {' or '.join(PATIENT_MODELS)}"
            )
        if name not in PATIENT_MODELS and checkpoint.sha256 not in known:
            raise DataError(
                f"{name}: weights {checkpoint.sha256[:12]}… are not in {log}: they have not met DS2 yet, and a first "
                "meeting is counted; freeze the recipe and use `ecgkan patients score`"
            )
        models[name] = (checkpoint, checkpoint.model)
    return models


def _about(folders: PatientFolders, checkpoint: Checkpoint) -> dict[str, Any]:
    trained = json.loads((folders.run(checkpoint.name, checkpoint.training["seed"]) / "run.json").read_text())
    return {
        "model": checkpoint.name,
        "recipe": checkpoint.training["recipe"],
        "seed": checkpoint.training["seed"],
        "weights_sha256": checkpoint.sha256,
        "temperature": checkpoint.temperature,
        "seconds": trained["seconds"],
        "note": INTER_PATIENT_NOTE,
    }


def load_results(folders: PatientFolders) -> dict[str, list[dict[str, Any]]]:
    """Read the results of all runs that have one, by model, in the order of the seeds."""
    files = {model: [folders.result(model, seed) for seed in SEEDS] for model in PATIENT_MODELS}
    return {
        model: [json.loads(file.read_text()) for file in of_model if file.is_file()]
        for model, of_model in files.items()
    }


def ship(folders: PatientFolders, destination: Path) -> list[Path]:
    """Copy the shipped seed of each head to a folder under a temporary name, then rename it."""
    shipped = []
    for model in PATIENT_MODELS:
        source = folders.run(model, SHIPPED_SEED) / f"{model}.pth"
        if not source.is_file():
            raise DataNotFoundError(f"{source} is missing: train it first (ecgkan patients train)")
        target = destination / f"{model}.pth"
        temporary = target.with_suffix(".part")
        shutil.copyfile(source, temporary)
        temporary.replace(target)
        shipped.append(target)
    return shipped


def describe(document: dict[str, Any]) -> str:
    """Return one line of a headline table: accuracy, macro F1, and Se, +P, F1 of N S V."""
    classes = document["classes"]
    figures = [
        f"{letter} Se {_percent(classes[letter]['se'])} +P {_percent(classes[letter]['ppv'])} "
        f"F1 {_percent(classes[letter]['f1'])}"
        for letter in "NSV"
    ]
    return f"accuracy {_percent(document['accuracy'])} macro F1 {_percent(document['macro_f1'])} · " + " · ".join(
        figures
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"
