"""Batches are a function of (seed, epoch), hold every beat once, and augment as the recipe says."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecgkan.data.beats import normalize_windows
from ecgkan.training.batches import (
    BeatBatches,
    augment,
    beats_per_epoch,
    class_counts,
    draw_augmentation,
    epoch_generator,
    steps_per_epoch,
)
from ecgkan.training.recipe import BEST, REFERENCE, Recipe

PLAIN = dataclasses.replace(REFERENCE, batch_size=32)


def batches(
    recipe: Recipe, *, n_beats: int = 100, seed: int = 0, epoch: int = 0, rank: int = 0, world: int = 1
) -> BeatBatches:
    windows = torch.randn(n_beats, 384, generator=torch.Generator().manual_seed(5))
    return BeatBatches(windows, torch.arange(n_beats), recipe, seed, epoch, rank, world)


def augmented(windows: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    drawn = draw_augmentation([len(windows)], recipe, epoch_generator(0, 0, stream=0))
    return augment(windows, recipe, *drawn)


def test_every_beat_once_and_the_last_batch_is_smaller() -> None:
    labels = [label for _, label in batches(PLAIN)]
    assert [len(label) for label in labels] == [32, 32, 32, 4]
    assert sorted(torch.cat(labels).tolist()) == list(range(100))


@given(n_beats=st.integers(2, 300), batch_size=st.integers(2, 64), world=st.integers(1, 3))
def test_steps_match_what_is_served_and_no_batch_holds_a_single_beat(n_beats: int, batch_size: int, world: int) -> None:
    recipe = dataclasses.replace(PLAIN, batch_size=batch_size)
    for rank in range(world):
        served = [len(label) for _, label in batches(recipe, n_beats=n_beats, rank=rank, world=world)]
        assert len(served) == steps_per_epoch(n_beats, recipe, world)
        assert all(size >= 2 for size in served)


def test_processes_share_an_epoch_without_overlap() -> None:
    parts = [torch.cat([label for _, label in batches(PLAIN, rank=rank, world=2)]).tolist() for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(100))


def test_epochs_differ_and_repeat_exactly() -> None:
    recipe = dataclasses.replace(BEST, batch_size=32, max_shift_samples=8, max_stretch=0.1)
    first, again, later = (list(batches(recipe, epoch=epoch)) for epoch in (3, 3, 4))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][1], later[0][1])


def test_without_augmentation_the_input_is_the_protocols() -> None:
    windows = torch.randn(10, 384)
    expected = normalize_windows(windows[:, 64:320].numpy())[:, None]
    got = augmented(windows, PLAIN).numpy()
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_shift_moves_the_window_by_whole_samples() -> None:
    windows = torch.randn(200, 384)
    recipe = dataclasses.replace(PLAIN, max_shift_samples=5)
    got = augmented(windows, recipe).numpy()[:, 0]
    shifts = []
    for row, window in zip(got, windows.numpy(), strict=True):
        distances = [
            np.abs(row - normalize_windows(window[None, 64 + shift : 320 + shift])[0]).max() for shift in range(-6, 7)
        ]
        assert min(distances) < 1e-5
        shifts.append(int(np.argmin(distances)) - 6)
    assert set(shifts) == set(range(-5, 6))


def test_stretch_keeps_the_peak_in_place() -> None:
    offsets = np.arange(384) - 192
    windows = torch.from_numpy(np.exp(-((offsets / 6.0) ** 2)).astype(np.float32)).repeat(50, 1)
    recipe = dataclasses.replace(PLAIN, max_stretch=0.1)
    got = augmented(windows, recipe)[:, 0]
    assert set(got.argmax(1).tolist()) == {128}
    widths = (got > got.amax(1, keepdim=True) / 2).sum(1)
    assert int(widths.max()) > int(widths.min())


def test_normalization_of_a_flat_beat_is_zero() -> None:
    assert torch.equal(augmented(torch.full((2, 384), 3.0), PLAIN), torch.zeros(2, 1, 256))


@pytest.mark.parametrize("width", [384])
def test_width_matches_the_tables_margin(width: int) -> None:
    from ecgkan.data.beat_table import MARGIN

    assert width == 256 + 2 * MARGIN


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_largest_augmentation_stays_inside_of_the_wide_window(sign: float) -> None:
    recipe = dataclasses.replace(PLAIN, max_shift_samples=32, max_stretch=0.2)
    ramp = torch.arange(384, dtype=torch.float32).repeat(2, 1)
    shifts = np.full(2, sign * recipe.max_shift_samples, dtype=np.float32)
    stretches = np.full(2, np.exp(recipe.max_stretch), dtype=np.float32)
    cut = augment(ramp, recipe, shifts, stretches)[0, 0]
    steps = cut.diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-4, rtol=1e-3)  # a ramp, nowhere clipped


def test_n_beats_are_drawn_anew_for_each_epoch_and_all_others_kept() -> None:
    recipe = dataclasses.replace(PLAIN, normal_beats_per_epoch=10)
    labels = torch.tensor([0] * 80 + [1] * 12 + [2] * 8)
    windows = torch.randn(100, 384, generator=torch.Generator().manual_seed(5))
    served = []
    for epoch in range(2):
        epoch_batches = BeatBatches(windows, labels, recipe, seed=0, epoch=epoch)
        parts = [label for _, label in epoch_batches]
        assert len(parts) == len(epoch_batches) == steps_per_epoch(beats_per_epoch(labels, recipe), recipe)
        assert torch.cat(parts).bincount().tolist() == class_counts(labels, recipe)[:3].tolist() == [10, 12, 8]
        served.append(torch.cat([x[:, 0, 128] for x, _ in epoch_batches]))
    assert not torch.equal(served[0], served[1])
