"""Our QRS detector: a small convolutional network that says, for every 11 ms of a lead, how likely a beat lies there.

ONNX Runtime computes it, so that finding beats needs no PyTorch; the network lies beside this file.
`ecgkan.training.detector` trains it, docs/detector.md says on what, what else was tried, and how good it is.
"""

from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import CheckpointError

WEIGHTS: Final = Path(__file__).with_name("qrs_detector.onnx")

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

REFRACTORY_STEPS: Final = 18
"""0.2 s: of several maxima closer together the highest is the beat."""

THRESHOLD: Final = 0.3
"""Likelihood from which on a maximum is a beat; chosen on training records (docs/detector.md)."""

MARK_STEPS: Final = 8
"""A mark lies within 89 ms of the highest likelihood."""

MARK_BAND_HZ: Final = (3.0, 30.0)
"""The annotators' marks lie where this band of the lead is strongest."""

MARK_TAPS: Final = 127
"""Length of the filter for that band, 1.4 s."""

SURE: Final = 0.95
"""Likelihood from which on the network knows better where the mark belongs (docs/detector.md)."""

CONTEXT_S: Final = 9.5
"""No beat depends on signal further away than this."""


class QRSNetwork:
    """The trained network, run by ONNX Runtime on the calling thread; may be shared by threads.

    Parameters
    ----------
    path : path
        ONNX file with the bytes that `ecgkan.models.qrs.to_onnx` returns.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is no such network.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # blocks are searched side by side instead
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{path}: expected a QRS detector in ONNX format, got {reason}") from error
        inputs = [(given.name, len(given.shape)) for given in self._session.get_inputs()]
        if inputs != [("lead", 4)]:
            raise CheckpointError(f"{path}: this ONNX file is no QRS detector; `ecgkan detector train` writes one")

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map a prepared lead `[n]` at 90 Hz, n a multiple of 4, to the likelihood of a beat, `[n]` in 0..1."""
        (likelihood,) = self._session.run(None, {"lead": x[None, None, None]})
        return np.asarray(likelihood, dtype=np.float32)


@cache
def load_network(path: Path = WEIGHTS) -> QRSNetwork:
    """Load the network that ships with the package, or another one made by `ecgkan detector train`."""
    return QRSNetwork(path)


class Found(NamedTuple):
    """What the detector finds in a lead.

    Attributes
    ----------
    rpeaks : ndarray
        `[m]` int64, samples at 360 Hz in ascending order, at least 0.2 s apart: where the reference annotators of the
        MIT-BIH Arrhythmia Database put their marks, mostly the R peak. A beat depends on `CONTEXT_S` either side at
        most.
    likelihood : ndarray
        `[ceil(n / 4)]` float32, of a beat at each step of 90 Hz.
    """

    rpeaks: NDArray[np.int64]
    likelihood: NDArray[np.float32]


def find_beats(signal: NDArray[np.floating], *, network: QRSNetwork | None = None) -> Found:
    """Find the beats of one lead, and say how likely one is anywhere.

    Parameters
    ----------
    signal : ndarray
        `[n]`, mV, at 360 Hz, without NaN.
    network : QRSNetwork, optional
        Another one than that of the package.
    """
    decimated = decimate(signal)
    likelihood = _likelihood(decimated, network)
    marks = place_marks(decimated, likelihood, pick_beats(likelihood))
    return Found(np.unique(np.minimum(marks, len(signal) - 1)), likelihood)


def find_rpeaks(signal: NDArray[np.floating], *, network: QRSNetwork | None = None) -> NDArray[np.int64]:
    """Return the R peaks that `find_beats` finds."""
    return find_beats(signal, network=network).rpeaks


def beat_likelihood(signal: NDArray[np.floating], *, network: QRSNetwork | None = None) -> NDArray[np.float32]:
    """Return how likely a beat is at each step of 90 Hz: `[n]` at 360 Hz → `[ceil(n / 4)]` float32."""
    return _likelihood(decimate(signal), network)


def _likelihood(decimated: NDArray[np.float32], network: QRSNetwork | None) -> NDArray[np.float32]:
    network = load_network() if network is None else network
    missing = -len(decimated) % DECIMATION
    return network(np.pad(prepare(decimated), (0, missing), mode="edge"))[: len(decimated)]


def decimate(signal: NDArray[np.floating]) -> NDArray[np.float32]:
    """Low-pass a lead at 36 Hz and keep every fourth sample: `[n]` → `[ceil(n / 4)]` float32; step i is sample 4 i."""
    return _filtered(signal, DECIMATION)


def lowpass(signal: NDArray[np.floating]) -> NDArray[np.float32]:
    """Low-pass a lead as `decimate` does, and keep every sample: `[n]` float32."""
    return _filtered(signal, 1)


def place_marks(
    decimated: NDArray[np.float32], likelihood: NDArray[np.float32], steps: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Say where in the lead each beat's mark belongs: where the network is sure, or at the strongest peak or trough.

    Parameters
    ----------
    decimated, likelihood : ndarray
        `[n]` float32 at 90 Hz, from `decimate` and `beat_likelihood`.
    steps : ndarray
        `[m]` int64, from `pick_beats`.

    Returns
    -------
    ndarray
        `[m]` int64, samples at 360 Hz.
    """
    last = len(decimated) - 1
    strength = np.abs(_mark_band(decimated))
    centres = _centroids(likelihood, steps)
    around = np.round(centres).astype(np.int64)[:, None] + np.arange(-MARK_STEPS - 1, MARK_STEPS + 2)
    windows = strength[np.clip(around, 0, last)]  # [m, 19]
    before, here, after = windows[:, :-2], windows[:, 1:-1], windows[:, 2:]
    is_extremum = (here >= before) & (here > after)
    chosen = np.where(is_extremum, here, -1).argmax(axis=1)[:, None]
    left, top, right = (np.take_along_axis(side, chosen, axis=1)[:, 0] for side in (before, here, after))
    between = 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-9)  # the vertex of a parabola, in steps
    extremum = np.take_along_axis(around, chosen + 1, axis=1)[:, 0] + between
    unsure = is_extremum.any(axis=1) & (likelihood[steps] < SURE)
    places = np.clip(np.where(unsure, extremum, centres), 0, last)
    samples: NDArray[np.int64] = np.round(places * DECIMATION).astype(np.int64)
    return samples


def _centroids(likelihood: NDArray[np.float32], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the places between steps around which the likelihood at each of `steps` `[m]` is centred."""
    around = steps[:, None] + np.arange(-3, 4)
    weights = likelihood[np.clip(around, 0, len(likelihood) - 1)].astype(np.float64)
    weights[(around < 0) | (around >= len(likelihood))] = 0
    places: NDArray[np.float64] = (weights * around).sum(axis=1) / weights.sum(axis=1)
    return places


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


def pick_beats(likelihood: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the steps at 90 Hz where the likelihood `[n]` has its maxima, as far as they are high enough: `[m]`."""
    from scipy.ndimage import maximum_filter1d

    highest = maximum_filter1d(likelihood, 2 * REFRACTORY_STEPS + 1, mode="nearest")
    peaks: NDArray[np.int64] = np.flatnonzero((likelihood >= highest) & (likelihood > THRESHOLD))
    if len(peaks):  # of equal neighbours the first
        peaks = peaks[np.concatenate([[True], np.diff(peaks) > REFRACTORY_STEPS])]
    return peaks


def _mark_band(decimated: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.fft import irfft, next_fast_len, rfft

    padded = np.pad(decimated, MARK_TAPS // 2, mode="edge")
    fast = next_fast_len(len(padded), real=True)
    band: NDArray[np.float32] = irfft(rfft(padded, fast) * rfft(_mark_taps(), fast), fast)[MARK_TAPS - 1 : len(padded)]
    return band


@cache
def _mark_taps() -> NDArray[np.float32]:
    """Return the zero-phase response of a Butterworth filter run forwards and backwards, cut off where it has faded."""
    from scipy.signal import butter, sosfiltfilt

    impulse = np.zeros(4 * MARK_TAPS + 1)
    impulse[2 * MARK_TAPS] = 1.0
    sections = butter(2, MARK_BAND_HZ, "bandpass", fs=DETECTOR_FS / DECIMATION, output="sos")
    middle = slice(2 * MARK_TAPS - MARK_TAPS // 2, 2 * MARK_TAPS + MARK_TAPS // 2 + 1)
    taps: NDArray[Any] = sosfiltfilt(sections, impulse)[middle]
    return taps.astype(np.float32)


@cache
def _lowpass_taps() -> NDArray[np.float32]:
    from scipy.signal import firwin

    taps: NDArray[Any] = firwin(LOWPASS_TAPS, LOWPASS_HZ, fs=DETECTOR_FS)
    return taps.astype(np.float32)
