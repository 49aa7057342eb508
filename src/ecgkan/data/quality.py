"""Signal quality: how far a lead can be read, second by second, and which stretches are not read at all.

docs/quality.md says what the index means, how its thresholds were chosen, and what comes of it in numbers.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.beats import BEAT_FS
from ecgkan.data.blocks import Block
from ecgkan.data.missing import stretches
from ecgkan.data.qrs import DECIMATION
from ecgkan.data.rpeaks import Detected

REASONS: Final = ("missing", "flat", "saturated", "baseline", "noise")
"""Why a stretch is not read; where several apply, the first one is told."""

READABLE: Final = 0.5
"""Quality index from which on a second of signal can be read."""

MAJORITY_S: Final = 21
"""A second is noisy if more than half of so many seconds around it are below `READABLE`: noise comes in bursts."""

NOISY_S: Final = 10
"""So many noisy seconds in a row are a stretch that is not read: no run of ectopic beats looks like noise that long."""

BASELINE_S: Final = 3
"""The same where it is the baseline that runs away, every second counted for itself: no rhythm does that."""

SHAPE, SHAPE_STEP = 0.72, 0.2
"""How like others the beats are (`_likeness`): index 0.5, and what is added for an index of 1."""

SILENCE, SILENCE_STEP = 0.02, -0.01
"""Strength of the signal between waves, in units of the QRS amplitude: index 0.5, and the step to 1."""

LOUD: Final = 0.1
"""Where no beats are found: from this strength between waves on that is for noise, below it for want of beats.

Where nothing at all in two seconds is as strong, the detector's doubt does not count.
"""

RHYTHM, RHYTHM_STEP = 0.5, 0.2
"""Autocorrelation of five seconds: flutter has neither silence nor beats that are alike, but rhythm."""

FLUTTER_STEPS: Final = (18, 36)
"""Lags at 90 Hz at which rhythm is looked for, 0.2 to 0.4 s: slower is the rhythm of one who walks."""

MUSCLE, MUSCLE_STEP = 0.06, -0.05
"""Strength above 40 Hz between QRS complexes, in units of the QRS amplitude."""

BASELINE, BASELINE_STEP = 3.0, -2.5
"""Movement of the baseline within a second, in units of the QRS amplitude."""

DOUBT, DOUBT_STEP = 0.42, -0.05
"""How far the detector doubts what it finds (`_doubt`)."""

DOUBT_S: Final = 11
"""Seconds over which that is taken."""

ALIKE, ALIKE_STEP = 0.85, 0.1
"""`SHAPE` from which on beats excuse doubt, with the two that follow: a kind of beat that the network never learned."""

RECOVERY, RECOVERY_STEP = 0.4, 0.1
"""How alike the T waves are (`_recovery`): a heart recovers after each beat, what else repeats has none.

`python benchmarks/signal_quality.py alike`: made-up artefacts that repeat reach 0.33 where none follows closely, 99 %
of DS1 reach 0.43.
"""

STRAY, STRAY_STEP = 0.02, -0.01
"""The detector's doubt away from the beats it finds (`_stray`): in noise it is everywhere.

99 % of DS1 has less (`python benchmarks/signal_quality.py alike`).
"""

NEAR_BEAT_S: Final = 0.15
"""Likelihoods this close to an R peak are that beat's own."""

RECOVERY_STEPS: Final = (45, 162)
"""Samples at 360 Hz after the R peak in which a T wave is looked for, 0.125 to 0.45 s."""

ROOM: Final = 180
"""The next R peak must be so many samples away: it would be taken for a T wave."""

FAINT: Final = 0.01
"""Root mean square, in units of the QRS amplitude, at which a T wave is as good as none."""

SHIFTS: Final = (-6, -3, 0, 3, 6)
"""Samples at 360 Hz by which beats are moved against each other, since R peaks are not found to the sample."""

AROUND_S: Final = 4.0
"""Beats this close to a second of signal say whether beats are alike there."""

FRAME: Final = 36
"""0.1 s at 360 Hz: signal strengths are taken over it."""

SECOND: Final = round(BEAT_FS)

LOST_AMPLITUDE: Final = 0.1
"""Beats below this share of the QRS amplitude are what a detector makes of a lead that has come off."""

RAIL_S, RAIL_SHARE = 0.05, 0.2
"""A signal at its limit for so long, and so large a part of two seconds, is saturated."""

INVERTED_SHARE: Final = 0.7
"""Share of blocks that must look upside down before a lead is said to be inverted."""

NOT_UPRIGHT: Final = ("AVR", "AVL", "III", "V1", "V2", "V3", "MLIII", "MCL1", "CM1")
"""Leads in which P, QRS and T may point down in a healthy heart."""


class Stretch(NamedTuple):
    """Samples of the recording, stop exclusive, that are not read, and why."""

    start: int
    stop: int
    reason: str


class BlockQuality(NamedTuple):
    """What is said about a block's signal.

    Attributes
    ----------
    readable : ndarray
        `[n]` bool at the recording's sampling rate, over the block.
    stretches : list of Stretch
        What is not read of the core, in order.
    beats : ndarray
        `[m]` float32, quality index 0..1 around each R peak of the core.
    inverted : bool or None
        Whether the beats look upside down; None where there are too few to say.
    """

    readable: NDArray[np.bool_]
    stretches: list[Stretch]
    beats: NDArray[np.float32]
    inverted: bool | None


class _Seconds(NamedTuple):
    """Features of each second of a block, `[k]` each, amplitudes in units of the QRS amplitude."""

    shape: NDArray[np.float64]
    silence: NDArray[np.float64]
    rhythm: NDArray[np.float64]
    muscle: NDArray[np.float64]
    baseline: NDArray[np.float64]
    doubt: NDArray[np.float64]
    recovery: NDArray[np.float64]
    stray: NDArray[np.float64]
    lost: NDArray[np.bool_]

    def worst(self) -> NDArray[np.float64]:
        """Quality index `[k]`, 0..1: the worst of four.

        Unlike beats are excused by silence or rhythm, doubt by beats that are alike.
        """
        without_beats = np.where(self.silence < LOUD, 1.0, 0.0)
        rhythm = _scaled(self.rhythm, RHYTHM, RHYTHM_STEP)
        shape = np.maximum.reduce(
            [
                _scaled(np.where(np.isnan(self.shape), without_beats, self.shape), SHAPE, SHAPE_STEP),
                _scaled(self.silence, SILENCE, SILENCE_STEP),
                rhythm,
            ]
        )
        muscle = _scaled(self.muscle, MUSCLE, MUSCLE_STEP)
        baseline = _scaled(self.baseline, BASELINE, BASELINE_STEP)
        doubt = np.maximum(_scaled(self.doubt, DOUBT, DOUBT_STEP), self._alike())
        worst: NDArray[np.float64] = np.minimum.reduce([shape, muscle, baseline, doubt])
        return worst

    def _alike(self) -> NDArray[np.float64]:
        """How far the beats are surely beats, whatever the network makes of them: `[k]`, 0..1.

        A beat of a kind it never learned, as a paced one, leaves it in doubt where the beat is, not whether. So beats
        must be alike, each with its T wave, and nothing else may look like a beat to it.
        """
        alike: NDArray[np.float64] = np.minimum.reduce(
            [
                _scaled(np.nan_to_num(self.shape, nan=-1.0), ALIKE, ALIKE_STEP),
                _scaled(np.nan_to_num(self.recovery, nan=-1.0), RECOVERY, RECOVERY_STEP),
                _scaled(self.stray, STRAY, STRAY_STEP),
            ]
        )
        return alike


def assess_quality(block: Block, detected: Detected) -> BlockQuality:
    """Judge a block's signal.

    Parameters
    ----------
    block : Block
        The signal.
    detected : Detected
        Its beats: those of the core get an index; all that are seen, and how sure the detector is, say how far the
        signal can be read.
    """
    positions = block.positions_at_360(np.arange(block.start, block.stop))
    reasons = np.zeros(len(block.values), dtype=np.int8)  # 0: read; k: REASONS[k - 1]
    index, inverted = np.ones(1), None
    if len(block.at_360) >= 2 * SECOND:
        rpeaks = block.positions_at_360(detected.seen)
        seconds = _measure(block.at_360, rpeaks, detected.likelihood)
        index = seconds.worst()
        unread = _unread(seconds, index)
        reasons = unread[np.minimum(positions // SECOND, len(unread) - 1)]
        inverted = _looks_inverted(block.at_360, rpeaks)
    reasons[_saturated(block)] = 1 + REASONS.index("saturated")
    reasons[~block.present] = 1 + REASONS.index("flat")
    reasons[block.missing] = 1 + REASONS.index("missing")
    at_beats = index[np.minimum(block.positions_at_360(detected.core) // SECOND, len(index) - 1)]
    return BlockQuality(reasons == 0, _stretches_in_core(block, reasons), at_beats.astype(np.float32), inverted)


def join_stretches(found: list[Stretch]) -> list[Stretch]:
    """Join stretches of one reason that touch, as they do at the border of two blocks."""
    joined: list[Stretch] = []
    for stretch in found:
        if joined and joined[-1].stop == stretch.start and joined[-1].reason == stretch.reason:
            joined[-1] = joined[-1]._replace(stop=stretch.stop)
        else:
            joined.append(stretch)
    return joined


def is_inverted(votes: list[bool], lead: str) -> bool:
    """Whether a lead looks upside down, from what its blocks say; leads that may point down never do."""
    upright = lead.strip().upper().removeprefix("LEAD ") not in NOT_UPRIGHT
    return upright and len(votes) > 0 and float(np.mean(votes)) >= INVERTED_SHARE


def _scaled(values: NDArray[np.float64], half: float, step: float) -> NDArray[np.float64]:
    """Map a feature to 0..1: 0.5 at `half`, 1 a step further, 0 a step before."""
    return np.clip(0.5 + 0.5 * (values - half) / step, 0.0, 1.0)


def _measure(signal: NDArray[np.float64], rpeaks: NDArray[np.int64], likelihood: NDArray[np.float32]) -> _Seconds:
    """Take the features of each second of a block's signal `[n]` at 360 Hz, n at least two seconds."""
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import sosfiltfilt

    waves = sosfiltfilt(_filter("bandpass", 1.0, 40.0), signal)
    amplitudes, amplitude = _qrs_amplitudes(waves, rpeaks)
    strength = _frame_rms(waves) / amplitude
    muscle = _frame_rms(sosfiltfilt(_filter("highpass", 40.0), signal)) / amplitude
    baseline = uniform_filter1d(signal, SECOND + 1, mode="nearest")[: len(strength) * FRAME : FRAME] / amplitude
    centres = np.arange(SECOND // FRAME // 2, len(strength), SECOND // FRAME)
    rhythm = _rhythm(waves, centres)
    loud = _windows(strength, 10)[centres].max(axis=1) >= LOUD
    p = _by_second(likelihood, loud)
    return _Seconds(
        shape=_around(_likeness(signal, rpeaks), rpeaks, centres * FRAME),
        silence=np.percentile(_windows(strength, 10)[centres], 20, axis=1),
        rhythm=rhythm,
        muscle=np.percentile(_windows(muscle, 10)[centres], 30, axis=1),
        baseline=np.ptp(_windows(baseline, 5)[centres], axis=1),
        doubt=_doubt(p, rhythm >= RHYTHM),
        recovery=_around(_recovery(signal, rpeaks, amplitude), rpeaks, centres * FRAME),
        stray=_stray(p, rpeaks),
        lost=_lost(amplitudes < LOST_AMPLITUDE * amplitude, rpeaks, centres * FRAME),
    )


def _qrs_amplitudes(waves: NDArray[np.float64], rpeaks: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Peak-to-peak amplitude of each QRS complex `[m]`, and their median; of all the signal where there are too few."""
    around = np.clip(rpeaks[:, None] + np.arange(-18, 36), 0, len(waves) - 1)
    amplitudes = np.ptp(waves[around], axis=1) if len(rpeaks) else np.zeros(0)
    amplitude = float(np.median(amplitudes)) if len(rpeaks) > 3 else float(np.ptp(waves))
    return amplitudes, max(amplitude, 1e-6)  # a nanovolt, so that a line that is silent can be divided by it


def _frame_rms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    n = len(values) // FRAME
    rms: NDArray[np.float64] = np.sqrt((values[: n * FRAME].reshape(n, FRAME) ** 2).mean(axis=1))
    return rms


def _windows(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Return the values around each one: `[n]` → `[n, 2 * reach + 1]`, the ends repeated."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(values, reach, mode="edge"), 2 * reach + 1)


def _likeness(signal: NDArray[np.float64], rpeaks: NDArray[np.int64]) -> NDArray[np.float64]:
    """How like some others of the block each beat is, in shape and size: `[m]`, NaN where there are too few to compare.

    Two beats a and b, their baseline taken off, are 2 a·b / (|a|² + |b|²) alike, at the best of a few shifts: 1 for
    the same beat, 0.8 for one of half its size. Each beat is as like others as it is to the tenth part of them that
    is nearest: a beat of a rare shape finds its like, and in noise chance does not reach so far.
    """
    from scipy.ndimage import uniform_filter1d

    whole = np.flatnonzero((rpeaks >= 106) & (rpeaks < len(signal) - 126))
    drift = uniform_filter1d(uniform_filter1d(signal, 541, mode="nearest"), 541, mode="nearest")
    centred = signal - drift

    def cut(shift: int) -> NDArray[np.float64]:
        beats: NDArray[np.float64] = centred[rpeaks[whole, None] + shift + np.arange(-100, 120, 2)]
        centred_beats: NDArray[np.float64] = beats - beats.mean(axis=1, keepdims=True)
        return centred_beats

    likeness = np.full(len(rpeaks), np.nan)
    likeness[whole] = _alike_to_a_tenth(cut, len(whole), 1e-12)
    return likeness


def _recovery(signal: NDArray[np.float64], rpeaks: NDArray[np.int64], amplitude: float) -> NDArray[np.float64]:
    """How like some others of the block each beat's T wave is, as `_likeness` is: `[m]`, NaN where there is no room.

    What is left of the signal after the QRS complex when a parabola is taken off, so that it must bend both ways: no
    line that rests between artefacts, climbs or dies away does, nor do they leave more than is `FAINT`.
    """
    first, last = RECOVERY_STEPS
    after = np.append(rpeaks[1:], len(signal) + ROOM) if len(rpeaks) else rpeaks
    room = (rpeaks >= 0) & (rpeaks < len(signal) - last - SHIFTS[-1]) & (after - rpeaks >= ROOM)
    whole = np.flatnonzero(room)
    steps = np.arange(first, last, 2)
    parabolas, _ = np.linalg.qr(np.vander(np.linspace(-1.0, 1.0, len(steps)), 3))  # (samples, 3), orthonormal

    def cut(shift: int) -> NDArray[np.float64]:
        waves: NDArray[np.float64] = signal[rpeaks[whole, None] + shift + steps]
        bent: NDArray[np.float64] = waves - (waves @ parabolas) @ parabolas.T
        return bent

    recovery = np.full(len(rpeaks), np.nan)
    recovery[whole] = _alike_to_a_tenth(cut, len(whole), 2 * len(steps) * (FAINT * amplitude) ** 2)
    return recovery


def _alike_to_a_tenth(cut: Callable[[int], NDArray[np.float64]], n: int, faint: float) -> NDArray[np.float64]:
    """How alike each of n beats is to the nearest tenth of the others: `[n]`; `cut` gives them shifted, `[n, samples]`.

    `faint` is added to the power of two beats: what has less is like nothing.
    """
    if n < 4:
        return np.full(n, np.nan)
    reference = cut(0)
    power = (reference**2).sum(axis=1)[:, None]

    def likeness_to(others: NDArray[np.float64]) -> NDArray[np.float64]:
        alike: NDArray[np.float64] = 2 * (reference @ others.T) / (power + (others**2).sum(axis=1) + faint)
        return alike

    alike = np.maximum.reduce([likeness_to(cut(shift)) for shift in SHIFTS])
    np.fill_diagonal(alike, -1.0)
    rank = min(max(-(-n // 10), min(3, (n - 1) // 3)), 12)
    nearest: NDArray[np.float64] = np.partition(alike, -rank, axis=1)[:, -rank]
    return nearest


def _around(
    likeness: NDArray[np.float64], rpeaks: NDArray[np.int64], centres: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Median likeness of the beats around each second, NaN where there are fewer than two to judge by."""
    known = np.isfinite(likeness)
    rpeaks, likeness = rpeaks[known], likeness[known]
    first = np.searchsorted(rpeaks, centres - AROUND_S * BEAT_FS)
    last = np.searchsorted(rpeaks, centres + AROUND_S * BEAT_FS)
    pairs = zip(first.tolist(), last.tolist(), strict=True)
    return np.array([np.median(likeness[a:b]) if b - a > 1 else np.nan for a, b in pairs])


def _rhythm(waves: NDArray[np.float64], centres: NDArray[np.int64]) -> NDArray[np.float64]:
    """Highest autocorrelation of five seconds around each centre at the lags of flutter, 150 to 300 per minute.

    Only where it has fallen below 0 at a shorter lag: a slow wave is like itself a little later, but has no rhythm.
    """
    from scipy.ndimage import uniform_filter1d

    slow = uniform_filter1d(waves, 5, mode="nearest")[::4]  # 90 Hz
    windows = _windows(slow, 225)[centres * FRAME // 4]
    windows = windows - windows.mean(axis=1, keepdims=True)
    first, last = FLUTTER_STEPS
    n_lags = last + 1
    spectrum = np.fft.rfft(windows, 1024, axis=1)
    autocorrelation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :n_lags]
    autocorrelation /= autocorrelation[:, :1] + 1e-12
    autocorrelation *= 451 / (451 - np.arange(n_lags))
    has_fallen = np.maximum.accumulate(autocorrelation < 0, axis=1)
    highest: NDArray[np.float64] = np.where(has_fallen, autocorrelation, -1.0)[:, first:].max(axis=1)
    return highest


def _by_second(likelihood: NDArray[np.float32], loud: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Likelihoods of a beat at 90 Hz, second by second: `[n]` → `[k, 90]`, 0 where a second is not loud.

    In a pause, where the network hears the faintest noise, there is nothing to be doubted.
    """
    steps = SECOND // DECIMATION
    p = np.zeros(len(loud) * steps)
    p[: len(likelihood)] = likelihood[: len(p)]
    seconds: NDArray[np.float64] = p.reshape(len(loud), steps) * loud[:, None]
    return seconds


def _doubt(likelihood: NDArray[np.float64], rhythm: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far the detector doubts what it finds within eleven seconds: `[k]`, 0 to 1.

    Σ p (1 - p) / (1 + Σ p) over the likelihoods p of a beat `[k, 90]`. There is nothing to be doubted where the signal
    has rhythm, as flutter has: these seconds add to the second sum alone. A beat that is sure adds 0.7 to the first
    sum and 2.5 to the second, since p rises and falls with it.
    """
    return _share(likelihood * (1 - likelihood) * ~rhythm[:, None], likelihood)


def _stray(likelihood: NDArray[np.float64], rpeaks: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far it doubts that there is no beat where it finds none: `[k]`, as `_doubt`, away from R peaks `[m]`."""
    steps = np.arange(likelihood.size)
    peaks = np.concatenate([[-np.inf], rpeaks / DECIMATION, [np.inf]])
    after = np.searchsorted(peaks, steps)
    reach = NEAR_BEAT_S * SECOND / DECIMATION
    near = (steps - peaks[after - 1] <= reach) | (peaks[after] - steps <= reach)
    return _share(likelihood * (1 - likelihood) * ~near.reshape(likelihood.shape), likelihood)


def _share(doubtful: NDArray[np.float64], likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ doubtful / (1 + Σ likelihood) within eleven seconds: `[k, 90]` → `[k]`.

    A signal of less than that is not doubted: the network itself looks as far around.
    """
    if len(likelihood) < DOUBT_S:
        return np.zeros(len(likelihood))
    beats, doubts = (_windows(values.sum(axis=1), DOUBT_S // 2).sum(axis=1) for values in (likelihood, doubtful))
    share: NDArray[np.float64] = doubts / (1 + beats)
    return share


def _lost(low: NDArray[np.bool_], rpeaks: NDArray[np.int64], centres: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where two or more R peaks lie within two seconds, all of them far too small."""
    total = np.concatenate([[0], np.cumsum(low)])
    first, last = (np.searchsorted(rpeaks, centres + step * SECOND) for step in (-2, 2))
    return np.asarray((last - first > 1) & (total[last] - total[first] == last - first))


def _unread(seconds: _Seconds, index: NDArray[np.float64]) -> NDArray[np.int8]:
    """Which seconds are not read, and why: `[k]`, 0 or the number of the reason."""
    from scipy.ndimage import uniform_filter1d

    low = (index < READABLE).astype(np.float64)
    baseline = _scaled(seconds.baseline, BASELINE, BASELINE_STEP) < READABLE
    unread = np.zeros(len(index), dtype=np.int8)
    for start, stop in _lasting(uniform_filter1d(low, MAJORITY_S, mode="nearest") > 0.5, NOISY_S):
        mostly_baseline = 2 * np.count_nonzero(baseline[start:stop]) > stop - start
        unread[start:stop] = 1 + REASONS.index("baseline" if mostly_baseline else "noise")
    for start, stop in _lasting(baseline & (unread == 0), BASELINE_S):
        unread[start:stop] = 1 + REASONS.index("baseline")
    for start, stop in _lasting(seconds.lost, BASELINE_S):
        unread[start:stop] = 1 + REASONS.index("flat")
    return unread


def _lasting(mask: NDArray[np.bool_], at_least: int) -> list[tuple[int, int]]:
    """Return the runs of True in `[k]` that last; all of a shorter block is enough."""
    return [(start, stop) for start, stop in stretches(mask) if stop - start >= min(at_least, len(mask))]


def _saturated(block: Block) -> NDArray[np.bool_]:
    """Which samples `[n]` lie in two seconds of which a good part is spent at the signal's upper or lower limit."""
    from scipy.ndimage import uniform_filter1d

    values = block.values
    low, high = float(values.min()), float(values.max())
    middle = float(np.median(values))
    at_rail = np.zeros(len(values), dtype=bool)
    for rail in (low, high):
        # A line that the signal rests on between its beats is no limit.
        if abs(rail - middle) > 0.25 * (high - low) > 0:
            for start, stop in stretches(values == rail):
                at_rail[start:stop] |= stop - start >= RAIL_S * block.fs
    if not at_rail.any():
        return at_rail
    width = min(round(2 * block.fs), len(values))
    share = uniform_filter1d(at_rail.astype(np.float64), width, mode="constant")
    return np.asarray(share >= RAIL_SHARE)


def _stretches_in_core(block: Block, reasons: NDArray[np.int8]) -> list[Stretch]:
    inside = reasons[block.core_start - block.start : block.core_stop - block.start]
    edges = np.flatnonzero(np.diff(inside)) + 1
    bounds = np.concatenate([[0], edges, [len(inside)]]).tolist()
    return [
        Stretch(block.core_start + start, block.core_start + stop, REASONS[inside[start] - 1])
        for start, stop in pairwise(bounds)
        if inside[start]
    ]


def _looks_inverted(signal: NDArray[np.float64], rpeaks: NDArray[np.int64]) -> bool | None:
    """Whether P wave, QRS complex and T wave of the median beat all point down; None without twenty beats.

    One of them pointing down is common: deep S waves, a T wave against a broad QRS complex.
    """
    whole = rpeaks[(rpeaks >= 128) & (rpeaks < len(signal) - 128)]
    if len(whole) < 20:
        return None
    beats = signal[whole[:, None] + np.arange(-128, 128)]
    median = np.median(beats - np.median(beats, axis=1, keepdims=True), axis=0)
    qrs = median[128 - 25 : 128 + 25] - np.median(median)
    height = float(np.ptp(qrs)) + 1e-9
    before = np.median(median[:40])  # between the last T wave and the P wave
    p_wave = _largest(median[128 - 85 : 128 - 25] - before)
    t_wave = _largest(median[128 + 45 : 128 + 125] - before)
    return bool(qrs.max() + qrs.min() < -0.3 * height and p_wave < -0.03 * height and t_wave < -0.06 * height)


def _largest(values: NDArray[np.float64]) -> float:
    return float(values[np.abs(values).argmax()])


@cache
def _filter(kind: str, *edges_hz: float) -> NDArray[np.float64]:
    from scipy.signal import butter

    edges = edges_hz[0] if len(edges_hz) == 1 else edges_hz
    sections: NDArray[Any] = butter(2, edges, btype=kind, fs=BEAT_FS, output="sos")
    return sections
