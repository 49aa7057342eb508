"""Kolmogorov-Arnold layers: every edge between two units is a learned function of one variable.

The basis has a closed form on uniform cubic grids and falls back to the Cox-de Boor recursion for
every other grid and order; both equal SciPy's B-splines. `KANLayer` holds the parametrization of the
published reference (LayerNorm, SiLU base, cubic B-splines, no bias), so that its weights load
unchanged; grid range and initialization are arguments whose defaults train better.

References
----------
C. de Boor, A Practical Guide to Splines, Springer 1978 (recursion, B-spline support).
Z. Liu et al., KAN: Kolmogorov-Arnold Networks, arXiv:2404.19756 (2024) (base + spline edges).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgkan.errors import DataError

SplineInit = Literal["kaiming", "reference"]
Normalization = Literal["layer", "batch"]


def bspline_basis(x: Tensor, grid: Tensor, order: int = 3) -> Tensor:
    """Evaluate all B-spline basis functions of a knot vector by the Cox-de Boor recursion.

    Parameters
    ----------
    x : Tensor
        Points, shape `[..., in_features]`, floating point. Precisions below float32 are computed in
        float32 and rounded at the end.
    grid : Tensor
        Increasing knots, shape `[n_knots]` (shared) or `[in_features, n_knots]`. A spline on repeated
        knots without width between them is 0, as de Boor defines it.
    order : int
        Polynomial degree k; 3 is cubic.

    Returns
    -------
    Tensor
        Shape `[..., in_features, n_knots - order - 1]`, dtype of `x`. Knot intervals are half-open
        `[t_i, t_i+1)`, and the basis is zero outside its support.

    Raises
    ------
    ValueError
        If there are too few knots for the order, or `grid` has rows for another number of features.
    TypeError
        If `x` is not floating point.

    Examples
    --------
    >>> bspline_basis(torch.tensor([0.25]), torch.tensor([0.0, 1.0, 2.0]), order=1)
    tensor([[0.2500]])
    """
    _check_basis_arguments(x, grid, order)
    points, knots = _widen(x).unsqueeze(-1), _widen(grid)  # (..., in, 1), (in, n_knots)
    basis = ((points >= knots[..., :-1]) & (points < knots[..., 1:])).to(points.dtype)  # (..., in, n_knots - 1)
    for k in range(1, order + 1):
        width = knots[..., k:] - knots[..., :-k]  # of the support of each spline of degree k - 1
        ramp = (points - knots[..., :-k]) / width.where(width > 0, 1.0)
        # On its support a spline's ramp lies in [0, 1]. Outside, the spline is 0 and the ramp could be inf: inf * 0.
        ramp = ramp.clamp(0.0, 1.0)
        basis = ramp[..., :-1] * basis[..., :-1] + (1.0 - ramp[..., 1:]) * basis[..., 1:]
    return basis.to(x.dtype)


def _widen(x: Tensor) -> Tensor:
    return x if x.dtype.itemsize >= 4 else x.float()


def _check_basis_arguments(x: Tensor, grid: Tensor, order: int) -> None:
    if not x.is_floating_point():
        raise TypeError(f"B-splines are evaluated at points of a floating-point dtype, got {x.dtype}; use x.float()")
    if order < 0 or grid.ndim not in (1, 2) or grid.shape[-1] < order + 2:
        raise ValueError(
            f"a B-spline basis of order {order} needs order >= 0 and a grid of shape [n_knots] or [in_features, "
            f"n_knots] with at least order + 2 knots, got shape {list(grid.shape)}"
        )
    if grid.ndim == 2 and grid.shape[:1] != x.shape[-1:]:
        raise ValueError(f"the grid has knots for {grid.shape[0]} features, but x has shape {list(x.shape)}")


class _UniformCubicBasis(torch.autograd.Function):
    """Cubic B-splines on knots `start + i * step`, with the analytic derivative.

    With s the distance to a spline's centre in steps, its value is `((2 - s)+^3 - 4 (1 - s)+^3) / 6`:
    no recursion, no branches. Only `x` is kept for the backward pass.

    The result is `[..., in, n_basis]`, but in memory the points lie innermost. Then every step below runs over
    contiguous points instead of `n_basis` numbers at a time, and the matrix product that follows reads the
    result as it is, transposed; `benchmarks/kan_layer.py` measures the layer.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: float, step: float, n_basis: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x)
        ctx.uniform_grid = (start, step, n_basis)
        outer, inner = _hats(_offsets_from_centres(x, start, step, n_basis).abs_(), step)
        basis = outer.pow_(3).sub_(inner.pow_(3), alpha=4.0)  # (in, n_basis, ...)
        return basis.movedim((0, 1), (-2, -1))  # (..., in, n_basis)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (x,) = ctx.saved_tensors
        start, step, n_basis = ctx.uniform_grid
        offsets = _offsets_from_centres(x, start, step, n_basis)
        sign = offsets.sign()
        outer, inner = _hats(offsets.abs_(), step)
        slope = outer.pow_(2).sub_(inner.pow_(2), alpha=4.0).mul_(sign)  # (in, n_basis, ...)
        grad_x = slope.mul_(grad_outputs[0].movedim((-2, -1), (0, 1))).sum(1)  # (in, ...)
        return grad_x.mul_(-3.0 * _HAT_UNIT / step).movedim(0, -1), None, None, None


_HAT_UNIT = 6.0 ** (-1.0 / 3.0)
"""Hats in this unit make the 1/6 of the formula part of the cubes."""


def _offsets_from_centres(x: Tensor, start: float, step: float, n_basis: int) -> Tensor:
    # Spline j is supported on [start + j step, start + (j + 4) step); its centre is at j + 2. The difference is
    # taken before anything is scaled: it is exact near a centre, however far the grid lies from 0.
    centres = torch.tensor([start + (j + 2) * step for j in range(n_basis)], dtype=x.dtype, device=x.device)
    points = x.movedim(-1, 0).contiguous().unsqueeze(1)  # (..., in) -> (in, 1, ...)
    return points - centres.view(-1, *[1] * (x.ndim - 1))  # (in, n_basis, ...)


def _hats(distance: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Return `(2 - s)+` and `(1 - s)+` in `_HAT_UNIT`, with s = `distance / step`; overwrites `distance`."""
    outer = distance.mul_(-_HAT_UNIT / step).add_(2.0 * _HAT_UNIT).clamp_min_(0.0)
    return outer, (outer - _HAT_UNIT).clamp_min_(0.0)


def uniform_cubic_basis(x: Tensor, start: float, step: float, n_basis: int) -> Tensor:
    """Evaluate the cubic B-splines on the uniform knots `start + i * step` in closed form.

    Equals `bspline_basis(x, grid, order=3)` for that grid. Differentiable any number of times.

    Parameters
    ----------
    x : Tensor
        Points, shape `[...]`, floating point. Precisions below float32 are computed in float32 and rounded at the end.
    start, step : float
        First knot, and distance between knots (> 0).
    n_basis : int
        Number of basis functions: number of knots - 4.

    Returns
    -------
    Tensor
        Shape `[..., n_basis]`, dtype of `x`, a transposed view in memory.

    Raises
    ------
    ValueError
        If `step` or `n_basis` is not positive.
    TypeError
        If `x` is not floating point.
    """
    if not step > 0 or n_basis < 1:
        raise ValueError(f"a uniform basis needs step > 0 and n_basis >= 1, got step={step}, n_basis={n_basis}")
    if not x.is_floating_point():
        raise TypeError(f"B-splines are evaluated at points of a floating-point dtype, got {x.dtype}; use x.float()")
    if x.ndim == 0:
        return uniform_cubic_basis(x.unsqueeze(0), start, step, n_basis).squeeze(0)
    basis = cast(Tensor, _UniformCubicBasis.apply(_widen(x), start, step, n_basis))  # type: ignore[no-untyped-call]
    return basis.to(x.dtype)


def uniform_knots(grid_size: int, order: int, grid_range: tuple[float, float]) -> Tensor:
    """Return `grid_size` equal intervals over `grid_range`, extended by `order` knots on each side.

    Returns
    -------
    Tensor
        Shape `[grid_size + 2 * order + 1]`, PyTorch's default dtype, but at least float32.

    Raises
    ------
    ValueError
        If there is no interval, no finite range, or a negative order.
    """
    low, high = grid_range
    if grid_size < 1 or order < 0 or not -math.inf < low < high < math.inf:
        raise ValueError(
            "a spline grid needs grid_size >= 1, order >= 0 and finite low < high, "
            f"got grid_size={grid_size}, order={order}, range={grid_range}"
        )
    step = (high - low) / grid_size
    knots = torch.arange(-order, grid_size + order + 1, dtype=torch.float64).mul(step).add(low)
    return knots.to(torch.promote_types(torch.get_default_dtype(), torch.float32))


class KANLayer(nn.Module):
    """One Kolmogorov-Arnold layer: `base_weight · SiLU(z) + Σ_j spline_weight_j · B_j(z)`, z = LayerNorm(x).

    Parameters
    ----------
    in_features, out_features : int
        Number of inputs and outputs.
    grid_size : int
        Number of spline intervals over `grid_range`.
    spline_order : int
        Polynomial degree of the splines.
    grid_range : (float, float)
        Where the spline intervals lie, in units of the normalized input. After LayerNorm a third of
        the inputs fall outside the reference's (-1, 1), where its splines fade to nothing; (-3, 3) holds nearly all.
    init : {"kaiming", "reference"}
        "kaiming" scales base weights by fan-in and starts the splines small, so that outputs start
        different and edges start as SiLU; "reference" sets all base weights to 1 and draws spline
        weights from N(0, 0.1), as published.
    normalization : {"layer", "batch"}
        What brings the inputs to the splines' range: "layer" over the features of each beat, as published, "batch"
        over the beats of a batch, feature by feature.

    Attributes
    ----------
    grid : Tensor
        Knots, `[in_features, grid_size + 2 * spline_order + 1]` (a buffer: it travels with the weights). It keeps
        at least float32 when the layer is cast to a lower precision, where knots would lose their even spacing.
    spline_weight : Parameter
        `[out_features, in_features, grid_size + spline_order]`.
    base_weight : Parameter
        `[out_features, in_features]`.

    Raises
    ------
    ValueError
        If a size, the grid or `init` is not a possible one.

    Examples
    --------
    >>> layer = KANLayer(256, 64)
    >>> layer(torch.randn(128, 256)).shape
    torch.Size([128, 64])
    """

    grid: Tensor
    layer_norm: nn.LayerNorm
    batch_norm: nn.BatchNorm1d

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        grid_size: int = 5,
        spline_order: int = 3,
        grid_range: tuple[float, float] = (-3.0, 3.0),
        init: SplineInit = "kaiming",
        normalization: Normalization = "layer",
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"a KAN layer needs at least one input and output, got {in_features} -> {out_features}")
        self.in_features = in_features
        self.out_features = out_features
        self.spline_order = spline_order
        self.normalization = normalization
        if normalization == "layer":
            self.layer_norm = nn.LayerNorm(in_features)
        elif normalization == "batch":
            self.batch_norm = nn.BatchNorm1d(in_features)
        else:
            raise ValueError(f"unknown normalization {normalization!r}; expected 'layer' or 'batch'")
        knots = uniform_knots(grid_size, spline_order, grid_range)
        self.register_buffer("grid", knots.repeat(in_features, 1))
        self.spline_weight = nn.Parameter(torch.empty(out_features, in_features, grid_size + spline_order))
        self.base_weight = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters(init)
        self._uniform_grid = _find_uniform_grid(self.grid)
        self.register_load_state_dict_post_hook(_refresh_uniform_grid)  # type: ignore[no-untyped-call]

    def reset_parameters(self, init: SplineInit) -> None:
        """Initialize the weights in place; see the class for what `init` means."""
        with torch.no_grad():
            if init == "reference":
                self.base_weight.fill_(1.0)
                self.spline_weight.normal_(0.0, 0.1)
            elif init == "kaiming":
                # SiLU halves the variance of a standard normal twice over (E[silu(z)^2] ~ 0.36).
                self.base_weight.normal_(0.0, math.sqrt(2.0 / self.in_features))
                self.spline_weight.normal_(0.0, 0.1 / math.sqrt(self.in_features))
            else:
                raise ValueError(f"unknown init {init!r}; expected 'kaiming' or 'reference'")

    def normalize(self, x: Tensor) -> Tensor:
        """Bring inputs to the splines' range: `[..., in_features]` → `[..., in_features]`."""
        if self.normalization == "layer":
            return cast(Tensor, self.layer_norm(x))
        return cast(Tensor, self.batch_norm(x.reshape(-1, self.in_features)).view_as(x))

    def basis(self, z: Tensor) -> Tensor:
        """Evaluate the spline basis at normalized inputs: `[..., in]` → `[..., in, grid_size + order]`."""
        if self._uniform_grid is not None and self.spline_order == 3:
            start, step = self._uniform_grid
            return uniform_cubic_basis(z, start, step, self.spline_weight.shape[-1])
        return bspline_basis(z, self.grid, self.spline_order)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer: `[..., in_features]` → `[..., out_features]`, dtype of `x`."""
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"expected input of shape [..., {self.in_features}], got {list(x.shape)}")
        z = self.normalize(x)  # (..., in)
        splines = self.basis(z).flatten(-2)  # (..., in * n_basis)
        return F.linear(F.silu(z), self.base_weight) + F.linear(splines, self.spline_weight.flatten(1))

    def edge_functions(self, z: Tensor) -> Tensor:
        """Evaluate the learned function of each edge at normalized inputs: `[..., in]` → `[..., out, in]`."""
        splines = torch.einsum("...ik,oik->...oi", self.basis(z), self.spline_weight)
        return self.base_weight * F.silu(z).unsqueeze(-2) + splines

    def edge_values(self, x: Tensor) -> Tensor:
        """Return what each edge adds to each output: `[..., in_features]` → `[..., out, in]`.

        Summed over the inputs they are the layer's output, up to rounding. They take `out` times the memory of the
        forward pass, which never forms them.
        """
        return self.edge_functions(self.normalize(x))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        knots = self.grid
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.grid.dtype.itemsize < 4:
            self.grid = knots.to(self.grid.device)
        self._uniform_grid = _find_uniform_grid(self.grid)
        return self

    def extra_repr(self) -> str:
        """Describe the layer's sizes in its printed form."""
        return f"{self.in_features}, {self.out_features}, grid={list(self.grid.shape)}"


def _find_uniform_grid(grid: Tensor) -> tuple[float, float] | None:
    """Return (start, step) if all rows of `grid` are one uniform knot vector, to its precision.

    Read once per load or cast and kept as plain numbers: a data-dependent branch in `forward` would break
    torch.compile and torch.export. The tolerance keeps the closed form within 1e-6 (float32) of the
    splines on the knots as they are.
    """
    if grid.is_meta:
        return None
    knots = grid.detach().double().cpu()
    if not torch.equal(knots, knots[:1].expand_as(knots)):
        return None
    steps = torch.arange(knots.shape[1], dtype=torch.float64)
    centred = steps - steps.mean()
    step = float((centred * knots[0]).sum() / centred.square().sum())  # the least-squares line through the knots
    start = float(knots[0].mean() - step * steps.mean())
    deviation = float((knots[0] - start - step * steps).abs().max())
    tolerance = 1e-13 if grid.dtype == torch.float64 else 7e-7
    return (start, step) if step > 0 and deviation <= tolerance * step else None


def _refresh_uniform_grid(module: nn.Module, _incompatible_keys: object) -> None:
    layer = cast(KANLayer, module)
    _check_knots(layer.grid)
    layer._uniform_grid = _find_uniform_grid(layer.grid)


def _check_knots(grid: Tensor) -> None:
    if grid.is_meta or bool((grid.isfinite().all(-1) & (grid.diff(dim=-1) >= 0).all(-1)).all()):
        return
    raise DataError(
        f"a KAN layer was given a grid of shape {list(grid.shape)} whose knots are not all finite and increasing; "
        "its weights are damaged or belong to another layer: load them from a sound checkpoint"
    )


class KANHead(nn.Module):
    """Two KAN layers with dropout between them: encoder features → class logits.

    Parameters
    ----------
    in_features, hidden_features, num_classes : int
        Sizes; the published head is 256 → 64 → 5.
    dropout : float
        Probability of dropping a hidden unit.
    grid_size, grid_range, init, normalization
        See `KANLayer`.
    """

    def __init__(
        self,
        in_features: int = 256,
        hidden_features: int = 64,
        num_classes: int = 5,
        *,
        dropout: float = 0.3,
        grid_size: int = 5,
        grid_range: tuple[float, float] = (-3.0, 3.0),
        init: SplineInit = "kaiming",
        normalization: Normalization = "layer",
    ) -> None:
        super().__init__()
        layer = partial(KANLayer, grid_size=grid_size, grid_range=grid_range, init=init, normalization=normalization)
        self.kan1 = layer(in_features, hidden_features)
        self.dropout = nn.Dropout(dropout)
        self.kan2 = layer(hidden_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map features to logits: `[batch, in_features]` → `[batch, num_classes]`."""
        hidden = self.dropout(self.kan1(features))  # (B, 64)
        return cast(Tensor, self.kan2(hidden))  # (B, 5)
