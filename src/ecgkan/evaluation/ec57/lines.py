"""The very rows that WFDB's `bxb`, `rxr` and `sumstats` print, byte for byte.

Gross and average rows are taken from what the rows of the records say, as `sumstats` reads them: from the rounded RR
errors, and with its own ways, which `_shutdown_sums` names.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ecgkan.evaluation.ec57.beats import BeatComparison, Proportion
from ecgkan.evaluation.ec57.labels import F, N, O, Q, S, V, X
from ecgkan.evaluation.ec57.runs import RunComparison, RunFigures, RunKind
from ecgkan.evaluation.ec57.summary import Comparison

LineFormat = Literal["bxb-l", "bxb-L", "bxb-l-shutdown", "bxb-L-shutdown", "rxr-L", "rxr-L-sve"]
LINE_FORMATS: Final[tuple[str, ...]] = get_args(LineFormat)

_BXB_L: Final = "Record Nn' Vn' Fn' On'  Nv   Vv  Fv' Ov' No' Vo' Fo'  Q Se   Q +P   V Se   V +P  V FPR"
_BXB_SVEB: Final = (
    "Record Nn' Sn' Vn' Fn' On'  Ns  Ss  Vs  Fs' Os' Nv  Sv   Vv  Fv' Ov' No' So' Vo' Fo'"
    "  Q Se   Q +P   V Se   V +P   S Se   S +P RR err"
)
_SHUTDOWN: Final = (
    "Record Nx   Vx   Fx   Qx  % beats  % N    % V    % F   Total Shutdown\n"
    "                           missed missed missed missed      Time"
)
_SHUTDOWN_SVEB: Final = (
    "Record Nx   Sx   Vx   Fx   Qx  % beats  % N    % S    % V    % F   Total Shutdown\n"
    "                                missed missed missed missed missed      Time"
)
_RXR: Final = "Record CTs CFN CTp CFP STs SFN STp SFP LTs LFN LTp LFP  CSe C+P SSe S+P LSe L+P"
_RXR_SVE: Final = f"(SVE run detection)\n{_RXR}"

_UNCLASSIFIED_OR_FUSION: Final = [F, Q]


def tool_lines(comparison: Comparison, line_format: LineFormat, *, sumstats: bool = False) -> str:
    """Return what `bxb -l`, `bxb -L` or `rxr -L` print of a comparison, with sums and means if asked for.

    Parameters
    ----------
    comparison : Comparison
        With the class table `bxb` for what the programs themselves would print.
    line_format : str
        One of `LINE_FORMATS`.
    sumstats : bool
        Append what `sumstats` does.

    Notes
    -----
    `rxr` prints no row for a record in which one annotator has nothing after the start, so none is printed here.
    """
    beats = [record.beats for record in comparison.records]
    match line_format:
        case "bxb-l":
            lines = _bxb_l(beats, sumstats=sumstats)
        case "bxb-L":
            lines = _bxb_sveb(beats, sumstats=sumstats)
        case "bxb-l-shutdown":
            lines = _shutdown(beats, sumstats=sumstats)
        case "bxb-L-shutdown":
            lines = _shutdown_sveb(beats, sumstats=sumstats)
        case "rxr-L" | "rxr-L-sve":
            kind: RunKind = "ventricular" if line_format == "rxr-L" else "supraventricular"
            header = _RXR if line_format == "rxr-L" else _RXR_SVE
            runs = [record.runs(kind) for record in comparison.records if record.runs(kind).complete]
            lines = _rxr(header, runs, sumstats=sumstats)
    return "\n".join(lines) + "\n"


def _percent(part: float, whole: float, digits: int = 2) -> str:
    return "      -" if whole <= 0 else f" {100.0 * part / whole:6.{digits}f}"


def _figure(proportion: Proportion, digits: int = 2) -> str:
    return _percent(proportion.part, proportion.whole, digits)


def _columns(values: Sequence[int], widths: Sequence[int]) -> str:
    return " ".join(f"{value:{width}d}" for value, width in zip(values, widths, strict=True))


def _total_lines(n_records: int) -> list[str]:
    return ["", f"Summary of results from {n_records} record{'' if n_records == 1 else 's'}"]


def _mean_percent(parts: Sequence[tuple[int, int]], digits: int = 2) -> str:
    """Print the mean of proportions over those that are defined."""
    shares = [part / whole for part, whole in parts if whole]
    return _percent(sum(shares), len(shares), digits)


# --- bxb -l: normal (with supraventricular), ventricular, fusion and unclassifiable ---


def _bxb_l_counts(counts: NDArray[np.int64]) -> list[int]:
    merged = _without_sveb(counts)
    rest = [N, F, Q]  # called anything but ventricular
    return [
        int(count)
        for count in (
            merged[N, rest].sum(),
            merged[V, rest].sum(),
            merged[np.ix_(_UNCLASSIFIED_OR_FUSION, rest)].sum(),
            merged[np.ix_([O, X], rest)].sum(),
            merged[N, V],
            merged[V, V],
            merged[_UNCLASSIFIED_OR_FUSION, V].sum(),
            merged[[O, X], V].sum(),
            merged[N, [O, X]].sum(),
            merged[V, [O, X]].sum(),
            merged[np.ix_(_UNCLASSIFIED_OR_FUSION, [O, X])].sum(),
        )
    ]


def _without_sveb(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    merged = counts.copy()
    merged[N] += merged[S]
    merged[S] = 0
    merged[:, N] += merged[:, S]
    merged[:, S] = 0
    return merged


def _bxb_l(beats: Sequence[BeatComparison], *, sumstats: bool) -> list[str]:
    widths = (5, 3, 3, 3, 3, 4, 3, 3, 3, 3, 3)
    rows = [_bxb_l_counts(comparison.counts) for comparison in beats]
    lines = [_BXB_L]
    for comparison, row in zip(beats, rows, strict=True):
        figures = comparison.figures
        shown = (figures.qrs_se, figures.qrs_p, figures.veb_se, figures.veb_p)
        percents = "".join(map(_figure, shown)) + _figure(figures.veb_fpr, 3)
        lines.append(f"{comparison.record:>4} {_columns(row, widths)}{percents}")
    if sumstats:
        sums = [sum(column) for column in zip(*rows, strict=True)] or [0] * len(widths)
        lines += ["_" * 86, f"Sum  {_columns(sums, (6, *widths[1:]))}"]
        gross = _bxb_l_proportions(sums)
        lines.append("Gross".ljust(54) + "".join(_percent(*p) for p in gross[:4]) + _percent(*gross[4], 3))
        each = list(zip(*map(_bxb_l_proportions, rows), strict=True)) or [()] * 5
        lines.append("Average".ljust(54) + "".join(map(_mean_percent, each[:4])) + _mean_percent(each[4], 3))
        lines.append(f"Total QRS complexes: {gross[0][1]}  Total VEBs: {gross[2][1]}")
        lines += _total_lines(len(beats))
    return lines


def _bxb_l_proportions(row: Sequence[int]) -> list[tuple[int, int]]:
    """Return parts and wholes of Q Se, Q +P, V Se, V +P and V FPR of a row."""
    nn, vn, fn, on, nv, vv, fv, ov, no, vo, fo = row
    found = nn + vn + fn + nv + vv + fv
    false = nv + ov
    return [
        (found, found + no + vo + fo),
        (found, found + on + ov),
        (vv, vn + vv + vo),
        (vv, nv + vv + ov),
        (false, nn + fn + on + false),
    ]


# --- bxb -L: the same with supraventricular ectopic beats ---


def _bxb_sveb_counts(counts: NDArray[np.int64]) -> list[int]:
    rest = [N, F, Q]  # called neither supraventricular nor ventricular
    rows: list[list[int]] = [[N], [S], [V], _UNCLASSIFIED_OR_FUSION, [O, X]]
    by_column = [[int(counts[np.ix_(row, column)].sum()) for row in rows] for column in (rest, [S], [V])]
    missed = [int(counts[np.ix_(row, [O, X])].sum()) for row in rows[:4]]
    return [*by_column[0], *by_column[1], *by_column[2], *missed]


def _bxb_sveb(beats: Sequence[BeatComparison], *, sumstats: bool) -> list[str]:
    widths = (5, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3, 3, 3, 3, 3)
    rows = [_bxb_sveb_counts(comparison.counts) for comparison in beats]
    lines, rr_errors = [_BXB_SVEB], []
    for comparison, row in zip(beats, rows, strict=True):
        figures = comparison.figures
        shown = (figures.qrs_se, figures.qrs_p, figures.veb_se, figures.veb_p, figures.sveb_se, figures.sveb_p)
        rr_error = "     -"
        if not math.isnan(comparison.rr_error_ms):
            rr_error = f" {comparison.rr_error_ms:6.2f}"
            rr_errors.append(float(rr_error))
        lines.append(f"{comparison.record:>4} {_columns(row, widths)}{''.join(map(_figure, shown))}{rr_error}")
    if sumstats:
        sums = [sum(column) for column in zip(*rows, strict=True)] or [0] * len(widths)
        lines += ["_" * 132, f"Sum {_columns(sums, (6, *widths[1:]))}"]
        gross = _bxb_sveb_proportions(sums)
        lines.append("Gross".ljust(83) + "".join(_percent(*proportion) for proportion in gross))
        each = list(zip(*map(_bxb_sveb_proportions, rows), strict=True)) or [()] * 6
        rr_mean = _percent(sum(rr_errors) / 100.0, len(rr_errors))
        lines.append("Average".ljust(83) + "".join(map(_mean_percent, each)) + rr_mean)
        lines.append(f"Total QRS complexes: {gross[0][1]}  Total VEBs: {gross[2][1]}  Total SVEBs: {gross[4][1]}")
        lines += _total_lines(len(beats))
    return lines


def _bxb_sveb_proportions(row: Sequence[int]) -> list[tuple[int, int]]:
    """Return parts and wholes of Q Se, Q +P, V Se, V +P, S Se and S +P of a row."""
    nn, sn, vn, fn, on, ns, ss, vs, fs, os, nv, sv, vv, fv, ov, no, so, vo, fo = row
    found = nn + sn + vn + fn + ns + ss + vs + fs + nv + sv + vv + fv
    return [
        (found, found + no + so + vo + fo),
        (found, found + on + os + ov),
        (vv, vn + vs + vv + vo),
        (vv, nv + sv + vv + ov),
        (ss, sn + ss + sv + so),
        (ss, ns + ss + vs + os),
    ]


# --- bxb -l and -L: beats missed in shutdown ---


def _shutdown_row(comparison: BeatComparison, counts: NDArray[np.int64], letters: Sequence[int]) -> str:
    missed = counts[:5, X]
    there = counts[:5].sum(axis=1)
    # bxb's share of beats leaves the supraventricular out of what was missed.
    shares = [_percent(int(missed[[N, V, F, Q]].sum()), int(there.sum()))]
    shares += [_percent(int(missed[k]), int(there[k])) for k in letters if k != Q]
    shown = _columns([int(missed[k]) for k in letters], [4] * len(letters))
    totals = " ".join(str(int(n)) for n in there)
    return f"{comparison.record:>4} {shown}  {''.join(shares)}{comparison.shutdown_s:5d} seconds {totals}"


def _shutdown(beats: Sequence[BeatComparison], *, sumstats: bool) -> list[str]:
    counts = [_without_sveb(comparison.counts) for comparison in beats]
    letters = [N, V, F, Q]
    lines = [_SHUTDOWN, *(_shutdown_row(b, c, letters) for b, c in zip(beats, counts, strict=True))]
    return lines + _shutdown_sums(beats, counts) if sumstats else lines


def _shutdown_sums(beats: Sequence[BeatComparison], counts: Sequence[NDArray[np.int64]]) -> list[str]:
    """Return sumstats's last lines: it counts twice what beats there are, and no record without beats."""
    letters = [N, V, F, Q]
    missed = [c[letters, X].tolist() for c in counts]
    there = [c[letters].sum(axis=1).tolist() for c in counts]
    sums = [sum(column) for column in zip(*missed, strict=True)] or [0] * 4
    totals = [2 * sum(column) for column in zip(*there, strict=True)] or [0] * 4
    seconds = sum(comparison.shutdown_s for comparison in beats)
    seen = [(m, t) for m, t in zip(missed, there, strict=True) if sum(t)]
    means = [_mean_percent([(sum(m), sum(t)) for m, t in seen])]
    means += [_mean_percent([(m[k], t[k]) for m, t in seen]) for k in range(3)]
    gross = [_percent(sum(sums), sum(totals)), *(_percent(sums[k], totals[k]) for k in range(3))]
    return [
        "_" * 68,
        f"Sum   {_columns(sums, [4] * 4)}{'':31}{seconds:4d} seconds",
        "Gross".ljust(25) + "".join(gross),
        "Average".ljust(25) + "".join(means),
        *_total_lines(len(seen)),
    ]


def _shutdown_sveb(beats: Sequence[BeatComparison], *, sumstats: bool) -> list[str]:
    letters = [N, S, V, F, Q]
    lines = [_SHUTDOWN_SVEB, *(_shutdown_row(comparison, comparison.counts, letters) for comparison in beats)]
    if sumstats:
        sums = [sum(int(comparison.counts[k, X]) for comparison in beats) for k in letters]
        seconds = sum(comparison.shutdown_s for comparison in beats)
        lines += ["_" * 72, f"Sum  {_columns(sums, [4] * 5)}{'':38}{seconds:4d} seconds", *_total_lines(len(beats))]
    return lines


# --- rxr -L ---


def _rxr(header: str, runs: Sequence[RunComparison], *, sumstats: bool) -> list[str]:
    rows = [run.figures for run in runs]
    lines = [header]
    for run, figures in zip(runs, rows, strict=True):
        shares = "".join(_rounded(proportion) for proportion in figures)
        lines.append(f"{run.record:>4} {_columns(_run_counts(figures), [3] * 12)} {shares}")
    if sumstats:
        sums = RunFigures(
            *(Proportion(sum(p.part for p in column), sum(p.whole for p in column)) for column in _turned(rows))
        )
        means = []
        for column in _turned(rows):
            shares_there = [p.part / p.whole for p in column if p.whole]
            means.append(f" {100.0 * sum(shares_there) / len(shares_there):3.0f}" if shares_there else "   -")
        gross = "".join(f" {p.percent:3.0f}" if p.whole else "   -" for p in sums)
        lines += [
            "_" * 77,
            f"Sum   {_columns(_run_counts(sums), (4, *[3] * 11))}",
            "Gross".ljust(55) + gross,
            "Average".ljust(55) + "".join(means),
            f"Total couplets: {sums.couplet_se.whole}  Total short runs: {sums.short_se.whole}"
            f"  Total long runs: {sums.long_se.whole}",
            *_total_lines(len(runs)),
        ]
    return lines


def _turned(rows: Sequence[RunFigures]) -> list[tuple[Proportion, ...]]:
    return list(zip(*rows, strict=True)) or [()] * len(RunFigures._fields)


def _run_counts(figures: RunFigures) -> list[int]:
    """Return runs found and missed, then confirmed and made up, of each length."""
    return [count for proportion in figures for count in (proportion.part, proportion.whole - proportion.part)]


def _rounded(proportion: Proportion) -> str:
    return f" {int(proportion.percent + 0.5):3d}" if proportion.whole else "   -"
