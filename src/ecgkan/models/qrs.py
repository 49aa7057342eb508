"""The QRS detector's network as PyTorch trains it; `ecgkan.data.qrs` is the same network in NumPy."""

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgkan.data.qrs import BASELINE_STEPS, CLIP, DECIMATION, DILATIONS, FOLD, SCALE_FLOOR_MV, SCALE_STEPS

STEM, MIDDLE, TRUNK, MIX = 16, 24, 32, 16
"""Channels at 90 Hz, at 45 Hz, at 22.5 Hz, and back at 90 Hz."""

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


def folded_weights(network: QRSTrainingNetwork) -> dict[str, NDArray[np.float32]]:
    """Return the arrays that `ecgkan.data.qrs.load_network` reads: batch norm folded into the convolutions."""
    layers: dict[str, nn.Module] = {"stem": network.stem, "up": network.up, "mix": network.mix, "out": network.out}
    layers |= {f"down.{i}": layer for i, layer in enumerate(network.down)}
    layers |= {f"trunk.{i}": layer for i, layer in enumerate(network.trunk)}
    arrays = {}
    for name, layer in layers.items():
        weight, bias = _folded(layer)
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = weight.float().numpy(), bias.float().numpy()
    return arrays


def _folded(layer: nn.Module) -> tuple[Tensor, Tensor]:
    if isinstance(layer, nn.Conv1d):
        return layer.weight.detach().double(), cast(Tensor, layer.bias).detach().double()
    conv, norm = cast(tuple[nn.Conv1d, nn.BatchNorm1d, nn.ReLU], tuple(cast(nn.Sequential, layer)))[:2]
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    gain = norm.weight.detach().double() / (variance + norm.eps).sqrt()
    return conv.weight.detach().double() * gain[:, None, None], norm.bias.detach().double() - mean * gain


def _moving_average(x: Tensor, steps: int) -> Tensor:
    reach = steps // 2
    return F.avg_pool1d(F.pad(x, (reach, reach), mode="replicate"), steps, 1)
