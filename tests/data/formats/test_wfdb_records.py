"""WFDB records in every format: read in parts as wfdb reads them whole, and as bytes packed by hand say."""

import datetime
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.data.formats.packing import BITS, write_packed

from ecgkan.data.recording import open_recording, read_recording
from ecgkan.errors import DataError, DataNotFoundError

FLAC_BITS = {"508": 8, "516": 16, "524": 24}


def expected_mv(digital: NDArray[np.integer], bits: int, gain: float = 100) -> NDArray[np.float64]:
    values = (digital - 3) / gain
    values[digital == -(2 ** (bits - 1))] = np.nan
    return values


def random_digital(bits: int) -> NDArray[np.integer]:
    top = 2 ** (bits - 1)
    digital = np.random.default_rng(0).integers(-top + 1, top, (401, 3))
    digital[100:150, 1] = -top  # the invalid marker
    return digital


def check_parts(path: Path, expected: NDArray[np.float64]) -> None:
    with open_recording(path) as recording:
        assert (recording.n_samples, recording.fs, recording.leads) == (401, 250.0, ("ECG1", "ECG2", "ECG3"))
        for start, stop in ((0, 401), (0, 1), (1, 2), (99, 151), (200, 401), (400, 401), (7, 7)):
            np.testing.assert_array_equal(recording.read(start, stop), expected[start:stop])
        np.testing.assert_array_equal(recording.read(90, 110, [2, 1]), expected[90:110, [2, 1]])
    assert np.isnan(read_recording(path).signals).sum() == 50


@pytest.mark.parametrize("fmt", BITS)
def test_every_packed_format_in_parts(fmt: str, tmp_path: Path) -> None:
    digital = random_digital(BITS[fmt])
    check_parts(write_packed(tmp_path, fmt, digital), expected_mv(digital, BITS[fmt]))


@pytest.mark.parametrize("fmt", FLAC_BITS)
def test_every_compressed_format_in_parts(fmt: str, tmp_path: Path) -> None:
    digital = random_digital(FLAC_BITS[fmt])
    wfdb.wrsamp(
        "r", 250, units=["mV"] * 3, sig_name=["ECG1", "ECG2", "ECG3"], d_signal=digital, fmt=[fmt] * 3,
        adc_gain=[100] * 3, baseline=[3] * 3, write_dir=str(tmp_path),
    )  # fmt: skip
    check_parts(tmp_path / "r.hea", expected_mv(digital, FLAC_BITS[fmt]))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_part_of_any_length(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    fmt = data.draw(st.sampled_from(list(BITS)))
    n_samples, n_leads = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4))
    digital = np.random.default_rng(n_samples).integers(-100, 100, (n_samples, n_leads))
    path = write_packed(tmp_path_factory.mktemp("any"), fmt, digital)
    start = data.draw(st.integers(0, n_samples))
    stop = data.draw(st.integers(start, n_samples))
    with open_recording(path) as recording:
        np.testing.assert_array_equal(recording.read(start, stop), ((digital - 3) / 100)[start:stop])


def test_the_header_says_when_it_started(tmp_path: Path) -> None:
    path = write_packed(tmp_path, "16", np.zeros((10, 1), int))
    path.write_text(path.read_text().replace("250 10", "250 10 10:11:12.5 03/04/2021"))
    assert read_recording(path).started == datetime.datetime(2021, 4, 3, 10, 11, 12, 500_000)
    path.write_text(path.read_text().replace(" 03/04/2021", ""))
    assert read_recording(path).started is None
    assert read_recording(path).notes == ("starts at 10:11:12.500000 by the header, which gives no date",)


def test_differences_are_summed_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgkan.data.formats.wfdb_records._CHUNK_FRAMES", 100)
    steps = np.random.default_rng(2).integers(-20, 20, (1000, 2))
    (tmp_path / "r.dat").write_bytes(steps.astype("i1").tobytes())
    (tmp_path / "r.hea").write_text("r 2 250 1000\nr.dat 8 200 12 0 11 0 0 ECG1\nr.dat 8 200 12 0 -7 0 0 ECG2\n")
    expected = (np.cumsum(steps, axis=0) + np.array([11, -7])) / 200
    with open_recording(tmp_path / "r") as recording:
        np.testing.assert_allclose(recording.read(), expected, atol=1e-5)
        np.testing.assert_allclose(recording.read(640, 650, [1]), expected[640:650, 1:], atol=1e-5)


def test_skewed_signals_are_aligned(tmp_path: Path) -> None:
    digital = np.arange(400).reshape(200, 2).astype("<i2")
    (tmp_path / "r.dat").write_bytes(digital.tobytes())
    (tmp_path / "r.hea").write_text("r 2 250 200\nr.dat 16 1 16 0 0 0 0 ECG1\nr.dat 16:3 1 16 0 0 0 0 ECG2\n")
    with open_recording(tmp_path / "r") as recording:
        part = recording.read(190, 200)
    np.testing.assert_array_equal(part[:, 0], digital[190:, 0])
    np.testing.assert_array_equal(part[:, 1], [*digital[193:, 1], np.nan, np.nan, np.nan])


def test_several_samples_per_frame_keep_their_own_rate(tmp_path: Path) -> None:
    frames = np.arange(300 * 5).reshape(300, 5).astype("<i2")
    (tmp_path / "r.dat").write_bytes(frames.tobytes())
    (tmp_path / "r.hea").write_text("r 2 62.5 300\nr.dat 16x4 1 16 0 0 0 0 ECG\nr.dat 16 1/mmHg 16 0 0 0 0 ABP\n")
    recording = read_recording(tmp_path / "r")
    assert (recording.fs, recording.leads) == (250.0, ("ECG",))
    np.testing.assert_array_equal(recording.signals[:, 0], frames[:, :4].reshape(-1))
    assert recording.notes == ("left out: ABP (in mmHg)",)
    with open_recording(tmp_path / "r") as opened:
        np.testing.assert_array_equal(opened.read(3, 21)[:, 0], recording.signals[3:21, 0])


@pytest.fixture
def two_segments(tmp_path: Path) -> Path:
    write_packed(tmp_path, "16", np.arange(200).reshape(100, 2), name="s1")
    write_packed(tmp_path, "212", np.arange(100).reshape(50, 2), name="s2", gain=50)
    return tmp_path


def test_segments_in_fixed_layout(two_segments: Path) -> None:
    (two_segments / "m.hea").write_text("m/2 2 250 150\ns1 100\ns2 50\n")
    expected = np.concatenate([(np.arange(200).reshape(100, 2) - 3) / 100, (np.arange(100).reshape(50, 2) - 3) / 50])
    with open_recording(two_segments / "m") as recording:
        np.testing.assert_array_equal(recording.read(), expected)
        np.testing.assert_array_equal(recording.read(95, 110, [1]), expected[95:110, 1:])


def test_segments_in_variable_layout_with_a_gap(two_segments: Path) -> None:
    (two_segments / "s2.hea").write_text(
        (two_segments / "s2.hea").read_text().replace("ECG2", "MLII").replace("/mV", "/uV", 1)
    )
    (two_segments / "m_layout.hea").write_text(
        "m_layout 3 250 0\n~ 0 1 0 0 0 0 0 ECG2\n~ 0 1 0 0 0 0 0 MLII\n~ 0 1 0 0 0 0 0 ECG1\n"
    )
    (two_segments / "m.hea").write_text("m/4 3 250 180\nm_layout 0\ns1 100\n~ 30\ns2 50\n")
    first, second = (np.arange(200).reshape(100, 2) - 3) / 100, (np.arange(100).reshape(50, 2) - 3) / 50
    expected = np.full((180, 3), np.nan)
    expected[:100, 0], expected[:100, 2] = first[:, 1], first[:, 0]
    expected[130:, 1], expected[130:, 2] = second[:, 1], second[:, 0] / 1000
    with open_recording(two_segments / "m") as recording:
        assert recording.leads == ("ECG2", "MLII", "ECG1")
        np.testing.assert_allclose(recording.read(), expected, rtol=1e-12)
        np.testing.assert_allclose(recording.read(90, 140, [2]), expected[90:140, 2:], rtol=1e-12)
        assert np.isnan(recording.read(100, 130)).all()


@pytest.mark.parametrize(
    ("scaling", "units", "expected_mv", "note"),
    [
        ("200/mV", None, 1.0, None),
        ("0.2/uV", None, 1.0, None),
        ("0.2/µV", None, 1.0, None),
        ("0.2/microvolts", None, 1.0, None),
        ("200000/V", None, 1.0, None),
        ("0/mV", None, 1.0, "no gain in the header"),
        ("", None, 1.0, "no gain in the header"),
        ("1/adu", None, 1.0, "taken as 200 adu/mV"),
        ("1/adu", "adu:100", 2.0, "as asked for"),
        ("200/strange", None, 1.0, "unknown unit 'strange', taken as mV"),
        ("200/strange", "uV", 0.001, "as asked for"),
    ],
)
def test_units_of_the_header(
    scaling: str, units: str | None, expected_mv: float, note: str | None, tmp_path: Path
) -> None:
    (tmp_path / "r.dat").write_bytes(np.full(100, 200, dtype="<i2").tobytes())
    (tmp_path / "r.hea").write_text(f"r 1 250 100\nr.dat 16 {scaling}{' 16 0 0 0 0 ECG' if scaling else ''}\n", "utf-8")
    recording = read_recording(tmp_path / "r", units=units)
    np.testing.assert_allclose(recording.signals, expected_mv)
    assert (note is None and recording.notes == ()) or any(note in said for said in recording.notes if note)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("r 1 0 100\nr.dat 16 200 16 0 0 0 0 ECG\n", "sampling rate of 0 Hz"),
        ("r 1 -250 100\nr.dat 16 200 16 0 0 0 0 ECG\n", "sampling rate of -250 Hz"),
        ("r 1\nr.dat 16 200 16 0 0 0 0 ECG\n", "does not say its sampling rate; give it: --fs"),
        ("r 1 50 100\nr.dat 16 200 16 0 0 0 0 ECG\n", "50 Hz, expected 100 to 2000 Hz"),
        ("r 2 250 100\nr.dat 16 200 16 0 0 0 0 ECG\n", "announces 2 signals and describes 1"),
        ("r 0 250 100\n", "announces 0 signals"),
        ("r 1 250 101\nr.dat 16 200 16 0 0 0 0 ECG\n", "r.dat is too short: it holds 100 samples .* announces 101"),
        ("r many 250 100\nr.dat 16 200 16 0 0 0 0 ECG\n", "first line is 'r many 250 100'"),
        ("", "first line is ''"),
        ("r 1 250 100\nr.dat 99 200 16 0 0 0 0 ECG\n", "cannot be read as a WFDB record"),
        ("r 1 250 100\nr.dat 16 200/mmHg 16 0 0 0 0 ABP\n", r"holds no ECG: .* ABP \(mmHg\)"),
        ("r/1 1 250 150\ns1 100\n", "announces 150 samples, its segments hold 100"),
        ("r/2 2 250 100\ns1 100\n", "announces 2 segments and lists 1"),
        ("r/1 2 250 90\ns1 90\n", "holds 100 samples, 90 are announced"),
        ("r/1 2 500 100\ns1 100\n", "one of 250 Hz"),
    ],
)
def test_headers_that_make_no_sense(header: str, message: str, tmp_path: Path) -> None:
    write_packed(tmp_path, "16", np.arange(200).reshape(100, 2), name="s1")
    (tmp_path / "r.dat").write_bytes(bytes(200))
    (tmp_path / "r.hea").write_text(header)
    with pytest.raises(DataError, match=message):
        read_recording(tmp_path / "r")


def test_a_rate_that_the_header_lacks_is_given_and_one_that_it_states_is_kept(tmp_path: Path) -> None:
    (tmp_path / "r.dat").write_bytes(bytes(200))
    (tmp_path / "r.hea").write_text("r 1\nr.dat 16 200 16 0 0 0 0 ECG\n")
    assert read_recording(tmp_path / "r", fs=250).n_samples == 100
    (tmp_path / "r.hea").write_text("r 1 500 100\nr.dat 16 200 16 0 0 0 0 ECG\n")
    assert read_recording(tmp_path / "r", fs=500).fs == 500
    with pytest.raises(DataError, match="states a sampling rate of 500 Hz, 250 Hz were asked for"):
        read_recording(tmp_path / "r", fs=250)
    with pytest.raises(DataError, match="states mV as the unit of ECG, uV was asked for"):
        read_recording(tmp_path / "r", units="uV")


def test_missing_segments_and_signal_files(two_segments: Path) -> None:
    (two_segments / "m.hea").write_text("m/2 2 250 150\ns1 100\ns3 50\n")
    with pytest.raises(DataNotFoundError, match=r"s3\.hea is not there"):
        read_recording(two_segments / "m")
    (two_segments / "s1.dat").unlink()
    with pytest.raises(DataNotFoundError, match=r"signal file that is not there \(s1\.dat\)"):
        read_recording(two_segments / "s1")


@pytest.mark.parametrize("name", ["100", "114", "208"])
def test_real_records_are_bit_for_bit_those_of_wfdb(name: str, mitdb_dir: Path) -> None:
    expected = wfdb.rdrecord(str(mitdb_dir / name)).p_signal
    with open_recording(mitdb_dir / name) as recording:
        np.testing.assert_array_equal(recording.read(0, 650_000), expected)
        np.testing.assert_array_equal(recording.read(123_457, 145_678, [1]), expected[123_457:145_678, 1:])
