"""R peaks: the detector on known and real signals, gaps and flat lines; beats of an annotation file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.synthetic import synthetic_ecg

from ecgkan.data.embedded import EMBEDDED_REFERENCE_COUNTS, embedded_recording
from ecgkan.data.recording import ReferenceAnnotations, read_annotations, read_recording
from ecgkan.data.rpeaks import detect_rpeaks, reference_rpeaks
from ecgkan.errors import DataError


@pytest.mark.parametrize("fs", [100.0, 128.0, 250.0, 333.3, 360.0, 500.0, 1000.0, 2000.0])
def test_every_beat_of_a_clean_signal_is_found_within_20_ms(fs):
    signal, rpeaks = synthetic_ecg(fs)
    found = detect_rpeaks(signal, fs)
    assert found.dtype == np.int64
    assert len(found) == len(rpeaks)
    assert np.abs(found - rpeaks).max() <= 0.02 * fs


def test_ventricular_beats_of_the_embedded_recording_are_found_too():
    recording = embedded_recording()
    found = detect_rpeaks(recording.signals[:, 0], recording.fs)
    n_reference = sum(EMBEDDED_REFERENCE_COUNTS.values())
    assert abs(len(found) - n_reference) <= 5  # a detector by slopes misses 30 of the 93 ventricular beats


def test_a_short_gap_between_beats_changes_nothing():
    signal, rpeaks = synthetic_ecg(250.0)
    whole = detect_rpeaks(signal, 250.0)
    middle = (rpeaks[10] + rpeaks[11]) // 2
    signal[middle : middle + 40] = np.nan
    assert np.array_equal(detect_rpeaks(signal, 250.0), whole)


def test_beats_on_both_sides_of_a_long_gap_are_found_and_none_within():
    signal, rpeaks = synthetic_ecg(250.0, duration_s=60.0)
    start, stop = 25 * 250, 30 * 250
    signal[start:stop] = np.nan
    found = detect_rpeaks(signal, 250.0)
    outside = rpeaks[(rpeaks < start - 50) | (rpeaks >= stop + 50)]
    assert not np.any((found >= start) & (found < stop))
    nearest = np.abs(found[:, None] - outside).min(axis=0)
    assert nearest.max() <= 0.02 * 250


def test_a_lead_that_is_off_for_a_while_holds_no_beats_and_makes_none():
    signal, rpeaks = synthetic_ecg(360.0, duration_s=60.0)
    start, stop = 20 * 360, 40 * 360
    signal[start:stop] = -4.0
    found = detect_rpeaks(signal, 360.0)
    outside = rpeaks[(rpeaks < start) | (rpeaks >= stop)]
    assert len(found) == len(outside)
    assert np.abs(found - outside).max() <= 0.02 * 360


@pytest.mark.parametrize(
    "signal",
    [np.zeros(3600), np.full(3600, 1.5), np.full(3600, np.nan), np.zeros(1), np.array([0.0, 1.0]), np.arange(400.0)],
    ids=["zeros", "constant", "all missing", "one sample", "two samples", "1.1 s"],
)
def test_nothing_to_find_gives_none(signal):
    found = detect_rpeaks(signal, 360.0)
    assert found.shape == (0,)
    assert found.dtype == np.int64


def test_a_signal_that_starts_flat_and_hardly_lasts_longer():
    signal = np.zeros(1440)
    signal[719:] = 0.1 * np.sin(np.arange(721))  # 2 s are left behind the flat beginning, then less and less
    for stop in (1440, 1439, 1000, 735, 721):
        assert detect_rpeaks(signal[:stop], 360.0).dtype == np.int64


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 7199), st.integers(1, 2500), st.sampled_from([np.nan, np.inf, 0.0])), max_size=6)
)
def test_whatever_is_missing_no_nan_spreads_and_peaks_lie_on_signal(gaps):
    signal = embedded_recording().signals[:7200, 0].copy()
    for start, length, value in gaps:
        signal[start : start + length] = value
    found = detect_rpeaks(signal, 360.0)
    assert np.all(np.diff(found) > 0)
    assert np.all((found >= 0) & (found < len(signal)))
    if not gaps:
        assert len(found) > 20


@pytest.mark.parametrize("fs", [50.0, 99.9, 2001.0, float("nan")])
def test_sampling_rates_that_cannot_be_are_refused(fs):
    with pytest.raises(DataError, match="expected 100 to 2000 Hz"):
        detect_rpeaks(np.zeros(1000), fs)


def test_two_leads_at_once_are_refused():
    with pytest.raises(DataError, match="expected one lead"):
        detect_rpeaks(np.zeros((1000, 2)), 360.0)


def test_reference_rpeaks_are_the_beats_alone():
    annotations = ReferenceAnnotations(np.array([5, 9, 20, 30, 44]), ("+", "N", "~", "V", "|"))
    assert reference_rpeaks(annotations).tolist() == [9, 30]
    assert reference_rpeaks(annotations).dtype == np.int64


def test_reference_rpeaks_of_no_annotations():
    assert reference_rpeaks(ReferenceAnnotations(np.zeros(0, dtype=np.int64), ())).shape == (0,)


def test_an_unknown_symbol_is_named():
    with pytest.raises(DataError, match="unknown annotation symbol '§'"):
        reference_rpeaks(ReferenceAnnotations(np.array([5]), ("§",)))


def test_reference_beats_of_record_100(mitdb_dir):
    assert len(reference_rpeaks(read_annotations(mitdb_dir / "100", "atr"))) == 2273


@pytest.mark.parametrize(("record", "least"), [("100", 0.999), ("114", 0.99), ("208", 0.99)])
def test_the_detector_meets_the_reference_on_real_records(mitdb_dir, record, least):
    recording = read_recording(mitdb_dir / record)
    column = recording.lead_index()
    assert recording.leads[column] == "MLII"
    found = detect_rpeaks(recording.signals[:, column], recording.fs)
    reference = reference_rpeaks(read_annotations(mitdb_dir / record, "atr"))
    right = np.searchsorted(found, reference).clip(1, len(found) - 1)
    nearest = np.minimum(np.abs(found[right] - reference), np.abs(found[right - 1] - reference))
    assert np.mean(nearest <= 0.15 * 360) >= least  # EC57's match window
    # Models were trained on windows around the annotators' positions: the detector must place its peaks alike.
    assert np.median(nearest[nearest <= 54]) <= 1
