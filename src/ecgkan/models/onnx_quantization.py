"""Exported models in int8: static quantization of the convolutions, calibrated on beats.

`onnxruntime.quantization` gives activations one 8-bit range per tensor and weights one per output channel. The first
block stays in float32: beats carry more than 8 bits, and rounding them costs macro F1 what all other blocks together do
not (docs/export.md), while it takes a thirtieth of the time. So do the heads, which are small and decide.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BATCH: Final = 256

QUANTIZED: Final = ("Conv", "MaxPool")
"""Operators that are quantized; ReLU becomes part of the range."""

FIRST_BLOCK: Final = 3
"""Nodes of the first block: convolution, ReLU, pooling."""


def to_int8(model: bytes, beats: Mapping[str, NDArray[np.float32]], *, kept_nodes: int = FIRST_BLOCK) -> bytes:
    """Quantize an exported model.

    Parameters
    ----------
    model : bytes
        From `ecgkan.models.onnx_export.to_onnx`.
    beats : mapping
        Input name → `[n, ...]` float32: training beats, over which the range of every activation is taken.
    kept_nodes : int
        Nodes of the encoder, from its start, that stay in float32.

    Returns
    -------
    bytes
        The same inputs, outputs and metadata, but for `precision`, which is `int8`.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    graph = onnx.load_from_string(model)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    add_pre_process_metadata(graph)  # there is nothing left to fold
    blocks = [node.name for node in graph.graph.node if node.op_type in ("Conv", "Relu", "MaxPool")]
    with tempfile.TemporaryDirectory(prefix="ecgkan-") as folder:
        place = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            str(place),
            _Batches(beats),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=blocks[:kept_nodes],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantized = onnx.load(place)
    onnx.helper.set_model_props(quantized, metadata | {"precision": "int8"})
    return bytes(quantized.SerializeToString(deterministic=True))


class _Batches:
    """What `onnxruntime.quantization` asks for calibration beats."""

    def __init__(self, beats: Mapping[str, NDArray[np.float32]]) -> None:
        self._batches = self._cut(beats)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next batch, None after the last."""
        return next(self._batches, None)

    @staticmethod
    def _cut(beats: Mapping[str, NDArray[np.float32]]) -> Iterator[dict[str, NDArray[np.float32]]]:
        n = len(next(iter(beats.values())))
        for start in range(0, n, CALIBRATION_BATCH):
            yield {name: values[start : start + CALIBRATION_BATCH] for name, values in beats.items()}
