"""Columns of times: the rate and the gaps that were put in are found again, however the clock is rounded."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecgkan.data.formats.timeline import Timeline, read_timeline
from ecgkan.errors import DataError


def timeline(times: NDArray[np.float64], unit_s: float | None = 1.0, fs: float | None = None) -> Timeline:
    return read_timeline(Path("x.csv"), "time", lambda a, b: times[a:b], len(times), unit_s, fs)


def positions(found: Timeline, n_rows: int) -> NDArray[np.int64]:
    """Sample of every row."""
    lengths = np.diff(np.append(found.rows, n_rows))
    return np.arange(n_rows) + np.repeat(found.samples - found.rows, lengths)


@given(
    fs=st.sampled_from([100.0, 128.0, 130.0, 250.0, 257.0, 360.0, 500.0, 1000.0, 2000.0]),
    gaps=st.lists(
        st.tuples(st.integers(40, 1960), st.integers(1, 5000)), max_size=5, unique_by=lambda gap: gap[0] // 40
    ),
    start_s=st.sampled_from([0.0, 12.5, 86_000.0]),
)
@settings(max_examples=60, deadline=None)
def test_exact_times(fs: float, gaps: list[tuple[int, int]], start_s: float) -> None:
    samples = np.arange(2000)
    for row, length in gaps:
        samples[row:] += length
    found = timeline(start_s + samples / fs)
    assert found.fs == fs
    np.testing.assert_array_equal(positions(found, 2000), samples)
    assert found.n_samples == samples[-1] + 1


@pytest.mark.parametrize("fs", [100.0, 128.0, 250.0, 300.0, 360.0, 500.0, 1000.0])
def test_times_rounded_to_milliseconds(fs: float) -> None:
    samples = np.arange(60_000)
    samples[20_000:] += 777
    samples[30_000:] += 2
    found = timeline(np.round(samples / fs, 3))
    assert found.fs == fs
    assert np.abs(positions(found, 60_000) - samples).max() <= 1
    assert abs(found.n_samples - samples[-1] - 1) <= 1


def test_times_in_single_precision_far_from_zero() -> None:
    samples = np.arange(24 * 3600 * 100, dtype=np.float64)
    samples[4_000_000:] += 500
    found = timeline((samples / 100).astype(np.float32).astype(np.float64))
    assert found.fs == 100.0
    assert len(found.rows) == 2
    assert found.n_samples == samples[-1] + 1


def test_a_clock_that_ticks_once_per_packet() -> None:
    samples = np.arange(20_000)
    samples[10_000:] += 2500
    ticks = np.floor(samples / 10) * 10 / 250
    found = timeline(ticks)
    assert found.fs == 250.0
    assert len(found.rows) == 2
    assert abs(found.n_samples - samples[-1] - 1) <= 10


@pytest.mark.parametrize("unit_s", [1.0, 1e-3, 1e-6, 1e-9])
def test_the_unit_of_time_follows_from_the_range_of_rates(unit_s: float) -> None:
    assert timeline(np.arange(1000) / 250 / unit_s, None).fs == pytest.approx(250)


def test_a_rate_that_is_asked_for_is_used_if_it_is_near() -> None:
    times = np.arange(10_000) / 250.9
    assert timeline(times, fs=251.0).fs == 251.0
    with pytest.raises(DataError, match=r"the sampling rate is 250\.9 Hz, 360 Hz were asked for"):
        timeline(times, fs=360.0)


def test_samples_that_are_counted_need_a_rate() -> None:
    counted = np.arange(1000.0)
    assert timeline(counted, None, 250.0) == (250.0, [0], [0], 1000)
    with pytest.raises(DataError, match="goes up by 1 from row to row, which may be samples or ms"):
        timeline(counted, None)


def jumbled() -> NDArray[np.float64]:
    return np.cumsum(np.random.default_rng(0).exponential(0.004, 2000))


@pytest.mark.parametrize(
    ("times", "unit_s", "message"),
    [
        (np.r_[np.arange(100), np.arange(50, 150)] / 250, 1.0, r"runs backwards at row 101 \(0\.396, then 0\.2\)"),
        (np.r_[np.arange(100), np.arange(99, 199)] / 250, 1.0, "stands still at row 101"),
        (np.zeros(100), 1.0, "stands still"),
        (np.r_[np.arange(10.0), np.nan, np.arange(11.0, 20)] / 250, 1.0, "row 11 has no time"),
        (np.r_[np.arange(1000) / 250, 90_000 + np.arange(1000) / 250], 1.0, r"jumps by 25\.0 h at row 1001"),
        (jumbled(), 1.0, "jumps .* times in 2000 rows; expected an even sampling rate"),
        (np.arange(100) / 20, None, "goes up by 0.05 from row to row, 20 Hz if it is in s; expected a sampling rate"),
    ],
)
def test_times_that_make_no_sense(times: NDArray[np.float64], unit_s: float | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        timeline(times, unit_s)


def test_rates_out_of_range_are_left_to_the_recording() -> None:
    assert timeline(np.arange(1000) / 50).fs == 50.0
