"""Resampling against the analytic signal, and positions there and back."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgkan.data.resampling import map_samples, resample, resampling_ratio
from ecgkan.errors import DataError

RATES = [100.0, 128.0, 250.0, 257.0, 333.3, 360.0, 500.0, 1000.0, 2000.0]


def two_tones(fs: float, duration_s: float = 4.0) -> np.ndarray:
    """A band-limited signal that is known at every instant: 1.3 Hz and 17 Hz."""
    t = np.arange(int(duration_s * fs)) / fs
    return np.sin(2 * np.pi * 1.3 * t) + 0.4 * np.cos(2 * np.pi * 17.0 * t)


def test_the_same_rate_returns_the_very_values():
    signal = np.random.default_rng(0).normal(size=1000)
    signal[10] = np.nan
    assert np.array_equal(resample(signal, 360.0, 360.0), signal, equal_nan=True)


@pytest.mark.parametrize("fs", RATES)
def test_a_band_limited_signal_is_met_at_the_new_instants(fs):
    resampled = resample(two_tones(fs), fs, 360.0)
    expected = two_tones(360.0)
    n = min(len(resampled), len(expected))
    assert abs(len(resampled) - len(expected)) <= 2
    inner = slice(60, n - 60)  # beyond its ends the signal is continued by its last value
    np.testing.assert_allclose(resampled[:n][inner], expected[:n][inner], atol=0.01)


@pytest.mark.parametrize("fs", [128.0, 250.0, 500.0, 1000.0])
def test_a_missing_stretch_does_not_spread(fs):
    signal = two_tones(fs)
    start, stop = int(2.0 * fs), int(2.5 * fs)
    signal[start:stop] = np.nan
    resampled = resample(signal, fs, 360.0)
    missing = np.flatnonzero(np.isnan(resampled)) / 360.0
    coarser = 1 / min(fs, 360.0)
    assert abs(missing[0] - start / fs) <= coarser
    assert abs(missing[-1] - (stop - 1) / fs) <= coarser
    assert len(missing) == pytest.approx(0.5 * 360, abs=3)


def test_a_signal_that_is_missing_as_a_whole_stays_so():
    resampled = resample(np.full(250, np.nan), 250.0, 360.0)
    assert resampled.shape == (360,)
    assert np.isnan(resampled).all()


def test_the_ends_of_a_signal_with_an_offset_do_not_ring():
    assert np.abs(resample(np.full(500, 3.0), 250.0, 360.0) - 3.0).max() < 0.02


@pytest.mark.parametrize(
    ("fs", "ratio"),
    [(250.0, Fraction(36, 25)), (500.0, Fraction(18, 25)), (128.0, Fraction(45, 16)), (360.0, Fraction(1))],
)
def test_usual_rates_have_their_exact_ratio(fs, ratio):
    assert resampling_ratio(fs, 360.0) == ratio


@given(st.floats(100.0, 2000.0))
def test_odd_rates_have_a_ratio_close_enough_for_a_window(fs):
    ratio = resampling_ratio(fs, 360.0)
    # At the ends of a window, 128 samples from the R peak, the approximation shifts by less than a tenth of a sample.
    assert abs(float(ratio) * fs / 360.0 - 1.0) * 128 < 0.1


@given(st.sampled_from(RATES), st.lists(st.integers(0, 10**9), max_size=20))
def test_positions_there_and_back(fs, samples):
    samples = np.array(samples, dtype=np.int64)
    there = map_samples(samples, fs, 360.0)
    ratio = resampling_ratio(fs, 360.0)
    exact = [Fraction(int(s)) * ratio for s in samples]
    assert all(abs(int(position) - ideal) <= Fraction(1, 2) for position, ideal in zip(there, exact, strict=True))
    back = map_samples(there, 360.0, fs)
    if ratio >= 1 and resampling_ratio(360.0, fs) == 1 / ratio:
        assert np.array_equal(back, samples)


@given(st.sampled_from(RATES), st.integers(1, 5000))
def test_positions_stay_within_the_resampled_signal(fs, n):
    n_resampled = len(resample(np.zeros(n), fs, 360.0))
    ends = map_samples(np.array([0, n - 1]), fs, 360.0, n_samples=n_resampled)
    assert ends[0] == 0
    assert 0 <= ends[1] < n_resampled


@pytest.mark.parametrize("fs", [0.0, -250.0, float("nan"), float("inf")])
def test_rates_that_are_none_are_refused(fs):
    with pytest.raises(DataError, match="expected two positive rates"):
        resample(np.zeros(100), fs, 360.0)


@pytest.mark.parametrize(("fs", "target"), [(1e7, 360.0), (0.01, 360.0)])
def test_rates_too_far_apart_are_refused(fs, target):
    with pytest.raises(DataError, match="more than a factor"):
        resampling_ratio(fs, target)


@pytest.mark.parametrize("shape", [(0,), (10, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="expected one lead"):
        resample(np.zeros(shape), 250.0, 360.0)
