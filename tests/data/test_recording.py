"""Recordings in memory and in their files read alike; annotations round-trip; bad ones are named."""

import datetime
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecgkan.data.recording import (
    Recording,
    RecordingFile,
    SignalSource,
    open_recording,
    read_annotations,
    read_recording,
)
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
        assert recording.source == tmp_path / "rec.hea"


def test_the_lead_is_chosen_by_name(tmp_path: Path) -> None:
    write_record(tmp_path)
    recording = read_recording(tmp_path / "rec")
    assert recording.lead_index() == 1
    assert recording.lead_index("v5") == 0
    assert recording.lead_index(0) == 0
    assert recording.choose_lead() == (1, "MLII", "MLII by name")
    with pytest.raises(DataError, match="it has V5, MLII"):
        recording.lead_index("aVR")
    with pytest.raises(DataError, match="no lead number 2"):
        recording.lead_index(2)


def test_a_recording_in_its_file_reads_like_one_in_memory(tmp_path: Path) -> None:
    write_record(tmp_path)
    whole = read_recording(tmp_path / "rec")
    with open_recording(tmp_path / "rec") as opened:
        sources: list[SignalSource] = [whole, opened]
        for source in sources:
            assert (source.name, source.fs, source.leads, source.n_samples) == ("rec", 360.0, ("V5", "MLII"), 2000)
            assert source.duration_s == 2000 / 360
            np.testing.assert_array_equal(source.read(), whole.signals)
            np.testing.assert_array_equal(source.read(10, 20, [1]), whole.signals[10:20, 1:])
            assert source.read(20, 20).shape == (0, 2)
            for start, stop in ((-1, 5), (5, 4), (0, 2001)):
                with pytest.raises(DataError, match="it has 2000, counted from 0"):
                    source.read(start, stop)
            with pytest.raises(DataError, match="no lead number 2"):
                source.read(0, 1, [2])
        part = opened.load([1])
    assert part.leads == ("MLII",)
    np.testing.assert_array_equal(part.signals, whole.signals[:, 1:])
    np.testing.assert_array_equal(read_recording(tmp_path / "rec", channels=[1]).signals, part.signals)


def test_what_is_read_from_memory_is_a_copy() -> None:
    recording = Recording("x", np.zeros((10, 1)), 250.0, ("II",))
    recording.read(0, 5)[:] = 1
    assert not recording.signals.any()


def test_infinite_samples_are_missing(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([0.0, np.inf, -np.inf, 1.0]))
    signals = read_recording(tmp_path / "x.npy", fs=250, units="mV").signals
    np.testing.assert_array_equal(signals[:, 0], [0, np.nan, np.nan, 1])


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    write_record(tmp_path)
    with pytest.raises(DataNotFoundError, match="records there: rec"):
        read_recording(tmp_path / "other")
    with pytest.raises(DataNotFoundError, match="there is no folder"):
        read_recording(tmp_path / "nowhere" / "rec")
    with pytest.raises(DataError, match="is a folder; expected one recording"):
        read_recording(tmp_path)
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match=r"in no format that is read; expected WFDB .*Parquet"):
        read_recording(tmp_path / "notes.pdf")
    data = (tmp_path / "rec.dat").read_bytes()
    (tmp_path / "rec.dat").write_bytes(data[:1000])
    with pytest.raises(DataError, match=r"rec\.dat is too short: it holds 250 samples .* announces 2000"):
        read_recording(tmp_path / "rec")
    (tmp_path / "rec.dat").unlink()
    with pytest.raises(DataNotFoundError, match=r"rec\.dat"):
        read_recording(tmp_path / "rec")
    (tmp_path / "rec.hea").write_text("this is no header")
    with pytest.raises(DataError, match="cannot be read"):
        read_recording(tmp_path / "rec")
    (tmp_path / "rec.hea").unlink()
    (tmp_path / "rec.dat").write_bytes(data)
    with pytest.raises(DataNotFoundError, match=r"its header rec\.hea is not there"):
        read_recording(tmp_path / "rec.dat")


@pytest.mark.parametrize("path", [".", "/", ""])
def test_paths_that_name_nothing(path: str) -> None:
    with pytest.raises(DataError, match="is a folder"):
        open_recording(path)


@pytest.mark.parametrize("fs", [0.0, -250.0, 99.0, 2001.0, float("nan"), float("inf")])
def test_a_sampling_rate_out_of_range_is_refused(fs: float, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(100))
    with pytest.raises(DataError, match=r"Hz, expected 100 to 2000 Hz"):
        open_recording(tmp_path / "x.npy", fs=fs, units="mV")


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


def test_what_a_recording_knows_of_itself_goes_with_it() -> None:
    started = datetime.datetime(2024, 5, 1, 8)
    recording = Recording("x", np.zeros((10, 1)), 250.0, ("I",), started, Path("x.csv"), ("a note",))
    assert (recording.started, recording.source, recording.notes) == (started, Path("x.csv"), ("a note",))


def test_the_file_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").write_text("ECG (mV)\n" + "0.5\n" * 100)
    with open_recording(tmp_path / "x.csv", fs=250) as recording:
        assert isinstance(recording, RecordingFile)
        recording.read(0, 10)
    with pytest.raises(ValueError, match="closed file"):
        recording.read(0, 10)


def test_annotations_round_trip(tmp_path: Path) -> None:
    write_record(tmp_path)
    wfdb.wrann(
        "rec", "atr", np.array([5, 300, 700]), symbol=["N", "+", "V"], aux_note=["", "(N", ""], write_dir=str(tmp_path)
    )
    for path in ("rec", "rec.hea", "rec.dat", "rec.atr"):
        annotations = read_annotations(tmp_path / path, "atr")
        assert annotations.samples.tolist() == [5, 300, 700]
        assert annotations.symbols == ("N", "+", "V")
    with pytest.raises(DataNotFoundError, match="annotators there: atr"):
        read_annotations(tmp_path / "rec.hea", "qrs")
    (tmp_path / "rec.atr").write_bytes(b"\x00")
    with pytest.raises(DataError, match=r"rec\.atr cannot be read as a WFDB annotation file"):
        read_annotations(tmp_path / "rec", "atr")


def test_annotations_stand_beside_recordings_of_other_formats(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(1000))
    wfdb.wrann("x", "qrs", np.array([5, 300]), symbol=["N", "N"], write_dir=str(tmp_path), fs=250)
    assert read_annotations(tmp_path / "x.npy", "qrs").samples.tolist() == [5, 300]


def test_the_real_record_114_has_mlii_second(mitdb_dir: Path) -> None:
    recording = read_recording(mitdb_dir / "114")
    assert recording.leads == ("V5", "MLII")
    assert recording.lead_index() == 1
    assert recording.signals.shape == (650_000, 2)
