"""classify: against the model applied by hand, at other rates, with gaps, at the edges, and on bad input."""

import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.synthetic import synthetic_ecg, write_record

from ecgkan import BeatAnnotations, Recording, classify, load_checkpoint, load_model, read_annotations, read_recording
from ecgkan.data.beats import cut_beats
from ecgkan.data.embedded import embedded_recording
from ecgkan.data.resampling import resample
from ecgkan.data.rpeaks import detect_rpeaks, reference_rpeaks
from ecgkan.errors import CheckpointError, DataError, DataNotFoundError
from ecgkan.models.cnn import ECGCNN

FS = 360.0


def recording_of(signal, fs=FS, *, name="rec", lead="MLII") -> Recording:
    return Recording(name=name, signals=np.asarray(signal, dtype=float)[:, None], fs=fs, leads=(lead,))


@pytest.fixture(scope="module")
def model(checkpoints):
    return load_checkpoint(checkpoints["cnn_kan"])


@pytest.fixture(scope="module")
def minute():
    """A minute of the embedded recording: several classes of beats."""
    return recording_of(embedded_recording().signals[:21_600, 0], name="minute")


def by_hand(model, recording, rpeaks):
    """Probabilities of beats at 360 Hz, one at a time, straight from the model."""
    beats = cut_beats(recording.signals[:, 0], rpeaks, edges="pad").model_input()
    with torch.inference_mode():
        rows = [(model.model(torch.from_numpy(beat[None])) / model.temperature).softmax(1)[0].numpy() for beat in beats]
    return np.array(rows)


def test_probabilities_are_the_models_divided_by_the_temperature(model, minute):
    annotations = classify(minute, model)
    expected = by_hand(model, minute, annotations.samples)
    np.testing.assert_allclose(annotations.probabilities, expected, atol=1e-5)
    assert annotations.classes.tolist() == ["NSVFQ"[i] for i in expected.argmax(axis=1)]
    assert len(set(annotations.classes.tolist())) > 1, "the fixture's weights tell nothing apart"
    np.testing.assert_allclose(annotations.probabilities.sum(axis=1), 1.0, atol=1e-5)


def test_the_result_says_what_it_is(model, minute):
    annotations = classify(minute, model)
    assert isinstance(annotations, BeatAnnotations)
    assert (annotations.record, annotations.fs, annotations.lead) == ("minute", 360.0, "MLII")
    assert (annotations.model, annotations.weights_sha256) == ("cnn_kan", model.sha256)
    assert annotations.rpeaks == "detector"
    assert annotations.duration_s == 60.0
    assert annotations.samples.dtype == np.int64
    assert annotations.probabilities.dtype == np.float32
    assert annotations.left_out.tolist() == []
    assert np.array_equal(annotations.samples, detect_rpeaks(minute.signals[:, 0], FS))
    np.testing.assert_allclose(annotations.rr_before_s[1:], np.diff(annotations.samples) / FS)
    np.testing.assert_allclose(annotations.rr_after_s[:-1], np.diff(annotations.samples) / FS)


@pytest.mark.parametrize("batch_size", [1, 7, 10_000])
def test_the_batch_size_does_not_matter(model, minute, batch_size):
    one, other = classify(minute, model), classify(minute, model, batch_size=batch_size)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_a_model_can_be_given_as_path_checkpoint_or_loaded(checkpoints, minute):
    path = checkpoints["cnn_mlp"]
    from_path, from_text = classify(minute, path), classify(minute, str(path))
    from_checkpoint = classify(minute, load_checkpoint(path))
    assert np.array_equal(from_path.probabilities, from_checkpoint.probabilities)
    assert np.array_equal(from_path.probabilities, from_text.probabilities)
    bare = classify(minute, load_model(path))
    assert (bare.model, bare.weights_sha256) == ("cnn_mlp", "")
    assert np.array_equal(bare.classes, from_path.classes)
    assert not np.allclose(bare.probabilities, from_path.probabilities), "a bare model has no temperature"


@pytest.mark.parametrize("fs", [250.0, 360.0, 500.0, 1000.0])
def test_a_record_at_any_rate_gives_beats_at_its_own_rate(tmp_path, model, fs):
    signal, rpeaks = synthetic_ecg(fs)
    path = write_record(tmp_path, "synthetic", fs, {"MLII": signal})
    annotations = classify(path, model)
    assert annotations.record == "synthetic"
    assert annotations.fs == fs
    assert len(annotations) == len(rpeaks)
    assert np.abs(annotations.samples - rpeaks).max() <= 0.02 * fs


@pytest.mark.parametrize("fs", [250.0, 500.0, 720.0])
def test_resampled_beats_are_the_beats_of_the_same_heart_at_360_hz(model, fs):
    """The same analytic signal, sampled at `fs` and at 360 Hz, where an R peak falls on a sample of both."""
    at_fs, rpeaks_fs = synthetic_ecg(fs, rr_s=0.9, first_s=0.9, noise_mv=0.0)
    at_360, rpeaks_360 = synthetic_ecg(FS, rr_s=0.9, first_s=0.9, noise_mv=0.0)
    resampled = classify(recording_of(at_fs, fs), model, rpeaks=rpeaks_fs)
    straight = classify(recording_of(at_360), model, rpeaks=rpeaks_360)
    np.testing.assert_allclose(resampled.probabilities, straight.probabilities, atol=0.02)


def test_mlii_is_found_by_name_and_another_lead_by_request(tmp_path, model):
    signal, rpeaks = synthetic_ecg(FS)
    other, other_rpeaks = synthetic_ecg(FS, rr_s=1.1)
    path = write_record(tmp_path, "two", FS, {"V5": other, "MLII": signal})
    by_name = classify(path, model)
    assert by_name.lead == "MLII"
    assert len(by_name) == len(rpeaks)
    asked = classify(path, model, lead="v5")
    assert asked.lead == "V5"
    assert len(asked) == len(other_rpeaks)
    assert np.array_equal(classify(path, model, lead=0).samples, asked.samples)


def test_beats_at_the_edges_have_a_class(model, minute):
    last = len(minute.signals) - 1
    annotations = classify(minute, model, rpeaks=np.array([0, 40, 5000, last - 3, last]))
    assert annotations.samples.tolist() == [0, 40, 5000, last - 3, last]
    assert np.isfinite(annotations.probabilities).all()
    assert annotations.rpeaks == "given"


def test_no_beats_give_an_empty_result_of_the_same_kind(model):
    annotations = classify(recording_of(np.zeros(7200)), model)
    assert len(annotations) == 0
    assert annotations.samples.dtype == np.int64
    assert annotations.classes.shape == (0,)
    assert annotations.classes.dtype.kind == "U"
    assert (annotations.probabilities.shape, annotations.probabilities.dtype) == ((0, 5), np.float32)
    assert annotations.rr_before_s.shape == annotations.rr_after_s.shape == (0,)
    assert annotations.summary().beats == 0


def test_an_empty_list_of_r_peaks_is_no_error(model, minute):
    assert len(classify(minute, model, rpeaks=np.array([]))) == 0


def test_a_beat_in_a_gap_is_left_out_and_the_others_are_as_before(model, minute):
    rpeaks = detect_rpeaks(minute.signals[:, 0], FS)
    whole = classify(minute, model, rpeaks=rpeaks)
    signal = minute.signals[:, 0].copy()
    signal[rpeaks[20] - 60 : rpeaks[20] + 60] = np.nan
    torn = classify(recording_of(signal), model, rpeaks=rpeaks)
    assert torn.left_out.tolist() == [rpeaks[20]]
    assert len(torn) == len(whole) - 1
    untouched = np.abs(whole.samples - rpeaks[20]) > 200
    same = np.isin(torn.samples, whole.samples[untouched])
    np.testing.assert_allclose(torn.probabilities[same], whole.probabilities[untouched], atol=1e-5)
    after = torn.samples.tolist().index(rpeaks[21])
    assert torn.rr_before_s[after] == pytest.approx((rpeaks[21] - rpeaks[20]) / FS), "the beat is there all the same"


def test_a_window_with_less_than_half_its_signal_is_left_out(model, minute):
    rpeaks = detect_rpeaks(minute.signals[:, 0], FS)
    peak = rpeaks[20]
    signal = minute.signals[:, 0].copy()
    signal[peak - 200 : peak - 30] = np.nan  # 98 of the window's 256 samples
    assert classify(recording_of(signal), model, rpeaks=rpeaks[20:21]).left_out.tolist() == []
    signal[peak + 90 : peak + 300] = np.nan  # 38 more: 136 of 256
    assert classify(recording_of(signal), model, rpeaks=rpeaks[20:21]).left_out.tolist() == [peak]


def test_a_short_gap_is_bridged(model, minute):
    rpeaks = detect_rpeaks(minute.signals[:, 0], FS)
    signal = minute.signals[:, 0].copy()
    middle = (rpeaks[20] + rpeaks[21]) // 2
    signal[middle : middle + 10] = np.nan
    annotations = classify(recording_of(signal), model)
    assert np.array_equal(annotations.samples, rpeaks)
    assert np.isfinite(annotations.probabilities).all()


def test_detected_beats_on_both_sides_of_missing_signal_have_no_rr_interval(model, minute):
    signal = minute.signals[:, 0].copy()
    signal[10_000:11_000] = np.nan
    annotations = classify(recording_of(signal), model)
    after = int(np.searchsorted(annotations.samples, 11_000))
    assert np.isnan(annotations.rr_before_s[after])
    assert np.isnan(annotations.rr_after_s[after - 1])
    assert np.isnan(annotations.rr_before_s).sum() == 2  # the first beat's too


def test_a_beat_on_a_flat_window_is_left_out(model, minute):
    signal = minute.signals[:, 0].copy()
    signal[5000:5400] = 0.5  # shorter than a lead that is off
    annotations = classify(recording_of(signal), model, rpeaks=np.array([1000, 5200, 9000]))
    assert annotations.left_out.tolist() == [5200]
    assert annotations.samples.tolist() == [1000, 9000]


@settings(max_examples=25, deadline=None)
@given(
    gaps=st.lists(
        st.tuples(st.integers(0, 5399), st.integers(1, 2000), st.sampled_from([np.nan, np.inf, 0.0])), max_size=5
    ),
    rpeaks=st.none()
    | st.lists(st.integers(0, 5399), max_size=20).map(lambda listed: np.array(sorted(listed), dtype=int)),
    fs=st.sampled_from([128.0, 250.0, 360.0, 500.0]),
)
def test_whatever_is_missing_every_r_peak_is_classified_or_left_out(model, gaps, rpeaks, fs):
    signal = embedded_recording().signals[:5400, 0].copy()
    for start, length, value in gaps:
        signal[start : start + length] = value
    annotations = classify(recording_of(signal, fs), model, rpeaks=rpeaks)
    assert np.isfinite(annotations.probabilities).all()
    everything = np.sort(np.concatenate([annotations.samples, annotations.left_out]))
    expected = detect_rpeaks(signal, fs) if rpeaks is None else rpeaks
    assert np.array_equal(everything, expected)
    assert set(annotations.classes.tolist()) <= set("NSVFQ")


def test_classifying_twice_gives_the_same_bits(model, minute):
    one, other = classify(minute, model), classify(minute, model)
    assert np.array_equal(one.probabilities, other.probabilities)


def everything(annotations) -> dict:
    """Every field that could differ."""
    return {field.name: getattr(annotations, field.name) for field in fields(annotations)}


def torn_recording(fs) -> Recording:
    """Four and a half real minutes at some rate, with gaps of all lengths, a flat line, and a minute of noise."""
    signal = resample(embedded_recording().signals[:97_200, 0], FS, fs)
    for start_s, stop_s, value in ((10, 10.1, np.nan), (40, 75, np.nan), (80, 84, 0.2), (119, 121, np.nan)):
        signal[round(start_s * fs) : round(stop_s * fs)] = value
    noisy = slice(round(150 * fs), round(210 * fs))
    signal[noisy] += np.random.default_rng(3).normal(0, 3.0, noisy.stop - noisy.start)
    return recording_of(signal, fs)


@pytest.mark.parametrize("fs", [100.0, 257.0, 360.0, 999.5])
def test_nothing_depends_on_how_much_is_read_at_a_time(model, fs):
    recording = torn_recording(fs)
    whole = everything(classify(recording, model, chunk_s=1e6))
    assert len(whole["samples"]) > 150
    assert {"missing", "flat", "noise"} <= set(whole["noisy_reasons"])
    for chunk_s in (1.0, 120.0, 130.0):
        other = everything(classify(recording, model, chunk_s=chunk_s))
        for name, value in whole.items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(other[name], value, equal_nan=value.dtype.kind == "f"), name
            else:
                assert other[name] == value, name


@pytest.mark.parametrize("fs", [257.0, 360.0])
def test_given_beats_are_the_same_beats_as_found_ones(model, fs):
    """One way to cut: what was found at a sample is what is cut where that sample is given."""
    recording = torn_recording(fs)
    found = classify(recording, model)
    everywhere = np.sort(np.concatenate([found.samples, found.left_out]))
    given = classify(recording, model, rpeaks=everywhere)
    assert np.array_equal(given.samples, found.samples)
    assert np.array_equal(given.left_out, found.left_out)
    assert np.array_equal(given.probabilities, found.probabilities)
    assert np.array_equal(given.noisy, found.noisy)


def test_beats_in_stretches_that_are_not_read_are_left_out_and_intervals_across_are_unknown(model):
    annotations = classify(torn_recording(FS), model)
    inside = np.zeros(97_200, dtype=bool)
    for start, stop in annotations.noisy:
        inside[start:stop] = True
    assert not inside[annotations.samples].any()
    assert inside[150 * 360 : 210 * 360].mean() > 0.9, "a minute of noise, three millivolts strong"
    assert np.count_nonzero(inside[annotations.left_out]) > 10
    before = np.concatenate([[np.nan], np.diff(annotations.samples) / FS])
    spans = [inside[a:b].any() for a, b in zip(annotations.samples[:-1], annotations.samples[1:], strict=True)]
    assert np.isnan(annotations.rr_before_s[1:][spans]).all()
    known = ~np.isnan(annotations.rr_before_s)
    np.testing.assert_allclose(annotations.rr_before_s[known], before[known])
    assert known.sum() > 100


def test_mean_beats_are_the_means_of_the_windows(model, minute):
    annotations = classify(minute, model)
    windows = cut_beats(minute.signals[:, 0], annotations.samples, edges="pad").windows
    for letter, mean in zip("NSVFQ", annotations.mean_beats, strict=True):
        own = windows[annotations.classes == letter]
        if len(own):
            np.testing.assert_allclose(mean, own.mean(axis=0), atol=1e-5)
        else:
            assert np.isnan(mean).all()


def test_progress_goes_from_0_to_1(model, minute):
    shares = []
    classify(torn_recording(FS), model, progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) == 3
    assert 0 < shares[0] < shares[-1] == 1.0


@pytest.mark.parametrize("n_samples", [1, 2, 100, 500, 1000])
@pytest.mark.parametrize("fs", [100.0, 257.0, 2000.0])
def test_recordings_of_a_few_samples(model, n_samples, fs):
    signal = np.sin(np.arange(n_samples))
    annotations = classify(recording_of(signal, fs), model)
    assert annotations.duration_s == n_samples / fs
    given = classify(recording_of(signal, fs), model, rpeaks=np.array([n_samples - 1]))
    assert len(given) + len(given.left_out) == 1


def test_a_recording_of_two_seconds_has_its_beats(model):
    signal, rpeaks = synthetic_ecg(250.0, 2.0)
    annotations = classify(recording_of(signal, 250.0), model)
    assert np.abs(annotations.samples - rpeaks).max() <= 5


def test_a_lead_upside_down_is_noticed_and_classified_as_it_is(model):
    signal, rpeaks = synthetic_ecg(FS, 60.0)
    upright, inverted = (classify(recording_of(sign * signal), model, rpeaks=rpeaks) for sign in (1, -1))
    assert not upright.inverted
    assert upright.notes == ()
    assert inverted.inverted
    assert "upside down" in inverted.notes[0]
    turned = by_hand(model, recording_of(-signal), rpeaks)
    np.testing.assert_allclose(inverted.probabilities, turned, atol=1e-5)
    assert not classify(recording_of(-signal, lead="aVR"), model, rpeaks=rpeaks).inverted


def test_r_peaks_of_an_annotation_file(tmp_path, model):
    import wfdb

    signal, rpeaks = synthetic_ecg(FS)
    path = write_record(tmp_path, "annotated", FS, {"MLII": signal})
    wfdb.wrann("annotated", "atr", np.array([5, *rpeaks[:3]]), symbol=["+", "N", "V", "N"], write_dir=str(tmp_path))
    annotations = classify(path, model, annotator="atr")
    assert np.array_equal(annotations.samples, rpeaks[:3])
    assert annotations.rpeaks == "annotator atr"


@pytest.mark.parametrize(
    ("rpeaks", "message"),
    [
        (np.array([5, 7200]), "lie outside of recording rec"),
        (np.array([-1, 5]), "lie outside"),
        (np.array([9, 5]), "ascending order"),
        (np.array([1.5, 2.5]), "must be integers"),
        (np.array([[1, 2]]), r"shape \[n\]"),
    ],
)
def test_r_peaks_that_cannot_be(model, rpeaks, message):
    with pytest.raises(DataError, match=message):
        classify(recording_of(synthetic_ecg(FS, 20.0)[0]), model, rpeaks=rpeaks)


def test_r_peaks_from_two_sources(tmp_path, model):
    with pytest.raises(DataError, match="not from both"):
        classify(tmp_path / "rec", model, rpeaks=np.array([5]), annotator="atr")


def test_an_annotator_needs_the_records_path(model, minute):
    with pytest.raises(DataError, match="give its path"):
        classify(minute, model, annotator="atr")


def test_unknown_leads_records_annotators_and_models_are_named(tmp_path, model, minute):
    with pytest.raises(DataError, match="no lead 'V9'"):
        classify(minute, model, lead="V9")
    with pytest.raises(DataNotFoundError, match="no recording at"):
        classify(tmp_path / "nowhere", model)
    path = write_record(tmp_path, "rec", FS, {"MLII": minute.signals[:, 0]})
    with pytest.raises(DataNotFoundError, match=r"no annotation file .*rec\.xyz"):
        classify(path, model, annotator="xyz")
    with pytest.raises(DataNotFoundError, match="no checkpoint"):
        classify(minute, "cnn_transformer")
    with pytest.raises(DataError, match="batch_size"):
        classify(minute, model, batch_size=0)


def test_a_signal_that_is_no_ecg_in_millivolts(model):
    signal = synthetic_ecg(FS, 20.0)[0] * 1e9
    with pytest.raises(DataError, match="check the gain"):
        classify(recording_of(signal), model)


def test_a_model_in_training_mode_is_refused(minute):
    with pytest.raises(DataError, match=r"model\.eval\(\)"):
        classify(minute, ECGCNN())


def test_a_model_of_other_classes_is_refused(minute):
    with pytest.raises(DataError, match="has 3 classes"):
        classify(minute, ECGCNN(num_classes=3).eval())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preprocessing": {"fs": 250.0, "before": 90, "after": 110}}, "trained for"),
        ({"classes": ("Q", "F", "V", "S", "N")}, "trained for"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_a_checkpoint_made_for_something_else_is_refused(model, minute, changes, message):
    with pytest.raises(CheckpointError, match=message):
        classify(minute, replace(model, **changes))


def test_importing_what_classifies_is_light():
    code = (
        "import sys; from ecgkan import classify, read_recording, BeatAnnotations; "
        "from ecgkan.inference import figures, console, record, demo"
    )
    heavy = "print([m for m in ('torch', 'pandas', 'matplotlib', 'scipy', 'sklearn', 'wfdb') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", f"{code}; {heavy}"], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_real_record_114_is_read_by_lead_name(mitdb_dir, model):
    annotations = classify(mitdb_dir / "114", model, annotator="atr")
    recording = read_recording(mitdb_dir / "114")
    assert recording.leads.index("MLII") == 1
    assert annotations.lead == "MLII"
    rpeaks = reference_rpeaks(read_annotations(mitdb_dir / "114", "atr"))
    assert np.array_equal(annotations.samples, rpeaks)
    again = classify(recording_of(recording.signals[:, 1]), model, rpeaks=rpeaks)
    assert np.array_equal(annotations.probabilities, again.probabilities)


def test_real_record_100_has_every_beat(mitdb_dir, model):
    annotations = classify(mitdb_dir / "100", model)
    reference = reference_rpeaks(read_annotations(mitdb_dir / "100", "atr"))
    assert len(annotations) == len(reference) == 2273
    assert np.abs(annotations.samples - reference).max() <= 0.15 * 360
    assert 70 < annotations.summary().heart_rate.mean < 80
