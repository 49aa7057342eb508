"""Evaluation protocols: which beats of the database train, select and test a model.

`random-split` is the published reference's protocol: single beats of signal 0, split at random, so that patients are
shared between training and test. `inter-patient` trains on the records of DS1; its test records, DS2, are never read
here, so that whoever trains from a split of this module cannot see them (`ecgkan.data.ds2`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beat_table import BeatTable, load_beat_table
from ecgkan.data.mitdb import DS1
from ecgkan.errors import DataError

SHARED_PATIENTS_NOTE: Final = (
    "Protocol random-split: patients are shared between training and test; these figures say how well a model "
    "interpolates within known patients, not how it does on a new one."
)
"""The line that every output of protocol `random-split` carries."""

INTER_PATIENT_NOTE: Final = (
    "Protocol inter-patient: trained on the records of DS1, tested on those of DS2, paced records left out; one person "
    "is in both, as 201 and 202."
)
"""The line that every output of protocol `inter-patient` carries."""

PROTOCOLS: Final = ("random-split", "inter-patient")
"""Names of the protocols."""

FOLDS: Final = tuple(
    tuple(records.split())
    for records in (
        "106 108 112 115 203 209",
        "101 116 118 119 122 201",
        "109 124 205 207 223",
        "114 208 215 220 230",
    )
)
"""Records held out in each fold of the cross-validation inside DS1.

Dealt by hand so that each fold holds S and V beats of several patients: 209 has two fifths of DS1's S beats and 208
nine tenths of its F beats, so no choice balances them.
"""


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
        int64 indices into `table`. Under protocol `inter-patient` there are no test beats in it, and validation
        beats only in the folds.
    fold : int or None
        Fold of the cross-validation inside DS1, where it is one.
    """

    protocol: str
    table: BeatTable
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    fold: int | None = None

    def class_counts(self, indices: NDArray[np.int64]) -> dict[str, int]:
        """Count beats per class."""
        counts = np.bincount(self.table.labels[indices], minlength=len(CLASSES))
        return {name: int(count) for name, count in zip(CLASSES, counts, strict=True)}


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


def load_inter_patient_split(
    data_dir: Path | None = None, *, fold: int | None = None, use_cache: bool = True
) -> BeatSplit:
    """Load the training side of protocol `inter-patient`: the 51,000 beats of DS1's 22 records, lead by name.

    de Chazal P, O'Dwyer M, Reilly RB. IEEE Trans Biomed Eng 51(7):1196-1206 (2004).

    Parameters
    ----------
    data_dir : Path, optional
        Folder that holds `mitdb/`; see `ecgkan.data.mitdb.data_root`.
    fold : int, optional
        Hold out the records `FOLDS[fold]` for validation; by default all of DS1 trains, and nothing validates.
    use_cache : bool
        As in `load_random_split`.

    Raises
    ------
    DataError
        If there is no such fold.
    """
    if fold is not None and not 0 <= fold < len(FOLDS):
        raise DataError(f"no fold {fold} of DS1; expected 0 to {len(FOLDS) - 1}")
    table = load_beat_table(data_dir, records=DS1, lead_by_name=True, use_cache=use_cache)
    held_out = np.isin(table.records, FOLDS[fold] if fold is not None else ())
    nothing = np.zeros(0, dtype=np.int64)
    train, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return BeatSplit("inter-patient", table, train, validation, test=nothing, fold=fold)


def load_split(protocol: str, data_dir: Path | None = None, *, fold: int | None = None) -> BeatSplit:
    """Load the split of a protocol by name; `fold` is one of protocol `inter-patient`.

    Raises
    ------
    DataError
        If there is no such protocol or fold.
    """
    if protocol == "inter-patient":
        return load_inter_patient_split(data_dir, fold=fold)
    if protocol != "random-split":
        raise DataError(f"unknown protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}")
    if fold is not None:
        raise DataError("protocol random-split has one fixed validation set; folds belong to protocol inter-patient")
    return load_random_split(data_dir)
