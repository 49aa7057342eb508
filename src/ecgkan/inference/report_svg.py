"""ECG on paper as SVG, to scale: strips, single beats, mean beats.

A user unit is a twentieth of a millimetre, so that coordinates are whole numbers and still finer than print.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE
from ecgkan.inference.annotation import CLASS_NAMES, UNCERTAIN_BELOW, BeatAnnotations
from ecgkan.inference.figures import MM_PER_MV, MM_PER_S, paper_range
from ecgkan.inference.markup import Markup, element, joined
from ecgkan.inference.moments import ShownStrip, UncertainBeat, time_text

UNITS: Final = 20
"""User units per millimetre."""

MEAN_BEAT_MM_PER_S: Final = 50.0
"""Mean beats are drawn at twice the usual speed, which shows the QRS complex wider."""

_LEFT_MM, _RIGHT_MM, _LETTERS_MM, _AXIS_MM, _GAP_MM = 8.0, 2.0, 5.5, 4.0, 2.5
_MOST_PAPER_MM: Final = 60.0
_WIDEST_PAPER_MM: Final = 7.0 * MM_PER_S
_RR_SHOWN_S: Final = 0.32
"""Between beats closer than this there is no room for the interval's figure."""


class Part(NamedTuple):
    """A part of a lead: number of its first sample, and `[n]` mV with NaN where a sample is missing."""

    first: int
    values: NDArray[np.float64]


class _Window(NamedTuple):
    """Paper: the times and voltages between which something is drawn, and where on the page its corner lies (mm)."""

    start_s: float
    stop_s: float
    low: float
    high: float
    left_mm: float
    top_mm: float
    mm_per_s: float = MM_PER_S

    @property
    def width_mm(self) -> float:
        return (self.stop_s - self.start_s) * self.mm_per_s

    @property
    def height_mm(self) -> float:
        return (self.high - self.low) * MM_PER_MV

    def x(self, time_s: float) -> int:
        """Return where a time lies, in user units from the left of the figure."""
        return units(self.left_mm + (time_s - self.start_s) * self.mm_per_s)


def units(mm: float) -> int:
    """Return millimetres in user units."""
    return round(mm * UNITS)


def figure_svg(width_mm: float, height_mm: float, label: str, *content: object, class_: str = "scale") -> Markup:
    """Return an SVG image of so many millimetres, with a text for those who do not see it."""
    return element(
        "svg",
        *content,
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        aria_label=label,
        class_=class_,
        width=f"{width_mm:g}mm",
        height=f"{height_mm:g}mm",
        viewBox=f"0 0 {units(width_mm)} {units(height_mm)}",
    )


def text_svg(x: int, y: int, text: object, class_: str, **attributes: object) -> Markup:
    """Return text at a place in user units."""
    return element("text", text, x=x, y=y, class_=class_, **attributes)


def paper_definitions() -> Markup:
    """Return the grid, drawn once for all strips: lines each 1 mm and each 5 mm over the largest paper."""
    width, height = round(_WIDEST_PAPER_MM), round(_MOST_PAPER_MM)
    grids = (element("path", id=f"grid{mm}", class_=f"grid{mm}", d=_grid(width, height, mm)) for mm in (1, 5))
    return element("svg", element("defs", *grids), width=0, height=0, class_="definitions", aria_hidden="true")


def trace_path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Return the path of a curve: whole numbers, each relative to the one before, and none that print would not show.

    Parameters
    ----------
    x, y : ndarray
        `[n]` user units, x ascending; y NaN where the curve is interrupted.
    """
    finite = np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], finite.astype(np.int8), [0]])))
    pieces = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return "".join(_piece(np.rint(x[start:stop]), np.rint(y[start:stop])) for start, stop in pieces)


def strip_svg(
    annotations: BeatAnnotations, strip: ShownStrip, rows: Sequence[Part], *, label: str, beat: int | None = None
) -> Markup:
    """Draw a strip at 25 mm/s and 10 mm/mV with beat letters and RR intervals in ms.

    Parameters
    ----------
    annotations : BeatAnnotations
        Of the lead that is drawn.
    strip : ShownStrip
        Where the rows lie.
    rows : sequence of Part
        The signal, one part per row.
    label : str
        What the strip shows, for those who do not see it.
    beat : int, optional
        The one beat a small strip is about: its window is shaded, and the calibration pulse, the intervals and the
        times are left out.
    """
    small = beat is not None
    left_mm, right_mm, axis_mm = (0.0, 0.0, 0.0) if small else (_LEFT_MM, _RIGHT_MM, _AXIS_MM)
    content, top_mm = [], 0.0
    for row, part in enumerate(rows):
        start_s = strip.start_s + row * strip.row_s
        low, high = paper_range(part.values, most_mv=4.0 if small else 6.0)
        window = _Window(start_s, start_s + strip.row_s, low, high, left_mm, top_mm + _LETTERS_MM)
        content += [_paper(annotations, window, part, beat), _letters(annotations, window, small=small)]
        if not small:
            content += [_calibration(window), _seconds(window)]
        top_mm += _LETTERS_MM + window.height_mm + axis_mm + _GAP_MM
    height_mm = top_mm - _GAP_MM
    return figure_svg(left_mm + strip.row_s * MM_PER_S + right_mm, height_mm, label, *content)


def uncertain_svg(annotations: BeatAnnotations, beat: UncertainBeat, part: Part, half_s: float, label: str) -> Markup:
    """Draw a beat with `half_s` seconds on either side."""
    strip = ShownStrip(beat.time_s - half_s, 2 * half_s, 1, ())
    return strip_svg(annotations, strip, [part], label=label, beat=beat.beat)


def mean_beat_svg(mean_beats: NDArray[np.floating], letter: str, limits: tuple[float, float]) -> Markup:
    """Draw the mean beat of a class, on that of class N in grey, at 50 mm/s and 10 mm/mV from each beat's median.

    Parameters
    ----------
    mean_beats : ndarray
        `[5, 256]` mV at 360 Hz; NaN rows for classes without beats.
    letter : str
        The class.
    limits : tuple of float
        Lowest and highest voltage to draw, whole multiples of 0.5 mV; see `mean_beat_limits`.
    """
    window = _Window(-BEFORE / BEAT_FS, 0.7 - BEFORE / BEAT_FS, *limits, 0.0, 0.0, MEAN_BEAT_MM_PER_S)
    times = (np.arange(BEFORE + AFTER) - BEFORE) / BEAT_FS
    centred = _centred(mean_beats)
    curves = [element("path", class_="trace faint", d=_curve(window, times, centred[0]))] if letter != "N" else []
    curves.append(element("path", class_="trace", d=_curve(window, times, centred[CLASSES.index(letter)])))
    label = f"Mean beat of class {letter}, {CLASS_NAMES[letter]}"
    return figure_svg(window.width_mm, window.height_mm, label, _sheet(window, *curves))


def mean_beat_limits(mean_beats: NDArray[np.floating]) -> tuple[float, float]:
    """Return the voltages between which all mean beats `[5, 256]` lie, whole multiples of 0.5 mV."""
    return paper_range(_centred(mean_beats).ravel())


def _centred(mean_beats: NDArray[np.floating]) -> NDArray[np.float64]:
    centred = np.full(mean_beats.shape, np.nan)
    known = np.isfinite(mean_beats).any(axis=1)
    centred[known] = mean_beats[known] - np.nanmedian(mean_beats[known], axis=1, keepdims=True)
    return centred


def _grid(width: int, height: int, step: int) -> str:
    across = "".join(f"M{x * UNITS} 0v{height * UNITS}" for x in range(0, width + 1, step))
    return across + "".join(f"M0 {y * UNITS}h{width * UNITS}" for y in range(0, height + 1, step))


def _piece(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    if len(x) > 2 * (x[-1] - x[0] + 1):
        x, y = _extremes(x, y)
    for _ in range(3):
        x, y = _thinned(x, y)
    start = f"M{int(x[0])} {int(y[0])}"
    if len(x) == 1:
        return f"{start}h0"
    steps = np.column_stack([np.diff(x), np.diff(y)]).astype(np.int64).ravel()
    return f"{start}l" + " ".join(map(str, steps.tolist())).replace(" -", "-")


def _extremes(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep of all points of one column the first, the lowest, the highest and the last."""
    columns, first = np.unique(x, return_index=True)
    last = np.append(first[1:], len(x)) - 1
    lowest, highest = np.minimum.reduceat(y, first), np.maximum.reduceat(y, first)
    falls = y[last] < y[first]
    middle = np.where(falls, highest, lowest), np.where(falls, lowest, highest)
    kept_x, kept_y = np.repeat(columns, 4), np.column_stack([y[first], *middle, y[last]]).ravel()
    moves = np.concatenate([[True], (np.diff(kept_x) != 0) | (np.diff(kept_y) != 0)])
    return kept_x[moves], kept_y[moves]


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Leave every second point out where the line between its neighbours passes within half a unit."""
    if len(x) < 3:
        return x, y
    before, middle, after = slice(0, -2, 2), slice(1, -1, 2), slice(2, None, 2)
    width = x[after] - x[before]
    share = np.divide(x[middle] - x[before], width, out=np.zeros(len(width)), where=width > 0)
    beside = np.abs(y[before] + share * (y[after] - y[before]) - y[middle])
    keep = np.ones(len(x), dtype=bool)
    keep[middle] = (beside > 0.5) | (width == 0)
    return x[keep], y[keep]


def _curve(window: _Window, times: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    """Return the path of a curve within the paper; far beyond its edges a value is drawn at 20 mm from them."""
    x = (times - window.start_s) * window.mm_per_s * UNITS
    y = np.clip((window.high - values) * MM_PER_MV, -20.0, window.height_mm + 20.0) * UNITS
    return trace_path(x, y)


def _sheet(window: _Window, *content: object) -> Markup:
    """Return paper, which cuts off what is drawn beyond its edges."""
    width, height = units(window.width_mm), units(window.height_mm)
    return element(
        "svg",
        element("rect", class_="paper", width=width, height=height),
        element("use", href="#grid1"),
        element("use", href="#grid5"),
        *content,
        element("rect", class_="frame", width=width, height=height),
        x=units(window.left_mm),
        y=units(window.top_mm),
        width=width,
        height=height,
    )


def _paper(annotations: BeatAnnotations, window: _Window, part: Part, beat: int | None) -> Markup:
    inner = window._replace(left_mm=0.0)
    height = units(window.height_mm)
    shades = [_shade(inner, *stretch, "excluded") for stretch in _stretches(annotations, window)]
    if beat is not None:
        time_s = annotations.samples[beat] / annotations.fs
        shades.append(_shade(inner, time_s - BEFORE / BEAT_FS, time_s + AFTER / BEAT_FS, "window"))
    marks = "".join(f"M{inner.x(time_s)} 0v{height}" for letter, time_s in _beats(annotations, window) if letter != "N")
    times = (part.first + np.arange(len(part.values))) / annotations.fs
    trace = element("path", class_="trace", d=_curve(window, times, part.values))
    return _sheet(window, *shades, element("path", class_="ectopic", d=marks) if marks else None, trace)


def _shade(window: _Window, start_s: float, stop_s: float, class_: str) -> Markup:
    start, stop = window.x(max(start_s, window.start_s)), window.x(min(stop_s, window.stop_s))
    return element("rect", class_=class_, x=start, width=max(stop - start, 1), height=units(window.height_mm))


def _stretches(annotations: BeatAnnotations, window: _Window) -> list[tuple[float, float]]:
    stretches = annotations.noisy.reshape(-1, 2) / annotations.fs
    return [(a, b) for a, b in stretches[_overlapping(stretches, window)].tolist()]


def _overlapping(stretches: NDArray[np.float64], window: _Window) -> slice:
    """Stretches are in order and do not overlap, so those that reach into the window are neighbours."""
    first = int(np.searchsorted(stretches[:, 1], window.start_s, side="right"))
    return slice(first, max(first, int(np.searchsorted(stretches[:, 0], window.stop_s, side="left"))))


def _beats(annotations: BeatAnnotations, window: _Window) -> list[tuple[str, float]]:
    inside = _inside(annotations.samples, annotations.fs, window)
    times = annotations.samples[inside] / annotations.fs
    return list(zip(annotations.classes[inside].tolist(), times.tolist(), strict=True))


def _inside(samples: NDArray[np.int64], fs: float, window: _Window) -> slice:
    first, stop = np.searchsorted(samples, [np.ceil(window.start_s * fs), np.ceil(window.stop_s * fs)])
    return slice(int(first), int(stop))


def _letters(annotations: BeatAnnotations, window: _Window, *, small: bool) -> Markup:
    """Return the row above the paper: a letter per beat, `?` where it is uncertain, × where one was left out."""
    base = units(window.top_mm) - 28
    margin_s = 0.06 if small else 0.0  # a letter on the very edge would be cut
    readable = window._replace(start_s=window.start_s + margin_s, stop_s=window.stop_s - margin_s)
    inside = _inside(annotations.samples, annotations.fs, readable)
    row: list[Markup] = []
    # Of the beats inside alone: `annotations.uncertain` looks at all of them.
    uncertain = annotations.probabilities[inside].max(axis=1, initial=0.0) < UNCERTAIN_BELOW
    for i in range(inside.start, inside.stop):
        x, letter = window.x(annotations.samples[i] / annotations.fs), str(annotations.classes[i])
        written = f"{letter}?" if uncertain[i - inside.start] else letter
        if letter != "N":
            row.append(element("rect", class_=f"box {letter}", x=x - 32, y=base - 55, width=64, height=70, rx=14))
        row.append(text_svg(x, base, written, f"letter {letter}"))
    left_out = annotations.left_out[_inside(annotations.left_out, annotations.fs, readable)] / annotations.fs
    row += [text_svg(window.x(time_s), base, "×", "letter out") for time_s in left_out.tolist()]
    return element("g", *row, *(() if small else _intervals(annotations, window, inside, base)))


def _intervals(annotations: BeatAnnotations, window: _Window, inside: slice, base: int) -> Iterator[Markup]:
    for i in range(inside.start, inside.stop):
        rr_s, time_s = float(annotations.rr_before_s[i]), float(annotations.samples[i] / annotations.fs)
        if rr_s >= _RR_SHOWN_S and time_s - rr_s >= window.start_s:
            yield text_svg(window.x(time_s - rr_s / 2), base, f"{1000 * rr_s:.0f}", "interval")


def _calibration(window: _Window) -> Markup:
    """Return the pulse of 1 mV and 0.2 s."""
    top = units(window.top_mm + (window.height_mm - MM_PER_MV) / 2)
    height = units(MM_PER_MV)
    return element("path", class_="trace", d=f"M10 {top + height}h30v{-height}h80v{height}h30")


def _seconds(window: _Window) -> Markup:
    """Return the times below the paper: the first in full, then the seconds of each minute."""
    base = units(window.top_mm + window.height_mm) + 58
    first = int(np.ceil(window.start_s - 1e-9))
    labels = [
        text_svg(window.x(second), base, time_text(second) if second == first else f":{second % 60:02d}", "time")
        for second in range(first, int(np.floor(window.stop_s - 1e-9)) + 1)
    ]
    ticks = "".join(f"M{window.x(first + i)} {base - 58}v16" for i in range(len(labels)))
    return joined(element("path", class_="tick", d=ticks), *labels)
