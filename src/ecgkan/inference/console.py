"""What `ecgkan classify` and `ecgkan demo` print."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ecgkan.aami import CLASSES
from ecgkan.data.embedded import EMBEDDED_REFERENCE_COUNTS, EMBEDDED_SOURCE
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.evaluation.plots import CLASS_COLOURS
from ecgkan.inference.agreement import Agreement
from ecgkan.inference.annotation import (
    CLASS_NAMES,
    HEART_RATE_BEATS,
    BeatAnnotations,
    ectopic_burden_percent,
)
from ecgkan.inference.demo import DemoResult
from ecgkan.inference.disagreement import MOST_SHOWN, Disagreement, surest
from ecgkan.inference.evidence import Evidence
from ecgkan.inference.holter import Ectopy, HeartRate, HolterSummary, Hour, Variability
from ecgkan.inference.record import ClassifiedRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

DISCLAIMER: Final = "A research tool, not a medical device."

MOST_EPISODES: Final = 12
"""Episodes of flutter that are listed, the longest ones."""

_WIDTH: Final = 100


def make_console() -> "Console":
    """Return a console for results: colours on a terminal, plain text of 100 columns in a pipe."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def print_classified(console: "Console", classified: ClassifiedRecord) -> None:
    """Print the Holter summary of a classified record, and where its files are."""
    annotations = classified.annotations
    summary = annotations.summary()
    _print_origin(console, annotations)
    console.print()
    console.print(_class_table({"beats": summary.counts}))
    console.print()
    console.print(_finding_table(summary))
    if len(summary.hours) > 1:
        console.print()
        console.print(_hour_table(summary.hours))
    if classified.agreement:
        console.print()
        _print_agreement(console, classified.agreement)
    if classified.note:
        console.print()
        console.print(classified.note)
    console.print()
    console.print("Wrote", style="bold")
    for file in classified.files:
        console.print(f"  {file}", soft_wrap=True)
    console.print(DISCLAIMER, style="dim")


def print_evidence(console: "Console", evidence: Evidence, figure: Path) -> None:
    """Print what was decided about a beat and what moved the decision, and where the figure is."""
    probability = dict(zip(CLASSES, evidence.probabilities.tolist(), strict=True))
    title = MODEL_TITLES.get(evidence.model, evidence.model)
    console.print(f"Record {evidence.record}, beat at {evidence.time_s:.2f} s, lead {evidence.lead}", style="bold")
    compared = " and ".join(f"{letter} {probability[letter]:.3f}" for letter in (evidence.target, evidence.rival))
    console.print(f"{title}: {evidence.target} rather than {evidence.rival}, probabilities {compared}")
    console.print(
        f"The margin is {evidence.margin:+.2f} logits, {evidence.baseline_margin:+.2f} for {evidence.baseline};"
    )
    console.print(f"of the difference, {evidence.change:+.2f},")
    table = _plain_table("samples (s from the R peak)", "logits")
    for start_s, stop_s, weight in evidence.by_time():
        table.add_row(f"{start_s:+.2f} to {stop_s:+.2f}", _signed(weight))
    if len(evidence.context_attribution):
        table.add_row("rhythm and neighbours", _signed(evidence.context_attribution.sum()))
    console.print(table)
    if evidence.learned < len(evidence.features):
        console.print()
        console.print(_feature_table(evidence))
    console.print(f"Wrote {figure}", soft_wrap=True)
    console.print(DISCLAIMER, style="dim")


def _feature_table(evidence: Evidence, most: int = 10) -> "Table":
    """List the features with names that moved the decision most, and the learned ones together."""
    table = _plain_table("features, the same difference", "usual", "this beat", "logits")
    order = [i for i in evidence.strongest_features(len(evidence.features)).tolist() if i >= evidence.learned]
    for i in order[:most]:
        values = (evidence.baseline_features[i], evidence.features[i], evidence.feature_attribution[i])
        table.add_row(evidence.feature_names[i], *map(_signed, values))
    rest = evidence.feature_attribution[order[most:]].sum()
    table.add_row(f"{len(order) - most} others with names", "", "", _signed(rest))
    learned = evidence.feature_attribution[: evidence.learned].sum()
    table.add_row(f"{evidence.learned} learned shapes", "", "", _signed(learned))
    return table


def _signed(value: float) -> str:
    return f"{round(float(value), 2) + 0.0:+.2f}"  # no minus before 0.00


def print_demo(console: "Console", result: DemoResult) -> None:
    """Print what the demonstration found, and name each file it wrote."""
    record = EMBEDDED_SOURCE[0]
    summaries = [annotated.summary() for annotated in result.annotations]
    console.print(
        f"Five minutes of record {record}, MIT-BIH Arrhythmia Database, lead {result.annotations[0].lead}", style="bold"
    )
    console.print(
        f"Models and detector were trained on record {record}: how well they agree with its reference flatters them."
    )
    console.print()
    models = (annotated.model for annotated in result.annotations)
    columns = {MODEL_TITLES.get(model, model): summary.counts for model, summary in zip(models, summaries, strict=True)}
    columns["reference"] = EMBEDDED_REFERENCE_COUNTS
    console.print(_class_table(columns))
    n_reference = sum(EMBEDDED_REFERENCE_COUNTS.values())
    console.print(f"The detector found {summaries[0].beats} beats where the reference annotations have {n_reference}.")
    console.print(f"Heart rate {_heart_rate(summaries[0].heart_rate)}")
    console.print()
    _print_disagreements(console, result)
    console.print()
    console.print("Wrote", style="bold")
    for file in result.files:
        console.print(f"  {file}", soft_wrap=True)
    console.print(DISCLAIMER, style="dim")


def _print_origin(console: "Console", annotations: BeatAnnotations) -> None:
    """Print what was classified, by what, and what the reader of the file noticed."""
    started = f", started {annotations.started:%Y-%m-%d %H:%M:%S}" if annotations.started else ""
    console.print(f"Record {annotations.record}, {_duration(annotations.duration_s)}{started}", style="bold")
    reason = f" ({annotations.lead_reason})" if annotations.lead_reason else ""
    second = f", and {annotations.second_lead} beside it" if annotations.second_lead else ""
    weights = f" ({annotations.weights_sha256[:8]})" if annotations.weights_sha256 else ""
    model = f"model {annotations.model}{weights}"
    console.print(f"Lead {annotations.lead}{reason}{second} · R peaks by {annotations.rpeaks} · {model}")
    if annotations.inverted:
        console.print("The lead looks upside down; it was classified as it is. Check the electrodes.", style="bold")
    for note in annotations.notes:
        console.print(f"Note: {note}")


def _finding_table(summary: HolterSummary) -> "Table":
    """Lay out what the summary found, one line per finding, with when."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_header=False, show_edge=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, finding in _findings(summary):
        table.add_row(name, finding)
    return table


def _findings(summary: HolterSummary) -> Iterator[tuple[str, str]]:
    yield "heart rate", _rate_finding(summary)
    if summary.variability.sdnn_ms is not None:
        yield "variability", _variability_finding(summary.variability)
    yield "pauses", _pause_finding(summary)
    for name, ectopy in (("ventricular", summary.ventricular), ("supraventricular", summary.supraventricular)):
        yield name, _ectopy_finding(summary, ectopy)
    if summary.flutter.episodes:
        yield "flutter", _flutter_finding(summary)
    share = f" ({100 * summary.uncertain / summary.beats:.1f} %)" if summary.uncertain else ""
    yield "uncertain", f"{_number(summary.uncertain, 'beat')}{share}"
    yield "analysed", _time_finding(summary)


def _rate_finding(summary: HolterSummary) -> str:
    rate = summary.heart_rate
    if rate.mean is None or rate.min is None or rate.max is None:
        return "unknown: no two beats in a row"
    lowest = f"lowest {rate.min:.0f}/min{_at(summary, rate.min_time_s)}"
    return f"mean {rate.mean:.0f}/min, {lowest}, highest {rate.max:.0f}/min{_at(summary, rate.max_time_s)}"


def _variability_finding(variability: Variability) -> str:
    rmssd = "" if variability.rmssd_ms is None else f", RMSSD {variability.rmssd_ms:.0f} ms"
    return f"SDNN {variability.sdnn_ms:.0f} ms{rmssd} over {variability.intervals:,} NN intervals"


def _pause_finding(summary: HolterSummary) -> str:
    pauses = summary.pauses
    number = f"{pauses.number:,}" if pauses.number else "none"
    found = f"{number} of at least {pauses.threshold_s:g} s"
    if pauses.longest_rr_s is None:
        return found
    return f"{found}; longest RR {pauses.longest_rr_s:.2f} s{_at(summary, pauses.longest_rr_time_s)}"


def _ectopy_finding(summary: HolterSummary, ectopy: Ectopy) -> str:
    if not ectopy.beats:
        return "none"
    found = [f"{ectopy.isolated:,} isolated", _number(ectopy.couplets, "couplet"), _number(ectopy.runs.number, "run")]
    parts = [f"{_number(ectopy.beats, 'beat')}: {', '.join(found)}"]
    if ectopy.runs.number:
        parts.append(f"longest run {ectopy.runs.longest_beats} beats{_at(summary, ectopy.runs.longest_time_s)}")
    if ectopy.runs.fastest_rate is not None:
        parts.append(f"fastest {ectopy.runs.fastest_rate:.0f}/min{_at(summary, ectopy.runs.fastest_time_s)}")
    for name, alternation in (("bigeminy", ectopy.bigeminy), ("trigeminy", ectopy.trigeminy)):
        if alternation.episodes:
            parts.append(f"{name} {_number(alternation.episodes, 'episode')}, {alternation.beats:,} beats")
    return "; ".join(parts)


def _flutter_finding(summary: HolterSummary) -> str:
    """List the episodes, the longest of many."""
    flutter = summary.flutter
    episodes = list(zip(flutter.times_s, flutter.lengths_s, strict=True))
    listed = sorted(sorted(episodes, key=lambda episode: -episode[1])[:MOST_EPISODES])
    found = f"{_number(flutter.episodes, 'episode')} marked by the annotator, {_span(flutter.total_s)} together"
    some = f"the {len(listed)} longest: " if len(listed) < len(episodes) else ""
    return f"{found}; {some}" + ", ".join(f"{_span(length_s)}{_at(summary, time_s)}" for time_s, length_s in listed)


def _time_finding(summary: HolterSummary) -> str:
    time = summary.time
    if not time.excluded_s:
        return f"{_duration(time.analysed_s)}, all of it"
    reasons = ", ".join(f"{reason} {_span(seconds)}" for reason, seconds in time.reasons.items())
    left_out = f"; {_number(summary.left_out, 'beat')} left out" if summary.left_out else ""
    return f"{_duration(time.analysed_s)}; excluded {_span(time.excluded_s)} ({reasons}){left_out}"


def _span(seconds: float) -> str:
    return _duration(seconds) if seconds >= 60 else f"{seconds:.1f} s"


def _hour_table(hours: Sequence[Hour]) -> "Table":
    table = _plain_table("hour", "analysed", "beats", "mean", "lowest", "highest", "S", "V", "F", "ectopic")
    for hour in hours:
        clock = f" {hour.started:%H:%M}" if hour.started else ""
        rates = (hour.heart_rate_mean, hour.heart_rate_min, hour.heart_rate_max)
        burden = "-" if hour.ectopic_burden_percent is None else f"{hour.ectopic_burden_percent:.1f} %"
        table.add_row(
            f"{hour.index + 1}{clock}",
            f"{hour.analysed_minutes:.0f} min",
            f"{hour.beats:,}",
            *("-" if rate is None else f"{rate:.0f}/min" for rate in rates),
            *(f"{hour.counts[letter]:,}" for letter in "SVF"),
            burden,
        )
    return table


def _at(summary: HolterSummary, time_s: float | None) -> str:
    """Say when, in hours, minutes and seconds from the start; by the clock too if that is known."""
    if time_s is None:
        return ""
    minutes, seconds = divmod(int(time_s), 60)
    clock = f" ({summary.started + timedelta(seconds=time_s):%H:%M:%S})" if summary.started else ""
    return f" at {minutes // 60}:{minutes % 60:02d}:{seconds:02d}{clock}"


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


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


def _heart_rate(rate: HeartRate) -> str:
    if rate.mean is None:
        return "unknown: fewer than two beats in a row"
    return f"{rate.mean:.0f}/min, between {rate.min:.0f} and {rate.max:.0f} (median of {HEART_RATE_BEATS} RR intervals)"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
