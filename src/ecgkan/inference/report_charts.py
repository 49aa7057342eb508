"""Charts of a whole recording as SVG: heart rate and ectopic burden over time, and the RR tachogram."""

import datetime
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.inference.annotation import BeatAnnotations
from ecgkan.inference.markup import Markup, element, joined
from ecgkan.inference.report_svg import UNITS, figure_svg, text_svg, units
from ecgkan.inference.rhythm import local_heart_rates, rr_intervals

BIN_WIDTHS_S: Final = (10.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0)
MOST_BINS: Final = 73
"""A trend has at most so many bins: three days by the hour, one hour by the minute."""

RR_LIMITS_S: Final = (0.2, 4.0)
"""RR intervals that a tachogram has room for; beyond, they are drawn at its edge, and those above are counted."""

_RR_LINES_S: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 4.0)

MARKED_CLASSES: Final = ("S", "V", "F", "Q")
"""Classes that the tachogram marks by colour and shape; N beats are dots."""

_WIDTH_MM, _LEFT_MM, _RIGHT_MM = 185.0, 10.0, 4.0
_PLOT_MM: Final = _WIDTH_MM - _LEFT_MM - _RIGHT_MM
_DOT_UNITS: Final = {500: 18, 5_000: 9, 20_000: 7}
"""Beats up to which a tachogram's cells have so many units a side; of more beats a quarter of a millimetre."""

_FINE_UNITS: Final = 5

_MARK_COLUMN_UNITS: Final = 24
_MARKS_PER_COLUMN: Final = 4
"""Marks of one class that are drawn in a column of 1.2 mm; the shortest and the longest interval are among them."""

_MARKS: Final = {
    "S": "m-10 0a10 10 0 1 0 20 0a10 10 0 1 0-20 0z",  # circle
    "V": "m-11-9h22l-11 19z",  # triangle, its tip down
    "F": "m0-13l11 13l-11 13l-11-13z",  # diamond
    "Q": "m-9-9h18v18h-18z",  # square
}
"""Outlines of the marks, drawn from their middle, in user units."""

_TICK_STEPS_S: Final = tuple(
    float(step)
    for step in (
        *(1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
        *(hours * 3600 for hours in (1, 2, 3, 6, 12, 24, 48, 168)),
    )
)


class Trend(NamedTuple):
    """A recording in bins of equal length: `[k]` float64 each, NaN where nothing is known.

    Attributes
    ----------
    bin_s : float
        Length of a bin, seconds.
    mean, lowest, highest : ndarray
        Heart rate, beats per minute, as in `ecgkan.inference.holter.Hour`.
    burden : dict
        Class letter V or S → percent of the bin's classified beats.
    """

    bin_s: float
    mean: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    burden: dict[str, NDArray[np.float64]]


class _Axis(NamedTuple):
    """Values from `low` (at `bottom`) to `high` (at `top`), user units, with lines at some of them."""

    low: float
    high: float
    top: int
    bottom: int
    lines: tuple[float, ...]
    logarithmic: bool = False

    def y(self, value: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return where values are drawn; those beyond the axis at its ends."""
        inside = np.clip(np.asarray(value, dtype=np.float64), self.low, self.high)
        if self.logarithmic:
            share = np.log(inside / self.low) / np.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return np.asarray(np.rint(self.bottom - share * (self.bottom - self.top)))


def bin_width_s(duration_s: float) -> float:
    """Return the length of a trend's bins: the shortest of `BIN_WIDTHS_S` that gives at most `MOST_BINS`."""
    return next((width for width in BIN_WIDTHS_S if duration_s <= width * MOST_BINS), BIN_WIDTHS_S[-1])


def trend(annotations: BeatAnnotations, bin_s: float) -> Trend:
    """Put heart rates and ectopic beats into bins of `bin_s` seconds."""
    number = max(1, int(np.ceil(annotations.duration_s / bin_s)))
    bin_of_beat = np.minimum((annotations.samples / annotations.fs // bin_s).astype(np.int64), number - 1)
    local, intervals = local_heart_rates(annotations), rr_intervals(annotations)
    lowest, highest = np.full(number, np.inf), np.full(number, -np.inf)
    np.minimum.at(lowest, bin_of_beat[local.middle], local.rates)
    np.maximum.at(highest, bin_of_beat[local.middle], local.rates)
    known = intervals > 0
    ends = bin_of_beat[1:][known]
    seconds = np.bincount(ends, weights=intervals[known], minlength=number)
    beats = np.bincount(bin_of_beat, minlength=number).astype(np.float64)
    counts = {letter: np.bincount(bin_of_beat[annotations.classes == letter], minlength=number) for letter in "VS"}
    return Trend(
        bin_s=bin_s,
        mean=_ratio(60.0 * np.bincount(ends, minlength=number), seconds),
        lowest=np.where(np.isfinite(lowest), lowest, np.nan),
        highest=np.where(np.isfinite(highest), highest, np.nan),
        burden={letter: _ratio(100.0 * count, beats) for letter, count in counts.items()},
    )


def trend_svg(annotations: BeatAnnotations, binned: Trend) -> Markup:
    """Draw heart rate (mean, and the band from lowest to highest) over the burden of V and S beats."""
    rate = _rate_axis(binned, units(5), units(30))
    burden = _burden_axis(binned, units(38), units(50))
    content = (
        _excluded(annotations, rate.top, burden.bottom),
        _axis_lines(rate, "heart rate, per min"),
        _band(annotations, binned, rate),
        _axis_lines(burden, "burden, %"),
        *(_bars(annotations, binned, burden, letter, place) for place, letter in enumerate("VS")),
        _time_axis(annotations, (rate, burden)),
    )
    label = "Heart rate and burden of ventricular and supraventricular ectopic beats over time"
    return figure_svg(_WIDTH_MM, 55, label, *content, class_="chart")


def tachogram_svg(annotations: BeatAnnotations) -> Markup:
    """Draw each RR interval at the beat that ends it: N beats as dots, ectopic beats by colour and shape.

    Beats that fall into the same cell of a quarter of a millimetre are one dot; so nothing extreme is lost however
    long the recording is. Marks of one class are thinned out where they would cover one another, never the outermost.
    """
    rr_s = np.concatenate([[np.nan], rr_intervals(annotations)])[: len(annotations)]
    known = np.isfinite(rr_s)
    axis = _rr_axis(rr_s[known], units(6), units(58))
    x = _x(annotations, annotations.samples / annotations.fs)
    y = np.where(known, axis.y(np.where(known, rr_s, 1.0)), 0.0)
    cell = next((side for most, side in _DOT_UNITS.items() if len(rr_s) <= most), _FINE_UNITS)
    plain = known & ~np.isin(annotations.classes, MARKED_CLASSES)
    content = (
        _excluded(annotations, axis.top, axis.bottom),
        _axis_lines(axis, "RR interval, s", note=_beyond(rr_s[known], axis.high)),
        element("path", class_="dots", stroke_width=cell, d=_dots(x[plain], y[plain], cell)),
        *(_marks(x, y, known & (annotations.classes == letter), letter) for letter in ("Q", "S", "F", "V")),
        _time_axis(annotations, (axis,)),
    )
    return figure_svg(_WIDTH_MM, 63.5, "RR intervals over time, ectopic beats marked", *content, class_="chart")


def mark_svg(letter: str) -> Markup:
    """Draw the tachogram's mark of a class alone, for a legend."""
    if letter == "N":
        mark = element("rect", class_="dot", x=18, y=18, width=8, height=8)
    else:
        mark = element("path", class_=f"mark-{letter}", d=f"M22 22{_MARKS[letter]}")
    return element("svg", mark, class_="legend", width="2.2mm", height="2.2mm", viewBox="0 0 44 44", aria_hidden="true")


def time_ticks(duration_s: float, started: datetime.datetime | None, most: int = 13) -> list[tuple[float, str]]:
    """Return up to `most` round times within a recording: seconds from its start, and what to write there.

    With a start they are round by the clock, and written so.
    """
    step = next((step for step in _TICK_STEPS_S if duration_s / step < most), _TICK_STEPS_S[-1])
    step *= max(1.0, np.ceil(duration_s / step / most))
    offset = 0.0
    if started is not None:
        midnight = started.replace(hour=0, minute=0, second=0, microsecond=0)
        offset = -(started - midnight).total_seconds() % step
    times = np.arange(offset, duration_s + 1e-9, step).tolist()
    return [(time_s, _tick_text(time_s, step, duration_s, started)) for time_s in times]


def _tick_text(time_s: float, step: float, duration_s: float, started: datetime.datetime | None) -> str:
    if started is not None:
        moment = started + datetime.timedelta(seconds=round(time_s))
        if step >= 24 * 3600:
            return f"{moment:%d %b}"
        return f"{moment:%H:%M:%S}" if step < 60 else f"{moment:%H:%M}"
    whole = round(time_s)
    if duration_s < 120:
        return f"{whole} s"
    if step < 60:
        return f"{whole // 60}:{whole % 60:02d}"
    if duration_s <= 2 * 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h" if step >= 3600 else f"{whole // 3600}:{whole // 60 % 60:02d} h"


def _ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio


def _x(annotations: BeatAnnotations, time_s: NDArray[np.float64] | float) -> NDArray[np.float64]:
    share = np.clip(np.asarray(time_s, dtype=np.float64) / max(annotations.duration_s, 1e-9), 0.0, 1.0)
    return np.asarray(np.rint((_LEFT_MM + share * _PLOT_MM) * UNITS))


def _rate_axis(binned: Trend, top: int, bottom: int) -> _Axis:
    low = np.nanmin(binned.lowest) if np.isfinite(binned.lowest).any() else 50.0
    high = np.nanmax(binned.highest) if np.isfinite(binned.highest).any() else 100.0
    step = 20.0 if high - low < 120 else 50.0
    low, high = np.floor(low / step - 0.1) * step, np.ceil(high / step + 0.1) * step
    low, high = max(float(low), 0.0), float(max(high, low + 2 * step))
    return _Axis(low, high, top, bottom, tuple(np.arange(low, high + 1, step).tolist()))


def _burden_axis(binned: Trend, top: int, bottom: int) -> _Axis:
    most = max(float(np.nan_to_num(share).max()) for share in binned.burden.values())
    high = next(high for high in (1.0, 2.0, 4.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0) if most <= high)
    return _Axis(0.0, high, top, bottom, (0.0, high / 2, high))


def _rr_axis(rr_s: NDArray[np.float64], top: int, bottom: int) -> _Axis:
    """Return an axis on which equal distances are equal ratios: short and long intervals both show."""
    shortest, longest = RR_LIMITS_S
    low = max((line for line in _RR_LINES_S if line <= rr_s.min(initial=0.5)), default=shortest)
    high = min((line for line in _RR_LINES_S if line >= rr_s.max(initial=1.0)), default=longest)
    return _Axis(low, high, top, bottom, tuple(line for line in _RR_LINES_S if low <= line <= high), logarithmic=True)


def _axis_lines(axis: _Axis, name: str, note: str = "") -> Markup:
    """Return horizontal lines at round values, their figures, and the axis's name above."""
    left, right = units(_LEFT_MM), units(_WIDTH_MM - _RIGHT_MM)
    heights = axis.y(np.array(axis.lines)).astype(int).tolist()
    lines = "".join(f"M{left} {y}h{right - left}" for y in heights)
    figures = (
        text_svg(left - 20, y + 18, f"{value:g}", "figure") for value, y in zip(axis.lines, heights, strict=True)
    )
    title = text_svg(left, axis.top - 34, name, "axis")
    beyond = text_svg(right, axis.top - 34, note, "axis end") if note else None
    return joined(element("path", class_="line", d=lines), *figures, title, beyond)


def _time_axis(annotations: BeatAnnotations, axes: Sequence[_Axis]) -> Markup:
    bottom, texts, lines = axes[-1].bottom, [], ""
    for time_s, text in time_ticks(annotations.duration_s, annotations.started):
        x = int(_x(annotations, time_s))
        lines += "".join(f"M{x} {axis.top}v{axis.bottom - axis.top}" for axis in axes)
        texts.append(text_svg(min(x, units(_WIDTH_MM) - 80), bottom + 72, text, "time"))
    return joined(element("path", class_="line upright", d=lines), *texts)


def _excluded(annotations: BeatAnnotations, top: int, bottom: int) -> Markup | None:
    """Shade the excluded stretches, at least a quarter of a millimetre each; those that touch are one."""
    stretches = annotations.noisy.reshape(-1, 2) / annotations.fs
    if not len(stretches):
        return None
    start = _x(annotations, stretches[:, 0])
    stop = np.maximum(_x(annotations, stretches[:, 1]), start + _FINE_UNITS)
    reached = np.maximum.accumulate(stop)
    opens = np.concatenate([[True], start[1:] > reached[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    spans = zip(start[opens].astype(int).tolist(), reached[closes].astype(int).tolist(), strict=True)
    path = "".join(f"M{a} {top}h{b - a}v{bottom - top}h{a - b}z" for a, b in spans)
    return element("path", class_="excluded", d=path)


def _band(annotations: BeatAnnotations, binned: Trend, axis: _Axis) -> Markup:
    """Return a box from lowest to highest per bin, and the mean as a line that steps from bin to bin."""
    boxes, means, previous = "", "", None
    for i, (left, right) in enumerate(_edges(annotations, binned)):
        if np.isfinite(binned.lowest[i]):
            high, low = (int(axis.y(values[i])) for values in (binned.highest, binned.lowest))
            boxes += f"M{left} {high}h{right - left}v{max(low - high, 4)}h{left - right}z"
        if np.isfinite(binned.mean[i]):
            y = int(np.clip(axis.y(binned.mean[i]), axis.top, axis.bottom))
            means += f"V{y}H{right}" if previous == i - 1 else f"M{left} {y}H{right}"
            previous = i
    return joined(element("path", class_="band", d=boxes), element("path", class_="mean", d=means))


def _bars(annotations: BeatAnnotations, binned: Trend, axis: _Axis, letter: str, place: int) -> Markup | None:
    """Return a bar per bin: V in its left half, filled, S in its right half, hollow."""
    path = ""
    for (left, right), share in zip(_edges(annotations, binned), np.nan_to_num(binned.burden[letter]), strict=True):
        if share > 0:
            width = min((right - left) * 0.4, units(4))
            start = round((left + right) / 2 - width + place * width)
            height = max(axis.bottom - int(axis.y(share)), 4)
            path += f"M{start} {axis.bottom}v{-height}h{max(round(width) - 4, 3)}v{height}z"
    return element("path", class_=f"bar {letter}", d=path) if path else None


def _edges(annotations: BeatAnnotations, binned: Trend) -> Iterator[tuple[int, int]]:
    edges = _x(annotations, np.arange(len(binned.mean) + 1, dtype=np.float64) * binned.bin_s).astype(int).tolist()
    return pairwise(edges)


def _beyond(rr_s: NDArray[np.float64], high: float) -> str:
    beyond = int(np.count_nonzero(rr_s > high))
    return f"{beyond:,} above {high:g} s, up to {rr_s.max():.1f} s" if beyond else ""


def _dots(x: NDArray[np.float64], y: NDArray[np.float64], cell: int) -> str:
    """Return one upright line per row of occupied cells that touch; the path's stroke is as wide as a cell."""
    columns, rows = (x // cell).astype(np.int64), (y // cell).astype(np.int64)
    cells = np.unique(columns * 10_000 + rows)
    opens = np.concatenate([[True], np.diff(cells) != 1])[: len(cells)]
    closes = np.concatenate([np.diff(cells) != 1, [True]])[: len(cells)]
    first, last = cells[opens], cells[closes]
    path, before, end = [], -1, 0
    for start, stop in zip(first.tolist(), last.tolist(), strict=True):
        column, row = divmod(start, 10_000)
        length = (stop - start + 1) * cell
        if column == before:
            path.append(f"m0 {row * cell - end}v{length}")
        else:
            path.append(f"M{column * cell + cell // 2} {row * cell}v{length}")
        before, end = column, row * cell + length
    return "".join(path).replace(" -", "-")


def _marks(x: NDArray[np.float64], y: NDArray[np.float64], wanted: NDArray[np.bool_], letter: str) -> Markup | None:
    places = np.unique(np.column_stack([x, y])[wanted].astype(np.int64), axis=0)
    if not len(places):
        return None
    columns = places[:, 0] // _MARK_COLUMN_UNITS
    path = []
    for column in np.split(places, np.flatnonzero(np.diff(columns)) + 1):
        in_order = column[np.argsort(column[:, 1], kind="stable")]
        some = np.unique(np.linspace(0, len(in_order) - 1, min(len(in_order), _MARKS_PER_COLUMN)).round().astype(int))
        path += [f"M{px} {py}{_MARKS[letter]}" for px, py in in_order[some].tolist()]
    return element("path", class_=f"mark-{letter}", d="".join(path))
