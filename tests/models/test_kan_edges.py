"""Worth of edges, pruning and finer grids, against direct computation, exact zeros, and SciPy's splines."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from torch import nn

from ecgkan.models.kan import KANHead, KANLayer
from ecgkan.models.kan_edges import (
    EdgeMask,
    edge_deviations,
    edge_importance,
    in_batches,
    prune_edges,
    random_edges,
    refine_grid,
    refine_head,
    spline_difference,
    strongest_edges,
    with_head,
)


@pytest.fixture
def head() -> KANHead:
    torch.manual_seed(0)
    return KANHead(12, 7, 5).eval().requires_grad_(False)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(300, 12, generator=torch.Generator().manual_seed(1)) ** 2


def without_splines(layer: KANLayer, base_weight: list[list[float]]) -> None:
    with torch.no_grad():
        layer.spline_weight.zero_()
        layer.base_weight.copy_(torch.tensor(base_weight))


# --- worth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_deviations_are_those_of_what_every_edge_adds(head, features, weighted):
    counts = torch.randint(0, 4, (300,), generator=torch.Generator().manual_seed(2))
    values = head.kan1.double().edge_values(features.double()).numpy()
    if weighted:  # a beat of weight 3 is three beats
        values = np.repeat(values, counts.numpy(), axis=0)
    found = edge_deviations(head.kan1, features.double(), counts if weighted else None)
    np.testing.assert_allclose(found.numpy(), values.std(axis=0), rtol=1e-9)


def test_a_stronger_edge_is_worth_more():
    # Three features that take the same values in turn: what edges are worth follows from their base weights alone.
    head = KANHead(3, 2, 2)
    without_splines(head.kan1, [[1.0, 4.0, 2.0], [8.0, 0.0, 3.0]])
    without_splines(head.kan2, [[1.0, 0.5], [0.0, 0.0]])
    values = torch.randn(400)
    features = torch.stack([values, values.roll(1), values.roll(2)], dim=1)
    features = torch.cat([features, features.roll(1, dims=1), features.roll(2, dims=1)])
    importance = edge_importance(head, features)
    assert importance.second[0, 0] == pytest.approx(2 * float(importance.second[0, 1]), rel=1e-3)
    torch.testing.assert_close(
        importance.first[0] / importance.first[0].amax(1, keepdim=True),
        (head.kan1.base_weight / head.kan1.base_weight.amax(1, keepdim=True)).double().detach(),
        atol=1e-6,
        rtol=0,
    )
    assert not importance.second[1].any()
    assert not importance.first[1].any(), "class 1 uses no hidden unit, so no edge is worth anything for it"


def test_edges_into_a_hidden_unit_that_no_class_uses_are_worth_nothing(head, features):
    with torch.no_grad():
        head.kan2.base_weight[:, 3] = 0
        head.kan2.spline_weight[:, 3] = 0
    importance = edge_importance(head, features)
    assert not importance.first[:, 3].any()
    assert (importance.first[:, [0, 1, 2, 4, 5, 6]] > 0).all()


def test_rare_beats_count_by_their_weight(head, features):
    rare = torch.arange(300) < 3
    weights = torch.where(rare, 100.0, 1.0)
    alone = edge_importance(head, features[rare])
    for weight, closeness in ((weights, 1.0), (torch.where(rare, 1e9, 1.0), 1e-3)):
        difference = (edge_importance(head, features, weight).second - alone.second).abs().max() / alone.second.max()
        assert difference < closeness
    for bad in (torch.zeros(300), -weights, weights[:10]):
        with pytest.raises(ValueError, match="a weight >= 0 for each"):
            edge_importance(head, features, bad)


# --- pruning ---------------------------------------------------------------------------------------------------------


def test_pruning_nothing_and_everything_is_exact(head, features):
    importance = edge_importance(head, features)
    whole = prune_edges(head, strongest_edges(importance, 1.0))
    assert torch.equal(whole(features), head(features))
    assert not prune_edges(head, strongest_edges(importance, 0.0))(features).any()


def test_pruned_edges_are_zero_and_the_others_what_they_were(head, features):
    before = copy.deepcopy(head.state_dict())
    mask = strongest_edges(edge_importance(head, features), 0.3)
    pruned = prune_edges(head, mask)
    assert mask.kept == round(0.3 * (12 * 7 + 7 * 5))
    assert mask.share == pytest.approx(0.3, abs=0.005)
    for layer, changed, kept in zip((head.kan1, head.kan2), (pruned.kan1, pruned.kan2), mask, strict=True):
        z = torch.linspace(-9, 9, 50)[:, None].expand(-1, layer.in_features)
        values, remaining = layer.edge_functions(z), changed.edge_functions(z)
        assert not remaining[:, ~kept].any()
        assert torch.equal(remaining[:, kept], values[:, kept])
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items()), "a copy was changed"


def test_the_strongest_edges_of_both_layers_are_kept(head, features):
    importance = edge_importance(head, features)
    mask = strongest_edges(importance, 0.4)
    worth = torch.cat([importance.first_total.flatten(), importance.second.flatten()])
    kept = torch.cat([mask.first.flatten(), mask.second.flatten()])
    assert worth[kept].min() >= worth[~kept].max()


def test_random_edges_are_as_many_and_repeatable(head, features):
    importance = edge_importance(head, features)
    first, again, other = (random_edges(importance, 0.4, seed=seed) for seed in (0, 0, 1))
    assert first.kept == other.kept == strongest_edges(importance, 0.4).kept
    assert torch.equal(first.first, again.first)
    assert not torch.equal(first.first, other.first)
    with pytest.raises(ValueError, match="between 0 and 1"):
        strongest_edges(importance, 1.2)


def test_a_model_gets_another_head(head):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kan_head = head

    model = Model()
    nothing = EdgeMask(torch.zeros(7, 12, dtype=torch.bool), torch.zeros(5, 7, dtype=torch.bool))
    changed = with_head(model, prune_edges(head, nothing))
    assert not changed.kan_head(torch.randn(3, 12)).any()
    assert model.kan_head(torch.randn(3, 12)).any()


# --- a finer grid ----------------------------------------------------------------------------------------------------


def scipy_edges(layer: KANLayer, points: np.ndarray) -> np.ndarray:
    """The splines of all edges by SciPy, 0 outside of their knots: points `[n]` → `[n, out, in]`."""
    out, entries, _ = layer.spline_weight.shape
    values = np.zeros((len(points), out, entries))
    for o in range(out):
        for i in range(entries):
            knots = layer.grid[i].double().numpy()
            for j, weight in enumerate(layer.spline_weight[o, i].detach().double().numpy()):
                element = BSpline.basis_element(knots[j : j + layer.spline_order + 2], extrapolate=False)
                values[:, o, i] += weight * np.nan_to_num(element(points))
    return values


@settings(max_examples=15, deadline=None)
@given(
    grid_size=st.integers(1, 6),
    factor=st.integers(1, 3),
    order=st.integers(1, 4),
    low=st.floats(-4, 1),
    width=st.floats(0.5, 8),
)
def test_nested_knots_give_the_same_functions_everywhere_by_scipy(grid_size, factor, order, low, width):
    torch.manual_seed(0)
    layer = KANLayer(2, 2, grid_size=grid_size, spline_order=order, grid_range=(low, low + width)).double()
    refined = refine_grid(layer, factor * grid_size)
    reach = width * (1 + 2 * order / grid_size)
    points = np.random.default_rng(0).uniform(low - reach, low + width + reach, 60)
    np.testing.assert_allclose(scipy_edges(refined, points), scipy_edges(layer, points), atol=1e-7)
    assert spline_difference(layer, refined) < 1e-6


@pytest.mark.parametrize("grid_size", [10, 15])
def test_a_refined_head_computes_the_same(head, features, grid_size):
    refined = refine_head(head, grid_size)
    torch.testing.assert_close(refined(30 * features), head(30 * features), atol=3e-6, rtol=1e-5)
    assert refined.kan1.grid.dtype == torch.float32
    assert not refined.training
    again = refine_head(refined, 2 * (refined.kan1.grid.shape[1] - 7))
    torch.testing.assert_close(again(30 * features), head(30 * features), atol=5e-6, rtol=1e-5)


def test_a_grid_that_does_not_hold_the_old_knots_says_how_far_off_it_is():
    torch.manual_seed(0)
    layer = KANLayer(3, 2)
    with torch.no_grad():
        layer.spline_weight.normal_()
    errors = [spline_difference(layer, refine_grid(layer, size)) for size in (7, 12, 23, 49)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-2 < errors[0]
    refined = refine_grid(layer, 7)
    points = np.linspace(-6.6, 6.6, 3000)
    by_scipy = np.abs(scipy_edges(refined, points) - scipy_edges(layer, points)).max()
    assert errors[0] == pytest.approx(by_scipy, rel=0.03)


def test_inputs_may_have_their_own_ranges():
    torch.manual_seed(0)
    layer = KANLayer(2, 3).double()
    state = layer.state_dict()
    state["grid"][1] = 0.5 * state["grid"][1] + 1.0
    layer.load_state_dict(state)
    refined = refine_grid(layer, 10)
    assert spline_difference(layer, refined) < 1e-8
    x = 3 * torch.randn(50, 2, dtype=torch.float64)
    torch.testing.assert_close(refined(x), layer(x))


def test_a_grid_is_not_made_coarser():
    with pytest.raises(ValueError, match="5 intervals is refined to at least as many, got 4"):
        refine_grid(KANLayer(2, 2), 4)


def test_batches_are_the_whole(head, features):
    torch.testing.assert_close(in_batches(head, features, size=7), head(features))
