"""Parquet files: one row per sample, a column per lead, with or without a column of times."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.formats.opened import Assumptions, OpenedSignals, reading
from ecgkan.data.formats.tables import Column, Roles, Rows, StatedByTable, TimeColumn, assign_roles, open_table
from ecgkan.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_ROWS_AT_ONCE: Final = 1 << 17
_BUFFER_BYTES: Final = 1 << 16
_STAMP_S: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def open_parquet(path: Path, assumptions: Assumptions) -> OpenedSignals:
    """Open a Parquet file; its rows pass through memory part by part, once.

    Parameters
    ----------
    path : Path
        The file.
    assumptions : Assumptions
        Sampling rate, needed without a column of times, and units, needed where no column's name says them.

    Raises
    ------
    DataError
        If it is damaged, holds no columns of numbers, or sampling rate or units are missing.
    """
    import pyarrow.parquet as pq

    with (
        reading(path, "a Parquet file", "a Parquet file with one row per sample"),
        # By default all row groups are fetched ahead: 24 hours of three leads then stay in memory, 550 MB.
        pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file,
    ):
        schema = file.schema_arrow
        roles = assign_roles([Column(i, field.name) for i, field in enumerate(schema) if _is_usable(field.type)])
        roles = _with_stamps(roles, schema)
        if not roles.signals:
            raise DataError(
                f"{path} holds the columns {', '.join(schema.names) or '(none)'}; expected one of numbers such as "
                "'ECG (mV)'"
            )
        stated = _stated(schema)._replace(started=_first_stamp(file, schema, roles))
        return open_table(path, roles, _rows(file, schema, roles), stated, assumptions)


def _first_stamp(file: "pq.ParquetFile", schema: "pa.Schema", roles: Roles) -> datetime.datetime | None:
    import pyarrow as pa

    if roles.time is None or not pa.types.is_timestamp(schema.field(roles.time.place).type):
        return None
    batch = next(file.iter_batches(1, columns=[schema.names[roles.time.place]]), None)
    stamp = (
        batch.column(0).cast(pa.timestamp("us"), safe=False)[0].as_py() if batch is not None and len(batch) else None
    )
    return stamp.replace(tzinfo=None) if isinstance(stamp, datetime.datetime) else None


def _rows(file: "pq.ParquetFile", schema: "pa.Schema", roles: Roles) -> Iterator[Rows]:
    names = [schema.names[column.place] for column in roles.signals]
    time = schema.names[roles.time.place] if roles.time else None
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[*names, *([time] if time else [])]):
        values = np.column_stack([_numbers(batch.column(name)) for name in names])
        yield Rows(None if time is None else _times(batch.column(time)), values)


def _numbers(column: "pa.Array") -> NDArray[np.float64]:
    import pyarrow as pa

    values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _times(column: "pa.Array") -> NDArray[np.float64]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type):
        return _numbers(column.cast(pa.int64()))
    return _numbers(column)


def _is_usable(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    t = pa.types
    return bool(
        t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_timestamp(kind) or t.is_duration(kind)
    )


def _with_stamps(roles: Roles, schema: "pa.Schema") -> Roles:
    """Take a column of time stamps as the time, whatever its name; its type says the unit."""
    import pyarrow as pa

    def is_stamp(place: int) -> bool:
        return bool(pa.types.is_timestamp(schema.field(place).type) or pa.types.is_duration(schema.field(place).type))

    stamps = [TimeColumn(i, field.name, _STAMP_S[field.type.unit]) for i, field in enumerate(schema) if is_stamp(i)]
    signals = tuple(column for column in roles.signals if not is_stamp(column.place))
    if roles.time is not None and not is_stamp(roles.time.place):
        return roles._replace(signals=signals)
    return roles._replace(time=stamps[0] if stamps else None, signals=signals)


def _stated(schema: "pa.Schema") -> StatedByTable:
    """Return what the file's metadata says: `fs` and `units`, as `Table.replace_schema_metadata` writes them."""
    metadata: dict[bytes, Any] = schema.metadata or {}
    try:
        fs = float(metadata[b"fs"])
    except (KeyError, ValueError):
        fs = None
    return StatedByTable(fs=fs, unit=metadata.get(b"units", b"").decode("utf-8", "replace"))
