"""A column of times → sampling rate and gaps: where the rows of a table stand on an evenly spaced timeline."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError

TIME_UNITS_S: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
}
"""Seconds per unit of time, by name."""

MAX_GAP_S: Final = 24 * 3600.0
"""A longer jump is a wrong clock rather than a gap."""

_RATES_HZ: Final = (99.0, 2010.0)
_FIRST_ROWS: Final = 100_000
_BLOCK_ROWS: Final = 1 << 20
_WINDOW_ROWS: Final = 16
_MAX_IRREGULAR: Final = 0.05

ReadTimes = Callable[[int, int], NDArray[np.float64]]
"""`read(start, stop)` → times of these rows as the file gives them."""


class Timeline(NamedTuple):
    """Where rows stand: run `k` of rows begins at row `rows[k]` and stands from sample `samples[k]` on.

    `fs` in Hz; `rows` and `samples` `[n_runs]` int64; `n_samples` is the length with the gaps.
    """

    fs: float
    rows: NDArray[np.int64]
    samples: NDArray[np.int64]
    n_samples: int


class _Jumps(NamedTuple):
    """Rows before which time is missing, and how much of it (s) beyond one sampling interval."""

    rows: NDArray[np.int64]
    missing_s: NDArray[np.float64]


def even_timeline(n_rows: int, fs: float) -> Timeline:
    """Return the timeline of rows without gaps."""
    zero = np.zeros(1, dtype=np.int64)
    return Timeline(fs, zero, zero, n_rows)


def read_timeline(
    path: Path, name: str, read: ReadTimes, n_rows: int, unit_s: float | None, asked_fs: float | None
) -> Timeline:
    """Infer sampling rate and gaps from a column of times.

    Parameters
    ----------
    path : Path
        The file, for messages.
    name : str
        The column, for messages.
    read : callable
        Reads a part of it.
    n_rows : int
        Its length.
    unit_s : float, optional
        Seconds per unit of it; where the file does not say, the one unit that gives 100 to 2000 Hz.
    asked_fs : float, optional
        Sampling rate asked for; may differ from what is found by 1 %.

    Raises
    ------
    DataError
        If the times do not ascend, are not evenly spaced apart from gaps, or give no usable sampling rate.
    """
    first = read(0, min(n_rows, _FIRST_ROWS))
    interval = _interval(path, name, first)
    unit_s = unit_s or _unit_s(path, name, interval, asked_fs)
    if unit_s is None:
        return even_timeline(n_rows, asked_fs or 0.0)  # sample numbers, with the rate that was asked for
    rate = _find_rate(path, name, lambda a, b: read(a, b) * unit_s, n_rows, interval * unit_s)
    fs, jumps = rate
    if asked_fs is not None:
        if abs(asked_fs - fs) > 0.01 * fs:
            raise DataError(
                f"{path}: by its column {name!r} the sampling rate is {fs:.6g} Hz, {asked_fs:g} Hz were asked for; "
                "leave --fs (fs=) out, or correct the file"
            )
        fs = asked_fs
    missing = np.rint(jumps.missing_s * fs).astype(np.int64)
    rows, missing = jumps.rows[missing > 0], missing[missing > 0]
    samples = rows + np.cumsum(missing)
    zero = np.zeros(1, dtype=np.int64)
    return Timeline(fs, np.concatenate([zero, rows]), np.concatenate([zero, samples]), n_rows + int(missing.sum()))


def _interval(path: Path, name: str, times: NDArray[np.float64]) -> float:
    """Mean interval of the first rows, in the file's unit, leaving out what is far longer than most."""
    steps = np.diff(times)
    _check_ascending(path, name, times, steps, 0, coarse=True)
    ascending = steps[steps > 0]
    if len(ascending) == 0:
        raise DataError(f"{path}: the time in column {name!r} stands still; give the sampling rate: --fs 250, fs=250")
    usual = steps <= 2.5 * np.median(ascending)
    usual[int(np.flatnonzero(steps > 0)[-1]) + 1 :] = False  # the last stamp may not yet have all of its rows
    return float(steps[usual].sum() / usual.sum())


def _unit_s(path: Path, name: str, interval: float, asked_fs: float | None) -> float | None:
    """Seconds per unit of a column that does not say: None where it counts samples."""
    if abs(interval - 1) < 1e-9:
        if asked_fs is None:
            raise DataError(
                f"{path}: column {name!r} goes up by 1 from row to row, which may be samples or ms; give the sampling "
                "rate: --fs 250, fs=250"
            )
        return None
    low, high = _RATES_HZ
    for unit_s in (1.0, 1e-3, 1e-6, 1e-9):
        if low <= 1 / (interval * unit_s) <= high:
            return unit_s
    raise DataError(
        f"{path}: column {name!r} goes up by {interval:g} from row to row, {1 / interval:g} Hz if it is in s; expected "
        "a sampling rate of 100 to 2000 Hz: check its unit"
    )


def _find_rate(path: Path, name: str, read_s: ReadTimes, n_rows: int, interval_s: float) -> tuple[float, _Jumps]:
    """Return the sampling rate of all rows without the jumps; the first rows give a rate to tell the jumps by."""
    fs = 1 / interval_s
    for _ in range(3):
        last = fs
        jumps = _find_jumps(path, name, read_s, n_rows, fs)
        rows, span_s = _span(read_s, n_rows)
        total_s = span_s - float(jumps.missing_s.sum())
        fs = rows / total_s if total_s > 0 else fs
        if abs(fs - last) < 1e-4 * fs:
            break
    tolerance = max(1e-5, 2 * interval_s / max(total_s, interval_s))
    nearest = float(round(fs))
    return (nearest if abs(fs - nearest) <= tolerance * fs else fs), jumps


def _span(read_s: ReadTimes, n_rows: int) -> tuple[int, float]:
    """Return rows and time from the clock's first tick to its last: some rows at both ends may share a time."""
    head, tail = read_s(0, min(n_rows, _FIRST_ROWS)), read_s(max(n_rows - _FIRST_ROWS, 0), n_rows)
    first = int(np.argmax(head > head[0]))
    last = int(np.argmax(tail == tail[-1]))
    last_row = n_rows - len(tail) + last
    if last_row <= first:
        return n_rows - 1, float(tail[-1] - head[0])
    return last_row - first, float(tail[last] - head[first])


def _find_jumps(path: Path, name: str, read_s: ReadTimes, n_rows: int, fs: float) -> _Jumps:
    found = list(_jumps_by_block(path, name, read_s, n_rows, fs))
    jumps = _Jumps(
        np.concatenate([block.rows for block in found]), np.concatenate([block.missing_s for block in found])
    )
    if len(jumps.rows) > max(_MAX_IRREGULAR * n_rows, 10):
        raise DataError(
            f"{path}: the time in column {name!r} jumps {len(jumps.rows)} times in {n_rows} rows; expected an even "
            "sampling rate: resample it first"
        )
    longest = float(jumps.missing_s.max(initial=0.0))
    if longest > MAX_GAP_S:
        row = int(jumps.rows[jumps.missing_s.argmax()])
        raise DataError(
            f"{path}: the time in column {name!r} jumps by {longest / 3600:.1f} h at row {row + 1}; expected gaps "
            "of at most 24 h: cut the file there"
        )
    return jumps


def _jumps_by_block(path: Path, name: str, read_s: ReadTimes, n_rows: int, fs: float) -> Iterator[_Jumps]:
    for start in range(0, n_rows, _BLOCK_ROWS):
        low, high = max(start - _WINDOW_ROWS, 0), min(start + _BLOCK_ROWS + _WINDOW_ROWS, n_rows)
        times = read_s(low, high)
        steps = np.diff(times)
        coarse = _is_coarse(steps)
        _check_ascending(path, name, times, steps, low, coarse=coarse)
        rows, missing_s = _jumps_in(times, steps, fs, coarse=coarse)
        own = (rows + low >= start) & (rows + low < start + _BLOCK_ROWS)
        yield _Jumps(rows[own] + low, missing_s[own])


def _jumps_in(
    times: NDArray[np.float64], steps: NDArray[np.float64], fs: float, *, coarse: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows `[n]` before which time is missing, and the missing time in s.

    A clock that is rounded makes single steps longer and shorter; a gap shifts all that follows. So a step of a few
    intervals counts only if the rows after it stand later, on average, than the rows before it.
    """
    in_samples = steps * fs
    stamp = float(np.median(in_samples[in_samples > 0])) if coarse and (in_samples > 0).any() else 0.0
    certain = in_samples > 3.5 + stamp
    jump = np.where(certain, in_samples - max(stamp, 1.0), 0.0)
    shift = np.concatenate([[0.0], np.cumsum(in_samples - 1 - jump)])
    if not coarse:
        level = np.concatenate([[0.0], np.cumsum(shift)])
        candidates = np.flatnonzero((in_samples > 1.5) & ~certain) + 1
        before = np.maximum(candidates - _WINDOW_ROWS, 0)
        after = np.minimum(candidates + _WINDOW_ROWS, len(times))
        later = (level[after] - level[candidates]) / (after - candidates)
        earlier = (level[candidates] - level[before]) / (candidates - before)
        stays = later - earlier > 0.5
        jump[candidates[stays] - 1] = np.rint((later - earlier)[stays])
    rows = np.flatnonzero(jump > 0) + 1
    return rows.astype(np.int64), jump[rows - 1] / fs


def _is_coarse(steps: NDArray[np.float64]) -> bool:
    """Whether the clock has fewer ticks than there are rows: several rows share a time."""
    return len(steps) > 0 and float(np.mean(steps == 0)) > 0.05


def _check_ascending(
    path: Path, name: str, times: NDArray[np.float64], steps: NDArray[np.float64], first_row: int, *, coarse: bool
) -> None:
    wrong = np.flatnonzero(~np.isfinite(times))
    if len(wrong):
        raise DataError(
            f"{path}: row {first_row + int(wrong[0]) + 1} has no time in column {name!r}; expected one each"
        )
    wrong = np.flatnonzero(steps < 0 if coarse else steps <= 0)
    if len(wrong):
        i = int(wrong[0])
        verb = "runs backwards" if steps[i] < 0 else "stands still"
        raise DataError(
            f"{path}: the time in column {name!r} {verb} at row {first_row + i + 2} ({times[i]:.10g}, then "
            f"{times[i + 1]:.10g}); expected ascending times: sort the rows or cut the file there"
        )
