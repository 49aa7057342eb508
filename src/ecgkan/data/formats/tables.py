"""Tables, one row per sample: which columns are time and leads, and a compact copy that is read in any part."""

import datetime
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.formats.opened import Assumptions, KeptSignals, OpenedSignals, Signal, agreed_fs, keep_signals
from ecgkan.data.formats.store import SampleStore
from ecgkan.data.formats.timeline import TIME_UNITS_S, Timeline, even_timeline, read_timeline
from ecgkan.data.leads import is_other_signal
from ecgkan.data.units import mv_per_unit, unit_in_name
from ecgkan.errors import DataError

_TIME_UNIT: Final = (
    r"(?P<{}>n?s|secs?|[mµμu]s(?:ec)?|seconds?|milli(?:s|seconds?)?|micro(?:s|seconds?)|nano(?:s|seconds?)|mins?|"
    r"minutes?|hh:mm:ss(?:\.m+)?)"
)
_TIME_NAME: Final = re.compile(
    r"(?:(?:elapsed|unix|epoch|local|utc|recording|relative|sample|device|phone|sensor|ecg|start)[\s_-]*)?"
    r"(?:times?|time[\s_-]?stamps?|date[\s_-]*time|t|clock|seconds?|secs?|s|ms|millis|milliseconds|zeit|zeitstempel|zeitpunkt)"
    rf"(?:[\s_-]*[\[(]\s*{_TIME_UNIT.format('bracketed')}\s*[\])]|[\s_-]+{_TIME_UNIT.format('after')})?",
    re.IGNORECASE,
)
_NUMBER_NAME: Final = re.compile(
    r"(?:samples?|index|idx|row|frame|no|nr|unnamed: ?0|level_0|__index_level_0__|)[\s_#]*(?:number|no|nr)?\.?",
    re.IGNORECASE,
)


class Column(NamedTuple):
    """A column of numbers: its place in the table, its name and its unit, empty where the table does not say."""

    place: int
    name: str
    unit: str = ""


class TimeColumn(NamedTuple):
    """The column that says when: its place, its name, and the seconds in one of its units, None where not said."""

    place: int
    name: str
    unit_s: float | None = None


class Roles(NamedTuple):
    """What the columns of a table are: time, signals, and which are left out."""

    time: TimeColumn | None
    signals: tuple[Column, ...]
    left_out: tuple[str, ...] = ()


class Rows(NamedTuple):
    """Some rows: `times` `[n]` float64 in the file's unit, None without a time column; `values` `[n, n_signals]`."""

    times: NDArray[np.float64] | None
    values: NDArray[np.float64]


class StatedByTable(NamedTuple):
    """What a table says beside its columns."""

    fs: float | None = None
    unit: str = ""
    started: datetime.datetime | None = None
    notes: tuple[str, ...] = ()


def assign_roles(columns: Sequence[Column]) -> Roles:
    """Tell time and signals by the columns' names; row numbers and signals that are no ECG are left out.

    Of several times the first that says its unit is taken, else the first.
    """
    times, signals, left_out = [], [], []
    for column in columns:
        match = _TIME_NAME.fullmatch(_bare(column.name))
        if match:
            unit = (match["bracketed"] or match["after"] or column.unit.strip("[]()'\"") or column.name).lower()
            times.append(TimeColumn(column.place, column.name, TIME_UNITS_S.get(unit)))
        elif _NUMBER_NAME.fullmatch(_bare(column.name)):
            left_out += [column.name] if column.name else []
        else:
            name, unit_of_name = unit_in_name(column.name)
            signals.append(Column(column.place, name, column.unit or unit_of_name or ""))
    time = next((time for time in times if time.unit_s), times[0] if times else None)
    left_out += [other.name for other in times if other is not time]
    kept = [column for column in signals if not is_other_signal(column.name)] or signals
    left_out += [column.name for column in signals if column not in kept]
    return Roles(time, tuple(kept), tuple(left_out))


def open_table(
    path: Path, roles: Roles, rows: Iterable[Rows], stated: StatedByTable, assumptions: Assumptions
) -> OpenedSignals:
    """Copy a table's rows into a compact store and find its timeline.

    Parameters
    ----------
    path : Path
        The file, for messages.
    roles : Roles
        What its columns are.
    rows : iterable of Rows
        Its rows, part by part in order.
    stated : StatedByTable
        What the file says besides.
    assumptions : Assumptions
        Sampling rate and units asked for.

    Raises
    ------
    DataError
        If there are no rows, sampling rate or units are missing, or the times make no sense.
    """
    kept, notes = _keep(path, roles, stated, assumptions)
    scales = np.array(kept.mv_per_unit)
    store = SampleStore(len(kept.places))
    times = _TimeStore()
    try:
        for part in rows:
            store.append(part.values[:, list(kept.places)] * scales)
            if part.times is not None:
                times.append(part.times)
        if store.n_samples == 0:
            raise DataError(f"{path} holds no rows of numbers; expected one row per sample")
        timeline = _timeline(path, roles.time, times, store.n_samples, stated, assumptions)
    except BaseException:
        store.close()
        raise
    finally:
        times.close()
    return OpenedSignals(
        fs=timeline.fs,
        leads=tuple(roles.signals[i].name for i in kept.places),
        n_samples=timeline.n_samples,
        read=_Reader(store, timeline).read,
        started=stated.started,
        notes=(*stated.notes, *notes, *_timeline_notes(roles.time, timeline, store.n_samples)),
        close=store.close,
    )


class _Reader(NamedTuple):
    """Reads parts of a store along a timeline with gaps."""

    store: SampleStore
    timeline: Timeline

    def read(self, start: int, stop: int, columns: Sequence[int]) -> NDArray[np.float64]:
        """Return samples `[start, stop)`, mV; NaN in gaps."""
        rows, samples = self.timeline.rows, self.timeline.samples
        ends = np.append(rows[1:], self.store.n_samples)
        found = np.full((stop - start, len(columns)), np.nan)
        first = int(np.searchsorted(samples, start, side="right")) - 1
        last = int(np.searchsorted(samples, stop))
        for run in range(first, last):
            low, high = max(start, int(samples[run])), min(stop, int(samples[run] + ends[run] - rows[run]))
            if low < high:
                offset = int(rows[run] - samples[run])
                found[low - start : high - start] = self.store.read(low + offset, high + offset, columns)
        return found


class _TimeStore:
    """A column of times in a temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="ecgkan-")  # noqa: SIM115

    def append(self, times: NDArray[np.float64]) -> None:
        self._file.write(np.ascontiguousarray(times, dtype="<f8").tobytes())

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        self._file.seek(8 * start)
        return np.frombuffer(self._file.read(8 * (stop - start)), dtype="<f8")

    def close(self) -> None:
        self._file.close()


def _keep(
    path: Path, roles: Roles, stated: StatedByTable, assumptions: Assumptions
) -> tuple[KeptSignals, tuple[str, ...]]:
    if not roles.signals:
        raise DataError(f"{path} holds no column of numbers that can be an ECG; expected one such as 'ECG (mV)'")
    signals = [Signal(column.name, column.unit or stated.unit, 0.0) for column in roles.signals]
    left_out = list(roles.left_out)
    if assumptions.units is None and any(mv_per_unit(signal.unit) is not None for signal in signals):
        # Beside columns in mV, one without a unit is something else.
        left_out += [signal.name for signal in signals if not signal.unit]
        signals = [signal if signal.unit else signal._replace(unit="1/min") for signal in signals]
    kept = keep_signals(path, signals, assumptions.units, must_state_units=True)
    notes = [note for note in kept.notes if not note.startswith("left out")]
    left_out += [s.name for i, s in enumerate(signals) if i not in kept.places and s.name not in left_out]
    if left_out:
        notes.append(f"columns left out: {', '.join(left_out)}")
    return kept, tuple(notes)


def _timeline(
    path: Path, column: TimeColumn | None, times: _TimeStore, n_rows: int, stated: StatedByTable, assumed: Assumptions
) -> Timeline:
    if column is None or n_rows < 2:
        return even_timeline(n_rows, agreed_fs(path, stated.fs, assumed.fs))
    return read_timeline(path, column.name, times.read, n_rows, column.unit_s, assumed.fs)


def _timeline_notes(column: TimeColumn | None, timeline: Timeline, n_rows: int) -> tuple[str, ...]:
    if column is None:
        return ()
    notes = [f"time column {column.name!r}: {timeline.fs:.6g} Hz"]
    if len(timeline.rows) > 1:
        missing_s = (timeline.n_samples - n_rows) / timeline.fs
        gaps = len(timeline.rows) - 1
        notes.append(f"{gaps} {'gap' if gaps == 1 else 'gaps'} by the time column, {missing_s:.3g} s in all")
    return tuple(notes)


def _bare(name: str) -> str:
    return name.strip().strip("'\"").strip()
