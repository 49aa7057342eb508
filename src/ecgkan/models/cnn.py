"""The 1-D CNN: an encoder of four convolution blocks, and the baseline with an MLP head.

Architecture and state-dict names are those of the published reference (CNN+MLP, 175,973 parameters),
so that its weights load unchanged.
"""

from typing import cast

import torch
from torch import Tensor, nn

WINDOW_SAMPLES = 256
"""Input length of the models: 128 samples before and 128 from the R peak on, at 360 Hz."""

FEATURES = 256
"""Width of the encoder's output."""


class ConvBlock(nn.Module):
    """Conv1d → BatchNorm → ReLU → MaxPool(2) → Dropout: `[B, in, L]` → `[B, out, L // 2]`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm1d(out_channels),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Dropout(dropout),
        )

    @property
    def conv(self) -> nn.Conv1d:
        """The convolution."""
        return cast(nn.Conv1d, self.block[0])

    @property
    def norm(self) -> nn.BatchNorm1d:
        """The batch normalization."""
        return cast(nn.BatchNorm1d, self.block[1])

    @property
    def dropout(self) -> nn.Dropout:
        """The dropout."""
        return cast(nn.Dropout, self.block[4])

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return cast(Tensor, self.block(x))


class ECGEncoder(nn.Sequential):
    """Four blocks: `[B, 1, 256]` → `[B, 256, 16]`; 134,304 parameters."""

    def __init__(self) -> None:
        super().__init__(
            ConvBlock(1, 32, 7, 0.15),  # (B, 1, 256) -> (B, 32, 128)
            ConvBlock(32, 64, 5, 0.15),  # -> (B, 64, 64)
            ConvBlock(64, 128, 3, 0.3),  # -> (B, 128, 32)
            ConvBlock(128, FEATURES, 3, 0.3),  # -> (B, 256, 16)
        )


class BeatClassifier(nn.Module):
    """What both models share: the encoder, its features, and checked input.

    Subclasses set their head and define `forward_head`.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.num_classes = num_classes
        self.encoder = ECGEncoder()

    def get_features(self, x: Tensor) -> Tensor:
        """Encode beats.

        Parameters
        ----------
        x : Tensor
            Z-scored windows, shape `[batch, 1, 256]`, floating point.

        Returns
        -------
        Tensor
            Mean over time of the encoder's output, shape `[batch, 256]`.

        Raises
        ------
        ValueError
            If the shape is another one.
        TypeError
            If the dtype is not that of the weights (float32 unless the model was cast).
        """
        _check_input(x, cast(ConvBlock, self.encoder[0]).conv.weight.dtype)
        return cast(Tensor, self.encoder(x).mean(-1))  # (B, 256, 16) -> (B, 256)

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features `[batch, 256]` to logits `[batch, num_classes]`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map z-scored windows `[batch, 1, 256]` to logits `[batch, num_classes]`, class order N S V F Q."""
        return self.forward_head(self.get_features(x))


class ECGCNN(BeatClassifier):
    """The baseline: encoder and MLP head, 175,973 parameters with 5 classes.

    Parameters
    ----------
    num_classes : int
        Number of classes.
    hidden_features : int
        Units of the first hidden layer; the second has half as many. Published: 128.
    """

    def __init__(self, num_classes: int = 5, *, hidden_features: int = 128) -> None:
        super().__init__(num_classes)
        self.classifier = nn.Sequential(
            nn.Linear(FEATURES, hidden_features, bias=False),
            nn.BatchNorm1d(hidden_features),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(hidden_features, hidden_features // 2, bias=False),
            nn.BatchNorm1d(hidden_features // 2),
            nn.ReLU(),
            nn.Dropout(0.15),
            nn.Linear(hidden_features // 2, num_classes),
        )
        initialize_convolutions_and_linears(self)

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features `[batch, 256]` to logits `[batch, num_classes]`."""
        return cast(Tensor, self.classifier(features))


def initialize_convolutions_and_linears(model: nn.Module) -> None:
    """Initialize in place as the reference does: Kaiming normal (fan-out) convolutions, Xavier uniform linears."""
    for module in model.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _check_input(x: Tensor, dtype: torch.dtype) -> None:
    if x.ndim != 3 or x.shape[1:] != (1, WINDOW_SAMPLES):
        raise ValueError(
            f"expected beats of shape [batch, 1, {WINDOW_SAMPLES}], got {list(x.shape)}; one channel of "
            f"{WINDOW_SAMPLES} samples at 360 Hz around each R peak (see ecgkan.data.beats.cut_beats)"
        )
    if x.dtype != dtype and not (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
        raise TypeError(
            f"expected z-scored beats of dtype {dtype}, as the model's weights, got {x.dtype}; use x.to({dtype})"
        )
