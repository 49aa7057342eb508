"""WFDB records: single- and multi-segment, in all signal formats that wfdb reads."""

import datetime
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.formats.opened import Assumptions, OpenedSignals, Signal, agreed_fs, keep_signals, mv_scale, reading
from ecgkan.data.formats.store import SampleStore
from ecgkan.data.leads import is_other_signal
from ecgkan.data.units import parse_units
from ecgkan.errors import DataError, DataNotFoundError

if TYPE_CHECKING:
    import wfdb

_DIFFERENCES: Final = "8"
"""The signal format that stores differences: it can only be read from its beginning."""

_COMPRESSED: Final = frozenset({"508", "516", "524"})
_EXPECTED: Final = "a header (.hea) and signal files of the length it announces, side by side"
_CHUNK_FRAMES: Final = 1 << 18


class _RecordLine(NamedTuple):
    """What the first line of a header says; None where it says nothing."""

    n_segments: int | None
    n_signals: int
    fs: float | None
    n_frames: int | None


class _Segment(NamedTuple):
    """A stretch `[start, stop)`, in frames of the whole record, with signal files of its own.

    `header` is wfdb's; `units` and `scaling` (the header's gain, baseline and unit, unparsed) are one per signal.
    """

    start: int
    stop: int
    base: Path
    header: "wfdb.Record"
    units: tuple[str, ...]
    scaling: tuple[str, ...]


class _Layout(NamedTuple):
    """Segments and the signals of the whole record: names, samples per frame, whether a segment may lack some."""

    segments: tuple[_Segment, ...]
    n_frames: int
    names: tuple[str, ...]
    per_frame: tuple[int, ...]
    variable: bool


def open_wfdb(path: Path, assumptions: Assumptions) -> OpenedSignals:
    """Open a WFDB record by its header.

    Parameters
    ----------
    path : Path
        The header, `.hea`.
    assumptions : Assumptions
        A sampling rate for headers that state none, units for signals in adu.

    Raises
    ------
    DataNotFoundError
        If a signal file is not there.
    DataError
        If the header or a signal file is damaged, or they do not fit together.
    """
    with reading(path, "a WFDB record", _EXPECTED):
        line = _record_line(path)
        layout = _layout(path, line)
        frame_fs = agreed_fs(path, line.fs, assumptions.fs)
        signals = [
            Signal(name, unit, frame_fs * per_frame)
            for name, unit, per_frame in zip(layout.names, _units(layout), layout.per_frame, strict=True)
        ]
        kept = keep_signals(path, signals, assumptions.units)
        reader = _Reader(path, layout, kept.places, assumptions)
        started, start_notes = _started(path)
        opened = OpenedSignals(
            fs=kept.fs,
            leads=tuple(layout.names[i] for i in kept.places),
            n_samples=layout.n_frames * reader.per_frame,
            read=reader.read,
            started=started,
            notes=(*kept.notes, *_gain_notes(layout, kept.places), *start_notes),
        )
        return _stored(opened, reader) if any(map(any, reader.differences())) else opened


def segment_names(path: Path) -> tuple[str, ...]:
    """Return the names of the headers that a multi-segment header is made of; none for another or unreadable one."""
    try:
        lines = _header_lines(path)
    except OSError:
        return ()
    if not lines or not re.match(r"\S+/\d+(\s|$)", lines[0]):
        return ()
    return tuple(name for line in lines[1:] if (name := line.split()[0]) != "~")


class _Reader:
    """Reads parts of the kept signals of a record, segment by segment."""

    def __init__(self, path: Path, layout: _Layout, places: Sequence[int], assumptions: Assumptions) -> None:
        self.path = path
        self.layout = layout
        self.per_frame = layout.per_frame[places[0]]
        self._in_segment = [_places_in(segment, layout, places) for segment in layout.segments]
        asked = parse_units(assumptions.units) if assumptions.units is not None else None
        self._scales = [
            [
                mv_scale(path, Signal(layout.names[place], segment.units[i], 1.0), asked, assumptions.units)[0]
                if i is not None
                else 1.0
                for place, i in zip(places, inside, strict=True)
            ]
            for segment, inside in zip(layout.segments, self._in_segment, strict=True)
        ]

    def differences(self) -> list[list[bool]]:
        """Which of the kept signals are stored as differences, by segment."""
        return [
            [i is not None and segment.header.fmt[i] == _DIFFERENCES for i in inside]
            for segment, inside in zip(self.layout.segments, self._in_segment, strict=True)
        ]

    def read(self, start: int, stop: int, columns: Sequence[int]) -> NDArray[np.float64]:
        """Return samples `[start, stop)` of some of the kept signals, mV."""
        samples = np.full((stop - start, len(columns)), np.nan)
        for segment, inside, scales in zip(self.layout.segments, self._in_segment, self._scales, strict=True):
            first, last = segment.start * self.per_frame, segment.stop * self.per_frame
            low, high = max(start, first), min(stop, last)
            wanted = [(place, inside[c], scales[c]) for place, c in enumerate(columns)]
            present = [(place, i, scale) for place, i, scale in wanted if i is not None]
            if low >= high or not present:
                continue
            signals = self._read_segment(segment, low - first, high - first, [i for _, i, _ in present])
            for (place, _, scale), signal in zip(present, signals, strict=True):
                samples[low - start : high - start, place] = signal if scale == 1 else signal * scale
        return samples

    def _read_segment(
        self, segment: _Segment, start: int, stop: int, signals: Sequence[int]
    ) -> list[NDArray[np.float64]]:
        first_frame, last_frame = start // self.per_frame, math.ceil(stop / self.per_frame)
        cut = slice(start - first_frame * self.per_frame, stop - first_frame * self.per_frame)
        with reading(segment.base.with_name(f"{segment.base.name}.hea"), "a WFDB record", _EXPECTED):
            return [frames[cut] for frames in self._read_frames(segment, first_frame, last_frame, signals)]

    def _read_frames(
        self, segment: _Segment, start: int, stop: int, signals: Sequence[int]
    ) -> list[NDArray[np.float64]]:
        """Read whole frames; a signal's skew is how many frames later than the others it stands in its file."""
        found: dict[int, NDArray[np.float64]] = {}
        skews = {i: segment.header.skew[i] or 0 for i in signals}
        for skew in sorted(set(skews.values())):
            together = [i for i in skews if skews[i] == skew]
            low, high = start + skew, min(stop + skew, segment.stop - segment.start)
            parts = _read_physical(segment, low, high, together) if low < high else [np.zeros(0)] * len(together)
            missing = (stop - start) * self.per_frame
            found |= {
                i: np.concatenate([part, np.full(missing - len(part), np.nan)])
                for i, part in zip(together, parts, strict=True)
            }
        return [found[i] for i in signals]


def _read_physical(segment: _Segment, start: int, stop: int, signals: Sequence[int]) -> list[NDArray[np.float64]]:
    """Read frames `[start, stop)` as wfdb.rdrecord does, without parsing the header again for every part."""
    from wfdb.io._signal import INVALID_SAMPLE_VALUE, _rd_segment

    header = segment.header
    digital = _rd_segment(
        file_name=header.file_name, dir_name=str(segment.base.parent), pn_dir=None, fmt=header.fmt, n_sig=header.n_sig,
        sig_len=segment.stop - segment.start, byte_offset=header.byte_offset, samps_per_frame=header.samps_per_frame,
        skew=header.skew, init_value=header.init_value, sampfrom=start, sampto=stop, channels=list(signals),
        ignore_skew=True,
    )  # fmt: skip
    physical = []
    for i, samples in zip(signals, digital, strict=True):
        values = (samples.astype(np.float64) - header.baseline[i]) / header.adc_gain[i]
        invalid = INVALID_SAMPLE_VALUE[header.fmt[i]]
        physical.append(values if invalid is None else np.where(samples == invalid, np.nan, values))
    return physical


def _stored(opened: OpenedSignals, reader: _Reader) -> OpenedSignals:
    """Decode a record with differences once, in order: wfdb starts every part from the header's initial value."""
    store = SampleStore(len(opened.leads))
    columns = range(len(opened.leads))
    for segment, differences in zip(reader.layout.segments, reader.differences(), strict=True):
        first, last = segment.start * reader.per_frame, segment.stop * reader.per_frame
        store.append_missing(first - store.n_samples)
        level = np.zeros(len(opened.leads))
        for start in range(first, last, _CHUNK_FRAMES * reader.per_frame):
            overlap = int(start > first)  # one sample that carries the level from part to part
            part = reader.read(start - overlap, min(start + _CHUNK_FRAMES * reader.per_frame, last), columns)
            if overlap:
                part[:, differences] += level[differences] - part[0, differences]
            store.append(part[overlap:])
            level = part[-1]
    store.append_missing(opened.n_samples - store.n_samples)
    return replace(opened, read=store.read, close=store.close)


def _places_in(segment: _Segment, layout: _Layout, places: Sequence[int]) -> list[int | None]:
    """Where the kept signals are in a segment: in a variable layout by name, else at the same place."""
    own = list(segment.header.sig_name or ())
    if not layout.variable:
        return list(places)
    return [own.index(layout.names[place]) if layout.names[place] in own else None for place in places]


def _layout(path: Path, line: _RecordLine) -> _Layout:
    if line.n_segments is None:
        segment = _segment(path, 0, line.n_frames)
        names = tuple(str(name or "") for name in segment.header.sig_name or ())
        per_frame = tuple(int(n or 1) for n in segment.header.samps_per_frame or ())
        layout = _Layout((segment,), segment.stop, names, per_frame, variable=False)
    else:
        layout = _multi_segment_layout(path, line)
    if len(layout.names) != line.n_signals or not layout.names:
        raise DataError(
            f"{path} announces {line.n_signals} signals and describes {len(layout.names)}; expected as many signal "
            "lines as it announces, at least one: correct the header or fetch it again"
        )
    return layout


def _multi_segment_layout(path: Path, line: _RecordLine) -> _Layout:
    import wfdb

    master = wfdb.rdheader(str(path.with_suffix("")))
    if len(master.seg_name) != line.n_segments:
        raise DataError(f"{path} announces {line.n_segments} segments and lists {len(master.seg_name)}")
    variable = master.seg_len[0] == 0
    segments: list[_Segment] = []
    start = 0
    for name, n_frames in zip(master.seg_name, master.seg_len, strict=True):
        if name != "~" and n_frames:
            segments.append(_segment(path.with_name(f"{name}.hea"), start, n_frames))
        start += n_frames
    if line.n_frames is not None and start != line.n_frames:
        raise DataError(f"{path} announces {line.n_frames} samples, its segments hold {start}; correct the header")
    _check_rates(path, line, segments)
    if not segments and not variable:
        raise DataError(f"{path} lists no segment with signal")
    described = wfdb.rdheader(str(path.with_name(master.seg_name[0]))) if variable else segments[0].header
    names = tuple(str(name or "") for name in described.sig_name or ())
    per_frame = tuple(int(n or 1) for n in described.samps_per_frame or ())
    return _Layout(tuple(segments), start, names, per_frame, variable)


def _check_rates(path: Path, line: _RecordLine, segments: Sequence[_Segment]) -> None:
    for segment in segments:
        fs = _record_line(segment.base.with_name(f"{segment.base.name}.hea")).fs
        if fs is not None and line.fs is not None and fs != line.fs:
            raise DataError(
                f"{path} states a sampling rate of {line.fs:g} Hz, its segment {segment.base.name} one of {fs:g} Hz; "
                "expected the same in all segments"
            )


def _segment(path: Path, start: int, n_frames: int | None) -> _Segment:
    """Read a single-segment header and compare its signal files with it."""
    import wfdb

    base = path.with_name(path.name.removesuffix(".hea"))
    header = wfdb.rdheader(str(base))
    own_frames = header.sig_len
    if own_frames is None and header.sig_name:
        own_frames = _frames_in_file(base, header)
    if n_frames is not None and n_frames != own_frames:
        raise DataError(f"{path} holds {own_frames} samples, {n_frames} are announced; correct the header")
    fields = [line.split() for line in _header_lines(path)[1:]]
    scaling = [field[2] if len(field) > 2 else "" for field in fields]
    units = tuple(text.partition("/")[2] or "mV" for text in scaling)  # the WFDB header's own default
    segment = _Segment(start, start + (own_frames or 0), base, header, units, tuple(scaling))
    _check_signal_files(path, segment)
    return segment


def _check_signal_files(path: Path, segment: _Segment) -> None:
    header = segment.header
    for name in dict.fromkeys(header.file_name or ()):
        file = path.with_name(name)
        if not file.is_file():
            raise DataNotFoundError(
                f"{path} names a signal file that is not there ({name}); a WFDB record needs its header (.hea) and "
                "its signal file side by side"
            )
        n_frames = segment.stop - segment.start
        in_file = _frames_in_file(segment.base, header, name)
        if in_file < n_frames:
            raise DataError(
                f"{file} is too short: it holds {in_file} samples of each signal, {path.name} announces {n_frames}; "
                "fetch it again, or correct the header"
            )


def _frames_in_file(base: Path, header: "wfdb.Record", name: str | None = None) -> int:
    """How many whole frames a signal file holds, by its size."""
    from wfdb.io._signal import BYTES_PER_SAMPLE

    name = header.file_name[0] if name is None else name
    inside = [i for i, file in enumerate(header.file_name) if file == name]
    first = inside[0]
    fmt, offset = header.fmt[first], header.byte_offset[first] or 0
    per_frame = [int(header.samps_per_frame[i] or 1) for i in inside]
    file = base.with_name(name)
    if fmt in _COMPRESSED:
        import soundfile

        return int((soundfile.info(str(file)).frames - offset) // per_frame[0])
    # Blocks of several samples may end early: the last half of a 212 block, the last thirds of a 310 block.
    return int((file.stat().st_size - offset) / BYTES_PER_SAMPLE[fmt] / sum(per_frame) + 1e-9)


def _units(layout: _Layout) -> list[str]:
    """Return the unit of every signal of the record: in a variable layout that of the first segment that holds it."""
    units: list[str | None] = [None] * len(layout.names)
    for segment in layout.segments:
        for place, i in enumerate(_places_in(segment, layout, range(len(layout.names)))):
            if i is not None and units[place] is None:
                units[place] = segment.units[i]
    return [unit or "mV" for unit in units]


def _gain_notes(layout: _Layout, places: Sequence[int]) -> tuple[str, ...]:
    notes = []
    for place in places:
        for segment in layout.segments:
            i = _places_in(segment, layout, [place])[0]
            if i is not None and not _states_gain(segment.scaling[i]) and not is_other_signal(layout.names[place]):
                notes.append(f"{layout.names[place]} has no gain in the header: WFDB's default of 200 adu/mV")
                break
    return tuple(notes)


def _states_gain(scaling: str) -> bool:
    number = re.match(r"[+-]?[\d.]+(?:e[+-]?\d+)?", scaling, re.IGNORECASE)
    return number is not None and float(number[0]) != 0


def _started(path: Path) -> tuple[datetime.datetime | None, tuple[str, ...]]:
    import wfdb

    header = wfdb.rdheader(str(path.with_name(path.name.removesuffix(".hea"))))
    if header.base_datetime is not None:
        return header.base_datetime, ()
    if header.base_time is not None:
        return None, (f"starts at {header.base_time} by the header, which gives no date",)
    return None, ()


def _record_line(path: Path) -> _RecordLine:
    lines = _header_lines(path)
    fields = lines[0].split() if lines else []
    name = fields[0] if fields else ""
    try:
        n_signals = int(fields[1])
        fs = float(fields[2].split("/")[0].split("(")[0]) if len(fields) > 2 else None
        n_frames = int(fields[3]) if len(fields) > 3 else None
        n_segments = int(name.partition("/")[2]) if "/" in name else None
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path} cannot be read as a WFDB header: its first line is {' '.join(fields)[:60]!r}; expected a record "
            "name, the number of signals, the sampling rate and the number of samples"
        ) from error
    if fs is not None and not 0 < fs < float("inf"):
        raise DataError(f"{path} states a sampling rate of {fs:g} Hz; expected 100 to 2000 Hz: correct the header")
    if n_frames == 0 and n_segments is None:
        n_frames = None  # "not known", by the WFDB header format
    return _RecordLine(n_segments, n_signals, fs, n_frames)


def _header_lines(path: Path) -> list[str]:
    """Return the lines of a header without comments; wfdb drops what is not ASCII, and with it the µ of µV."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
