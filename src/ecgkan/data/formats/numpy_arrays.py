"""NumPy arrays: `.npy`, and `.npz` with the signals beside their sampling rate, units and lead names."""

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.formats.opened import Assumptions, OpenedSignals, Signal, agreed_fs, keep_signals, reading
from ecgkan.errors import DataError

_SIGNAL_KEYS: Final = ("signals", "signal", "ecg", "p_signal", "data", "x")
_FS_KEYS: Final = (
    "fs",
    "sampling_rate",
    "sampling_frequency",
    "sample_rate",
    "samplerate",
    "sfreq",
    "freq",
    "frequency",
)
_UNIT_KEYS: Final = ("units", "unit")
_LEAD_KEYS: Final = ("leads", "lead_names", "lead", "sig_name", "channels", "channel_names", "names")
_EXPECTED: Final = "a NumPy array of numbers, [n_samples] or [n_samples, n_leads], saved without pickle"


class _Stated(NamedTuple):
    """What an archive says about its signals besides them."""

    fs: float | None = None
    units: tuple[str, ...] = ()
    leads: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def open_numpy(path: Path, assumptions: Assumptions) -> OpenedSignals:
    """Open a `.npy` or `.npz` file; neither is loaded into memory.

    Parameters
    ----------
    path : Path
        The file.
    assumptions : Assumptions
        Sampling rate and units; needed where an archive does not hold them under a name such as `fs` and `units`.

    Raises
    ------
    DataError
        If it holds no array of numbers of a usable shape, or sampling rate or units are missing.
    """
    with reading(path, "NumPy data", _EXPECTED):
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        if not is_archive:
            return _opened(path, path, _Stated(), assumptions)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            key = _signal_key(path, archive)
            stated = _stated(archive, key)
        unpacked = tempfile.NamedTemporaryFile(prefix="ecgkan-", suffix=".npy")  # noqa: SIM115 (closed with the recording)
        try:
            with zipfile.ZipFile(path) as members, members.open(f"{key}.npy") as member:
                shutil.copyfileobj(member, unpacked)
            unpacked.flush()
            opened = _opened(path, Path(unpacked.name), stated, assumptions)
        except BaseException:
            unpacked.close()
            raise
        return replace(opened, close=unpacked.close)


class _Reader(NamedTuple):
    """Reads parts of a `.npy` file; `time_last` arrays are `[n_leads, n_samples]`."""

    array: Path
    path: Path
    time_last: bool
    places: Sequence[int]
    scales: Sequence[float]

    def read(self, start: int, stop: int, columns: Sequence[int]) -> NDArray[np.float64]:
        """Return samples `[start, stop)`, mV."""
        with reading(self.path, "NumPy data", _EXPECTED):
            # Mapped anew for every part: what a map has touched would stay in the process's resident memory.
            samples = _time_first(_mapped(self.array), time_last=self.time_last)
            part = samples[start:stop, [self.places[column] for column in columns]].astype(np.float64)
            scaled: NDArray[np.float64] = part * np.array([self.scales[column] for column in columns])
            return scaled


def _opened(path: Path, array: Path, stated: _Stated, assumptions: Assumptions) -> OpenedSignals:
    whole = _mapped(array)
    if not np.issubdtype(whole.dtype, np.number) or np.iscomplexobj(whole):
        raise DataError(f"{path} holds {whole.dtype}; expected numbers")
    if whole.ndim not in (1, 2) or whole.size == 0:
        raise DataError(
            f"{path} holds an array of shape {list(whole.shape)}; expected [n_samples] or [n_samples, n_leads]"
        )
    time_last = whole.ndim == 2 and whole.shape[1] > whole.shape[0]
    n_samples, n_leads = _time_first(whole, time_last=time_last).shape
    notes = [*stated.notes]
    if time_last:
        notes.append(f"array of shape {list(whole.shape)} taken as [n_leads, n_samples]: its long axis is time")
    fs = agreed_fs(path, stated.fs, assumptions.fs)
    signals = _signals(path, n_leads, stated, fs)
    kept = keep_signals(path, signals, assumptions.units, must_state_units=True)
    return OpenedSignals(
        fs=fs,
        leads=tuple(signals[i].name for i in kept.places),
        n_samples=n_samples,
        read=_Reader(array, path, time_last, kept.places, kept.mv_per_unit).read,
        notes=(*notes, *kept.notes),
    )


def _signals(path: Path, n_leads: int, stated: _Stated, fs: float) -> list[Signal]:
    names = stated.leads or (("ECG",) if n_leads == 1 else tuple(f"column {i}" for i in range(n_leads)))
    units = stated.units * n_leads if len(stated.units) == 1 else stated.units or ("",) * n_leads
    for what, values in (("lead names", names), ("units", units)):
        if len(values) != n_leads:
            raise DataError(f"{path} holds {n_leads} signals and {len(values)} {what}; expected as many of each")
    return [Signal(name, unit, fs) for name, unit in zip(names, units, strict=True)]


def _mapped(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _time_first(array: NDArray[Any], *, time_last: bool) -> NDArray[Any]:
    return array[:, None] if array.ndim == 1 else array.T if time_last else array


def _signal_key(path: Path, archive: Mapping[str, NDArray[Any]]) -> str:
    """Return the name of the signals: a usual one, else that of the only array of numbers longer than a few values."""
    named = _first(archive, _SIGNAL_KEYS)
    if named is not None:
        return named
    long = [key for key in archive if np.issubdtype(archive[key].dtype, np.number) and archive[key].size > 100]
    if len(long) != 1:
        raise DataError(
            f"{path} holds the arrays {', '.join(archive) or '(none)'}; expected the signals under the name signals"
        )
    return long[0]


def _stated(archive: Mapping[str, NDArray[Any]], key: str) -> _Stated:
    fs, units, leads = (_first(archive, keys) for keys in (_FS_KEYS, _UNIT_KEYS, _LEAD_KEYS))
    return _Stated(
        fs=float(archive[fs].reshape(-1)[0]) if fs else None,
        units=_strings(archive[units]) if units else (),
        leads=_strings(archive[leads]) if leads else (),
        notes=() if key == "signals" else (f"signals taken from the array named {key}",),
    )


def _strings(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in array.reshape(-1))


def _first(archive: Iterable[str], keys: Sequence[str]) -> str | None:
    by_small = {name.lower(): name for name in archive}
    return next((by_small[key] for key in keys if key in by_small), None)
