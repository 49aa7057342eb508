"""Tables in text: what pandas, rdsamp and devices write is read back, and pandas reads the same from it."""

import datetime
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgkan.data.recording import open_recording, read_recording
from ecgkan.errors import DataError

FS = 250.0
T = np.arange(600) / FS
ECG = np.random.default_rng(0).standard_normal((600, 2)).round(3)
TABLE = pd.DataFrame({"time (s)": T, "MLII (mV)": ECG[:, 0], "V5 (mV)": ECG[:, 1]})
TIMED = (TABLE["time (s)"].map("{:.3f}".format), ECG[:, 0], ECG[:, 1])


def lines(template: str, *columns: object) -> str:
    return "".join(template.format(*row) + "\n" for row in zip(*columns, strict=True))


def stamps(form: str, first: str = "2024-02-29T23:59:59") -> list[str]:
    return list(pd.date_range(first, periods=600, freq="4ms").strftime(form))


def named(name: str, values: object = T) -> str:
    return pd.DataFrame({name: values, "ECG [uV]": (ECG[:, 0] * 1000).round()}).to_csv(index=False)


CLOCK = [f"{(86398 + t) // 3600 % 24:02.0f}:{(86398 + t) // 60 % 60:02.0f}:{(86398 + t) % 60:06.3f}" for t in T]
APPLE = (
    "Name,Jane\nRecorded Date,2024-05-01 10:11:12 +0200\nClassification,Sinus Rhythm\nSymptoms,\n"
    'Software Version,1.25\nDevice,"Watch4,2"\nSample Rate,250 hertz\n\nLead,Lead I\nUnit,µV\n\n'
)  # fmt: skip
SENSOR_NS = range(5 * 10**15, 5 * 10**15 + 600 * 4 * 10**6, 4 * 10**6)
POLAR = "Phone timestamp;sensor timestamp [ns];timestamp [ms];ecg [uV]\n"

TEXTS: dict[str, tuple[str, dict[str, object], tuple[str, ...]]] = {
    "commas": (TABLE.to_csv(index=False), {}, ("MLII", "V5")),
    "with row numbers": (TABLE.to_csv(), {}, ("MLII", "V5")),
    "tabs": (TABLE.to_csv(index=False, sep="\t"), {}, ("MLII", "V5")),
    "bars": (TABLE.to_csv(index=False, sep="|"), {}, ("MLII", "V5")),
    "decimal commas": (TABLE.to_csv(index=False, sep=";", decimal=","), {}, ("MLII", "V5")),
    "quotes": (TABLE.to_csv(index=False, quoting=1), {}, ("MLII", "V5")),
    "windows line ends": (TABLE.to_csv(index=False, lineterminator="\r\n"), {}, ("MLII", "V5")),
    "iso stamps": (named("timestamp", stamps("%Y-%m-%d %H:%M:%S.%f")), {}, ("ECG",)),
    "iso stamps with zone": (named("Date-Time", stamps("%Y-%m-%dT%H:%M:%S.%f+01:00")), {}, ("ECG",)),
    "clock over midnight": (named("time", CLOCK), {}, ("ECG",)),
    "day and clock": (named("time", stamps("%d.%m.%Y %H:%M:%S.%f")), {}, ("ECG",)),
    "time in ms": (named("time_ms", T * 1000), {}, ("ECG",)),
    "time in us": (named("timestamp [us]", T * 1e6), {}, ("ECG",)),
    "time of no unit": (named("t", 4.0 * np.arange(600)), {}, ("ECG",)),
    "epoch in ms": (named("timestamp", 1.7e12 + 4 * np.arange(600)), {}, ("ECG",)),
    "rdsamp -p": (lines("{:>8}\t{:8.3f}\t{:8.3f}", *TIMED), {"units": "mV"}, ("column 2", "column 3")),
    "rdsamp -p -v": (
        "   Elapsed time\tMLII\tV5\n     seconds\tmV\tmV\n" + lines("{:>8}\t{:8.3f}\t{:8.3f}", *TIMED), {},
        ("MLII", "V5"),
    ),
    "rdsamp -p -v -c": (
        "'Elapsed time','MLII','V5'\n'hh:mm:ss.mmm','mV','mV'\n" + lines("'0:0{}',{:.3f},{:.3f}", *TIMED), {},
        ("MLII", "V5"),
    ),
    "rdsamp -c": (
        "'sample interval','MLII','V5'\n'0.004 sec','mV','mV'\n" + lines("{},{:.3f},{:.3f}", range(600), *ECG.T), {},
        ("MLII", "V5"),
    ),
    "sample numbers": (
        "'sample #','MLII','V5'\n" + lines("{},{:.0f},{:.0f}", range(600), *(ECG.T * 1000)),
        {"units": "adu:1000", "fs": 250}, ("MLII", "V5"),
    ),
    "one bare column": (lines("{}", ECG[:, 0]), {"fs": 250, "units": "mV"}, ("column 1",)),
    "one column of decimal commas": (
        lines("{}", [f"{v:.3f}".replace(".", ",") for v in ECG[:, 0]]), {"fs": 250, "units": "mV"}, ("column 1",),
    ),
    "array of pandas": (pd.DataFrame(ECG).to_csv(index=False), {"fs": 250, "units": "mV"}, ("column 1", "column 2")),
    "array of pandas with rows": (pd.DataFrame(ECG).to_csv(), {"fs": 250, "units": "mV"}, ("column 2", "column 3")),
    "said in comments": ("# sampling rate: 250 Hz\n# units = mV\nECG\n" + lines("{}", ECG[:, 0]), {}, ("ECG",)),
    "commented header": ("% fs 250\n% MLII (mV), V5 (mV)\n" + lines("{}, {}", *ECG.T), {}, ("MLII", "V5")),
    "watch": (APPLE + lines("{:.0f}", ECG[:, 0] * 1000), {}, ("I",)),
    "chest strap": (
        POLAR + lines("{};{};{};{:.0f}", stamps("%Y-%m-%dT%H:%M:%S.%f"), SENSOR_NS, T * 1000, ECG[:, 0] * 1000), {},
        ("ecg",),
    ),
    "trailing delimiters": ("time,ECG (mV)\n" + lines("{},{},", T, ECG[:, 0]), {}, ("ECG",)),
    "labels beside": (TABLE.assign(label="N", hr=60, resp=0.1).to_csv(index=False), {}, ("MLII", "V5")),
    "sparse notes beside": (TABLE.assign(ann=["N", *[None] * 599]).to_csv(index=False), {}, ("MLII", "V5")),
    "twelve leads": ("time (s),I (mV),II (mV)\n" + lines("{},{},{}", T, *ECG.T), {}, ("I", "II")),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_what_others_write_is_read(kind: str, tmp_path: Path) -> None:
    text, options, leads = TEXTS[kind]
    (tmp_path / "x.csv").write_text(text, "utf-8", newline="")
    recording = read_recording(tmp_path / "x.csv", **options)
    assert (recording.fs, recording.leads, recording.n_samples) == (FS, leads, 600)
    np.testing.assert_allclose(recording.signals, ECG[:, : len(leads)], atol=1e-6)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("Zeit (s)\tAbleitung II (µV)\n" + lines("{}\t{}", T, ECG[:, 0] * 1000), encoding)
    recording = read_recording(tmp_path / "x.txt")
    assert (recording.fs, recording.leads) == (FS, ("Ableitung II",))
    np.testing.assert_allclose(recording.signals[:, 0], ECG[:, 0], atol=1e-6)


def test_starts_and_notes_are_kept(tmp_path: Path) -> None:
    (tmp_path / "iso.csv").write_text(TEXTS["iso stamps with zone"][0])
    recording = read_recording(tmp_path / "iso.csv")
    assert recording.started == datetime.datetime(2024, 2, 29, 23, 59, 59)
    assert recording.notes == ("time column 'Date-Time': 250 Hz",)
    (tmp_path / "watch.csv").write_text(APPLE + "1\n2\n")
    recording = read_recording(tmp_path / "watch.csv")
    assert recording.started == datetime.datetime(2024, 5, 1, 10, 11, 12)
    assert recording.notes == (
        "sampling rate of 250 Hz from the lines above the samples", "unit µV from the lines above the samples",
    )  # fmt: skip
    (tmp_path / "strap.csv").write_text(TEXTS["labels beside"][0])
    assert read_recording(tmp_path / "strap.csv").notes == (
        "columns left out: hr, resp, label", "time column 'time (s)': 250 Hz",
    )  # fmt: skip


@pytest.mark.parametrize("missing", ["", "NaN", "nan", "-", "NULL", "?", "inf", "N/A"])
def test_missing_cells_stay_where_they_are(missing: str, tmp_path: Path) -> None:
    cells = [missing if i in (5, 6, 400) else str(v) for i, v in enumerate(ECG[:, 0])]
    (tmp_path / "x.csv").write_text("time (s),ECG (mV)\n" + lines("{},{}", T, cells))
    signals = read_recording(tmp_path / "x.csv").signals[:, 0]
    assert np.flatnonzero(np.isnan(signals)).tolist() == [5, 6, 400]


def test_empty_lines_of_a_single_column_are_missing_samples(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("ECG (mV)\n0.5\n\n0.25\n" + "0.1\n" * 10)
    np.testing.assert_allclose(read_recording(tmp_path / "x.txt", fs=250).signals[:4, 0], [0.5, np.nan, 0.25, 0.1])


def test_gaps_in_time_are_missing_samples(tmp_path: Path) -> None:
    TABLE.drop(range(100, 225)).to_csv(tmp_path / "x.csv", index=False)
    expected = ECG.copy()
    expected[100:225] = np.nan
    with open_recording(tmp_path / "x.csv") as recording:
        assert recording.notes[-1] == "1 gap by the time column, 0.5 s in all"
        np.testing.assert_allclose(recording.read(), expected, atol=1e-6)
        for start, stop in ((90, 110), (150, 160), (200, 300), (225, 226)):
            np.testing.assert_allclose(recording.read(start, stop, [1]), expected[start:stop, 1:], atol=1e-6)


@given(
    values=st.lists(
        st.tuples(*[st.one_of(st.floats(-10, 10, width=32), st.just(float("nan")))] * 2), min_size=30, max_size=60
    ),
    sep=st.sampled_from([",", ";", "\t", "|"]),
    precision=st.sampled_from(["%.3f", "%g", "%.6e", None]),
)
@settings(max_examples=25, deadline=None)
def test_round_trip_through_pandas(
    values: list[tuple[float, float]], sep: str, precision: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("trip") / "x.csv"
    values[0] = values[-1] = (0.25, 0.5)
    table = pd.DataFrame(values, columns=["I (mV)", "II (mV)"])
    table.to_csv(path, index=False, sep=sep, float_format=precision)
    recording = read_recording(path, fs=500)
    expected = pd.read_csv(path, sep=sep).to_numpy(dtype=np.float64)
    np.testing.assert_allclose(recording.signals, expected, rtol=1e-6, atol=1e-6)


def test_a_long_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgkan.data.formats.text_tables._ROWS_AT_ONCE", 37)
    (tmp_path / "x.csv").write_text(TEXTS["clock over midnight"][0])
    recording = read_recording(tmp_path / "x.csv")
    np.testing.assert_allclose(recording.signals[:, 0], ECG[:, 0], atol=1e-6)
    assert (recording.fs, recording.n_samples) == (FS, 600)


def spoiled(row: int, cells: str) -> str:
    rows = TABLE.to_csv(index=False).splitlines()
    rows[row] = cells
    return "\n".join(rows)


def without_time() -> str:
    return TABLE[["MLII (mV)"]].to_csv(index=False)


BAD: list[tuple[Callable[[], str] | str, dict[str, object], str]] = [
    ("", {}, "is empty"),
    ("\n\n", {}, "is empty"),
    ("Dear reader,\nno numbers here.\n", {}, "text instead of numbers .it begins with 'Dear reader,'"),
    ("time,ECG (mV)\n", {}, "text instead of numbers"),
    ("a\0b\0c", {}, "holds binary data"),
    (spoiled(300, "1.196,abc,0.1"), {}, "line 301: 'abc' in column 'MLII' is no number"),
    (spoiled(300, "1.196,0.1,0.2,0.3"), {}, "line 301: 4 fields, 3 in the lines above"),
    (spoiled(300, "0.5,0.1,0.2"), {}, r"runs backwards at row 300 \(1\.192, then 0\.5\)"),
    (spoiled(300, ",0.1,0.2"), {}, "row 300 has no time in column 'time"),
    (without_time(), {}, "does not say its sampling rate; give it: --fs"),
    (named("time").replace(" [uV]", ""), {}, "does not say the unit of ECG; give it: --units"),
    (named("time"), {"fs": 500.0}, "the sampling rate is 250 Hz, 500 Hz were asked for"),
    (named("time"), {"units": "mV"}, "states uV as the unit of ECG, mV was asked for"),
    (named("time", 0 * T), {}, "stands still"),
    (named("time_ms", T), {}, "sampling rate 250000 Hz, expected 100 to 2000 Hz"),
    (pd.DataFrame({"time (s)": T, "resp (L)": T}).to_csv(index=False), {}, "holds no ECG: none of its signals is"),
    (pd.DataFrame({"time (s)": T}).to_csv(index=False), {}, "no column of numbers that can be an ECG"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "message"), BAD)
def test_texts_that_are_no_recordings(text: str, options: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_recording(tmp_path / "x.csv", **options)


def test_the_temporary_copy_is_deleted_when_reading_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "x.csv").write_text(spoiled(300, "0.5,0.1,0.2"))
    with pytest.raises(DataError, match="backwards"):
        read_recording(tmp_path / "x.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_full_disk_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    TABLE.to_csv(tmp_path / "x.csv", index=False)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(
        DataError, match=r"cannot keep a compact copy .*No space left on device; make room there or set TMPDIR"
    ):
        read_recording(tmp_path / "x.csv")
