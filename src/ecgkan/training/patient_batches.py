"""Training batches of the models for new patients: drawn evenly over patients, disturbed as other recorders would.

A batch holds beats of DS1 as they are in their records, and others set in made-up rhythms (`ecgkan.training.rhythms`).
Both are changed so that no quirk of this database is learned: lead, polarity, size, place of the R peak, width, noise,
and bandwidth.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecgkan.data.context import (
    CONTEXT_FEATURES,
    QRS,
    RHYTHM_FEATURES,
    SHAPE_BEFORE,
    SHAPE_FS,
    SHAPE_WIDTH,
    rhythm_features,
)
from ecgkan.data.context_table import ContextTable
from ecgkan.training.patient_recipe import PatientRecipe
from ecgkan.training.rhythms import KINDS, N, S, V, make_rhythm

P_WAVE: Final = (SHAPE_BEFORE - 27, SHAPE_BEFORE - 6)
"""Samples of a shape in which P waves of made-up rhythms are changed."""

SETTLING_BEATS: Final = 12
"""First beats of a made-up rhythm that are not used: their context is still short."""

FEWEST_BEATS: Final = 120
"""A record with fewer normal beats in a row lends none to made-up rhythms."""

_PREVIOUS = slice(len(RHYTHM_FEATURES), len(CONTEXT_FEATURES), 2)
_NEXT = slice(len(RHYTHM_FEATURES) + 1, len(CONTEXT_FEATURES), 2)
_FIBRILLATION = list(KINDS).index("fibrillation")


class MadeUpBeats(NamedTuple):
    """Beats of the table, set in made-up rhythms.

    Attributes
    ----------
    source : ndarray
        `[m]` int64, which beat of the table lends its shape.
    labels : ndarray
        `[m]` int64.
    kind : ndarray
        `[m]` int64, index of the rhythm in `KINDS`.
    rr_s : ndarray
        `[m]` float32, made-up interval before the beat.
    rhythm : ndarray
        `[m, leads, 31]` float32, its context in the made-up rhythm.
    """

    source: NDArray[np.int64]
    labels: NDArray[np.int64]
    kind: NDArray[np.int64]
    rr_s: NDArray[np.float32]
    rhythm: NDArray[np.float32]

    def at(self, rows: NDArray[np.int64]) -> "MadeUpBeats":
        """Return some of the beats."""
        return MadeUpBeats(self.source[rows], self.labels[rows], self.kind[rows], self.rr_s[rows], self.rhythm[rows])


def make_up_beats(table: ContextTable, rng: np.random.Generator, *, per_record: int, length: int = 300) -> MadeUpBeats:
    """Set normal beats of each record, and ventricular ones of any, in made-up rhythms.

    Parameters
    ----------
    table : ContextTable
        Training records.
    per_record : int
        Rhythms per record.
    length : int
        Beats per rhythm, at most.
    """
    own_looks = np.roll(table.rhythm[:, :, _PREVIOUS], -1, axis=0)  # what a beat's follower says of it
    records = list(dict.fromkeys(table.records.tolist()))
    ventricular = [np.flatnonzero((table.records == record) & (table.labels == V)) for record in records]
    ventricular = [beats for beats in ventricular if len(beats) >= 5]
    made: list[MadeUpBeats] = []
    for record in records:
        lenders = _undisturbed(table, record)
        if len(lenders) < FEWEST_BEATS:
            continue
        for _ in range(per_record):
            first = int(rng.integers(0, max(1, len(lenders) - length)))
            source = lenders[first : first + length].copy()
            rhythm = make_rhythm(len(source), rng)
            is_ventricular = rhythm.labels == V
            if is_ventricular.any() and ventricular:
                source[is_ventricular] = rng.choice(ventricular[rng.integers(len(ventricular))], is_ventricular.sum())
            made.append(_set_in(table, own_looks, source, rhythm.rr_s, rhythm.labels, list(KINDS).index(rhythm.kind)))
    return MadeUpBeats(*(np.concatenate(column) for column in zip(*made, strict=True)))


def _undisturbed(table: ContextTable, record: str) -> NDArray[np.int64]:
    """Return the normal beats of a record between two normal beats, the first few left out."""
    beats = np.flatnonzero(table.records == record)
    normal = table.labels[beats] == N
    undisturbed: NDArray[np.int64] = beats[normal & np.roll(normal, 1) & np.roll(normal, -1)][5:]
    return undisturbed


def _set_in(
    table: ContextTable,
    own_looks: NDArray[np.float32],
    source: NDArray[np.int64],
    rr_s: NDArray[np.float64],
    labels: NDArray[np.int64],
    kind: int,
) -> MadeUpBeats:
    context = table.rhythm[source].copy()
    intervals = rr_s.copy()
    intervals[0] = np.nan
    context[:, :, : len(RHYTHM_FEATURES)] = rhythm_features(intervals)[:, None]
    looks = own_looks[source]
    context[1:, :, _PREVIOUS], context[:-1, :, _NEXT] = looks[:-1], looks[1:]
    kept = slice(SETTLING_BEATS, len(source) - 3)
    return MadeUpBeats(
        source[kept],
        labels[kept],
        np.full(len(source), kind)[kept],
        rr_s[kept].astype(np.float32),
        context[kept],
    )


@dataclass(frozen=True, slots=True, eq=False)
class PatientBatches:
    """One epoch of training batches, a function of (seed, epoch) alone.

    Yields `(shapes [B, 2, 112], rhythm [B, 31], labels [B])`.

    Attributes
    ----------
    table : ContextTable
        Training records.
    made_up : MadeUpBeats
        From `make_up_beats`.
    noise : Tensor
        `[k, 112]` float32, pieces of recorded noise of standard deviation 1 over the whole recording.
    recipe : PatientRecipe
        Batch size, shares and augmentation.
    rng : numpy.random.Generator
        What everything is drawn from.
    """

    table: ContextTable
    made_up: MadeUpBeats
    noise: Tensor
    recipe: PatientRecipe
    rng: np.random.Generator

    def __len__(self) -> int:
        return steps_per_epoch(self.table, self.recipe)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        real = self.recipe.real_per_batch
        order = draw_beats(self.table, self.recipe, self.rng)
        for start in range(0, len(self) * real, real):
            chosen = order[start : start + real]
            made_up = self.rng.integers(0, len(self.made_up.labels), self.recipe.batch_size - real)
            labels = np.concatenate([self.table.labels[chosen], self.made_up.labels[made_up]])
            yield *self._disturbed(chosen, made_up), torch.from_numpy(labels)

    def _disturbed(self, chosen: NDArray[np.int64], made_up: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        rng, table = self.rng, self.table
        source = np.concatenate([chosen, self.made_up.source[made_up]])
        both = torch.from_numpy(np.stack([table.shapes[source], table.averages[source]], axis=2))  # (B, leads, 2, 112)
        context = torch.from_numpy(np.concatenate([table.rhythm[chosen], self.made_up.rhythm[made_up]]))
        first, second, is_second = draw_leads(len(source), rng)
        shapes = first * both[:, 0] + second * both[:, 1]
        rhythm = torch.where(is_second, context[:, 1], context[:, 0])
        shapes = _divide_by_height(shapes)
        if len(made_up):
            beats = self.made_up.at(made_up)
            shapes = torch.cat([shapes[: len(chosen)], change_atria(shapes[len(chosen) :], beats, rng)])
        shapes = disturb(shapes, self.noise, self.recipe, rng)
        return shapes, rhythm + torch.from_numpy(rng.normal(0, 0.03, rhythm.shape).astype(np.float32))


def steps_per_epoch(table: ContextTable, recipe: PatientRecipe) -> int:
    """Return the number of batches of an epoch."""
    return sum(n for _, n in _shares(table, recipe)) // recipe.real_per_batch


def draw_beats(table: ContextTable, recipe: PatientRecipe, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw an epoch's beats: of each record and class at most so many as the recipe says, rare ones repeatedly."""
    drawn = [rng.choice(beats, n, replace=n > len(beats)) for beats, n in _shares(table, recipe)]
    return rng.permutation(np.concatenate(drawn))


def _shares(table: ContextTable, recipe: PatientRecipe) -> list[tuple[NDArray[np.int64], int]]:
    """Return, for each record and class, its beats and how many of them an epoch draws."""
    shares = []
    for record in dict.fromkeys(table.records.tolist()):
        for index, most in enumerate(recipe.beats_per_record):
            beats = np.flatnonzero((table.records == record) & (table.labels == index))
            repeats = 1 if index == N else recipe.repeats
            if len(beats):
                shares.append((beats, min(most, repeats * len(beats))))
    return shares


def draw_leads(n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw how the two leads are mixed: the first as it is (55 %), the second (15 %), or any direction between them.

    Returns
    -------
    tuple of Tensor
        Weights of the first and of the second lead, `[n, 1, 1]` each, and where the second stands alone, `[n, 1]` bool.
    """
    which = rng.random(n)
    angle = np.where(which < 0.55, 0.0, np.where(which < 0.7, 1.0, rng.random(n))) * np.pi / 2
    sign = rng.choice([-1.0, 1.0], n)
    weights = np.stack([np.cos(angle), sign * np.sin(angle)]).astype(np.float32)
    is_second = torch.from_numpy((which >= 0.55) & (which < 0.7))
    return torch.from_numpy(weights[0])[:, None, None], torch.from_numpy(weights[1])[:, None, None], is_second[:, None]


def _divide_by_height(shapes: Tensor) -> Tensor:
    """Divide beats and averages `[B, 2, 112]` as `ecgkan.data.context.scale_shapes` does."""
    qrs = shapes[:, 1, QRS]
    height = (qrs.amax(1) - qrs.amin(1)) * 0.4 + 0.02
    return (shapes / height[:, None, None]).clamp(-8, 8)


def change_atria(shapes: Tensor, beats: MadeUpBeats, rng: np.random.Generator) -> Tensor:
    """Fit what comes before the QRS complex to the made-up rhythm: `[m, 2, 112]`.

    Premature atrial beats get another P wave, larger, smaller or upside down, on the T wave of the beat before where
    they come early enough. In fibrillation there is none, neither in the beat nor in the average, but fine waves.
    """
    n = len(shapes)
    fibrillation = torch.from_numpy(beats.kind == _FIBRILLATION)
    atrial = torch.from_numpy(beats.labels == S)
    another = torch.from_numpy(np.where(rng.random(n) < 0.25, 1.0, rng.uniform(-1.3, 1.3, n)).astype(np.float32))
    hardly = torch.from_numpy(rng.uniform(0, 0.25, n).astype(np.float32))
    factor = torch.stack([torch.where(atrial, another, 1.0), torch.ones(n)], dim=1)
    factor = torch.where(fibrillation[:, None], hardly[:, None], factor)[:, :, None]
    changed = shapes + _p_window() * (factor - 1) * (shapes - _line_under_p(shapes))
    early = torch.from_numpy((beats.labels == S) & (beats.rr_s < 0.75))
    beat = changed[:, 0] + _t_wave_before(changed[:, 1], torch.from_numpy(beats.rr_s)) * early[:, None]
    size = torch.from_numpy(np.where(beats.kind == _FIBRILLATION, rng.uniform(0, 0.12, n), 0).astype(np.float32))
    return torch.stack([beat + size[:, None] * _fine_waves(n, rng), changed[:, 1]], dim=1)


def _p_window() -> Tensor:
    places = torch.arange(SHAPE_WIDTH, dtype=torch.float32)
    return torch.sigmoid((places - P_WAVE[0]) / 1.2) * torch.sigmoid((P_WAVE[1] - 0.5 - places) / 0.8)


def _line_under_p(shapes: Tensor) -> Tensor:
    start, stop = P_WAVE[0] - 1, P_WAVE[1] + 1
    part = ((torch.arange(SHAPE_WIDTH, dtype=torch.float32) - start) / (stop + 1 - start)).clamp(0, 1)
    return shapes[..., start : start + 1] + (shapes[..., stop : stop + 1] - shapes[..., start : start + 1]) * part


def _t_wave_before(averages: Tensor, rr_s: Tensor) -> Tensor:
    """Return the T wave of a usual beat that came `rr_s` earlier, as it stands in this beat's window: `[m, 112]`."""
    places = torch.arange(SHAPE_WIDTH)
    there = places + torch.round(rr_s * SHAPE_FS).long()[:, None]
    inside = (there > SHAPE_BEFORE + 14) & (there < SHAPE_WIDTH - 1) & (places < SHAPE_BEFORE - 4)
    return averages.gather(1, there.clamp(0, SHAPE_WIDTH - 1)) * inside


def _fine_waves(n: int, rng: np.random.Generator) -> Tensor:
    """Draw fibrillatory waves of 4 to 8.5 Hz, somewhat irregular: `[n, 112]`."""
    times_s = np.arange(SHAPE_WIDTH) / SHAPE_FS
    hz, start = rng.uniform(4, 8.5, (n, 1)), rng.uniform(0, 2 * np.pi, (n, 1))
    phase = start + 2 * np.pi * hz * times_s + 0.5 * np.sin(2 * np.pi * 1.3 * times_s + 2 * start)
    return torch.from_numpy((np.sin(phase) + 0.3 * np.sin(2 * phase)).astype(np.float32))


def disturb(shapes: Tensor, noise: Tensor, recipe: PatientRecipe, rng: np.random.Generator) -> Tensor:
    """Turn, shift, stretch, soil, smooth and scale beats and their averages: `[B, 2, 112]`."""
    n = len(shapes)
    shapes = shapes * _column(np.where(rng.random(n) < recipe.inverted, -1.0, 1.0))[:, None]
    shapes = _shift_and_stretch(shapes, recipe, rng)
    size = np.where(rng.random(n) < 0.5, np.exp(rng.uniform(-4, -1, n)), 0)
    recorded = _column(size) * noise[torch.from_numpy(rng.integers(0, len(noise), n))]
    shapes = torch.stack([shapes[:, 0] + recorded, shapes[:, 1]], dim=1)
    size = np.where(rng.random(n) < 0.3, np.exp(rng.uniform(-5, -2.5, n)), 0)
    white = torch.from_numpy(rng.normal(size=shapes.shape).astype(np.float32)) * torch.tensor([1.0, 0.2])[:, None]
    shapes = shapes + _column(size)[:, None] * white
    smooth = F.avg_pool1d(F.pad(shapes, (1, 1), mode="replicate"), 3, 1)
    shapes = torch.where(_column(rng.random(n) < 0.25)[:, None] > 0, smooth, shapes)
    return shapes * _column(np.exp(rng.normal(0, 0.08, n)))[:, None]


def _shift_and_stretch(shapes: Tensor, recipe: PatientRecipe, rng: np.random.Generator) -> Tensor:
    n = len(shapes)
    shift = rng.uniform(-recipe.max_shift_samples, recipe.max_shift_samples, n)
    shifts = np.stack([shift, 0.5 * shift + rng.uniform(-1, 1, n)], axis=1)  # the average is of many beats
    stretch = np.exp(rng.uniform(-recipe.max_stretch, recipe.max_stretch, n))
    offsets = np.arange(SHAPE_WIDTH) - SHAPE_BEFORE
    places = offsets * stretch[:, None, None] + SHAPE_BEFORE + shifts[:, :, None]
    positions = torch.from_numpy(np.clip(places, 0, SHAPE_WIDTH - 1.001).astype(np.float32))
    left = positions.long()
    part = positions - left
    return shapes.gather(2, left) * (1 - part) + shapes.gather(2, left + 1) * part


def _column(values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[:, None]
