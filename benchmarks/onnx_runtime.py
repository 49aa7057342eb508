"""How long the exported models take per beat: MLP beside KAN head, int8 beside float32; and the KAN layer's forms.

One thread, warm sessions of ONNX Runtime that take turns in changing order, so that a busy machine slows all of them
alike; processor time, so that waiting for the processor does not count. Of each the fastest of the rounds, and
the median ratio over rounds. int8 needs the database (ECGKAN_DATA): it is calibrated on training beats.

Run: python benchmarks/onnx_runtime.py [--rounds 100] [--no-int8] [--forms]
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ecgkan.data.context import CONTEXT_FEATURES, SHAPE_WIDTH
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.models.kan import KANLayer
from ecgkan.models.onnx_graph import OnnxGraph
from ecgkan.models.shipped import SHIPPED_NAMES, find_model_file

BATCHES = (1, 128)


def open_session(model: bytes | str) -> Any:  # noqa: ANN401
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def beats_for(session: Any, n: int) -> dict[str, NDArray[np.float32]]:  # noqa: ANN401
    """Return n made-up beats as a session takes them."""
    rng = np.random.default_rng(0)
    shapes = {"beats": (1, 256), "shapes": (2, SHAPE_WIDTH), "rhythm": (len(CONTEXT_FEATURES),), "x": (256,)}
    names = [given.name for given in session.get_inputs()]
    return {name: rng.normal(size=(n, *shapes[name])).astype(np.float32) for name in names}


def measure(sessions: Mapping[str, Any], n: int, rounds: int) -> dict[str, NDArray[np.float64]]:
    """Return microseconds per beat of each session, `[rounds]`."""
    inputs = {name: beats_for(session, n) for name, session in sessions.items()}
    calls = max(1, 32 // n)
    taken = {name: np.zeros(rounds) for name in sessions}
    names = list(sessions)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            sessions[name].run(None, inputs[name])  # brings the weights into the caches
            started = time.process_time()
            for _ in range(calls):
                sessions[name].run(None, inputs[name])
            taken[name][turn] = 1e6 * (time.process_time() - started) / (calls * n)
    return taken


def print_table(sessions: Mapping[str, Any], rounds: int, pairs: Sequence[tuple[str, str]]) -> None:
    times = {n: measure(sessions, n, rounds) for n in BATCHES}
    print("| | " + " | ".join(f"batch {n}, µs per beat" for n in BATCHES) + " |")
    print("|---" * (len(BATCHES) + 1) + "|")
    for name in sessions:
        print(f"| {name} | " + " | ".join(f"{times[n][name].min():.1f}" for n in BATCHES) + " |")
    for one, other in pairs:
        ratios = [
            f"{times[n][one].min() / times[n][other].min():.2f} ({np.median(times[n][one] / times[n][other]):.2f})"
            for n in BATCHES
        ]
        print(f"| {one} / {other} | " + " | ".join(ratios) + " |")


def small_forms(folder: Path) -> dict[str, str]:
    from ecgkan.studies.export import export_to_file

    files = {}
    for name in SHIPPED_NAMES:
        files[f"{name}, int8"] = str(export_to_file(name, folder / f"{name}.onnx", precision="int8").path)
    return files


def layer_forms() -> dict[str, Any]:
    """Return the shipped KAN head's first layer, 256 → 64, without its normalization, in several forms."""
    model = load_checkpoint("cnn_kan").model
    layer = model.kan_head.kan1  # type: ignore[union-attr]
    assert isinstance(layer, KANLayer)
    forms = {"hats": hats, "hats, Pow": hats_by_pow, "truncated powers": truncated_powers, "recursion": recursion}
    sessions = {}
    for name, form in forms.items():
        graph = OnnxGraph()
        output = form(graph, layer)
        sessions[name] = open_session(graph.to_bytes("layer", inputs={"x": ["n", 256]}, outputs={output: ["n", 64]}))
    given = beats_for(sessions["hats"], 64)
    expected = sessions["hats"].run(None, given)[0]
    for name, session in sessions.items():
        print(f"{name}: largest difference {np.abs(session.run(None, given)[0] - expected).max():.1e}")
    return sessions


def weights_of(layer: KANLayer) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    assert layer._uniform_grid is not None
    start, step = layer._uniform_grid
    weights = layer.spline_weight.detach().double().numpy()  # (out, in, n_basis)
    return weights, start + step * np.arange(weights.shape[2] + 4), step


def hats(graph: OnnxGraph, layer: KANLayer) -> str:
    from ecgkan.models.onnx_export import _add_kan_layer, _Affine

    return _add_kan_layer(graph, "x", layer, _Affine(np.ones(1), np.zeros(1)))


def hats_by_pow(graph: OnnxGraph, layer: KANLayer) -> str:
    weights, knots, step = weights_of(layer)
    apart = graph.node("Sub", expanded(graph), graph.weights(knots[2:-2, None]))
    distance, shrunk, three = graph.node("Abs", apart), 2.0 ** (-1.0 / 3.0), graph.weights(3.0)
    outer = graph.node("HardSigmoid", distance, alpha=-0.5 / step, beta=1.0)
    inner = graph.node("HardSigmoid", distance, alpha=-shrunk / step, beta=shrunk)
    basis = graph.node("Sub", graph.node("Pow", outer, three), graph.node("Pow", inner, three))
    return joined(graph, layer, basis, weights * 8 / 6)


def truncated_powers(graph: OnnxGraph, layer: KANLayer) -> str:
    """Take `relu(z - t)^3` for knots right of the middle interval, `relu(t - z)^3` left of it, and its polynomial."""
    weights, knots, step = weights_of(layer)
    n = len(knots)
    powers = np.zeros((*weights.shape[:2], n))
    for k, factor in enumerate(np.array([1, -4, 6, -4, 1]) / 6 / step**3):
        powers[:, :, k : k + weights.shape[2]] += factor * weights
    middle = (n - 1) // 2
    left, right = np.arange(1, middle + 1), np.arange(middle + 1, n - 1)
    centre = knots[middle] + step / 2
    reach = centre - knots[: middle + 1]
    polynomial = [powers[:, :, : middle + 1] @ (factor * reach**k) for factor, k in ((3, 2), (3, 1), (1, 0))]
    clipped = graph.node("Clip", "x", graph.weights(float(knots[0])), graph.weights(float(knots[-1])))
    z = graph.node("Unsqueeze", clipped, graph.constant([1]))
    parts = [
        graph.node("Sub", graph.weights(knots[left, None]), z),
        graph.node("Sub", z, graph.weights(knots[right, None])),
    ]
    ramps = graph.node("Relu", graph.node("Concat", *parts, axis=1))
    cubes = graph.node("Mul", graph.node("Mul", ramps, ramps), ramps)
    u = graph.node("Sub", z, graph.weights(float(centre)))
    square = graph.node("Mul", u, u)
    basis = graph.node("Concat", u, square, graph.node("Mul", square, u), cubes, axis=1)
    columns = np.concatenate([np.stack(polynomial, axis=2), powers[:, :, left], powers[:, :, right]], axis=2)
    offset = (powers[:, :, : middle + 1] @ reach**3).sum(axis=1)
    return joined(graph, layer, basis, columns, offset)


def recursion(graph: OnnxGraph, layer: KANLayer) -> str:
    """Take Cox and de Boor's recursion from degree 1 on: hats, then twice a sum of products with ramps."""
    weights, knots, step = weights_of(layer)
    z = expanded(graph)
    distance = graph.node("Abs", graph.node("Sub", z, graph.weights(knots[1:-1, None])))
    basis = graph.node("HardSigmoid", distance, alpha=-1 / step, beta=1.0)  # degree 1, n + 2 of them
    scaled = graph.node("Mul", z, graph.weights(1 / step))
    for degree in (2, 3):
        count = weights.shape[2] + 3 - degree
        first, last, end = graph.constant([0]), graph.constant([1]), graph.constant([count + 1])
        axis = graph.constant([1])
        lower = graph.node("Slice", basis, first, graph.constant([count]), axis)
        upper = graph.node("Slice", basis, last, end, axis)
        up = graph.node("Sub", scaled, graph.weights(knots[:count, None] / step))
        down = graph.node("Sub", graph.weights(knots[degree + 1 : degree + 1 + count, None] / step), scaled)
        total = graph.node("Add", graph.node("Mul", up, lower), graph.node("Mul", down, upper))
        basis = graph.node("Mul", total, graph.weights(1 / degree))
    return joined(graph, layer, basis, weights)


def expanded(graph: OnnxGraph) -> str:
    return graph.node("Unsqueeze", "x", graph.constant([1]))


def joined(
    graph: OnnxGraph,
    layer: KANLayer,
    basis: str,
    columns: NDArray[np.float64],
    offset: NDArray[np.float64] | float = 0.0,
) -> str:
    """Contract a basis `[n, k, in]` with its weights `[out, in, k]`, and add the base branch."""
    flat = graph.node("Reshape", basis, graph.constant([-1, columns.shape[2] * layer.in_features]))
    base_weight = layer.base_weight.detach().double().numpy()
    silu = graph.node("Mul", "x", graph.node("Sigmoid", "x"))
    bias = np.zeros(layer.out_features) + offset
    base = graph.node("Gemm", silu, graph.weights(base_weight.T), graph.weights(bias))
    rows = columns.transpose(2, 1, 0).reshape(-1, layer.out_features)
    return graph.node("Gemm", flat, graph.weights(rows), base)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="turns of each model")
    parser.add_argument("--no-int8", action="store_true", help="float32 alone, without the database")
    parser.add_argument("--forms", action="store_true", help="the KAN layer's forms instead of whole models")
    arguments = parser.parse_args()
    if arguments.forms:
        forms = layer_forms()
        print_table(forms, arguments.rounds, [(name, "hats") for name in forms if name != "hats"])
        return
    with TemporaryDirectory() as folder:
        files = {name: str(find_model_file(name, ".onnx")) for name in SHIPPED_NAMES}
        if not arguments.no_int8:
            files |= small_forms(Path(folder))
        for name, file in files.items():
            print(f"{name}: {Path(file).stat().st_size / 1000:.0f} kB")
        sessions = {name: open_session(file) for name, file in files.items()}
        pairs = [("cnn_kan", "cnn_mlp"), ("patient_kan", "patient_mlp")]
        pairs += [(name, name.removesuffix(", int8")) for name in sessions if name.endswith("int8")]
        print_table(sessions, arguments.rounds, pairs)


if __name__ == "__main__":
    main()
