"""What every reader of a file format hands back, and what all of them check alike."""

import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.leads import choose_lead, is_named_like_ecg, is_other_signal
from ecgkan.data.units import measures_something_else, mv_per_unit, parse_units
from ecgkan.errors import DataError, DataNotFoundError


def _nothing_to_close() -> None: ...


@dataclass(frozen=True, slots=True)
class OpenedSignals:
    """A file that is open for reading.

    Attributes
    ----------
    fs : float
        Sampling rate, Hz.
    leads : tuple of str
        Names of the signals.
    n_samples : int
        Length on the timeline: where the file has gaps, they count.
    read : callable
        `read(start, stop, columns)` → float64 `[stop - start, len(columns)]`, mV, NaN where missing;
        `0 <= start <= stop <= n_samples`.
    started : datetime, optional
        Wall-clock time of sample 0.
    notes : tuple of str
        What was assumed or noticed.
    close : callable
        Lets go of files and temporary files.
    """

    fs: float
    leads: tuple[str, ...]
    n_samples: int
    read: Callable[[int, int, Sequence[int]], NDArray[np.float64]]
    started: datetime.datetime | None = None
    notes: tuple[str, ...] = ()
    close: Callable[[], None] = _nothing_to_close


class Assumptions(NamedTuple):
    """What the caller knows about a file that may not say so itself: sampling rate (Hz) and units."""

    fs: float | None = None
    units: str | None = None


class Signal(NamedTuple):
    """A signal as its file announces it: name, unit, sampling rate (Hz)."""

    name: str
    unit: str
    fs: float


class KeptSignals(NamedTuple):
    """Which of a file's signals are used: their places, the mV that one of each one's units is, and notes."""

    places: tuple[int, ...]
    mv_per_unit: tuple[float, ...]
    fs: float
    notes: tuple[str, ...]


def agreed_fs(path: Path, stated: float | None, asked: float | None) -> float:
    """Return the sampling rate that the file states or, where it states none, the one asked for.

    Raises
    ------
    DataError
        If there is neither, or they contradict each other.
    """
    if stated is None:
        if asked is None:
            raise DataError(f"{path} does not say its sampling rate; give it: --fs 250, fs=250")
        return asked
    if asked is not None and abs(asked - stated) > 1e-6 * abs(stated):
        raise DataError(
            f"{path} states a sampling rate of {stated:g} Hz, {asked:g} Hz were asked for; leave --fs (fs=) out, or "
            "correct the file"
        )
    return stated


def keep_signals(
    path: Path, signals: Sequence[Signal], units: str | None, *, must_state_units: bool = False
) -> KeptSignals:
    """Choose the signals of a file that can be an ECG: voltages, at the sampling rate of its best ECG lead.

    Parameters
    ----------
    path : Path
        The file, for messages.
    signals : sequence of Signal
        All that the file holds, without annotation channels.
    units : str, optional
        Units asked for; used where the file states none or adu.
    must_state_units : bool
        Units are asked for where a signal that can be an ECG has none that is a voltage; by default they are assumed.

    Raises
    ------
    DataError
        If no signal can be an ECG, units are missing, or the file states other units than those asked for.
    """
    asked = parse_units(units) if units is not None else None
    voltages = [i for i, signal in enumerate(signals) if not _measures_something_else(signal)]
    if not voltages:
        listed = ", ".join(f"{signal.name} ({signal.unit})" for signal in signals) or "none"
        raise DataError(f"{path} holds no ECG: none of its signals is a voltage: {listed}")
    names = [signals[i].name for i in voltages]
    fs = signals[voltages[choose_lead(path.name, names).index]].fs
    kept = [i for i in voltages if signals[i].fs == fs]
    left_out = [f"{s.name} ({_why_left_out(s, fs)})" for i, s in enumerate(signals) if i not in kept]
    notes = [f"left out: {', '.join(left_out)}"] if left_out else []
    scales = []
    for i in kept:
        if must_state_units and asked is None and mv_per_unit(signals[i].unit) is None:
            raise DataError(
                f"{path} does not say the unit of {signals[i].name}; give it: --units mV, uV, V or adu:<n per mV> "
                "(units=)"
            )
        scale, note = mv_scale(path, signals[i], asked, units)
        scales.append(scale)
        notes += [note] if note and note not in notes and not is_other_signal(signals[i].name) else []
    return KeptSignals(tuple(kept), tuple(scales), fs, tuple(notes))


def mv_scale(path: Path, signal: Signal, asked: float | None, units: str | None) -> tuple[float, str | None]:
    """Return the mV that one unit of a signal is, and a note where that is an assumption.

    Raises
    ------
    DataError
        If the file states another voltage than the units asked for.
    """
    stated = mv_per_unit(signal.unit)
    if stated is not None:
        if asked is not None and abs(asked - stated) > 1e-9 * stated:
            raise DataError(
                f"{path} states {signal.unit} as the unit of {signal.name}, {units} was asked for; leave --units "
                "(units=) out, or correct the file"
            )
        return stated, None
    if asked is not None:
        return asked, f"units taken as {units}, as asked for"
    if signal.unit.strip().lower() in {"adu", "counts", "count", "lsb", "raw"}:
        return (
            1 / 200,
            f"{signal.name} is in {signal.unit}, taken as 200 adu/mV; give --units adu:<n per mV> if it is another",
        )
    unit = f"unknown unit {signal.unit!r}" if signal.unit.strip() else "no unit"
    return 1.0, f"{signal.name} has {unit}, taken as mV; give --units if it is another"


@contextmanager
def reading(path: Path, what: str, expected: str) -> Iterator[None]:
    """Turn what readers raise on unreadable and damaged files into errors that name the file.

    Raises
    ------
    DataNotFoundError
        If a file is not there.
    DataError
        If it may not be read or is damaged; says `what` it was read as and what was `expected`.
    """
    try:
        yield
    except (DataError, DataNotFoundError):
        raise
    except FileNotFoundError as error:
        missing = Path(error.filename or path).name
        raise DataNotFoundError(
            f"{path} cannot be read as {what}: {missing} is not there; expected {expected}"
        ) from error
    except PermissionError as error:
        denied = error.filename or path
        raise DataError(f"{denied} cannot be read: permission denied; ask for the right to read it") from error
    except MemoryError as error:
        raise DataError(f"{path} cannot be read as {what}: it does not fit into memory") from error
    except Exception as error:  # what readers raise on damaged files: ValueError, IndexError, bare Exception ...
        raise DataError(
            f"{path} cannot be read as {what} ({type(error).__name__}: {error}); expected {expected}"
        ) from error


def _measures_something_else(signal: Signal) -> bool:
    return measures_something_else(signal.unit) and not is_named_like_ecg(signal.name)


def _why_left_out(signal: Signal, fs: float) -> str:
    if _measures_something_else(signal):
        return f"in {signal.unit}"
    return f"{signal.fs:g} Hz, not {fs:g} Hz"
