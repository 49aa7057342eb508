"""The arranged training pass computes what the readable encoder computes."""

import copy

import numpy as np
import pytest
import torch

from ecgkan.models.cnn import ECGCNN, ECGEncoder
from ecgkan.training.encoder import draw_dropout_masks, encode_for_training
from ecgkan.training.module import can_compile


def encoder_without_dropout() -> ECGEncoder:
    torch.manual_seed(0)
    encoder = ECGCNN().encoder
    for block in encoder:
        block.block[4].p = 0.0
    return encoder


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler"))]
)
def test_values_gradients_and_running_statistics_equal_the_encoders(compiled: bool) -> None:
    dtype, tolerance = (torch.float32, 2e-3) if compiled else (torch.float64, 1e-9)
    plain = encoder_without_dropout().to(dtype)
    arranged = copy.deepcopy(plain)
    encode = torch.compile(encode_for_training) if compiled else encode_for_training
    x = torch.randn(16, 1, 256, generator=torch.Generator().manual_seed(1), dtype=dtype)
    masks = draw_dropout_masks(arranged, 16, 256, np.random.default_rng(0))
    expected = plain(x).mean(-1)
    features = encode(arranged, x, masks)
    torch.testing.assert_close(features, expected, atol=tolerance, rtol=tolerance)
    weight = torch.randn(256, generator=torch.Generator().manual_seed(2), dtype=dtype)
    (expected @ weight).sum().backward()
    (features @ weight).sum().backward()
    for (name, left), right in zip(plain.named_parameters(), arranged.parameters(), strict=True):
        assert left.grad is not None and right.grad is not None
        scale = float(left.grad.abs().max())
        torch.testing.assert_close(right.grad / scale, left.grad / scale, atol=tolerance, rtol=tolerance, msg=name)
    for (name, left), right in zip(plain.named_buffers(), arranged.buffers(), strict=True):
        torch.testing.assert_close(right, left, atol=tolerance, rtol=tolerance, msg=name)


def test_masks_drop_the_architectures_share() -> None:
    encoder = ECGCNN().encoder
    masks = draw_dropout_masks(encoder, 64, 256, np.random.default_rng(0))
    shapes = [tuple(mask.shape) for mask in masks]
    assert shapes == [(64, 32, 1, 128), (64, 64, 1, 64), (64, 128, 1, 32), (64, 256, 1, 16)]
    for mask, probability in zip(masks, (0.15, 0.15, 0.3, 0.3), strict=True):
        assert float((mask == 0).float().mean()) == pytest.approx(probability, abs=0.004)
        assert set(mask.unique().tolist()) == {0, 1}


def test_dropped_elements_are_zero_and_kept_ones_scaled() -> None:
    torch.manual_seed(0)
    encoder = ECGCNN().encoder
    masks = draw_dropout_masks(encoder, 8, 256, np.random.default_rng(0))
    nothing_kept = [torch.zeros_like(mask) for mask in masks]
    everything_kept = [torch.ones_like(mask) for mask in masks]
    x = torch.randn(8, 1, 256)
    assert torch.equal(encode_for_training(encoder, x, nothing_kept), torch.zeros(8, 256))
    last_only = [torch.ones_like(mask) for mask in masks[:3]] + [masks[3]]
    whole = encode_for_training(copy.deepcopy(encoder), x, everything_kept)
    some = encode_for_training(copy.deepcopy(encoder), x, last_only)
    assert float((some.mean() / whole.mean()).detach()) == pytest.approx(0.7, abs=0.03)
    assert not torch.allclose(some, whole)
