"""The QRS detector: local, blind to gain and polarity, and good on real records."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.synthetic import synthetic_ecg

from ecgkan.data.embedded import embedded_recording
from ecgkan.data.mitdb import RECORDS
from ecgkan.data.qrs import (
    CONTEXT_S,
    DECIMATION,
    REFRACTORY_STEPS,
    THRESHOLD,
    beat_likelihood,
    decimate,
    find_rpeaks,
    lowpass,
    pick_beats,
    place_marks,
)
from ecgkan.data.recording import read_annotations, read_recording
from ecgkan.data.rpeaks import detect_rpeaks
from ecgkan.evaluation.ec57 import compare_detections, total


def test_all_48_records_at_least_as_well_as_gqrs_and_none_below_97_percent(mitdb_dir):
    counts = {}
    for record in RECORDS:
        recording = read_recording(mitdb_dir / record, channels=[0])
        detected = detect_rpeaks(recording.signals[:, 0], recording.fs)
        counts[record] = compare_detections(read_annotations(mitdb_dir / record, "atr"), detected, recording.fs)
    gross = total(counts.values())
    assert gross.sensitivity_percent >= 99.74
    assert gross.positive_predictivity_percent >= 99.72
    worst = min(min(c.sensitivity_percent, c.positive_predictivity_percent) for c in counts.values())
    assert worst >= 97.0, counts


def test_a_beat_depends_on_nothing_further_away_than_the_context():
    signal = embedded_recording().signals[:, 0]
    start, stop, context = 40 * 360, 100 * 360, int(CONTEXT_S * 360) // DECIMATION**2 * DECIMATION**2
    whole = find_rpeaks(signal)
    part = find_rpeaks(signal[start - context : stop + context]) + start - context
    inside = (whole >= start) & (whole < stop)
    assert inside.sum() > 60
    assert np.array_equal(part[(part >= start) & (part < stop)], whole[inside])


@pytest.mark.parametrize("gain", [0.5, 3.0, -1.0])
def test_gain_and_polarity_do_not_matter(gain):
    signal, rpeaks = synthetic_ecg(360.0)
    found = find_rpeaks(gain * signal)
    assert len(found) == len(rpeaks)
    assert np.abs(found - rpeaks).max() <= 4


@settings(max_examples=25, deadline=None)
@given(arrays(np.float64, st.integers(1, 3000), elements=st.floats(-5, 5, width=32)))
def test_any_signal_gives_ascending_samples_within_it(signal):
    found = find_rpeaks(signal)
    assert found.dtype == np.int64
    assert np.all(np.diff(found) > 0)
    assert not len(found) or (found[0] >= 0 and found[-1] < len(signal))


def test_a_silent_lead_has_no_beats():
    rng = np.random.default_rng(0)
    assert len(find_rpeaks(np.zeros(3600))) == 0
    assert len(find_rpeaks(rng.normal(0, 0.001, 3600))) == 0


def test_decimation_keeps_every_fourth_sample_of_the_filtered_lead():
    signal = embedded_recording().signals[:5001, 0]
    np.testing.assert_allclose(decimate(signal), lowpass(signal)[::DECIMATION], atol=1e-6)


@settings(max_examples=50)
@given(arrays(np.float32, st.integers(1, 200), elements=st.floats(0, 1, width=32)))
def test_beats_are_picked_apart_from_one_another_and_above_the_threshold(likelihood):
    picked = pick_beats(likelihood)
    assert np.all(np.diff(picked) > REFRACTORY_STEPS)
    assert np.all(likelihood[picked] > THRESHOLD)
    assert len(picked) or likelihood.max() <= THRESHOLD
    marks = place_marks(np.zeros(len(likelihood), np.float32), likelihood, picked)
    assert np.all(np.abs(marks - DECIMATION * picked) <= 3 * DECIMATION), "a flat lead leaves the network's places"


@settings(max_examples=50)
@given(peak=st.floats(380, 420), height=st.sampled_from([-1.0, 1.0]), off=st.integers(-5, 5), drift=st.floats(-1, 1))
def test_an_unsure_mark_moves_to_the_strongest_point_between_steps(peak, height, off, drift):
    samples = np.arange(800)
    lead = height * np.exp(-(((samples - peak) / 9.0) ** 2)) + drift * samples / 800
    steps = np.array([round(peak / DECIMATION) + off])
    for likelihood, expected in ((0.6, peak), (0.99, DECIMATION * steps[0])):
        bump = likelihood * np.exp(-0.5 * (np.arange(200) - steps[0]) ** 2).astype(np.float32)
        assert abs(place_marks(decimate(lead), bump, steps)[0] - expected) <= 1


def test_likelihood_covers_every_step():
    for n in (1, 4, 15, 16, 17, 999):
        assert beat_likelihood(np.zeros(n)).shape == (-(-n // DECIMATION),)
