"""Batches for training: index-sliced from tensors in memory, shifted, stretched and normalized a batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgkan.data.beats import AFTER, BEFORE, NORMALIZATION_EPSILON
from ecgkan.data.protocols import MARGIN
from ecgkan.training.recipe import Recipe

WIDTH = BEFORE + AFTER


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
        return steps_per_epoch(len(self.labels), self.recipe, self.world_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = epoch_generator(self.seed, self.epoch, stream=0)
        order = torch.from_numpy(rng.permutation(len(self.labels)))
        share = order[self.rank :: self.world_size].to(self.labels.device)
        size = self.recipe.batch_size
        for step in range(len(self)):
            chosen = share[step * size : (step + 1) * size]
            windows = self.windows.index_select(0, chosen)  # four times as fast as windows[chosen]
            yield augment(windows, self.recipe, rng), self.labels[chosen]


def steps_per_epoch(n_beats: int, recipe: Recipe, world_size: int = 1) -> int:
    """Return the number of batches of an epoch; the last one may be smaller, but holds at least two beats."""
    share = n_beats // world_size
    full, rest = divmod(share, recipe.batch_size)
    return full + (rest >= 2)


def epoch_generator(seed: int, epoch: int, *, stream: int) -> np.random.Generator:
    """Return the random generator of one epoch, so that a resumed run draws what an uninterrupted one does."""
    return np.random.Generator(np.random.SFC64([seed, epoch, stream]))


def augment(windows: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Cut the models' window out of wide ones, shifted and stretched at random, and z-score it.

    Parameters
    ----------
    windows : Tensor
        `[B, 64 + 256 + 64]` float32, mV.

    Returns
    -------
    Tensor
        `[B, 1, 256]` float32.
    """
    if not (recipe.max_shift_samples or recipe.max_stretch):
        return _normalize(windows[:, MARGIN : MARGIN + WIDTH])
    count, width = windows.shape
    shift = rng.integers(-recipe.max_shift_samples, recipe.max_shift_samples + 1, count)
    stretch = np.exp(rng.uniform(-recipe.max_stretch, recipe.max_stretch, count))
    # The R peak (column MARGIN + BEFORE) is the fixed point of the stretch.
    centre = _column(MARGIN + BEFORE + shift, windows)
    offsets = torch.arange(-BEFORE, AFTER, dtype=windows.dtype, device=windows.device)
    positions = torch.addcmul(centre, _column(stretch, windows), offsets).clamp_(0, width - 1.01)
    left = positions.to(torch.int64)
    fraction = positions.sub_(left)
    return _normalize(torch.lerp(windows.gather(1, left), windows.gather(1, left + 1), fraction))


def _column(values: NDArray[np.generic], like: Tensor) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(like.device).unsqueeze(1)


def _normalize(windows: Tensor) -> Tensor:
    # Twice as fast as torch.std_mean, and as exact for windows of a few mV.
    centred = windows - windows.mean(1, keepdim=True)
    scale = centred.square().mean(1, keepdim=True).sqrt_().add_(NORMALIZATION_EPSILON)
    return centred.div_(scale).unsqueeze(1)
