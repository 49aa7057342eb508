"""Noise as WFDB's nst adds it, and the models behind the detector."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ecgkan.data.recording import read_recording
from ecgkan.inference.record import ClassifyOptions, classify_to_folder
from ecgkan.models.checkpoint import load_checkpoint, save_checkpoint
from ecgkan.models.patient import PatientMLP
from ecgkan.studies.stress import add_noise, annotate, ec57_in_the_loop, is_noisy_minute, noisy_recording


def test_noise_comes_in_turns_of_two_minutes() -> None:
    seconds = np.array([0, 299, 300, 419, 420, 539, 540, 700])
    assert is_noisy_minute(seconds * 360, 360.0).tolist() == [False, False, True, True, False, False, True, False]


def test_noise_has_the_power_asked_for() -> None:
    rng = np.random.default_rng(0)
    rpeaks = np.arange(180, 500 * 360, 288)
    signal = np.zeros(500 * 360)
    signal[rpeaks] = 2.0
    noisy = add_noise(signal, rpeaks, rng.normal(size=400 * 360), 360.0, 6.0)
    chosen = is_noisy_minute(np.arange(len(signal)), 360.0)
    assert np.array_equal(noisy[~chosen], signal[~chosen])
    assert (noisy - signal)[chosen].std() == pytest.approx(np.sqrt(4 / 8 / 10**0.6), rel=0.01)


@pytest.mark.parametrize("patient", ["118", "119"])
@pytest.mark.parametrize(("snr_db", "name"), [(12, "12"), (-6, "_6")])
def test_the_published_stress_records_are_met(patient: str, snr_db: int, name: str, data_dir: Path) -> None:
    noise = np.nan_to_num(read_recording(data_dir / "nstdb" / "em").signals)
    clean = read_recording(data_dir / "mitdb" / patient).signals
    ours = noisy_recording(data_dir / "mitdb", patient, noise, snr_db).signals - clean
    theirs = read_recording(data_dir / "nstdb" / f"{patient}e{name}").signals - clean
    chosen = slice(301 * 360, 419 * 360)
    for lead in (0, 1):
        slope, _ = np.polyfit(theirs[chosen, lead], ours[chosen, lead], 1)
        assert slope == pytest.approx(1, abs=0.01 + 0.01 * lead)
        assert np.corrcoef(theirs[chosen, lead], ours[chosen, lead])[0, 1] > 0.9999


def test_a_record_behind_the_detector(mitdb_dir: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "model.pth"
    save_checkpoint(
        file, name="patient_mlp", model=PatientMLP(), protocol="inter-patient", temperature=1.0, training={}
    )
    comparison, left_out = ec57_in_the_loop(load_checkpoint(file), mitdb_dir, ["100"])
    figures = comparison.gross()
    assert figures.qrs_se.percent > 99.5 and figures.qrs_p.percent > 99.5
    assert left_out < 0.01


def test_what_is_judged_is_what_the_command_classify_writes(mitdb_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "annotated").mkdir()
    found = annotate(load_checkpoint("cnn_mlp"), mitdb_dir, ["105"], tmp_path / "annotated")
    options = ClassifyOptions(model="cnn_mlp", formats=("wfdb",))
    classified = classify_to_folder(mitdb_dir / "105", tmp_path / "classified", options)
    files = [tmp_path / folder / "105.ecgkan" for folder in ("annotated", "classified")]
    assert files[0].read_bytes() == files[1].read_bytes()
    left_out = len(classified.annotations.left_out)
    assert left_out > 0
    assert found == {"105": (len(classified.annotations.samples) + left_out, left_out)}
