"""The same encoder with a Kolmogorov-Arnold head (CNN+KAN, 285,280 parameters)."""

from typing import cast

from torch import Tensor

from ecgkan.models.cnn import FEATURES, BeatClassifier, initialize_convolutions_and_linears
from ecgkan.models.kan import KANHead, Normalization, SplineInit


class ECGCNNWithKAN(BeatClassifier):
    """Encoder and KAN head; `ECGCNNWithKAN(num_classes=5)` has 285,280 parameters.

    Parameters
    ----------
    num_classes : int
        Number of classes.
    grid_size : int
        Spline intervals of each KAN layer.
    grid_range : (float, float)
        Range of the splines, in units of the layer-normalized input.
    init : {"kaiming", "reference"}
        Initialization of the head. The published model is
        `ECGCNNWithKAN(grid_range=(-1.0, 1.0), init="reference")`; its weights load into a model built
        with any `grid_range`, because the grid travels with the weights.
    hidden_features : int
        Units between the two KAN layers.
    normalization : {"layer", "batch"}
        Before the splines; see `KANLayer`.
    """

    def __init__(
        self,
        num_classes: int = 5,
        *,
        grid_size: int = 5,
        grid_range: tuple[float, float] = (-3.0, 3.0),
        init: SplineInit = "kaiming",
        hidden_features: int = 64,
        normalization: Normalization = "layer",
    ) -> None:
        super().__init__(num_classes)
        self.kan_head = KANHead(
            FEATURES,
            hidden_features,
            num_classes,
            grid_size=grid_size,
            grid_range=grid_range,
            init=init,
            normalization=normalization,
        )
        initialize_convolutions_and_linears(self.encoder)

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features `[batch, 256]` to logits `[batch, num_classes]`."""
        return cast(Tensor, self.kan_head(features))
