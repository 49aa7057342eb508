"""The study of a KAN head's edges as a Markdown page, as CSV, and as lines on a terminal."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ecgkan.aami import CLASSES
from ecgkan.evaluation.tables import markdown_table
from ecgkan.models.kan_symbolic import LIBRARY, PENALTY
from ecgkan.studies.kan_edges.inputs import InputStudy
from ecgkan.studies.kan_edges.study import GOOD_FIT, RARE_BEATS, TOLERANCE, EdgeStudy, PruningPoint, StudiedEdge

if TYPE_CHECKING:
    from rich.console import Console

_TABLE_SHARES = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)


@dataclass(frozen=True, slots=True)
class StudiedModel:
    """Which model was studied, by which command, on which beats."""

    title: str
    weights_sha256: str
    protocol: str
    subset: str
    beats: str
    notes: tuple[str, ...]
    normalization: str
    command: str


class Images(NamedTuple):
    """Where the figures are, as seen from the page."""

    edges: str
    pruning: str
    inputs: str = ""


def page_text(study: EdgeStudy, model: StudiedModel, images: Images) -> str:
    """Return the page."""
    sections = [
        f"# The KAN head of {model.title}, edge by edge",
        f"This page, its tables and its figures are written by `{model.command}`. Weights {model.weights_sha256[:16]}; "
        f"{model.beats} of protocol `{model.protocol}`, because edges are chosen here and test beats choose nothing"
        f"{_counts_text(study)}.",
        *(f"**{note}**" for note in model.notes),
        *([] if study.inputs is None else [_inputs_section(study.inputs, images.inputs)]),
        _edges_section(study, images.edges),
        _pruning_section(study, images.pruning),
        _formulas_section(study),
        _grid_section(study),
        _trust_section(study, model),
    ]
    return "\n\n".join(sections) + "\n"


def _counts_text(study: EdgeStudy) -> str:
    """Say how many beats each class has, where one of them has few."""
    if min(study.counts) >= RARE_BEATS:
        return ""
    return ": " + ", ".join(f"{count:,} {letter}" for letter, count in zip(CLASSES, study.counts, strict=True))


def _inputs_section(inputs: InputStudy, image: str) -> str:
    kinds = {share.kind: share.inputs for share in inputs.kinds}
    shares = {(share.letter, share.kind): share.share for share in inputs.kinds}
    rows = (
        [
            letter,
            *(f"{100 * shares[letter, kind]:.0f} %" for kind in kinds),
            ", ".join(f"{each.name} {each.worth:.2f}" for each in inputs.responses if each.letter == letter),
        ]
        for letter in CLASSES
    )
    header = ["class", *(f"{kind} ({number})" for kind, number in kinds.items()), "named inputs worth most"]
    return _section(
        "What the inputs are worth",
        f"![How each class answers when one input moves]({image})",
        markdown_table(header, rows),
        "The head weighs inputs that have names (docs/context.md) beside shapes that the encoder learned to see, which "
        "have none. An input's *worth* for a class, logits, is that of its edges, as defined below, summed over the "
        "hidden units; the percentages are shares of the sum over all inputs. The many learned shapes weigh "
        "little each. A large worth says that the input moves the class, not which way.",
        "Which way, the figure says: one input alone is moved over the range of 99 % of the beats, all others stay as "
        "they are, and the whole head answers. Drawn is the change of the class's log odds, uncalibrated, from those "
        "with the input as it is: mean and middle half of up to 100 beats of each class. Ratios (a slash in the name), "
        "strengths, sizes and relative widths are natural logarithms, so −0.22 in rr/… is a beat early by a fifth; "
        "likenesses are correlations; irregularities are logarithms with an offset. Inputs that belong together, such "
        "as the same interval beside several means, never move alone in a recording: a curve says what the head "
        "computes there, not what a patient does.",
    )


def _edges_section(study: EdgeStudy, image: str) -> str:
    rare = [letter for letter, count in zip(CLASSES, study.counts, strict=True) if count < RARE_BEATS]
    few = (
        f"; {' and '.join(rare)}, of fewer than {RARE_BEATS} beats, counts less, lest a handful decide as much as "
        "thousands do"
    )
    own_units = (
        "Edges into hidden units are those of inputs with names, in the input's own units x: each input is normalized "
        "by itself, z = (x − m)/s, so the function is one of x as well."
    )
    return _section(
        "The strongest edges for each class",
        f"![The strongest learned functions for each class]({image})",
        "An edge of a KAN layer is a function of one normalized input, base_weight · SiLU(z) + spline(z), added to one "
        "output. What an edge of the second layer is *worth* for its class is how much its contribution to that "
        "class's logit varies: the standard deviation over the beats. A hidden unit passes its worth on to its own "
        "edges, each in the ratio of the edge's standard deviation to the unit's (the edge scores of KAN 2.0, "
        "arXiv:2408.10205). Every class counts as much as any other in these standard deviations, however many beats "
        "it has: counted by beats, the most frequent class would decide almost alone" + (few if rare else "") + ".",
        *([own_units] if any(edge.variable == "x" for edge in study.edges) else []),
        "Where the two densities below a function lie apart, the input tells the class from the others, and the "
        "function says what the class gains or loses by it. The functions are drawn where 99.8 % of the beats lie. One "
        "beat's own place on them: `ecgkan explain RECORD --beat TIME_S` (docs/evidence.md).",
    )


def _pruning_section(study: EdgeStudy, image: str) -> str:
    kept = study.kept
    points = [point for point in study.pruning if point.share in _TABLE_SHARES or point is kept]
    classes = (f"F1 {letter}" for letter in CLASSES)
    header = ["edges kept", "", "accuracy", "macro F1", *classes, "at random: accuracy", "macro F1"]
    return _section(
        "How many edges are needed",
        f"![Accuracy and macro F1 against the share of edges kept]({image})",
        markdown_table(header, (_pruning_row(point) for point in points)),
        "Edges of both layers stand in one order, by their worth summed over the classes, and those at its end become "
        f"exactly 0; nothing is trained again. {_needed_text(study)} The right columns take as many edges away at "
        f"random (one draw). {_saving_text(study)} Order, point and figures rest on "
        "the same beats, so on others the pruned model may do slightly worse.",
    )


def _needed_text(study: EdgeStudy) -> str:
    kept, full = study.kept, study.pruning[0]
    if kept is full:
        next_share = study.pruning[1].share
        return (
            f"It needs nearly all of them: with {100 * next_share:g} % accuracy or macro F1 is more than {TOLERANCE:g} "
            "below that of all edges."
        )
    return (
        f"With {100 * kept.share:g} % of them ({kept.edges:,} of {full.edges:,}) accuracy and macro F1 stay within "
        f"{TOLERANCE:g} of those of all edges."
    )


def _saving_text(study: EdgeStudy) -> str:
    share = "SHARE" if study.kept is study.pruning[0] else f"{study.kept.share:g}"
    return f"`--prune {share}` saves the pruned model."


def _pruning_row(point: PruningPoint) -> list[str]:
    figures = (point.accuracy, point.macro_f1, *point.f1, point.random_accuracy, point.random_macro_f1)
    return [f"{100 * point.share:g} %", f"{point.edges:,}", *(f"{figure:.4f}" for figure in figures)]


def _formulas_section(study: EdgeStudy) -> str:
    fitting = sum(edge.fit.r2 >= GOOD_FIT for edge in study.edges)
    full, formulas = study.pruning[0], study.substitution
    of_inputs = ", of x in an input's own units" if any(edge.variable == "x" for edge in study.edges) else ""
    header = ["class", "edge", "worth", "formula", "R²", "second best", "R²"]
    return _section(
        "Formulas for the edges that matter",
        markdown_table(header, (_formula_row(edge) for edge in study.edges)),
        f"A formula is c · f(a·z + b) + d{of_inputs}. R² is the share of the function's variance over the beats that "
        "it explains, so it counts where the beats lie. Chosen is the highest R² less "
        f"{PENALTY:g} for each level of complexity of f ({_complexities()}; a sigmoid is a tanh with other constants). "
        f"A formula is said to fit from R² {GOOD_FIT:g} on, as {fitting} of {len(study.edges)} here do; the others are "
        "shown all the same.",
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
        edge.fit.text(edge.variable).replace("|", r"\|"),
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
        f"before and after is {grid.spline_difference:.1e}, between logits of these beats "
        f"{grid.logit_difference:.1e}, and {change} another class. Where the new knots hold all old ones (a whole "
        "multiple of the intervals) the model is the same up to rounding, also outside of the grid's range, because "
        "the new knots go on as far as the old splines reach.",
        "`--refine N` saves the model with N intervals over the old range. By itself a finer grid makes nothing "
        "better: it gives further training finer functions to learn.",
    )


def _trust_section(study: EdgeStudy, model: StudiedModel) -> str:
    coupled = (
        "- LayerNorm couples the inputs of a layer: what one edge of the first layer adds shifts the z of all hidden "
        "units a little. The worth of first-layer edges does not count that; the pruned head computes it."
    )
    rare = [letter for letter, count in zip(CLASSES, study.counts, strict=True) if count < RARE_BEATS]
    lines = [
        "- It is about this model's arithmetic, not about the heart: what hidden units stand for is not known.",
        *([coupled] if model.normalization == "layer" else []),
        *(
            f"- What is said of class {letter} rests on {study.counts[CLASSES.index(letter)]} beats, and means little."
            for letter in rare
        ),
        "- Another seed of the same recipe has other hidden units, and other edges.",
    ]
    return _section("How far to trust it", "\n".join(lines))


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
    """Return the formulas of the edges with all digits: `c * f(a * z + b) + d`, of z or of x in the input's units."""
    header = ["class", "layer", "input", "output", "worth_logits"]
    header += ["variable", "shape", "a", "b", "c", "d", "r2", "formula"]
    rows = ([*_edge_cells(edge), edge.runner_up.shape, edge.runner_up.r2] for edge in study.edges)
    return _csv([*header, "second_shape", "second_r2"], rows)


def _edge_cells(edge: StudiedEdge) -> list[Any]:
    fit = edge.fit
    constants = (edge.variable, fit.shape, fit.a, fit.b, fit.c, fit.d, fit.r2, fit.text(edge.variable))
    return [edge.letter, edge.layer, edge.input_name, edge.output_name, edge.worth, *constants]


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{value:.6g}" if isinstance(value, float) else str(value) for value in row] for row in rows)
    return stream.getvalue()


def _strongest_text(study: EdgeStudy, letter: str) -> str:
    """Name what is worth most for a class: inputs that have names, else formulas of hidden units."""
    if study.inputs is not None:
        named = [each for each in study.inputs.responses if each.letter == letter]
        return ", ".join(f"{each.name} {each.worth:.2f}" for each in named)
    strongest = [edge for edge in study.edges if edge.letter == letter and edge.layer == "kan2"][:2]
    return "; ".join(f"{edge.input_name} {edge.fit} (R² {edge.fit.r2:.3f})" for edge in strongest)


def print_study(console: "Console", study: EdgeStudy, model: StudiedModel, files: Sequence[Path]) -> None:
    """Print what was found and which files hold it."""
    kept, full, grid, formulas = study.kept, study.pruning[0], study.refinement, study.substitution
    console.print(f"{model.title}: {full.edges:,} edges, {model.beats}", style="bold")
    if study.inputs is not None:
        console.print("The named inputs worth most for each class, in logits:")
    for letter in CLASSES:
        console.print(f"  {letter}  {_strongest_text(study, letter)}", soft_wrap=True)
    console.print(f"All edges: accuracy {full.accuracy:.4f}, macro F1 {full.macro_f1:.4f}")
    if kept is full:
        console.print(f"Already with {100 * study.pruning[1].share:g} % one of them falls by more than {TOLERANCE:g}")
    else:
        console.print(
            f"{100 * kept.share:g} % of the edges: accuracy {kept.accuracy:.4f}, macro F1 {kept.macro_f1:.4f}"
        )
    console.print(
        f"{formulas.edges} edges as formulas: accuracy {formulas.accuracy:.4f}, macro F1 {formulas.macro_f1:.4f}"
    )
    console.print(
        f"Knots every {grid.new_step:.2g} instead of {grid.old_step:.2g}: logits change by at most "
        f"{grid.logit_difference:.1e}"
    )
    for note in model.notes:
        console.print(note, soft_wrap=True)
    for file in files:
        console.print(f"Wrote {file}", soft_wrap=True)
