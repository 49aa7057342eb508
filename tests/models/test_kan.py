"""The KAN layer against independent truths: SciPy's splines, and the published layer written out plainly in NumPy."""

import copy
import doctest
import io
import pickle
import shutil
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.export import Dim
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from ecgkan.errors import DataError
from ecgkan.models import kan
from ecgkan.models.cnn_kan import ECGCNNWithKAN
from ecgkan.models.kan import KANHead, KANLayer, bspline_basis, uniform_cubic_basis, uniform_knots

Array = NDArray[np.float64]

FLOAT32_TOLERANCE = 1e-6
FLOAT64_TOLERANCE = 1e-12
TOLERANCES = {torch.float32: FLOAT32_TOLERANCE, torch.float64: FLOAT64_TOLERANCE}

many_examples = settings(max_examples=200, deadline=None)  # no deadline: a busy machine is no failure
dtypes = st.sampled_from([torch.float32, torch.float64])
orders = st.integers(0, 4)


# --- the truth -------------------------------------------------------------------------------------------------------


def scipy_basis(x: Array, knots: Array, order: int) -> Array:
    """Evaluate every basis element of one knot vector: `[n]` → `[n, n_knots - order - 1]`, half-open knot intervals."""
    columns = []
    for i in range(len(knots) - order - 1):
        element = BSpline.basis_element(knots[i : i + order + 2], extrapolate=False)
        inside = x < knots[i + order + 1]  # SciPy closes the last interval
        columns.append(np.where(inside, np.nan_to_num(element(x), nan=0.0), 0.0))
    return np.stack(columns, axis=-1)


def scipy_basis_of_features(x: Tensor, grid: Tensor, order: int) -> Tensor:
    """The same for points `[n, in]` and knots `[n_knots]` or `[in, n_knots]`, in float64 from the numbers given."""
    points, knots = x.detach().double().numpy(), grid.double().numpy()
    rows = np.broadcast_to(knots, (points.shape[1], knots.shape[-1]))
    features = [scipy_basis(points[:, i], rows[i], order) for i in range(points.shape[1])]
    return torch.from_numpy(np.stack(features, axis=1))


def reference_layer(x: Array, weights: dict[str, Array]) -> Array:
    """The published KAN layer, by its description, in float64: LayerNorm, then Cox-de Boor as in the textbook."""
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    z = z * weights["layer_norm.weight"] + weights["layer_norm.bias"]
    grid, points = weights["grid"], z[..., None]
    basis = ((points >= grid[:, :-1]) & (points < grid[:, 1:])).astype(np.float64)
    for k in (1, 2, 3):
        left = (points - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)]) * basis[..., :-1]
        right = (grid[:, k + 1 :] - points) / (grid[:, k + 1 :] - grid[:, 1:-k]) * basis[..., 1:]
        basis = left + right
    silu = z / (1.0 + np.exp(-z))
    splines: Array = np.einsum("bij,oij->bo", basis, weights["spline_weight"])
    base: Array = silu @ weights["base_weight"].T
    return base + splines


def as_arrays(state: dict[str, Tensor], prefix: str = "") -> dict[str, Array]:
    return {
        name.removeprefix(prefix): tensor.double().numpy() for name, tensor in state.items() if name.startswith(prefix)
    }


# --- strategies ------------------------------------------------------------------------------------------------------


@st.composite
def knot_vectors(draw: st.DrawFn, n_knots: int) -> list[float]:
    """Strictly increasing knots, uniform half of the time."""
    start = draw(st.floats(-5.0, 5.0))
    if draw(st.booleans()):
        step = draw(st.floats(0.1, 2.0))
        return [start + i * step for i in range(n_knots)]
    widths = draw(st.lists(st.floats(0.05, 2.0), min_size=n_knots - 1, max_size=n_knots - 1))
    return [start, *(start + np.cumsum(widths)).tolist()]


@st.composite
def grids(draw: st.DrawFn, order: int) -> Tensor:
    """Knots `[n_knots]`, or `[in, n_knots]` with other knots in every row, in float64."""
    n_knots = draw(st.integers(order + 2, order + 9))
    if draw(st.booleans()):
        return torch.tensor(draw(knot_vectors(n_knots)), dtype=torch.float64)
    n_features = draw(st.integers(1, 3))
    return torch.tensor([draw(knot_vectors(n_knots)) for _ in range(n_features)], dtype=torch.float64)


def points_for(knots: Tensor, positions: list[float]) -> Tensor:
    """Points `[n, in]` of the knots' dtype: at every knot, right beside it, and at relative `positions`."""
    rows = knots.reshape(-1, knots.shape[-1])
    first, last = rows[:, :1], rows[:, -1:]
    free = first + torch.tensor(positions, dtype=knots.dtype) * (last - first)
    infinity = torch.tensor(torch.inf, dtype=knots.dtype)
    points = torch.cat([free, rows, rows.nextafter(infinity), rows.nextafter(-infinity)], dim=1)
    return points.T.contiguous()


positions = st.lists(st.floats(-1.0, 2.0) | st.floats(-1e6, 1e6), min_size=1, max_size=20)


# --- the basis equals SciPy's ----------------------------------------------------------------------------------------


@many_examples
@given(data=st.data(), order=orders, dtype=dtypes, positions=positions)
def test_recursion_equals_scipy(data: st.DataObject, order: int, dtype: torch.dtype, positions: list[float]) -> None:
    grid = data.draw(grids(order)).to(dtype)
    x = points_for(grid, positions)
    basis = bspline_basis(x, grid, order)
    assert basis.dtype == dtype
    assert basis.shape == (*x.shape, grid.shape[-1] - order - 1)
    error = (basis.double() - scipy_basis_of_features(x, grid, order)).abs().max()
    assert error <= TOLERANCES[dtype]


@many_examples
@given(
    step=st.floats(0.05, 5.0),
    start_in_steps=st.floats(-12.0, 4.0),
    n_basis=st.integers(1, 12),
    dtype=dtypes,
    positions=positions,
)
@example(step=0.4, start_in_steps=-5.5, n_basis=8, dtype=torch.float32, positions=[0.5])  # the published grid
def test_closed_form_equals_scipy(
    step: float, start_in_steps: float, n_basis: int, dtype: torch.dtype, positions: list[float]
) -> None:
    start = start_in_steps * step
    knots = torch.tensor([start + i * step for i in range(n_basis + 4)], dtype=torch.float64)
    x = points_for(knots.to(dtype), positions)
    basis = uniform_cubic_basis(x, start, step, n_basis)
    assert basis.dtype == dtype
    assert basis.shape == (*x.shape, n_basis)
    error = (basis.double() - scipy_basis_of_features(x, knots, 3)).abs().max()
    assert error <= TOLERANCES[dtype]


@many_examples
@given(
    order=orders,
    grid_size=st.integers(1, 24),
    low=st.floats(-10.0, 10.0),
    width=st.floats(0.1, 20.0),
    dtype=dtypes,
    positions=positions,
)
@example(order=3, grid_size=5, low=-1.0, width=2.0, dtype=torch.float32, positions=[0.5])
@example(order=3, grid_size=5, low=-3.0, width=6.0, dtype=torch.float32, positions=[0.5])
def test_basis_of_a_layer_equals_scipy_on_its_own_grid(
    order: int, grid_size: int, low: float, width: float, dtype: torch.dtype, positions: list[float]
) -> None:
    layer = KANLayer(1, 1, grid_size=grid_size, spline_order=order, grid_range=(low, low + width)).to(dtype)
    x = points_for(layer.grid, positions)
    error = (layer.basis(x).double() - scipy_basis_of_features(x, layer.grid, order)).abs().max()
    assert error <= TOLERANCES[dtype]


def test_every_knot_interval_is_half_open() -> None:
    knots = torch.tensor([0.0, 1.0, 2.0])
    at_knots = bspline_basis(knots.unsqueeze(1), knots, order=0).squeeze(1)
    assert torch.equal(at_knots, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))


@pytest.mark.parametrize("order", range(1, 5))
def test_splines_sum_to_one_between_the_extensions(order: int) -> None:
    grid = uniform_knots(5, order, (-3.0, 3.0))
    x = torch.linspace(-3.0, 3.0, 101)[:-1].unsqueeze(1)
    total = bspline_basis(x, grid, order).sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-6, rtol=0.0)


def test_repeated_knots_follow_scipy() -> None:
    knots = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0], dtype=torch.float64)  # a clamped cubic spline
    x = points_for(knots, torch.linspace(-0.2, 1.2, 50).tolist())
    basis = bspline_basis(x, knots)
    assert (basis - scipy_basis_of_features(x, knots, 3)).abs().max() <= FLOAT64_TOLERANCE


def test_double_layer_built_in_double_uses_the_closed_form() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        layer = KANLayer(2, 1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert layer.grid.dtype == torch.float64
    assert layer._uniform_grid is not None
    x = points_for(layer.grid, [0.1, 0.5])
    assert (layer.basis(x) - scipy_basis_of_features(x, layer.grid, 3)).abs().max() <= FLOAT64_TOLERANCE


# --- gradients -------------------------------------------------------------------------------------------------------


def irregular_knots(n_features: int) -> Tensor:
    """Knots `[in, 12]` with widths between 0.3 and 0.9, in float64."""
    generator = torch.Generator().manual_seed(3)
    widths = 0.3 + 0.6 * torch.rand(n_features, 12, generator=generator, dtype=torch.float64)
    return widths.cumsum(-1) - 4.0


def make_irregular(layer: KANLayer) -> KANLayer:
    state = layer.state_dict()
    state["grid"] = irregular_knots(layer.in_features)
    layer.load_state_dict(state)
    return layer


@pytest.mark.parametrize("shape", [(7,), (5, 3), (2, 4, 3)])
def test_gradients_of_the_closed_form(shape: tuple[int, ...]) -> None:
    x = torch.empty(shape, dtype=torch.float64).uniform_(-8.0, 8.0).requires_grad_()
    assert gradcheck(lambda x: uniform_cubic_basis(x, -6.6, 1.2, 8), x)
    assert gradgradcheck(lambda x: uniform_cubic_basis(x, -6.6, 1.2, 8), x)


@pytest.mark.parametrize("order", range(1, 5))
def test_gradients_of_the_recursion(order: int) -> None:
    torch.manual_seed(order)
    x = torch.empty(6, 3, dtype=torch.float64).uniform_(-5.0, 4.0).requires_grad_()
    assert gradcheck(lambda x: bspline_basis(x, irregular_knots(3), order), x)


def test_gradients_of_both_forms_agree_also_at_the_knots() -> None:
    knots = torch.linspace(-6.6, 6.6, 12, dtype=torch.float64)
    x = points_for(knots, [0.1, 0.3, 0.77, -0.5, 1.5])
    closed, recursion = (x.clone().requires_grad_() for _ in range(2))
    weights = torch.randn(8, dtype=torch.float64)
    torch.autograd.backward((uniform_cubic_basis(closed, -6.6, 1.2, 8) @ weights).sum())
    torch.autograd.backward((bspline_basis(recursion, knots) @ weights).sum())
    assert closed.grad is not None
    torch.testing.assert_close(closed.grad, recursion.grad, atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("make", [lambda layer: layer, make_irregular], ids=["uniform", "irregular"])
def test_gradients_of_the_whole_layer(make: Callable[[KANLayer], KANLayer]) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        layer = make(KANLayer(4, 3))
    finally:
        torch.set_default_dtype(torch.float32)
    assert (layer._uniform_grid is None) == (make is make_irregular)
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)

    def outputs(x: Tensor, *parameters: Tensor) -> Tensor:
        names = dict(layer.named_parameters())
        y: Tensor = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))
        return y

    assert gradcheck(outputs, (x, *layer.parameters()))


# --- extreme inputs and low precision --------------------------------------------------------------------------------

EXTREMES = [1e15, -1e15, 1e9, -1e9, 1e4, -1e4, 0.0, -0.0, 1e-30, 3.0, -3.0, 6.6, -6.6]


def assert_finite_with_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> None:
    x = x.clone().requires_grad_()
    y = function(x)
    assert y.isfinite().all()
    torch.autograd.backward(y.float().square().sum())
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_no_basis_is_nan_far_outside_the_grid(dtype: torch.dtype) -> None:
    x = torch.tensor(EXTREMES, dtype=dtype).unsqueeze(1)
    assert_finite_with_gradient(lambda x: uniform_cubic_basis(x, -6.6, 1.2, 8), x)
    for order in range(1, 5):
        assert_finite_with_gradient(partial(bspline_basis, grid=irregular_knots(1).float(), order=order), x)
    narrow = torch.arange(6, dtype=torch.float32) * 1e-30  # ramps overflow float32 here
    assert_finite_with_gradient(lambda x: bspline_basis(x, narrow), x)


@pytest.mark.parametrize("make", [lambda layer: layer, make_irregular], ids=["uniform", "irregular"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_layer_is_nan_for_huge_inputs(dtype: torch.dtype, make: Callable[[KANLayer], KANLayer]) -> None:
    layer = make(KANLayer(4, 3)).to(dtype)
    x = torch.tensor([[1e15, -1e15, 0.0, 1.0], [1e15] * 4, [-1e15, 1.0, 2.0, 3.0], [0.0] * 4], dtype=dtype)
    assert_finite_with_gradient(layer, x)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("irregular", [False, True])
def test_nan_is_not_hidden(irregular: bool) -> None:
    layer = make_irregular(KANLayer(4, 3)) if irregular else KANLayer(4, 3)
    basis = layer.basis(torch.tensor([[torch.nan, torch.inf, -torch.inf, 0.0]]))[0]
    assert basis[0].isnan().any()
    assert torch.equal(basis[1:3], torch.zeros(2, 8))


@pytest.mark.parametrize("irregular", [False, True])
def test_bfloat16_layer_stays_near_float32(irregular: bool) -> None:
    torch.manual_seed(0)
    layer = KANLayer(64, 16, init="reference")
    layer = make_irregular(layer) if irregular else layer
    x = torch.randn(32, 64).bfloat16()
    expected = layer(x.float())
    low = copy.deepcopy(layer).bfloat16()
    y = low(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).norm() / expected.norm() < 0.02
    with torch.autocast("cpu", torch.bfloat16):
        autocast = layer(x.float())
    assert (autocast.float() - expected).norm() / expected.norm() < 0.02


def test_a_low_precision_basis_is_the_rounded_float32_basis() -> None:
    knots = uniform_knots(5, 3, (-3.0, 3.0))
    x = torch.linspace(-7.0, 7.0, 50).unsqueeze(1).bfloat16()
    assert torch.equal(bspline_basis(x, knots), bspline_basis(x.float(), knots).bfloat16())
    assert torch.equal(uniform_cubic_basis(x, -6.6, 1.2, 8), uniform_cubic_basis(x.float(), -6.6, 1.2, 8).bfloat16())


def test_knots_keep_their_precision_in_a_low_precision_layer() -> None:
    layer = KANLayer(4, 3, grid_size=40)
    knots = layer.grid.clone()
    assert torch.equal(layer.bfloat16().grid, knots)
    assert torch.equal(layer.half().float().grid, knots)
    assert layer.base_weight.dtype == torch.float32


@pytest.mark.parametrize("irregular", [False, True])
def test_edges_sum_to_the_output_and_are_what_the_layer_describes(irregular: bool) -> None:
    layer = make_irregular(KANLayer(6, 4)).double() if irregular else KANLayer(6, 4).double()
    x = 2.0 * torch.randn(3, 5, 6, dtype=torch.float64)
    values = layer.edge_values(x)
    assert values.shape == (3, 5, 4, 6)
    torch.testing.assert_close(values.sum(-1), layer(x), rtol=1e-12, atol=1e-12)
    z = layer.layer_norm(x)
    for output, entry in ((0, 0), (3, 5), (2, 1)):
        splines = scipy_basis(z[..., entry].flatten().detach().numpy(), layer.grid[entry].numpy(), 3)
        spline = splines @ layer.spline_weight[output, entry].detach().numpy()
        points = z[..., entry].flatten().detach().numpy()
        expected = float(layer.base_weight[output, entry].detach()) * points / (1 + np.exp(-points)) + spline
        np.testing.assert_allclose(values[..., output, entry].flatten().detach(), expected, rtol=1e-9, atol=1e-12)


# --- compile, export, memory -----------------------------------------------------------------------------------------

dynamo_instantiates_functions = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


def assert_same_outputs_and_gradients(compiled: Callable[[Tensor], Tensor], eager: KANLayer, batch: int) -> None:
    x = torch.randn(batch, eager.in_features)
    results = []
    for module in (compiled, eager):
        point = x.clone().requires_grad_()
        eager.zero_grad()
        y = module(point)
        y.square().sum().backward()
        results.append([y, point.grad, *(p.grad for p in eager.parameters())])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@dynamo_instantiates_functions
@pytest.mark.parametrize("irregular", [False, True])
def test_compiled_without_a_compiler_equals_eager(irregular: bool) -> None:
    torch.compiler.reset()
    layer = make_irregular(KANLayer(6, 4)) if irregular else KANLayer(6, 4)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch in (5, 9, 2):
        assert_same_outputs_and_gradients(compiled, layer, batch)


@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="inductor needs a C++ compiler"
)
@dynamo_instantiates_functions
def test_compiled_by_inductor_equals_eager() -> None:
    torch.compiler.reset()
    layer = KANLayer(6, 4)
    assert_same_outputs_and_gradients(torch.compile(layer, fullgraph=True), layer, 5)


@pytest.mark.parametrize("irregular", [False, True])
def test_exported_with_any_batch_equals_eager(irregular: bool) -> None:
    layer = make_irregular(KANLayer(6, 4)) if irregular else KANLayer(6, 4)
    program = torch.export.export(layer, (torch.randn(3, 6),), dynamic_shapes=({0: Dim("batch")},))
    exported = program.module()
    for batch in (1, 3, 17):
        x = torch.randn(batch, 6)
        torch.testing.assert_close(exported(x), layer(x), atol=1e-6, rtol=1e-6)


class LargestResult(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the number of elements of the largest tensor that any operation gave."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_no_intermediate_is_larger_than_the_basis() -> None:
    layer = KANLayer(16, 8)
    with LargestResult() as largest:
        layer(torch.randn(32, 16)).sum().backward()
    assert largest.elements == 32 * 16 * 8


# --- the published weights -------------------------------------------------------------------------------------------


def published_head_weights(seed: int = 0) -> dict[str, Tensor]:
    """A state dict as the published CNN+KAN has it, on its [-1, 1] grid made of float32 arithmetic."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.arange(-3, 9) * (2.0 / 5.0) - 1.0
    state = {}
    for name, n_in, n_out in (("kan1", 256, 64), ("kan2", 64, 5)):
        state[f"kan_head.{name}.grid"] = grid.repeat(n_in, 1)
        state[f"kan_head.{name}.spline_weight"] = 0.1 * torch.randn(n_out, n_in, 8, generator=generator)
        state[f"kan_head.{name}.base_weight"] = 1.0 + 0.1 * torch.randn(n_out, n_in, generator=generator)
        state[f"kan_head.{name}.layer_norm.weight"] = 1.0 + 0.1 * torch.randn(n_in, generator=generator)
        state[f"kan_head.{name}.layer_norm.bias"] = 0.1 * torch.randn(n_in, generator=generator)
    return state


def test_published_weights_compute_what_they_computed() -> None:
    model = ECGCNNWithKAN(num_classes=5).eval()  # the default model has another grid
    head = published_head_weights()
    model.load_state_dict({**model.state_dict(), **head}, strict=True)
    for layer in (model.kan_head.kan1, model.kan_head.kan2):
        assert layer._uniform_grid is not None  # and not by the slow recursion
        assert layer._uniform_grid == pytest.approx((-2.2, 0.4), abs=1e-6)
    features = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    hidden = reference_layer(features.double().numpy(), as_arrays(head, "kan_head.kan1."))
    expected = reference_layer(hidden, as_arrays(head, "kan_head.kan2."))
    logits = model.forward_head(features).detach().double().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_published_weights_do_not_load_when_one_is_missing() -> None:
    head = KANHead()
    state = {name.removeprefix("kan_head."): tensor for name, tensor in published_head_weights().items()}
    del state["kan2.grid"]
    with pytest.raises(RuntimeError, match=r"kan2\.grid"):
        head.load_state_dict(state)


@pytest.mark.parametrize("change", ["one row", "one knot"])
def test_a_loaded_grid_that_is_not_uniform_is_followed(change: str) -> None:
    layer = KANLayer(5, 3, init="reference")
    state = layer.state_dict()
    state["grid"] = state["grid"].clone()
    state["grid"][2] = state["grid"][2] * 1.1 if change == "one row" else state["grid"][2]
    if change == "one knot":
        state["grid"][:, 6] += 0.05
    layer.load_state_dict(state)
    assert layer._uniform_grid is None
    x = torch.randn(20, 5)
    expected = reference_layer(x.double().numpy(), as_arrays(layer.state_dict()))
    np.testing.assert_allclose(layer(x).detach().double().numpy(), expected, atol=1e-5)


def test_loading_a_uniform_grid_again_returns_to_the_closed_form() -> None:
    layer = make_irregular(KANLayer(5, 3))
    state = KANLayer(5, 3, grid_range=(-1.0, 1.0)).state_dict()
    layer.load_state_dict(state)
    assert layer._uniform_grid == pytest.approx((-2.2, 0.4), abs=1e-6)


@pytest.mark.parametrize("damage", [torch.nan, torch.inf, -100.0])
def test_a_damaged_grid_is_named(damage: float) -> None:
    layer = KANLayer(5, 3)
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    state["grid"][3, 7] = damage
    with pytest.raises(DataError, match="finite and increasing"):
        layer.load_state_dict(state)


# --- the layer as a module -------------------------------------------------------------------------------------------


def test_copies_and_pickles_compute_the_same() -> None:
    layer = KANLayer(6, 4, grid_range=(-1.0, 1.0))
    x = torch.randn(3, 6)
    stream = io.BytesIO()
    torch.save(layer.state_dict(), stream)
    stream.seek(0)
    loaded = KANLayer(6, 4)
    loaded.load_state_dict(torch.load(stream, weights_only=True))
    averaged = AveragedModel(layer, use_buffers=True)
    averaged.update_parameters(layer)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded, averaged):
        assert torch.equal(other(x), layer(x))


def test_a_copy_keeps_following_the_grids_it_loads() -> None:
    other = copy.deepcopy(KANLayer(6, 4))
    assert make_irregular(other)._uniform_grid is None


def test_casts_follow_the_grid() -> None:
    layer = KANLayer(6, 4)
    x = torch.randn(3, 6)
    y = layer(x)
    double = copy.deepcopy(layer).double()
    torch.testing.assert_close(double(x.double()).float(), y, atol=1e-5, rtol=0.0)
    assert torch.equal(double.float()(x), y)


def test_a_layer_made_on_meta_loads() -> None:
    layer = KANLayer(6, 4)
    with torch.device("meta"):
        other = KANLayer(6, 4)
    assert other(torch.randn(2, 6, device="meta")).shape == (2, 4)
    other = other.to_empty(device="cpu")
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6)
    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize("irregular", [False, True])
def test_leading_dimensions(irregular: bool) -> None:
    layer = make_irregular(KANLayer(6, 4)) if irregular else KANLayer(6, 4)
    x = torch.randn(2, 3, 6)
    y = layer(x)
    assert y.shape == (2, 3, 4)
    torch.testing.assert_close(y.flatten(0, 1), layer(x.flatten(0, 1)))
    torch.testing.assert_close(y[1, 2], layer(x[1, 2]))


def test_inference_mode_gives_the_same() -> None:
    layer = KANLayer(6, 4)
    x = torch.randn(3, 6)
    with torch.inference_mode():
        y = layer(x)
    assert torch.equal(y, layer(x))


@pytest.mark.parametrize("irregular", [False, True])
@pytest.mark.parametrize("shape", [(0, 6), (2, 0, 6)])
def test_empty_batch(irregular: bool, shape: tuple[int, ...]) -> None:
    layer = make_irregular(KANLayer(6, 4)) if irregular else KANLayer(6, 4)
    x = torch.empty(shape, requires_grad=True)
    y = layer(x)
    assert y.shape == (*shape[:-1], 4)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape


def test_a_single_number_has_a_basis() -> None:
    x = torch.tensor(0.3)
    assert torch.equal(uniform_cubic_basis(x, -2.2, 0.4, 8), uniform_cubic_basis(x[None], -2.2, 0.4, 8)[0])


@pytest.mark.parametrize("order", range(5))
def test_layers_of_every_order_learn(order: int) -> None:
    layer = KANLayer(6, 4, spline_order=order)
    layer(torch.randn(8, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


@many_examples
@given(grid_size=st.integers(1, 50), order=orders, low=st.floats(-100, 100), width=st.floats(0.01, 100))
def test_knots_cover_the_range_and_its_extension(grid_size: int, order: int, low: float, width: float) -> None:
    high = low + width
    assume(high > low)
    knots = uniform_knots(grid_size, order, (low, high)).double()
    assert len(knots) == grid_size + 2 * order + 1
    step = (high - low) / grid_size
    expected = low + step * (torch.arange(len(knots), dtype=torch.float64) - order)
    torch.testing.assert_close(knots, expected, rtol=1e-6, atol=1e-6 * max(abs(low), abs(high), step))


# --- initialization --------------------------------------------------------------------------------------------------


def test_reference_initialization() -> None:
    torch.manual_seed(0)
    layer = KANLayer(256, 64, grid_range=(-1.0, 1.0), init="reference")
    assert torch.equal(layer.base_weight, torch.ones(64, 256))
    assert float(layer.spline_weight.detach().mean()) == pytest.approx(0.0, abs=0.001)
    assert float(layer.spline_weight.detach().std()) == pytest.approx(0.1, rel=0.02)
    torch.testing.assert_close(layer.grid[7], torch.arange(-3, 9) * 0.4 - 1.0)


def test_default_initialization_keeps_the_scale_and_separates_the_outputs() -> None:
    torch.manual_seed(0)
    layer = KANLayer(256, 64)
    assert (float(layer.grid[0, 3]), float(layer.grid[0, -4])) == (-3.0, 3.0)
    y = layer(torch.randn(512, 256)).detach()
    assert 0.5 < float(y.std(0).mean()) < 1.5
    assert float(torch.corrcoef(y.T).fill_diagonal_(0.0).abs().mean()) < 0.5


def test_layers_of_one_seed_are_equal() -> None:
    layers = []
    for _ in range(2):
        torch.manual_seed(11)
        layers.append(KANLayer(8, 4).state_dict())
    assert all(torch.equal(layers[0][name], layers[1][name]) for name in layers[0])


# --- the head --------------------------------------------------------------------------------------------------------


def test_head_drops_hidden_units_in_training_only() -> None:
    torch.manual_seed(0)
    head = KANHead(8, 16, 5)
    x = torch.randn(4, 8)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))
    assert isinstance(head.dropout, nn.Dropout)
    assert head.dropout.p == 0.3


def test_the_examples_in_the_documentation_are_right() -> None:
    results = doctest.testmod(kan)
    assert results.attempted > 0
    assert results.failed == 0


def test_printed_form_names_the_sizes() -> None:
    assert "6, 4, grid=[6, 12]" in repr(KANLayer(6, 4))


# --- wrong arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: KANLayer(0, 4), ValueError, "at least one input"),
        (lambda: KANLayer(4, 0), ValueError, "at least one input"),
        (lambda: KANLayer(4, 4, grid_size=0), ValueError, "grid_size=0"),
        (lambda: KANLayer(4, 4, spline_order=-1), ValueError, "order=-1"),
        (lambda: KANLayer(4, 4, grid_range=(1.0, 1.0)), ValueError, "low < high"),
        (lambda: KANLayer(4, 4, grid_range=(-np.inf, 1.0)), ValueError, "finite"),
        (lambda: KANLayer(4, 4, grid_range=(0.0, np.nan)), ValueError, "finite"),
        (lambda: KANLayer(4, 4, init="zeros"), ValueError, "unknown init 'zeros'"),  # type: ignore[arg-type]
        (lambda: KANHead(dropout=1.5), ValueError, "dropout"),
        (lambda: KANLayer(4, 4)(torch.zeros(2, 5)), ValueError, r"\[\.\.\., 4\], got \[2, 5\]"),
        (lambda: KANLayer(4, 4)(torch.tensor(1.0)), ValueError, r"\[\.\.\., 4\], got \[\]"),
        (lambda: uniform_cubic_basis(torch.zeros(3), 0.0, 0.0, 8), ValueError, "step=0.0"),
        (lambda: uniform_cubic_basis(torch.zeros(3), 0.0, 1.0, 0), ValueError, "n_basis=0"),
        (lambda: uniform_cubic_basis(torch.zeros(3, dtype=torch.int64), 0.0, 1.0, 8), TypeError, "floating-point"),
        (lambda: bspline_basis(torch.zeros(3, dtype=torch.int64), torch.arange(8.0)), TypeError, "floating-point"),
        (lambda: bspline_basis(torch.zeros(3), torch.arange(4.0)), ValueError, "order [+] 2 knots"),
        (lambda: bspline_basis(torch.zeros(3), torch.arange(8.0), -1), ValueError, "order -1"),
        (lambda: bspline_basis(torch.zeros(3), torch.tensor(1.0)), ValueError, "shape"),
        (lambda: bspline_basis(torch.zeros(2, 3), torch.zeros(4, 8)), ValueError, "4 features"),
        (lambda: bspline_basis(torch.tensor(0.0), torch.zeros(4, 8)), ValueError, "4 features"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_batch_norm_before_the_splines_and_the_defaults_names_unchanged() -> None:
    layer = KANLayer(6, 4, normalization="batch")
    x = torch.randn(50, 6) * 3 + 1
    z = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), layer.edge_functions(z).sum(-1), rtol=1e-4, atol=1e-5)
    layer.eval()
    torch.testing.assert_close(layer(x.view(5, 10, 6)).view(50, 4), layer(x))
    assert not any("layer_norm" in name for name in layer.state_dict())
    assert {name.partition(".")[0] for name in KANLayer(6, 4).state_dict()} == {
        "grid",
        "spline_weight",
        "base_weight",
        "layer_norm",
    }
    with pytest.raises(ValueError, match="unknown normalization 'group'"):
        KANLayer(6, 4, normalization="group")  # type: ignore[arg-type]
