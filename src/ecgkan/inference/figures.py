"""Figures of classified beats: ECG strips on chart paper, beats by class, beats on which models disagree.

Drawn with matplotlib's object interface: no pyplot, no global state, no display.
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE
from ecgkan.errors import DataError
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.evaluation.plots import CLASS_COLOURS
from ecgkan.inference.annotation import CLASS_NAMES, BeatAnnotations
from ecgkan.inference.disagreement import MOST_SHOWN, Disagreement, surest
from ecgkan.inference.moments import time_text
from ecgkan.inference.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, FINE, COARSE, TRACE, GREY = "#FFFBFA", "#F9DEDA", "#EFB5AE", "#1A1A1A", "#5A5A5A"

MM_PER_S, MM_PER_MV, MM_PER_INCH = 25.0, 10.0, 25.4
"""The scale of ECG paper: 25 mm/s and 10 mm/mV, so small squares are 0.04 s by 0.1 mV."""

DPI: Final = 144


class Strip(NamedTuple):
    """A part of a recording: from `start_s` on, `rows` rows of `row_s` seconds."""

    start_s: float
    row_s: float = 10.0
    rows: int = 2


def write_figure(figure: "Figure", path: Path, *, overwrite: bool = False) -> Path:
    """Write a figure as the file type of `path`; see `ecgkan.inference.writing.replacing` for errors."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with replacing(path, overwrite=overwrite) as temporary, warnings.catch_warnings():
        # A record's name may have letters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, dpi=DPI)
    return path


def strip_figure(
    signal: NDArray[np.floating],
    annotations: Sequence[BeatAnnotations],
    strip: Strip,
    *,
    title: str,
    first_sample: int = 0,
    window_s: tuple[float, float] | None = None,
) -> "Figure":
    """Draw a strip at 25 mm/s and 10 mm/mV, each beat marked by its class, one line of letters per model.

    Parameters
    ----------
    signal : ndarray
        `[n_samples]`, mV, the lead that was classified, at the annotations' sampling rate.
    annotations : sequence of BeatAnnotations
        One or more, of the same lead at the same R peaks.
    strip : Strip
        What to draw.
    title : str
        First line above the strip.
    first_sample : int
        Number of the signal's first sample in the recording, where only a part of it is handed over.
    window_s : tuple of float, optional
        Times between which the paper is shaded.
    """
    from matplotlib.figure import Figure

    fs = annotations[0].fs
    left, right, top, bottom, letters, gap = 16.0, 5.0, 10.0, 14.0, 5.5 * len(annotations) + 1, 5.0
    starts = [strip.start_s + row * strip.row_s for row in range(strip.rows)]
    parts = [(round(start * fs) - first_sample, round((start + strip.row_s) * fs) - first_sample) for start in starts]
    ranges = [paper_range(signal[max(0, start) : max(0, stop)]) for start, stop in parts]
    heights = [(high - low) * MM_PER_MV for low, high in ranges]
    width = left + strip.row_s * MM_PER_S + right
    height = top + sum(heights) + strip.rows * letters + (strip.rows - 1) * gap + bottom
    figure = Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH), facecolor="white")
    size = min(11.0, 11.0 * 9.5 * strip.row_s / max(len(title), 1))
    figure.text(left / width, 1 - 5.5 / height, title, fontsize=size, weight="bold", va="center", parse_math=False)
    base = height - top + gap
    for start_s, (low, high), row_mm in zip(starts, ranges, heights, strict=True):
        base -= gap + letters + row_mm
        axes = figure.add_axes((left / width, base / height, strip.row_s * MM_PER_S / width, row_mm / height))
        _draw_paper(axes, start_s, start_s + strip.row_s, low, high)
        _shade(axes, (annotations[0].noisy.reshape(-1, 2) / fs).tolist(), alpha=0.25)
        _shade(axes, [window_s] if window_s else [], alpha=0.13)
        _draw_trace(axes, signal, fs, start_s, start_s + strip.row_s, first_sample=first_sample)
        _draw_letters(axes, annotations, start_s, start_s + strip.row_s, line_height=5.5 / row_mm)
        seconds = np.arange(np.ceil(start_s), start_s + strip.row_s + 1e-9, 1.0)
        axes.set_xticks(seconds, [time_text(second) for second in seconds.tolist()])
        axes.set_ylabel("mV", fontsize=8, labelpad=1)
    axes.set_xlabel("time in the recording (h:mm:ss); 25 mm/s, 10 mm/mV", fontsize=8, labelpad=2)
    _draw_legend(figure, y=3.5 / height, x=left / width)
    return figure


def class_gallery_figure(
    windows: NDArray[np.floating], annotations: Sequence[BeatAnnotations], *, title: str
) -> "Figure":
    """Draw all beats of each class over one another with their mean, one row per model.

    Parameters
    ----------
    windows : ndarray
        `[n, 256]`, mV, 360 Hz: the window of each annotated beat.
    annotations : sequence of BeatAnnotations
        One per model, of the same n beats.
    title : str
        Line above the panels.

    Raises
    ------
    DataError
        If the number of windows is not that of the beats.
    """
    from matplotlib.figure import Figure

    for annotated in annotations:
        if windows.shape != (len(annotated), BEFORE + AFTER):
            raise DataError(
                f"{annotated.model}: expected windows of shape [{len(annotated)}, {BEFORE + AFTER}], one per beat, "
                f"got {list(windows.shape)}"
            )
    centred = windows - np.median(windows, axis=1, keepdims=True) if len(windows) else windows
    limits = _gallery_limits(centred)
    figure = Figure(figsize=(11.0, 1.15 + 2.35 * len(annotations)), facecolor="white", layout="constrained")
    figure.suptitle(title, fontsize=11, weight="bold", x=0.008, ha="left")
    grid = figure.subplots(len(annotations), len(CLASSES), sharex=True, sharey=True, squeeze=False)
    for row, annotated in zip(grid, annotations, strict=True):
        for axes, letter in zip(row, CLASSES, strict=True):
            _draw_class(axes, centred[annotated.classes == letter], letter, limits)
        row[0].set_ylabel(f"{_title(annotated)}\nmV from each beat's median", fontsize=8)
    for letter, axes in zip(CLASSES, grid[0], strict=True):
        axes.set_title(f"{letter}  {CLASS_NAMES[letter]}", fontsize=9, color=CLASS_COLOURS[letter], weight="bold")
    for axes in grid[-1]:
        axes.set_xlabel("s from the R peak", fontsize=8)
    return figure


def disagreement_figure(
    signal: NDArray[np.floating],
    fs: float,
    disagreements: Sequence[Disagreement],
    *,
    beats: int,
    most: int = MOST_SHOWN,
    context_s: float = 1.2,
) -> "Figure":
    """Draw the beats on which models disagree in their surroundings, in order of time.

    Parameters
    ----------
    signal : ndarray
        `[n_samples]`, mV.
    fs : float
        Sampling rate, Hz.
    disagreements : sequence of Disagreement
        All of them; where there are more than `most`, those are drawn of which the models are surest.
    beats : int
        Beats classified, for the title.
    """
    from matplotlib.figure import Figure

    shown = surest(disagreements, most)
    rows, columns = max(1, -(-len(shown) // 3)), 3
    figure = Figure(figsize=(11.0, 0.75 + 1.95 * rows), facecolor="white", layout="constrained")
    figure.suptitle(
        _disagreement_title(len(disagreements), len(shown), beats), fontsize=11, weight="bold", x=0.008, ha="left"
    )
    note = "grey: the window that a model sees; number: calibrated probability of its class"
    figure.text(0.995, 1 - 0.13 / figure.get_figheight(), note, fontsize=8, color=GREY, ha="right", va="center")
    if not shown:
        figure.text(0.5, 0.45, "The models give every beat the same class.", ha="center", fontsize=11, color=GREY)
        return figure
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, disagreement in zip(grid, shown, strict=False):
        _draw_disagreement(axes, signal, fs, disagreement, context_s)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    return figure


def most_varied_strip(
    signal: NDArray[np.floating], annotations: Sequence[BeatAnnotations], *, row_s: float = 10.0, rows: int = 2
) -> Strip:
    """Choose a strip to show: most classes, steady baseline, most beats that are not N; the earliest of the best.

    It starts on a full second. Only classes that all models give a beat count; a baseline is as steady as the signal
    stays within few whole millivolts.
    """
    first = annotations[0]
    length = row_s * rows
    times = first.samples / first.fs
    agreed = np.all([other.classes == first.classes for other in annotations], axis=0)

    def merit(start: int) -> tuple[int, int, int, int]:
        inside = (times >= start) & (times < start + length)
        letters = first.classes[inside & agreed]
        low, high = paper_range(signal[round(start * first.fs) : round((start + length) * first.fs)])
        return len(np.unique(letters)), -int(np.ceil(high - low)), int(np.count_nonzero(letters != "N")), -start

    last = max(0, int(first.duration_s - length))
    return Strip(float(max(range(last + 1), key=merit)), row_s, rows)


def _title(annotations: BeatAnnotations) -> str:
    return MODEL_TITLES.get(annotations.model, annotations.model)


def paper_range(part: NDArray[np.floating], *, most_mv: float = 6.0) -> tuple[float, float]:
    """Return the voltages to draw samples `[n]` between: whole large squares (0.5 mV), 2 mV to `most_mv` apart.

    Of a signal that reaches further the part around its median is shown. NaN is passed over.
    """
    part = part[np.isfinite(part)]
    if not len(part):
        return -1.0, 1.0
    low, high = float(np.floor(part.min() * 2 - 0.2) / 2), float(np.ceil(part.max() * 2 + 0.2) / 2)
    if high - low > most_mv:
        low = float(np.floor(np.median(part) * 2) / 2 - np.floor(0.84 * most_mv) / 2)  # more above than below
        high = low + most_mv
    return low, max(high, low + 2)


def _draw_paper(axes: "Axes", start_s: float, stop_s: float, low: float, high: float) -> None:
    axes.set_facecolor(PAPER)
    axes.set_xlim(start_s, stop_s)
    axes.set_ylim(low, high)
    for step_s, step_mv, colour, width in ((0.04, 0.1, FINE, 0.35), (0.2, 0.5, COARSE, 0.6)):
        axes.vlines(np.arange(round((stop_s - start_s) / step_s) + 1) * step_s + start_s, low, high, colour, lw=width)
        axes.hlines(np.arange(round((high - low) / step_mv) + 1) * step_mv + low, start_s, stop_s, colour, lw=width)
    axes.set_yticks(np.arange(np.ceil(low), high + 1e-9))
    axes.tick_params(labelsize=7, length=2, color=COARSE, labelcolor=GREY, pad=2)
    for spine in axes.spines.values():
        spine.set(color=COARSE, linewidth=0.6)


def _draw_trace(
    axes: "Axes", signal: NDArray[np.floating], fs: float, start_s: float, stop_s: float, *, first_sample: int = 0
) -> None:
    first = max(0, int(start_s * fs) - first_sample)
    last = max(first, min(len(signal), int(np.ceil(stop_s * fs)) + 1 - first_sample))
    times = (first_sample + np.arange(first, last)) / fs
    axes.plot(times, signal[first:last], color=TRACE, lw=0.9, solid_joinstyle="round", zorder=3)


def _shade(axes: "Axes", stretches: Iterable[Sequence[float]], *, alpha: float) -> None:
    """Shade stretches `(start, stop)` of seconds as far as they reach into the paper."""
    start_s, stop_s = axes.get_xlim()
    for first_s, last_s in stretches:
        if first_s < stop_s and last_s > start_s:
            axes.axvspan(max(first_s, start_s), min(last_s, stop_s), color="#7A7A7A", alpha=alpha, lw=0, zorder=2)


def _draw_letters(
    axes: "Axes", annotations: Sequence[BeatAnnotations], start_s: float, stop_s: float, *, line_height: float
) -> None:
    """Write a line of class letters per model above a strip, the first model on top; `line_height` in axes heights."""
    across = axes.get_xaxis_transform()
    first = annotations[0]
    times = first.samples / first.fs
    differs = np.any([other.classes != first.classes for other in annotations], axis=0)
    inside = np.flatnonzero((times >= start_s) & (times < stop_s))
    for line, annotated in enumerate(annotations):
        y = 1 + line_height * (len(annotations) - line - 0.5)
        axes.text(-0.008, y, _title(annotated), transform=axes.transAxes, fontsize=7, ha="right", va="center")
        for i in inside:
            letter = str(annotated.classes[i])
            axes.text(times[i], y, letter, transform=across, **_letter_style(letter, boxed=bool(differs[i])))
    for i in inside:
        colour = TRACE if differs[i] else CLASS_COLOURS[str(first.classes[i])]
        axes.axvline(times[i], color=colour, lw=0.6, ls=(0, (2, 3)), alpha=0.55, zorder=2)


def _letter_style(letter: str, *, boxed: bool) -> dict[str, Any]:
    style: dict[str, Any] = {"fontsize": 9, "weight": "bold", "ha": "center", "va": "center"}
    if boxed:  # a filled box, so that a disagreement does not rest on colour
        return style | {"color": "white", "bbox": {"boxstyle": "round,pad=0.18", "fc": CLASS_COLOURS[letter], "lw": 0}}
    return style | {"color": CLASS_COLOURS[letter]}


def _draw_legend(figure: "Figure", *, x: float, y: float) -> None:
    width_mm = figure.get_size_inches()[0] * MM_PER_INCH
    for letter in CLASSES:
        meaning = CLASS_NAMES[letter]
        figure.text(x, y, letter, color=CLASS_COLOURS[letter], fontsize=9, weight="bold", va="center")
        figure.text(x + 3.5 / width_mm, y, meaning, color=GREY, fontsize=8, va="center")
        x += (3.5 + 1.45 * len(meaning) + 7) / width_mm


def _gallery_limits(centred: NDArray[np.floating]) -> tuple[float, float]:
    if not len(centred):
        return -1.0, 1.0
    # A few beats in noise may leave the panel, so that the others are not drawn small.
    low, high = np.percentile(centred.min(axis=1), 4), np.percentile(centred.max(axis=1), 99)
    return float(np.floor(low * 4) / 4), float(np.ceil(high * 4) / 4)


def _draw_class(axes: "Axes", beats: NDArray[np.floating], letter: str, limits: tuple[float, float]) -> None:
    from matplotlib.collections import LineCollection

    time_s = (np.arange(BEFORE + AFTER) - BEFORE) / BEAT_FS
    colour = CLASS_COLOURS[letter]
    count = f"{len(beats)} beat" if len(beats) == 1 else f"{len(beats)} beats"
    axes.text(0.97, 0.95, count, transform=axes.transAxes, fontsize=8, color=GREY, ha="right", va="top", zorder=5)
    axes.set_xlim(time_s[0], time_s[-1])
    axes.set_ylim(*limits)
    axes.grid(color="#E8E8E8", lw=0.5)
    axes.tick_params(labelsize=7, length=2, color=GREY, labelcolor=GREY)
    for spine in axes.spines.values():
        spine.set(color="#C8C8C8", linewidth=0.6)
    if not len(beats):
        return
    lines = [np.column_stack([time_s, beat]) for beat in beats]
    opacity = float(np.clip(12 / len(beats), 0.05, 0.5))
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.5, alpha=opacity))
    axes.plot(time_s, beats.mean(axis=0), color=TRACE, lw=1.4)


def _disagreement_title(disagreements: int, shown: int, beats: int) -> str:
    title = f"The models disagree on {disagreements} of {beats} beats"
    return f"{title}; the {shown} they are surest of" if shown < disagreements else title


def _draw_disagreement(
    axes: "Axes", signal: NDArray[np.floating], fs: float, disagreement: Disagreement, context_s: float
) -> None:
    time_s = disagreement.sample / fs
    start_s, stop_s = time_s - context_s, time_s + context_s
    part = signal[max(0, int(start_s * fs)) : int(stop_s * fs) + 1]
    _draw_paper(axes, start_s, stop_s, *paper_range(part))
    axes.axvspan(time_s - BEFORE / BEAT_FS, time_s + AFTER / BEAT_FS, color="#7A7A7A", alpha=0.13, lw=0, zorder=2)
    _draw_trace(axes, signal, fs, start_s, stop_s)
    axes.set_xticks(np.arange(np.ceil(start_s), stop_s))
    axes.set_title(f"{time_s:.2f} s", fontsize=8, loc="left", color=GREY, pad=5)
    named = zip(disagreement.models, disagreement.classes, disagreement.confidences, strict=True)
    x = 1.0
    for model, letter, confidence in reversed(list(named)):
        text = f"{MODEL_TITLES.get(model, model)} {letter} {confidence:.2f}"
        axes.text(
            x,
            1.045,
            text,
            transform=axes.transAxes,
            fontsize=8,
            weight="bold",
            ha="right",
            va="bottom",
            color=CLASS_COLOURS[letter],
        )
        x -= 0.36
