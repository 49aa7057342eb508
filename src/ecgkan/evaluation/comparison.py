"""Checkpoints side by side, and beside the reference's models where it published figures on the same beats."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ecgkan.aami import CLASSES
from ecgkan.evaluation import plots
from ecgkan.evaluation.evaluate import Evaluation
from ecgkan.evaluation.metrics import ConfusionMetrics, Interval, Intervals, bootstrap_confusion
from ecgkan.evaluation.plots import Bars
from ecgkan.evaluation.published import PublishedModel, published_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class SharedFigure(NamedTuple):
    """A figure that the reference printed and we computed, on the same beats."""

    name: str
    reference: float
    ours: float

    @property
    def difference(self) -> float:
        """Ours minus the reference's."""
        return self.ours - self.reference


def reference_of(evaluation: Evaluation) -> PublishedModel | None:
    """Return the reference's results for this model, None where it published none on the same beats."""
    return published_for(evaluation.name, evaluation.protocol, evaluation.subset)


def shared_figures(evaluation: Evaluation, reference: PublishedModel) -> list[SharedFigure]:
    """Lay the reference's printed figures beside ours; parameters and latency are not among them."""
    metrics = evaluation.metrics
    return [
        SharedFigure("accuracy", reference.accuracy, metrics.accuracy),
        SharedFigure("macro F1", reference.macro_f1, metrics.macro_f1),
        SharedFigure("weighted F1", reference.weighted_f1, metrics.weighted_f1),
        SharedFigure("macro AUC", reference.macro_auc, metrics.macro_auc),
    ] + [
        SharedFigure(f"F1 {letter}", theirs, float(ours))
        for letter, theirs, ours in zip(CLASSES, reference.f1, metrics.f1, strict=True)
    ]


def side_by_side_figure(evaluations: Sequence[Evaluation]) -> "Figure":
    """Draw the checkpoints side by side, the reference's models hatched beside ours where it published them."""
    first = evaluations[0]
    return plots.comparison_figure(
        bars_of(evaluations),
        title=f"Protocol {first.protocol}, {first.subset} set, {len(first.labels):,} beats, 95 % bootstrap intervals",
        note=first.note,
    )


def bars_of(evaluations: Sequence[Evaluation]) -> list[Bars]:
    """Prepare `comparison_figure`: each model's published figures, then ours."""
    bars = []
    seen: list[str] = []
    for evaluation in evaluations:
        first_of_its_name = evaluation.name not in seen
        other = plots.OTHER_COLOURS[len(seen) % len(plots.OTHER_COLOURS)]
        colour = plots.MODEL_COLOURS.get(evaluation.name, other) if first_of_its_name else other
        reference = reference_of(evaluation)
        if first_of_its_name and reference is not None:
            bars.append(_published_bars(reference, colour))
        bars.append(_our_bars(evaluation, colour))
        seen.append(evaluation.name)
    return bars


def _our_bars(evaluation: Evaluation, colour: str) -> Bars:
    values = _values_by_name(evaluation.metrics) | {"macro AUC": evaluation.metrics.macro_auc}
    return Bars(evaluation.title, colour, values, _intervals_by_name(evaluation.intervals))


def _published_bars(reference: PublishedModel, colour: str) -> Bars:
    values = _values_by_name(reference.metrics()) | {"macro AUC": reference.macro_auc}
    intervals = _intervals_by_name(bootstrap_confusion(reference.confusion_array()))
    return Bars(f"{reference.title}, reference (published)", colour, values, intervals, published=True)


def _values_by_name(metrics: ConfusionMetrics) -> dict[str, float]:
    values = {"accuracy": metrics.accuracy, "macro F1": metrics.macro_f1, "weighted F1": metrics.weighted_f1}
    for name, per_class in (("F1", metrics.f1), ("Se", metrics.recall), ("+P", metrics.precision)):
        values |= {f"{name} {letter}": float(value) for letter, value in zip(CLASSES, per_class, strict=True)}
    return values


def _intervals_by_name(intervals: Intervals) -> dict[str, Interval]:
    bounds = {"accuracy": intervals.accuracy, "macro F1": intervals.macro_f1, "weighted F1": intervals.weighted_f1}
    if intervals.macro_auc is not None:
        bounds["macro AUC"] = intervals.macro_auc
    for name, per_class in (("F1", intervals.f1), ("Se", intervals.recall), ("+P", intervals.precision)):
        bounds |= {f"{name} {letter}": interval for letter, interval in zip(CLASSES, per_class, strict=True)}
    return bounds
