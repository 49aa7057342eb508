"""Recordings classified by a model that sees beats in their context: the same, however the beats come to it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ecgkan.data.context_table import read_context_table
from ecgkan.data.recording import Recording, read_recording
from ecgkan.errors import DataError
from ecgkan.inference.annotation import BeatAnnotations
from ecgkan.inference.classifier import classify
from ecgkan.models.cnn_kan import ECGCNNWithKAN
from ecgkan.models.patient import PatientKAN, PatientMLP
from ecgkan.training.patients import predict_context, predict_two_leads


@pytest.fixture(scope="module")
def model() -> PatientMLP:
    torch.manual_seed(0)
    return PatientMLP().eval()


def a_recording(*, seconds: int = 400, fs: float = 250.0) -> tuple[Recording, np.ndarray]:
    rng = np.random.default_rng(3)
    beats = np.cumsum(rng.uniform(0.6, 1.0, int(seconds / 0.8) - 4))
    times = np.arange(int(seconds * fs)) / fs
    signal = rng.normal(0, 0.01, len(times))
    for beat in beats:
        near = slice(int((beat - 0.3) * fs), int((beat + 0.3) * fs))
        signal[near] += np.exp(-0.5 * ((times[near] - beat) / 0.02) ** 2)
    return Recording("made", signal[:, None], fs, ("MLII",)), np.round(beats * fs).astype(np.int64)


@pytest.mark.parametrize("chunk_s", [50.0, 130.0, 10000.0])
def test_chunks_do_not_matter(model: PatientMLP, chunk_s: float) -> None:
    recording, _ = a_recording()
    expected, found = classify(recording, model), classify(recording, model, chunk_s=chunk_s)
    np.testing.assert_array_equal(found.samples, expected.samples)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert len(found.samples) > 400


def test_what_comes_later_does_not_matter(model: PatientMLP) -> None:
    recording, rpeaks = a_recording()
    cut = int(300 * recording.fs)
    shorter = Recording("made", recording.signals[:cut], recording.fs, recording.leads)
    whole, part = classify(recording, model, rpeaks=rpeaks), classify(shorter, model, rpeaks=rpeaks[rpeaks < cut - 1])
    known = len(part.samples) - 6  # the last ones lack the beats after them, or the signal
    np.testing.assert_allclose(part.probabilities[:known], whole.probabilities[:known], atol=2e-4)


def test_every_model_for_new_patients(model: PatientMLP) -> None:
    recording, rpeaks = a_recording(seconds=60)
    torch.manual_seed(0)
    annotations = classify(recording, PatientKAN().eval(), rpeaks=rpeaks)
    assert annotations.model == "patient_kan"
    np.testing.assert_allclose(annotations.probabilities.sum(axis=1), 1, atol=1e-5)
    drawn = annotations.mean_beats[np.isfinite(annotations.mean_beats).all(axis=1)]
    assert len(drawn) and drawn.max() == pytest.approx(1, abs=0.1)


def test_two_beats_are_enough(model: PatientMLP) -> None:
    recording, rpeaks = a_recording(seconds=60)
    assert len(classify(recording, model, rpeaks=rpeaks[:2]).samples) == 2
    assert len(classify(recording, model, rpeaks=rpeaks[:0]).samples) == 0


def two_leads(recording: Recording, second: np.ndarray) -> Recording:
    signals = np.column_stack([recording.signals[:, 0], second])
    return Recording(recording.name, signals, recording.fs, ("MLII", "V1"))


def log_odds(annotations: BeatAnnotations) -> np.ndarray:
    logs = np.log(annotations.probabilities)
    return logs - logs.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("chunk_s", [130.0, 10000.0])
def test_two_leads_count_alike(model: PatientMLP, chunk_s: float) -> None:
    recording, rpeaks = a_recording()
    other = np.gradient(recording.signals[:, 0]) * 5
    alone = [
        classify(Recording("made", values[:, None], recording.fs, ("MLII",)), model, rpeaks=rpeaks)
        for values in (recording.signals[:, 0], other)
    ]
    both = classify(two_leads(recording, other), model, rpeaks=rpeaks, chunk_s=chunk_s, second_lead="auto")
    assert both.second_lead == "V1"
    np.testing.assert_allclose(log_odds(both), (log_odds(alone[0]) + log_odds(alone[1])) / 2, atol=1e-3)


def test_a_second_lead_that_cannot_be_read_does_not_count(model: PatientMLP) -> None:
    recording, rpeaks = a_recording()
    alone = classify(recording, model, rpeaks=rpeaks)
    off = np.where(np.arange(recording.n_samples) < 200 * recording.fs, recording.signals[:, 0], 0.5)
    noise = np.random.default_rng(1).normal(0, 1.0, recording.n_samples)
    for name, second, atol in (
        ("flat", np.full(recording.n_samples, 0.2), 0),
        ("missing", np.full(recording.n_samples, np.nan), 0),
        ("no millivolts", 1e6 * recording.signals[:, 0], 0),
        ("noise", noise, 0),
        ("the same lead, off in the middle", off, 1e-5),
    ):
        both = classify(two_leads(recording, second), model, rpeaks=rpeaks, second_lead="auto")
        far = np.abs(alone.samples / recording.fs - 200) > 2  # the step reaches a little further
        np.testing.assert_allclose(both.probabilities[far], alone.probabilities[far], atol=atol, err_msg=name)


def test_the_second_lead_is_a_matter_of_choice(model: PatientMLP) -> None:
    recording, rpeaks = a_recording(seconds=60)
    recording = two_leads(recording, -recording.signals[:, 0])
    assert classify(recording, model, rpeaks=rpeaks).second_lead == ""
    assert classify(recording, model, rpeaks=rpeaks, second_lead="auto").second_lead == "V1"
    assert classify(recording, model, rpeaks=rpeaks, lead="V1", second_lead="MLII").second_lead == "MLII"
    single = ECGCNNWithKAN().eval()
    assert classify(recording, single, rpeaks=rpeaks).second_lead == ""
    with pytest.raises(DataError, match="model cnn_kan looks at one lead; leave out second_lead"):
        classify(recording, single, rpeaks=rpeaks, second_lead="V1")


def test_a_record_gives_what_training_saw(model: PatientMLP, mitdb_dir: Path) -> None:
    table = read_context_table(mitdb_dir, records=["114"])  # MLII is its second signal
    annotations = classify(mitdb_dir / "114", model, annotator="atr")
    expected = torch.from_numpy(predict_context(model, table)).softmax(dim=1).numpy()
    assert (annotations.lead, annotations.second_lead) == ("MLII", "")
    np.testing.assert_allclose(annotations.probabilities, expected, atol=2e-3)


def test_two_leads_of_a_record_give_what_was_scored(model: PatientMLP, mitdb_dir: Path) -> None:
    table = read_context_table(mitdb_dir, records=["100"])
    annotations = classify(mitdb_dir / "100", model, annotator="atr", second_lead="auto")
    expected = torch.from_numpy(predict_two_leads(model, table)).softmax(dim=1).numpy()
    assert (annotations.lead, annotations.second_lead) == ("MLII", "V5")
    np.testing.assert_allclose(annotations.probabilities, expected, atol=2e-3)


def test_another_sampling_rate_gives_nearly_the_same(model: PatientMLP, mitdb_dir: Path) -> None:
    from scipy.signal import resample_poly

    recording = read_recording(mitdb_dir / "100")
    slower = Recording("100", resample_poly(recording.signals, 16, 45, axis=0), 128.0, recording.leads)
    rpeaks = classify(recording, model).samples
    here, there = (
        classify(recording, model, rpeaks=rpeaks),
        classify(slower, model, rpeaks=np.round(rpeaks * 16 / 45).astype(np.int64)),
    )
    assert np.abs(here.probabilities - there.probabilities).mean() < 0.01
