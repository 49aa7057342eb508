"""Recordings: signals in mV with their sampling rate and lead names, and reference annotations.

The only room that knows file formats; each format is a module in `ecgkan.data.formats`.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.finding import FoundRecording as FoundRecording
from ecgkan.data.finding import find_recordings as find_recordings
from ecgkan.data.finding import recording_name
from ecgkan.data.formats.detection import FORMAT_OF_SUFFIX, READ_FORMATS, WFDB_PARTS, format_of, header_of
from ecgkan.data.formats.opened import Assumptions, OpenedSignals, reading
from ecgkan.data.formats.wfdb_annotations import decode_annotations
from ecgkan.data.leads import LeadChoice, choose_lead, unique_leads
from ecgkan.data.units import parse_units
from ecgkan.errors import DataError, DataNotFoundError

FS_RANGE_HZ = (100.0, 2000.0)
"""Sampling rates that can be classified: below, a QRS complex has too few samples; above, something is mislabelled."""

_CHUNK_SAMPLES: Final = 1 << 20


class SignalSource(Protocol):
    """A recording, in memory (`Recording`) or in its file (`RecordingFile`): what the way to beats takes."""

    @property
    def name(self) -> str:
        """Record name."""

    @property
    def fs(self) -> float:
        """Sampling rate, Hz."""

    @property
    def leads(self) -> tuple[str, ...]:
        """Lead names."""

    @property
    def n_samples(self) -> int:
        """Length in samples."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""

    @property
    def started(self) -> datetime.datetime | None:
        """Wall-clock time of sample 0, if the file says it."""

    @property
    def source(self) -> Path | None:
        """The file the recording came from."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader assumed or noticed."""

    def read(
        self, start: int = 0, stop: int | None = None, columns: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """Return samples `[start, stop)` of some leads: float64 `[stop - start, n_columns]`, mV, NaN where missing."""

    def lead_index(self, lead: str | int | None = None) -> int:
        """Return the column of a lead; see `choose_lead`."""

    def choose_lead(self, lead: str | int | None = None) -> LeadChoice:
        """Choose the lead to classify, and say why; see `ecgkan.data.leads.choose_lead`."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One ECG recording in memory.

    Attributes
    ----------
    name : str
        Record name.
    signals : ndarray
        `[n_samples, n_leads]` float64, mV; NaN where a sample is missing.
    fs : float
        Sampling rate, Hz.
    leads : tuple of str
        One name per column of `signals`.
    started : datetime, optional
        Wall-clock time of sample 0, without a time zone, if the file says it.
    source : Path, optional
        The file it came from.
    notes : tuple of str
        What the reader assumed or noticed, for the report.

    Raises
    ------
    DataError
        If shapes, sampling rate or lead names do not fit together.
    """

    name: str
    signals: NDArray[np.float64]
    fs: float
    leads: tuple[str, ...]
    started: datetime.datetime | None = None
    source: Path | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.signals.ndim != 2 or self.signals.shape[0] == 0 or self.signals.shape[1] == 0:
            raise DataError(
                f"recording {self.name}: signals must have shape [n_samples, n_leads] with at least one sample and "
                f"one lead, got {list(self.signals.shape)}"
            )
        if len(self.leads) != self.signals.shape[1]:
            raise DataError(
                f"recording {self.name}: {self.signals.shape[1]} signals but {len(self.leads)} lead names {self.leads}"
            )
        _check_fs(f"recording {self.name}", self.fs)

    @property
    def n_samples(self) -> int:
        """Length in samples."""
        return len(self.signals)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.signals.shape[0] / self.fs)

    def read(
        self, start: int = 0, stop: int | None = None, columns: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """Return a copy of samples `[start, stop)` of some leads (all by default); see `RecordingFile.read`."""
        stop, columns = _checked_part(self, start, stop, columns)
        return np.array(self.signals[start:stop, list(columns)], dtype=np.float64)

    def lead_index(self, lead: str | int | None = None) -> int:
        """Return the column of a lead: by name, by number, or (None) the one that `choose_lead` chooses.

        Raises
        ------
        DataError
            If there is no such lead.
        """
        return self.choose_lead(lead).index

    def choose_lead(self, lead: str | int | None = None) -> LeadChoice:
        """Choose the lead to classify, and say why; see `ecgkan.data.leads.choose_lead`."""
        return choose_lead(self.name, self.leads, lead)


class RecordingFile:
    """One ECG recording that stays in its file: what is read of it is read when it is asked for.

    A context manager; `open_recording` makes it.

    Attributes
    ----------
    name, fs, leads, started, source, notes
        See `Recording`.
    n_samples : int
        Length in samples, gaps included.

    Raises
    ------
    DataError
        If the file holds no samples, or the sampling rate is out of range.
    """

    def __init__(self, source: Path, opened: OpenedSignals) -> None:
        self._opened = opened
        self.name = recording_name(source)
        self.source: Path | None = source
        self.fs = opened.fs
        self.n_samples = opened.n_samples
        self.leads, lead_notes = unique_leads(opened.leads)
        self.started = opened.started
        self.notes = (*opened.notes, *lead_notes)
        try:
            _check_fs(str(source), self.fs)
            if self.n_samples == 0:
                raise DataError(f"{source} holds no samples; expected at least one")
        except DataError:
            self.close()
            raise

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.fs

    def read(
        self, start: int = 0, stop: int | None = None, columns: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """Read samples `[start, stop)` of some leads.

        Parameters
        ----------
        start, stop : int
            Samples, `0 <= start <= stop <= n_samples`; by default all.
        columns : sequence of int, optional
            Leads; all by default.

        Returns
        -------
        ndarray
            `[stop - start, n_columns]` float64, mV, NaN where missing.

        Raises
        ------
        DataError
            If the part is out of range, or the file turns out to be damaged there.
        """
        stop, columns = _checked_part(self, start, stop, columns)
        if start == stop:
            return np.zeros((0, len(columns)))
        samples = self._opened.read(start, stop, columns)
        samples[np.isinf(samples)] = np.nan
        return samples

    def load(self, channels: Sequence[int] | None = None) -> Recording:
        """Read all samples of some leads (all by default) into memory."""
        columns = _checked_part(self, 0, None, channels)[1]
        signals = np.empty((self.n_samples, len(columns)))
        for start in range(0, self.n_samples, _CHUNK_SAMPLES):
            signals[start : start + _CHUNK_SAMPLES] = self.read(
                start, min(start + _CHUNK_SAMPLES, self.n_samples), columns
            )
        leads = tuple(self.leads[i] for i in columns)
        return Recording(self.name, signals, self.fs, leads, self.started, self.source, self.notes)

    def lead_index(self, lead: str | int | None = None) -> int:
        """Return the column of a lead: by name, by number, or (None) the one that `choose_lead` chooses."""
        return self.choose_lead(lead).index

    def choose_lead(self, lead: str | int | None = None) -> LeadChoice:
        """Choose the lead to classify, and say why; see `ecgkan.data.leads.choose_lead`."""
        return choose_lead(self.name, self.leads, lead)

    def close(self) -> None:
        """Let go of the file; temporary files are deleted."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceAnnotations:
    """An annotation file's contents.

    Attributes
    ----------
    samples : ndarray
        `[n]` int64, positions at the recording's own sampling rate.
    symbols : tuple of str
        `[n]` WFDB annotation symbols, beats and others.
    subtypes : ndarray, optional
        `[n]` int8; of a change of signal quality (`~`) they say which signals are noisy or unreadable. None: all 0.
    texts : mapping
        Index of an annotation → its auxiliary text, such as `(AFIB` of a rhythm change.
    fs : float, optional
        The time resolution that the file states, ticks per second: what `samples` count, where it differs from the
        recording's sampling rate.
    """

    samples: NDArray[np.int64]
    symbols: tuple[str, ...]
    subtypes: NDArray[np.int8] | None = None
    texts: Mapping[int, str] = field(default_factory=dict)
    fs: float | None = None


def open_recording(path: str | Path, *, fs: float | None = None, units: str | None = None) -> RecordingFile:
    """Open a recording without reading its samples.

    Parameters
    ----------
    path : path
        A file in one of the formats of docs/reading.md, or a WFDB record with or without the extension of one of
        its files.
    fs : float, optional
        Sampling rate in Hz, for files that do not say it.
    units : str, optional
        `mV`, `uV`, `V` or `adu:<n per mV>`, for files that do not say it.

    Returns
    -------
    RecordingFile
        Close it, or use it in a `with` statement.

    Raises
    ------
    DataNotFoundError
        If there is no recording there.
    DataError
        If it cannot be read, lacks a sampling rate or units, or states others than those given.

    Examples
    --------
    >>> with open_recording("holter.csv", units="uV") as recording:  # doctest: +SKIP
    ...     first_minute = recording.read(0, round(60 * recording.fs))
    """
    given = Path(path)
    with reading(given, "a recording", "a file that may be read"):
        found, found_format = _locate(given)
    return RecordingFile(found, _open(found, found_format, _checked_assumptions(fs, units)))


def read_recording(
    path: str | Path,
    *,
    fs: float | None = None,
    units: str | None = None,
    channels: Sequence[int] | None = None,
) -> Recording:
    """Read a recording into memory.

    Parameters
    ----------
    path, fs, units
        See `open_recording`.
    channels : sequence of int, optional
        Leads to read; all by default.

    Raises
    ------
    DataNotFoundError, DataError
        See `open_recording`.
    """
    with open_recording(path, fs=fs, units=units) as recording:
        return recording.load(channels)


def read_annotations(path: str | Path, annotator: str) -> ReferenceAnnotations:
    """Read a WFDB annotation file of a record.

    Parameters
    ----------
    path : path
        The record, with or without extension.
    annotator : str
        Annotator name: the annotation file's extension, such as `atr`.

    Raises
    ------
    DataNotFoundError
        If there is no such annotation file.
    DataError
        If it cannot be read.
    """
    base = _annotated_base(Path(path))
    file = base.with_name(f"{base.name}.{annotator}")
    if not file.is_file():
        raise DataNotFoundError(f"no annotation file {file}; annotators there: {_annotators_beside(base)}")
    return read_annotation_file(file)


def read_annotation_file(file: Path) -> ReferenceAnnotations:
    """Read a WFDB annotation file by its own path, whatever stands beside it.

    Raises
    ------
    DataNotFoundError
        If it is not there.
    DataError
        If it cannot be read.
    """
    try:
        decoded = decode_annotations(file.read_bytes())
    except FileNotFoundError as error:
        raise DataNotFoundError(f"no annotation file {file}") from error
    except (OSError, DataError) as error:
        raise DataError(f"{file} cannot be read as a WFDB annotation file ({error}); fetch it again") from error
    return ReferenceAnnotations(decoded.samples, decoded.symbols, decoded.subtypes, decoded.texts, decoded.fs)


def _check_fs(what: str, fs: float) -> None:
    low, high = FS_RANGE_HZ
    if not low <= fs <= high:
        raise DataError(f"{what}: sampling rate {fs:g} Hz, expected {low:g} to {high:g} Hz; check the header")


def _checked_assumptions(fs: float | None, units: str | None) -> Assumptions:
    if fs is not None:
        _check_fs("the sampling rate given (fs, --fs)", fs)
    if units is not None:
        parse_units(units)
    return Assumptions(fs, units)


def _checked_part(
    recording: SignalSource, start: int, stop: int | None, columns: Sequence[int] | None
) -> tuple[int, Sequence[int]]:
    stop = recording.n_samples if stop is None else stop
    if not 0 <= start <= stop <= recording.n_samples:
        raise DataError(
            f"recording {recording.name}: no samples {start} to {stop}; it has {recording.n_samples}, counted from 0"
        )
    columns = range(len(recording.leads)) if columns is None else columns
    for column in columns:
        choose_lead(recording.name, recording.leads, int(column))
    return stop, columns


def _open(path: Path, found_format: str, assumptions: Assumptions) -> OpenedSignals:
    match found_format:
        case "WFDB":
            from ecgkan.data.formats.wfdb_records import open_wfdb as opener
        case "EDF":
            from ecgkan.data.formats.edf_files import open_edf as opener
        case "DICOM":
            from ecgkan.data.formats.dicom_waveforms import open_dicom as opener
        case "text":
            from ecgkan.data.formats.text_tables import open_text as opener
        case "NumPy":
            from ecgkan.data.formats.numpy_arrays import open_numpy as opener
        case _:
            from ecgkan.data.formats.parquet_tables import open_parquet as opener
    return opener(path, assumptions)


def _locate(path: Path) -> tuple[Path, str]:
    """Return the file to open, for a WFDB record its header, and its format.

    Raises
    ------
    DataNotFoundError
        If there is none; says what is there.
    DataError
        If it is a folder or in no format that is read.
    """
    is_file = path.is_file()
    found_format = format_of(path) if is_file else None
    if found_format is not None:
        return path, found_format
    header = header_of(path)
    if header is not None:
        return header, "WFDB"
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected one recording: name a file in it, or use find_recordings")
    if is_file and path.suffix == ".dat":
        raise DataNotFoundError(f"{path} is the signal file of a WFDB record; its header {path.stem}.hea is not there")
    if is_file:
        raise DataError(f"{path} is in no format that is read; expected {READ_FORMATS}")
    raise DataNotFoundError(_nothing_at(path))


def _nothing_at(path: Path) -> str:
    if not path.parent.is_dir():
        return f"no recording at {path}: there is no folder {path.parent}"
    headers = {p.stem for p in path.parent.glob("*.hea")}
    others = {p.name for p in path.parent.glob("*") if p.suffix.lower() in FORMAT_OF_SUFFIX and p.suffix != ".hea"}
    near = sorted(headers | others)[:5]
    hint = f"records there: {', '.join(near)} ..." if near else f"no recordings in {path.parent}"
    looked_for = "" if path.suffix else f" (looked for {path.name} and {path.name}.hea)"
    return f"no recording at {path}{looked_for}; {hint}"


def _annotated_base(path: Path) -> Path:
    """Return the record's path without extension: annotation files stand beside recordings of every format."""
    header = header_of(path)
    if header is not None:
        return header.with_suffix("")
    return path.with_suffix("") if path.suffix.lower() in FORMAT_OF_SUFFIX.keys() | WFDB_PARTS else path


def _annotators_beside(base: Path) -> str:
    others = FORMAT_OF_SUFFIX.keys() | {".dat"}
    found = sorted(p.suffix[1:] for p in base.parent.glob(f"{base.name}.*") if p.suffix not in others)
    return ", ".join(found) or "none"
