"""Figures of a KAN head's edges: learned functions as small multiples, and accuracy as edges are taken away.

Colours are those of Okabe & Ito (2008), and every panel and curve is named in letters as well.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ecgkan.aami import CLASSES
from ecgkan.evaluation.plots import CLASS_COLOURS
from ecgkan.inference.annotation import CLASS_NAMES
from ecgkan.inference.figures import GREY, TRACE
from ecgkan.studies.kan_edges.study import FIRST_SHOWN, SECOND_SHOWN, TOLERANCE, EdgeStudy, PruningPoint, StudiedEdge

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI: Final = 120

_DASHES: Final = {"N": "-", "S": (0, (6, 1.5)), "V": (0, (3, 1)), "F": (0, (1, 1)), "Q": (0, (6, 1, 1, 1))}
_OTHERS: Final = "#BBBBBB"


def edges_figure(study: EdgeStudy, *, title: str, note: str = "") -> "Figure":
    """Draw the strongest edges of each class, a row per class: the learned function, and below it where the beats lie.

    Parameters
    ----------
    study : EdgeStudy
        What to draw.
    title, note : str
        Heading and foot.
    """
    from matplotlib.figure import Figure

    columns = SECOND_SHOWN + FIRST_SHOWN
    figure = Figure(figsize=(11.6, 12.2), facecolor="white")
    height = figure.get_figheight()
    _heading(figure, title, "Number: what the edge is worth for the class, logits. Dashed: the best short formula.")
    _foot(figure, note)
    grid = figure.add_gridspec(
        len(CLASSES),
        columns,
        left=0.085,
        right=0.985,
        top=1 - 1.12 / height,
        bottom=0.85 / height,
        hspace=0.36,
        wspace=0.34,
    )
    for x, text in ((0.085, "hidden unit → logit of the class"), (0.7, "feature → hidden unit, for the class")):
        figure.text(x, 1 - 0.82 / height, text, fontsize=9, weight="bold", color=TRACE, va="center")
    for row, letter in enumerate(CLASSES):
        edges = [edge for edge in study.edges if edge.letter == letter]
        for column, edge in enumerate(edges):
            pair = grid[row, column].subgridspec(2, 1, height_ratios=(2.6, 1), hspace=0.06)
            function = figure.add_subplot(pair[0])
            density = figure.add_subplot(pair[1], sharex=function)
            _draw_function(function, edge)
            _draw_density(density, edge)
            if column == 0:
                function.set_ylabel("logits", fontsize=7.5)
                density.set_ylabel("density", fontsize=7.5)
                _row_label(function, letter)
            elif column == SECOND_SHOWN:
                function.set_ylabel("hidden unit", fontsize=7.5, labelpad=1)
            if row == len(CLASSES) - 1:
                density.set_xlabel("z, normalized input", fontsize=7.5, labelpad=1)
    figure.text(
        0.085,
        0.36 / height,
        "Below each function: density of its input over beats of the row's class (filled) and over all others (line).",
        fontsize=8,
        color=GREY,
        va="center",
    )
    return figure


def pruning_figure(study: EdgeStudy, *, title: str, note: str = "") -> "Figure":
    """Draw accuracy, macro F1 and F1 per class against the share of edges that is kept.

    Parameters
    ----------
    study : EdgeStudy
        What to draw; its point within `TOLERANCE` is marked.
    title, note : str
        Heading and foot.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 4.9), facecolor="white")
    height = figure.get_figheight()
    _heading(
        figure,
        title,
        "Edges worth least go first, or in random order; a pruned edge is exactly 0, and nothing is trained again.",
    )
    _foot(figure, note)
    grid = figure.add_gridspec(1, 2, left=0.07, right=0.97, top=1 - 1.2 / height, bottom=0.82 / height, wspace=0.17)
    overall, classes = (figure.add_subplot(grid[0, column]) for column in range(2))
    _draw_overall(overall, study.pruning, study.kept)
    for letter in CLASSES:
        f1 = [point.f1[CLASSES.index(letter)] for point in study.pruning]
        _draw_line(classes, study.pruning, f1, f"F1 {letter}", color=CLASS_COLOURS[letter], linestyle=_DASHES[letter])
    classes.axvline(100 * study.kept.share, color=GREY, lw=0.8, ls=":")
    classes.set_title("F1 per class", fontsize=8.5, loc="left", color=TRACE)
    for axes in (overall, classes):
        axes.legend(fontsize=7.5, loc="lower left", framealpha=1.0, edgecolor="white")
        _share_axis(axes, study.pruning)
    return figure


def _heading(figure: "Figure", title: str, subtitle: str) -> None:
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.26 / height, title, fontsize=11.5, weight="bold", va="center")
    figure.text(0.012, 1 - 0.52 / height, subtitle, fontsize=8.5, color=GREY, va="center")


def _foot(figure: "Figure", note: str) -> None:
    figure.text(0.012, 0.14 / figure.get_figheight(), note, fontsize=6.5, color=GREY, va="center")


def _row_label(axes: "Axes", letter: str) -> None:
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center", "rotation": 90}
    axes.text(-0.55, 0.36, f"{letter}  {CLASS_NAMES[letter]}", fontsize=9.5, weight="bold", color=TRACE, **place)


def _draw_function(axes: "Axes", edge: StudiedEdge) -> None:
    import torch

    axes.axhline(0, color="#DDDDDD", lw=0.6, zorder=0)
    axes.plot(edge.curve_z, edge.curve_value, color=CLASS_COLOURS[edge.letter], lw=2.0)
    axes.plot(edge.curve_z, edge.fit(torch.from_numpy(edge.curve_z)).numpy(), color=TRACE, lw=0.9, ls=(0, (3, 2)))
    output = edge.output_name.removeprefix("hidden ")
    axes.set_title(f"{edge.input_name} → {output}", fontsize=8, loc="left", color=TRACE, pad=3)
    axes.set_title(f"{edge.worth:.2f}", fontsize=8, loc="right", color=TRACE, weight="bold", pad=3)
    axes.margins(x=0, y=0.08)
    axes.tick_params(labelbottom=False)
    _plain(axes)


def _draw_density(axes: "Axes", edge: StudiedEdge) -> None:
    axes.stairs(edge.density_class, edge.bin_edges, fill=True, color=CLASS_COLOURS[edge.letter], alpha=0.55)
    axes.stairs(edge.density_others, edge.bin_edges, color="#666666", lw=0.9)
    axes.set_ylim(0, 1.08 * max(edge.density_class.max(), edge.density_others.max()))
    axes.set_yticks([])
    _plain(axes)


def _draw_overall(axes: "Axes", points: Sequence[PruningPoint], kept: PruningPoint) -> None:
    curves = {"accuracy": ("#0072B2", "-", "o"), "macro F1": ("#D55E00", "-", "s")}
    for name, (colour, dash, marker) in curves.items():
        field = name.replace(" ", "_").lower()
        values = [getattr(point, field) for point in points]
        at_random = [getattr(point, f"random_{field}") for point in points]
        _draw_line(axes, points, values, name, color=colour, linestyle=dash, marker=marker, markersize=3)
        style: dict[str, Any] = {"color": colour, "linestyle": (0, (1, 1.5)), "lw": 1.0}
        _draw_line(axes, points, at_random, f"{name}, random order", **style)
    axes.axvline(100 * kept.share, color=GREY, lw=0.8, ls=":")
    axes.set_title(
        f"{100 * kept.share:g} % of the edges: accuracy {kept.accuracy:.4f}, macro F1 {kept.macro_f1:.4f},\n"
        f"within {TOLERANCE:g} of all edges (dotted line)",
        fontsize=8.5,
        loc="left",
        color=TRACE,
    )


def _draw_line(axes: "Axes", points: Sequence[PruningPoint], values: Sequence[float], name: str, **style: Any) -> None:  # noqa: ANN401
    axes.plot([100 * point.share for point in points], values, label=name, **({"lw": 1.6} | style))


def _share_axis(axes: "Axes", points: Sequence[PruningPoint]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    axes.set_xlim(110, 90 * points[-1].share)
    axes.set_ylim(0, 1.03)
    ticks = [tick for tick in (100, 50, 20, 10, 5, 2, 1) if tick >= 99 * points[-1].share]
    axes.set_xticks(ticks, [f"{tick} %" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("edges kept, both layers together", fontsize=8.5)
    axes.grid(axis="y", color="#E5E5E5", lw=0.6)
    axes.set_axisbelow(True)
    _plain(axes)
    axes.tick_params(labelsize=8)


def _plain(axes: "Axes") -> None:
    axes.tick_params(labelsize=7, length=2, color=GREY, labelcolor=GREY, pad=1.5)
    for name, spine in axes.spines.items():
        spine.set(color="#C8C8C8", linewidth=0.7, visible=name in ("left", "bottom"))
