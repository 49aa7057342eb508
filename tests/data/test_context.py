"""A beat's context: ratios without unit, nothing from the future, and the patient's usual beat in spite of ectopics."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter1d
from scipy.signal import firwin

from ecgkan.data.context import (
    CONTEXT_FEATURES,
    DELAY_BEATS,
    GROUP_BEATS,
    RHYTHM_FEATURES,
    SHAPE_BEFORE,
    SHAPE_WIDTH,
    average_beats,
    beat_context,
    cut_shapes,
    rhythm_features,
)
from ecgkan.data.context_table import read_context_table
from ecgkan.data.ds2 import load_test_context
from ecgkan.errors import DataError

rng = np.random.default_rng(0)


def some_shapes(n: int, *, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.05, (n, SHAPE_WIDTH))
    return (np.exp(-0.5 * ((np.arange(SHAPE_WIDTH) - SHAPE_BEFORE) / 2.5) ** 2) + noise).astype(np.float32)


def some_rr(n: int, *, seed: int = 0) -> np.ndarray:
    rr = np.random.default_rng(seed).uniform(0.5, 1.1, n)
    rr[0] = np.nan
    return rr


def test_shapes_are_filtered_and_decimated_as_by_hand() -> None:
    signal = rng.normal(size=2000).cumsum() / 20
    samples = np.array([600, 601, 1200])
    centred = signal - uniform_filter1d(uniform_filter1d(signal, 216, mode="nearest"), 216, mode="nearest")
    filtered = np.convolve(centred, firwin(61, 45.0, fs=360.0), mode="same")
    expected = np.stack([filtered[s - 162 : s + 174 : 3] for s in samples])
    np.testing.assert_allclose(cut_shapes(signal, samples), expected, atol=2e-5)


def test_a_beat_at_the_edge_has_a_shape() -> None:
    assert np.isfinite(cut_shapes(rng.normal(size=500), np.array([0, 499]))).all()


def test_a_signal_of_two_leads_is_refused() -> None:
    with pytest.raises(DataError, match="one lead"):
        cut_shapes(np.zeros((100, 2)), np.array([50]))


def test_rhythm_features_have_no_unit() -> None:
    rr = some_rr(80)
    np.testing.assert_allclose(rhythm_features(rr), rhythm_features(rr * 1.3), atol=2e-5)


def test_rhythm_features_by_hand() -> None:
    rr = np.full(60, 0.8)
    rr[40], rr[41] = 0.5, 1.1
    named = dict(zip(RHYTHM_FEATURES, rhythm_features(rr)[40], strict=True))
    assert named["rr/median21"] == pytest.approx(np.log(0.5 / 0.8), abs=1e-5)
    assert named["next/median21"] == pytest.approx(np.log(1.1 / 0.8), abs=1e-5)
    assert named["rr/mean12"] == pytest.approx(np.log(0.5 / (10 * 0.8 + 0.5 + 1.1) * 12), abs=1e-5)
    assert named["next/rr"] == pytest.approx(np.log(1.1 / 0.5), abs=1e-5)
    assert named["rr and next/mean12"] == pytest.approx(0, abs=1e-5)
    assert named["irregularity16"] == pytest.approx(np.log(0.005) + 4, abs=1e-5)


def test_what_depends_on_an_unknown_interval_is_zero() -> None:
    rr = some_rr(50)
    rr[30] = np.nan
    named = dict(zip(RHYTHM_FEATURES, rhythm_features(rr)[30], strict=True))
    assert named["rr/mean12"] == named["rr/previous"] == named["next/rr"] == 0
    assert named["next/mean12"] != 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10))
def test_nothing_comes_from_beyond_the_second_next_beat(cut: int, seed: int) -> None:
    n = 80
    shapes, rr = some_shapes(n, seed=seed), some_rr(n, seed=seed)
    whole = beat_context(shapes, rr)
    known = max(cut + DELAY_BEATS + 1, GROUP_BEATS)  # the first group looks at itself
    part = beat_context(shapes[:known], rr[:known])
    np.testing.assert_allclose(part.rhythm[: cut + 1], whole.rhythm[: cut + 1], atol=1e-5)
    np.testing.assert_allclose(part.shapes[: cut + 1], whole.shapes[: cut + 1], atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 17])
def test_a_few_beats_are_enough(n: int) -> None:
    context = beat_context(some_shapes(n), some_rr(max(n, 1))[:n])
    assert context.shapes.shape == (n, 2, SHAPE_WIDTH)
    assert context.rhythm.shape == (n, len(CONTEXT_FEATURES))
    assert np.isfinite(context.shapes).all() and np.isfinite(context.rhythm).all()


def test_gain_does_not_matter() -> None:
    shapes, rr = some_shapes(60) * 2, some_rr(60)
    a, b = beat_context(shapes, rr), beat_context(shapes * 1.5, rr)
    np.testing.assert_allclose(a.shapes, b.shapes, rtol=0.02, atol=0.02)  # a floor of 0.02 mV keeps flat leads finite
    np.testing.assert_allclose(a.rhythm, b.rhythm, atol=0.02)


def test_in_bigeminy_the_late_narrow_beat_is_the_usual_one() -> None:
    places = np.arange(SHAPE_WIDTH) - SHAPE_BEFORE
    narrow, wide = np.exp(-0.5 * (places / 2) ** 2), -np.exp(-0.5 * (places / 8) ** 2)
    shapes = np.where(np.arange(64)[:, None] % 2 == 0, narrow, wide).astype(np.float32)
    rr = np.where(np.arange(64) % 2 == 0, 1.1, 0.5)
    np.testing.assert_allclose(average_beats(shapes, rr)[40], narrow, atol=1e-5)


def test_beats_that_cannot_be_read_do_not_enter_the_average() -> None:
    shapes, rr = some_shapes(64), np.full(64, 0.8)
    usable = np.arange(64) % 3 > 0
    spoiled = shapes.copy()
    spoiled[~usable] = 50.0 * rng.normal(size=(int((~usable).sum()), SHAPE_WIDTH))
    np.testing.assert_array_equal(average_beats(shapes, rr, usable), average_beats(spoiled, rr, usable))


def test_lengths_must_agree() -> None:
    with pytest.raises(DataError, match="as many"):
        beat_context(some_shapes(3), some_rr(4))


def test_ds1_and_ds2_hold_the_protocols_beats(mitdb_dir: Path) -> None:
    from ecgkan.data.mitdb import DS1

    training, test = read_context_table(mitdb_dir, records=DS1), load_test_context(mitdb_dir.parent)
    counted = np.bincount(training.labels[training.counted], minlength=5).tolist()
    assert counted == [45846, 944, 3788, 414, 8]
    counted = np.bincount(test.labels[test.counted], minlength=5).tolist()
    assert counted == [44241, 1837, 3220, 388, 7]
    assert np.isfinite(training.model_input(1).shapes).all() and np.isfinite(training.model_input(1).rhythm).all()


def test_where_nothing_can_be_read_the_last_average_stands() -> None:
    shapes, rr = some_shapes(200), np.full(200, 0.8)
    usable = np.ones(200, bool)
    usable[40:140] = False
    shapes[40:140] = 0
    averages = average_beats(shapes, rr, usable)
    np.testing.assert_array_equal(averages[120], averages[111])  # 48 to 113 hold none that can be read
    assert np.ptp(averages[140:], axis=1).min() > 0.5
    assert np.isfinite(beat_context(shapes, rr, usable).shapes).all()


def test_a_flat_lead_gives_finite_numbers() -> None:
    context = beat_context(np.zeros((40, SHAPE_WIDTH), np.float32), np.full(40, 0.8))
    assert np.isfinite(context.shapes).all() and np.isfinite(context.rhythm).all()


def test_unknown_intervals_do_not_look_like_a_regular_rhythm() -> None:
    rr = np.random.default_rng(0).lognormal(-0.3, 0.2, 200)
    rr[50:90] = np.nan
    irregularity = rhythm_features(rr)[:, RHYTHM_FEATURES.index("irregularity60")]
    assert np.abs(irregularity[90:110] - irregularity[48]).max() < 0.5
