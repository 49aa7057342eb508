"""The comparison in files for programs: a CSV table and a JSON document."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataNotFoundError, OutputExistsError
from ecgkan.evaluation.ec57.beats import BeatFigures
from ecgkan.evaluation.ec57.runs import RunFigures, RunKind
from ecgkan.evaluation.ec57.summary import Comparison

_ROWS, _COLUMNS = "NSVFQOX", "nsvfqox"
COUNT_NAMES: Final = tuple(
    f"{row}{column}" for row in _ROWS for column in _COLUMNS if not (row in "OX" and column in "ox")
)
"""Reference label in capitals, test label in small letters: `Vn` is a ventricular beat called normal."""

_KINDS: Final[tuple[RunKind, ...]] = ("ventricular", "supraventricular")


def comparison_json(comparison: Comparison) -> str:
    """Return the document of `Comparison.to_dict` as text."""
    return json.dumps(comparison.to_dict(), indent=1, allow_nan=False) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """Return a table with every count and figure of each record, then gross and average ones; empty where undefined."""
    stream = io.StringIO()
    run_names = [f"{kind}_{name}" for kind in _KINDS for name in RunFigures._fields]
    run_columns = [f"{name}_{part}" for name in run_names for part in ("part", "whole", "percent")]
    figure_names = [f"{name}_percent" for name in BeatFigures._fields]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["record", *COUNT_NAMES, *figure_names, "rr_error_ms", "rr_pairs", "shutdown_s", *run_columns])
    for record in comparison.records:
        beats = record.beats
        writer.writerow(
            [
                record.record,
                *_counts(beats.counts),
                *_percents(beats.figures),
                _value(beats.rr_error_ms),
                beats.rr_pairs,
                beats.shutdown_s,
                *(cell for kind in _KINDS for cell in _run_cells(record.runs(kind).figures)),
            ]
        )
    writer.writerow(
        [
            "gross",
            *_counts(comparison.counts),
            *_percents(comparison.gross()),
            "",
            sum(record.beats.rr_pairs for record in comparison.records),
            sum(record.beats.shutdown_s for record in comparison.records),
            *(cell for kind in _KINDS for cell in _run_cells(comparison.gross_runs(kind))),
        ]
    )
    average = comparison.average()
    means = [*average.ventricular.values(), *average.supraventricular.values()]
    writer.writerow(
        [
            "average",
            *[""] * len(COUNT_NAMES),
            *map(_value, average.beats.values()),
            _value(average.rr_error_ms),
            "",
            "",
            *(cell for mean in means for cell in ("", "", _value(mean))),
        ]
    )
    return stream.getvalue()


def check_outputs(files: list[Path], *, overwrite: bool) -> None:
    """Refuse to write where there is something already, or no folder.

    Raises
    ------
    OutputExistsError
        If a file exists and `overwrite` is not set.
    DataNotFoundError
        If the folder of a file does not exist.
    """
    for file in files:
        if not file.parent.is_dir():
            raise DataNotFoundError(f"no folder {file.parent} to write {file.name} to; make it first")
        if file.exists() and not overwrite:
            raise OutputExistsError(f"{file} exists and was left as it is; use --overwrite, or another file")


def write_whole(file: Path, content: bytes) -> None:
    """Write under another name, then rename, so that a file is whole or not there."""
    temporary = file.with_name(f".{file.name}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _counts(counts: NDArray[np.int64]) -> list[int]:
    return [int(counts[_ROWS.index(name[0]), _COLUMNS.index(name[1])]) for name in COUNT_NAMES]


def _percents(figures: BeatFigures) -> list[str]:
    return [_value(proportion.percent) for proportion in figures]


def _run_cells(figures: RunFigures) -> list[int | str]:
    return [cell for proportion in figures for cell in (proportion.part, proportion.whole, _value(proportion.percent))]


def _value(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
