"""What `ecgkan classify` shows of many recordings: progress while it lasts, and a table at the end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ecgkan.aami import CLASSES
from ecgkan.inference.annotation import ectopic_burden_percent
from ecgkan.inference.archive import ArchivePlan, ArchiveReport
from ecgkan.inference.console import DISCLAIMER
from ecgkan.inference.manifest import FAILURES, MANIFEST, Failure, ManifestEntry
from ecgkan.inference.workers import Outcome

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

MOST_ROWS: Final = 48
"""Archives of more recordings are summed up instead of listed; the manifest has them all."""

MOST_FAILURES: Final = 20
"""Failures listed at the end; the file has them all."""

_RATE_OVER_S: Final = 60.0


@contextmanager
def archive_progress() -> Iterator[tuple[Callable[[ArchivePlan], None], Callable[[Outcome], None]]]:
    """Yield what to tell the plan, and each outcome; silent without a terminal."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield lambda _: None, lambda _: None
        return
    progress = _make_bar(console)
    with progress:
        task = progress.add_task("starting", total=None, rate="")

        def plan_known(plan: ArchivePlan) -> None:
            if plan.skipped:
                progress.console.print(f"{_count(len(plan.skipped))} done before, {_count(len(plan.tasks))} to do")
            for failure in plan.failed:
                progress.console.print(_failure_line(failure), soft_wrap=True)
            progress.update(task, total=len(plan.tasks), description="recordings")

        def outcome_known(outcome: Outcome) -> None:
            line = _failure_line(outcome.failure) if outcome.failure else _entry_line(outcome.entry)
            progress.console.print(line, soft_wrap=True)
            progress.advance(task)
            speed = progress.tasks[0].speed
            progress.update(task, rate=f"{speed:.2g} recordings/s" if speed else "")

        yield plan_known, outcome_known


def _make_bar(console: "Console") -> "Progress":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
    left = TimeRemainingColumn(compact=True)
    return Progress(
        TextColumn("{task.description}"),
        *columns,
        left,
        TextColumn("left"),
        console=console,
        speed_estimate_period=_RATE_OVER_S,
    )


def _entry_line(entry: ManifestEntry | None) -> str:
    if entry is None:
        return ""
    share = f", {_burden(entry)} of them S and V" if entry.beats else ""
    return f"{entry.relative}  {_duration(entry.duration_s)}, {entry.beats:,} beats{share}"


def _failure_line(failure: Failure) -> str:
    return f"FAILED {failure.path}: {failure.message}"


def print_archive(console: "Console", report: ArchiveReport) -> None:
    """Print what was done, what failed, and where the results are."""
    entries = sorted([*report.done, *report.skipped], key=lambda entry: entry.relative)
    if entries:
        console.print(_table(entries if len(entries) <= MOST_ROWS else [], entries))
    console.print(_summary_line(report))
    if report.failed:
        _print_failures(console, report)
    console.print(f"Results in {report.out}, listed in {MANIFEST}", soft_wrap=True)
    console.print(DISCLAIMER, style="dim")


def _table(rows: Sequence[ManifestEntry], entries: Sequence[ManifestEntry]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("recording")
    for title in ("length", "beats", *CLASSES, "S and V"):
        table.add_column(title, justify="right")
    for entry in rows:
        counts = (f"{entry.counts[letter]:,}" for letter in CLASSES)
        table.add_row(entry.relative, _duration(entry.duration_s), f"{entry.beats:,}", *counts, _burden(entry))
    table.add_section()
    sums = {letter: sum(entry.counts[letter] for entry in entries) for letter in CLASSES}
    burden = ectopic_burden_percent(sums)
    table.add_row(
        f"all {_count(len(entries))}",
        _duration(sum(entry.duration_s for entry in entries)),
        f"{sum(sums.values()):,}",
        *(f"{count:,}" for count in sums.values()),
        _percent(burden),
    )
    return table


def _summary_line(report: ArchiveReport) -> str:
    parts = [f"{_count(len(report.done))} classified in {_duration(report.seconds)}"]
    if report.done and report.seconds:
        parts[0] += f" ({len(report.done) / report.seconds:.2g} per second)"
    if report.skipped:
        parts.append(f"{len(report.skipped):,} done before")
    parts.append(f"{len(report.failed):,} failed")
    return ", ".join(parts)


def _print_failures(console: "Console", report: ArchiveReport) -> None:
    console.print()
    console.print(f"Failed (all of them in {FAILURES})", style="bold")
    for failure in report.failed[:MOST_FAILURES]:
        console.print(f"  {failure.path}: {failure.message}", soft_wrap=True)
    if len(report.failed) > MOST_FAILURES:
        console.print(f"  and {len(report.failed) - MOST_FAILURES:,} more")
    console.print()


def _burden(entry: ManifestEntry) -> str:
    return _percent(ectopic_burden_percent(entry.counts))


def _percent(share: float) -> str:
    return f"{share:.1f} %" if share == share else "-"  # NaN without beats


def _count(number: int) -> str:
    return f"{number:,} recording{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
