"""Formulas for learned edge functions: `c · f(a·z + b) + d` with f from a small library, chosen by weighted R².

The outer c and d follow from least squares; the inner a and b are searched on a grid that closes in on its best point.
Where the data lies decides: points are given with weights, or drawn as quantiles of the data (`quantile_points`).

References
----------
Z. Liu et al., KAN: Kolmogorov-Arnold Networks, arXiv:2404.19756 (2024), section 2.5.1 (symbolification).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PENALTY: Final = 0.002
"""What each level of complexity costs, in R²: a formula a level more complex must explain that much more."""


class Shape(NamedTuple):
    """A function of the library.

    Attributes
    ----------
    name : str
        What tables call it.
    function : callable
        Elementwise, Tensor to Tensor.
    complexity : int
        Levels of penalty: 0 for the straight line, and more for what is harder to read.
    template : str
        The formula, with the argument as `{u}`.
    slopes : str
        Inner slopes a to search: "fixed" (1; another scale would change nothing), "either sign" (1 and -1), "positive"
        (for even and odd shapes) or "signed".
    shifts : bool
        Whether inner shifts b are searched; they would change nothing in `exp` or a straight line.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    complexity: int
    template: str
    slopes: str
    shifts: bool


LIBRARY: Final = (
    Shape("linear", lambda u: u, 0, "{u}", "fixed", shifts=False),
    Shape("quadratic", torch.square, 1, "({u})²", "fixed", shifts=True),
    Shape("absolute value", torch.abs, 1, "|{u}|", "fixed", shifts=True),
    Shape("ReLU", torch.relu, 1, "max(0, {u})", "either sign", shifts=True),
    Shape("exponential", torch.exp, 2, "exp({u})", "signed", shifts=False),
    Shape("cubic", lambda u: u**3, 2, "({u})³", "fixed", shifts=True),
    Shape("tanh", torch.tanh, 3, "tanh({u})", "positive", shifts=True),
    Shape("Gaussian", lambda u: torch.exp(-u.square()), 3, "exp(−({u})²)", "positive", shifts=True),
    Shape("SiLU", F.silu, 2, "SiLU({u})", "signed", shifts=True),
    Shape("sine", torch.sin, 3, "sin({u})", "positive", shifts=True),
    Shape("logarithm", lambda u: torch.log1p(u.abs()), 3, "ln(1 + |{u}|)", "positive", shifts=True),
)
"""What is tried. The logistic sigmoid is a tanh with other constants, and so is not listed beside it."""


@dataclass(frozen=True, slots=True)
class SymbolicFit:
    """A formula `c · f(a·z + b) + d` for an edge, and how well it fits.

    Attributes
    ----------
    shape : str
        Name of f in `LIBRARY`.
    a, b, c, d : float
        Inner slope and shift, outer factor and constant.
    r2 : float
        Share of the edge's variance over the data that the formula explains; 1 is exact.
    score : float
        R² minus `PENALTY` for each level of the shape's complexity.
    """

    shape: str
    a: float
    b: float
    c: float
    d: float
    r2: float
    score: float

    def __call__(self, z: Tensor) -> Tensor:
        """Evaluate the formula: `[...]` → `[...]`."""
        return self.c * _shape_named(self.shape).function(self.a * z + self.b) + self.d

    def __str__(self) -> str:
        """Write the formula of z with three significant digits."""
        return self.text("z")

    def text(self, variable: str) -> str:
        """Write the formula of a variable with three significant digits."""
        argument = _sum_text(f"{_factor_text(self.a)}{variable}", self.b)
        if self.shape == "linear":
            return _sum_text(f"{_factor_text(self.c * self.a)}{variable}", self.c * self.b + self.d)
        inner = _shape_named(self.shape).template.format(u=argument)
        return _sum_text(f"{_factor_text(self.c)}{inner}", self.d)


def quantile_points(z: Tensor, n_points: int = 256) -> Tensor:
    """Return points that stand for equal shares of the data, so that unweighted sums over them are means over the data.

    Parameters
    ----------
    z : Tensor
        `[n]`, an input's values at the beats.
    n_points : int
        Number of points.

    Returns
    -------
    Tensor
        `[n_points]` float64, increasing: quantiles in the middle of equal shares.
    """
    shares = (torch.arange(n_points, dtype=torch.float64) + 0.5) / n_points
    return torch.quantile(z.double(), shares)


def fit_symbolic(z: Tensor, values: Tensor, weights: Tensor | None = None) -> tuple[SymbolicFit, ...]:
    """Fit every shape of the library to an edge function; the best by penalized R² comes first.

    Parameters
    ----------
    z : Tensor
        `[n]`, points where the function is known.
    values : Tensor
        `[n]`, its values there.
    weights : Tensor, optional
        `[n]`, how much each point counts, such as the density of the data there; equal by default, which is right for
        `quantile_points`.

    Returns
    -------
    tuple of SymbolicFit
        One per shape, ordered by score.

    Raises
    ------
    ValueError
        If there are fewer than five distinct points, shapes differ, or the function is constant.

    Examples
    --------
    >>> z = torch.linspace(-2.0, 2.0, 200)
    >>> print(fit_symbolic(z, 2 * torch.tanh(3 * z) + 1)[0])
    2 tanh(3 z) + 1
    """
    weights = torch.ones_like(z) if weights is None else weights
    if z.ndim != 1 or z.shape != values.shape or z.shape != weights.shape or _distinct(z) < 5:
        raise ValueError(
            f"a formula needs at least five distinct points and a value and a weight for each, got {list(z.shape)} "
            f"points, {list(values.shape)} values and {list(weights.shape)} weights"
        )
    z, values, weights = z.double(), values.double(), weights.double() / weights.double().sum()
    if not float(_variance(values, weights)) > 0:
        raise ValueError("the edge function is constant on the data: there is nothing to fit")
    fits = [_fit_shape(shape, z, values, weights) for shape in LIBRARY]
    return tuple(sorted(fits, key=lambda fit: -fit.score))


_ROUNDS: Final = 9
_SLOPES: Final = torch.logspace(-1.0, 1.0, 17, dtype=torch.float64)
"""Inner slopes tried first, per standard deviation of z."""
_SHIFTS: Final = torch.linspace(-3.0, 3.0, 19, dtype=torch.float64)
"""Where the shape's centre is tried first, in standard deviations of z from its mean."""


def _fit_shape(shape: Shape, z: Tensor, values: Tensor, weights: Tensor) -> SymbolicFit:
    """Search the inner slope and centre in standardized coordinates u: `f(slope · (u - centre))`."""
    mean, scale = float(weights @ z), float(_variance(z, weights).sqrt())
    u = (z - mean) / scale
    best = (-torch.inf, 1.0, 0.0)
    for sign in (1.0, -1.0) if shape.slopes in ("signed", "either sign") else (1.0,):
        best = max(best, _search(shape, sign, u, values, weights))
    _, slope, centre = best
    a = slope / scale if shape.slopes in ("positive", "signed") else slope
    b = -slope * (mean / scale + centre) if shape.slopes in ("positive", "signed") else -slope * (mean + centre * scale)
    if not shape.shifts:
        b = 0.0  # exp(a z + b) and a straight line have their shift in c and d
    if shape.name == "sine":
        b = math.remainder(b, 2 * math.pi)
    c, d, r2 = (float(value) for value in _outer_fit(shape.function(a * z + b)[None], values, weights))
    return SymbolicFit(shape.name, a, b, c, d, r2, r2 - PENALTY * shape.complexity)


def _search(shape: Shape, sign: float, u: Tensor, values: Tensor, weights: Tensor) -> tuple[float, float, float]:
    """Return the best R², its slope and its centre: a grid, then grids a third as wide around the best point so far."""
    log_slopes = _SLOPES.log() if shape.slopes in ("positive", "signed") else torch.zeros(1, dtype=torch.float64)
    centres = _SHIFTS if shape.shifts else torch.zeros(1, dtype=torch.float64)
    steps = [float(axis[1] - axis[0]) if len(axis) > 1 else 0.0 for axis in (log_slopes, centres)]
    best = (-torch.inf, 0.0, 0.0)
    for _ in range(_ROUNDS):
        pairs = torch.cartesian_prod(log_slopes, centres)  # (n_pairs, 2)
        inner = sign * pairs[:, :1].exp() * (u - pairs[:, 1:])  # (n_pairs, n)
        r2 = _outer_fit(shape.function(inner), values, weights)[2]
        place = int(r2.argmax())
        best = max(best, (float(r2[place]), float(pairs[place, 0]), float(pairs[place, 1])))
        log_slopes, centres = (
            torch.linspace(middle - step, middle + step, 7, dtype=torch.float64) if step > 0 else axis
            for axis, middle, step in zip((log_slopes, centres), best[1:], steps, strict=True)
        )
        steps = [step / 3 for step in steps]
    return best[0], sign * float(torch.tensor(best[1]).exp()), best[2]


def _outer_fit(shapes: Tensor, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return c, d and R² of the weighted least-squares line from each row of `shapes` `[k, n]` to the values: `[k]`."""
    shapes = shapes.nan_to_num(0.0, 0.0, 0.0)
    means, mean = shapes @ weights, values @ weights
    centred = shapes - means[:, None]
    spread = centred.square() @ weights
    # A shape that is constant on the data, to rounding, explains nothing.
    flat = spread <= 1e-18 * shapes.square().amax(-1).clamp_min(1e-30)
    c = torch.where(flat, 0.0, centred @ (weights * (values - mean)) / spread.where(~flat, 1.0))
    d = mean - c * means
    residual = (values - mean - c[:, None] * centred).square() @ weights
    return c, d, 1.0 - residual / _variance(values, weights)


def _distinct(z: Tensor) -> int:
    return 1 + int((z.sort().values.diff() > 0).sum())


def _variance(values: Tensor, weights: Tensor) -> Tensor:
    return (values - weights @ values).square() @ weights


def _shape_named(name: str) -> Shape:
    return next(shape for shape in LIBRARY if shape.name == name)


def _number_text(value: float) -> str:
    text = f"{value:.3g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−")


def _factor_text(value: float) -> str:
    text = _number_text(value)
    return {"1": "", "−1": "−"}.get(text, f"{text} ")


def _sum_text(first: str, constant: float) -> str:
    if abs(constant) < 5e-4:
        return first
    return f"{first} {'−' if constant < 0 else '+'} {_number_text(abs(constant))}"
