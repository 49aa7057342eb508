"""The study of a KAN head's edges as a Markdown page, as CSV, and as lines on a terminal."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgkan.aami import CLASSES
from ecgkan.evaluation.tables import markdown_table
from ecgkan.models.kan_symbolic import LIBRARY, PENALTY
from ecgkan.studies.kan_edges.study import GOOD_FIT, TOLERANCE, EdgeStudy, PruningPoint, StudiedEdge

if TYPE_CHECKING:
    from rich.console import Console

_TABLE_SHARES = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)


@dataclass(frozen=True, slots=True)
class StudiedModel:
    """Which model was studied, by which command, on which beats."""

    title: str
    weights_sha256: str
    protocol: str
    note: str
    command: str


def page_text(study: EdgeStudy, model: StudiedModel, *, edges_image: str, pruning_image: str) -> str:
    """Return the page; the images are paths as seen from it."""
    sections = [
        f"# The KAN head of {model.title}, edge by edge",
        f"This page, its tables and its figures are written by `{model.command}`. Weights {model.weights_sha256[:16]}; "
        f"{study.beats:,} validation beats of protocol `{model.protocol}`, because edges are chosen here and test "
        "beats choose nothing.",
        *([f"**{model.note}**"] if model.note else []),
        _edges_section(edges_image),
        _pruning_section(study, pruning_image),
        _formulas_section(study),
        _grid_section(study),
        _trust_section(),
    ]
    return "\n\n".join(sections) + "\n"


def _edges_section(image: str) -> str:
    return _section(
        "The strongest edges for each class",
        f"![The strongest learned functions for each class]({image})",
        "An edge of a KAN layer is a function of one normalized input, base_weight · SiLU(z) + spline(z), added to one "
        "output. What an edge of the second layer is *worth* for its class is how much its contribution to that "
        "class's logit varies: the standard deviation over the beats. A hidden unit passes its worth on to its own "
        "edges, each in the ratio of the edge's standard deviation to the unit's (the edge scores of KAN 2.0, "
        "arXiv:2408.10205). Every class counts as much as any other in these standard deviations, however many beats "
        "it has: counted by beats, the most frequent class would decide almost alone.",
        "Where the two densities below a function lie apart, the input tells the class from the others, and the "
        "function says what the class gains or loses by it. The functions are drawn where 99.8 % of the beats lie. One "
        "beat's own place on them: `ecgkan explain RECORD --beat TIME_S` (docs/evidence.md).",
    )


def _pruning_section(study: EdgeStudy, image: str) -> str:
    kept, full = study.kept, study.pruning[0]
    points = [point for point in study.pruning if point.share in _TABLE_SHARES or point is kept]
    classes = (f"F1 {letter}" for letter in CLASSES)
    header = ["edges kept", "", "accuracy", "macro F1", *classes, "at random: accuracy", "macro F1"]
    return _section(
        "How many edges are needed",
        f"![Accuracy and macro F1 against the share of edges kept]({image})",
        markdown_table(header, (_pruning_row(point) for point in points)),
        "Edges of both layers stand in one order, by their worth summed over the classes, and those at its end become "
        f"exactly 0; nothing is trained again. With {100 * kept.share:g} % of them ({kept.edges:,} of {full.edges:,}) "
        f"accuracy and macro F1 stay within {TOLERANCE:g} of those of all edges. The right columns take as many edges "
        f"away at random (one draw). `--prune {kept.share:g}` saves the pruned model. Order, point and figures rest on "
        "the same beats, so on others the pruned model may do slightly worse.",
    )


def _pruning_row(point: PruningPoint) -> list[str]:
    figures = (point.accuracy, point.macro_f1, *point.f1, point.random_accuracy, point.random_macro_f1)
    return [f"{100 * point.share:g} %", f"{point.edges:,}", *(f"{figure:.4f}" for figure in figures)]


def _formulas_section(study: EdgeStudy) -> str:
    fitting = sum(edge.fit.r2 >= GOOD_FIT for edge in study.edges)
    full, formulas = study.pruning[0], study.substitution
    header = ["class", "edge", "worth", "formula", "R²", "second best", "R²"]
    return _section(
        "Formulas for the edges that matter",
        markdown_table(header, (_formula_row(edge) for edge in study.edges)),
        "A formula is c · f(a·z + b) + d. R² is the share of the function's variance over the beats that it explains, "
        f"so it counts where the beats lie. Chosen is the highest R² less {PENALTY:g} for each level of complexity of "
        f"f ({_complexities()}; a sigmoid is a tanh with other constants). A formula is said to fit from R² "
        f"{GOOD_FIT:g} on, as {fitting} of {len(study.edges)} here do; the others are shown all the same.",
        f"All {formulas.edges} second-layer edges of the table replaced by their formulas at once: accuracy "
        f"{formulas.accuracy:.4f} instead of {full.accuracy:.4f}, macro F1 {formulas.macro_f1:.4f} instead of "
        f"{full.macro_f1:.4f}, another class for {formulas.changed_beats:,} of {study.beats:,} beats.",
        "A formula that fits is a short description, not a law: over the range that beats cover, several shapes "
        "describe the same smooth curve about as well, as the second best shows.",
    )


def _complexities() -> str:
    levels = sorted({shape.complexity for shape in LIBRARY})
    return "; ".join(
        f"{level}: {', '.join(shape.name for shape in LIBRARY if shape.complexity == level)}" for level in levels
    )


def _formula_row(edge: StudiedEdge) -> list[str]:
    return [
        edge.letter,
        f"{edge.input_name} → {edge.output_name}",
        f"{edge.worth:.2f}",
        str(edge.fit).replace("|", r"\|"),
        f"{edge.fit.r2:.4f}",
        edge.runner_up.shape,
        f"{edge.runner_up.r2:.4f}",
    ]


def _grid_section(study: EdgeStudy) -> str:
    grid = study.refinement
    change = f"{grid.changed_beats:,} beats get" if grid.changed_beats else "no beat gets"
    return _section(
        "A finer grid",
        f"The splines of both layers refitted with knots every {grid.new_step:.2g} instead of {grid.old_step:.2g}, by "
        f"least squares: {grid.new_splines} splines per edge instead of {grid.old_splines}, {grid.new_parameters:,} "
        f"parameters of the head instead of {grid.old_parameters:,}. The largest difference between an edge function "
        f"before and after is {grid.spline_difference:.1e}, between logits of validation beats "
        f"{grid.logit_difference:.1e}, and {change} another class. Where the new knots hold all old ones (a whole "
        "multiple of the intervals) the model is the same up to rounding, also outside of the grid's range, because "
        "the new knots go on as far as the old splines reach.",
        "`--refine N` saves the model with N intervals over the old range. By itself a finer grid makes nothing "
        "better: it gives further training finer functions to learn.",
    )


def _trust_section() -> str:
    return _section(
        "How far to trust it",
        "- It is about this model's arithmetic, not about the heart: what hidden units stand for is not known.\n"
        "- LayerNorm couples the inputs of a layer: what one edge of the first layer adds shifts the z of all hidden "
        "units a little. The worth of first-layer edges does not count that; the pruned head computes it.\n"
        "- Another seed of the same recipe has other hidden units, and other edges.",
    )


def _section(title: str, *paragraphs: str) -> str:
    return "\n\n".join([f"## {title}", *paragraphs])


def pruning_csv(study: EdgeStudy) -> str:
    """Return every point of the pruning curve."""
    header = ["share_kept", "edges_kept", "accuracy", "macro_f1", *(f"f1_{letter}" for letter in CLASSES)]
    rows = (
        [
            point.share,
            point.edges,
            point.accuracy,
            point.macro_f1,
            *point.f1,
            point.random_accuracy,
            point.random_macro_f1,
        ]
        for point in study.pruning
    )
    return _csv([*header, "random_accuracy", "random_macro_f1"], rows)


def symbolic_csv(study: EdgeStudy) -> str:
    """Return the formulas of the edges with all digits: `c * f(a * z + b) + d`."""
    header = ["class", "layer", "input", "output", "worth_logits", "shape", "a", "b", "c", "d", "r2", "formula"]
    rows = ([*_edge_cells(edge), edge.runner_up.shape, edge.runner_up.r2] for edge in study.edges)
    return _csv([*header, "second_shape", "second_r2"], rows)


def _edge_cells(edge: StudiedEdge) -> list[Any]:
    fit = edge.fit
    constants = (fit.shape, fit.a, fit.b, fit.c, fit.d, fit.r2, fit)
    return [edge.letter, edge.layer, edge.input_name, edge.output_name, edge.worth, *constants]


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{value:.6g}" if isinstance(value, float) else str(value) for value in row] for row in rows)
    return stream.getvalue()


def print_study(console: "Console", study: EdgeStudy, model: StudiedModel, files: Sequence[Path]) -> None:
    """Print what was found and which files hold it."""
    kept, full, grid, formulas = study.kept, study.pruning[0], study.refinement, study.substitution
    console.print(f"{model.title}: {full.edges:,} edges, {study.beats:,} validation beats", style="bold")
    for letter in CLASSES:
        strongest = [edge for edge in study.edges if edge.letter == letter and edge.layer == "kan2"][:2]
        shown = "; ".join(f"{edge.input_name} {edge.fit} (R² {edge.fit.r2:.3f})" for edge in strongest)
        console.print(f"  {letter}  {shown}", soft_wrap=True)
    console.print(f"All edges: accuracy {full.accuracy:.4f}, macro F1 {full.macro_f1:.4f}")
    console.print(f"{100 * kept.share:g} % of the edges: accuracy {kept.accuracy:.4f}, macro F1 {kept.macro_f1:.4f}")
    console.print(
        f"{formulas.edges} edges as formulas: accuracy {formulas.accuracy:.4f}, macro F1 {formulas.macro_f1:.4f}"
    )
    console.print(
        f"Knots every {grid.new_step:.2g} instead of {grid.old_step:.2g}: logits change by at most "
        f"{grid.logit_difference:.1e}"
    )
    if model.note:
        console.print(model.note, soft_wrap=True)
    for file in files:
        console.print(f"Wrote {file}", soft_wrap=True)
