"""Batches for training: index-sliced from tensors in memory, shifted, stretched and normalized a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgkan.aami import CLASSES
from ecgkan.data.beat_table import MARGIN
from ecgkan.data.beats import AFTER, BEFORE, NORMALIZATION_EPSILON
from ecgkan.training.recipe import Recipe

WIDTH = BEFORE + AFTER
NORMAL = CLASSES.index("N")

BATCHES_AT_ONCE = 8
"""Batches prepared together: after a training step neither caches nor code are warm (benchmarks/feeding.py)."""


@dataclass(frozen=True, slots=True, eq=False)
class BeatBatches:
    """One epoch of training batches `(x [B, 1, 256] float32, labels [B] int64)`, a function of (seed, epoch) alone.

    Attributes
    ----------
    windows : Tensor
        `[n, 64 + 256 + 64]` float32, mV, all training beats.
    labels : Tensor
        `[n]` int64.
    recipe : Recipe
        Batch size and augmentation.
    seed, epoch : int
        What shuffling and augmentation are drawn from.
    rank, world_size : int
        Which share of each epoch this process takes, of how many.
    """

    windows: Tensor
    labels: Tensor
    recipe: Recipe
    seed: int
    epoch: int
    rank: int = 0
    world_size: int = 1

    def __len__(self) -> int:
        return steps_per_epoch(beats_per_epoch(self.labels, self.recipe), self.recipe, self.world_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = epoch_generator(self.seed, self.epoch, stream=0)
        order = _draw_normal_beats(torch.from_numpy(rng.permutation(len(self.labels))), self.labels, self.recipe)
        share = order[self.rank :: self.world_size].to(self.labels.device)
        parts = torch.split(share, self.recipe.batch_size)[: len(self)]
        for start in range(0, len(parts), BATCHES_AT_ONCE):
            chosen = parts[start : start + BATCHES_AT_ONCE]
            together = torch.cat(chosen)
            sizes = [len(part) for part in chosen]
            windows = self.windows.index_select(0, together)  # four times as fast as windows[together]
            x = augment(windows, self.recipe, *draw_augmentation(sizes, self.recipe, rng))
            labels = self.labels.index_select(0, together)
            yield from zip(torch.split(x, sizes), torch.split(labels, sizes), strict=True)


def class_counts(labels: Tensor, recipe: Recipe) -> Tensor:
    """Count the beats of each class in an epoch: `[5]` int64."""
    counts = torch.bincount(labels, minlength=len(CLASSES))
    if recipe.normal_beats_per_epoch is not None:
        counts[NORMAL] = counts[NORMAL].clamp_max(recipe.normal_beats_per_epoch)
    return counts


def beats_per_epoch(labels: Tensor, recipe: Recipe) -> int:
    """Return the number of beats of an epoch."""
    return int(class_counts(labels, recipe).sum())


def _draw_normal_beats(order: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Leave the first so many N beats in a shuffled order, and all others."""
    if recipe.normal_beats_per_epoch is None:
        return order
    normal = labels.cpu()[order] == NORMAL
    return order[~normal | (normal.cumsum(0) <= recipe.normal_beats_per_epoch)]


def steps_per_epoch(n_beats: int, recipe: Recipe, world_size: int = 1) -> int:
    """Return the number of batches of an epoch; the last one may be smaller, but holds at least two beats."""
    share = n_beats // world_size
    full, rest = divmod(share, recipe.batch_size)
    return full + (rest >= 2)


def epoch_generator(seed: int, epoch: int, *, stream: int) -> np.random.Generator:
    """Return the random generator of one epoch, so that a resumed run draws what an uninterrupted one does."""
    return np.random.Generator(np.random.SFC64([seed, epoch, stream]))


def draw_augmentation(
    sizes: Sequence[int], recipe: Recipe, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw each beat's shift (samples) and stretch (factor), batch by batch: `[sum(sizes)]` float32 each."""
    largest, exponent = recipe.max_shift_samples, recipe.max_stretch
    drawn = [(rng.integers(-largest, largest + 1, n), np.exp(rng.uniform(-exponent, exponent, n))) for n in sizes]
    shifts, stretches = (np.concatenate(column).astype(np.float32) for column in zip(*drawn, strict=True))
    return shifts, stretches


def augment(windows: Tensor, recipe: Recipe, shifts: NDArray[np.float32], stretches: NDArray[np.float32]) -> Tensor:
    """Cut the models' window out of wide ones, shifted and stretched, and z-score it.

    Parameters
    ----------
    windows : Tensor
        `[B, 64 + 256 + 64]` float32, mV.
    shifts, stretches : ndarray
        `[B]` float32, from `draw_augmentation`; not looked at by a recipe without augmentation.

    Returns
    -------
    Tensor
        `[B, 1, 256]` float32.
    """
    if not (recipe.max_shift_samples or recipe.max_stretch):
        return _normalize_(windows[:, MARGIN : MARGIN + WIDTH].clone())
    # The R peak (column MARGIN + BEFORE) is the fixed point of the stretch.
    centre = _column(MARGIN + BEFORE + shifts, windows)
    offsets = torch.arange(-BEFORE, AFTER, dtype=windows.dtype, device=windows.device)
    positions = torch.addcmul(centre, _column(stretches, windows), offsets)
    # Always inside of the wide window: 32 + 128 exp(0.2), the most a recipe may ask for, is less than 192.
    column = positions.to(torch.int64)
    fraction = positions.sub_(column)
    cut = windows.gather(1, column)
    return _normalize_(cut.lerp_(windows.gather(1, column.add_(1)), fraction))


def _column(values: NDArray[np.float32], like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device).unsqueeze(1)


def _normalize_(windows: Tensor) -> Tensor:
    """Z-score windows `[B, 256]` in place: `[B, 1, 256]`."""
    centred = windows.sub_(windows.mean(1, keepdim=True))
    deviation = torch.linalg.vector_norm(centred, dim=1, keepdim=True).div_(WIDTH**0.5)
    return centred.div_(deviation.add_(NORMALIZATION_EPSILON)).unsqueeze(1)
