"""Blocks: a lead walked from start to end in constant memory, whatever its length.

A recording is divided on a grid that depends on its sampling rate alone: block k is responsible for the beats of its
*core*, about two minutes, and sees ten seconds of *context* on either side. Each block is filled, resampled, searched
for R peaks and judged for itself, so nothing depends on how many blocks are read from the file at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.beats import BEAT_FS
from ecgkan.data.missing import fill_missing
from ecgkan.data.resampling import map_samples, resample, resampling_ratio
from ecgkan.errors import DataError

if TYPE_CHECKING:
    from ecgkan.data.recording import SignalSource

CORE_S: Final = 120.0
"""Length of a core; at odd sampling rates it differs by a few seconds, see `block_grid`."""

CONTEXT_S: Final = 10.0
"""What a block sees on either side of its core: more than the detector needs (`ecgkan.data.qrs.CONTEXT_S`)."""

CHUNK_S: Final = 600.0
"""How much is read from a file at a time, unless asked otherwise."""


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Where the blocks of a recording lie.

    Attributes
    ----------
    n_samples : int
        Length of the recording.
    fs : float
        Its sampling rate, Hz.
    core, context : int
        Lengths in samples at `fs`: multiples of the resampling ratio's denominator, so that a block's first sample
        falls on a sample at 360 Hz, as the recording's first one does.
    """

    n_samples: int
    fs: float
    core: int
    context: int

    def __len__(self) -> int:
        return -(-self.n_samples // self.core)

    def core_of(self, k: int) -> tuple[int, int]:
        """Return start and stop of block k's core, in samples of the recording."""
        return k * self.core, min((k + 1) * self.core, self.n_samples)

    def block_of(self, k: int) -> tuple[int, int]:
        """Return start and stop of block k with its context, as far as the recording goes."""
        start, stop = self.core_of(k)
        return max(start - self.context, 0), min(stop + self.context, self.n_samples)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A stretch of one lead, ready to be looked at.

    Attributes
    ----------
    fs : float
        The recording's sampling rate, Hz.
    start : int
        First sample, in samples of the recording.
    core_start, core_stop : int
        The part whose beats are this block's, in samples of the recording, stop exclusive.
    values : ndarray
        `[n]` float64, mV at `fs`; missing samples lie on straight lines.
    missing : ndarray
        `[n]` bool, where the recording holds no value and the gap is too long to be bridged.
    present : ndarray
        `[n]` bool, where there is signal: neither missing nor held at one value for seconds.
    at_360 : ndarray
        `[m]` float64, mV: `values` at 360 Hz; its first sample is that of `values`.
    present_at_360 : ndarray
        `[m]` bool, `present` at the nearest sample.
    """

    fs: float
    start: int
    core_start: int
    core_stop: int
    values: NDArray[np.float64]
    missing: NDArray[np.bool_]
    present: NDArray[np.bool_]
    at_360: NDArray[np.float64]
    present_at_360: NDArray[np.bool_]

    @property
    def stop(self) -> int:
        """The sample after the last one, in samples of the recording."""
        return self.start + len(self.values)

    def positions_at_360(self, samples: NDArray[np.integer]) -> NDArray[np.int64]:
        """Map samples of the recording `[k]` to positions in `at_360`."""
        return map_samples(samples - self.start, self.fs, BEAT_FS, n_samples=len(self.at_360))

    def samples_of(self, positions: NDArray[np.integer]) -> NDArray[np.int64]:
        """Map positions in `at_360` `[k]` to samples of the recording."""
        return map_samples(positions, BEAT_FS, self.fs, n_samples=len(self.values)) + self.start

    def in_core(self, samples: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which samples of the recording `[k]` this block is responsible for."""
        return np.asarray((samples >= self.core_start) & (samples < self.core_stop))


def block_grid(n_samples: int, fs: float) -> BlockGrid:
    """Lay the grid: cores of about two minutes, contexts of at least ten seconds.

    Both are whole multiples of d samples, where u/d is the resampling ratio to 360 Hz and d at most 1000; so a core
    lasts 120 s at the common rates, and between 115 s and 125 s at any.

    Raises
    ------
    DataError
        If the sampling rate is unusable.
    """
    step = resampling_ratio(fs, BEAT_FS).denominator
    return BlockGrid(
        n_samples=n_samples,
        fs=fs,
        core=step * max(round(CORE_S * fs / step), 1),
        context=step * int(np.ceil(CONTEXT_S * fs / step)),
    )


def read_blocks(source: "SignalSource", column: int, *, chunk_s: float = CHUNK_S) -> Iterator[Block]:
    """Walk a lead block by block.

    Parameters
    ----------
    source : SignalSource
        A recording, in memory or open.
    column : int
        The lead.
    chunk_s : float
        How much is read at a time, in seconds, rounded up to whole blocks. The blocks are the same for any value.

    Raises
    ------
    DataError
        If `chunk_s` is not positive, or the signal cannot be read or holds no millivolts.
    """
    for block, _ in read_block_pairs(source, column, None, chunk_s=chunk_s):
        yield block


def read_block_pairs(
    source: "SignalSource", column: int, second: int | None, *, chunk_s: float = CHUNK_S
) -> Iterator[tuple[Block, Block | None]]:
    """Walk a lead block by block, and a second one beside it.

    Parameters
    ----------
    source, column, chunk_s
        See `read_blocks`.
    second : int, optional
        The second lead. Where it holds no millivolts, its block is None: the first one has to be usable, the second one
        only adds to it.
    """
    if not chunk_s > 0:
        raise DataError(f"chunk_s must be positive, got {chunk_s}")
    grid = block_grid(source.n_samples, source.fs)
    per_chunk = int(np.ceil(min(chunk_s / CORE_S, len(grid) or 1)))
    columns = [column] if second is None else [column, second]
    for first in range(0, len(grid), per_chunk):
        last = min(first + per_chunk, len(grid)) - 1
        chunk_start, chunk_stop = grid.block_of(first)[0], grid.block_of(last)[1]
        chunk = source.read(chunk_start, chunk_stop, columns)
        for k in range(first, last + 1):
            start, stop = grid.block_of(k)
            part = chunk[start - chunk_start : stop - chunk_start]
            block = make_block(part[:, 0], source.fs, start, grid.core_of(k))
            yield block, None if second is None else _usable_block(part[:, 1], source.fs, start, grid.core_of(k))


def _usable_block(signal: NDArray[np.floating], fs: float, start: int, core: tuple[int, int]) -> Block | None:
    try:
        return make_block(signal, fs, start, core)
    except DataError:
        return None


def make_block(signal: NDArray[np.floating], fs: float, start: int, core: tuple[int, int]) -> Block:
    """Fill and resample a stretch of a lead.

    Parameters
    ----------
    signal : ndarray
        `[n]`, mV; NaN where a sample is missing.
    fs : float
        Sampling rate, Hz.
    start : int
        Its first sample, in samples of the recording.
    core : tuple of int
        Start and stop of the core, in samples of the recording.

    Raises
    ------
    DataError
        If the values are no millivolts, or there are none.
    """
    filled = fill_missing(signal, fs)
    at_360 = resample(filled.values, fs, BEAT_FS)
    nearest = map_samples(np.arange(len(at_360)), BEAT_FS, fs, n_samples=len(filled.values))
    return Block(
        fs=fs,
        start=start,
        core_start=core[0],
        core_stop=core[1],
        values=filled.values,
        missing=~filled.present & ~np.isfinite(signal),
        present=filled.present,
        at_360=at_360,
        present_at_360=filled.present[nearest],
    )
