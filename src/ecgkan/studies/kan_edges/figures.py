"""Figures of a KAN head's edges: learned functions as small multiples, and accuracy as edges are taken away.

Colours are those of Okabe & Ito (2008), and every panel and curve is named in letters as well.
"""

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from ecgkan.aami import CLASSES
from ecgkan.evaluation.plots import CLASS_COLOURS
from ecgkan.inference.annotation import CLASS_NAMES
from ecgkan.inference.figures import GREY, TRACE
from ecgkan.studies.kan_edges.inputs import INPUTS_SHOWN, InputResponse, InputStudy
from ecgkan.studies.kan_edges.study import TOLERANCE, EdgeStudy, PruningPoint, StudiedEdge

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

    second, columns = _columns(study)
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
    first = (
        "feature → hidden unit, for the class" if study.inputs is None else "named input → hidden unit, for the class"
    )
    for column, text in ((0, "hidden unit → logit of the class"), (second, first)):
        x = grid[0, column].get_position(figure).x0
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
            elif column == second:
                function.set_ylabel("hidden unit", fontsize=7.5, labelpad=1)
            if row == len(CLASSES) - 1:
                label = "z, normalized input" if edge.variable == "z" else "x, the input in its units"
                density.set_xlabel(label, fontsize=7.5, labelpad=1)
    figure.text(
        0.085,
        0.36 / height,
        "Below each function: density of its input over beats of the row's class (filled) and over all others (line).",
        fontsize=8,
        color=GREY,
        va="center",
    )
    return figure


def _columns(study: EdgeStudy) -> tuple[int, int]:
    """Return how many edges a class has of the second layer, and of both."""
    of_class = [edge for edge in study.edges if edge.letter == CLASSES[0]]
    return sum(edge.layer == "kan2" for edge in of_class), len(of_class)


def inputs_figure(inputs: InputStudy, *, title: str, note: str = "") -> "Figure":
    """Draw how each class answers when one of its strongest inputs is moved, a row per class.

    Parameters
    ----------
    inputs : InputStudy
        What to draw.
    title, note : str
        Heading and foot.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.6, 10.2), facecolor="white")
    height = figure.get_figheight()
    _heading(
        figure,
        title,
        "Change of the class's log odds when this input alone is moved: mean and middle half over beats of all "
        "classes. Number: worth, logits.",
    )
    _foot(figure, note)
    area = {"left": 0.085, "right": 0.985, "top": 1 - 0.92 / height, "bottom": 0.72 / height}
    grid = figure.add_gridspec(len(CLASSES), INPUTS_SHOWN, hspace=0.42, wspace=0.3, **area)
    for row, letter in enumerate(CLASSES):
        responses = [response for response in inputs.responses if response.letter == letter]
        shared: Axes | None = None
        for column, response in enumerate(responses):
            axes = figure.add_subplot(grid[row, column], sharey=shared)
            shared = shared or axes
            _draw_response(axes, response)
            if column == 0:
                axes.set_ylabel("log odds", fontsize=7.5)
                _row_label(axes, letter, y=0.5)
            if row == len(CLASSES) - 1:
                axes.set_xlabel("the input in its units", fontsize=7.5, labelpad=1)
    return figure


def _draw_response(axes: "Axes", response: InputResponse) -> None:
    colour = CLASS_COLOURS[response.letter]
    axes.axhline(0, color="#DDDDDD", lw=0.6, zorder=0)
    axes.fill_between(response.x, response.low, response.high, color=colour, alpha=0.22, lw=0)
    axes.plot(response.x, response.mean, color=colour, lw=2.0)
    _edge_title(axes, response.name, response.worth)
    axes.margins(x=0, y=0.08)
    _plain(axes)


def _edge_title(axes: "Axes", name: str, worth: float) -> None:
    """Write a name and a worth above a panel; a long name gets smaller letters, so that the two stay apart."""
    size = 8 if len(name) <= 15 else 8 * 15 / len(name)
    axes.set_title(name, fontsize=max(size, 5.6), loc="left", color=TRACE, pad=3)
    axes.set_title(f"{worth:.2f}", fontsize=8, loc="right", color=TRACE, weight="bold", pad=3)


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


def _row_label(axes: "Axes", letter: str, *, y: float = 0.36) -> None:
    place: dict[str, Any] = {
        "transform": axes.transAxes,
        "ha": "center",
        "va": "center",
        "rotation": 90,
        "multialignment": "center",
    }
    # Where there is no density below the panel, a long name takes two lines.
    name = CLASS_NAMES[letter] if y < 0.5 else fill(CLASS_NAMES[letter], 17)
    axes.text(-0.55, y, f"{letter}  {name}", fontsize=9.5, weight="bold", color=TRACE, **place)


def _draw_function(axes: "Axes", edge: StudiedEdge) -> None:
    import torch

    axes.axhline(0, color="#DDDDDD", lw=0.6, zorder=0)
    axes.plot(edge.curve_x, edge.curve_value, color=CLASS_COLOURS[edge.letter], lw=2.0)
    axes.plot(edge.curve_x, edge.fit(torch.from_numpy(edge.curve_x)).numpy(), color=TRACE, lw=0.9, ls=(0, (3, 2)))
    output = edge.output_name.removeprefix("hidden ")
    _edge_title(axes, f"{edge.input_name} → {output}", edge.worth)
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
    figures = f"accuracy {kept.accuracy:.4f}, macro F1 {kept.macro_f1:.4f}"
    axes.set_title(
        f"{100 * kept.share:g} % of the edges: {figures},\nwithin {TOLERANCE:g} of all edges (dotted line)"
        if kept is not points[0]
        else f"All edges: {figures};\nwith {100 * points[1].share:g} % one of them falls by more than {TOLERANCE:g}",
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
