"""Missing signal: what is bridged, what counts as missing, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecgkan.data.missing import FLAT_S, MAX_GAP_S, fill_missing, stretches
from ecgkan.errors import DataError

FS = 100.0


def sine(n: int) -> np.ndarray:
    return np.sin(np.arange(n) / 7.0)


def test_a_signal_without_gaps_is_left_as_it_is():
    signal = sine(1000)
    filled = fill_missing(signal, FS)
    assert np.array_equal(filled.values, signal)
    assert filled.present.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_short_gap_is_bridged_by_a_line_and_counts_as_signal(bad):
    signal = sine(1000)
    signal[500:520] = bad  # 0.2 s, the longest that is bridged
    filled = fill_missing(signal, FS)
    assert filled.present.all()
    line = np.linspace(signal[499], signal[520], 22)[1:-1]
    np.testing.assert_allclose(filled.values[500:520], line, atol=1e-12)


def test_a_longer_gap_is_missing():
    signal = sine(1000)
    signal[500:521] = np.nan
    filled = fill_missing(signal, FS)
    assert np.array_equal(np.flatnonzero(~filled.present), np.arange(500, 521))
    assert np.isfinite(filled.values).all()


def test_a_line_held_for_two_seconds_is_missing_and_a_shorter_plateau_is_not():
    signal = sine(1000)
    signal[100:300] = 0.25
    signal[600:799] = 0.25
    present = fill_missing(signal, FS).present
    assert stretches(~present) == [(100, 300)]


def test_a_signal_that_is_missing_as_a_whole():
    filled = fill_missing(np.full(50, np.nan), FS)
    assert not filled.present.any()
    assert np.isfinite(filled.values).all()


def test_what_was_handed_in_is_not_changed():
    signal = sine(100)
    signal[40:45] = np.nan
    before = signal.copy()
    fill_missing(signal, FS)
    assert np.array_equal(signal, before, equal_nan=True)


@pytest.mark.parametrize("shape", [(0,), (10, 2), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="expected one lead"):
        fill_missing(np.zeros(shape), FS)


def test_values_that_are_no_millivolts_are_refused():
    with pytest.raises(DataError, match="check the gain and the unit"):
        fill_missing(np.array([0.0, 1e7, 0.0]), FS)


@given(hnp.arrays(bool, st.integers(0, 40)))
def test_stretches_rebuild_the_mask(mask):
    rebuilt = np.zeros_like(mask)
    for start, stop in stretches(mask):
        assert start < stop
        assert not rebuilt[max(0, start - 1) : stop].any(), "stretches touch"
        rebuilt[start:stop] = True
    assert np.array_equal(rebuilt, mask)


@given(hnp.arrays(np.float64, st.integers(1, 400), elements=st.sampled_from([0.0, 0.5, -1.0, np.nan, np.inf])))
def test_filled_values_are_finite_and_agree_where_there_was_a_value(signal):
    filled = fill_missing(signal, FS)
    finite = np.isfinite(signal)
    assert np.isfinite(filled.values).all()
    assert np.array_equal(filled.values[finite], signal[finite])
    for start, stop in stretches(~finite):
        assert filled.present[start:stop].any() <= (stop - start <= MAX_GAP_S * FS)
    for start, stop in stretches(~filled.present):
        held = np.ptp(filled.values[start:stop]) == 0 and stop - start >= FLAT_S * FS
        assert held or not finite[start:stop].all()
