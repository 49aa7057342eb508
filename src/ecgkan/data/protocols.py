"""Evaluation protocols: which beats of the database train, select and test a model.

`random-split` is the published reference's protocol: single beats of signal 0, split at random, so that
patients are shared between training and test.
"""

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import platformdirs
from numpy.typing import NDArray

from ecgkan.aami import CLASSES, SYMBOL_TO_CLASS, class_of_symbol
from ecgkan.data.beats import AFTER, BEFORE, cut_beats, normalize_windows
from ecgkan.data.mitdb import RECORDS, database_dir
from ecgkan.data.recording import read_annotations, read_recording
from ecgkan.errors import DataError, DataNotFoundError

SHARED_PATIENTS_NOTE: Final = (
    "Protocol random-split: patients are shared between training and test; these figures say how well a model "
    "interpolates within known patients, not how it does on a new one."
)
"""The line that every output of protocol `random-split` carries."""

MARGIN: Final = 64
"""Samples kept on either side of each window, so that training can shift and stretch it."""

_CACHE_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class BeatTable:
    """All beats of a database, in the order of RECORDS and then time.

    Attributes
    ----------
    windows : ndarray
        `[n, 64 + 256 + 64]` float32, mV, signal 0, not normalized.
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


@dataclass(frozen=True, slots=True, eq=False)
class BeatSplit:
    """A table of beats and which of them train, select and test.

    Attributes
    ----------
    protocol : str
        Name of the protocol.
    table : BeatTable
        All beats.
    train, validation, test : ndarray
        int64 indices into `table`.
    """

    protocol: str
    table: BeatTable
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def class_counts(self, indices: NDArray[np.int64]) -> dict[str, int]:
        """Count beats per class."""
        counts = np.bincount(self.table.labels[indices], minlength=len(CLASSES))
        return {name: int(count) for name, count in zip(CLASSES, counts, strict=True)}


def beat_labels(symbols: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the class index of each WFDB symbol, -1 where it marks no beat: `[n]` int64."""
    letters = (class_of_symbol(symbol) for symbol in symbols)
    return np.array([-1 if letter is None else CLASSES.index(letter) for letter in letters], dtype=np.int64)


def read_beat_table(database: Path) -> BeatTable:
    """Read the 48 records of the MIT-BIH Arrhythmia Database and cut all beats of signal 0.

    Parameters
    ----------
    database : Path
        The folder `mitdb`.

    Raises
    ------
    DataNotFoundError, DataError
        If a record is missing or damaged.
    """
    parts = [_read_record_beats(database / record) for record in RECORDS]
    windows, labels, samples = (np.concatenate(column) for column in zip(*parts, strict=True))
    records = np.repeat(np.array(RECORDS), [len(part[1]) for part in parts])
    return BeatTable(windows=windows, labels=labels, records=records, samples=samples)


def _read_record_beats(
    path: Path,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    recording = read_recording(path, channels=[0])
    annotations = read_annotations(path, "atr")
    try:
        labels = beat_labels(annotations.symbols)
    except ValueError as error:
        raise DataError(f"{path}.atr: {error}") from error
    is_beat = labels >= 0
    beats = cut_beats(recording.signals[:, 0], annotations.samples[is_beat], margin=MARGIN)
    return beats.windows, labels[is_beat][beats.indices], beats.samples


def load_random_split(data_dir: Path | None = None, *, use_cache: bool = True) -> BeatSplit:
    """Load protocol `random-split`: 109,451 beats, 76,615 train, 16,418 validation, 16,418 test.

    scikit-learn's `train_test_split`, stratified, `random_state=42`, 15 % test, then 15 % of the whole for
    validation; see docs/protocol.md.

    Parameters
    ----------
    data_dir : Path, optional
        Folder that holds `mitdb/`; see `ecgkan.data.mitdb.data_root`.
    use_cache : bool
        Keep the cut beats in the user's cache folder (about 170 MB) and read them from there next time.
    """
    from sklearn.model_selection import train_test_split

    table = load_beat_table(data_dir, use_cache=use_cache)
    everything = np.arange(len(table))
    rest, test = train_test_split(everything, test_size=0.15, stratify=table.labels, random_state=42)
    train, validation = train_test_split(rest, test_size=0.15 / 0.85, stratify=table.labels[rest], random_state=42)
    return BeatSplit(protocol="random-split", table=table, train=train, validation=validation, test=test)


PROTOCOLS: Final[dict[str, Callable[[Path | None], BeatSplit]]] = {"random-split": load_random_split}
"""Protocol name → how to load its split from a data root."""


def load_split(protocol: str, data_dir: Path | None = None) -> BeatSplit:
    """Load the split of a protocol by name.

    Raises
    ------
    ValueError
        If there is no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"unknown protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol](data_dir)


def load_beat_table(data_dir: Path | None = None, *, use_cache: bool = True) -> BeatTable:
    """Load the beat table of the database, from the cache if the same files were cut before."""
    database = database_dir("mitdb", data_dir)
    if not use_cache:
        return read_beat_table(database)
    cached = Path(platformdirs.user_cache_dir("ecgkan")) / "prepared" / _cache_key(database)
    table = _read_cached(cached)
    if table is None:
        table = read_beat_table(database)
        _write_cached(cached, table)
    return table


def _cache_key(database: Path) -> str:
    """Hash everything that determines the table: the files' contents, the class table and the cutting."""
    digest = hashlib.sha256()
    cutting = [_CACHE_FORMAT, BEFORE, AFTER, MARGIN, RECORDS, CLASSES, sorted(SYMBOL_TO_CLASS.items())]
    digest.update(json.dumps(cutting).encode())
    for record in RECORDS:
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
