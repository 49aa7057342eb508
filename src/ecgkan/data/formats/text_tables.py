"""Tables in text files: CSV, TSV and columns divided by blanks, as devices and PhysioNet's rdsamp write them."""

import datetime
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.formats.opened import Assumptions, OpenedSignals, reading
from ecgkan.data.formats.tables import Column, Roles, Rows, StatedByTable, TimeColumn, assign_roles, open_table
from ecgkan.data.units import measures_something_else, mv_per_unit
from ecgkan.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_SNIFFED_BYTES: Final = 1 << 16
_ROWS_AT_ONCE: Final = 1 << 17
_MISSING: Final = frozenset(
    {"", "-", "--", "?", "*", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "inf", "-inf", "missing", "1.#qnan"}
)
_COMMENT_MARKS: Final = ("#", "%", "//")
_UNIT_WORDS: Final = frozenset({"s", "ms", "us", "sec", "seconds", "adu", "nu", "-", "", "hh:mm:ss.mmm", "hh:mm:ss"})

_NUMBER: Final = {
    ".": re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"),
    ",": re.compile(r"[+-]?(?:\d+(?:,\d*)?|,\d+)(?:[eE][+-]?\d+)?"),
}
_CLOCK: Final = re.compile(r"\[?(?:.*[ T])?(\d+:)?\d{1,2}:\d{2}(?:[.,]\d+)?\]?(?: \d{1,2}/\d{1,2}/\d{4}\])?")
_ISO: Final = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:Z|[+-]\d{2}:?\d{2})?")

_STATED_FS: Final = re.compile(
    r"(?:sampl\w*[\s_-]*(?:rate|freq\w*)|abtast\w*|frequency|\bfs\b|\bsfreq\b)[^\d\n]{0,20}(\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
_STATED_UNIT: Final = re.compile(r"^\W*units?\b[\s:=,;\"'\t]+([^\s,;\"']+)", re.IGNORECASE)
_STATED_LEAD: Final = re.compile(r"^\W*lead\b[\s:=,;\"'\t]+(?:lead )?([^,;\"']+)", re.IGNORECASE)
_STATED_START: Final = re.compile(
    r"(?:recorded|recording|start|acquisition|begin)[^\d\n]*(\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2})", re.IGNORECASE
)


class _Dialect(NamedTuple):
    """How lines are divided (`None`: by blanks) and numbers written."""

    delimiter: str | None
    decimal: str
    quote: str


class _Shape(NamedTuple):
    """What the lines of samples look like: number of fields, and the kind of each: number, clock, iso or text."""

    n_fields: int
    kinds: tuple[str, ...]


class _Layout(NamedTuple):
    """A text table: its dialect, its shape, the line its samples begin at (from 0), column names and what it states."""

    encoding: str
    dialect: _Dialect
    shape: _Shape
    first_line: int
    columns: tuple[Column, ...]
    stated: StatedByTable
    comment: str | None
    first_row: tuple[str, ...]

    def first_stamp(self, place: int) -> datetime.datetime | None:
        """Return the first value of a column if it is date and time, without its time zone."""
        text = self.first_row[place].replace(",", ".")
        return _date(re.sub(r"\s*(?:Z|[+-]\d{2}:?\d{2})$", "", text)) if _ISO.fullmatch(text) else None


_DIVISIONS: Final = (
    (",", "."), (";", "."), ("\t", "."), ("|", "."), (None, "."), (";", ","), ("\t", ","), (",", ","), (None, ",")
)  # fmt: skip
"""Delimiter and decimal mark, in the order of preference where several fit; None are blanks."""


def open_text(path: Path, assumptions: Assumptions) -> OpenedSignals:
    """Open a table in a text file; its rows pass through memory part by part, once.

    Parameters
    ----------
    path : Path
        The file.
    assumptions : Assumptions
        Sampling rate, needed without a column of times, and units, needed where no column's name says them.

    Raises
    ------
    DataError
        If it holds no table of numbers, a cell that is no number, or sampling rate or units are missing.
    """
    with reading(path, "a table of numbers", "columns of numbers, one row per sample"):
        layout = _find_layout(path)
        roles = _roles(path, layout)
        stated = layout.stated
        if stated.started is None and roles.time is not None:
            stated = stated._replace(started=layout.first_stamp(roles.time.place))
        return open_table(path, roles, _rows(path, layout, roles), stated, assumptions)


def _find_layout(path: Path) -> _Layout:
    lines, encoding = _first_lines(path)
    comment = next((mark for mark in _COMMENT_MARKS if any(line.lstrip().startswith(mark) for line in lines)), None)
    plain = [line for line in lines if line.strip() and not _is_comment(line)]
    if not plain:
        raise DataError(f"{path} is empty; expected columns of numbers, one row per sample")
    dialect, shape = _find_dialect(path, plain)
    first_line = next(i for i, line in enumerate(lines) if not _is_comment(line) and _fits(line, dialect, shape))
    if _numbers_its_columns(_fields(lines[first_line], dialect), lines[first_line + 1 :], dialect):
        first_line += 1
        names, units = [""] * shape.n_fields, [""] * shape.n_fields
    else:
        names, units = _header(lines[:first_line], dialect, shape.n_fields)
    columns = [Column(i, name, unit) for i, (name, unit) in enumerate(zip(names, units, strict=True))]
    stated = _stated(lines[:first_line], units)
    if not any(names):
        rows = [_fields(line, dialect) for line in plain if _fits(line, dialect, shape)]
        columns = _unnamed(columns, shape, rows, _stated_lead(lines[:first_line]))
    return _Layout(
        encoding,
        dialect,
        shape,
        first_line,
        tuple(columns),
        stated,
        comment,
        tuple(_fields(lines[first_line], dialect)),
    )


def _first_lines(path: Path) -> tuple[list[str], str]:
    """Return the complete lines of the file's first part, and its encoding."""
    with path.open("rb") as file:
        start = file.read(_SNIFFED_BYTES)
        is_all = not file.read(1)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif start.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8-sig"
    elif b"\x00" in start:
        raise DataError(f"{path} holds binary data; expected a text with columns of numbers")
    else:
        encoding = "utf-8" if _decodes(start, "utf-8") else "cp1252"
    lines = start.decode(encoding, "replace").splitlines()
    return (lines if is_all or len(lines) < 2 else lines[:-1]), encoding


def _decodes(start: bytes, encoding: str) -> bool:
    try:
        start[: max(len(start) - 4, 1)].decode(encoding)
    except UnicodeDecodeError as error:
        return error.start > len(start) - 8  # a character cut at the end
    return True


def _find_dialect(path: Path, lines: Sequence[str]) -> tuple[_Dialect, _Shape]:
    """Find the dialect in which most lines look alike and hold numbers; of equals that with the most columns."""
    quote = "'" if sum(line.count("'") for line in lines) > sum(line.count('"') for line in lines) else '"'
    best: tuple[int, int] = (0, 0)
    found = None
    for delimiter, decimal in _DIVISIONS:
        dialect = _Dialect(delimiter, decimal, quote)
        shape = _shape(lines, dialect)
        if shape is None or _is_decimal_comma(lines, dialect, shape):
            continue
        score = (sum(_fits(line, dialect, shape) for line in lines), shape.kinds.count("number"))
        if score > best:
            best, found = score, (dialect, shape)
    if found is None:
        raise DataError(
            f"{path} holds text instead of numbers (it begins with {lines[0].strip()[:60]!r}); expected columns of "
            "numbers, one row per sample"
        )
    return found


def _shape(lines: Sequence[str], dialect: _Dialect) -> _Shape | None:
    split = [_fields(line, dialect) for line in lines]
    kinds = [[_kind(field, dialect.decimal) for field in fields] for fields in split]
    with_numbers = [line for line in kinds if "number" in line and len(line) > line.count("text")]
    if not with_numbers:
        return None
    n_fields = Counter(len(line) for line in with_numbers).most_common(1)[0][0]
    alike = [line for line in with_numbers if len(line) == n_fields]
    by_column = [Counter(kind for kind in column if kind != "missing") for column in zip(*alike, strict=True)]
    return _Shape(n_fields, tuple(count.most_common(1)[0][0] if count else "missing" for count in by_column))


def _is_decimal_comma(lines: Sequence[str], dialect: _Dialect, shape: _Shape) -> bool:
    """Whether two columns of whole numbers are really one with a decimal comma: `-0,125` has a `-0`."""
    if dialect.delimiter != "," or shape.kinds != ("number", "number"):
        return False
    rows = [_fields(line, dialect) for line in lines if _fits(line, dialect, shape)]
    whole = all(re.fullmatch(r"[+-]?\d+", row[0]) and re.fullmatch(r"\d+", row[1]) for row in rows)
    return whole and any(row[0] == "-0" or re.fullmatch(r"0\d+", row[1]) for row in rows)


def _fits(line: str, dialect: _Dialect, shape: _Shape) -> bool:
    """Whether a line is one of samples: as many fields, numbers (at least one) and times where they belong."""
    fields = _fields(line, dialect)
    if len(fields) != shape.n_fields:
        return False
    kinds = [_kind(field, dialect.decimal) for field in fields]
    return "number" in kinds and all(
        expected in ("text", "missing") or kind in (expected, "missing")
        for kind, expected in zip(kinds, shape.kinds, strict=True)
    )


def _fields(line: str, dialect: _Dialect) -> list[str]:
    if dialect.delimiter is None:
        return [field.strip(dialect.quote) for field in line.split()]
    if dialect.quote not in line:
        return [field.strip() for field in line.split(dialect.delimiter)]
    import csv

    row = next(csv.reader([line], delimiter=dialect.delimiter, quotechar=dialect.quote, skipinitialspace=True), [])
    return [field.strip() for field in row]


def _kind(field: str, decimal: str) -> str:
    if field.lower() in _MISSING:
        return "missing"
    if _NUMBER[decimal].fullmatch(field):
        return "number"
    if _ISO.fullmatch(field):
        return "iso"
    return "clock" if _CLOCK.fullmatch(field) else "text"


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(_COMMENT_MARKS)


def _numbers_its_columns(fields: Sequence[str], below: Sequence[str], dialect: _Dialect) -> bool:
    """Whether a line only counts the columns, `0,1,2`, as pandas writes it over an array without names."""
    counted = [field for field in fields if field]
    if counted != [str(i) for i in range(len(counted))] or len(fields) < 2 or fields[0] not in ("", "0"):
        return False
    return any("." in field or "," in field for line in below[:5] for field in _fields(line, dialect))


def _header(above: Sequence[str], dialect: _Dialect, n_fields: int) -> tuple[list[str], list[str]]:
    """Names and units of the columns, from the lines above the samples; empty where there are none."""
    nothing = [""] * n_fields
    lines = [line.lstrip().lstrip("#%/").strip() for line in above if line.strip()]
    rows = [_header_fields(line, dialect, n_fields) for line in lines[-2:]]
    rows = [row for row in rows if len(row) == n_fields]
    if rows and len(lines) >= len(rows) and _is_unit_row(rows[-1]):
        return (rows[-2] if len(rows) > 1 else nothing), rows[-1]
    if rows and len(_header_fields(lines[-1], dialect, n_fields)) == n_fields and not _is_stated(lines[-1]):
        return rows[-1], nothing
    return nothing, nothing


def _header_fields(line: str, dialect: _Dialect, n_fields: int) -> list[str]:
    fields = _fields(line, dialect)
    if dialect.delimiter is None and len(fields) != n_fields:
        fields = [field.strip() for field in re.split(r"\t|\s{2,}", line.strip())]
    if len(fields) == n_fields - 1 and dialect.delimiter is not None:
        fields.append("")  # rows that end with a delimiter have one field more
    return fields


def _is_unit_row(fields: Sequence[str]) -> bool:
    bare = [field.strip("[]()'\" ").lower() for field in fields]
    known = [
        mv_per_unit(f) is not None or measures_something_else(f) or f in _UNIT_WORDS or _interval_s(f) for f in bare
    ]
    return all(known) and any(bare)


def _interval_s(unit: str) -> float | None:
    """Return the sampling interval that rdsamp writes as the unit of its sample numbers: `0.00277778 sec`."""
    match = re.fullmatch(r"([\d.eE-]+) ?s(?:ec)?", unit.strip("'\" "))
    return float(match[1]) if match and _NUMBER["."].fullmatch(match[1]) and float(match[1]) > 0 else None


def _is_stated(line: str) -> bool:
    return bool(_STATED_FS.search(line) or _STATED_UNIT.search(line))


def _stated(above: Sequence[str], units: Sequence[str]) -> StatedByTable:
    """Return what the lines above the samples say about all of them: sampling rate, unit, start."""
    fs = next((float(match[1]) for line in above if (match := _STATED_FS.search(line))), None)
    intervals = [interval for unit in units if (interval := _interval_s(unit))]
    if fs is None and intervals:
        fs = float(f"{1 / intervals[0]:.5g}")
    unit = next((match[1] for line in above if (match := _STATED_UNIT.search(line))), "")
    start = next((match[1] for line in above if (match := _STATED_START.search(line))), None)
    notes = []
    if fs is not None:
        notes.append(f"sampling rate of {fs:g} Hz from the lines above the samples")
    if mv_per_unit(unit) is not None:
        notes.append(f"unit {unit} from the lines above the samples")
    return StatedByTable(fs, unit if mv_per_unit(unit) is not None else "", _date(start), tuple(notes))


def _stated_lead(above: Sequence[str]) -> str:
    return next((match[1].strip() for line in above if (match := _STATED_LEAD.search(line))), "")


def _date(text: str | None) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _unnamed(columns: Sequence[Column], shape: _Shape, rows: Sequence[Sequence[str]], stated_lead: str) -> list[Column]:
    """Name the columns of a table without header: a first one that goes up evenly is the time or counts samples."""
    named = [column._replace(name=f"column {column.place + 1}") for column in columns]
    numbers = [i for i, kind in enumerate(shape.kinds) if kind == "number"]
    if len(numbers) == 1 and stated_lead:
        named[numbers[0]] = named[numbers[0]]._replace(name=stated_lead)
    if len(numbers) > 1 and len(rows) > 20:
        values = [float(row[numbers[0]].replace(",", ".")) for row in rows if row[numbers[0]].lower() not in _MISSING]
        steps = np.diff(values)
        if np.all(steps > 0) and steps.std() < 0.6 * steps.mean():
            counts = bool(np.all(np.abs(steps - 1) < 1e-9))
            named[numbers[0]] = named[numbers[0]]._replace(name="sample" if counts else "time")
    return named


def _roles(path: Path, layout: _Layout) -> Roles:
    kinds = layout.shape.kinds
    usable = [column for column in layout.columns if kinds[column.place] == "number"]
    roles = assign_roles([column for column in usable if not _interval_s(column.unit)])
    stamps = [column for column in layout.columns if kinds[column.place] in ("clock", "iso")]
    texts = tuple(c.name for c in layout.columns if kinds[c.place] == "text" and c.name)
    if not roles.signals:
        raise DataError(f"{path} holds no column of numbers that can be an ECG; expected one such as 'ECG (mV)'")
    time = roles.time
    if stamps and (time is None or time.unit_s is None):
        time = TimeColumn(stamps[0].place, stamps[0].name or "time", 1.0)
    return roles._replace(time=time, left_out=(*roles.left_out, *texts))


def _rows(path: Path, layout: _Layout, roles: Roles) -> Iterator[Rows]:
    import pandas as pd

    kinds, dialect = layout.shape.kinds, layout.dialect
    places = [column.place for column in roles.signals]
    time = roles.time.place if roles.time else None
    numbers = {*places, *([time] if time is not None and kinds[time] == "number" else [])}
    # Columns that are not used are read too, as text: a line with a field too many is then noticed.
    read = {place: np.float64 if place in numbers else str for place in range(layout.shape.n_fields)}
    to_seconds = _to_seconds(kinds[time]) if time is not None else None
    try:
        parts = pd.read_csv(
            path, sep=dialect.delimiter or r"\s+", decimal=dialect.decimal, quotechar=dialect.quote,
            header=None, names=range(layout.shape.n_fields), dtype=read, index_col=False,
            skiprows=layout.first_line, comment=layout.comment if layout.comment != "//" else None,
            na_values=sorted(_MISSING | {word.upper() for word in _MISSING}), skipinitialspace=True,
            skip_blank_lines=layout.shape.n_fields > 1,  # of a single column, an empty line is an empty cell
            encoding=layout.encoding, encoding_errors="replace", chunksize=_ROWS_AT_ONCE,
        )  # fmt: skip
        with parts:
            for part in parts:
                times = to_seconds(part[time]) if to_seconds is not None else None
                yield Rows(times, part[places].to_numpy(dtype=np.float64))
    except (ValueError, OverflowError) as error:
        raise _bad_cell(path, layout, roles, error) from error


def _to_seconds(kind: str) -> "Callable[[pd.Series[Any]], NDArray[np.float64]]":
    """Return a function from parts of a column, in order, to times: numbers as they are, stamps in s."""
    if kind == "number":
        return lambda column: column.to_numpy(dtype=np.float64)
    if kind == "iso":
        return _stamps_s
    return _Clock().seconds


def _stamps_s(column: "pd.Series[Any]") -> NDArray[np.float64]:
    import pandas as pd

    stamps = pd.to_datetime(column.str.replace(",", "."), format="ISO8601", utc=True)
    seconds: NDArray[np.float64] = (stamps - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=np.float64)
    return seconds


class _Clock:
    """Times of day, or since the beginning, that start again at midnight."""

    def __init__(self) -> None:
        self._last_s = 0.0
        self._days = 0

    def seconds(self, column: "pd.Series[Any]") -> NDArray[np.float64]:
        """Return `h:mm:ss.fff`, `m:ss.fff` and stamps with a date before or behind in s since the first midnight."""
        clock = column.str.extract(r"(?:(\d+):)?(\d{1,2}):(\d{2}(?:[.,]\d+)?)", expand=True)
        parts = [clock[i].fillna("0").str.replace(",", ".").astype(float).to_numpy() for i in range(3)]
        seconds = parts[0] * 3600 + parts[1] * 60 + parts[2]
        seconds[column.isna().to_numpy()] = np.nan
        wraps = np.diff(seconds, prepend=self._last_s) < -12 * 3600
        days = self._days + np.cumsum(wraps)
        if len(seconds):
            self._last_s, self._days = float(seconds[-1]), int(days[-1])
        since_midnight: NDArray[np.float64] = seconds + 86400.0 * days
        return since_midnight


def _bad_cell(path: Path, layout: _Layout, roles: Roles, error: Exception) -> DataError:
    """Say where the cell is that cannot be read, by looking for it line by line."""
    places = {column.place: column.name for column in roles.signals}
    with path.open(encoding=layout.encoding, errors="replace") as file:
        for number, line in enumerate(file, 1):
            if number <= layout.first_line or not line.strip() or _is_comment(line):
                continue
            fields = _fields(line, layout.dialect)
            if len(fields) > layout.shape.n_fields:
                return DataError(
                    f"{path}, line {number}: {len(fields)} fields, {layout.shape.n_fields} in the lines above; "
                    "expected as many in each"
                )
            for place, name in places.items():
                if place < len(fields) and _kind(fields[place], layout.dialect.decimal) not in ("number", "missing"):
                    return DataError(
                        f"{path}, line {number}: {fields[place][:40]!r} in column {name!r} is no number; correct it or "
                        "leave the cell empty where the sample is missing"
                    )
    return DataError(f"{path} cannot be read as a table of numbers ({type(error).__name__}: {error}); expected numbers")
