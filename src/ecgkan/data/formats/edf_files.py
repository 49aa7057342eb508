"""EDF, EDF+ and BDF files, continuous and with gaps.

Kemp B, Olivan J. European data format 'plus' (EDF+), an EDF alike standard format for the exchange of physiological
data. Clin Neurophysiol 114(9):1755-1761 (2003). BDF is EDF with samples of 24 bits.
"""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.formats.opened import Assumptions, OpenedSignals, Signal, agreed_fs, keep_signals, reading
from ecgkan.errors import DataError

_SIGNAL_FIELDS: Final = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Widths of the fields that each signal has in the header, in the order of `_EdfSignal` and some that are not used."""

_HEADER_FIELDS: Final = (8, 80, 80, 8, 8, 8, 44, 8, 8, 4)
"""Widths of the fields of the header's first 256 bytes, in the order `_read_header` names them."""

_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

_ONSET: Final = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15[^\x14]*)?\x14")
_RECORDS_AT_ONCE: Final = 4096


class _EdfSignal(NamedTuple):
    """One signal's header: calibration from digital to physical values, and its place in a data record (samples)."""

    label: str
    dimension: str
    physical: tuple[float, float]
    digital: tuple[float, float]
    first: int
    n_samples: int

    @property
    def is_annotations(self) -> bool:
        """Whether this is the place of an EDF+ file's annotations and times."""
        return self.label in {"EDF Annotations", "BDF Annotations"}


@dataclass(frozen=True, slots=True)
class _Edf:
    """An EDF or BDF file's header."""

    path: Path
    started: datetime.datetime | None
    has_gaps: bool
    header_bytes: int
    n_records: int
    record_s: float
    signals: tuple[_EdfSignal, ...]
    sample_bytes: int
    notes: tuple[str, ...]

    @property
    def record_samples(self) -> int:
        """Samples of all signals in a data record."""
        return sum(signal.n_samples for signal in self.signals)

    def digital(self, signal: _EdfSignal, start: int, stop: int) -> NDArray[np.int32]:
        """Return a signal's samples in data records `[start, stop)`: `[(stop - start) * n_samples]`."""
        raw = self._bytes_of(signal, start, stop)
        if self.sample_bytes == 2:
            return np.ascontiguousarray(raw).view("<i2").astype(np.int32).reshape(-1)
        low, middle, high = (raw.reshape(-1, 3)[:, i].astype(np.int32) for i in range(3))
        return low | middle << 8 | ((high ^ 0x80) - 0x80) << 16

    def _bytes_of(self, signal: _EdfSignal, start: int, stop: int) -> NDArray[np.uint8]:
        width = self.sample_bytes
        # Mapped anew for every part: what a map has touched would stay in the process's resident memory.
        records = np.memmap(
            self.path, np.uint8, "r", self.header_bytes, (self.n_records, self.record_samples * width)
        )  # fmt: skip
        return np.array(records[start:stop, signal.first * width : (signal.first + signal.n_samples) * width])

    def onsets_s(self) -> NDArray[np.float64]:
        """Return when each data record starts, in s: from the annotations if there may be gaps, else one by one."""
        timekeeping = next((signal for signal in self.signals if signal.is_annotations), None)
        if not self.has_gaps or timekeeping is None:
            return np.arange(self.n_records, dtype=np.float64) * self.record_s
        onsets: NDArray[np.float64] = np.empty(self.n_records)
        for start in range(0, self.n_records, _RECORDS_AT_ONCE):
            stop = min(start + _RECORDS_AT_ONCE, self.n_records)
            for i, raw in enumerate(self._bytes_of(timekeeping, start, stop), start):
                onsets[i] = self._onset_s(raw.tobytes(), i)
        return onsets

    def _onset_s(self, annotations: bytes, record: int) -> float:
        match = _ONSET.match(annotations)
        if match is None:
            raise DataError(
                f"{self.path} may have gaps (EDF+D), but its data record {record} does not say when it starts; "
                "export it again"
            )
        return float(match[1])


def open_edf(path: Path, assumptions: Assumptions) -> OpenedSignals:
    """Open an EDF, EDF+ or BDF file.

    Parameters
    ----------
    path : Path
        The file.
    assumptions : Assumptions
        Units for signals whose dimension is no unit of voltage.

    Raises
    ------
    DataError
        If the file is damaged, or holds no ECG.
    """
    with reading(path, "an EDF or BDF file", "an EDF header followed by the data records it announces"):
        header = _read_header(path)
        voltages = [signal for signal in header.signals if not signal.is_annotations]
        kept = keep_signals(
            path, [Signal(s.label, s.dimension, s.n_samples / header.record_s) for s in voltages], assumptions.units
        )
        signals = [voltages[i] for i in kept.places]
        fs = agreed_fs(path, kept.fs, assumptions.fs)
        starts = _record_starts(header, fs)
        return OpenedSignals(
            fs=fs,
            leads=tuple(signal.label for signal in signals),
            n_samples=int(starts[-1]) + signals[0].n_samples if len(starts) else 0,
            read=_Reader(header, signals, kept.mv_per_unit, starts).read,
            started=header.started,
            notes=(*header.notes, *kept.notes, *_gap_notes(starts, signals[0].n_samples, fs)),
        )


class _Reader(NamedTuple):
    """Reads parts of the kept signals; `starts` are the samples at which the data records begin."""

    header: _Edf
    signals: Sequence[_EdfSignal]
    scales: Sequence[float]
    starts: NDArray[np.int64]

    def read(self, start: int, stop: int, columns: Sequence[int]) -> NDArray[np.float64]:
        """Return samples `[start, stop)`, mV; NaN in the gaps between data records."""
        with reading(self.header.path, "an EDF or BDF file", "the data records that its header announces"):
            samples = np.full((stop - start, len(columns)), np.nan)
            n_samples = self.signals[0].n_samples
            first = max(int(np.searchsorted(self.starts, start, side="right")) - 1, 0)
            last = int(np.searchsorted(self.starts, stop))
            places = (self.starts[first:last, None] + np.arange(n_samples) - start).reshape(-1)
            inside = (places >= 0) & (places < stop - start)
            for k, column in enumerate(columns):
                signal, scale = self.signals[column], self.scales[column]
                values = _calibrated(self.header.path, signal, self.header.digital(signal, first, last)[inside])
                samples[places[inside], k] = values if scale == 1 else values * scale
            return samples


def _calibrated(path: Path, signal: _EdfSignal, digital: NDArray[np.int32]) -> NDArray[np.float64]:
    (low, high), (digital_low, digital_high) = signal.physical, signal.digital
    if low == high or digital_low == digital_high:
        raise DataError(
            f"{path} gives {signal.label} a range from {low:g} to {high:g} {signal.dimension} for {digital_low:g} to "
            f"{digital_high:g} adu; expected two different values each: correct the header"
        )
    gain = (high - low) / (digital_high - digital_low)
    values: NDArray[np.float64] = np.asarray((digital + (high / gain - digital_high)) * gain, dtype=np.float64)
    return values


def _record_starts(header: _Edf, fs: float) -> NDArray[np.int64]:
    onsets = header.onsets_s()
    starts = np.rint((onsets - onsets[:1]) * fs).astype(np.int64)
    if not header.has_gaps:
        return starts
    n_samples = round(header.record_s * fs)
    # An onset is rounded to its last decimal: neighbours that touch within one sample are taken to touch.
    steps = np.diff(starts)
    backwards = np.flatnonzero(steps < n_samples - 1)
    if len(backwards):
        i = int(backwards[0])
        raise DataError(
            f"{header.path}: data record {i + 1} starts at {onsets[i + 1]:g} s, before record {i} ends at "
            f"{onsets[i] + header.record_s:g} s; expected ascending times"
        )
    touching = np.abs(steps - n_samples) <= 1
    return np.concatenate([[0], np.cumsum(np.where(touching, n_samples, steps))])[: len(starts)].astype(np.int64)


def _gap_notes(starts: NDArray[np.int64], n_samples: int, fs: float) -> tuple[str, ...]:
    missing = np.diff(starts) - n_samples
    gaps = missing[missing > 0]
    if len(gaps) == 0:
        return ()
    return (f"{len(gaps)} {'gap' if len(gaps) == 1 else 'gaps'} in the recording, {gaps.sum() / fs:.3g} s in all",)


def _read_header(path: Path) -> _Edf:
    with path.open("rb") as file:
        is_bdf = file.read(1) == b"\xff"
        file.seek(0)
        fixed = [_text(file.read(width)) for width in _HEADER_FIELDS]
        _, _, recording, date, time, header_bytes, reserved, n_records, record_s, n_signals = fixed
        signals = _read_signals(path, file, _whole(path, "number of signals", n_signals))
    duration_s = _number(path, "duration of a data record", record_s)
    if not 0 < duration_s < float("inf") and not all(signal.is_annotations for signal in signals):
        raise DataError(f"{path} states data records of {duration_s:g} s, so no sampling rate; correct the header")
    header = _Edf(
        path=path,
        started=_started(date, time, recording),
        has_gaps=reserved[1:].startswith("DF+D"),
        header_bytes=_whole(path, "length of the header", header_bytes),
        n_records=_whole(path, "number of data records", n_records),
        record_s=duration_s,
        signals=tuple(signals),
        sample_bytes=3 if is_bdf else 2,
        notes=(),
    )
    return _with_records_in_file(header)


def _with_records_in_file(header: _Edf) -> _Edf:
    """Compare the number of data records with the size of the file; -1 is a recorder that was cut off."""
    record_bytes = header.record_samples * header.sample_bytes
    data_bytes = header.path.stat().st_size - header.header_bytes
    in_file = max(data_bytes, 0) // record_bytes if record_bytes else 0
    if header.n_records > in_file:
        raise DataError(
            f"{header.path} is too short: it holds {in_file} data records, its header announces {header.n_records}; "
            "fetch it again, or correct the header"
        )
    if header.n_records == -1:
        return replace(header, n_records=in_file, notes=("the header leaves the number of data records open",))
    if header.n_records < in_file:
        note = f"the file holds {in_file} data records, its header announces {header.n_records}: the rest is not read"
        return replace(header, notes=(note,))
    return header


def _read_signals(path: Path, file: BinaryIO, n_signals: int) -> list[_EdfSignal]:
    columns = [[_text(file.read(width)) for _ in range(n_signals)] for width in _SIGNAL_FIELDS]
    signals: list[_EdfSignal] = []
    first = 0
    for label, _, dimension, low, high, digital_low, digital_high, _, n_samples, _ in zip(*columns, strict=True):
        count = _whole(path, f"samples per data record of {label}", n_samples)
        if count < 1:
            raise DataError(f"{path} states {count} samples per data record of {label}, so 0 Hz; correct the header")
        what = f"range of {label}"
        signals.append(
            _EdfSignal(
                label,
                dimension,
                (_number(path, what, low), _number(path, what, high)),
                (_number(path, what, digital_low), _number(path, what, digital_high)),
                first,
                count,
            )
        )
        first += count
    return signals


def _started(date: str, time: str, recording: str) -> datetime.datetime | None:
    """Start of the recording: EDF+ repeats the date with four digits of the year; unknown where it is no date."""
    try:
        hour, minute, second = (int(part) for part in re.split(r"[.:]", time))
        long_date = re.match(r"Startdate (\d\d)-([A-Z]{3})-(\d{4})", recording)
        if long_date:
            day, month, year = int(long_date[1]), _MONTHS.index(long_date[2]) + 1, int(long_date[3])
        else:
            day, month, year = (int(part) for part in re.split(r"[./-]", date))
            year += 1900 if year >= 85 else 2000  # the clipping date of the EDF standard
        return datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None


def _whole(path: Path, what: str, text: str) -> int:
    return int(_number(path, what, text))


def _number(path: Path, what: str, text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError as error:
        raise DataError(f"{path} states {text!r} as {what}; expected a number: correct the header") from error


def _text(field: bytes) -> str:
    return field.decode("latin-1").strip("\x00 \t")
