"""Formulas are recovered from functions that are exactly of their shape, and the data decides where they must fit."""

import doctest

import pytest
import torch

from ecgkan.models import kan_symbolic
from ecgkan.models.kan import KANLayer
from ecgkan.models.kan_symbolic import LIBRARY, fit_symbolic, quantile_points

Z = quantile_points(torch.randn(2000, generator=torch.Generator().manual_seed(0)) * 1.3 + 0.4)


@pytest.mark.parametrize("shape", LIBRARY, ids=lambda shape: shape.name)
def test_every_shape_is_recovered(shape):
    slope = 1.0 if shape.slopes == "fixed" else -1.0 if shape.slopes == "either sign" else 1.1
    values = -0.8 * shape.function(slope * Z + (0.6 if shape.shifts else 0.0)) + 2.5
    best = fit_symbolic(Z, values)[0]
    assert best.shape == shape.name
    assert best.r2 > 0.99999
    torch.testing.assert_close(best(Z), values, atol=2e-3 * float(values.std()), rtol=0)


def test_the_edge_of_a_layer_that_is_twice_tanh_of_three_z_and_one_is_recovered():
    # A base weight of 0 and a fine grid let the splines be this function up to 1e-6.
    layer = KANLayer(1, 1, grid_size=120).double()
    points = torch.linspace(-3, 3, 2000, dtype=torch.float64)[:, None]
    with torch.no_grad():
        layer.base_weight.zero_()
        basis = layer.basis(points)[:, 0]
        layer.spline_weight[0, 0] = torch.linalg.lstsq(basis, 2 * torch.tanh(3 * points) + 1).solution[:, 0]
    z = quantile_points(torch.randn(5000, generator=torch.Generator().manual_seed(0)).clamp(-2.9, 2.9))
    fit = fit_symbolic(z, layer.edge_functions(z[:, None]).detach()[:, 0, 0])[0]
    assert fit.r2 > 0.999
    assert fit.shape == "tanh"
    assert (fit.a, fit.b, fit.c, fit.d) == pytest.approx((3, 0, 2, 1), abs=2e-3)
    assert str(fit) == "2 tanh(3 z) + 1"


def test_where_the_beats_lie_decides():
    z = torch.linspace(-3, 3, 301)
    values = torch.where(z < 0, 0.5 * z, z.sin() * z**2)
    everywhere = fit_symbolic(z, values)[0]
    below = fit_symbolic(z, values, (z < 0).float() + 1e-9)[0]
    assert below.shape == "linear"
    assert below.r2 > 0.9999 > everywhere.r2
    assert below.c * below.a == pytest.approx(0.5, abs=1e-3)


def test_weights_are_repetitions():
    counts = torch.randint(1, 4, (len(Z),), generator=torch.Generator().manual_seed(3))
    values = torch.sin(Z) + 0.1 * Z**2
    weighted = fit_symbolic(Z, values, counts)[0]
    repeated = fit_symbolic(Z.repeat_interleave(counts), values.repeat_interleave(counts))[0]
    assert weighted.r2 == pytest.approx(repeated.r2, abs=1e-6)
    assert weighted.shape == repeated.shape


def test_a_simpler_shape_wins_unless_another_explains_more():
    noise = 0.01 * torch.randn(len(Z), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert fit_symbolic(Z, -1.5 * Z + 0.25 + noise)[0].shape == "linear"
    fits = fit_symbolic(Z, -1.5 * Z + 0.25)
    assert str(fits[0]) == "−1.5 z + 0.25"
    assert len({fit.shape for fit in fits}) == len(LIBRARY)
    assert [fit.score for fit in fits] == sorted((fit.score for fit in fits), reverse=True)


def test_quantile_points_stand_for_equal_shares():
    data = torch.randn(4000, generator=torch.Generator().manual_seed(1)).exp()
    points = quantile_points(data, 100)
    counts = torch.histogram(data.double(), torch.cat([points, torch.tensor([torch.inf])])).hist
    assert (counts[:-1] - 40).abs().max() <= 2
    assert float(points.mean()) == pytest.approx(float(data.mean()), rel=0.02)


@pytest.mark.parametrize(
    ("z", "values", "message"),
    [
        (torch.tensor([1.0, 1, 1, 2, 2]), torch.randn(5), "five distinct points"),
        (torch.linspace(0, 1, 9), torch.randn(8), "five distinct points"),
        (torch.linspace(0, 1, 9), torch.ones(9), "constant"),
    ],
)
def test_what_has_no_formula_is_refused(z, values, message):
    with pytest.raises(ValueError, match=message):
        fit_symbolic(z, values)


def test_examples_in_the_documentation_are_true():
    assert doctest.testmod(kan_symbolic).failed == 0
