"""Classify the beats of a recording: Recording + model → BeatAnnotations."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE, Beats, cut_beats
from ecgkan.data.missing import FilledSignal, fill_missing
from ecgkan.data.recording import Recording, read_annotations, read_recording
from ecgkan.data.resampling import map_samples, resample
from ecgkan.data.rpeaks import detect_rpeaks, reference_rpeaks
from ecgkan.errors import CheckpointError, DataError
from ecgkan.inference.annotation import BeatAnnotations

if TYPE_CHECKING:
    from ecgkan.models.checkpoint import Checkpoint
    from ecgkan.models.cnn import BeatClassifier

BATCH_SIZE: Final = 512

MIN_PRESENT: Final = 0.5
"""A beat of which less than this share of its window is signal is left out: what is left may be the wrong half."""


class _Classifier(NamedTuple):
    """A model, ready to be applied."""

    model: "BeatClassifier"
    temperature: float
    name: str
    sha256: str


class _RPeaks(NamedTuple):
    """R peaks `[n]` int64 at the recording's sampling rate, and where they came from."""

    samples: NDArray[np.int64]
    origin: str
    detected: bool


def classify(
    recording: "Recording | str | Path",
    model: "str | Path | Checkpoint | BeatClassifier" = "cnn_kan",
    *,
    lead: str | int | None = None,
    rpeaks: NDArray[np.integer] | None = None,
    annotator: str | None = None,
    batch_size: int = BATCH_SIZE,
) -> BeatAnnotations:
    """Classify the beats of one lead into the AAMI classes N S V F Q.

    Parameters
    ----------
    recording : Recording or path
        Signals in mV at 100 to 2000 Hz, or the path of a WFDB record.
    model : str, path, Checkpoint or BeatClassifier
        A shipped model (`cnn_kan`, `cnn_mlp`), a checkpoint file, or one already loaded. A bare model, such as
        `load_model` returns, carries no temperature: its probabilities are not calibrated.
    lead : str or int, optional
        Lead by name or number; by default MLII by name, else the first. The result says which it was.
    rpeaks : ndarray, optional
        `[n]` integer, R peaks in samples at the recording's own rate, ascending; detected by default.
    annotator : str, optional
        Take the R peaks from this annotation file of the record, such as `atr`; needs a path as `recording`.
    batch_size : int
        Beats that pass the model at a time.

    Returns
    -------
    BeatAnnotations
        One class per beat, also at the edges, where the signal is continued by its last value. Gaps up to 0.2 s
        are bridged by a straight line. Beats whose R peak falls into a longer gap, with less than
        half of their window left, or with a flat window are not classified; `left_out` holds their R peaks.

    Raises
    ------
    DataNotFoundError, CheckpointError
        If a file is missing, or the checkpoint unusable or made for other windows.
    DataError
        If the recording, the lead or the R peaks are unusable.

    Examples
    --------
    >>> from ecgkan import classify
    >>> beats = classify("mitdb/100", model="cnn_kan")  # doctest: +SKIP
    >>> beats.to_dataframe().head()  # doctest: +SKIP
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    if annotator is not None:
        rpeaks = _annotated_rpeaks(recording, annotator, rpeaks)
    if not isinstance(recording, Recording):
        recording = read_recording(recording)
    column = recording.lead_index(lead)
    signal = fill_missing(recording.signals[:, column], recording.fs)
    peaks = _find_rpeaks(recording, column, rpeaks, annotator)
    return _annotate(recording, recording.leads[column], signal, peaks, _load(model), batch_size)


def _annotate(
    recording: Recording, lead: str, signal: FilledSignal, peaks: _RPeaks, classifier: _Classifier, batch_size: int
) -> BeatAnnotations:
    beats = _cut(signal.values, recording.fs, peaks.samples)
    usable = _has_signal(signal.present, recording.fs, peaks.samples) & (np.ptp(beats.windows, axis=1) > 0)
    rr_before_s, rr_after_s = _rr_intervals(peaks, recording.fs, signal.present)
    probabilities = _probabilities(classifier, beats.model_input()[usable], batch_size)
    return BeatAnnotations(
        record=recording.name,
        fs=recording.fs,
        samples=peaks.samples[usable],
        classes=np.array(CLASSES)[probabilities.argmax(axis=1)],
        probabilities=probabilities,
        rr_before_s=rr_before_s[usable],
        rr_after_s=rr_after_s[usable],
        lead=lead,
        model=classifier.name,
        weights_sha256=classifier.sha256,
        rpeaks=peaks.origin,
        duration_s=recording.duration_s,
        left_out=peaks.samples[~usable],
    )


def _annotated_rpeaks(
    recording: "Recording | str | Path", annotator: str, rpeaks: NDArray[np.integer] | None
) -> NDArray[np.int64]:
    if rpeaks is not None:
        raise DataError("R peaks come from `rpeaks` or from `annotator`, not from both; leave one out")
    if isinstance(recording, Recording):
        raise DataError(
            f"recording {recording.name} was handed over in memory, so the place of its annotation file is not known; "
            f"give its path, or rpeaks=reference_rpeaks(read_annotations(path, {annotator!r}))"
        )
    return reference_rpeaks(read_annotations(recording, annotator))


def _find_rpeaks(
    recording: Recording, column: int, rpeaks: NDArray[np.integer] | None, annotator: str | None
) -> _RPeaks:
    if rpeaks is None:
        return _RPeaks(detect_rpeaks(recording.signals[:, column], recording.fs), "detector", detected=True)
    given = np.asarray(rpeaks)
    if given.ndim != 1 or not (np.issubdtype(given.dtype, np.integer) or len(given) == 0):
        raise DataError(f"R peaks must be integers of shape [n], got {given.dtype} {list(given.shape)}")
    n_samples = len(recording.signals)
    if len(given) and (given.min() < 0 or given.max() >= n_samples):
        raise DataError(
            f"R peaks from {given.min()} to {given.max()} lie outside of recording {recording.name} with its "
            f"{n_samples} samples at {recording.fs:g} Hz; are they given at another sampling rate?"
        )
    if np.any(given[1:] < given[:-1]):
        raise DataError(f"the R peaks of recording {recording.name} must be in ascending order; sort them")
    origin = f"annotator {annotator}" if annotator else "given"
    return _RPeaks(given.astype(np.int64), origin, detected=False)


def _cut(values: NDArray[np.float64], fs: float, samples: NDArray[np.int64]) -> Beats:
    resampled = resample(values, fs, BEAT_FS)
    return cut_beats(resampled, map_samples(samples, fs, BEAT_FS, n_samples=len(resampled)), edges="pad")


def _has_signal(present: NDArray[np.bool_], fs: float, samples: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which beats `[n]` have signal at the R peak and in at least half of their window, so far as the record goes."""
    total = np.concatenate([[0], np.cumsum(present)])
    start = np.maximum(samples - round(BEFORE * fs / BEAT_FS), 0)
    stop = np.minimum(samples + round(AFTER * fs / BEAT_FS), len(present))
    usable: NDArray[np.bool_] = present[samples] & (total[stop] - total[start] >= MIN_PRESENT * (stop - start))
    return usable


def _rr_intervals(
    peaks: _RPeaks, fs: float, present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    intervals = np.diff(peaks.samples) / fs
    if peaks.detected:  # beats in between may have gone undetected
        missing = np.concatenate([[0], np.cumsum(~present)])
        intervals[np.diff(missing[peaks.samples]) > 0] = np.nan
    end = np.full(min(len(peaks.samples), 1), np.nan)
    return np.concatenate([end, intervals]), np.concatenate([intervals, end])


def _probabilities(classifier: _Classifier, windows: NDArray[np.float32], batch_size: int) -> NDArray[np.float32]:
    """Map z-scored windows `[n, 1, 256]` to calibrated probabilities `[n, 5]`."""
    import torch

    probabilities = np.zeros((len(windows), len(CLASSES)), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(windows), batch_size):
            batch = torch.from_numpy(windows[start : start + batch_size])
            logits = classifier.model(batch).float() / classifier.temperature
            probabilities[start : start + batch_size] = logits.softmax(dim=1).numpy()
    return probabilities


def _load(model: "str | Path | Checkpoint | BeatClassifier") -> _Classifier:
    from ecgkan.models.checkpoint import Checkpoint, load_checkpoint
    from ecgkan.models.cnn import BeatClassifier

    if isinstance(model, BeatClassifier):
        return _bare(model)
    checkpoint = model if isinstance(model, Checkpoint) else load_checkpoint(model)
    _check_fits(checkpoint)
    return _Classifier(checkpoint.model, checkpoint.temperature, checkpoint.name, checkpoint.sha256)


def _bare(model: "BeatClassifier") -> _Classifier:
    from ecgkan.models.checkpoint import MODELS

    if model.training:
        raise DataError("the model is in training mode, which makes its answers random; call model.eval() first")
    if model.num_classes != len(CLASSES):
        raise DataError(f"the model has {model.num_classes} classes; expected {len(CLASSES)}: {' '.join(CLASSES)}")
    names = {kind: name for name, kind in MODELS.items()}
    return _Classifier(model, 1.0, names.get(type(model), type(model).__name__), "")


def _check_fits(checkpoint: "Checkpoint") -> None:
    """Refuse a checkpoint made for other windows than this version cuts."""
    from ecgkan.models.checkpoint import PREPROCESSING

    found = {name: checkpoint.preprocessing.get(name) for name in PREPROCESSING if name != "lead"}
    expected = {name: value for name, value in PREPROCESSING.items() if name != "lead"}
    if found != expected or checkpoint.classes != CLASSES:
        raise CheckpointError(
            f"{checkpoint.path} was trained for classes {checkpoint.classes} and windows {found}, this version of "
            f"ecgkan gives it {CLASSES} and {expected}; use the version it was made with"
        )
    if not checkpoint.temperature > 0:
        raise CheckpointError(f"{checkpoint.path}: temperature {checkpoint.temperature}, expected a positive number")
