"""The table of bad input in docs/reading.md, row by row."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.data.formats.packing import write_packed
from tests.data.formats.test_dicom_waveforms import made
from tests.data.formats.test_edf_files import edited, noise, write
from tests.synthetic import synthetic_ecg

from ecgkan.data.recording import Recording, find_recordings, read_recording
from ecgkan.errors import EcgkanError
from ecgkan.inference.annotation import BeatAnnotations
from ecgkan.inference.classifier import classify
from ecgkan.inference.writing import replacing

FS = 250.0
T = np.arange(600) / FS
PAGE = Path(__file__).parents[3] / "docs" / "reading.md"
ROWS = dict(re.findall(r"^\| ([^|]+) \| ((?:error|read|classified)\b[^|]*) \|$", PAGE.read_text("utf-8"), re.MULTILINE))

Case = Callable[[Path, pytest.MonkeyPatch], object]
CASES: dict[str, Case] = {}


def row(name: str) -> Callable[[Case], Case]:
    def register(case: Case) -> Case:
        CASES[name] = case
        return case

    return register


def cut(path: Path, by: int) -> Path:
    path.write_bytes(path.read_bytes()[:-by])
    return path


def record(folder: Path, header: str | None = None) -> Path:
    path = write_packed(folder, "16", np.zeros((600, 1), int))
    if header is not None:
        path.write_text(header)
    return path


def table(folder: Path, text: str | None = None, **columns: object) -> Path:
    path = folder / "x.csv"
    path.write_text(text if text is not None else pd.DataFrame(columns).to_csv(index=False))
    return path


def timed(folder: Path, times: object) -> Path:
    return table(folder, pd.DataFrame({"time": times, "ECG (mV)": 0.1}).to_csv(index=False))


def spoiled(folder: Path, line: str) -> Path:
    lines = pd.DataFrame({"time": T, "ECG (mV)": 0.1}).to_csv(index=False).splitlines()
    lines[300] = line
    return table(folder, "\n".join(lines))


@row("truncated signal file (.dat)")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    header = record(folder)
    cut(header.with_suffix(".dat"), 100)
    return read_recording(header)


@row("truncated EDF or BDF")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(cut(write(folder / "x.bdf", {"ECG": (noise(2500), FS, "mV")}), 100))


@row("truncated DICOM")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    import pydicom

    path = made(folder / "x.dcm", np.zeros(600, np.int16))
    dataset = pydicom.dcmread(path)
    dataset.WaveformSequence[0].WaveformData = bytes(100)
    dataset.save_as(path)
    return read_recording(path)


@row("truncated NPY or NPZ")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    np.save(folder / "x.npy", np.zeros(600))
    return read_recording(cut(folder / "x.npy", 100), fs=FS, units="mV")


@row("truncated Parquet")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    pd.DataFrame({"ECG (mV)": T}).to_parquet(folder / "x.parquet")
    return read_recording(cut(folder / "x.parquet", 10), fs=FS)


@row("header that announces other signals than it describes")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(record(folder, "r 2 250 600\nr.dat 16 100 16 0 0 0 0 ECG\n"))


@row("header that announces fewer samples than the file holds")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    recording = read_recording(record(folder, "r 1 250 500\nr.dat 16 100 16 0 0 0 0 ECG\n"))
    assert recording.n_samples == 500
    return recording


@row("signal file missing")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    header = record(folder)
    header.with_suffix(".dat").unlink()
    return read_recording(header)


@row("zero-length header")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(record(folder, ""))


@row("zero-length signal file")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    header = record(folder)
    header.with_suffix(".dat").write_bytes(b"")
    return read_recording(header)


@row("zero-length text")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(table(folder, ""))


@row("zero-length EDF")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    (folder / "x.edf").write_bytes(b"")
    return read_recording(folder / "x.edf")


@row("zero-length array")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    np.save(folder / "x.npy", np.zeros(0))
    return read_recording(folder / "x.npy", fs=FS, units="mV")


@row("no samples announced")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(edited(write(folder / "x.edf", {"ECG": (noise(2500), FS, "mV")}), 236, "0"))


@row("text instead of a table")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(table(folder, "Dear colleague,\nplease find enclosed\n"))


@row("text in a cell")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(spoiled(folder, "1.196,abc"))


@row("a cell too many")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(spoiled(folder, "1.196,0.1,0.2"))


@row("time that runs backwards")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(spoiled(folder, "0.5,0.1"))


@row("the same time twice")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(spoiled(folder, "1.192,0.1"))


@row("time that is not even")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(timed(folder, np.cumsum(np.random.default_rng(0).exponential(0.004, 2000))))


@row("duplicate lead names")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    recording = read_recording(record(folder, "r 2 250 300\n" + "r.dat 16 100 16 0 0 0 0 II\n" * 2))
    assert recording.leads == ("II", "II (2)")
    assert (recording.lead_index("II"), recording.lead_index("II (2)"), recording.lead_index("1")) == (0, 1, 1)
    return recording


@row("0 Hz")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(record(folder, "r 1 0 600\nr.dat 16 100 16 0 0 0 0 ECG\n"))


@row("negative sampling rate")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(record(folder, "r 1 -250 600\nr.dat 16 100 16 0 0 0 0 ECG\n"))


@row("no sampling rate")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(table(folder, "ECG (mV)\n0.1\n0.2\n"))


@row("50 Hz")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(record(folder, "r 1 50 600\nr.dat 16 100 16 0 0 0 0 ECG\n"))


@row("no unit")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(table(folder, time=T, ECG=0.1))


@row("another unit than the file's asked for")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(timed(folder, T), units="uV")


@row("another sampling rate than the file's asked for")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(record(folder), fs=500)


@row("a gain that makes volts of millivolts")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    np.save(folder / "x.npy", synthetic_ecg(FS)[0] * 1e4)
    return classify(read_recording(folder / "x.npy", fs=FS, units="V"))


@row("no ECG in the file")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    return read_recording(record(folder, "r 1 250 600\nr.dat 16 100/mmHg 16 0 0 0 0 ABP\n"))


@row("another format")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    (folder / "x.pdf").write_bytes(b"%PDF-1.7")
    return read_recording(folder / "x.pdf")


@row("nothing there")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    record(folder)
    return read_recording(folder / "other")


@row("a directory without recordings")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    (folder / "README.txt").write_text("nothing yet\n")
    return find_recordings([folder])


@row("no permission")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    path = timed(folder, T)

    def refuse(self: Path, *_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)  # these tests may run as root, who may read everything
    return read_recording(path)


@row("disk full while reading a table")
def _(folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    class FullDisk:
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    path = timed(folder, T)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: FullDisk())
    return read_recording(path)


@row("disk full while writing")
def _(folder: Path, _: pytest.MonkeyPatch) -> object:
    with replacing(folder / "x.csv", overwrite=False):
        raise OSError(28, "No space left on device")


def lead(signal: object, fs: float = FS) -> BeatAnnotations:
    return classify(Recording("x", np.asarray(signal, dtype=np.float64)[:, None], fs, ("MLII",)))


def wandering(n_samples: int) -> np.ndarray:
    return 0.05 * np.sin(2 * np.pi * 0.3 * np.arange(n_samples) / FS)


@row("2 s only")
def _(_: Path, __: pytest.MonkeyPatch) -> object:
    signal, rpeaks = synthetic_ecg(FS, 2.0)
    found = lead(signal)
    assert 0 < len(found.samples) <= len(rpeaks)
    return found


@row("one beat (3 s)")
def _(_: Path, __: pytest.MonkeyPatch) -> object:
    signal, rpeaks = synthetic_ecg(FS, 3.0, rr_s=100, first_s=1.5)
    found = lead(signal)
    assert len(found.samples) == len(rpeaks) == 1
    assert abs(found.samples[0] - rpeaks[0]) <= 2
    assert np.isnan([found.rr_before_s, found.rr_after_s]).all()
    return found


@row("no beats")
def _(_: Path, __: pytest.MonkeyPatch) -> object:
    found = lead(wandering(15_000))
    assert len(found.samples) == 0
    return found


@row("flat line")
def _(_: Path, __: pytest.MonkeyPatch) -> object:
    found = lead(np.zeros(15_000))
    assert len(found.samples) == 0
    assert (found.noisy.tolist(), found.noisy_reasons) == ([[0, 15_000]], ("flat",))
    return found


@row("all samples missing")
def _(_: Path, __: pytest.MonkeyPatch) -> object:
    found = lead(np.full(15_000, np.nan))
    assert len(found.samples) == 0
    assert (found.noisy.tolist(), found.noisy_reasons) == ([[0, 15_000]], ("missing",))
    return found


@row("saturation")
def _(_: Path, __: pytest.MonkeyPatch) -> object:
    signal, rpeaks = synthetic_ecg(FS, 60)
    signal[5000:8000] = 5.0
    found = lead(signal)
    assert any(start <= 5100 and stop >= 7900 for start, stop in found.noisy)
    assert not ((found.samples > 5000) & (found.samples < 8000)).any()
    elsewhere = rpeaks[(rpeaks < 4000) | (rpeaks > 9000)]
    assert all(np.abs(found.samples - rpeak).min() <= 2 for rpeak in elsewhere)
    return found


def test_every_row_of_the_page_has_its_test() -> None:
    assert set(ROWS) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_row(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, _, said = ROWS[name].partition(":")
    if outcome == "error":
        with pytest.raises(EcgkanError) as raised:
            CASES[name](tmp_path, monkeypatch)
        assert re.fullmatch(pattern(said), str(raised.value)), raised.value
        return
    result = CASES[name](tmp_path, monkeypatch)
    assert isinstance(result, BeatAnnotations if outcome == "classified" else Recording)
    if "`" in said and isinstance(result, Recording):
        assert any(re.fullmatch(pattern(said), note) for note in result.notes)


def pattern(said: str) -> str:
    message = said.strip().strip("`")
    return ".*".join(re.escape(part) for part in message.split("…")) + ".*"
