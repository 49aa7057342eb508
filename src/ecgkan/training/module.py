"""The Lightning module: one training run of one model by one recipe."""

import os
import platform
import shutil
from collections.abc import Mapping
from typing import Any, cast

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

from ecgkan.aami import CLASSES
from ecgkan.models.cnn import WINDOW_SAMPLES, BeatClassifier
from ecgkan.training.batches import BeatBatches, beats_per_epoch, class_counts, epoch_generator, steps_per_epoch
from ecgkan.training.encoder import draw_dropout_masks, encode_for_training
from ecgkan.training.recipe import Recipe

VALIDATION_BATCH = 512


class TrainingRun(pl.LightningModule):
    """Trains a beat classifier; validates, and keeps, the weight average when the recipe has one.

    Parameters
    ----------
    model : BeatClassifier
        Freshly initialized.
    recipe : Recipe
        How to train.
    seed : int
        What shuffling, dropout and augmentation are drawn from, anew for each epoch.
    train_windows : Tensor
        `[n, 384]` float32, mV, wide windows.
    train_labels : Tensor
        `[n]` int64.
    validation_input : Tensor
        `[m, 1, 256]` float32, z-scored.
    validation_labels : Tensor
        `[m]` int64.
    compile_encoder : bool, optional
        Run the encoder's training pass through TorchInductor on the CPU; by default if there is a C++ compiler.
    """

    def __init__(
        self,
        model: BeatClassifier,
        recipe: Recipe,
        seed: int,
        *,
        train_windows: Tensor,
        train_labels: Tensor,
        validation_input: Tensor,
        validation_labels: Tensor,
        compile_encoder: bool | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.seed = seed
        self.history: list[dict[str, float]] = []
        self._train = (train_windows, train_labels)
        self._validation = (validation_input, validation_labels)
        self.class_weights: Tensor
        self.register_buffer(
            "class_weights", class_weights(class_counts(train_labels, recipe), recipe.class_weight_power)
        )
        self.averaged: AveragedModel | None = None
        if recipe.average_decay is not None:
            average = get_ema_multi_avg_fn(recipe.average_decay)  # type: ignore[no-untyped-call]
            self.averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
            self.averaged.requires_grad_(False)
        self._compiles = can_compile() if compile_encoder is None else compile_encoder
        self._encode = torch.compile(encode_for_training) if self._compiles else encode_for_training
        self._plateau: ReduceLROnPlateau | None = None
        self._logits: list[Tensor] = []
        self._plateau_state: dict[str, Any] | None = None

    @property
    def kept_model(self) -> BeatClassifier:
        """The model that is validated and saved: the weight average, or the trained one."""
        return cast(BeatClassifier, self.averaged.module) if self.averaged is not None else self.model

    def train_dataloader(self) -> BeatBatches:
        """Return this epoch's batches (Lightning asks anew for each epoch)."""
        windows, labels = self._train
        return BeatBatches(
            windows.to(self.device),
            labels.to(self.device),
            self.recipe,
            self.seed,
            self.current_epoch,
            self.trainer.global_rank,
            self.trainer.world_size,
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the validation batches."""
        beats = TensorDataset(*self._validation)
        batches = BatchSampler(SequentialSampler(beats), VALIDATION_BATCH, drop_last=False)
        return DataLoader(beats, sampler=batches, batch_size=None)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer, and the one-cycle schedule if the recipe has it."""
        recipe = self.recipe
        groups = parameter_groups(self.model, recipe)
        kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=True)
        if recipe.schedule == "plateau":
            # Not handed to Lightning: it steps epoch schedules after the epoch's checkpoint is written, so
            # that a resumed run would miss one step.
            self._plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=5)
            return optimizer
        beats = beats_per_epoch(self._train[1], recipe)
        steps = steps_per_epoch(beats, recipe, self.trainer.world_size) * recipe.epochs
        # A phase of no steps divides by zero in OneCycleLR, so runs of a few steps warm up for one step at least.
        warmup = max(recipe.warmup_fraction, 2.0 / (steps + 1))
        one_cycle = OneCycleLR(optimizer, max_lr=recipe.learning_rate, total_steps=steps + 1, pct_start=warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Reseed from (seed, epoch), so that a resumed run continues as an uninterrupted one."""
        self._mask_generator = epoch_generator(self.seed, self.current_epoch, stream=1 + self.global_rank)
        torch.manual_seed(int(self._mask_generator.integers(2**62)))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        x, labels = batch
        mixing, partner = 1.0, labels
        if self.recipe.mixup_alpha:
            mixing = float(self._mask_generator.beta(self.recipe.mixup_alpha, self.recipe.mixup_alpha))
            x, partner = mixing * x + (1.0 - mixing) * x.flip(0), labels.flip(0)
        logits = self.model.forward_head(self._training_features(x))
        loss = mixing * self._loss(logits, labels)
        if self.recipe.mixup_alpha:
            loss = loss + (1.0 - mixing) * self._loss(logits, partner)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def _training_features(self, x: Tensor) -> Tensor:
        reduced = self.recipe.precision == "bfloat16" and has_bfloat16(x.device.type)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=reduced):
            if x.device.type == "cpu" and self._compiles:
                masks = draw_dropout_masks(self.model.encoder, len(x), WINDOW_SAMPLES, self._mask_generator)
                return self._encode(self.model.encoder, x, masks).float()
            return self.model.get_features(x).float()

    def _loss(self, logits: Tensor, labels: Tensor, *, smoothing: float | None = None) -> Tensor:
        smoothing = self.recipe.label_smoothing if smoothing is None else smoothing
        return F.cross_entropy(logits, labels, weight=self.class_weights, label_smoothing=smoothing)

    def on_train_batch_end(self, outputs: Tensor | Mapping[str, Any] | None, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Update the weight average."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect logits of the kept model."""
        if self.averaged is not None:
            self.averaged.eval()
        self._logits.append(self.kept_model(batch[0].to(self.device)))

    def on_validation_epoch_end(self) -> None:
        """Log weighted loss and macro F1 over the whole validation set."""
        logits = torch.cat(self._logits)
        self._logits.clear()
        labels = self._validation[1].to(logits.device)
        self.log("validation_loss", self._loss(logits, labels, smoothing=0.0), prog_bar=True, sync_dist=True)
        predicted = logits.argmax(1).cpu().numpy()
        macro_f1 = f1_score(
            labels.cpu().numpy(), predicted, labels=range(len(CLASSES)), average="macro", zero_division=0
        )
        self.log("validation_macro_f1", float(macro_f1), prog_bar=True, sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Step the plateau schedule and note the epoch, before the checkpoint callback writes both."""
        metrics = self.trainer.callback_metrics
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        names = ("train_loss", "validation_loss", "validation_macro_f1")
        figures = {name: float(metrics[name]) for name in names if name in metrics}  # without validation, one
        self.history.append({"epoch": self.current_epoch, **figures, "learning_rate": rate})
        self.log("learning_rate", rate)
        if self._plateau is not None:
            self._plateau.step(figures["validation_loss"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history and the plateau schedule's state."""
        checkpoint["history"] = list(self.history)
        checkpoint["plateau"] = self._plateau.state_dict() if self._plateau is not None else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history and the plateau schedule's state back."""
        self.history = list(checkpoint["history"])
        self._plateau_state = checkpoint["plateau"]

    def on_train_start(self) -> None:
        """Restore the plateau schedule of a resumed run, which exists only now."""
        if self._plateau is not None and self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)


def can_compile() -> bool:
    """Say whether TorchInductor finds the C++ compiler that it needs on the CPU."""
    return shutil.which(os.environ.get("CXX", "c++")) is not None


def has_bfloat16(device_type: str) -> bool:
    """Say whether a device multiplies bfloat16 itself; a CPU that only imitates it takes some ten times as long."""
    if device_type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def class_weights(counts: Tensor, power: float) -> Tensor:
    """Return `(n / (5 n_c)) ** power` for the beats n_c of each class: `[5]` float32."""
    return ((counts.sum() / (len(CLASSES) * counts.double().clamp_min(1))) ** power).float()


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Split the parameters into those with weight decay and those without."""
    if recipe.decay_everything and recipe.decay_splines:
        return [{"params": list(model.parameters())}]
    return split_by_decay(model, decay_vectors=recipe.decay_everything)


def split_by_decay(model: nn.Module, *, decay_vectors: bool = False) -> list[dict[str, Any]]:
    """Spare spline coefficients from weight decay, and, unless asked otherwise, biases and norms: optimizer groups."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        decays = (decay_vectors or parameter.ndim >= 2) and not name.endswith("spline_weight")
        (decayed if decays else spared).append(parameter)
    return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
