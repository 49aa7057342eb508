"""Time our KAN layer against a plain Cox-de Boor layer and the PyPI packages inkan and pykan.

    pip install "ecgkan[bench]"
    python benchmarks/kan_layer.py [--json FILE]

Every contender is given the same weights and a LayerNorm in front, is checked to compute the same outputs and input
gradients, and then runs 256 -> 64 in float32 on one thread. Runs are interleaved in random order; what counts is
the ratio to our layer within one round, given as median and quartiles. Times are the thread's CPU time, so
that other processes on the machine disturb them little.

Results of up to 1 MiB are allocated again in every call. With glibc's default settings the kernel may have to provide
their pages anew each time; to measure without that, set (and the output says what was set)

    MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 python benchmarks/kan_layer.py
"""

import argparse
import copy
import importlib.metadata
import json
import os
import platform
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ecgkan.models.kan import KANLayer

IN_FEATURES, OUT_FEATURES = 256, 64
CALLS_PER_RUN = {1: 20, 128: 2}
"""Batch size → calls that are timed together, so that a run takes about 2 ms."""

Step = Callable[[], None]


class CoxDeBoorLayer(nn.Module):
    """The same layer as it is usually written: the textbook's recursion, then one flattened matrix product."""

    def __init__(self, layer: KANLayer) -> None:
        super().__init__()
        self.order = layer.spline_order
        self.layer_norm = copy.deepcopy(layer.layer_norm)
        self.spline_weight = nn.Parameter(layer.spline_weight.detach().clone())
        self.base_weight = nn.Parameter(layer.base_weight.detach().clone())
        self.register_buffer("grid", layer.grid.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer: `[batch, in]` → `[batch, out]`."""
        grid = cast(Tensor, self.grid)
        z = self.layer_norm(x)
        points = z.unsqueeze(-1)
        basis = ((points >= grid[:, :-1]) & (points < grid[:, 1:])).to(z.dtype)
        for k in range(1, self.order + 1):
            left = (points - grid[:, : -k - 1]) / (grid[:, k:-1] - grid[:, : -k - 1]) * basis[..., :-1]
            right = (grid[:, k + 1 :] - points) / (grid[:, k + 1 :] - grid[:, 1:-k]) * basis[..., 1:]
            basis = left + right
        return F.linear(F.silu(z), self.base_weight) + F.linear(basis.flatten(1), self.spline_weight.flatten(1))


class FirstResult(nn.Module):
    """A layer that returns several results, reduced to the first."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return cast(Tensor, self.layer(x)[0])


def inkan_layer(layer: KANLayer, *, compile_basis: bool) -> nn.Module:
    """Build inkan's layer with the weights of ours.

    Raises
    ------
    ImportError
        If inkan is not installed.
    """
    import inkan

    other = inkan.KANLayer(layer.in_features, layer.out_features, grid_range=(-3.0, 3.0), compile_basis=compile_basis)
    other.weight.data = torch.cat([layer.spline_weight.detach().flatten(1), layer.base_weight.detach()], dim=1)
    return nn.Sequential(copy.deepcopy(layer.layer_norm), other)


def pykan_layer(layer: KANLayer) -> nn.Module:
    """Build pykan's layer with the weights of ours; it trains one more factor per edge.

    Raises
    ------
    ImportError
        If pykan, or something that it imports, is not installed.
    """
    from kan.KANLayer import KANLayer as PyKANLayer

    other = PyKANLayer(layer.in_features, layer.out_features, num=5, k=3, grid_range=[-3.0, 3.0])
    other.grid.data = layer.grid.clone()
    other.coef.data = layer.spline_weight.detach().permute(1, 0, 2).contiguous()
    other.scale_base.data = layer.base_weight.detach().T.contiguous()
    other.scale_sp.data = torch.ones_like(other.scale_sp)
    return nn.Sequential(copy.deepcopy(layer.layer_norm), FirstResult(other))


def build_contenders(layer: KANLayer) -> tuple[dict[str, nn.Module], list[str]]:
    """Return the layers to compare by name, ours first, and a remark for each one that is left out."""
    contenders: dict[str, nn.Module] = {"ecgkan": layer, "Cox-de Boor, one matmul": CoxDeBoorLayer(layer)}
    remarks = []
    builders: dict[str, Callable[[], nn.Module]] = {
        "inkan, eager": lambda: inkan_layer(layer, compile_basis=False),
        "pykan": lambda: pykan_layer(layer),
    }
    if any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        contenders["ecgkan, torch.compile"] = cast(nn.Module, torch.compile(copy.deepcopy(layer)))
        builders["inkan, compiled (its default)"] = lambda: inkan_layer(layer, compile_basis=True)
    else:
        remarks.append("compiled variants: left out, there is no C++ compiler")
    for name, build in builders.items():
        try:
            contenders[name] = build()
        except ImportError as error:
            remarks.append(f'{name}: left out, not installed ({error}); pip install "ecgkan[bench]"')
    return contenders, remarks


def largest_difference(module: nn.Module, layer: KANLayer) -> float:
    """Return the largest difference from our layer, of outputs and of input gradients, relative to their largest value.

    Raises
    ------
    RuntimeError
        If the two do not compute the same function.
    """
    x = 2.0 * torch.randn(64, layer.in_features)
    weight = torch.randn(64, layer.out_features)
    results = []
    for candidate in (module, layer):
        point = x.clone().requires_grad_()
        output = candidate(point)
        results.append((output.detach(), *torch.autograd.grad(output, point, weight)))
    differences = [
        float((actual - expected).abs().max() / expected.abs().max()) for actual, expected in zip(*results, strict=True)
    ]
    if not max(differences) < 1e-4:
        raise RuntimeError(f"{type(module).__name__} differs from our layer by {max(differences):.1e} of its scale")
    return max(differences)


def forward_step(module: nn.Module, batch: int) -> Step:
    """Return a call that runs the layer without gradients."""
    x = torch.randn(batch, IN_FEATURES)

    def step() -> None:
        with torch.no_grad():
            module(x)

    return step


def forward_backward_step(module: nn.Module, batch: int) -> Step:
    """Return a call that runs the layer and computes all its gradients, that of the input too."""
    x = torch.randn(batch, IN_FEATURES, requires_grad=True)
    gradient = torch.randn(batch, OUT_FEATURES)

    def step() -> None:
        x.grad = None
        module.zero_grad()
        torch.autograd.backward(module(x), gradient)

    return step


PASSES = {"forward": forward_step, "forward + backward": forward_backward_step}


@dataclass(frozen=True)
class Timing:
    """One contender in one setting; times in microseconds a call, ratios to our layer in the same round."""

    contender: str
    batch: int
    what: str
    median_us: float
    ratio: float
    ratio_lower_quartile: float
    ratio_upper_quartile: float


class Spread(NamedTuple):
    """Quartiles."""

    lower: float
    median: float
    upper: float


def quartiles(values: Sequence[float]) -> Spread:
    """Return the three quartiles of `values`."""
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def time_interleaved(steps: Mapping[str, Step], *, calls: int, rounds: int) -> dict[str, list[float]]:
    """Run every step once a round, in a random order; return CPU microseconds a call, by name and round."""
    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in steps}
    warm_up = 3
    for round_number in range(-warm_up, rounds):
        for name in order.sample(list(steps), len(steps)):
            start = time.thread_time_ns()
            for _ in range(calls):
                steps[name]()
            if round_number >= 0:
                times[name].append((time.thread_time_ns() - start) / 1000.0 / calls)
    return times


def compare(contenders: Mapping[str, nn.Module], *, batch: int, what: str, rounds: int) -> list[Timing]:
    """Time all contenders in one setting."""
    steps = {name: PASSES[what](module, batch) for name, module in contenders.items()}
    times = time_interleaved(steps, calls=CALLS_PER_RUN[batch], rounds=rounds)
    ours = times["ecgkan"]
    timings = []
    for name, theirs in times.items():
        ratio = quartiles([a / b for a, b in zip(theirs, ours, strict=True)])
        timings.append(Timing(name, batch, what, statistics.median(theirs), ratio.median, ratio.lower, ratio.upper))
    return timings


def describe_machine() -> dict[str, Any]:
    """Name what the figures depend on."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "malloc": {
            name: os.environ.get(name, "default") for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
        },
        **{name: _version(name) for name in ("inkan", "pykan")},
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def print_report(
    machine: Mapping[str, Any], differences: Mapping[str, float], remarks: Sequence[str], timings: Sequence[Timing]
) -> None:
    """Print the machine, then one table per setting: above 1 in "times ours", our layer is the faster one."""
    for name, value in machine.items():
        print(f"{name:15s} {value}")
    print(f"{'layer':15s} {IN_FEATURES} -> {OUT_FEATURES}, 5 intervals, cubic, float32, one thread")
    for remark in remarks:
        print(f"note            {remark}")
    settings = dict.fromkeys((timing.batch, timing.what) for timing in timings)
    for batch, what in settings:
        title = f"batch {batch}, {what}"
        print(f"\n{title:34s} {'us a call':>10s} {'times ours':>11s} {'quartiles':>15s} {'difference':>11s}")
        for t in timings:
            if (t.batch, t.what) == (batch, what):
                spread = f"{t.ratio_lower_quartile:.2f} - {t.ratio_upper_quartile:.2f}"
                difference = f"{differences[t.contender]:.1e}" if t.contender in differences else ""
                print(f"{t.contender:34s} {t.median_us:10.0f} {t.ratio:11.2f} {spread:>15s} {difference:>11s}")


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report under a temporary name, then rename it."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(report, indent=2) + "\n")
    temporary.replace(path)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time our KAN layer against other implementations of the same layer.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument("--rounds", type=int, default=50, help="interleaved runs of each layer (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: the spread needs them")
    if options.json and options.json.exists() and not options.overwrite:
        parser.error(f"{options.json} exists; give another name, or --overwrite to replace it")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    machine = describe_machine()
    layer = KANLayer(IN_FEATURES, OUT_FEATURES)
    contenders, remarks = build_contenders(layer)
    differences = {name: largest_difference(module, layer) for name, module in contenders.items() if name != "ecgkan"}
    timings = [
        timing
        for batch in CALLS_PER_RUN
        for what in PASSES
        for timing in compare(contenders, batch=batch, what=what, rounds=options.rounds)
    ]
    print_report(machine, differences, remarks, timings)
    if options.json:
        report = {"machine": machine, "remarks": remarks, "timings": [asdict(timing) for timing in timings]}
        write_json(options.json, report)
        print(f"\nwrote {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
