"""Classify the beats of a recording: recording + model → BeatAnnotations."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE, cut_beats, normalize_windows
from ecgkan.data.blocks import CHUNK_S, Block, read_block_pairs
from ecgkan.data.context import PART_BEATS, SHAPE_BEFORE, SHAPE_STRIDE, SHAPE_WIDTH, context_in_parts, cut_shapes
from ecgkan.data.leads import choose_second_lead
from ecgkan.data.quality import Stretch, assess_quality, is_inverted, join_stretches
from ecgkan.data.recording import open_recording, read_annotations
from ecgkan.data.rpeaks import BlockDetector, Detected, given_rpeaks, reference_rpeaks
from ecgkan.errors import CheckpointError, DataError
from ecgkan.evaluation.ec57 import flutter_episodes
from ecgkan.inference.annotation import BeatAnnotations, mark_flutter
from ecgkan.inference.backends import load_for
from ecgkan.models.shipped import PATIENT_NAMES, expected_preprocessing

if TYPE_CHECKING:
    from ecgkan.data.leads import LeadChoice
    from ecgkan.data.recording import ReferenceAnnotations, SignalSource
    from ecgkan.models.checkpoint import Checkpoint, Classifier
    from ecgkan.models.onnx_model import OnnxModel

BATCH_SIZE: Final = 128
"""Beats that pass the model at a time: larger batches take more memory and are slower."""

MIN_PRESENT: Final = 0.5
"""A beat of which less than this share of its window can be read is left out: what is left may be the wrong half."""

INVERTED_NOTE: Final = (
    "lead {lead} looks as if it were recorded upside down (P, QRS and T all point downwards); it was classified as it "
    "is: check the electrodes, or turn the signal round"
)


class _Classifier(NamedTuple):
    """A model, ready to be applied: its input, of n beats, to logits `[n, 5]`, by whatever computes it."""

    logits: Callable[..., NDArray[np.float32]]
    temperature: float
    name: str
    sha256: str
    in_context: bool


def classify(
    recording: "SignalSource | str | Path",
    model: "str | Path | Checkpoint | OnnxModel | Classifier" = "patient_kan",
    *,
    backend: str | None = None,
    lead: str | int | None = None,
    second_lead: str | int | None = None,
    rpeaks: NDArray[np.integer] | None = None,
    annotator: str | None = None,
    batch_size: int = BATCH_SIZE,
    fs: float | None = None,
    units: str | None = None,
    chunk_s: float = CHUNK_S,
    progress: Callable[[float], None] | None = None,
) -> BeatAnnotations:
    """Classify the beats of a recording into the AAMI classes N S V F Q.

    Parameters
    ----------
    recording : Recording, RecordingFile or path
        Signals in mV at 100 to 2000 Hz, or the path of a file that `read_recording` reads. A file is read piece by
        piece, so that memory does not grow with its length.
    model : str, path, Checkpoint, OnnxModel or model
        A shipped model (`patient_kan` and `patient_mlp`, made for new patients; `cnn_kan` and `cnn_mlp`, which see
        single beats and were tested on known patients), a checkpoint file, one exported by `ecgkan export`, or one
        already loaded. A bare model, such as `load_model` returns, carries no temperature: its probabilities are not
        calibrated.
    backend : {"torch", "onnx"}, optional
        What computes a model given by name or file. By default ONNX Runtime for shipped and exported ones, without
        importing PyTorch, and PyTorch for checkpoint files (docs/export.md). Probabilities agree within 1e-4.
    lead : str or int, optional
        Lead by name or number; by default MLII by name, else the first. The result says which it was, and why.
    second_lead : str, int or None
        Lead that a model for new patients looks at beside it: the mean of what it says of both decides, where the
        second one can be read, too. By name or number, or "auto": another ECG lead by name
        (`ecgkan.data.leads.choose_second_lead`). By default none: what it brings differs from one set of patients to
        another (docs/new-patients.md). Beats are found, and drawn, in the first lead.
    rpeaks : ndarray, optional
        `[n]` integer, R peaks in samples at the recording's own rate, ascending; detected by default.
    annotator : str, optional
        Take the R peaks from this annotation file of the record, such as `atr`; needs a path as `recording`.
    batch_size : int
        Beats that pass the model at a time.
    fs, units : float and str, optional
        Sampling rate (Hz) and unit, where `recording` is the path of a file that does not say them.
    chunk_s : float
        How much of the recording is read at a time, seconds. The result is the same for any value.
    progress : callable, optional
        Called with the share of the recording that is done, from 0 to 1.

    Returns
    -------
    BeatAnnotations
        One class per beat, also at the edges, where the signal is continued by its last value. Gaps up to 0.2 s
        are bridged by a straight line. Longer gaps and stretches too noisy to read are listed in `noisy`
        (docs/quality.md). Beats whose R peak falls into one, with less than half of their window left, or with a
        flat window are not classified; `left_out` holds their R peaks.

    Raises
    ------
    DataNotFoundError, CheckpointError
        If a file is missing, or the checkpoint unusable or made for other windows.
    DataError
        If the recording, the lead or the R peaks are unusable.

    Examples
    --------
    >>> from ecgkan import classify
    >>> beats = classify("mitdb/100")  # doctest: +SKIP
    >>> beats.to_dataframe().head()  # doctest: +SKIP
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    reference = None if annotator is None else _read_reference(recording, annotator, rpeaks)
    if reference is not None:
        rpeaks = reference_rpeaks(reference)
    with _opened(recording, fs, units) as source:
        lead_choice = source.choose_lead(lead)
        given = None if rpeaks is None else _check_rpeaks(source, rpeaks)
        classifier = _load(model, backend)
        second = _choose_second(source, lead_choice, second_lead, classifier)
        results = _Results(classifier, batch_size, second=None if second is None else _SecondLead())
        detector = BlockDetector()
        pairs = read_block_pairs(source, lead_choice.index, second and second.index, chunk_s=chunk_s)
        for block, beside in pairs:
            results.add(block, beside, detector.detect(block) if given is None else given_rpeaks(block, given))
            if progress is not None:
                progress(block.core_stop / source.n_samples)
        origin = "detector" if given is None else f"annotator {annotator}" if annotator else "given"
        annotations = results.annotations(source, lead_choice, second, origin, detected=given is None)
    return annotations if reference is None else mark_flutter(annotations, flutter_episodes(reference))


def _choose_second(
    source: "SignalSource", first: "LeadChoice", asked: str | int | None, classifier: "_Classifier"
) -> "LeadChoice | None":
    if not classifier.in_context:
        if asked is not None:
            raise DataError(
                f"model {classifier.name} looks at one lead; leave out second_lead, or take a model for new patients"
            )
        return None
    return choose_second_lead(source.name, source.leads, first, asked)


def _opened(
    recording: "SignalSource | str | Path", fs: float | None, units: str | None
) -> AbstractContextManager["SignalSource"]:
    if isinstance(recording, str | Path):
        return open_recording(recording, fs=fs, units=units)
    if fs is not None or units is not None:
        raise DataError(
            f"recording {recording.name} is open already, in mV at {recording.fs:g} Hz; leave out fs and units"
        )
    return nullcontext(recording)


class _Rows:
    """An array that grows by rows.

    A list of small arrays would do, but each of them pins a page between the model's large ones, and memory grows with
    the length of the recording.
    """

    def __init__(self, dtype: "np.typing.DTypeLike", *columns: int) -> None:
        self._room = np.zeros((1024, *columns), dtype=dtype)
        self._n = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add `[k, ...]` rows."""
        if self._n + len(rows) > len(self._room):
            # In place, where the system moves pages instead of copying them, and by an eighth: a day's rows are large.
            self._room.resize((self._n + len(rows) + len(self._room) // 8, *self._room.shape[1:]), refcheck=False)
        self._room[self._n : self._n + len(rows)] = rows
        self._n += len(rows)

    def values(self) -> NDArray[Any]:
        """Return all rows `[n, ...]`, once nothing more comes; no copy, so that a long recording is not held twice."""
        return self._room[: self._n]


@dataclass(slots=True)
class _SecondLead:
    """What is kept of the beats in the second lead: their shapes, and which of them can be read there."""

    usable: _Rows = field(default_factory=lambda: _Rows(np.bool_))
    shapes: _Rows = field(default_factory=lambda: _Rows(np.float32, SHAPE_WIDTH))

    def add(self, block: Block | None, detected: Detected) -> None:
        """Take over a block's beats; None: a block that holds no millivolts."""
        core = detected.core
        if block is None:
            self.usable.append(np.zeros(len(core), bool))
            self.shapes.append(np.zeros((len(core), SHAPE_WIDTH), np.float32))
            return
        shapes = cut_shapes(block.at_360, block.positions_at_360(core))
        readable = _can_be_read(block, assess_quality(block, detected).readable, core)
        self.usable.append(readable & (np.ptp(shapes, axis=1) > 0))
        self.shapes.append(shapes)


@dataclass(slots=True)
class _Results:
    """What is found block by block; of the signal, only the windows that wait for the model are kept.

    A model that sees beats in their context waits for all of them: it needs the RR intervals, and which of them reach
    across a stretch that cannot be read is known only in the end. Until then each beat's shape is kept, 0.4 kB, and the
    average beats that are drawn are averages of shapes.
    """

    classifier: _Classifier
    batch_size: int
    second: _SecondLead | None = None
    rpeaks: _Rows = field(default_factory=lambda: _Rows(np.int64))
    usable: _Rows = field(default_factory=lambda: _Rows(np.bool_))
    quality: _Rows = field(default_factory=lambda: _Rows(np.float32))
    probabilities: _Rows = field(default_factory=lambda: _Rows(np.float32, len(CLASSES)))
    unread: list[Stretch] = field(default_factory=list)
    inverted: list[bool] = field(default_factory=list)
    waiting: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, BEFORE + AFTER), dtype=np.float32))
    shapes: _Rows = field(default_factory=lambda: _Rows(np.float32, SHAPE_WIDTH))
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((len(CLASSES), BEFORE + AFTER)))

    def add(self, block: Block, beside: Block | None, detected: Detected) -> None:
        """Take over a block, the second lead's beside it, and its beats."""
        core = detected.core
        quality = assess_quality(block, detected)
        windows = cut_beats(block.at_360, block.positions_at_360(core), edges="pad").windows
        usable = _can_be_read(block, quality.readable, core) & (np.ptp(windows, axis=1) > 0)
        self.rpeaks.append(core)
        self.usable.append(usable)
        self.quality.append(quality.beats[usable])
        self.unread += quality.stretches
        if quality.inverted is not None:
            self.inverted.append(quality.inverted)
        if self.classifier.in_context:
            self.shapes.append(cut_shapes(block.at_360, block.positions_at_360(core)))
            if self.second is not None:
                self.second.add(beside, detected)
            return
        self.waiting = np.concatenate([self.waiting, windows[usable]])
        while len(self.waiting) >= self.batch_size:
            self._classify_batch()

    def _classify_batch(self) -> None:
        """Give waiting beats to the model: as many each time, whatever the blocks hold, so that rounding is alike."""
        batch, self.waiting = self.waiting[: self.batch_size], self.waiting[self.batch_size :]
        probabilities = _calibrated(self.classifier, self.classifier.logits(normalize_windows(batch)[:, None, :]))
        np.add.at(self.sums, probabilities.argmax(axis=1), batch)
        self.probabilities.append(probabilities)

    def _classify_in_context(self, rr_s: NDArray[np.float64], usable: NDArray[np.bool_]) -> None:
        """Put all beats into their context and give those that can be read to the model, in both leads if there are."""
        shapes = self.shapes.values()
        logits = self._logits(shapes, rr_s, usable)
        if self.second is not None:
            both = usable & self.second.usable.values()
            beside = self._logits(self.second.shapes.values(), rr_s, both)
            logits[both] = (logits[both] + beside[both]) / 2
        probabilities = _calibrated(self.classifier, logits[usable])
        sums = np.zeros((len(CLASSES), SHAPE_WIDTH))
        for start in range(0, len(probabilities), PART_BEATS):
            part = slice(start, start + PART_BEATS)
            np.add.at(sums, probabilities[part].argmax(axis=1), shapes[np.flatnonzero(usable)[part]])
        self.probabilities.append(probabilities)
        self.sums = _at_360(sums)

    def _logits(
        self, shapes: NDArray[np.float32], rr_s: NDArray[np.float64], usable: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the logits of the usable beats of a lead, 0 for the others: `[n, 5]`."""
        logits = np.zeros((len(shapes), len(CLASSES)), dtype=np.float32)
        for part, context in context_in_parts(shapes, rr_s, usable):
            rows = np.flatnonzero(usable[part])
            for start in range(0, len(rows), self.batch_size):
                batch = rows[start : start + self.batch_size]
                logits[part][batch] = self.classifier.logits(context.shapes[batch], context.rhythm[batch])
        return logits

    def annotations(
        self, source: "SignalSource", lead: "LeadChoice", second: "LeadChoice | None", origin: str, *, detected: bool
    ) -> BeatAnnotations:
        """Classify what still waits, and put everything together."""
        rpeaks, usable = self.rpeaks.values(), self.usable.values()
        stretches = join_stretches(self.unread)
        noisy = np.array([stretch[:2] for stretch in stretches], dtype=np.int64).reshape(-1, 2)
        inverted = is_inverted(self.inverted, lead.name)
        rr_before_s, rr_after_s = rr_intervals(rpeaks, source.fs, noisy if detected else noisy[:0])
        if self.classifier.in_context:
            self._classify_in_context(rr_before_s, usable)
        elif len(self.waiting):
            self._classify_batch()
        probabilities = self.probabilities.values()
        return BeatAnnotations(
            record=source.name,
            fs=source.fs,
            samples=rpeaks[usable],
            classes=np.array(CLASSES)[probabilities.argmax(axis=1)],
            probabilities=probabilities,
            rr_before_s=rr_before_s[usable],
            rr_after_s=rr_after_s[usable],
            lead=lead.name,
            model=self.classifier.name,
            weights_sha256=self.classifier.sha256,
            rpeaks=origin,
            duration_s=source.duration_s,
            quality=self.quality.values(),
            noisy=noisy,
            noisy_reasons=tuple(stretch.reason for stretch in stretches),
            mean_beats=_means(self.sums, probabilities.argmax(axis=1)),
            left_out=rpeaks[~usable],
            started=source.started,
            lead_reason=lead.reason,
            second_lead="" if second is None else second.name,
            inverted=inverted,
            notes=source.notes + ((INVERTED_NOTE.format(lead=lead.name),) if inverted else ()),
        )


def _at_360(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Resample shapes `[k, 112]` to windows as models of single beats see them, `[k, 256]`."""
    from scipy.signal import resample_poly

    first = SHAPE_STRIDE * SHAPE_BEFORE - BEFORE
    windows: NDArray[np.float64] = resample_poly(shapes, SHAPE_STRIDE, 1, axis=1)[:, first : first + BEFORE + AFTER]
    return windows


def _means(sums: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean windows `[5, 256]`, NaN for a class without beats."""
    counts = np.bincount(classes, minlength=len(CLASSES))[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def _read_reference(
    recording: "SignalSource | str | Path", annotator: str, rpeaks: NDArray[np.integer] | None
) -> "ReferenceAnnotations":
    if rpeaks is not None:
        raise DataError("R peaks come from `rpeaks` or from `annotator`, not from both; leave one out")
    if not isinstance(recording, str | Path):
        raise DataError(
            f"recording {recording.name} was handed over in memory, so the place of its annotation file is not known; "
            f"give its path, or rpeaks=reference_rpeaks(read_annotations(path, {annotator!r}))"
        )
    return read_annotations(recording, annotator)


def _check_rpeaks(source: "SignalSource", rpeaks: NDArray[np.integer]) -> NDArray[np.int64]:
    given = np.asarray(rpeaks)
    if given.ndim != 1 or not (np.issubdtype(given.dtype, np.integer) or len(given) == 0):
        raise DataError(f"R peaks must be integers of shape [n], got {given.dtype} {list(given.shape)}")
    if len(given) and (given.min() < 0 or given.max() >= source.n_samples):
        raise DataError(
            f"R peaks from {given.min()} to {given.max()} lie outside of recording {source.name} with its "
            f"{source.n_samples} samples at {source.fs:g} Hz; are they given at another sampling rate?"
        )
    if np.any(given[1:] < given[:-1]):
        raise DataError(f"the R peaks of recording {source.name} must be in ascending order; sort them")
    return given.astype(np.int64)


def _can_be_read(block: Block, readable: NDArray[np.bool_], rpeaks: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which beats `[n]` can be read at the R peak and in at least half of their window, so far as the record goes."""
    local = rpeaks - block.start
    total = np.concatenate([[0], np.cumsum(readable)])
    start = np.maximum(local - round(BEFORE * block.fs / BEAT_FS), 0)
    stop = np.minimum(local + round(AFTER * block.fs / BEAT_FS), len(readable))
    return np.asarray(readable[local] & (total[stop] - total[start] >= MIN_PRESENT * (stop - start)))


def rr_intervals(
    rpeaks: NDArray[np.int64], fs: float, noisy: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """RR intervals `[n]` before and after each beat, seconds; NaN across stretches in which beats may be missing."""
    intervals = np.diff(rpeaks) / fs
    if len(noisy):
        # The first stretch that ends behind a beat lies between it and the next one if it starts before that.
        following = np.searchsorted(noisy[:, 1], rpeaks[:-1], side="right")
        starts = np.append(noisy[:, 0], np.iinfo(np.int64).max)[following]
        intervals[starts < rpeaks[1:]] = np.nan
    end = np.full(min(len(rpeaks), 1), np.nan)
    return np.concatenate([end, intervals]), np.concatenate([intervals, end])


def _calibrated(classifier: _Classifier, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `softmax(logits / temperature)`, `[n, 5]` float32."""
    scaled = logits / np.float32(classifier.temperature)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _load(model: "str | Path | Checkpoint | OnnxModel | Classifier", backend: str | None) -> _Classifier:
    from ecgkan.models.onnx_model import OnnxModel

    if isinstance(model, str | Path):
        model = load_for(model, backend)
    elif backend is not None and backend != ("onnx" if isinstance(model, OnnxModel) else "torch"):
        raise DataError(
            f"a loaded {type(model).__name__} does not run on backend {backend!r}; give the model's name or file "
            "instead"
        )
    if isinstance(model, OnnxModel):
        return _exported(model)
    from ecgkan.models.checkpoint import Checkpoint

    if not isinstance(model, Checkpoint):
        return _bare(model)
    _check_fits(model)
    in_context = model.name in PATIENT_NAMES
    return _Classifier(_torch_logits(model.model), model.temperature, model.name, model.sha256, in_context)


def _exported(model: "OnnxModel") -> _Classifier:
    _check_fits(model)
    in_context = model.name in PATIENT_NAMES
    if model.inputs != (("shapes", "rhythm") if in_context else ("beats",)):
        raise CheckpointError(
            f"{model.path} takes {' and '.join(model.inputs)}; recordings are classified by models of normalized "
            "beats: export it without --raw"
        )
    return _Classifier(model.logits, model.temperature, model.name, model.weights_sha256, in_context)


def _bare(model: "Classifier") -> _Classifier:
    from ecgkan.models.checkpoint import ALL_MODELS
    from ecgkan.models.patient import PatientClassifier

    if model.training:
        raise DataError("the model is in training mode, which makes its answers random; call model.eval() first")
    if model.num_classes != len(CLASSES):
        raise DataError(f"the model has {model.num_classes} classes; expected {len(CLASSES)}: {' '.join(CLASSES)}")
    names: dict[type, str] = {kind: name for name, kind in ALL_MODELS.items()}
    in_context = isinstance(model, PatientClassifier)
    return _Classifier(_torch_logits(model), 1.0, names.get(type(model), type(model).__name__), "", in_context)


def _torch_logits(model: "Classifier") -> Callable[..., NDArray[np.float32]]:
    import torch

    def run(*inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(*map(torch.from_numpy, inputs)).float().numpy()
        return logits

    return run


def _check_fits(model: "Checkpoint | OnnxModel") -> None:
    """Refuse a model made for other windows than this version cuts."""
    expected = {name: value for name, value in expected_preprocessing(model.name).items() if name != "lead"}
    found = {name: model.preprocessing.get(name) for name in expected}
    if found != expected or model.classes != CLASSES:
        raise CheckpointError(
            f"{model.path} was trained for classes {model.classes} and windows {found}, this version of "
            f"ecgkan gives it {CLASSES} and {expected}; use the version it was made with"
        )
    if not model.temperature > 0:
        raise CheckpointError(f"{model.path}: temperature {model.temperature}, expected a positive number")
