"""Score checkpoints on a protocol's beats: predictions, figures with intervals, calibration, size and speed."""

import math
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

import ecgkan
from ecgkan.aami import CLASSES
from ecgkan.data.protocols import INTER_PATIENT_NOTE, SHARED_PATIENTS_NOTE, BeatSplit
from ecgkan.errors import CheckpointError, DataError
from ecgkan.evaluation.metrics import (
    INTERVAL_LEVEL,
    RESAMPLES,
    Interval,
    Intervals,
    Metrics,
    Reliability,
    bootstrap_metrics,
    classification_metrics,
    reliability,
)

if TYPE_CHECKING:
    from ecgkan.models.checkpoint import Checkpoint
    from ecgkan.models.cnn import BeatClassifier

Subset = Literal["test", "validation"]

PROTOCOL_NOTES: Final = {"random-split": SHARED_PATIENTS_NOTE, "inter-patient": INTER_PATIENT_NOTE}
"""Protocol → the line that each of its outputs carries."""

MODEL_TITLES: Final = {
    "cnn_mlp": "CNN+MLP",
    "cnn_kan": "CNN+KAN",
    "patient_mlp": "patient MLP",
    "patient_kan": "patient KAN",
}
"""Model name → how tables and figures call it."""

BATCH_SIZE: Final = 512
LATENCY_BATCHES: Final = {1: 200, 128: 20}
"""Batch size → number of timed runs; a tenth as many, and at least three, warm up before."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds per sample of a forward pass on the CPU: median of repeated runs, one thread, warm."""

    batch_1_ms: float
    batch_128_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A checkpoint's predictions on a subset of a protocol's beats, and the figures that follow.

    Attributes
    ----------
    label : str
        What tables, figures and files call it; unique among checkpoints evaluated together.
    name : str
        Model: `cnn_mlp` or `cnn_kan`.
    protocol : str
        Protocol whose beats were scored.
    subset : str
        `test` or `validation`.
    checkpoint : str
        Checkpoint as it was asked for: a shipped model's name or a file.
    weights_sha256 : str
        Of the checkpoint file.
    training : dict
        As the checkpoint tells: recipe, seed, selected epoch, validation figures, history.
    temperature : float
        What the logits were divided by before the softmax.
    parameters : int
        Number of trainable parameters.
    latency : Latency or None
        None where it was not measured.
    indices : ndarray
        `[n]` int64, beats in the protocol's table.
    records : ndarray
        `[n]` str, record of each beat.
    samples : ndarray
        `[n]` int64, R peak of each beat at 360 Hz.
    labels : ndarray
        `[n]` int64, reference class indices.
    probabilities : ndarray
        `[n, 5]` float64, calibrated by the temperature.
    metrics : Metrics
        Figures.
    intervals : Intervals
        Their 95 % bootstrap intervals.
    uncalibrated : Reliability
        Calibration at temperature 1.
    """

    label: str
    name: str
    protocol: str
    subset: str
    checkpoint: str
    weights_sha256: str
    training: dict[str, Any]
    temperature: float
    parameters: int
    latency: Latency | None
    indices: NDArray[np.int64]  # [n]
    records: NDArray[np.str_]  # [n]
    samples: NDArray[np.int64]  # [n]
    labels: NDArray[np.int64]  # [n]
    probabilities: NDArray[np.float64]  # [n, 5]
    metrics: Metrics
    intervals: Intervals
    uncalibrated: Reliability
    resamples: int = RESAMPLES
    seed: int = 0
    note: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "note", PROTOCOL_NOTES.get(self.protocol, ""))

    @property
    def title(self) -> str:
        """The model's title, and the label where it says more."""
        title = MODEL_TITLES.get(self.name, self.name)
        return title if self.label == self.name else f"{title} ({self.label})"

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Predicted class indices, `[n]` int64."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def wrong(self) -> NDArray[np.int64]:
        """Positions of the beats predicted wrong, `[k]` int64."""
        return np.flatnonzero(self.predicted != self.labels)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single beats as plain values for JSON; undefined figures are None."""
        kept = ("recipe", "recipe_fields", "seed", "selected_epoch", "validation")
        return {
            "label": self.label,
            "model": self.name,
            "protocol": self.protocol,
            "subset": self.subset,
            "note": self.note,
            "checkpoint": self.checkpoint,
            "weights_sha256": self.weights_sha256,
            "training": {key: self.training[key] for key in kept if key in self.training},
            "temperature": self.temperature,
            "parameters": self.parameters,
            "latency_ms_per_sample": None
            if self.latency is None
            else {
                "batch_1": self.latency.batch_1_ms,
                "batch_128": self.latency.batch_128_ms,
                "method": "median, one thread, warm, CPU",
            },
            "beats": len(self.labels),
            "beats_per_class": dict(zip(CLASSES, self.metrics.support.tolist(), strict=True)),
            "bootstrap": {
                "resamples": self.resamples,
                "level": INTERVAL_LEVEL,
                "seed": self.seed,
                "method": "beats drawn with replacement, percentile intervals",
            },
            "metrics": _metrics_as_dict(self.metrics, self.intervals),
            "classes": _classes_as_dict(self.metrics, self.intervals),
            "confusion": {
                "rows": "reference",
                "columns": "predicted",
                "order": list(CLASSES),
                "counts": self.metrics.confusion.tolist(),
            },
            "reliability": reliability_dict(self.metrics.reliability),
            "reliability_at_temperature_1": reliability_dict(self.uncalibrated),
        }


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """What code computed a result: the package's version and, in a git checkout, the commit (`-dirty` if changed)."""

    version: str
    commit: str | None


def evaluate_checkpoint(
    checkpoint: "Checkpoint",
    split: BeatSplit,
    *,
    subset: Subset = "test",
    label: str | None = None,
    requested_as: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    measure_speed: bool = True,
) -> Evaluation:
    """Score a checkpoint on a subset of a protocol.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model, with the temperature that calibrates its probabilities (it does not change predicted classes).
    split : BeatSplit
        The protocol's beats.
    subset : {"test", "validation"}
        Which beats to score.
    label : str, optional
        What to call it in tables, figures and file names; the model's name by default.
    requested_as : str, optional
        How the user named the checkpoint; its path by default.
    resamples, seed : int
        Of the bootstrap intervals.
    measure_speed : bool
        Measure milliseconds per sample (a few seconds).

    Returns
    -------
    Evaluation

    Raises
    ------
    CheckpointError
        If it was trained by another protocol (its training beats could be among these), has other classes, or
        yields logits that are not finite.
    DataError
        If there is no such subset.
    """
    indices = _subset_indices(split, subset)
    _check_fits(checkpoint, split)
    table = split.table
    logits = predict_logits(checkpoint.beat_model, table.model_input(indices))
    if not np.isfinite(logits).all():
        raise CheckpointError(
            f"{checkpoint.path}: the model's logits are NaN or infinite on beats of {split.protocol} ({subset}); "
            "its weights are bad"
        )
    labels = table.labels[indices]
    probabilities = softmax(logits / checkpoint.temperature)
    return Evaluation(
        label=label or checkpoint.name,
        name=checkpoint.name,
        protocol=split.protocol,
        subset=subset,
        checkpoint=requested_as or str(checkpoint.path),
        weights_sha256=checkpoint.sha256,
        training=checkpoint.training,
        temperature=checkpoint.temperature,
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        latency=measure_latency(checkpoint.beat_model) if measure_speed else None,
        indices=indices,
        records=table.records[indices],
        samples=table.samples[indices],
        labels=labels,
        probabilities=probabilities,
        metrics=classification_metrics(labels, probabilities),
        intervals=bootstrap_metrics(labels, probabilities, resamples=resamples, seed=seed),
        uncalibrated=reliability(labels, softmax(logits)),
        resamples=resamples,
        seed=seed,
    )


def distinct_labels(checkpoints: Sequence["Checkpoint"]) -> tuple[str, ...]:
    """Name checkpoints apart: by model, else by file, else by folder and file, else by the weights' hash.

    Raises
    ------
    CheckpointError
        If two of them are the same file.
    """
    schemes = (
        [c.name for c in checkpoints],
        [c.path.stem for c in checkpoints],
        [f"{c.path.resolve().parent.name}-{c.path.stem}" for c in checkpoints],
        [f"{c.name}-{c.sha256[:8]}" for c in checkpoints],
    )
    for labels in schemes:
        if len(set(labels)) == len(labels):
            return tuple(labels)
    raise CheckpointError("two of the checkpoints hold the same weights; name each one once")


def predict_logits(model: "BeatClassifier", beats: NDArray[np.float32]) -> NDArray[np.float64]:
    """Run a model in eval mode over beats `[n, 1, 256]`, batch by batch: logits `[n, 5]` float64."""
    import torch

    inputs = torch.from_numpy(beats)
    with torch.inference_mode():
        logits = [model(inputs[start : start + BATCH_SIZE]) for start in range(0, len(inputs), BATCH_SIZE)]
    return np.concatenate([batch.numpy() for batch in logits]).astype(np.float64)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn logits `[n, k]` into probabilities `[n, k]`."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def measure_latency(model: "BeatClassifier") -> Latency:
    """Time forward passes on the CPU with one thread; the number of threads is restored afterwards."""
    with _one_thread():
        return Latency(*(_median_ms_per_sample(model, size, runs) for size, runs in LATENCY_BATCHES.items()))


def code_version() -> CodeVersion:
    """Return the package's version, and the commit when it runs from a git checkout."""
    root = Path(ecgkan.__file__).resolve().parents[2]
    commit = None
    if (root / ".git").exists() and (root / "src" / "ecgkan").is_dir():  # not a checkout that merely holds the venv
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):  # no git here: the version must do
            return CodeVersion(ecgkan.__version__, None)
        commit = answer.stdout.strip() or None
    return CodeVersion(ecgkan.__version__, commit)


def environment() -> dict[str, str]:
    """Return what latencies and last digits depend on: machine, Python, NumPy and PyTorch."""
    import torch

    return {
        "machine": platform.machine(),
        "processor": processor_name(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def _subset_indices(split: BeatSplit, subset: str) -> NDArray[np.int64]:
    subsets = {"test": split.test, "validation": split.validation}
    if subset not in subsets:
        raise DataError(f"unknown subset {subset!r}; expected one of {', '.join(subsets)}")
    return subsets[subset]


def _check_fits(checkpoint: "Checkpoint", split: BeatSplit) -> None:
    if checkpoint.protocol not in (split.protocol, "unknown"):
        raise CheckpointError(
            f"{checkpoint.path} was trained by protocol {checkpoint.protocol}; scored by {split.protocol} it could "
            f"meet beats it was trained on. Evaluate it with --protocol {checkpoint.protocol}"
        )
    if checkpoint.classes != CLASSES:
        raise CheckpointError(
            f"{checkpoint.path} has classes {' '.join(checkpoint.classes)}; expected {' '.join(CLASSES)} in this order"
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _median_ms_per_sample(model: "BeatClassifier", batch_size: int, runs: int) -> float:
    import torch

    beats = torch.randn(batch_size, 1, 256, generator=torch.Generator().manual_seed(0))
    seconds = []
    warm_up = max(3, runs // 10)
    with torch.inference_mode():
        for _ in range(warm_up + runs):
            start = time.perf_counter()
            model(beats)
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[warm_up:])) * 1000 / batch_size


def processor_name() -> str:
    """Return the processor's name; `platform.processor` knows none on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _number(value: float) -> float | None:
    """Return a number for JSON, which knows no NaN."""
    return float(value) if math.isfinite(value) else None


def _figure(value: float, interval: Interval | None) -> dict[str, Any]:
    return {
        "value": _number(value),
        "interval_95": None if interval is None or not math.isfinite(interval.low) else list(interval),
    }


def _metrics_as_dict(metrics: Metrics, intervals: Intervals) -> dict[str, Any]:
    return {
        "accuracy": _figure(metrics.accuracy, intervals.accuracy),
        "macro_f1": _figure(metrics.macro_f1, intervals.macro_f1),
        "weighted_f1": _figure(metrics.weighted_f1, intervals.weighted_f1),
        "macro_auc": _figure(metrics.macro_auc, intervals.macro_auc),
        "calibration_error": {"value": metrics.reliability.calibration_error, "bins": len(metrics.reliability.counts)},
        "negative_log_likelihood": {"value": metrics.negative_log_likelihood},
        "brier": {"value": metrics.brier},
    }


def _classes_as_dict(metrics: Metrics, intervals: Intervals) -> dict[str, Any]:
    auc_intervals: Sequence[Interval | None] = intervals.auc or [None] * len(CLASSES)
    return {
        letter: {
            "support": int(metrics.support[i]),
            "precision": _figure(metrics.precision[i], intervals.precision[i]),
            "recall": _figure(metrics.recall[i], intervals.recall[i]),
            "f1": _figure(metrics.f1[i], intervals.f1[i]),
            "auc": _figure(metrics.auc[i], auc_intervals[i]),
        }
        for i, letter in enumerate(CLASSES)
    }


def reliability_dict(bins: Reliability) -> dict[str, Any]:
    """Return a reliability curve as plain values for JSON."""
    return {
        "calibration_error": bins.calibration_error,
        "edges": bins.edges.tolist(),
        "counts": bins.counts.tolist(),
        "confidence": [_number(value) for value in bins.confidence],
        "accuracy": [_number(value) for value in bins.accuracy],
    }
