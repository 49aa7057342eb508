"""Recordings classified by a model that sees beats in their context: the same, however the beats come to it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ecgkan.data.context_table import read_context_table
from ecgkan.data.recording import Recording, read_recording
from ecgkan.inference.classifier import classify
from ecgkan.models.patient import PatientKAN, PatientMLP
from ecgkan.training.patients import predict_context


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


def test_a_record_gives_what_training_saw(model: PatientMLP, mitdb_dir: Path) -> None:
    table = read_context_table(mitdb_dir, records=["114"])  # MLII is its second signal
    annotations = classify(mitdb_dir / "114", model, annotator="atr")
    expected = torch.from_numpy(predict_context(model, table)).softmax(dim=1).numpy()
    assert annotations.lead == "MLII"
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
