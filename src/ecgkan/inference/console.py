"""What `ecgkan classify` and `ecgkan demo` print."""

from collections.abc import Iterator, Mapping
from math import isnan
from typing import TYPE_CHECKING, Final

from ecgkan.aami import CLASSES
from ecgkan.data.embedded import EMBEDDED_REFERENCE_COUNTS, EMBEDDED_SOURCE
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.evaluation.plots import CLASS_COLOURS
from ecgkan.inference.agreement import Agreement
from ecgkan.inference.annotation import CLASS_NAMES, HEART_RATE_BEATS, AnnotationSummary, ectopic_burden_percent
from ecgkan.inference.demo import DemoResult
from ecgkan.inference.disagreement import MOST_SHOWN, Disagreement, surest
from ecgkan.inference.record import ClassifiedRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

DISCLAIMER: Final = "A research tool, not a medical device."

_WIDTH: Final = 100


def make_console() -> "Console":
    """Return a console for results: colours on a terminal, plain text of 100 columns in a pipe."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def print_classified(console: "Console", classified: ClassifiedRecord) -> None:
    """Print the summary of a classified record, and where its files are."""
    summary = classified.annotations.summary()
    weights = f" ({summary.weights_sha256[:8]})" if summary.weights_sha256 else ""
    console.print(f"Record {summary.record}, {_duration(summary.duration_s)}", style="bold")
    console.print(f"Lead {summary.lead} · R peaks by {_origin(summary.rpeaks)} · model {summary.model}{weights}")
    console.print()
    console.print(_class_table({"beats": summary.counts}))
    console.print(f"Heart rate {_heart_rate(summary)}")
    if summary.left_out:
        console.print(f"{summary.left_out} beats were left out: there is too little signal where they lie")
    if classified.agreement:
        console.print()
        _print_agreement(console, classified.agreement)
    if classified.note:
        console.print()
        console.print(classified.note)
    console.print()
    console.print(f"Wrote {' and '.join(str(file) for file in classified.files)}", soft_wrap=True)
    console.print(DISCLAIMER, style="dim")


def print_demo(console: "Console", result: DemoResult) -> None:
    """Print what the demonstration found, and name each file it wrote."""
    record = EMBEDDED_SOURCE[0]
    summaries = [annotated.summary() for annotated in result.annotations]
    console.print(
        f"Five minutes of record {record}, MIT-BIH Arrhythmia Database, lead {summaries[0].lead}", style="bold"
    )
    console.print(
        f"The models were trained on beats of record {record}: how well they agree with its reference flatters them."
    )
    console.print()
    columns = {MODEL_TITLES.get(summary.model, summary.model): summary.counts for summary in summaries}
    columns["reference"] = EMBEDDED_REFERENCE_COUNTS
    console.print(_class_table(columns))
    n_reference = sum(EMBEDDED_REFERENCE_COUNTS.values())
    console.print(
        f"The detector found {summaries[0].beats} beats where the reference annotations have {n_reference}; it misses "
        "some ventricular beats."
    )
    console.print(f"Heart rate {_heart_rate(summaries[0])}")
    console.print()
    _print_disagreements(console, result)
    console.print()
    console.print("Wrote", style="bold")
    for file in result.files:
        console.print(f"  {file}", soft_wrap=True)
    console.print(DISCLAIMER, style="dim")


def _class_table(columns: Mapping[str, Mapping[str, int]]) -> "Table":
    """Lay out beats per class, one column per title, with their sum and the ectopic burden in percent."""
    from rich.text import Text

    table = _plain_table("class", *columns)
    for letter in CLASSES:
        name = Text.assemble((letter, f"bold {CLASS_COLOURS[letter]}"), f"  {CLASS_NAMES[letter]}")
        table.add_row(name, *(f"{counts[letter]:,}" for counts in columns.values()))
    table.add_section()
    table.add_row("all beats", *(f"{sum(counts.values()):,}" for counts in columns.values()))
    burdens = [ectopic_burden_percent(counts) for counts in columns.values()]
    table.add_row("ectopic burden (S and V)", *("-" if isnan(burden) else f"{burden:.1f} %" for burden in burdens))
    return table


def _print_agreement(console: "Console", agreement: Agreement) -> None:
    share = f"{100 * agreement.accuracy:.2f} % of" if agreement.beats else "no"
    console.print(f"Agreement with annotator {agreement.annotator}: {share} {agreement.beats:,} beats")
    table = _plain_table(f"{agreement.annotator} \\ model", *CLASSES)
    for letter, row in zip(CLASSES, agreement.confusion, strict=True):
        if row.any():
            table.add_row(letter, *(f"{count:,}" if count else "·" for count in row.tolist()))
    console.print(table)


def _print_disagreements(console: "Console", result: DemoResult) -> None:
    differ, beats = len(result.disagreements), len(result.annotations[0])
    shown = surest(result.disagreements, MOST_SHOWN)
    if not differ:
        console.print(f"The models give all {beats} beats the same class.")
        return
    some = f"; the {len(shown)} of which they are surest:" if len(shown) < differ else ":"
    console.print(f"The models disagree on {differ} of {beats} beats{some}")
    models = (MODEL_TITLES.get(model, model) for model in shown[0].models)
    table = _plain_table("time (s)", *(f"{model} (probability)" for model in models))
    for beat in shown:
        table.add_row(f"{beat.time_s:.2f}", *_verdicts(beat))
    console.print(table)


def _verdicts(beat: Disagreement) -> "Iterator[Text]":
    from rich.text import Text

    for letter, probability in zip(beat.classes, beat.confidences, strict=True):
        yield Text.assemble((letter, f"bold {CLASS_COLOURS[letter]}"), f"  {probability:.2f}")


def _plain_table(first: str, *others: str) -> "Table":
    """Make a table of one column of names and others of numbers, ruled by a single line."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(first)
    for other in others:
        table.add_column(other, justify="right")
    return table


def _heart_rate(summary: AnnotationSummary) -> str:
    if isnan(summary.heart_rate_mean):
        return "unknown: fewer than two beats in a row"
    return (
        f"{summary.heart_rate_mean:.0f}/min, between {summary.heart_rate_min:.0f} and {summary.heart_rate_max:.0f} "
        f"(median of {HEART_RATE_BEATS} RR intervals)"
    )


def _origin(rpeaks: str) -> str:
    return "detector (sleepecg)" if rpeaks == "detector" else rpeaks


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
