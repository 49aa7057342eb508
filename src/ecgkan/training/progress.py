"""What a training run shows on a terminal and writes down after every epoch."""

import csv
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ecgkan.training.module import TrainingRun


class MetricsTable(pl.Callback):
    """Writes the history of a run as CSV, one row per epoch, whole after every epoch.

    Lightning's own CSV logger starts its file anew when a run is resumed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write all epochs so far, under a temporary name, then renamed; each epoch ends with a checkpoint."""
        if not trainer.is_global_zero or not isinstance(pl_module, TrainingRun):
            return
        temporary = self._path.with_suffix(".part")
        with temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(pl_module.history[0]))
            writer.writeheader()
            writer.writerows(pl_module.history)
        temporary.replace(self._path)


class TrainingProgress(pl.Callback):
    """One bar over the whole run: epoch, steps, loss, validation macro F1, and the time left; quiet in a pipe."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  validation macro F1 {task.fields[macro_f1]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task: TaskID | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the bar, at the first step this process will take."""
        if not self._progress.console.is_terminal or not trainer.is_global_zero:
            return
        self._progress.start()
        total = int(trainer.num_training_batches) * int(trainer.max_epochs or 1)
        self._task = self._progress.add_task(
            "training", total=total, completed=trainer.global_step, loss="–", macro_f1="–"
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Advance the bar."""
        if self._task is None:
            return
        figures: dict[str, str] = {}
        if batch_idx % 20 == 0:
            figures["loss"] = f"{float(outputs['loss']):.4f}"
        description = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._progress.update(self._task, advance=1, description=description, **figures)  # type: ignore[arg-type]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch's validation macro F1."""
        if self._task is not None:
            shown = f"{float(trainer.callback_metrics['validation_macro_f1']):.4f}"
            self._progress.update(self._task, macro_f1=shown)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop the bar, also when the run was interrupted."""
        self._progress.stop()
