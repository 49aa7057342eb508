"""Train the models for new patients on the records of DS1; DS2 is never read here."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ecgkan.data.beats import BEAT_FS
from ecgkan.data.context import SHAPE_AFTER, SHAPE_BEFORE, SHAPE_STRIDE, cut_shapes
from ecgkan.data.context_table import ContextTable
from ecgkan.data.mitdb import database_dir
from ecgkan.data.recording import read_recording
from ecgkan.errors import DataError
from ecgkan.models.checkpoint import PATIENT_MODELS
from ecgkan.models.patient import PatientClassifier
from ecgkan.training.batches import epoch_generator
from ecgkan.training.fit import keep_freed_memory
from ecgkan.training.module import split_by_decay
from ecgkan.training.patient_batches import PatientBatches, make_up_beats, steps_per_epoch
from ecgkan.training.patient_recipe import PatientRecipe

NOISES: Final = ("bw", "ma")
"""Noise records of the noise stress database used in training; `em` is kept for testing."""

NOISE_STEP_S: Final = 0.25
"""Pieces of noise are cut so far apart."""

STATE: Final = "last.ckpt"


def load_noise(data_dir: Path | None = None) -> Tensor:
    """Cut recorded noise into pieces, filtered as beats are: `[k, 112]` float32, standard deviation 1 over all."""
    database = database_dir("nstdb", data_dir)
    pieces = []
    for name in NOISES:
        recording = read_recording(database / name)
        first, stop = SHAPE_STRIDE * SHAPE_BEFORE, recording.n_samples - SHAPE_STRIDE * SHAPE_AFTER
        for column in (0, 1):
            cut = cut_shapes(recording.signals[:, column], np.arange(first, stop, round(NOISE_STEP_S * BEAT_FS)))
            pieces.append(cut / cut.std())
    return torch.from_numpy(np.concatenate(pieces))


def train_patient_model(
    name: str,
    recipe: PatientRecipe,
    seed: int,
    table: ContextTable,
    noise: Tensor,
    *,
    state: Path | None = None,
    history: list[float] | None = None,
    report: Callable[[int, float], None] | None = None,
) -> PatientClassifier:
    """Train a model and return the average of its weights over the last steps, in eval mode, on the CPU.

    Parameters
    ----------
    name : str
        `patient_mlp` or `patient_kan`.
    recipe : PatientRecipe
        How to train.
    seed : int
        What initialization, batches and dropout are drawn from, anew for each epoch.
    table : ContextTable
        Training records.
    noise : Tensor
        From `load_noise`.
    state : Path, optional
        Where to keep the state after each epoch; a training found there goes on, and ends with the weights it would
        have had without the interruption.
    history : list of float, optional
        Is filled with the mean loss of each epoch, those before an interruption too.
    report : callable, optional
        Called after each epoch with its number and mean loss.

    Raises
    ------
    DataError
        If there is no such model, or `state` holds a training of another one.
    """
    if name not in PATIENT_MODELS:
        raise DataError(f"unknown model {name!r}; expected one of {', '.join(PATIENT_MODELS)}")
    keep_freed_memory()
    torch.manual_seed(seed)
    training = _Training(PATIENT_MODELS[name](), recipe, table)
    made_up = make_up_beats(table, epoch_generator(seed, 0, stream=1), per_record=recipe.rhythms_per_record)
    identity = {"model": name, "seed": seed, "recipe": recipe.to_dict(), "beats": len(table)}
    losses = [] if history is None else history
    first = training.restore(state, identity, losses) if state is not None and state.is_file() else 0
    for epoch in range(first, recipe.epochs):
        rng = epoch_generator(seed, epoch, stream=0)
        torch.manual_seed(int(rng.integers(2**62)))
        loss = training.epoch(PatientBatches(table, made_up, noise, recipe, rng))
        losses.append(loss)
        if state is not None:
            training.save(state, identity, losses)
        if report is not None:
            report(epoch, loss)
    return cast(PatientClassifier, training.averaged.module.eval())


class _Training:
    """A model with its optimizer, schedule and weight average."""

    def __init__(self, model: PatientClassifier, recipe: PatientRecipe, table: ContextTable) -> None:
        self.model, self.recipe = model, recipe
        groups = split_by_decay(model)
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        steps = recipe.epochs * steps_per_epoch(table, recipe)
        warmup = max(0.2, 2.0 / (steps + 1))  # of a few steps, one at least warms up
        self.schedule = OneCycleLR(self.optimizer, recipe.learning_rate, total_steps=steps + 1, pct_start=warmup)
        average = get_ema_multi_avg_fn(recipe.average_decay)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)

    def epoch(self, batches: PatientBatches) -> float:
        """Train an epoch and return its mean loss."""
        self.model.train()
        losses = []
        for shapes, rhythm, labels in batches:
            loss = F.cross_entropy(self.model(shapes, rhythm), labels, label_smoothing=self.recipe.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip_norm)
            self.optimizer.step()
            self.schedule.step()
            self.averaged.update_parameters(self.model)
            losses.append(loss.item())
        return float(np.mean(losses))

    def save(self, path: Path, identity: dict[str, Any], losses: list[float]) -> None:
        """Write the state under a temporary name and rename it."""
        parts = {part: getattr(self, part).state_dict() for part in ("model", "optimizer", "schedule", "averaged")}
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                torch.save(parts | {"identity": identity, "losses": losses}, stream)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def restore(self, path: Path, identity: dict[str, Any], losses: list[float]) -> int:
        """Take the state of an earlier training, add its losses, and return the next epoch."""
        found = torch.load(path, map_location="cpu", weights_only=True)
        if found["identity"] != identity:
            differing = next(key for key in identity if found["identity"].get(key) != identity[key])
            raise DataError(
                f"{path}: the training in this file has {differing} {found['identity'].get(differing)!r}, expected "
                f"{identity[differing]!r}; continue with the same, or train into another folder"
            )
        for part in ("model", "optimizer", "schedule", "averaged"):
            getattr(self, part).load_state_dict(found[part])
        losses += found["losses"]
        return len(losses)


def predict_context(model: PatientClassifier, table: ContextTable, *, lead: int = 0) -> NDArray[np.float32]:
    """Return the logits of all beats of a table: `[n, 5]` float32."""
    context = table.model_input(lead)
    shapes, rhythm = torch.from_numpy(context.shapes), torch.from_numpy(context.rhythm)
    with torch.inference_mode():
        batches = zip(torch.split(shapes, 512), torch.split(rhythm, 512), strict=True)
        logits: NDArray[np.float32] = torch.cat([model(*batch) for batch in batches]).numpy()
    return logits


def predict_two_leads(model: PatientClassifier, table: ContextTable) -> NDArray[np.float32]:
    """Return the mean of the logits that a model gives both leads of all beats of a table: `[n, 5]` float32."""
    logits = predict_context(model, table)
    logits += predict_context(model, table, lead=1)
    logits /= 2
    return logits
