"""Building ONNX graphs node by node. Needs no PyTorch; `onnx` is imported when the first node is made."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ONNX_OPSET: Final = 17
ONNX_IR: Final = 8
"""Versions of the format that every ONNX Runtime since 2022 reads."""


class OnnxGraph:
    """Nodes and constants of an ONNX graph; each call adds one and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401
        """Add a node of one output."""
        (output,) = self.split(operator, *inputs, outputs=1, **attributes)
        return output

    def split(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:  # noqa: ANN401
        """Add a node of several outputs."""
        from onnx import helper

        name = f"{operator.lower()}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=name, **attributes))
        return names

    def rename(self, output: str, name: str) -> str:
        """Give the output of the node that was added last the name it has outside."""
        if list(self.nodes[-1].output) != [output]:
            raise ValueError(f"{output} is not what the last node returns")
        self.nodes[-1].output[0] = name
        return name

    def constant(self, values: object, dtype: type[np.generic] = np.int64) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, dtype=dtype, order="C"), name))
        return name

    def weights(self, values: NDArray[np.floating] | float) -> str:
        """Add a float32 constant; whatever was folded into it was folded in double precision."""
        return self.constant(values, np.float32)

    def convolve(
        self,
        x: str,
        weight: NDArray[np.floating],
        bias: NDArray[np.floating],
        *,
        padding: int,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = True,
    ) -> str:
        """Convolve `[batch, in, 1, n]` with `weight` `[out, in, taps]`, with a ReLU behind it if asked for.

        There is an axis of length one more than it needs: ONNX Runtime's fastest convolutions are for images.
        """
        convolved = self.node(
            "Conv",
            x,
            self.weights(weight[:, :, None]),
            self.weights(bias),
            kernel_shape=[1, weight.shape[2]],
            strides=[1, stride],
            dilations=[1, dilation],
            pads=[0, padding, 0, padding],
        )
        return self.node("Relu", convolved) if relu else convolved

    def to_bytes(
        self,
        name: str,
        *,
        inputs: Mapping[str, Sequence[str | int]],
        outputs: Mapping[str, Sequence[str | int]],
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the graph as the bytes of an ONNX file, checked.

        Parameters
        ----------
        name : str
            Of the graph.
        inputs, outputs : mapping
            Name → shape, float32; a string in a shape names an axis of any length.
        metadata : mapping, optional
            Text that travels in the file.
        """
        import onnx
        from onnx import TensorProto, helper

        given, returned = (
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, list(shape)) for key, shape in values.items()]
            for values in (inputs, outputs)
        )
        model = helper.make_model(
            helper.make_graph(self.nodes, name, given, returned, self.constants),
            opset_imports=[helper.make_opsetid("", ONNX_OPSET)],
            ir_version=ONNX_IR,
            producer_name="ecgkan",
        )
        if metadata:
            helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))
