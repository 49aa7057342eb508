"""Run a training: data in, checkpoint out, resumable after any interruption."""

import json
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

import ecgkan
from ecgkan.data.protocols import BeatSplit
from ecgkan.errors import CheckpointError, DataError, DataNotFoundError, OutputExistsError
from ecgkan.evaluation.evaluate import predict_logits, processor_name
from ecgkan.models.checkpoint import MODELS, save_checkpoint
from ecgkan.models.cnn import BeatClassifier, initialize_convolutions_and_linears
from ecgkan.training.module import TrainingRun, has_bfloat16
from ecgkan.training.progress import MetricsTable, TrainingProgress
from ecgkan.training.recipe import Recipe

LAST, BEST = "last.ckpt", "best.ckpt"

_HARMLESS_WARNINGS: Final = (
    ".*does not have many workers.*",  # batches are sliced from memory; there is nothing for workers to do
    ".*Trying to infer the `batch_size`.*",
    ".*is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",  # the run's own folder, claimed before
    ".*The dirpath has changed from .*",  # a run's folder may be moved before it is resumed
    ".*isinstance.treespec, LeafSpec.*",  # inside Lightning 2.6, about PyTorch's tree API
    ".*Precision bf16-mixed.*",
)


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a finished run leaves behind.

    Attributes
    ----------
    checkpoint : Path
        The model, ready for `load_model`.
    selected_epoch : int
        Epoch (from 0) whose weights were kept.
    epochs : int
        Epochs run.
    validation_loss, validation_macro_f1 : float or None
        Of the kept weights; None without validation beats.
    temperature : float
        Fitted on the validation set; 1 without one.
    """

    checkpoint: Path
    selected_epoch: int
    epochs: int
    validation_loss: float | None
    validation_macro_f1: float | None
    temperature: float


def train_model(
    name: str,
    recipe: Recipe,
    seed: int,
    split: BeatSplit,
    out: Path,
    *,
    resume: bool = False,
    threads: int | None = None,
    compile_encoder: bool | None = None,
    trainer_options: dict[str, Any] | None = None,
) -> TrainedModel | None:
    """Train a model by a recipe and write it to `out`.

    `out` receives `recipe.json`, `last.ckpt` and `best.ckpt` (after every epoch), `metrics.csv`, `tensorboard/`, and in
    the end `<name>.pth` and `run.json`.

    Parameters
    ----------
    name : str
        `cnn_mlp` or `cnn_kan`.
    seed : int
        Determines initialization, shuffling, dropout and augmentation: same seed and machine, same weights.
    split : BeatSplit
        Only its training and validation beats are looked at.
    resume : bool
        Continue the run found in `out`; it ends with the weights of an uninterrupted run.
    threads : int, optional
        PyTorch threads of this process.
    compile_encoder : bool, optional
        See `TrainingRun`; compiled and uncompiled runs draw other dropout masks and differ in rounding.
    trainer_options : dict, optional
        Further arguments of `pytorch_lightning.Trainer` (accelerator, devices, num_nodes, strategy ...).

    Returns
    -------
    TrainedModel or None
        None on all processes of a distributed run but the first, which writes the result.

    Raises
    ------
    OutputExistsError
        If `out` holds a run already and `resume` is not set.
    DataNotFoundError
        If there is nothing to resume.
    DataError
        If the run in `out` has another recipe, model or seed, or the recipe chooses by validation beats and there are
        none.
    """
    if name not in MODELS:
        raise DataError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}")
    _check_validation(recipe, split)
    identity: dict[str, Any] = {"model": name, "seed": seed, "protocol": split.protocol, "recipe": recipe.to_dict()}
    if split.fold is not None:
        identity["fold"] = split.fold
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        claim_folder(out, identity, resume=resume)
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    run = _build_run(name, recipe, seed, split, compile_encoder)
    resume_from = _resumable(out) if resume else None
    started, cpu_started = time.monotonic(), time.process_time()
    with _quiet_lightning():
        unvalidated = {} if len(split.validation) else {"limit_val_batches": 0}
        trainer = _build_trainer(recipe, out, unvalidated | (trainer_options or {}))
        trainer.fit(run, ckpt_path=resume_from, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if not trainer.is_global_zero:
        return None
    facts = {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "resumed": resume_from is not None,  # then the seconds are those of the last part alone
        "device": _device_name(trainer),
        "processor": platform.processor() or platform.machine(),
    }
    return _finish(run, identity, out, facts)


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: a training step frees and takes the same large blocks again and again."""
    import ctypes

    m_trim_threshold, m_mmap_threshold, size = -1, -3, 1 << 30
    with suppress(OSError, AttributeError):  # another C library: slower, nothing else
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_threshold, size)
        libc.mallopt(m_trim_threshold, size)


def build_model(name: str, recipe: Recipe, seed: int) -> BeatClassifier:
    """Initialize a model from a seed, with the head and the dropout that the recipe asks for."""
    torch.manual_seed(seed)
    head = _head_arguments(name, recipe)
    if name == "cnn_kan":
        head |= {"grid_range": recipe.kan_grid_range, "init": recipe.kan_init}
    model = MODELS[name](**head)
    if recipe.same_encoder_start:
        torch.manual_seed(seed)
        initialize_convolutions_and_linears(model.encoder)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p *= recipe.dropout_scale
    return model


def _head_arguments(name: str, recipe: Recipe) -> dict[str, Any]:
    """Return what a model must be built with, where it is not the default, for its weights to fit."""
    usual: dict[str, Any]
    asked: dict[str, Any]
    if name == "cnn_mlp":
        usual, asked = {"hidden_features": 128}, {"hidden_features": recipe.mlp_hidden_features}
    else:
        usual = {"grid_size": 5, "hidden_features": 64, "normalization": "layer"}
        asked = {
            "grid_size": recipe.kan_grid_size,
            "hidden_features": recipe.kan_hidden_features,
            "normalization": recipe.kan_normalization,
        }
    return {key: value for key, value in asked.items() if value != usual[key]}


def _check_validation(recipe: Recipe, split: BeatSplit) -> None:
    if recipe.needs_validation and len(split.validation) == 0:
        raise DataError(
            f"recipe {recipe.name} chooses by validation beats, and this split of protocol {split.protocol} has none; "
            "expected a fold (--fold), or a recipe with schedule one_cycle, no early stopping, and select_by last"
        )


def _build_run(name: str, recipe: Recipe, seed: int, split: BeatSplit, compile_encoder: bool | None) -> TrainingRun:
    table = split.table
    return TrainingRun(
        build_model(name, recipe, seed),
        recipe,
        seed,
        train_windows=torch.from_numpy(table.windows[split.train]),
        train_labels=torch.from_numpy(table.labels[split.train]),
        validation_input=torch.from_numpy(table.model_input(split.validation)),
        validation_labels=torch.from_numpy(table.labels[split.validation]),
        compile_encoder=compile_encoder,
    )


def _build_trainer(recipe: Recipe, out: Path, options: dict[str, Any]) -> pl.Trainer:
    every_epoch: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    callbacks: list[Callback] = [
        TrainingProgress(),
        MetricsTable(out / "metrics.csv"),
        # Lightning's own save_last writes only when a new best was found.
        ModelCheckpoint(out, filename=Path(LAST).stem, **every_epoch),
    ]
    if recipe.select_by != "last":
        monitor, mode = ("validation_loss", "min") if recipe.select_by == "loss" else ("validation_macro_f1", "max")
        callbacks.append(ModelCheckpoint(out, filename=Path(BEST).stem, monitor=monitor, mode=mode, **every_epoch))
    if recipe.early_stopping_patience is not None:
        callbacks.append(
            EarlyStopping("validation_loss", patience=recipe.early_stopping_patience, check_on_train_epoch_end=True)
        )
    defaults: dict[str, Any] = {
        "accelerator": "auto",
        "devices": 1,
        "max_epochs": recipe.epochs,
        "gradient_clip_val": recipe.gradient_clip_norm,
        "callbacks": callbacks,
        "logger": TensorBoardLogger(out, name="", version="tensorboard"),
        "reload_dataloaders_every_n_epochs": 1,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "log_every_n_steps": 100,
    }
    return pl.Trainer(**defaults | options)


def claim_folder(out: Path, identity: dict[str, Any], *, resume: bool) -> None:
    """Note the run's identity in its folder, or check that the folder holds this very run."""
    file = out / "recipe.json"
    if not file.is_file():
        if resume and not out.is_dir():
            raise DataNotFoundError(f"nothing to resume in {out}: no such folder; run without --resume first")
        out.mkdir(parents=True, exist_ok=True)
        write_json(file, identity)
        return
    if not resume:
        raise OutputExistsError(f"{out} holds a training run already; use --resume to continue it, or another folder")
    found = json.loads(file.read_text())
    differing = [key for key in identity if found.get(key) != identity[key]]
    if differing:
        key = differing[0]
        raise DataError(
            f"{file}: the run in this folder has {key} {found.get(key)!r}, expected {identity[key]!r}; resume with "
            "the same model, recipe and seed, or train into another folder"
        )


def _resumable(out: Path) -> Path | None:
    """Return the last epoch's checkpoint; None starts anew (interrupted before the first epoch ended)."""
    last = out / LAST
    return last if last.is_file() else None


def _device_name(trainer: pl.Trainer) -> str:
    """Return what computed a run: the GPU's name, or the processor's."""
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def _finish(run: TrainingRun, identity: dict[str, Any], out: Path, facts: dict[str, Any]) -> TrainedModel:
    """Take the chosen epoch's weights, fit the temperature, and write the model and `run.json`."""
    name = str(identity["model"])
    kept = out / (LAST if run.recipe.select_by == "last" else BEST)
    try:
        best = torch.load(kept, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{kept} is missing: no epoch was finished; train anew") from error
    run.load_state_dict(best["state_dict"])
    run.cpu()
    model = run.kept_model.eval()
    selected = best["history"][-1]
    beats, labels = run._validation
    validated = len(labels) > 0
    temperature = fit_temperature(torch.from_numpy(predict_logits(model, beats.numpy())), labels) if validated else 1.0
    training = {
        "recipe": run.recipe.name,
        "recipe_fields": run.recipe.to_dict(),
        "seed": run.seed,
        "selected_epoch": int(selected["epoch"]),
        "validation": {
            "loss": selected.get("validation_loss"),
            "macro_f1": selected.get("validation_macro_f1"),
        },
        "history": run.history,
        "ecgkan": ecgkan.__version__,
        "torch": str(torch.__version__),
        "bfloat16_native": has_bfloat16("cuda" if torch.cuda.is_available() else "cpu"),
    }
    path = out / f"{name}.pth"
    save_checkpoint(
        path,
        name=name,
        model=model,
        protocol=str(identity["protocol"]),
        temperature=temperature,
        training=training,
        arguments=_head_arguments(name, run.recipe),
    )
    write_json(out / "run.json", identity | {"temperature": temperature} | training | facts)
    return TrainedModel(
        checkpoint=path,
        selected_epoch=int(selected["epoch"]),
        epochs=len(run.history),
        validation_loss=selected.get("validation_loss"),
        validation_macro_f1=selected.get("validation_macro_f1"),
        temperature=temperature,
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Fit the temperature that minimizes the negative log-likelihood (Guo et al. 2017), on held-out beats.

    Parameters
    ----------
    logits : Tensor
        `[n, 5]`.
    labels : Tensor
        `[n]` int64.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits.double() / float(np.exp(log_temperature)), labels))

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON under a temporary name and rename it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(values, indent=1) + "\n")
    temporary.replace(path)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's tips and the warnings that do not concern a user of this package."""
    import logging

    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _HARMLESS_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.setLevel(level)
