"""What the edges of a trained KAN head say, how many of them are needed, and what a finer grid changes.

Everything is measured on beats that are no test beats: those choose nothing, and here edges are chosen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgkan.aami import CLASSES
from ecgkan.errors import DataError
from ecgkan.evaluation.metrics import ConfusionMetrics, confusion_matrix, metrics_from_confusion
from ecgkan.models.kan import KANHead, KANLayer
from ecgkan.models.kan_edges import (
    EdgeImportance,
    EdgeMask,
    edge_importance,
    in_batches,
    prune_edges,
    random_edges,
    refine_head,
    spline_difference,
    strongest_edges,
)
from ecgkan.models.kan_symbolic import SymbolicFit, fit_symbolic, quantile_points
from ecgkan.studies.kan_edges.inputs import InputNames, InputStudy, study_inputs

SHARES: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
"""Shares of the edges that are kept, most first."""

TOLERANCE: Final = 0.005
"""How far accuracy and macro F1 may fall below those of all edges at the point that is marked."""


class Shown(NamedTuple):
    """How many edges are shown per class: into its logit, and into hidden units."""

    second: int
    first: int


UNNAMED_SHOWN: Final = Shown(second=4, first=2)
"""Of a head whose inputs have no names."""

NAMED_SHOWN: Final = Shown(second=2, first=4)
"""Of a head whose inputs have names: what is said of them can be read."""

RARE_BEATS: Final = 100
"""A class with fewer beats counts less than the others: a handful of beats would decide as much as thousands do."""

GOOD_FIT: Final = 0.98
"""R² from which a formula is said to fit."""

_BINS: Final = 40
_CURVE_POINTS: Final = 161


@dataclass(frozen=True, slots=True, eq=False)
class StudiedEdge:
    """One of the strongest edges of a class.

    Attributes
    ----------
    letter : str
        The class it matters for.
    layer : str
        "kan1" (feature → hidden unit) or "kan2" (hidden unit → logit).
    input, output : int
        Which input of the layer, and which output.
    input_name, output_name : str
        What figures and tables call them.
    worth : float
        What the edge is worth for the class, logits; see `ecgkan.models.kan_edges.edge_importance`.
    curve_z, curve_value : ndarray
        `[161]` float64: the learned function, where 99.8 % of the beats lie.
    curve_x : ndarray
        `[161]` float64: the same points in the input's own units, where it has any, else z.
    variable : str
        "x" where the input has its own units, else "z": what the formulas are of.
    bin_edges : ndarray
        `[41]` float64, over the range of `curve_x`.
    density_class, density_others : ndarray
        `[40]` float64: density over the beats of the class, and over the others.
    fit : SymbolicFit
        The formula of `variable` with the best penalized R².
    runner_up : SymbolicFit
        The second.
    """

    letter: str
    layer: str
    input: int
    output: int
    input_name: str
    output_name: str
    worth: float
    curve_z: NDArray[np.float64]
    curve_value: NDArray[np.float64]
    curve_x: NDArray[np.float64]
    variable: str
    bin_edges: NDArray[np.float64]
    density_class: NDArray[np.float64]
    density_others: NDArray[np.float64]
    fit: SymbolicFit
    runner_up: SymbolicFit

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the densities."""
        names = ("letter", "layer", "input", "output", "input_name", "output_name", "worth", "variable")
        formulas = {
            name: {"formula": fit.text(self.variable), "shape": fit.shape, "r2": fit.r2}
            for name, fit in (("fit", self.fit), ("runner_up", self.runner_up))
        }
        curve = {name: getattr(self, name).tolist() for name in ("curve_z", "curve_x", "curve_value")}
        return {name: getattr(self, name) for name in names} | formulas | curve


class PruningPoint(NamedTuple):
    """How well the head does with a share of its edges; the others are exactly 0."""

    share: float
    edges: int
    accuracy: float
    macro_f1: float
    f1: tuple[float, ...]
    random_accuracy: float
    random_macro_f1: float


class RefinedGrid(NamedTuple):
    """What a finer grid changed: nothing but rounding where it holds all old knots."""

    old_splines: int
    new_splines: int
    old_step: float
    new_step: float
    old_parameters: int
    new_parameters: int
    spline_difference: float
    logit_difference: float
    changed_beats: int


class Substitution(NamedTuple):
    """How well the head does with the shown edges of its second layer replaced by their formulas."""

    edges: int
    accuracy: float
    macro_f1: float
    changed_beats: int


@dataclass(frozen=True, slots=True, eq=False)
class EdgeStudy:
    """The results of `study_edges`.

    Attributes
    ----------
    counts : tuple of int
        Beats of each class that everything was measured on.
    edges : tuple of StudiedEdge
        The strongest per class, in class order, those of the second layer first.
    pruning : tuple of PruningPoint
        By share, most first.
    kept : PruningPoint
        The one with fewest edges up to which accuracy and macro F1 stay within `TOLERANCE` of those of all edges.
    refinement : RefinedGrid
        What the finer grid changes.
    substitution : Substitution
        What formulas in the second layer change.
    importance : EdgeImportance
        What every edge is worth.
    inputs : InputStudy or None
        What is said of the inputs themselves, where they have names.
    """

    counts: tuple[int, ...]
    edges: tuple[StudiedEdge, ...]
    pruning: tuple[PruningPoint, ...]
    kept: PruningPoint
    refinement: RefinedGrid
    substitution: Substitution
    importance: EdgeImportance
    inputs: InputStudy | None = None

    @property
    def beats(self) -> int:
        """Beats everything was measured on."""
        return sum(self.counts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "beats": self.beats,
            "beats_of_class": dict(zip(CLASSES, self.counts, strict=True)),
            "edges": [edge.to_dict() for edge in self.edges],
            "pruning": [_point_to_dict(point) for point in self.pruning],
            "tolerance": TOLERANCE,
            "kept": _point_to_dict(self.kept),
            "refinement": self.refinement._asdict(),
            "substitution": self.substitution._asdict(),
            "inputs": None if self.inputs is None else self.inputs.to_dict(),
        }


def _point_to_dict(point: PruningPoint) -> dict[str, Any]:
    return point._asdict() | {"f1": dict(zip(CLASSES, point.f1, strict=True))}


def study_edges(
    head: KANHead,
    features: Tensor,
    labels: NDArray[np.int64],
    *,
    grid_size: int | None = None,
    inputs: InputNames | None = None,
    class_shift: Tensor | None = None,
    shares: Sequence[float] = SHARES,
    announce: Callable[[str], None] = lambda _: None,
) -> EdgeStudy:
    """Study a KAN head of any model that has one.

    Parameters
    ----------
    head : KANHead
        In eval mode, float32.
    features : Tensor
        `[n, in]`, its input at beats that are no test beats.
    labels : ndarray
        `[n]` int64, their reference classes.
    grid_size : int, optional
        Intervals of the finer grid; twice as many as there are by default, which changes nothing but rounding.
    inputs : InputNames, optional
        What the head's inputs are; by default they are called "feature 0" and so on, and nothing is said of them.
    class_shift : Tensor, optional
        `[classes]`, what the model adds to the head's logits; 0 by default.
    shares : sequence of float
        Shares of the edges to keep, at least two, most first, the first 1.
    announce : callable
        Told what is going on.

    Returns
    -------
    EdgeStudy

    Raises
    ------
    DataError
        If there are no beats, or the names do not fit.
    ValueError
        If the grid would become coarser.
    """
    names = tuple(f"feature {i}" for i in range(features.shape[1])) if inputs is None else inputs.names
    shift = torch.zeros(len(CLASSES)) if class_shift is None else class_shift
    if len(labels) == 0 or len(labels) != len(features) or len(names) != features.shape[1]:
        raise DataError(
            f"expected a label per beat and a name per feature, got {len(features)} beats, {len(labels)} labels, "
            f"{features.shape[1]} features and {len(names)} names"
        )
    with torch.no_grad():
        announce("what each edge is worth")
        importance = class_balanced_importance(head, features, labels)
        announce("finer grid")
        refinement = _refine(head, features, grid_size, shift)
        announce("formulas of the strongest edges")
        edges = _strongest(head, features, labels, importance, names, inputs)
        announce("formulas in place of edges")
        of_second_layer = [edge for edge in edges if edge.layer == "kan2"]
        substitution = _substitute(head, features, labels, of_second_layer, shift)
        pruning = _prune(head, features, labels, importance, shares, shift, announce)
        said = None
        if inputs is not None:
            announce("what the inputs are worth")
            said = study_inputs(head, features, labels, importance, inputs, class_shift=shift)
    counts = tuple(np.bincount(labels, minlength=len(CLASSES)).tolist())
    kept = _last_within(pruning, TOLERANCE)
    return EdgeStudy(counts, edges, pruning, kept, refinement, substitution, importance, said)


def class_balanced_importance(head: KANHead, features: Tensor, labels: NDArray[np.int64]) -> EdgeImportance:
    """Measure what edges are worth with every class counting as much as any other, from `RARE_BEATS` beats on."""
    counts = np.bincount(labels, minlength=len(CLASSES)).clip(min=RARE_BEATS)
    return edge_importance(head, features, torch.from_numpy(1.0 / counts[labels]))


def score_head(
    head: KANHead, features: Tensor, labels: NDArray[np.int64], class_shift: Tensor | None = None
) -> ConfusionMetrics:
    """Score a head on the features of labelled beats; `class_shift` `[classes]` is added to its logits."""
    logits = in_batches(head, features)
    return _score(logits if class_shift is None else logits + class_shift, labels)


def _score(logits: Tensor, labels: NDArray[np.int64]) -> ConfusionMetrics:
    return metrics_from_confusion(confusion_matrix(labels, logits.argmax(1).numpy()))


def _prune(
    head: KANHead,
    features: Tensor,
    labels: NDArray[np.int64],
    importance: EdgeImportance,
    shares: Sequence[float],
    class_shift: Tensor,
    announce: Callable[[str], None],
) -> tuple[PruningPoint, ...]:
    def score(mask: EdgeMask) -> ConfusionMetrics:
        return score_head(prune_edges(head, mask), features, labels, class_shift)

    points = []
    for share in shares:
        announce(f"{100 * share:g} % of the edges")
        mask = strongest_edges(importance, share)
        by_worth, at_random = score(mask), score(random_edges(importance, share, seed=0))
        points.append(
            PruningPoint(
                share=share,
                edges=mask.kept,
                accuracy=by_worth.accuracy,
                macro_f1=by_worth.macro_f1,
                f1=tuple(by_worth.f1.tolist()),
                random_accuracy=at_random.accuracy,
                random_macro_f1=at_random.macro_f1,
            )
        )
    return tuple(points)


def _last_within(points: Sequence[PruningPoint], tolerance: float) -> PruningPoint:
    """Return the last point before accuracy or macro F1 first falls more than `tolerance` below the first point's."""
    last = points[0]
    for point in points[1:]:
        fall = max(points[0].accuracy - point.accuracy, points[0].macro_f1 - point.macro_f1)
        if fall > tolerance:
            break
        last = point
    return last


def _refine(head: KANHead, features: Tensor, grid_size: int | None, class_shift: Tensor) -> RefinedGrid:
    layer = head.kan1
    intervals = layer.grid.shape[-1] - 2 * layer.spline_order - 1
    refined = refine_head(head, 2 * intervals if grid_size is None else grid_size)
    old, new = (in_batches(each, features) + class_shift for each in (head, refined))
    pairs = ((head.kan1, refined.kan1), (head.kan2, refined.kan2))
    return RefinedGrid(
        old_splines=layer.spline_weight.shape[-1],
        new_splines=refined.kan1.spline_weight.shape[-1],
        old_step=float(layer.grid[0].diff().mean()),
        new_step=float(refined.kan1.grid[0].diff().mean()),
        old_parameters=sum(parameter.numel() for parameter in head.parameters()),
        new_parameters=sum(parameter.numel() for parameter in refined.parameters()),
        spline_difference=max(spline_difference(before, after) for before, after in pairs),
        logit_difference=float((old - new).abs().max()),
        changed_beats=int((old.argmax(1) != new.argmax(1)).sum()),
    )


def _strongest(
    head: KANHead,
    features: Tensor,
    labels: NDArray[np.int64],
    importance: EdgeImportance,
    names: Sequence[str],
    inputs: InputNames | None,
) -> tuple[StudiedEdge, ...]:
    hidden = in_batches(head.kan1, features)
    hidden_names = [f"hidden {j}" for j in range(hidden.shape[1])]
    z1, z2 = head.kan1.normalize(features), head.kan2.normalize(hidden)
    shown = UNNAMED_SHOWN if inputs is None else NAMED_SHOWN
    offset, scale = _own_lines(head.kan1, inputs)
    # Of inputs that have names, those are shown that mean something by themselves.
    readable = torch.arange(features.shape[1]) if inputs is None else torch.from_numpy(inputs.readable)
    edges = []
    for place, letter in enumerate(CLASSES):
        here = labels == place
        for j in _largest(importance.second[place], shown.second):
            worth = float(importance.second[place, j])
            ends = (hidden_names[j], letter)
            edges.append(_studied_edge(head.kan2, "kan2", letter, (j, place), ends, worth, z2[:, j], here))
        for flat in _largest(importance.first[place][:, readable], shown.first):
            j, i = flat // len(readable), int(readable[flat % len(readable)])
            worth = float(importance.first[place, j, i])
            ends = (names[i], hidden_names[j])
            line = None if offset is None or scale is None else (float(offset[i]), float(scale[i]))
            edges.append(_studied_edge(head.kan1, "kan1", letter, (i, j), ends, worth, z1[:, i], here, line))
    return tuple(edges)


def _own_lines(layer: KANLayer, inputs: InputNames | None) -> tuple[Tensor | None, Tensor | None]:
    """Return offset and scale `[in]` that map z to the inputs' own units.

    There are none where inputs have no names, and none after a layer norm, where z depends on all inputs of a beat.
    """
    if inputs is None or layer.normalization != "batch":
        return None, None
    norm = layer.batch_norm
    mean, variance = (value.double() for value in (norm.running_mean, norm.running_var) if value is not None)
    at_0 = mean - norm.bias.double() * (variance + norm.eps).sqrt() / norm.weight.double()
    at_1 = at_0 + (variance + norm.eps).sqrt() / norm.weight.double()
    low, high = inputs.in_own_units(at_0), inputs.in_own_units(at_1)
    return low, high - low


def _largest(worth: Tensor, most: int) -> list[int]:
    order: list[int] = worth.flatten().argsort(descending=True, stable=True)[:most].tolist()
    return order


def _studied_edge(
    layer: KANLayer,
    name: str,
    letter: str,
    places: tuple[int, int],
    ends: tuple[str, str],
    worth: float,
    z: Tensor,
    of_class: NDArray[np.bool_],
    own_line: tuple[float, float] | None = None,
) -> StudiedEdge:
    """Look at an edge; `own_line` says how its z becomes a value in the input's own units."""
    offset, scale = (0.0, 1.0) if own_line is None else own_line
    low, high = np.quantile(z.double().numpy(), [0.001, 0.999])
    curve_z = torch.linspace(low, high, _CURVE_POINTS, dtype=torch.float64)
    curve_x = offset + scale * curve_z.numpy()
    values = offset + scale * z.double().numpy()
    bin_edges = np.linspace(curve_x.min(), curve_x.max(), _BINS + 1)
    points = quantile_points(z)
    fits = fit_symbolic(offset + scale * points, one_edge(layer, *places, points))
    return StudiedEdge(
        letter=letter,
        layer=name,
        input=places[0],
        output=places[1],
        input_name=ends[0],
        output_name=ends[1],
        worth=worth,
        curve_z=curve_z.numpy(),
        curve_value=one_edge(layer, *places, curve_z).numpy(),
        curve_x=curve_x,
        variable="z" if own_line is None else "x",
        bin_edges=bin_edges,
        density_class=_density(values[of_class], bin_edges),
        density_others=_density(values[~of_class], bin_edges),
        fit=fits[0],
        runner_up=fits[1],
    )


def _density(values: NDArray[np.float64], bin_edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the histogram of values as a density; 0 where there are none, which `numpy.histogram` makes NaN."""
    counts = np.histogram(values, bin_edges)[0]
    density: NDArray[np.float64] = counts / (max(len(values), 1) * np.diff(bin_edges))
    return density


def one_edge(layer: KANLayer, entry: int, output: int, z: Tensor) -> Tensor:
    """Evaluate one edge function, from input `entry` to `output`, at points: `[n]` → `[n]` float64."""
    everywhere = z[:, None].expand(-1, layer.in_features).to(layer.base_weight)  # (n, in); only one input is used
    splines = layer.basis(everywhere)[:, entry].double() @ layer.spline_weight[output, entry].double()
    return float(layer.base_weight[output, entry]) * torch.nn.functional.silu(z.double()) + splines


def _substitute(
    head: KANHead, features: Tensor, labels: NDArray[np.int64], edges: Sequence[StudiedEdge], class_shift: Tensor
) -> Substitution:
    hidden = in_batches(head.kan1, features)
    z = head.kan2.normalize(hidden)
    logits = in_batches(head.kan2, hidden) + class_shift
    changed = logits.double().clone()
    for edge in edges:
        points = z[:, edge.input].double()
        changed[:, edge.output] += edge.fit(points) - one_edge(head.kan2, edge.input, edge.output, points)
    metrics = _score(changed, labels)
    return Substitution(
        edges=len(edges),
        accuracy=metrics.accuracy,
        macro_f1=metrics.macro_f1,
        changed_beats=int((changed.argmax(1) != logits.argmax(1)).sum()),
    )
