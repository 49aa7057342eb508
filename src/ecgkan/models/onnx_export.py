"""Trained models as ONNX graphs, for ONNX Runtime.

The graphs are written node by node instead of traced by `torch.onnx.export`. What is exact to fold is folded, in double
precision: batch norms into convolutions and linear layers, standardization and the class shift into what stands before
or behind them. Tracing keeps the shape of the PyTorch program, of the spline basis its small in-place steps, of
`compare_shapes` a reduction for each column; and it needs onnxscript, another dependency.
`tests/models/test_onnx_export.py` holds each graph to its PyTorch model.

A KAN layer: on a uniform grid of step h a cubic B-spline around c is `(o^3 - i^3) 8 / 6` with
`o = clip(1 - |z - c| / 2h, 0, 1)` and `i = clip((1 - |z - c| / h) / 2^(1/3), 0, 1)`. Those are two HardSigmoid nodes,
which scale and clip in one pass; there are no branches and no recursion. The factor goes into the weights.
`benchmarks/onnx_runtime.py --forms` measures other forms beside it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgkan.aami import CLASSES
from ecgkan.data.beats import NORMALIZATION_EPSILON
from ecgkan.data.context import CONTEXT_FEATURES, SHAPE_WIDTH
from ecgkan.errors import CheckpointError
from ecgkan.models.checkpoint import Checkpoint
from ecgkan.models.cnn import ECGCNN, WINDOW_SAMPLES, BeatClassifier, ConvBlock
from ecgkan.models.kan import KANHead, KANLayer
from ecgkan.models.onnx_graph import OnnxGraph
from ecgkan.models.onnx_model import METADATA_VERSION
from ecgkan.models.patient import (
    COMPARISONS,
    LIKENESS_FLOOR,
    SEGMENTS,
    SHAPE_FEATURES,
    SLOPE_FLOOR,
    SLOPES,
    PatientClassifier,
    PatientMLP,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Affine:
    """`gain * x + offset`, feature by feature: what a batch norm is once it is trained."""

    gain: Array
    offset: Array


def to_onnx(checkpoint: Checkpoint, *, raw: bool = False) -> bytes:
    """Return a trained model as an ONNX file of float32, batch of any size.

    Its outputs are `probabilities` `[batch, 5]`, `softmax(logits / temperature)` with the checkpoint's temperature, and
    `logits` `[batch, 5]`. Its inputs are those of the model: `beats` `[batch, 1, 256]`, z-scored windows, or `shapes`
    `[batch, 2, 112]` and `rhythm` `[batch, 31]`. The file's metadata say the rest; docs/export.md lists them.

    Parameters
    ----------
    checkpoint : Checkpoint
        Read from a file, which the metadata name by its hash.
    raw : bool
        Take windows in millivolts, `windows` `[batch, 256]`, and normalize them in the graph. Models of single beats
        alone: the others see more than a window.

    Raises
    ------
    CheckpointError
        If the model looks at more than a window and `raw` is asked for, or its KAN layers have other splines than cubic
        ones on a uniform grid.
    """
    graph = OnnxGraph()
    shapes: dict[str, Sequence[str | int]]
    if isinstance(checkpoint.model, PatientClassifier):
        if raw:
            raise CheckpointError(
                f"{checkpoint.path}: {checkpoint.name} looks at beats in their context, which a window does not hold; "
                "export it without --raw (raw=False)"
            )
        shapes = {"shapes": ["batch", 2, SHAPE_WIDTH], "rhythm": ["batch", len(CONTEXT_FEATURES)]}
        logits = _add_patient_model(graph, checkpoint.model)
    else:
        shapes = {"windows": ["batch", WINDOW_SAMPLES]} if raw else {"beats": ["batch", 1, WINDOW_SAMPLES]}
        logits = _add_beat_model(graph, checkpoint.model, raw=raw)
    logits = graph.rename(logits, "logits")
    divided = graph.node("Mul", logits, graph.weights(1 / checkpoint.temperature))
    graph.rename(graph.node("Softmax", divided, axis=1), "probabilities")
    outputs: dict[str, Sequence[str | int]] = {
        "probabilities": ["batch", len(CLASSES)],
        "logits": ["batch", len(CLASSES)],
    }
    return graph.to_bytes(
        checkpoint.name, inputs=shapes, outputs=outputs, metadata=metadata(checkpoint, input_name=next(iter(shapes)))
    )


def metadata(checkpoint: Checkpoint, *, input_name: str) -> dict[str, str]:
    """Return what an ONNX file says of its model: text, lists and dictionaries as JSON."""
    from ecgkan import __version__

    values: dict[str, Any] = {
        "ecgkan_format": METADATA_VERSION,
        "ecgkan_version": __version__,
        "model": checkpoint.name,
        "classes": list(checkpoint.classes),
        "input": input_name,
        "preprocessing": checkpoint.preprocessing,
        "protocol": checkpoint.protocol,
        "temperature": checkpoint.temperature,
        "weights_sha256": checkpoint.sha256,
        "precision": "float32",
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _add_beat_model(graph: OnnxGraph, model: BeatClassifier, *, raw: bool) -> str:
    if raw:
        x = graph.node("Unsqueeze", _add_normalization(graph, "windows"), graph.constant([1, 2]))  # (B, 1, 1, 256)
    else:
        x = graph.node("Unsqueeze", "beats", graph.constant([2]))
    encoded = _add_blocks(graph, x, cast(Sequence[ConvBlock], model.encoder))  # (B, 256, 1, 16)
    features = graph.node("Flatten", graph.node("GlobalAveragePool", encoded))  # (B, 256)
    if isinstance(model, ECGCNN):
        return _add_mlp(graph, features, model.classifier)
    return _add_kan_head(graph, features, cast(KANHead, model.kan_head))


def _add_normalization(graph: OnnxGraph, windows: str) -> str:
    """Z-score windows `[batch, 256]` as `ecgkan.data.beats.normalize_windows` does: in double precision."""
    from onnx import TensorProto

    wide = graph.node("Cast", windows, to=TensorProto.DOUBLE)
    centred = graph.node("Sub", wide, graph.node("ReduceMean", wide, axes=[1]))
    variance = graph.node("ReduceMean", graph.node("Mul", centred, centred), axes=[1])
    scale = graph.node("Add", graph.node("Sqrt", variance), graph.constant(NORMALIZATION_EPSILON, np.float64))
    return graph.node("Cast", graph.node("Div", centred, scale), to=TensorProto.FLOAT)


def _add_blocks(graph: OnnxGraph, x: str, blocks: Sequence[ConvBlock], first: Array | None = None) -> str:
    """Add convolution blocks; `first` are the weights of the first convolution, if not its own."""
    for index, block in enumerate(blocks):
        norm = _affine(block.norm)
        own = _double(block.conv.weight) if first is None or index else first
        padding = cast(tuple[int], block.conv.padding)[0]
        convolved = graph.convolve(x, own * norm.gain[:, None, None], norm.offset, padding=padding)
        x = graph.node("MaxPool", convolved, kernel_shape=[1, 2], strides=[1, 2])
    return x


def _add_mlp(
    graph: OnnxGraph, x: str, head: nn.Sequential, *, inputs: _Affine | None = None, shift: Array | float = 0.0
) -> str:
    """Add an MLP head, with the affine map of its inputs and a shift of its outputs folded into it."""
    for index in (0, 4):
        norm = _affine(cast(nn.BatchNorm1d, head[index + 1]))
        weight = _double(cast(nn.Linear, head[index]).weight) * norm.gain[:, None]  # (out, in)
        bias = norm.offset
        if inputs is not None and index == 0:
            weight, bias = weight * inputs.gain, bias + weight @ inputs.offset
        x = graph.node("Relu", _add_linear(graph, x, weight, bias))
    last = cast(nn.Linear, head[8])
    return _add_linear(graph, x, _double(last.weight), _double(cast(Tensor, last.bias)) + shift)


def _add_linear(graph: OnnxGraph, x: str, weight: Array, bias: Array) -> str:
    return graph.node("Gemm", x, graph.weights(weight.T), graph.weights(bias))


def _add_kan_head(
    graph: OnnxGraph, features: str, head: KANHead, *, inputs: _Affine | None = None, shift: Array | float = 0.0
) -> str:
    """Add a KAN head; see `_add_mlp` for what is folded in, and the batch norm before its second layer besides."""
    between = _affine(head.kan2.batch_norm) if head.kan2.normalization == "batch" else None
    if head.kan1.normalization == "batch":
        norm = _affine(head.kan1.batch_norm)
        if inputs is not None:
            norm = _Affine(norm.gain * inputs.gain, norm.gain * inputs.offset + norm.offset)
        z = graph.node("Add", graph.node("Mul", features, graph.weights(norm.gain)), graph.weights(norm.offset))
    else:
        if inputs is not None:
            scaled = graph.node("Mul", features, graph.weights(inputs.gain))
            features = graph.node("Add", scaled, graph.weights(inputs.offset))
        z = _add_layer_norm(graph, features, head.kan1)
    hidden = _add_kan_layer(graph, z, head.kan1, between or _Affine(np.ones(1), np.zeros(1)))
    z = _add_layer_norm(graph, hidden, head.kan2) if between is None else hidden
    return _add_kan_layer(graph, z, head.kan2, _Affine(np.ones(1), np.zeros(1) + shift))


def _add_layer_norm(graph: OnnxGraph, x: str, layer: KANLayer) -> str:
    norm = layer.layer_norm
    weight, bias = graph.weights(_double(norm.weight)), graph.weights(_double(norm.bias))
    return graph.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.eps)


def _add_kan_layer(graph: OnnxGraph, z: str, layer: KANLayer, outputs: _Affine) -> str:
    """Add a KAN layer at normalized inputs `z` `[batch, in]`, followed by an affine map of its outputs."""
    if layer._uniform_grid is None or layer.spline_order != 3:
        raise CheckpointError(
            f"a KAN layer has splines of order {layer.spline_order} on a grid of shape {list(layer.grid.shape)} that "
            "is not uniform; only cubic splines on a uniform grid can be exported: use the model with PyTorch"
        )
    (start, step), n_basis = layer._uniform_grid, layer.spline_weight.shape[-1]
    centres = start + step * (np.arange(n_basis) + 2.0)
    apart = graph.node("Sub", graph.node("Unsqueeze", z, graph.constant([1])), graph.weights(centres[:, None]))
    distance = graph.node("Abs", apart)  # (B, n_basis, in)
    shrunk = 2.0 ** (-1.0 / 3.0)
    outer = graph.node("HardSigmoid", distance, alpha=-0.5 / step, beta=1.0)
    inner = graph.node("HardSigmoid", distance, alpha=-shrunk / step, beta=shrunk)
    basis = graph.node("Sub", _add_cube(graph, outer), _add_cube(graph, inner))
    basis = graph.node("Reshape", basis, graph.constant([-1, n_basis * layer.in_features]))
    gain = np.broadcast_to(outputs.gain, layer.out_features)
    spline_weight = _double(layer.spline_weight) * gain[:, None, None] * (8.0 / 6.0)  # (out, in, n_basis)
    base_weight = _double(layer.base_weight) * gain[:, None]
    offset = np.broadcast_to(outputs.offset, layer.out_features)
    silu = graph.node("Mul", z, graph.node("Sigmoid", z))
    base = _add_linear(graph, silu, base_weight, offset)
    rows = spline_weight.transpose(2, 1, 0).reshape(-1, layer.out_features)  # (n_basis * in, out)
    return graph.node("Gemm", basis, graph.weights(rows), base)


def _add_cube(graph: OnnxGraph, x: str) -> str:
    return graph.node("Mul", graph.node("Mul", x, x), x)  # twice as fast as Pow


def _add_patient_model(graph: OnnxGraph, model: PatientClassifier) -> str:
    encoder = model.encoder
    first = _double(cast(ConvBlock, encoder.blocks[0]).conv.weight)  # (16, 3, 7), of beat, average and their difference
    first = np.stack([first[:, 0] + first[:, 2], first[:, 1] - first[:, 2]], axis=1)
    seen = graph.node("Unsqueeze", "shapes", graph.constant([2]))  # (B, 2, 1, 112)
    encoded = _add_blocks(graph, seen, cast(Sequence[ConvBlock], encoder.blocks), first)  # (B, 128, 1, 7)
    weighted = graph.node("Mul", encoded, graph.weights(_double(encoder.profile)[:, None]))
    learned = graph.node("ReduceSum", weighted, graph.constant([2, 3]), keepdims=0)  # (B, 128)
    features = graph.node("Concat", learned, _add_comparisons(graph), "rhythm", axis=1)  # (B, 170)
    named = _affine(model.standardize)
    gain = np.concatenate([np.ones(SHAPE_FEATURES), named.gain])
    inputs = _Affine(gain, np.concatenate([np.zeros(SHAPE_FEATURES), named.offset]))
    shift = _double(model.class_shift)
    if isinstance(model, PatientMLP):
        return _add_mlp(graph, features, model.classifier, inputs=inputs, shift=shift)
    return _add_kan_head(graph, features, cast(KANHead, model.kan_head), inputs=inputs, shift=shift)


def _add_comparisons(graph: OnnxGraph) -> str:
    """Compare beats with their averages as `ecgkan.models.patient.compare_shapes` does: `[batch, 11]`.

    Every sum over samples is a matrix product: one centres all segments and takes the slopes, one adds up squares.
    """
    moments = _Moments.of_segments()
    linear = graph.node("MatMul", "shapes", graph.weights(moments.linear))  # (B, 2, 139)
    beat, average = (graph.node("Gather", linear, graph.constant(row), axis=1) for row in (0, 1))
    difference = graph.node("Sub", beat, average)
    products = [
        graph.node("Mul", one, other)
        for one, other in ((beat, beat), (average, average), (beat, average), (difference, difference))
    ]
    squares = graph.node("Concat", *products, axis=1)  # (B, 4 * 139)
    sums = graph.node("Gemm", squares, graph.weights(moments.sums), graph.weights(moments.floor))  # (B, 16)
    segments = len(SEGMENTS)
    sizes = graph.constant([segments, segments, segments, 1, 2, 2, 2])
    of_beat, of_average, of_both, of_difference, total, first, second = graph.split(
        "Split", sums, sizes, outputs=7, axis=1
    )

    def number(value: float) -> str:
        return graph.weights(value)

    power = graph.node("Add", graph.node("Mul", of_beat, of_average), graph.weights(moments.likeness_floor))
    likeness = graph.node("Div", of_both, graph.node("Sqrt", power))  # (B, 3)
    strength, usual = (graph.node("Sqrt", part) for part in (of_beat, of_average))
    floor = number(0.02)
    usual_floored = graph.node("Add", usual, floor)
    ratio = graph.node("Log", graph.node("Div", graph.node("Add", strength, floor), usual_floored))
    qrs = graph.node("Gather", usual_floored, graph.constant([moments.qrs]), axis=1)
    relative = graph.node("Div", graph.node("Sqrt", of_difference), qrs)
    changed = graph.node("Log", graph.node("Add", relative, number(0.05)))
    centre = graph.node("Div", first, total)
    spread = graph.node("Sub", graph.node("Div", second, total), graph.node("Mul", centre, centre))
    widths = graph.node("Sqrt", spread)  # (B, 2), of beat and average
    scaled = graph.node("Sub", graph.node("Mul", widths, number(1 / 8)), number(1.0))
    width, usual_width = graph.split(
        "Split", graph.node("Add", widths, number(0.5)), graph.constant([1, 1]), outputs=2, axis=1
    )
    wider = graph.node("Log", graph.node("Div", width, usual_width))
    p_wave = graph.node("Gather", usual, graph.constant([moments.p_wave]), axis=1)
    usual_p = graph.node("Add", graph.node("Log", graph.node("Add", p_wave, number(0.01))), number(2.5))
    together = graph.node("Concat", likeness, ratio, changed, wider, scaled, usual_p, axis=1)
    columns = [f"{what} of {name}" for what in ("likeness", "strength") for name in SEGMENTS]
    columns += [name for name in COMPARISONS if name not in columns]
    ordered = graph.node("Gather", together, graph.constant([columns.index(name) for name in COMPARISONS]), axis=1)
    return graph.node("Clip", ordered, number(-3.0), number(3.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """The matrices of `_add_comparisons`.

    Attributes
    ----------
    linear : ndarray
        `[112, 139]`, a shape to its segments, each centred and divided by the root of its length, and its slopes.
    sums : ndarray
        `[4 * 139, 16]`, products of beat, average, both and difference to sums: three of the beat, the average and
        both, over QRS, P and T; one of the difference, over QRS; and the sum, first and second moment of the squared
        slopes of beat and average.
    floor : ndarray
        `[16]`, added to the sums.
    likeness_floor : ndarray
        `[3]`, added to the product of the powers; in `compare_shapes` to that of sums, which here are means.
    qrs, p_wave : int
        Place of the segment among the three.
    """

    linear: Array
    sums: Array
    floor: Array
    likeness_floor: Array
    qrs: int
    p_wave: int

    @classmethod
    def of_segments(cls) -> "_Moments":
        """Build them for `SEGMENTS` and `SLOPES`."""
        lengths = [part.stop - part.start for part in SEGMENTS.values()]
        linear = np.zeros((SHAPE_WIDTH, sum(lengths) + SLOPES.stop - SLOPES.start - 1))
        stops = np.cumsum(lengths)
        columns = [slice(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
        for part, place, n in zip(SEGMENTS.values(), columns, lengths, strict=True):
            linear[part, place] = (np.eye(n) - 1 / n) / np.sqrt(n)
        slopes = slice(int(stops[-1]), linear.shape[1])
        linear[SLOPES, slopes] = np.diff(np.eye(SLOPES.stop - SLOPES.start), axis=0).T
        names, width = list(SEGMENTS), linear.shape[1]
        sums, floor = np.zeros((4, width, 16)), np.zeros(16)
        for segment, place in enumerate(columns):
            for product in range(3):
                sums[product, place, 3 * product + segment] = 1
        sums[3, columns[names.index("QRS")], 9] = 1
        places = (
            np.arange(slopes.stop - slopes.start) - (slopes.stop - slopes.start - 1) / 2
        )  # small numbers cancel less
        for power in range(3):
            for product in range(2):
                sums[product, slopes, 10 + 2 * power + product] = places**power
            floor[10 + 2 * power : 12 + 2 * power] = SLOPE_FLOOR * (places**power).sum()
        likeness_floor = LIKENESS_FLOOR / np.square(np.array(lengths, dtype=np.float64))
        return cls(linear, sums.reshape(-1, 16), floor, likeness_floor, qrs=names.index("QRS"), p_wave=names.index("P"))


def _affine(norm: nn.BatchNorm1d) -> _Affine:
    mean, variance = _double(cast(Tensor, norm.running_mean)), _double(cast(Tensor, norm.running_var))
    gain = 1 / np.sqrt(variance + norm.eps)
    if norm.affine:
        gain *= _double(norm.weight)
    return _Affine(gain, (_double(norm.bias) if norm.affine else 0.0) - mean * gain)


def _double(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()
