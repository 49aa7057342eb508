"""Our QRS detector: a small convolutional network that says, for every 11 ms of a lead, how likely a beat lies there.

Plain NumPy, so that finding beats needs no deep-learning library; the weights lie beside this file.
`ecgkan.training.detector` trains them, docs/detector.md says on what, what else was tried, and how good it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

WEIGHTS: Final = Path(__file__).with_name("qrs_detector.npz")

DETECTOR_FS: Final = 360.0
"""Sampling rate the detector takes, Hz: that of the models' windows."""

DECIMATION: Final = 4
"""The network works at 90 Hz: a QRS complex has little above 36 Hz that tells where it is."""

LOWPASS_HZ, LOWPASS_TAPS = 36.0, 61

BASELINE_STEPS: Final = 63
"""0.7 s: the moving average over it is taken for the baseline and subtracted."""

SCALE_STEPS: Final = 901
"""10 s: the signal is divided by its root mean square over it, so that gain and units do not matter."""

SCALE_FLOOR_MV: Final = 0.02
"""Added to the root mean square, so that a silent lead is not blown up to beats."""

CLIP: Final = 8.0

DILATIONS: Final = (1, 2, 4, 8, 16, 32, 1, 2, 4, 8)
"""Of the trunk's layers, at 22.5 Hz: each step sees 3.5 s either side, thus the rhythm as well as the beat."""

FOLD: Final = 8
"""Channels handed back from 22.5 Hz to 90 Hz."""

THRESHOLD: Final = 0.3
"""Likelihood from which on a maximum is a beat; chosen on training records (docs/detector.md)."""

REFRACTORY_STEPS: Final = 18
"""0.2 s: of several maxima closer together the highest is the beat."""

SNAP_SAMPLES: Final = 18
"""An unsure mark is moved to the highest or lowest point within 50 ms, the nearer one: there the annotators put it."""

SURE: Final = 0.95
"""Likelihood from which on the network knows better where the mark belongs (docs/detector.md)."""

CONTEXT_S: Final = 9.5
"""No beat depends on signal further away than this."""


_MANY: Final = 32
"""Input channels from which on a layer is computed tap by tap."""

_TILE: Final = 512
"""Steps multiplied at a time where it is not."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """One layer's weights `[out, in, taps]` and biases `[out]`, float32, batch norm folded in."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    _by_tap: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_tap", np.ascontiguousarray(self.weight.transpose(2, 0, 1)))

    def __call__(
        self, x: NDArray[np.float32], *, stride: int = 1, dilation: int = 1, rectify: bool = True
    ) -> NDArray[np.float32]:
        """Map `[in, n]` to `[out, ceil(n / stride)]`, zeros beyond the ends."""
        taps = self.weight.shape[2]
        reach, steps = dilation * (taps // 2), -(-x.shape[1] // stride)
        padded = np.zeros((x.shape[0], x.shape[1] + 2 * reach), np.float32)
        padded[:, reach : reach + x.shape[1]] = x
        shifted = [slice(tap * dilation, tap * dilation + (steps - 1) * stride + 1, stride) for tap in range(taps)]
        y = self._sum_of_products(padded, shifted) if stride == 1 and len(x) >= _MANY else self._tiles(padded, shifted)
        y += self.bias[:, None]
        return np.maximum(y, 0, out=y) if rectify else y

    def _sum_of_products(self, padded: NDArray[np.float32], shifted: Sequence[slice]) -> NDArray[np.float32]:
        """Add up one product a tap: many channels make each worth its while, and nothing is copied."""
        y: NDArray[np.float32] = self._by_tap[0] @ padded[:, shifted[0]]
        for matrix, columns in zip(self._by_tap[1:], shifted[1:], strict=True):
            y += matrix @ padded[:, columns]
        return y

    def _tiles(self, padded: NDArray[np.float32], shifted: Sequence[slice]) -> NDArray[np.float32]:
        """Lay all taps' columns under one another and multiply once, a tile that fits the cache at a time."""
        matrix = self._by_tap.transpose(1, 0, 2).reshape(len(self.bias), -1)
        views = [padded[:, columns] for columns in shifted]
        y = np.empty((len(self.bias), views[0].shape[1]), np.float32)
        for start in range(0, y.shape[1], _TILE):
            tile = slice(start, start + _TILE)
            y[:, tile] = matrix @ np.concatenate([view[:, tile] for view in views])
        return y


@dataclass(frozen=True, slots=True)
class QRSNetwork:
    """The network's layers, in order.

    Attributes
    ----------
    stem : Convolution
        1 → 16 channels, 9 taps, at 90 Hz.
    down : sequence of Convolution
        16 → 24 → 32 channels, 5 taps, stride 2 each: to 45 and 22.5 Hz.
    trunk : sequence of Convolution
        32 → 32 channels, 3 taps, `DILATIONS`, each added to its input.
    up : Convolution
        32 → 4 · 8 channels, 1 tap: eight channels back at 90 Hz.
    mix, out : Convolution
        8 + 16 (the stem's) → 16 → 1 channel, 5 taps.
    """

    stem: Convolution
    down: Sequence[Convolution]
    trunk: Sequence[Convolution]
    up: Convolution
    mix: Convolution
    out: Convolution

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map a prepared lead `[n]` at 90 Hz, n a multiple of 4, to the likelihood of a beat, `[n]` in 0..1."""
        fine = self.stem(x[None])  # [16, n]
        coarse = fine
        for layer in self.down:
            coarse = layer(coarse, stride=2)  # [32, n / 4]
        for layer, dilation in zip(self.trunk, DILATIONS, strict=True):
            coarse += layer(coarse, dilation=dilation)
        folded = self.up(coarse, rectify=False).reshape(FOLD, DECIMATION, -1)
        raised = folded.transpose(0, 2, 1).reshape(FOLD, -1)  # [8, n]
        logits = self.out(self.mix(np.concatenate([raised, fine])), rectify=False)[0]
        likelihood: NDArray[np.float32] = 1 / (1 + np.exp(-logits))
        return likelihood


@cache
def load_network(path: Path = WEIGHTS) -> QRSNetwork:
    """Read the weights that ship with the package, or others made by `ecgkan detector train`."""
    with np.load(path, allow_pickle=False) as arrays:

        def layer(name: str) -> Convolution:
            return Convolution(arrays[f"{name}.weight"], arrays[f"{name}.bias"])

        return QRSNetwork(
            stem=layer("stem"),
            down=[layer("down.0"), layer("down.1")],
            trunk=[layer(f"trunk.{i}") for i in range(len(DILATIONS))],
            up=layer("up"),
            mix=layer("mix"),
            out=layer("out"),
        )


def find_rpeaks(signal: NDArray[np.floating], *, network: QRSNetwork | None = None) -> NDArray[np.int64]:
    """Find the beats of one lead.

    Parameters
    ----------
    signal : ndarray
        `[n]`, mV, at 360 Hz, without NaN.
    network : QRSNetwork, optional
        Another one than that of the package.

    Returns
    -------
    ndarray
        `[m]` int64, samples in ascending order, at least 0.2 s apart: where the reference annotators of the MIT-BIH
        Arrhythmia Database put their marks, mostly the R peak. A beat depends on `CONTEXT_S` either side at most.
    """
    likelihood = beat_likelihood(signal, network=network)
    marks = np.minimum(pick_beats(likelihood), len(signal) - 1)
    unsure = _highest_around(likelihood, marks // DECIMATION) < SURE
    marks[unsure] = snap_to_extremum(np.asarray(signal), marks[unsure])
    return np.unique(marks)


def beat_likelihood(signal: NDArray[np.floating], *, network: QRSNetwork | None = None) -> NDArray[np.float32]:
    """Return how likely a beat is at each step of 90 Hz: `[n]` at 360 Hz → `[ceil(n / 4)]` float32."""
    steps = -(-len(signal) // DECIMATION)
    prepared = prepare(decimate(signal))
    network = load_network() if network is None else network
    fitting = -(-steps // DECIMATION) * DECIMATION
    with one_blas_thread:
        return network(np.pad(prepared, (0, fitting - steps), mode="edge"))[:steps]


def decimate(signal: NDArray[np.floating]) -> NDArray[np.float32]:
    """Low-pass a lead at 36 Hz and keep every fourth sample: `[n]` → `[ceil(n / 4)]` float32; step i is sample 4 i."""
    return _filtered(signal, DECIMATION)


def lowpass(signal: NDArray[np.floating]) -> NDArray[np.float32]:
    """Low-pass a lead as `decimate` does, and keep every sample: `[n]` float32."""
    return _filtered(signal, 1)


def snap_to_extremum(signal: NDArray[np.floating], marks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move marks `[m]` to the nearer of the highest and the lowest point around, if it is no end of the search."""
    reach = SNAP_SAMPLES + 2
    around = np.clip(marks[:, None] + np.arange(-reach, reach + 1), 0, len(signal) - 1)
    windows = np.asarray(signal, np.float32)[around]
    smooth = sum(windows[:, i : i + 2 * SNAP_SAMPLES + 1] for i in range(5))  # five samples: no spike decides
    ways = np.stack([smooth.argmax(axis=1), smooth.argmin(axis=1)]) - SNAP_SAMPLES  # [2, m]
    nearer = np.take_along_axis(ways, np.abs(ways).argmin(axis=0)[None], axis=0)[0]
    moved = np.where(np.abs(nearer) < SNAP_SAMPLES, marks + nearer, marks)
    return np.clip(moved, 0, len(signal) - 1).astype(np.int64)


def _highest_around(likelihood: NDArray[np.float32], steps: NDArray[np.int64]) -> NDArray[np.float32]:
    around = np.clip(steps[:, None] + np.arange(-2, 3), 0, len(likelihood) - 1)
    highest: NDArray[np.float32] = likelihood[around].max(axis=1, initial=0)
    return highest


def _filtered(signal: NDArray[np.floating], decimation: int) -> NDArray[np.float32]:
    from scipy.signal import upfirdn

    reach = LOWPASS_TAPS // 2
    steps = -(-len(signal) // decimation)
    padded = np.pad(np.asarray(signal, np.float32), (reach, reach + decimation * steps - len(signal)), mode="edge")
    skipped = 2 * reach // decimation  # whole: 60 is a multiple of 4
    filtered: NDArray[np.float32] = upfirdn(_lowpass_taps(), padded, 1, decimation)[skipped : skipped + steps]
    return filtered.astype(np.float32, copy=False)


def prepare(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the baseline off a lead `[n]` at 90 Hz and divide it by its local strength."""
    from scipy.ndimage import uniform_filter1d

    centred = x - uniform_filter1d(x, BASELINE_STEPS, mode="nearest")
    power = uniform_filter1d(centred * centred, SCALE_STEPS, mode="nearest")
    scale = np.sqrt(np.maximum(power, 0)) + np.float32(SCALE_FLOOR_MV)  # a running mean can fall below 0 by rounding
    prepared: NDArray[np.float32] = np.clip(centred / scale, -CLIP, CLIP)
    return prepared


def pick_beats(likelihood: NDArray[np.float32], *, threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """Return the samples at 360 Hz of the highest likelihoods `[n]` at 90 Hz, by centroid between steps."""
    from scipy.ndimage import maximum_filter1d

    highest = maximum_filter1d(likelihood, 2 * REFRACTORY_STEPS + 1, mode="nearest")
    peaks = np.flatnonzero((likelihood >= highest) & (likelihood > threshold))
    if len(peaks):  # of equal neighbours the first
        peaks = peaks[np.concatenate([[True], np.diff(peaks) > REFRACTORY_STEPS])]
    around = peaks[:, None] + np.arange(-3, 4)
    weights = likelihood[np.clip(around, 0, len(likelihood) - 1)].astype(np.float64)
    weights[(around < 0) | (around >= len(likelihood))] = 0
    places = (weights * around).sum(axis=1) / weights.sum(axis=1)
    samples: NDArray[np.int64] = np.maximum(np.round(places * DECIMATION), 0).astype(np.int64)
    return samples


class _OneBlasThread:
    """Keeps matrix products on one core: these are too small to gain from more, and would be rounded otherwise.

    The limit holds for the whole process, so it is set by the first of several threads and lifted by the last.
    """

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._limit = _thread_pools().limit(limits=1, user_api="blas")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limit.restore_original_limits()


one_blas_thread: Final = _OneBlasThread()


@cache
def _thread_pools() -> "ThreadpoolController":
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@cache
def _lowpass_taps() -> NDArray[np.float32]:
    from scipy.signal import firwin

    taps: NDArray[Any] = firwin(LOWPASS_TAPS, LOWPASS_HZ, fs=DETECTOR_FS)
    return taps.astype(np.float32)
