"""Figures: each function takes data and returns a matplotlib `Figure`; nothing is shown, saved or kept globally.

Colours are those of Okabe & Ito (2008), told apart by colour-blind readers too; lines differ in dash as well, and class
letters stand beside every curve and bar. Text stays text in PDF.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beats import BEAT_FS, BEFORE
from ecgkan.evaluation.metrics import (
    Curve,
    Interval,
    Reliability,
    metrics_from_confusion,
    precision_recall_curve,
    roc_curve,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

CLASS_COLOURS: Final = {"N": "#0072B2", "S": "#E69F00", "V": "#D55E00", "F": "#CC79A7", "Q": "#009E73"}
MODEL_COLOURS: Final = {"cnn_mlp": "#0072B2", "cnn_kan": "#D55E00"}
OTHER_COLOURS: Final = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""For further checkpoints of a model that is already drawn."""

GREY: Final = "#767676"
LIGHT_GREY: Final = "#BBBBBB"

_DASHES: Final = {"N": "-", "S": (0, (6, 1.5)), "V": (0, (3, 1)), "F": (0, (1, 1)), "Q": (0, (6, 1, 1, 1))}
_STYLE: Final = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.3,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,
}

Parameters = ParamSpec("Parameters")


@dataclass(frozen=True, slots=True)
class Bars:
    """One model's figures in `comparison_figure`.

    Attributes
    ----------
    title : str
        For the legend.
    colour : str
        Of the bars.
    values : mapping
        Figure's name, as in `comparison_figure`'s panels → value.
    intervals : mapping
        Figure's name → 95 % interval, where known.
    published : bool
        Drawn hatched: figures taken from the literature.
    """

    title: str
    colour: str
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    published: bool = False


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One difference in `forest_figure`.

    Attributes
    ----------
    title : str
        What is compared with what.
    differences : sequence of float
        One per pair of runs.
    mean : float
        Their mean.
    interval, wide_interval : Interval
        Of the mean, drawn thick and thin.
    """

    title: str
    differences: Sequence[float]
    mean: float
    interval: Interval
    wide_interval: Interval


@dataclass(frozen=True, slots=True, eq=False)
class BeatPanel:
    """One beat in `wrong_beats_figure`.

    Attributes
    ----------
    window : ndarray
        `[256]`, z-scored, the R peak at sample 128.
    record : str
        Record name.
    sample : int
        R peak in the record, at 360 Hz.
    reference, predicted : str
        Class letters.
    probability : float
        Of the predicted class.
    typical : ndarray or None
        `[256]`, z-scored: median beat of the predicted class in the same record, None where it has too few.
    """

    window: NDArray[np.float32]
    record: str
    sample: int
    reference: str
    predicted: str
    probability: float
    typical: NDArray[np.float32] | None


def _style() -> AbstractContextManager[None]:
    import matplotlib

    return matplotlib.rc_context(_STYLE)  # type: ignore[arg-type]


def _in_style(draw: "Callable[Parameters, Figure]") -> "Callable[Parameters, Figure]":
    """Draw a figure with this module's text sizes and line widths, whatever the user's settings."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> "Figure":
        with _style():
            return draw(*args, **kwargs)

    return drawn


@_in_style
def confusion_figure(confusion: NDArray[np.integer], *, title: str, note: str = "") -> "Figure":
    """Draw a confusion matrix: counts and row percentages, shaded by the latter.

    Parameters
    ----------
    confusion : ndarray
        `[5, 5]` integer, rows reference, columns predicted.
    title : str
        Heading.
    note : str
        Line at the foot of the figure.
    """
    metrics = metrics_from_confusion(confusion)
    support = np.maximum(metrics.support, 1)[:, None]
    share = metrics.confusion / support
    figure, _, _ = _figure(4.6, 4.5, title, note)
    axes = figure.add_subplot()
    # The square root lets the few percent off the diagonal be seen.
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1.15, aspect="equal")
    for row, column in np.ndindex(*share.shape):
        count = metrics.confusion[row, column]
        colour = "white" if share[row, column] > 0.4 else "black" if count else LIGHT_GREY
        axes.text(column, row - 0.1, f"{count:,}", ha="center", va="center", color=colour, fontsize=9)
        if count:
            percent = f"{100 * share[row, column]:.{2 if share[row, column] < 0.001 else 1}f} %"
            axes.text(column, row + 0.2, percent, ha="center", va="center", color=colour, fontsize=6.5)
    axes.set_xticks(
        range(len(CLASSES)), [f"{c}\n+P {_percent(p)}" for c, p in zip(CLASSES, metrics.precision, strict=True)]
    )
    axes.set_yticks(
        range(len(CLASSES)),
        [f"{c}\nSe {_percent(r)}\nn = {n:,}" for c, r, n in zip(CLASSES, metrics.recall, metrics.support, strict=True)],
    )
    axes.set_xlabel("predicted class, precision (+P)")
    axes.set_ylabel("reference class, recall (Se), beats")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(CLASSES) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(CLASSES) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    return figure


@_in_style
def curves_figure(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], *, title: str, note: str = ""
) -> "Figure":
    """Draw ROC and precision-recall curves, each class against the rest.

    Parameters
    ----------
    labels : ndarray
        `[n]` integer, class indices.
    probabilities : ndarray
        `[n, 5]`.
    title, note : str
        Heading and foot.
    """
    figure, _, bottom = _figure(7.2, 3.4, title, note, strip_below=0.36)
    roc, corner, precision_recall = figure.subplots(1, 3)
    roc.plot([0, 1], [0, 1], color=LIGHT_GREY, linewidth=0.8, zorder=0)
    handles = []
    for index, letter in enumerate(CLASSES):
        by_rate = roc_curve(labels, probabilities, index)
        by_recall = precision_recall_curve(labels, probabilities, index)
        _draw_curve(roc, letter, by_rate)
        _draw_curve(corner, letter, by_rate)
        handles.append(_draw_curve(precision_recall, letter, by_recall, drawstyle="steps-pre"))
        handles[-1].set_label(f"{letter}  {_area(by_rate)}, {_area(by_recall)}")
    roc.set(title="ROC", xlim=(-0.01, 1.01), ylim=(0, 1.01))
    corner.set(title="ROC, upper left corner", xlim=(-0.001, 0.1), ylim=(0.8, 1.002), xticks=[0, 0.05, 0.1])
    precision_recall.set(title="precision-recall", xlim=(-0.01, 1.01), ylim=(0, 1.01))
    for axes in (roc, corner):
        axes.set(xlabel="false positive rate", ylabel="recall (Se)")
    precision_recall.set(xlabel="recall (Se)", ylabel="precision (+P)")
    for axes in (roc, corner, precision_recall):
        axes.grid(color="#EEEEEE", linewidth=0.6)
    figure.legend(
        handles=handles,
        title="class: area under the ROC curve, average precision",
        title_fontsize=7.5,
        loc="lower center",
        bbox_to_anchor=(0.5, bottom),
        ncols=len(CLASSES),
        handlelength=2.4,
        columnspacing=1.5,
    )
    return figure


@_in_style
def history_figure(
    history: Sequence[Mapping[str, float]], *, selected_epoch: int | None = None, title: str, note: str = ""
) -> "Figure":
    """Draw losses, validation macro F1 and learning rate over the epochs of a training.

    Parameters
    ----------
    history : sequence of mapping
        Per epoch: `epoch`, `train_loss`, `validation_loss`, `validation_macro_f1`, `learning_rate`.
    selected_epoch : int, optional
        The epoch whose weights were kept.
    title, note : str
        Heading and foot.
    """
    epochs = [entry["epoch"] for entry in history]
    figure, _, _ = _figure(7.2, 2.6, title, note)
    loss, macro_f1, rate = figure.subplots(1, 3)
    loss.plot(epochs, _column(history, "train_loss"), color=GREY, linestyle=(0, (4, 1)), label="training")
    loss.plot(epochs, _column(history, "validation_loss"), color="#0072B2", label="validation")
    loss.set(title="loss")
    _label_log_axis(loss)
    loss.legend()
    macro_f1.plot(epochs, _column(history, "validation_macro_f1"), color="#0072B2")
    macro_f1.set(title="validation macro F1")
    rate.plot(epochs, _column(history, "learning_rate"), color=GREY)
    rate.set(title="learning rate", ylim=(0, None))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes in (loss, macro_f1, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)
        if selected_epoch is not None:
            axes.axvline(selected_epoch, color="#D55E00", linewidth=0.8, linestyle=(0, (1, 1)))
    if selected_epoch in epochs:
        _mark_selected(macro_f1, history[epochs.index(selected_epoch)])
    return figure


@_in_style
def reliability_figure(
    calibrated: Reliability, *, uncalibrated: Reliability | None = None, title: str, note: str = ""
) -> "Figure":
    """Draw accuracy against confidence with 95 % Wilson intervals, and how many beats each bin holds.

    Parameters
    ----------
    calibrated : Reliability
        Of the probabilities as given out.
    uncalibrated : Reliability, optional
        At temperature 1, drawn hollow.
    title, note : str
        Heading and foot.
    """
    figure, _, _ = _figure(3.9, 4.9, title, note)
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    diagram.plot([0, 1], [0, 1], color=LIGHT_GREY, linewidth=0.8, label="perfectly calibrated")
    if uncalibrated is not None:
        error = f"temperature 1: error {uncalibrated.calibration_error:.4f}"
        diagram.plot(
            uncalibrated.confidence, uncalibrated.accuracy, "s", color=GREY, fillstyle="none", markersize=4, label=error
        )
    low, high = wilson_interval(calibrated.accuracy, calibrated.counts)
    spread = np.array([calibrated.accuracy - low, high - calibrated.accuracy]).clip(0)
    error = f"calibrated: error {calibrated.calibration_error:.4f}"
    diagram.errorbar(
        calibrated.confidence,
        calibrated.accuracy,
        yerr=spread,
        fmt="o",
        color="#0072B2",
        markersize=4,
        linewidth=1,
        label=error,
    )
    diagram.set(ylabel="accuracy", xlim=(1 / len(CLASSES), 1.01), ylim=(0, 1.02))
    diagram.legend(loc="lower right")
    widths = np.diff(calibrated.edges)
    bars = histogram.bar(calibrated.edges[:-1], calibrated.counts, widths, align="edge", color="#0072B2", alpha=0.8)
    histogram.bar_label(bars, [f"{n:,}" if n else "" for n in calibrated.counts], fontsize=5.5, padding=1)
    histogram.set(xlabel="confidence (probability of the predicted class)", ylabel="beats", yscale="log")
    histogram.set_ylim(0.7, max(calibrated.counts.max(), 1) * 8)
    return figure


@_in_style
def comparison_figure(models: Sequence[Bars], *, title: str, note: str = "") -> "Figure":
    """Draw models side by side: overall figures, and F1, recall and precision per class.

    Parameters
    ----------
    models : sequence of Bars
        `values` may hold `accuracy`, `macro F1`, `weighted F1`, `macro AUC`, and for each class letter
        `F1 N`, `Se N`, `+P N` ...; what a model lacks is left out.
    title, note : str
        Heading and foot.
    """
    figure, top, _ = _figure(7.2, 5.6, title, note, strip_above=0.22 * -(-len(models) // 4))
    panels = figure.subplots(2, 2).ravel()
    overall = ["accuracy", "macro F1", "weighted F1", "macro AUC"]
    _draw_bars(panels[0], models, overall, overall, "overall")
    for axes, figure_name, heading in zip(
        panels[1:],
        ("F1", "Se", "+P"),
        ("F1 per class", "recall (Se) per class", "precision (+P) per class"),
        strict=True,
    ):
        _draw_bars(axes, models, [f"{figure_name} {letter}" for letter in CLASSES], list(CLASSES), heading)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, top), ncols=min(len(models), 4))
    return figure


@_in_style
def wrong_beats_figure(beats: Sequence[BeatPanel], *, title: str, note: str = "") -> "Figure":
    """Draw beats a model gets wrong, each with the record's typical beat of the class it was taken for.

    Parameters
    ----------
    beats : sequence of BeatPanel
        At most some thirty remain readable.
    title, note : str
        Heading and foot.
    """
    columns = 6
    rows = max(1, -(-len(beats) // columns))
    figure, _, bottom = _figure(7.2, 0.95 + 1.12 * rows, title, note, strip_below=0.34)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    time_ms = (np.arange(len(beats[0].window)) - BEFORE) / BEAT_FS * 1000 if beats else np.zeros(0)
    for axes, beat in zip(grid.flat, beats, strict=False):
        _draw_beat(axes, time_ms, beat)
    for axes in grid.flat[len(beats) :]:
        axes.set_axis_off()
    for position, axes in enumerate(grid.flat[: len(beats)]):
        axes.tick_params(labelbottom=position + columns >= len(beats))
    explained = (
        "time from the R peak in ms, signal 0 as z-score; above: reference → predicted, its probability, record, time\n"
        "coloured: the beat, by reference class; grey: the record's median beat of the class it was taken for"
    )
    figure.text(0.5, bottom + 0.04 / figure.get_figheight(), explained, ha="center", va="bottom", fontsize=7)
    return figure


@_in_style
def forest_figure(rows: Sequence[ForestRow], *, xlabel: str, title: str, note: str = "") -> "Figure":
    """Draw differences between models as a forest plot: means, intervals, and single pairs as dots.

    Parameters
    ----------
    rows : sequence of ForestRow
        From top to bottom.
    xlabel, title, note : str
        Name of the difference, heading and foot.
    """
    figure, _, _ = _figure(7.2, 1.1 + 0.27 * max(len(rows), 1), title, note)
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=0.8)
    for height, row in enumerate(rows):
        beyond = row.interval.low > 0 or row.interval.high < 0
        colour = "#0072B2" if beyond else GREY
        axes.plot(list(row.wide_interval), [height] * 2, color=colour, linewidth=0.8)
        axes.plot(list(row.interval), [height] * 2, color=colour, linewidth=2.6, solid_capstyle="butt")
        axes.plot(row.mean, height, "o", color=colour, markersize=5)
        axes.plot(row.differences, [height + 0.28] * len(row.differences), ".", color=LIGHT_GREY, markersize=3.5)
    axes.set_yticks(range(len(rows)), [row.title for row in rows])
    axes.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="x", color="#EEEEEE", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


def wilson_interval(
    share: NDArray[np.float64], counts: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95 % interval of a share of `counts` trials (Wilson 1927); NaN where there were none."""
    z = 1.959964
    n = np.where(counts > 0, counts, 1)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.subtract(centre, half), np.add(centre, half)


def _figure(
    width: float, height: float, title: str, note: str, *, strip_above: float = 0.0, strip_below: float = 0.0
) -> "tuple[Figure, float, float]":
    """Make an empty figure with a heading, a note at its foot, and free strips next to them; sizes in inches.

    Returns
    -------
    Figure
        Axes made in it stay between the strips.
    float
        Top of the upper strip, as a fraction of the height.
    float
        Bottom of the lower strip.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    heading = _wrap(title, int(width * 13))
    foot = _wrap(note, int(width * 20))
    top = 1 - (0.17 * len(heading) + 0.08) / height
    bottom = (0.11 * len(foot) + 0.08) / height if foot else 0.0
    figure.text(0.5, 1 - 0.05 / height, "\n".join(heading), ha="center", va="top", fontsize=9.5, fontweight="bold")
    figure.text(0.5, 0.04 / height, "\n".join(foot), ha="center", va="bottom", fontsize=6, color="#444444")
    low, high = bottom + strip_below / height, top - strip_above / height
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, low, 1, high - low))
    return figure, top, bottom


def _wrap(text: str, width: int) -> list[str]:
    """Break a text into as few lines as fit `width` characters, of about equal length."""
    fewest = max(len(textwrap.wrap(text, width)), 1)
    even = next((w for w in range(max(len(text) // fewest, 1), width) if len(textwrap.wrap(text, w)) == fewest), width)
    return textwrap.wrap(text, even)


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f} %"


def _column(history: Sequence[Mapping[str, float]], name: str) -> list[float]:
    return [float(entry.get(name, np.nan)) for entry in history]


def _mark_selected(axes: "Axes", entry: Mapping[str, float]) -> None:
    epoch, value = entry["epoch"], entry.get("validation_macro_f1", np.nan)
    axes.plot([epoch], [value], "o", color="#D55E00", markersize=4)
    axes.annotate(
        f"selected: epoch {epoch:.0f}, {value:.4f}",
        (epoch, value),
        xytext=(0.5, 0.06),
        textcoords="axes fraction",
        ha="center",
        color="#D55E00",
        fontsize=7,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def _draw_curve(axes: "Axes", letter: str, curve: Curve | None, drawstyle: str = "default") -> "Line2D":
    x, y = ([], []) if curve is None else (curve.x.tolist(), curve.y.tolist())
    (line,) = axes.plot(x, y, color=CLASS_COLOURS[letter], linestyle=_DASHES[letter], drawstyle=drawstyle)
    return line


def _area(curve: Curve | None) -> str:
    return "–" if curve is None else f"{curve.area:.4f}"


def _label_log_axis(axes: "Axes") -> None:
    """Make y logarithmic with plain numbers at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_bars(axes: "Axes", models: Sequence[Bars], names: Sequence[str], ticks: Sequence[str], heading: str) -> None:
    width = 0.84 / len(models)
    for place, model in enumerate(models):
        known = [i for i, name in enumerate(names) if np.isfinite(model.values.get(name, np.nan))]
        values = np.array([model.values[names[i]] for i in known])
        positions = np.array(known) + (place - (len(models) - 1) / 2) * width
        axes.bar(
            positions,
            values,
            width * 0.92,
            color="white" if model.published else model.colour,
            edgecolor=model.colour,
            hatch="////" if model.published else None,
            linewidth=0.7,
            label=model.title,
        )
        tops = _draw_intervals(axes, model, [names[i] for i in known], positions, values)
        for position, value, top in zip(positions, values, tops, strict=True):
            axes.text(
                position, top + 0.015, f"{value:.3f}".lstrip("0"), rotation=90, ha="center", va="bottom", fontsize=5.5
            )
    axes.set(title=heading, ylim=(0, 1.17), yticks=np.linspace(0, 1, 6))
    axes.set_xticks(range(len(ticks)), ticks)
    axes.tick_params(axis="x", length=0)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)


def _draw_intervals(
    axes: "Axes", model: Bars, names: Sequence[str], positions: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw the intervals that are known; return how high each bar reaches with its interval."""
    bounds = [model.intervals.get(name, Interval(value, value)) for name, value in zip(names, values, strict=True)]
    low, high = np.array(bounds).reshape(-1, 2).T
    shown = high > low
    if shown.any():
        axes.errorbar(
            positions[shown],
            values[shown],
            yerr=np.array([values - low, high - values])[:, shown].clip(0),
            fmt="none",
            ecolor="black",
            elinewidth=0.8,
            capsize=1.5,
            capthick=0.8,
        )
    tops: NDArray[np.float64] = np.maximum(values, high)
    return tops


def _draw_beat(axes: "Axes", time_ms: NDArray[np.float64], beat: BeatPanel) -> None:
    if beat.typical is not None:
        axes.plot(time_ms, beat.typical, color=LIGHT_GREY, linewidth=2.2, solid_capstyle="round")
    axes.plot(time_ms, beat.window, color=CLASS_COLOURS[beat.reference], linewidth=0.9)
    axes.axvline(0, color=LIGHT_GREY, linewidth=0.4, zorder=0)
    minutes, seconds = divmod(beat.sample / BEAT_FS, 60)
    axes.set_title(
        f"{beat.reference} → {beat.predicted}  {beat.probability:.2f}\n{beat.record}  {minutes:.0f}:{seconds:04.1f}",
        fontsize=6.5,
        pad=2,
        color="black",
    )
    axes.tick_params(labelsize=5.5, length=2, pad=1.5)
    axes.set_xticks([-250, 0, 250])
