"""Run a training of a model for new patients: DS1 in, checkpoint out, resumable after any interruption."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import ecgkan
from ecgkan.data.context_table import load_training_context
from ecgkan.errors import DataError
from ecgkan.models.checkpoint import PATIENT_MODELS, save_checkpoint
from ecgkan.training.calibration import Calibration
from ecgkan.training.fit import claim_folder, write_json
from ecgkan.training.patient_recipe import load_patient_recipe
from ecgkan.training.patients import STATE, load_noise, train_patient_model


@dataclass(frozen=True, slots=True)
class TrainedPatientModel:
    """What a finished run leaves behind.

    Attributes
    ----------
    checkpoint : Path
        The model, ready for `load_model`.
    epochs : int
        Epochs run.
    calibration : Calibration or None
        From the recipe's cross-validation; None if there was none, and probabilities are not calibrated.
    """

    checkpoint: Path
    epochs: int
    calibration: Calibration | None


def validation_file(recipe: Path, name: str, *, repeated: bool = False) -> Path:
    """Return the file of a recipe's cross-validation for one model, beside the recipe; or of a repetition of it."""
    return recipe.with_name(f"{recipe.stem}-{name}-validation{'-repeated' if repeated else ''}.json")


def read_calibration(recipe: Path, name: str) -> Calibration | None:
    """Read the calibration that a recipe's cross-validation fitted, if it has been run."""
    file = validation_file(recipe, name)
    if not file.is_file():
        return None
    try:
        document = json.loads(file.read_text())
        found = document["calibration"]
        calibration = Calibration(float(found["temperature"]), tuple(map(float, found["class_shift"])))
        fitted_for = document["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is damaged ({error!r}); run `ecgkan patients validate --recipe {recipe}` again"
        ) from error
    if fitted_for != load_patient_recipe(recipe).to_dict():
        raise DataError(
            f"{file} was fitted for another recipe than {recipe} is now; run `ecgkan patients validate --recipe "
            f"{recipe} --model {name}` first"
        )
    return calibration


def train_patient_run(
    name: str,
    recipe: Path,
    seed: int,
    out: Path,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
    threads: int | None = None,
    report: Callable[[int, float], None] | None = None,
) -> TrainedPatientModel:
    """Train a model on all of DS1 and write it to a folder.

    `out` receives `recipe.json`, `last.ckpt` (after every epoch), and in the end `<name>.pth` and `run.json`.

    Parameters
    ----------
    name : str
        `patient_mlp` or `patient_kan`.
    recipe : Path
        JSON file with the fields of `PatientRecipe`; the calibration is that of its cross-validation.
    seed : int
        See `train_patient_model`.
    out : Path
        Folder of this run.
    resume : bool
        Continue the run found in `out`.

    Raises
    ------
    OutputExistsError
        If `out` holds a run already and `resume` is not set.
    DataNotFoundError
        If there is nothing to resume.
    DataError
        If the run in `out` is another one.
    """
    if name not in PATIENT_MODELS:
        raise DataError(f"unknown model {name!r}; expected one of {', '.join(PATIENT_MODELS)}")
    chosen, calibration = load_patient_recipe(recipe), read_calibration(recipe, name)
    identity: dict[str, Any] = {"model": name, "seed": seed, "protocol": "inter-patient", "recipe": chosen.to_dict()}
    claim_folder(out, identity, resume=resume)
    if threads is not None:
        torch.set_num_threads(threads)
    history: list[float] = []
    started = time.monotonic()
    table, noise = load_training_context(data_dir), load_noise(data_dir)
    model = train_patient_model(name, chosen, seed, table, noise, state=out / STATE, history=history, report=report)
    if calibration is not None:
        model.class_shift.copy_(torch.tensor(calibration.class_shift))
    training = {
        "recipe": chosen.name,
        "recipe_fields": chosen.to_dict(),
        "seed": seed,
        "history": [{"epoch": epoch, "train_loss": loss} for epoch, loss in enumerate(history)],
        "calibrated": calibration is not None,
        "ecgkan": ecgkan.__version__,
        "torch": str(torch.__version__),
    }
    path = out / f"{name}.pth"
    temperature = 1.0 if calibration is None else calibration.temperature
    save_checkpoint(path, name=name, model=model, protocol="inter-patient", temperature=temperature, training=training)
    facts = {"seconds": round(time.monotonic() - started, 1), "processor": platform.processor() or platform.machine()}
    write_json(out / "run.json", identity | {"temperature": temperature} | training | facts)
    return TrainedPatientModel(checkpoint=path, epochs=chosen.epochs, calibration=calibration)
