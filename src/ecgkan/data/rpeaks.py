"""R peaks: where the beats are, by a detector or by reference annotations."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import class_of_symbol
from ecgkan.data.beats import BEAT_FS
from ecgkan.data.blocks import Block, read_blocks
from ecgkan.data.missing import stretches
from ecgkan.data.qrs import DECIMATION, beat_likelihood, find_beats
from ecgkan.data.recording import FS_RANGE_HZ, Recording, ReferenceAnnotations
from ecgkan.errors import DataError

MIN_STRETCH_S: Final = 2.0
"""In a shorter stretch of signal nothing is looked for: there is too little to tell a beat from noise."""

MAX_THREADS: Final = 4
"""More hold more blocks in memory than they save time."""

SAME_BEAT_S: Final = 0.15
"""Two peaks closer than this, found by two blocks on either side of their border, are one beat."""


def detect_rpeaks(signal: NDArray[np.floating], fs: float) -> NDArray[np.int64]:
    """Detect R peaks.

    Parameters
    ----------
    signal : ndarray
        `[n_samples]`, mV, one lead; NaN where a sample is missing.
    fs : float
        Sampling rate, Hz, 100 to 2000.

    Returns
    -------
    ndarray
        `[n]` int64, samples in strictly ascending order. Gaps up to 0.2 s are bridged by a straight line. Longer
        gaps, and lines flat for 2 s or longer, divide the signal into stretches in which beats are detected
        separately; stretches shorter than 2 s yield none. The signal is searched block by block
        (`ecgkan.data.blocks`), as a recording of any length is.

    Raises
    ------
    DataError
        If the shape or the sampling rate is unusable, or values are no millivolts.
    """
    low, high = FS_RANGE_HZ
    if not low <= fs <= high:
        raise DataError(f"cannot detect R peaks at a sampling rate of {fs:g} Hz; expected {low:g} to {high:g} Hz")
    values = np.asarray(signal, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"expected one lead of shape [n_samples] with at least one sample, got {list(values.shape)}")
    source = Recording(name="signal", signals=values[:, None], fs=fs, leads=("",))
    detector = BlockDetector()
    with ThreadPoolExecutor(min(MAX_THREADS, len(os.sched_getaffinity(0)))) as pool:
        seen = pool.map(lambda block: (block, _find_in(block)[0]), read_blocks(source, 0))
        found = [detector.join(block, samples) for block, samples in seen]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


class Detected(NamedTuple):
    """What is known of a block's beats.

    Attributes
    ----------
    core, seen : ndarray
        `[n]` and `[m]` int64, ascending, in samples of the recording: R peaks of the block's core, and all of the
        block, its context included.
    likelihood : ndarray
        `[k]` float32, the detector's likelihood of a beat at every fourth sample of `Block.at_360`; 0 where nothing
        is looked for.
    """

    core: NDArray[np.int64]
    seen: NDArray[np.int64]
    likelihood: NDArray[np.float32]


class BlockDetector:
    """Detects R peaks block by block, in order, each beat once.

    Neighbouring blocks see the same signal around the border of their cores, but may place a beat there a sample
    apart, one before the border and one after it. So the last peak before a border, and those that the earlier block
    sees just behind it, are kept in mind: the next block adds no second peak to a beat, and loses none.
    """

    def __init__(self) -> None:
        self._last = -(2**62)
        self._beyond = np.zeros(0, dtype=np.int64)

    def detect(self, block: Block) -> Detected:
        """Find the R peaks of a block, the next one in order."""
        found, likelihood = _find_in(block)
        return Detected(self.join(block, found), found, likelihood)

    def join(self, block: Block, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the block's peaks `[m]` that are its core's, `[n]`, and remember what the next one needs."""
        same_beat = round(SAME_BEAT_S * block.fs)
        core = found[block.in_core(found) & (found - self._last >= same_beat)]
        missed = self._beyond[self._beyond - self._last >= same_beat]
        if len(core):
            missed = missed[core[0] - missed >= same_beat]
        core = np.concatenate([missed, core])
        if len(core):
            self._last = int(core[-1])
        self._beyond = found[(found >= block.core_stop) & (found < block.core_stop + same_beat)][:1]
        return core


def given_rpeaks(block: Block, rpeaks: NDArray[np.int64]) -> Detected:
    """Take a block's R peaks from given ones `[n]`, in samples of the recording, ascending.

    The network looks at the signal all the same: how far a lead can be read does not depend on who marked the beats.
    """
    edges = [block.core_start, block.core_stop, block.start, block.stop]
    core_start, core_stop, start, stop = np.searchsorted(rpeaks, edges).tolist()
    likelihood = _no_likelihood(block)
    for first, last in _searched(block):
        _put(likelihood, first, beat_likelihood(block.at_360[first:last]))
    return Detected(rpeaks[core_start:core_stop], rpeaks[start:stop], likelihood)


def _find_in(block: Block) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return a block's R peaks `[m]`, in samples of the recording, and the likelihood of beats `[k]` at 90 Hz."""
    peaks, likelihood = [np.zeros(0, dtype=np.int64)], _no_likelihood(block)
    for start, stop in _searched(block):
        found = find_beats(block.at_360[start:stop])
        peaks.append(start + found.rpeaks)
        _put(likelihood, start, found.likelihood)
    return block.samples_of(np.concatenate(peaks)), likelihood


def _searched(block: Block) -> list[tuple[int, int]]:
    """Return the stretches of a block at 360 Hz in which beats are looked for."""
    return [pair for pair in stretches(block.present_at_360) if pair[1] - pair[0] >= MIN_STRETCH_S * BEAT_FS]


def _no_likelihood(block: Block) -> NDArray[np.float32]:
    return np.zeros(-(-len(block.at_360) // DECIMATION), dtype=np.float32)


def _put(likelihood: NDArray[np.float32], start: int, found: NDArray[np.float32]) -> None:
    """Put the likelihood of a stretch at its place; a stretch may begin between two steps, two samples off at most."""
    first = (start + DECIMATION // 2) // DECIMATION
    room = likelihood[first : first + len(found)]
    room[:] = found[: len(room)]


def reference_rpeaks(annotations: ReferenceAnnotations) -> NDArray[np.int64]:
    """Return the samples of the annotations that mark beats: `[n]` int64.

    Raises
    ------
    DataError
        If a symbol is no WFDB annotation symbol.
    """
    try:
        is_beat = [class_of_symbol(symbol) is not None for symbol in annotations.symbols]
    except ValueError as error:
        raise DataError(f"reference annotations: {error}") from error
    samples: NDArray[np.int64] = annotations.samples[np.array(is_beat, dtype=bool)]
    return samples
