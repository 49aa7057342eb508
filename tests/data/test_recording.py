"""Recordings and annotations are read as WFDB wrote them, and bad files are named."""

from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecgkan.data.recording import Recording, read_annotations, read_recording
from ecgkan.errors import DataError, DataNotFoundError


def write_record(
    folder: Path, name: str = "rec", *, fs: float = 360.0, leads: tuple[str, ...] = ("V5", "MLII")
) -> None:
    rng = np.random.default_rng(0)
    signals = rng.standard_normal((2000, len(leads))).round(2)
    wfdb.wrsamp(
        name, fs, units=["mV"] * len(leads), sig_name=list(leads), p_signal=signals, fmt=["16"] * len(leads),
        write_dir=str(folder),
    )  # fmt: skip


def test_reads_signals_rate_and_leads(tmp_path: Path) -> None:
    write_record(tmp_path)
    for path in (tmp_path / "rec", tmp_path / "rec.hea", str(tmp_path / "rec.dat")):
        recording = read_recording(path)
        assert recording.name == "rec"
        assert recording.signals.shape == (2000, 2)
        assert recording.fs == 360.0
        assert recording.leads == ("V5", "MLII")
        assert recording.duration_s == pytest.approx(2000 / 360)


def test_the_lead_is_chosen_by_name(tmp_path: Path) -> None:
    write_record(tmp_path)
    recording = read_recording(tmp_path / "rec")
    assert recording.lead_index() == 1
    assert recording.lead_index("v5") == 0
    assert recording.lead_index(0) == 0
    with pytest.raises(DataError, match="it has V5, MLII"):
        recording.lead_index("aVR")
    with pytest.raises(DataError, match="no lead number 2"):
        recording.lead_index(2)


def test_without_mlii_the_first_lead(tmp_path: Path) -> None:
    write_record(tmp_path, leads=("ECG1", "ECG2"))
    assert read_recording(tmp_path / "rec").lead_index() == 0


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    write_record(tmp_path)
    with pytest.raises(DataNotFoundError, match="records there: rec"):
        read_recording(tmp_path / "other")
    data = (tmp_path / "rec.dat").read_bytes()
    (tmp_path / "rec.dat").write_bytes(data[:1000])
    with pytest.raises(DataError, match=r"rec\.hea cannot be read"):
        read_recording(tmp_path / "rec")
    (tmp_path / "rec.dat").unlink()
    with pytest.raises(DataNotFoundError, match=r"rec\.dat"):
        read_recording(tmp_path / "rec")
    (tmp_path / "rec.hea").write_text("this is no header")
    with pytest.raises(DataError, match="cannot be read"):
        read_recording(tmp_path / "rec")


@pytest.mark.parametrize(
    ("shape", "fs", "leads", "message"),
    [
        ((0, 1), 360.0, ("I",), "at least one sample"),
        ((10,), 360.0, ("I",), "n_samples, n_leads"),
        ((10, 2), 360.0, ("I",), "2 signals but 1 lead"),
        ((10, 1), 50.0, ("I",), "50 Hz"),
        ((10, 1), float("nan"), ("I",), "nan Hz"),
    ],
)
def test_recordings_that_make_no_sense(shape: tuple[int, ...], fs: float, leads: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Recording("x", np.zeros(shape), fs, leads)


def test_annotations_round_trip(tmp_path: Path) -> None:
    write_record(tmp_path)
    wfdb.wrann(
        "rec", "atr", np.array([5, 300, 700]), symbol=["N", "+", "V"], aux_note=["", "(N", ""], write_dir=str(tmp_path)
    )
    annotations = read_annotations(tmp_path / "rec", "atr")
    assert annotations.samples.tolist() == [5, 300, 700]
    assert annotations.symbols == ("N", "+", "V")
    with pytest.raises(DataNotFoundError, match="annotators there: atr"):
        read_annotations(tmp_path / "rec.hea", "qrs")


def test_the_real_record_114_has_mlii_second(mitdb_dir: Path) -> None:
    recording = read_recording(mitdb_dir / "114")
    assert recording.leads == ("V5", "MLII")
    assert recording.lead_index() == 1
    assert recording.signals.shape == (650_000, 2)
