"""The comparison as text to read: a fixed-width row per record, gross and average, and what the labels became."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ecgkan.evaluation.ec57.beats import BeatFigures, Proportion, beat_figures
from ecgkan.evaluation.ec57.runs import RunFigures, RunKind
from ecgkan.evaluation.ec57.summary import Averages, Comparison

_ECTOPIC: Final[tuple[tuple[RunKind, str], ...]] = (
    ("ventricular", "Ventricular"),
    ("supraventricular", "Supraventricular"),
)
_RUN_NAMES: Final = ("couplet", "short", "long")


def comparison_text(comparison: Comparison) -> str:
    """Return the tables of a comparison: beats by record, runs by record, labels, and a summary."""
    average = comparison.average()
    parts = [
        _heading(comparison),
        "\n".join(_beat_rows(comparison, average)),
        *("\n".join(_run_rows(comparison, kind, title, average)) for kind, title in _ECTOPIC),
        "\n".join(_label_rows(comparison)),
        "\n".join(_summary_lines(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def _heading(comparison: Comparison) -> str:
    where = {"literature": "N, as in the literature", "bxb": "S, as in WFDB's programs"}[comparison.classes]
    end = "the record's end" if comparison.end_s is None else _clock(comparison.end_s)
    return (
        f"Reference {comparison.reference}, test {comparison.test}, {_records(len(comparison.records))}\n"
        f"From {_clock(comparison.start_s)} to {end}, match window {comparison.window_s:g} s; "
        f"escape beats j and e are {where}"
    )


def _records(n: int) -> str:
    return f"{n} record{'' if n == 1 else 's'}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:02.0f}" if rest == int(rest) else f"{int(minutes)}:{rest:06.3f}"


def _name_width(comparison: Comparison) -> int:
    return max([len("Average"), *(len(record.record) for record in comparison.records)])


def _beat_rows(comparison: Comparison, average: Averages) -> list[str]:
    width = _name_width(comparison)
    above = (
        f"{'':{width}}  {'QRS complexes':^22}  {'Ventricular ectopic':^28}  {'Supraventricular ectopic':^28}  {'RR':>7}"
    )
    head = (
        f"{'Record':{width}}  {'beats':>6} {'Se %':>7} {'+P %':>7}"
        + f"  {'beats':>5} {'Se %':>7} {'+P %':>7} {'FPR %':>6}" * 2
        + f"  {'err ms':>7}"
    )
    rows = [above.rstrip(), head, "-" * len(head)]
    for record in comparison.records:
        figures = beat_figures(record.beats.counts)
        rows.append(f"{record.record:{width}}  {_beat_cells(figures)}  {_number(record.beats.rr_error_ms, 7, 1)}")
    rows.append("-" * len(head))
    rows.append(f"{'Gross':{width}}  {_beat_cells(comparison.gross())}")
    mean = average.beats
    cells = (
        f"{'':6} {_number(mean['qrs_se'], 7)} {_number(mean['qrs_p'], 7)}  "
        f"{'':5} {_number(mean['veb_se'], 7)} {_number(mean['veb_p'], 7)} {_number(mean['veb_fpr'], 6, 3)}  "
        f"{'':5} {_number(mean['sveb_se'], 7)} {_number(mean['sveb_p'], 7)} {_number(mean['sveb_fpr'], 6, 3)}"
    )
    rows.append(f"{'Average':{width}}  {cells}  {_number(average.rr_error_ms, 7, 1)}")
    return rows


def _beat_cells(figures: BeatFigures) -> str:
    return (
        f"{figures.qrs_se.whole:6d} {_share(figures.qrs_se, 7)} {_share(figures.qrs_p, 7)}  "
        f"{figures.veb_se.whole:5d} {_share(figures.veb_se, 7)} {_share(figures.veb_p, 7)} "
        f"{_share(figures.veb_fpr, 6, 3)}  "
        f"{figures.sveb_se.whole:5d} {_share(figures.sveb_se, 7)} {_share(figures.sveb_p, 7)} "
        f"{_share(figures.sveb_fpr, 6, 3)}"
    )


def _share(proportion: Proportion, width: int, digits: int = 2) -> str:
    return _number(proportion.percent, width, digits)


def _number(value: float, width: int, digits: int = 2) -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:{width}.{digits}f}"


def _run_rows(comparison: Comparison, kind: RunKind, title: str, average: Averages) -> list[str]:
    width = _name_width(comparison)
    head = f"{'':{width}}" + "".join(
        f"  {name:^27}" for name in ("couplets", "short runs (3 to 5)", "long runs (6 or more)")
    )
    below = f"{'Record':{width}}" + f"  {'there':>5} {'Se %':>6} {'called':>7} {'+P %':>6}" * 3
    rows = [f"{title} couplets and runs", head.rstrip(), below, "-" * len(below)]
    without = 0
    for record in comparison.records:
        figures = record.runs(kind).figures
        if any(proportion.whole for proportion in figures):
            rows.append(f"{record.record:{width}}{_run_cells(figures)}")
        else:
            without += 1
    rows.append("-" * len(below))
    rows.append(f"{'Gross':{width}}{_run_cells(comparison.gross_runs(kind))}")
    mean = average.ventricular if kind == "ventricular" else average.supraventricular
    cells = "".join(
        f"  {'':5} {_number(mean[f'{n}_se'], 6, 1)} {'':7} {_number(mean[f'{n}_p'], 6, 1)}" for n in _RUN_NAMES
    )
    rows.append(f"{'Average':{width}}{cells}".rstrip())
    if without:
        rows.append(f"({_records(without)} without any, by either annotator, not shown)")
    return rows


def _run_cells(figures: RunFigures) -> str:
    pairs = (
        (figures.couplet_se, figures.couplet_p),
        (figures.short_se, figures.short_p),
        (figures.long_se, figures.long_p),
    )
    return "".join(f"  {se.whole:5d} {_share(se, 6, 1)} {p.whole:7d} {_share(p, 6, 1)}" for se, p in pairs)


def _label_rows(comparison: Comparison) -> list[str]:
    counts = comparison.counts
    rows = ["Labels (rows reference, columns test)", " " * 8 + "".join(f"{name:>9}" for name in [*"NSVFQ", "missed"])]
    for letter, row in zip("NSVFQ", counts[:5], strict=True):
        rows.append(f"{letter:<8}" + _cells([*row[:5], row[5:].sum()]))
    rows.append(f"{'extra':<8}" + _cells(counts[5:, :5].sum(axis=0)))
    in_shutdown = int(counts[:5, 6].sum()), int(counts[6, :5].sum())
    if any(in_shutdown):
        rows.append(f"(of these during shutdown: {in_shutdown[0]} missed, {in_shutdown[1]} extra)")
    return rows


def _cells(values: Sequence[int] | np.ndarray) -> str:
    return "".join(f"{int(value):9d}" for value in values)


def _summary_lines(comparison: Comparison) -> list[str]:
    gross = comparison.gross()
    lines = [
        f"Gross: {gross.qrs_se.part:,} of {gross.qrs_se.whole:,} beats found, "
        f"{gross.qrs_p.whole - gross.qrs_p.part:,} made up; {gross.veb_se.part:,} of {gross.veb_se.whole:,} "
        f"ventricular and {gross.sveb_se.part:,} of {gross.sveb_se.whole:,} supraventricular ectopic beats found as "
        "such."
    ]
    shutdown = sum(record.beats.shutdown_s for record in comparison.records)
    if shutdown:
        lines.append(f"Shutdown of the test annotator: {shutdown} s.")
    if comparison.not_compared:
        names = ", ".join(f"{record} ({reason})" for record, reason in comparison.not_compared.items())
        lines.append(f"Not compared: {names}.")
    return lines
