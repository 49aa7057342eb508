"""What `ecgkan evaluate` prints: figures with intervals, classes, confusion, and the reference's table beside ours."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ecgkan.aami import CLASSES
from ecgkan.evaluation import published
from ecgkan.evaluation.comparison import reference_of, shared_figures
from ecgkan.evaluation.evaluate import Evaluation
from ecgkan.evaluation.metrics import Interval
from ecgkan.evaluation.published import PublishedModel

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def print_report(console: "Console", evaluations: Sequence[Evaluation]) -> None:
    """Print all tables of checkpoints evaluated together on the same beats."""
    first = evaluations[0]
    console.print(
        f"Protocol {first.protocol}, {first.subset} set, {len(first.labels):,} beats", style="bold", highlight=False
    )
    console.print(
        "In brackets: 95 % bootstrap intervals (beats drawn with replacement). Milliseconds: median, one thread, warm.",
        highlight=False,
    )
    _print_table(console, "Overall", overall_table(evaluations))
    for evaluation in evaluations:
        _print_table(console, f"{evaluation.title}: per class", class_table(evaluation))
        heading = f"{evaluation.title}: confusion (rows reference, columns predicted)"
        _print_table(console, heading, confusion_table(evaluation))
    if any(reference_of(evaluation) for evaluation in evaluations):
        heading = f"Ours beside the reference ({published.SOURCE}, one training run each), same {published.SUBSET} set"
        _print_table(console, heading, comparison_table(evaluations))
        console.print(f"* CPU, batch 128; the reference's: {published.LATENCY_MARK}", highlight=False)
    if first.note:
        console.print()
        console.print(first.note, style="italic", highlight=False, soft_wrap=True)


def overall_table(evaluations: Sequence[Evaluation]) -> "Table":
    """Lay out the overall figures, one column per checkpoint."""
    table = _table()
    table.add_column("")
    for evaluation in evaluations:
        table.add_column(evaluation.title, justify="right")
    for name, cells in _overall_rows(evaluations):
        table.add_row(name, *cells)
    return table


def class_table(evaluation: Evaluation) -> "Table":
    """Lay out precision, recall, F1 and AUC of each class."""
    table = _table()
    for heading in ("class", "beats", "precision (+P)", "recall (Se)", "F1", "AUC"):
        # Where the terminal is narrow, the interval goes below its figure in one piece.
        width = len("[.0000–.0000]") if heading not in ("class", "beats") else None
        table.add_column(heading, justify="left" if heading == "class" else "right", min_width=width)
    metrics, intervals = evaluation.metrics, evaluation.intervals
    for i, letter in enumerate(CLASSES):
        table.add_row(
            letter,
            f"{metrics.support[i]:,}",
            _with_interval(metrics.precision[i], intervals.precision[i]),
            _with_interval(metrics.recall[i], intervals.recall[i]),
            _with_interval(metrics.f1[i], intervals.f1[i]),
            _with_interval(metrics.auc[i], intervals.auc[i] if intervals.auc else None),
        )
    return table


def confusion_table(evaluation: Evaluation) -> "Table":
    """Lay out the confusion matrix: rows reference, columns predicted."""
    table = _table()
    table.add_column("")
    for letter in CLASSES:
        table.add_column(letter, justify="right")
    for letter, row in zip(CLASSES, evaluation.metrics.confusion, strict=True):
        table.add_row(letter, *(f"{count:,}" for count in row))
    return table


def comparison_table(evaluations: Sequence[Evaluation]) -> "Table":
    """Lay out the reference's table with ours and the difference beside it, model by model."""
    table = _table()
    table.add_column("")
    candidates = [(evaluation, reference_of(evaluation)) for evaluation in evaluations]
    pairs = [(evaluation, reference) for evaluation, reference in candidates if reference is not None]
    for evaluation, reference in pairs:
        table.add_column(f"{reference.title}\nreference", justify="right")
        table.add_column(f"{evaluation.title}\nours", justify="right")
        table.add_column("\ndiff.", justify="right")
    for name, rows in _comparison_rows(pairs):
        table.add_row(name, *(cell for row in rows for cell in row))
    return table


def _comparison_rows(
    pairs: Sequence[tuple[Evaluation, PublishedModel]],
) -> list[tuple[str, list[tuple[str, str, str]]]]:
    columns = [shared_figures(evaluation, reference) for evaluation, reference in pairs]
    rows = [
        (figures[0].name, [(f"{f.reference:.4f}", _share(f.ours), _signed(f.difference)) for f in figures])
        for figures in zip(*columns, strict=True)
    ]
    rows.append(
        (
            "parameters",
            [(f"{r.parameters:,}", f"{e.parameters:,}", f"{e.parameters - r.parameters:+,}") for e, r in pairs],
        )
    )
    latencies = [
        (f"{r.latency_ms:.4f} *", "–" if e.latency is None else f"{e.latency.batch_128_ms:.4f}", "–") for e, r in pairs
    ]
    rows.append(("ms per sample *", latencies))
    return rows


def _overall_rows(evaluations: Sequence[Evaluation]) -> list[tuple[str, list[str]]]:
    metrics = [evaluation.metrics for evaluation in evaluations]
    rows = [
        (title, [_with_interval(getattr(e.metrics, name), getattr(e.intervals, name)) for e in evaluations])
        for title, name in (
            ("accuracy", "accuracy"),
            ("macro F1", "macro_f1"),
            ("weighted F1", "weighted_f1"),
            ("macro AUC (one-vs-rest)", "macro_auc"),
        )
    ]
    bins = len(metrics[0].reliability.counts)
    latencies = [e.latency for e in evaluations]
    return [
        *rows,
        (f"calibration error ({bins} bins)", [f"{m.reliability.calibration_error:.4f}" for m in metrics]),
        ("  before temperature scaling", [f"{e.uncalibrated.calibration_error:.4f}" for e in evaluations]),
        ("temperature", [f"{e.temperature:.3f}" for e in evaluations]),
        ("negative log-likelihood", [f"{m.negative_log_likelihood:.4f}" for m in metrics]),
        ("Brier score (0 to 2)", [f"{m.brier:.4f}" for m in metrics]),
        ("parameters", [f"{e.parameters:,}" for e in evaluations]),
        ("ms per sample, CPU, batch 1", ["–" if t is None else f"{t.batch_1_ms:.4f}" for t in latencies]),
        ("ms per sample, CPU, batch 128", ["–" if t is None else f"{t.batch_128_ms:.4f}" for t in latencies]),
        ("recipe, seed", [_origin(e) for e in evaluations]),
        ("weights SHA-256", [e.weights_sha256[:12] for e in evaluations]),
    ]


def _print_table(console: "Console", heading: str, table: "Table") -> None:
    console.print()
    console.print(heading, style="bold", highlight=False)
    console.print(table)


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), highlight=False)


def _origin(evaluation: Evaluation) -> str:
    recipe, seed = evaluation.training.get("recipe"), evaluation.training.get("seed")
    return "unknown" if recipe is None else f"{recipe}, {seed}"


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.4f}"


def _with_interval(value: float, interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.low):
        return _share(value)
    # Five characters a bound, so that a narrow terminal holds it: .9876, or 1.000.
    low, high = (f"{bound:.4f}".removeprefix("0")[:5] for bound in interval)
    return f"{_share(value)} [{low}–{high}]"
