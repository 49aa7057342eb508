"""Tables of beats: the windows and labels of the database's records, cut once and cached."""

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import platformdirs
from numpy.typing import NDArray

from ecgkan.aami import CLASSES, SYMBOL_TO_CLASS, class_of_symbol
from ecgkan.data.beats import AFTER, BEFORE, cut_beats, normalize_windows
from ecgkan.data.leads import choose_lead
from ecgkan.data.mitdb import RECORDS, database_dir
from ecgkan.data.recording import read_annotations, read_recording
from ecgkan.errors import DataError, DataNotFoundError

MARGIN: Final = 64
"""Samples kept on either side of each window, so that training can shift and stretch it."""

_CACHE_FORMAT: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class BeatTable:
    """All beats of some records, in the order of the records and then time.

    Attributes
    ----------
    windows : ndarray
        `[n, 64 + 256 + 64]` float32, mV, one lead, not normalized.
    labels : ndarray
        `[n]` int64, class indices 0..4 = N S V F Q.
    records : ndarray
        `[n]` str, record names.
    samples : ndarray
        `[n]` int64, R-peak positions at 360 Hz.
    """

    windows: NDArray[np.float32]
    labels: NDArray[np.int64]
    records: NDArray[np.str_]
    samples: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def model_input(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the chosen beats as the models take them: `[k, 1, 256]` float32, z-scored beat by beat."""
        return normalize_windows(self.windows[indices, MARGIN : MARGIN + BEFORE + AFTER])[:, None, :]


def beat_labels(symbols: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the class index of each WFDB symbol, -1 where it marks no beat: `[n]` int64."""
    letters = (class_of_symbol(symbol) for symbol in symbols)
    return np.array([-1 if letter is None else CLASSES.index(letter) for letter in letters], dtype=np.int64)


def read_beat_table(database: Path, *, records: Sequence[str] = RECORDS, lead_by_name: bool = False) -> BeatTable:
    """Read records of the MIT-BIH Arrhythmia Database and cut all their beats.

    Parameters
    ----------
    database : Path
        The folder `mitdb`.
    records : sequence of str
        Records, in the order of the table.
    lead_by_name : bool
        Cut the lead that `ecgkan.data.leads.choose_lead` finds (MLII where there is one); else signal 0.

    Raises
    ------
    DataNotFoundError, DataError
        If a record is missing or damaged.
    """
    parts = [_read_record_beats(database / record, lead_by_name=lead_by_name) for record in records]
    windows, labels, samples = (np.concatenate(column) for column in zip(*parts, strict=True))
    names = np.repeat(np.array(records), [len(part[1]) for part in parts])
    return BeatTable(windows=windows, labels=labels, records=names, samples=samples)


def _read_record_beats(
    path: Path, *, lead_by_name: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    recording = read_recording(path, channels=None if lead_by_name else [0])
    column = choose_lead(path.name, recording.leads).index if lead_by_name else 0
    annotations = read_annotations(path, "atr")
    try:
        labels = beat_labels(annotations.symbols)
    except ValueError as error:
        raise DataError(f"{path}.atr: {error}") from error
    is_beat = labels >= 0
    beats = cut_beats(recording.signals[:, column], annotations.samples[is_beat], margin=MARGIN)
    return beats.windows, labels[is_beat][beats.indices], beats.samples


def load_beat_table(
    data_dir: Path | None = None,
    *,
    records: Sequence[str] = RECORDS,
    lead_by_name: bool = False,
    use_cache: bool = True,
) -> BeatTable:
    """Load a table of beats, from the user's cache folder if the same files were cut before; see `read_beat_table`."""
    database = database_dir("mitdb", data_dir)
    if not use_cache:
        return read_beat_table(database, records=records, lead_by_name=lead_by_name)
    folder = Path(platformdirs.user_cache_dir("ecgkan")) / "prepared"
    cached = folder / _cache_key(database, records=records, lead_by_name=lead_by_name)
    table = _read_cached(cached)
    if table is None:
        table = read_beat_table(database, records=records, lead_by_name=lead_by_name)
        _write_cached(cached, table)
    return table


def _cache_key(database: Path, *, records: Sequence[str] = RECORDS, lead_by_name: bool = False) -> str:
    """Hash everything that determines the table: the files' contents, the class table and the cutting."""
    digest = hashlib.sha256()
    cutting = [
        _CACHE_FORMAT,
        BEFORE,
        AFTER,
        MARGIN,
        list(records),
        lead_by_name,
        CLASSES,
        sorted(SYMBOL_TO_CLASS.items()),
    ]
    digest.update(json.dumps(cutting).encode())
    for record in records:
        for extension in ("hea", "dat", "atr"):
            file = database / f"{record}.{extension}"
            try:
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            except FileNotFoundError as error:
                raise DataNotFoundError(
                    f"{file} is missing; expected the 48 records of the MIT-BIH Arrhythmia Database in {database}; "
                    "run `ecgkan data fetch mitdb`, or `ecgkan data verify mitdb` to see what else is missing"
                ) from error
    return f"mitdb-{digest.hexdigest()[:24]}.npz"


def _read_cached(file: Path) -> BeatTable | None:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return BeatTable(**{name: arrays[name] for name in ("windows", "labels", "records", "samples")})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # a damaged cache is made anew
        file.unlink(missing_ok=True)
        return None


def _write_cached(file: Path, table: BeatTable) -> None:
    """Write under a temporary name and rename, so that a cache file is whole or not there."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, suffix=".part")
    except OSError:  # no cache folder can be written: slower next time, nothing lost
        return
    try:
        with os.fdopen(descriptor, "wb") as stream:
            np.savez(stream, windows=table.windows, labels=table.labels, records=table.records, samples=table.samples)
        Path(temporary).replace(file)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
