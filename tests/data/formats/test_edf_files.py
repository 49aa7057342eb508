"""EDF and BDF files as edfio and pyedflib write and read them, with gaps, and damaged."""

import datetime
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecgkan.data.recording import open_recording, read_recording
from ecgkan.errors import DataError

KINDS: dict[str, tuple[type, type, Callable]] = {
    "edf": (edfio.Edf, edfio.EdfSignal, edfio.read_edf),
    "bdf": (edfio.Bdf, edfio.BdfSignal, edfio.read_bdf),
}


def write(
    path: Path, signals: dict[str, tuple[NDArray[np.float64], float, str]], *, record_s: float = 1.0, **fields: object
) -> Path:
    """Write `name -> (values, fs, dimension)` with edfio."""
    kind, signal, _ = KINDS[path.suffix[1:]]
    columns = [signal(values, fs, label=name, physical_dimension=unit) for name, (values, fs, unit) in signals.items()]
    kind(columns, data_record_duration=record_s, **fields).write(path)
    return path


def noise(n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("suffix", KINDS)
def test_values_are_those_of_edfio(suffix: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / f"x.{suffix}", {"ECG I": (noise(2500), 250, "mV"), "ECG II": (noise(2500, 1) * 1000, 250, "uV")}
    )
    expected = np.column_stack([signal.data for signal in KINDS[suffix][2](path).signals]) * [1, 1e-3]
    with open_recording(path) as recording:
        assert (recording.fs, recording.leads, recording.n_samples) == (250.0, ("ECG I", "ECG II"), 2500)
        assert recording.choose_lead().name == "ECG II"
        assert recording.notes == ()
        np.testing.assert_array_equal(recording.read(), expected)
        np.testing.assert_array_equal(recording.read(249, 751, [1]), expected[249:751, 1:])


@given(
    n_records=st.integers(1, 20), per_record=st.integers(1, 7), suffix=st.sampled_from(["edf", "bdf"]), data=st.data()
)
@settings(max_examples=30, deadline=None)
def test_any_part(
    n_records: int, per_record: int, suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fs = 125.0
    n_samples = n_records * per_record
    values = noise(n_samples)
    path = write(tmp_path_factory.mktemp("any") / f"x.{suffix}", {"ECG": (values, fs, "mV")}, record_s=per_record / fs)
    start = data.draw(st.integers(0, n_samples))
    stop = data.draw(st.integers(start, n_samples))
    with open_recording(path) as recording:
        assert recording.fs == pytest.approx(fs)
        found = recording.read(start, stop)[:, 0]
        np.testing.assert_array_equal(found, KINDS[suffix][2](path).signals[0].data[start:stop])
        np.testing.assert_allclose(found, values[start:stop], atol=2e-4)


def test_signals_at_other_rates_and_in_other_units_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "sleep.edf",
        {
            "EEG C3-A2": (noise(1000), 100, "uV"),
            "ECG": (noise(2000), 200, "uV"),
            "SaO2": (noise(10), 1, "%"),
            "Pressure": (noise(2000), 200, "mmHg"),
            "EMG": (noise(2000), 200, "uV"),
        },
    )
    recording = read_recording(path)
    assert (recording.fs, recording.leads) == (200.0, ("ECG", "EMG"))
    assert recording.choose_lead().name == "ECG"
    assert recording.notes == ("left out: EEG C3-A2 (100 Hz, not 200 Hz), SaO2 (in %), Pressure (in mmHg)",)


def test_start_with_the_year_in_four_digits(tmp_path: Path) -> None:
    started = datetime.datetime(2031, 3, 2, 23, 59, 58)
    path = write(
        tmp_path / "x.edf",
        {"ECG": (noise(250), 250, "mV")},
        recording=edfio.Recording(startdate=started.date()),
        starttime=started.time(),
    )
    assert read_recording(path).started == started


def with_gaps(path: Path, onsets_s: list[float], marker: bytes = b"EDF+D") -> NDArray[np.float64]:
    """Write an EDF+ file of one-second records and set when each of them starts, as discontinuous files do."""
    values = noise(250 * len(onsets_s))
    kind, signal, _ = KINDS[path.suffix[1:]]
    edf = kind(
        [signal(values, 250, label="ECG", physical_dimension="mV")],
        annotations=[edfio.EdfAnnotation(0.1, None, "a text that makes room for longer times")],
        data_record_duration=1,
    )
    edf.write(path)
    content = bytearray(path.read_bytes())
    content[192:197] = marker
    width = 3 if path.suffix == ".bdf" else 2
    samples = [signal.samples_per_data_record for signal in edf._signals]
    header_bytes, record_bytes = 256 * (1 + len(samples)), sum(samples) * width
    is_first = edf._signals[0]._is_annotation_signal
    for i, onset in enumerate(onsets_s):
        place = header_bytes + i * record_bytes + (0 if is_first else samples[0] * width)
        room = (samples[0] if is_first else samples[1]) * width
        content[place : place + room] = f"+{onset:g}\x14\x14\x00".encode().ljust(room, b"\x00")
    path.write_bytes(bytes(content))
    return values


@pytest.mark.parametrize("suffix", KINDS)
def test_gaps_are_missing_samples_on_the_timeline(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    values = with_gaps(path, [0.5, 1.5, 4.5, 5.5, 7.504], f"{suffix.upper()}+D".encode())
    expected = np.full(8 * 250 + 1, np.nan)
    for k, start in enumerate((0, 250, 1000, 1250, 1751)):
        expected[start : start + 250] = values[250 * k : 250 * (k + 1)]
    with open_recording(path) as recording:
        assert recording.n_samples == 2001
        assert recording.notes == ("2 gaps in the recording, 3 s in all",)
        np.testing.assert_allclose(recording.read()[:, 0], expected, atol=2e-4)
        for start, stop in ((200, 600), (500, 1000), (499, 1001), (1749, 2001), (600, 601)):
            np.testing.assert_allclose(recording.read(start, stop)[:, 0], expected[start:stop], atol=2e-4)


def test_times_of_a_continuous_file_are_not_needed(tmp_path: Path) -> None:
    values = with_gaps(tmp_path / "x.edf", [0, 1, 10], b"EDF+C")
    recording = read_recording(tmp_path / "x.edf")
    np.testing.assert_allclose(recording.signals[:, 0], values, atol=2e-4)


def test_records_that_go_backwards(tmp_path: Path) -> None:
    with_gaps(tmp_path / "x.edf", [0, 1, 0.5])
    with pytest.raises(DataError, match=r"data record 2 starts at 0\.5 s, before record 1 ends at 2 s"):
        read_recording(tmp_path / "x.edf")


def edited(path: Path, offset: int, text: str, width: int = 8) -> Path:
    content = bytearray(path.read_bytes())
    content[offset : offset + width] = text.ljust(width).encode("latin-1")
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("offset", "text", "message"),
    [
        (236, "11", "is too short: it holds 10 data records, its header announces 11"),
        (236, "many", "states 'many' as number of data records; expected a number"),
        (244, "0", "data records of 0 s, so no sampling rate"),
        (244, "-1", "data records of -1 s"),
        (244, "10", "sampling rate 25 Hz, expected 100 to 2000 Hz"),
        (256 + 96, "mmHg", None),
        (256 + 216, "0", "states 0 samples per data record of ECG, so 0 Hz"),
        (256 + 112, "-3.0", None),
    ],
)
def test_headers_that_make_no_sense(offset: int, text: str, message: str | None, tmp_path: Path) -> None:
    path = write(tmp_path / "x.edf", {"ECG": (noise(2500), 250, "mV")})
    edited(path, offset, text)
    if message is None:  # a named ECG lead is kept whatever its unit; another range is another calibration
        assert read_recording(path).leads == ("ECG",)
        return
    with pytest.raises(DataError, match=message):
        read_recording(path)


def test_a_range_of_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.edf", {"ECG": (noise(2500), 250, "mV")})
    content = path.read_bytes()
    edited(path, 256 + 104, content[256 + 112 : 256 + 120].decode())
    with pytest.raises(DataError, match=r"gives ECG a range .* expected two different values"):
        read_recording(path)


def test_a_recorder_that_was_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "x.edf", {"ECG": (noise(2500), 250, "mV")})
    edited(path, 236, "-1")
    path.write_bytes(path.read_bytes()[:-300])
    recording = read_recording(path)
    assert recording.n_samples == 2250
    assert recording.notes == ("the header leaves the number of data records open",)
    edited(path, 236, "5")
    recording = read_recording(path)
    assert recording.n_samples == 1250
    assert "its header announces 5" in recording.notes[0]


@pytest.mark.parametrize("suffix", KINDS)
def test_files_that_pyedflib_wrote(suffix: str, tmp_path: Path) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    path = tmp_path / f"x.{suffix}"
    values = noise(2500) * 500
    file_type = pyedflib.FILETYPE_EDFPLUS if suffix == "edf" else pyedflib.FILETYPE_BDFPLUS
    with pyedflib.EdfWriter(str(path), 1, file_type=file_type) as writer:
        top = 32767 if suffix == "edf" else 8388607
        writer.setSignalHeader(
            0,
            {
                "label": "II", "dimension": "uV", "sample_frequency": 250, "physical_min": -5000.0,
                "physical_max": 5000.0, "digital_min": -top - 1, "digital_max": top, "transducer": "", "prefilter": "",
            },
        )  # fmt: skip
        writer.setStartdatetime(datetime.datetime(2020, 1, 2, 3, 4, 5))
        writer.writeSamples([values])
    with pyedflib.EdfReader(str(path)) as reader:
        expected = reader.readSignal(0) / 1000
    recording = read_recording(path)
    np.testing.assert_allclose(recording.signals[:, 0], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(recording.signals[:, 0], values / 1000, atol=2e-4)
    assert recording.started == datetime.datetime(2020, 1, 2, 3, 4, 5)
