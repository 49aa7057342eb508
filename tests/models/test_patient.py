"""The models for new patients: sizes, what they compare, and errors that say what was expected."""

import pytest
import torch

from ecgkan.data.context import CONTEXT_FEATURES, SHAPE_BEFORE, SHAPE_WIDTH
from ecgkan.models.patient import COMPARISONS, FEATURES, PatientClassifier, PatientKAN, PatientMLP, compare_shapes

PLACES = torch.arange(SHAPE_WIDTH) - SHAPE_BEFORE


def bump(width: float, *, at: float = 0.0) -> torch.Tensor:
    return torch.exp(-0.5 * ((PLACES - at) / width) ** 2)


def compared(beat: torch.Tensor, average: torch.Tensor) -> dict[str, float]:
    values = compare_shapes(torch.stack([beat, average])[None])[0]
    return dict(zip(COMPARISONS, values.tolist(), strict=True))


def test_parameter_counts() -> None:
    counts = {kind: sum(p.numel() for p in kind().parameters()) for kind in (PatientMLP, PatientKAN)}
    assert counts[PatientMLP] == 65653
    assert abs(counts[PatientKAN] / counts[PatientMLP] - 1) < 0.03


@pytest.mark.parametrize("kind", [PatientMLP, PatientKAN])
def test_logits_and_features(kind: type[PatientMLP] | type[PatientKAN]) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    shapes, rhythm = torch.randn(7, 2, SHAPE_WIDTH), torch.randn(7, len(CONTEXT_FEATURES))
    logits = model(shapes, rhythm)
    assert logits.shape == (7, 5) and logits.isfinite().all()
    assert model.get_features(shapes, rhythm).shape == (7, len(FEATURES))
    torch.testing.assert_close(model(shapes[:2], rhythm[:2]), logits[:2])
    model.class_shift.copy_(torch.tensor([0.0, -1.0, 0.0, 2.0, 0.0]))
    torch.testing.assert_close(model(shapes, rhythm) - logits, torch.tensor([0.0, -1.0, 0.0, 2.0, 0.0]).expand(7, 5))


def test_a_beat_like_the_average() -> None:
    values = compared(bump(3), bump(3))
    assert values["likeness of QRS"] == pytest.approx(1, abs=1e-4)
    assert values["strength of QRS"] == values["relative QRS width"] == pytest.approx(0, abs=1e-6)


def test_a_wide_and_inverted_beat() -> None:
    values = compared(-bump(6), bump(3))
    assert values["likeness of QRS"] < -0.5
    assert values["relative QRS width"] > 0.3


def test_a_missing_p_wave() -> None:
    with_p = bump(3) + 0.3 * bump(3, at=-19)
    assert compared(bump(3), with_p)["strength of P"] < -1
    assert compared(with_p, with_p)["likeness of P"] == pytest.approx(1, abs=0.01)


def test_polarity_does_not_matter_to_comparisons() -> None:
    torch.manual_seed(1)
    shapes = torch.randn(5, 2, SHAPE_WIDTH)
    torch.testing.assert_close(compare_shapes(shapes), compare_shapes(-shapes))


def test_the_position_of_a_wave_matters_to_the_encoder() -> None:
    torch.manual_seed(2)
    encoder = PatientMLP().eval().encoder
    torch.nn.init.normal_(encoder.profile)
    early, late = (torch.stack([bump(3) + 0.3 * bump(3, at=at), bump(3)])[None] for at in (-24, 24))
    assert not torch.allclose(encoder(early), encoder(late), atol=1e-3)


@pytest.mark.parametrize(
    ("shapes", "rhythm", "message"),
    [
        ((3, 1, 112), (3, 31), r"expected shapes \[batch, 2, 112\]"),
        ((3, 2, 256), (3, 31), r"expected shapes \[batch, 2, 112\]"),
        ((3, 2, 112), (3, 30), r"expected rhythm features \[3, 31\]"),
        ((3, 2, 112), (2, 31), r"expected rhythm features \[3, 31\]"),
    ],
)
def test_wrong_shapes_are_named(shapes: tuple[int, ...], rhythm: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatientMLP().eval()(torch.zeros(shapes), torch.zeros(rhythm))


def test_one_class_is_no_classification() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        PatientClassifier(1)
