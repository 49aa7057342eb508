"""NumPy arrays and Parquet files: what was saved is read, in parts, and what is missing is asked for."""

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgkan.data.recording import open_recording, read_recording
from ecgkan.errors import DataError

SIGNALS = np.random.default_rng(0).standard_normal((500, 2))


@given(
    n_samples=st.integers(1, 60),
    n_leads=st.integers(0, 3),
    dtype=st.sampled_from(["f8", "f4", ">f4", "i2", "u2", "i4", ">i2"]),
    order=st.sampled_from("CF"),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_any_part_of_any_array(
    n_samples: int, n_leads: int, dtype: str, order: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.npy"
    shape = (n_samples, n_leads) if n_leads and n_leads <= n_samples else (n_samples,)
    array = np.random.default_rng(0).integers(0, 1000, shape).astype(dtype, order=order)
    np.save(path, array)
    start = data.draw(st.integers(0, n_samples))
    stop = data.draw(st.integers(start, n_samples))
    with open_recording(path, fs=250, units="uV") as recording:
        expected = array.reshape(n_samples, -1).astype(np.float64) * 1e-3
        np.testing.assert_array_equal(recording.read(start, stop), expected[start:stop])


def test_the_long_axis_is_time(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SIGNALS.T)
    recording = read_recording(tmp_path / "x.npy", fs=250, units="mV")
    np.testing.assert_array_equal(recording.signals, SIGNALS)
    assert recording.leads == ("column 0", "column 1")
    assert recording.notes[0] == "array of shape [2, 500] taken as [n_leads, n_samples]: its long axis is time"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_may_say_everything(save: object, tmp_path: Path) -> None:
    save(tmp_path / "x.npz", signals=SIGNALS * 1000, fs=360, units="uV", leads=["MLII", "V5"])
    with open_recording(tmp_path / "x.npz") as recording:
        assert (recording.fs, recording.leads, recording.notes) == (360.0, ("MLII", "V5"), ())
        np.testing.assert_allclose(recording.read(10, 20), SIGNALS[10:20], rtol=1e-12)


def test_an_archive_that_says_little(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", recorded=SIGNALS[:, 0], version=3)
    recording = read_recording(tmp_path / "x.npz", fs=250, units="adu:200")
    np.testing.assert_allclose(recording.signals[:, 0], SIGNALS[:, 0] / 200)
    assert "signals taken from the array named recorded" in recording.notes
    np.savez(tmp_path / "two.npz", a=SIGNALS, b=SIGNALS)
    with pytest.raises(DataError, match="holds the arrays a, b; expected the signals under the name signals"):
        read_recording(tmp_path / "two.npz", fs=250, units="mV")


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (SIGNALS, {"units": "mV"}, "does not say its sampling rate; give it: --fs"),
        (SIGNALS, {"fs": 250}, "does not say the unit of column 0; give it: --units"),
        (np.zeros((2, 3, 4)), {"fs": 250, "units": "mV"}, r"shape \[2, 3, 4\]; expected \[n_samples\]"),
        (np.zeros(0), {"fs": 250, "units": "mV"}, r"x\.npy"),
        (np.array(["a", "b"]), {"fs": 250, "units": "mV"}, "expected numbers"),
        (np.array([1j, 2j]), {"fs": 250, "units": "mV"}, "holds complex128; expected numbers"),
        (np.array([{}, {}]), {"fs": 250, "units": "mV"}, "saved without pickle"),
    ],
)
def test_arrays_that_are_no_recordings(array: object, options: dict[str, object], message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=message):
        read_recording(tmp_path / "x.npy", **options)


def test_cut_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SIGNALS)
    np.savez(tmp_path / "x.npz", signals=SIGNALS)
    for name in ("x.npy", "x.npz"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(DataError, match="cannot be read as NumPy data"):
            read_recording(path, fs=250, units="mV")


def test_parquet_with_time_in_parts_and_gaps(tmp_path: Path) -> None:
    stamps = pd.Timestamp("2024-05-01 08:00:00") + pd.to_timedelta(np.arange(500) * 4, unit="ms")
    table = pd.DataFrame({"when": stamps, "MLII_uV": SIGNALS[:, 0] * 1000, "V5_uV": SIGNALS[:, 1] * 1000, "label": "N"})
    table.drop(range(100, 200)).to_parquet(tmp_path / "x.parquet", row_group_size=64, index=False)
    expected = SIGNALS.copy()
    expected[100:200] = np.nan
    with open_recording(tmp_path / "x.parquet") as recording:
        assert (recording.fs, recording.leads, recording.n_samples) == (250.0, ("MLII", "V5"), 500)
        assert recording.started == datetime.datetime(2024, 5, 1, 8)
        assert recording.notes == ("time column 'when': 250 Hz", "1 gap by the time column, 0.4 s in all")
        np.testing.assert_allclose(recording.read(), expected, atol=1e-6)
        np.testing.assert_allclose(recording.read(95, 205, [1]), expected[95:205, 1:], atol=1e-6)


def test_parquet_without_time(tmp_path: Path) -> None:
    table = pd.DataFrame(SIGNALS, columns=["I", "II"])
    table.loc[7, "II"] = None
    table.to_parquet(tmp_path / "x.pq")
    recording = read_recording(tmp_path / "x.pq", fs=500, units="mV")
    np.testing.assert_allclose(recording.signals, table.to_numpy(), atol=1e-6)
    with pytest.raises(DataError, match="does not say its sampling rate"):
        read_recording(tmp_path / "x.pq", units="mV")
    with pytest.raises(DataError, match="does not say the unit of I"):
        read_recording(tmp_path / "x.pq", fs=500)


def test_what_the_metadata_of_parquet_says(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"II": SIGNALS[:, 0]}).replace_schema_metadata({"fs": "360", "units": "mV"})
    pq.write_table(table, tmp_path / "x.parquet")
    assert read_recording(tmp_path / "x.parquet").fs == 360.0


def test_damaged_parquet(tmp_path: Path) -> None:
    pd.DataFrame(SIGNALS, columns=["I", "II"]).to_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        read_recording(tmp_path / "x.parquet", fs=250, units="mV")
    pd.DataFrame({"name": ["a", "b"]}).to_parquet(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="holds the columns name; expected one of numbers"):
        read_recording(tmp_path / "text.parquet", fs=250, units="mV")
