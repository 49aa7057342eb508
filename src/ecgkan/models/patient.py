"""Models for new patients: a beat beside the patient's own average beat, and its place in the rhythm.

The encoder is the family's (four `ConvBlock`s) with half the channels, since what it looks at is shorter and already
relative to the patient. Beside what it finds stand comparisons of the two shapes that an electrocardiographer would
make, and the rhythm features; a head, MLP or KAN, weighs all of them.
"""

from typing import Final, cast

import torch
from torch import Tensor, nn

from ecgkan.data.context import CONTEXT_FEATURES, SHAPE_BEFORE, SHAPE_WIDTH
from ecgkan.models.cnn import ConvBlock, initialize_convolutions_and_linears
from ecgkan.models.kan import KANHead

SHAPE_FEATURES: Final = 128
"""Width of the encoder's output."""

SEGMENTS: Final = {
    "QRS": slice(SHAPE_BEFORE - 12, SHAPE_BEFORE + 16),
    "P": slice(SHAPE_BEFORE - 30, SHAPE_BEFORE - 9),
    "T": slice(SHAPE_BEFORE + 18, SHAPE_BEFORE + 54),
}
"""Parts of a shape that are compared: 0.23 s around the R peak, and where P and T wave usually lie."""

SLOPES: Final = slice(SHAPE_BEFORE - 24, SHAPE_BEFORE + 31)
"""Part of a shape in which the width of the QRS complex is measured."""

LIKENESS_FLOOR: Final = 1e-6
SLOPE_FLOOR: Final = 1e-5
"""Added where a flat segment would divide 0 by 0."""

COMPARISONS: Final = (
    *(f"{what} of {name}" for name in SEGMENTS for what in ("likeness", "strength")),
    "difference of QRS",
    "relative QRS width",
    "QRS width",
    "usual QRS width",
    "usual strength of P",
)
"""Names of the columns of `compare_shapes`."""

FEATURES: Final = (*(f"shape {i}" for i in range(SHAPE_FEATURES)), *COMPARISONS, *CONTEXT_FEATURES)
"""Names of the head's inputs."""


def compare_shapes(shapes: Tensor) -> Tensor:
    """Compare beats with their average beats: `[batch, 2, 112]` → `[batch, 11]`, the columns `COMPARISONS`.

    Correlations, log ratios of strength and width: nothing changes if the lead is upside down or amplified.
    """
    beat, average = shapes[:, 0], shapes[:, 1]
    columns = []
    for part in SEGMENTS.values():
        columns += [_correlation(beat[:, part], average[:, part])]
        columns += [torch.log((_strength(beat[:, part]) + 0.02) / (_strength(average[:, part]) + 0.02))]
    qrs, p = SEGMENTS["QRS"], SEGMENTS["P"]
    difference = _strength(beat[:, qrs] - average[:, qrs]) / (_strength(average[:, qrs]) + 0.02)
    width, usual_width = _slope_spread(beat[:, SLOPES]), _slope_spread(average[:, SLOPES])
    columns += [
        torch.log(difference + 0.05),
        torch.log((width + 0.5) / (usual_width + 0.5)),
        width / 8 - 1,
        usual_width / 8 - 1,
        torch.log(_strength(average[:, p]) + 0.01) + 2.5,
    ]
    return torch.stack(columns, dim=1).clamp(-3.0, 3.0)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1) + LIKENESS_FLOOR).sqrt()


def _strength(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)).square().mean(1).sqrt()


def _slope_spread(x: Tensor) -> Tensor:
    """Return how far the slopes of a QRS complex `[batch, n]` are spread around their centre, in samples."""
    slopes = x.diff(dim=1).square() + SLOPE_FLOOR
    places = torch.arange(slopes.shape[1], dtype=x.dtype, device=x.device)
    total = slopes.sum(1)
    centre = (slopes * places).sum(1) / total
    return ((slopes * (places - centre.unsqueeze(1)).square()).sum(1) / total).sqrt()


class ShapeEncoder(nn.Module):
    """The encoder of shapes: `[B, 2, 112]` → `[B, 128]`.

    It sees the beat, the average beat and their difference. What it finds is not averaged over time as in `ECGCNN`,
    but weighted by a learned profile for each channel: where in the beat something lies, before the QRS complex or
    after it, is what tells a P wave from a T wave.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ConvBlock(3, 16, 7, 0.15),  # (B, 3, 112) -> (B, 16, 56)
            ConvBlock(16, 32, 5, 0.15),  # -> (B, 32, 28)
            ConvBlock(32, 64, 3, 0.3),  # -> (B, 64, 14)
            ConvBlock(64, SHAPE_FEATURES, 3, 0.3),  # -> (B, 128, 7)
        )
        steps = SHAPE_WIDTH // 16
        self.profile = nn.Parameter(torch.full((SHAPE_FEATURES, steps), 1.0 / steps))

    def forward(self, shapes: Tensor) -> Tensor:
        """Encode shapes `[B, 2, 112]`."""
        seen = torch.cat([shapes, shapes[:, :1] - shapes[:, 1:]], dim=1)  # (B, 3, 112)
        return cast(Tensor, (self.blocks(seen) * self.profile).sum(-1))  # (B, 128, 7) -> (B, 128)


class PatientClassifier(nn.Module):
    """What both models for new patients share: encoder, comparisons, standardized features, checked input.

    Subclasses set their head and define `forward_head`.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.num_classes = num_classes
        self.encoder = ShapeEncoder()
        self.standardize = nn.BatchNorm1d(len(COMPARISONS) + len(CONTEXT_FEATURES), affine=False)
        self.class_shift: Tensor
        self.register_buffer("class_shift", torch.zeros(num_classes))
        initialize_convolutions_and_linears(self.encoder)

    def get_features(self, shapes: Tensor, rhythm: Tensor) -> Tensor:
        """Return what the head weighs: `[batch, 170]`, the columns `FEATURES`.

        Parameters
        ----------
        shapes : Tensor
            `[batch, 2, 112]`, see `ecgkan.data.context.BeatContext`.
        rhythm : Tensor
            `[batch, 31]`, the columns `CONTEXT_FEATURES`.

        Raises
        ------
        ValueError
            If a shape is another one.
        """
        if shapes.ndim != 3 or shapes.shape[1:] != (2, SHAPE_WIDTH):
            raise ValueError(
                f"expected shapes [batch, 2, {SHAPE_WIDTH}], got {list(shapes.shape)}; beat and average beat, from "
                "ecgkan.data.context.beat_context"
            )
        if rhythm.shape != (len(shapes), len(CONTEXT_FEATURES)):
            raise ValueError(
                f"expected rhythm features [{len(shapes)}, {len(CONTEXT_FEATURES)}], got {list(rhythm.shape)}; from "
                "ecgkan.data.context.beat_context"
            )
        named = self.standardize(torch.cat([compare_shapes(shapes), rhythm], dim=1))
        return torch.cat([self.encoder(shapes), named], dim=1)

    def in_own_units(self, features: Tensor) -> Tensor:
        """Return features `[..., len(FEATURES)]` with the named ones as they were before they were standardized.

        Comparisons and context are log ratios, correlations and the like; see docs/context.md. What the encoder found
        has no unit and stays as it is.
        """
        learned, named = features[..., :SHAPE_FEATURES], features[..., SHAPE_FEATURES:]
        variance, mean = cast(Tensor, self.standardize.running_var), cast(Tensor, self.standardize.running_mean)
        return torch.cat([learned, named * (variance + self.standardize.eps).sqrt() + mean], dim=-1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features `[batch, 170]` to logits `[batch, num_classes]`."""
        raise NotImplementedError

    def forward(self, shapes: Tensor, rhythm: Tensor) -> Tensor:
        """Map beats with their context to logits `[batch, num_classes]`, class order N S V F Q.

        `class_shift` is added: training draws rare classes more often than they are, and the shift, fitted on records
        held out of training (`ecgkan.training.calibration`), takes that back.
        """
        return self.forward_head(self.get_features(shapes, rhythm)) + self.class_shift


class PatientMLP(PatientClassifier):
    """Model for new patients with an MLP head (170 → 128 → 64 → 5)."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__(num_classes)
        self.classifier = nn.Sequential(
            nn.Linear(len(FEATURES), 128, bias=False),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(128, 64, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Dropout(0.15),
            nn.Linear(64, num_classes),
        )
        initialize_convolutions_and_linears(self.classifier)

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features `[batch, 170]` to logits `[batch, num_classes]`."""
        return cast(Tensor, self.classifier(features))


class PatientKAN(PatientClassifier):
    """Model for new patients with a KAN head (170 → 20 → 5), of as many parameters as the MLP head.

    Each input is standardized by itself: a spline sees only what falls into its grid, and the layer norm of the
    published head would let one loud feature push the others out of sight. A tenth of the inputs is dropped in
    training, so that no single edge function decides.

    Parameters
    ----------
    num_classes : int
        Number of classes.
    grid_size : int
        Spline intervals of each KAN layer.
    grid_range : (float, float)
        Range of the splines, in units of the standardized input.
    """

    def __init__(
        self, num_classes: int = 5, *, grid_size: int = 5, grid_range: tuple[float, float] = (-3.0, 3.0)
    ) -> None:
        super().__init__(num_classes)
        self.dropout = nn.Dropout(0.1)
        self.kan_head = KANHead(
            len(FEATURES), 20, num_classes, grid_size=grid_size, grid_range=grid_range, normalization="batch"
        )

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features `[batch, 170]` to logits `[batch, num_classes]`."""
        return cast(Tensor, self.kan_head(self.dropout(features)))
