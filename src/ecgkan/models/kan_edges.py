"""What the edges of a KAN head are worth, the head without the weak ones, and the same head on a finer grid.

Everything here takes a `KANHead` or `KANLayer` of any size and gives back a new one; nothing is changed in place.

References
----------
Z. Liu et al., KAN: Kolmogorov-Arnold Networks, arXiv:2404.19756 (2024) (pruning, grid refinement).
Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, arXiv:2408.10205 (2024) (attribution carried back
through the layers).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgkan.models.kan import KANHead, KANLayer, bspline_basis

Model = TypeVar("Model", bound=nn.Module)

BATCH: Final = 1024
"""Beats whose spline bases are held in memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class EdgeImportance:
    """What each edge of a KAN head is worth for each class, in logits.

    Attributes
    ----------
    first : Tensor
        `[classes, hidden, in]` float64, edges from features to hidden units.
    second : Tensor
        `[classes, hidden]` float64, edges from hidden units to classes.
    """

    first: Tensor
    second: Tensor

    @property
    def first_total(self) -> Tensor:
        """Worth of each edge of the first layer, summed over the classes: `[hidden, in]`."""
        return self.first.sum(0)


class EdgeMask(NamedTuple):
    """Which edges of a KAN head are kept: `first` `[hidden, in]` and `second` `[classes, hidden]`, bool."""

    first: Tensor
    second: Tensor

    @property
    def kept(self) -> int:
        """Number of edges kept."""
        return int(self.first.sum()) + int(self.second.sum())

    @property
    def share(self) -> float:
        """Share of all edges that is kept."""
        return self.kept / (self.first.numel() + self.second.numel())


def edge_importance(head: KANHead, features: Tensor, weights: Tensor | None = None) -> EdgeImportance:
    """Measure what each edge is worth on given beats.

    An edge of the second layer is worth how much its contribution to its class's logit varies: the standard deviation
    over the beats. A hidden unit passes on its worth, and an edge of the first layer gets it in the ratio of its own
    standard deviation to the hidden unit's (the edge scores of KAN 2.0). The ratios of one unit need not sum to 1,
    because edges move together or against each other.

    Parameters
    ----------
    head : KANHead
        The head; dropout plays no part.
    features : Tensor
        `[n, in]`, the head's input at the beats.
    weights : Tensor, optional
        `[n]`, how much each beat counts, not negative; equal by default. Rare classes need it to count at all.

    Returns
    -------
    EdgeImportance

    Raises
    ------
    ValueError
        If there are no beats, or the weights do not fit.
    """
    weights = _normalized_weights(features, weights)
    with torch.no_grad():
        hidden = in_batches(head.kan1, features)
        first, second = edge_deviations(head.kan1, features, weights), edge_deviations(head.kan2, hidden, weights)
        spread = _weighted_std(hidden.double(), weights)  # (hidden,)
        shares = first / spread.clamp_min(torch.finfo(torch.float64).tiny)[:, None]  # (hidden, in)
    return EdgeImportance(first=second[:, :, None] * shares, second=second)


def in_batches(function: Callable[..., Tensor], *inputs: Tensor, size: int = BATCH) -> Tensor:
    """Apply a function of many beats part by part, without gradients: each `[n, ...]` → `[n, ...]`."""
    parts = (tuple(x[start : start + size] for x in inputs) for start in range(0, len(inputs[0]), size))
    with torch.no_grad():
        return torch.cat([function(*part) for part in parts])


def edge_deviations(layer: KANLayer, x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the standard deviation over beats of what each edge adds to its output.

    An edge is linear in its weights, so its variance is a quadratic form of the covariance of its input's basis
    functions: no `[n, out, in]` is ever formed.

    Parameters
    ----------
    layer : KANLayer
        The layer.
    x : Tensor
        `[n, in]`, its input.
    weights : Tensor, optional
        `[n]`, how much each beat counts; equal by default.

    Returns
    -------
    Tensor
        `[out, in]` float64.
    """
    weights = _normalized_weights(x, weights)
    with torch.no_grad():
        covariance = _basis_covariance(layer, x, weights)  # (in, 1 + n_basis, 1 + n_basis)
        edges = torch.cat([layer.base_weight[..., None], layer.spline_weight], -1).double()  # (out, in, 1 + n_basis)
        variance = torch.einsum("oik,ikl,oil->oi", edges, covariance, edges)
    return variance.clamp_min(0.0).sqrt()


def _basis_covariance(layer: KANLayer, x: Tensor, weights: Tensor) -> Tensor:
    """Return the covariance over beats of SiLU and the splines of each input: `[in, 1 + n_basis, 1 + n_basis]`."""
    n = 1 + layer.spline_weight.shape[-1]
    mean = torch.zeros(layer.in_features, n, dtype=torch.float64, device=x.device)
    product = torch.zeros(layer.in_features, n, n, dtype=torch.float64, device=x.device)
    for start in range(0, len(x), BATCH):
        z = layer.normalize(x[start : start + BATCH])
        functions = torch.cat([F.silu(z)[..., None], layer.basis(z)], -1).double()  # (B, in, n)
        weighted = functions * weights[start : start + BATCH, None, None]
        mean += weighted.sum(0)
        product += torch.einsum("bik,bil->ikl", weighted, functions)
    return product - mean[:, :, None] * mean[:, None, :]


def _normalized_weights(x: Tensor, weights: Tensor | None) -> Tensor:
    weights = torch.ones(len(x), device=x.device) if weights is None else weights
    if len(x) == 0 or weights.shape != (len(x),) or bool((weights < 0).any()) or not float(weights.sum()) > 0:
        raise ValueError(
            f"expected at least one beat and a weight >= 0 for each, not all 0; got {len(x)} beats and weights of "
            f"shape {list(weights.shape)}"
        )
    return weights.double() / weights.double().sum()


def _weighted_std(values: Tensor, weights: Tensor) -> Tensor:
    mean = weights @ values
    return (weights @ (values - mean).square()).sqrt()


def strongest_edges(importance: EdgeImportance, keep: float) -> EdgeMask:
    """Choose the edges that are worth most, summed over the classes, from both layers together.

    Parameters
    ----------
    importance : EdgeImportance
        What the edges are worth.
    keep : float
        Share of all edges to keep, 0 to 1.

    Raises
    ------
    ValueError
        If `keep` is no share.
    """
    worth = torch.cat([importance.first_total.flatten(), importance.second.flatten()])
    return _mask_of_order(worth.argsort(descending=True, stable=True), importance, keep)


def random_edges(importance: EdgeImportance, keep: float, *, seed: int) -> EdgeMask:
    """Choose the same number of edges at random: what an order by importance is measured against."""
    n_edges = importance.first_total.numel() + importance.second.numel()
    return _mask_of_order(torch.randperm(n_edges, generator=torch.Generator().manual_seed(seed)), importance, keep)


def _mask_of_order(order: Tensor, importance: EdgeImportance, keep: float) -> EdgeMask:
    if not 0.0 <= keep <= 1.0:
        raise ValueError(f"the share of edges to keep lies between 0 and 1, got {keep}")
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[: round(keep * len(order))]] = True
    n_first = importance.first_total.numel()
    return EdgeMask(
        first=kept[:n_first].view_as(importance.first_total), second=kept[n_first:].view_as(importance.second)
    )


def prune_edges(head: KANHead, mask: EdgeMask) -> KANHead:
    """Return a copy of the head in which every edge outside of the mask is the function 0, exactly.

    The copy has the same sizes and state-dict names: it saves and loads as before.
    """
    pruned = copy.deepcopy(head)
    with torch.no_grad():
        for layer, kept in ((pruned.kan1, mask.first), (pruned.kan2, mask.second)):
            layer.base_weight.masked_fill_(~kept, 0.0)
            layer.spline_weight.masked_fill_(~kept[..., None], 0.0)
    return pruned


def refine_grid(layer: KANLayer, grid_size: int) -> KANLayer:
    """Return the layer with its splines refitted on a finer uniform grid.

    The new knots divide the range of the old grid into `grid_size` equal intervals, and go on beyond it as far as the
    old splines reach. Where they hold all old knots (5 intervals to 10 or 15, uniform) the new layer computes the same
    function everywhere, to rounding; else the nearest in the least-squares sense, and `spline_difference` says how
    near.

    Parameters
    ----------
    layer : KANLayer
        The layer, with any grid.
    grid_size : int
        Intervals over the range of the old grid, at least as many as there.

    Returns
    -------
    KANLayer
        `spline_weight` is `[out, in, n_basis]` with more basis functions; normalization and base weights are the same.

    Raises
    ------
    ValueError
        If the grid would become coarser.
    """
    order, old_size = layer.spline_order, layer.grid.shape[-1] - 2 * layer.spline_order - 1
    if grid_size < old_size:
        raise ValueError(f"a grid of {old_size} intervals is refined to at least as many, got {grid_size}")
    grid = _finer_knots(layer.grid.double(), grid_size, order)  # (in, n_knots)
    refined = KANLayer(
        layer.in_features,
        layer.out_features,
        grid_size=grid.shape[-1] - 2 * order - 1,
        spline_order=order,
        normalization=layer.normalization,
    ).to(layer.spline_weight)
    points = _points_within(layer.grid.double(), order)  # (n_points, in)
    old, new = (bspline_basis(points, knots, order).movedim(1, 0) for knots in (layer.grid.double(), grid))
    change = torch.linalg.lstsq(new, old).solution  # (in, n_new, n_old): old splines in terms of the new ones
    with torch.no_grad():
        state = layer.state_dict() | {
            "grid": grid.to(layer.grid),
            "spline_weight": torch.einsum("inm,oim->oin", change, layer.spline_weight.double()).to(layer.spline_weight),
        }
        refined.load_state_dict(state)
    return refined.train(layer.training)


def _finer_knots(grid: Tensor, grid_size: int, order: int) -> Tensor:
    low, high = grid[:, order : order + 1], grid[:, -order - 1 : grid.shape[1] - order]
    step = (high - low) / grid_size  # (in, 1)
    # As far out as the old knots reach; at least `order` knots, which the splines inside need.
    reach = torch.maximum(low - grid[:, :1], grid[:, -1:] - high) / step
    extension = max(order, math.ceil(float(reach.max()) - 1e-6))
    return low + step * torch.arange(-extension, grid_size + extension + 1, dtype=grid.dtype, device=grid.device)


def _points_within(grid: Tensor, order: int, *, per_interval: int = 4) -> Tensor:
    """Return points inside of each knot interval, `per_interval` for each coefficient: `[n_points, in]`."""
    n = per_interval * (order + 1)
    shares = (torch.arange(n, dtype=grid.dtype, device=grid.device) + 0.5) / n
    left, right = grid[:, :-1, None], grid[:, 1:, None]
    return (left + (right - left) * shares).flatten(1).T


def refine_head(head: KANHead, grid_size: int) -> KANHead:
    """Return the head with both layers on a finer grid; see `refine_grid`."""
    refined = copy.deepcopy(head)
    refined.kan1, refined.kan2 = refine_grid(head.kan1, grid_size), refine_grid(head.kan2, grid_size)
    return refined


def spline_difference(layer: KANLayer, refined: KANLayer) -> float:
    """Return the largest difference between the edge functions of two layers, where the splines of the first reach."""
    points = _points_within(layer.grid.double(), layer.spline_order)
    with torch.no_grad():
        before, after = (copy.deepcopy(each).double().edge_functions(points) for each in (layer, refined))
    return float((before - after).abs().max())


def with_head(model: Model, head: KANHead) -> Model:
    """Return a copy of a model with another KAN head in place of its `kan_head`."""
    changed = copy.deepcopy(model)
    changed.kan_head = head
    return changed
