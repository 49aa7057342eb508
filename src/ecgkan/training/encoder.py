"""The encoder's training pass, arranged for the compiler.

Same arithmetic and the same parameters as `ECGEncoder`, written so that TorchInductor fuses what
lies between two convolutions into single passes: two-dimensional channels-last convolutions (oneDNN's fast path),
pooling as a maximum of two strided views, and dropout masks drawn outside of the compiled graph,
16 random bits an element instead of a Bernoulli draw each.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgkan.models.cnn import ConvBlock, ECGEncoder


def conv_blocks(encoder: ECGEncoder) -> list[ConvBlock]:
    """Return the encoder's blocks in order."""
    return [cast(ConvBlock, block) for block in encoder]


def draw_dropout_masks(
    encoder: ECGEncoder, batch_size: int, input_length: int, rng: np.random.Generator
) -> list[Tensor]:
    """Draw one keep-mask per block.

    Returns
    -------
    list of Tensor
        For each block int16 `[batch, channels, 1, length]` (channels last in memory): -1 keeps an element, 0 drops it.
    """
    masks = []
    length = input_length
    for block in conv_blocks(encoder):
        conv, dropout = block.conv, block.dropout
        length //= 2
        count = batch_size * length * conv.out_channels
        bits = rng.integers(0, 2**64, -(-count // 4), dtype=np.uint64).view(np.uint16)[:count]
        # Probabilities are met to 2^-16.
        keep = (bits >= round(dropout.p * 65536)).view(np.int8)
        mask = torch.from_numpy(keep).view(batch_size, 1, length, conv.out_channels)
        masks.append(mask.permute(0, 3, 1, 2))
    return masks


def encode_for_training(encoder: ECGEncoder, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Encode a batch as `encoder(x).mean(-1)` does in training mode, with dropout masks given.

    Parameters
    ----------
    x : Tensor
        `[batch, 1, length]`.
    masks : sequence of Tensor
        From `draw_dropout_masks`.

    Returns
    -------
    Tensor
        Features `[batch, 256]`. Running statistics of the batch norms are updated.
    """
    x = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)  # (B, 1, 1, L)
    for block, mask in zip(conv_blocks(encoder), masks, strict=True):
        conv, norm = block.conv, block.norm
        weight = conv.weight.unsqueeze(2).to(memory_format=torch.channels_last)
        x = F.conv2d(x, weight, padding=(0, weight.shape[-1] // 2))
        momentum = 0.1 if norm.momentum is None else norm.momentum
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, momentum, norm.eps)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        x = F.relu(x)
        x = torch.maximum(x[..., 0::2], x[..., 1::2])
        x = x * (mask * (1.0 / (1.0 - block.dropout.p))).to(x.dtype)
    return x.mean((-2, -1))
