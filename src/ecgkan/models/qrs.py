"""The QRS detector's network as PyTorch trains it, and as ONNX Runtime computes it in `ecgkan.data.qrs`."""

from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgkan.data.qrs import BASELINE_STEPS, CLIP, DECIMATION, SCALE_FLOOR_MV, SCALE_STEPS
from ecgkan.models.onnx_graph import OnnxGraph

STEM, MIDDLE, TRUNK, MIX = 8, 16, 32, 8
"""Channels at 90 Hz, at 45 Hz, at 22.5 Hz, and back at 90 Hz."""

DILATIONS: Final = (1, 2, 4, 8, 16, 32, 1, 2, 4, 8)
"""Of the trunk's layers, at 22.5 Hz: each step sees 3.5 s either side, thus the rhythm as well as the beat."""

FOLD: Final = 8
"""Channels handed back from 22.5 Hz to 90 Hz."""

EXPECTED_LOGIT = -3.0
"""Of a step before training: one step in twenty lies near a beat."""


def convolution(n_in: int, n_out: int, taps: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Build a convolution that keeps the length (but for its stride), batch norm and ReLU."""
    reach = dilation * (taps // 2)
    layer = nn.Conv1d(n_in, n_out, taps, stride=stride, padding=reach, dilation=dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm1d(n_out), nn.ReLU())


class QRSTrainingNetwork(nn.Module):
    """Leads at 90 Hz in mV `[batch, 1, n]`, n a multiple of 4, to the logit of a beat at each step `[batch, n]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(1, STEM, 9)
        self.down = nn.ModuleList([convolution(STEM, MIDDLE, 5, stride=2), convolution(MIDDLE, TRUNK, 5, stride=2)])
        self.trunk = nn.ModuleList([convolution(TRUNK, TRUNK, 3, dilation=dilation) for dilation in DILATIONS])
        self.up = nn.Conv1d(TRUNK, FOLD * DECIMATION, 1)
        self.mix = convolution(FOLD + STEM, MIX, 5)
        self.out = nn.Conv1d(MIX, 1, 5, padding=2)
        nn.init.constant_(cast(Tensor, self.out.bias), EXPECTED_LOGIT)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        fine = self.stem(prepare(x))  # (B, 16, n)
        coarse = fine
        for layer in self.down:
            coarse = layer(coarse)  # (B, 32, n / 4)
        for layer in self.trunk:
            coarse = coarse + layer(coarse)
        folded = self.up(coarse).unflatten(1, (FOLD, DECIMATION))  # (B, 8, 4, n / 4)
        raised = folded.transpose(2, 3).flatten(2)  # (B, 8, n)
        logits: Tensor = self.out(self.mix(torch.cat([raised, fine], 1)))[:, 0]
        return logits


def prepare(x: Tensor) -> Tensor:
    """Do as `ecgkan.data.qrs.prepare` does, on `[batch, 1, n]`."""
    centred = x - _moving_average(x, BASELINE_STEPS)
    scale = _moving_average(centred * centred, SCALE_STEPS).sqrt() + SCALE_FLOOR_MV
    return (centred / scale).clamp(-CLIP, CLIP)


def to_onnx(network: QRSTrainingNetwork) -> bytes:
    """Return the network as an ONNX file: a prepared lead `[1, 1, 1, n]` to the likelihood of a beat `[n]`."""
    graph = OnnxGraph()
    fine = _convolve(graph, "lead", network.stem)
    coarse = fine
    for layer in network.down:
        coarse = _convolve(graph, coarse, layer)
    for layer in network.trunk:
        coarse = graph.node("Add", coarse, _convolve(graph, coarse, layer))
    # [1, 32, 1, n / 4] holds four steps of eight channels each; the four go back beside one another in time.
    folded = graph.node("Reshape", _convolve(graph, coarse, network.up), graph.constant([1, FOLD, DECIMATION, -1]))
    apart = graph.node("Transpose", folded, perm=[0, 1, 3, 2])
    raised = graph.node("Reshape", apart, graph.constant([1, FOLD, 1, -1]))
    mixed = _convolve(graph, graph.node("Concat", raised, fine, axis=1), network.mix)
    likelihood = graph.node("Sigmoid", _convolve(graph, mixed, network.out))
    result = graph.node("Reshape", likelihood, graph.constant([-1]))
    return graph.to_bytes("qrs_detector", inputs={"lead": [1, 1, 1, "n"]}, outputs={result: ["n"]})


def _convolve(graph: OnnxGraph, x: str, layer: nn.Module) -> str:
    """Add a convolution with the batch norm folded into it, and its ReLU where it has one."""
    block = isinstance(layer, nn.Sequential)
    conv = cast(nn.Conv1d, layer[0] if isinstance(layer, nn.Sequential) else layer)
    weight, bias = (values.numpy() for values in _folded(layer))
    (stride,), (dilation,) = conv.stride, conv.dilation
    padding = cast(tuple[int], conv.padding)[0]
    return graph.convolve(x, weight, bias, padding=padding, stride=stride, dilation=dilation, relu=block)


def _folded(layer: nn.Module) -> tuple[Tensor, Tensor]:
    if isinstance(layer, nn.Conv1d):
        return layer.weight.detach().double(), cast(Tensor, layer.bias).detach().double()
    conv, norm = cast(tuple[nn.Conv1d, nn.BatchNorm1d, nn.ReLU], tuple(cast(nn.Sequential, layer)))[:2]
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    gain = norm.weight.detach().double() / (variance + norm.eps).sqrt()
    return conv.weight.detach().double() * gain[:, None, None], norm.bias.detach().double() - mean * gain


def _moving_average(x: Tensor, steps: int) -> Tensor:
    reach = steps // 2
    sums = F.pad(F.pad(x, (reach, reach), mode="replicate").double().cumsum(-1), (1, 0))
    return ((sums[..., steps:] - sums[..., :-steps]) / steps).to(x.dtype)  # avg_pool1d adds `steps` values each time
