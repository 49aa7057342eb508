"""BeatAnnotations: WFDB files against wfdb's own reader, tables, summaries, and nothing lost or overwritten."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference import annotated

from ecgkan import __version__
from ecgkan.aami import CLASSES
from ecgkan.errors import DataError, EcgkanError, OutputExistsError
from ecgkan.inference.annotation import (
    UNCERTAIN_BELOW,
    BeatAnnotations,
    ectopic_burden_percent,
    heart_rates,
    mark_flutter,
)
from ecgkan.inference.holter import summarize


def annotate(samples, classes, **changes) -> BeatAnnotations:
    """A minute with the given samples and classes; probabilities 0.8 for the class."""
    indices = np.array([CLASSES.index(letter) for letter in classes], dtype=np.int64)
    probabilities = (0.05 + 0.75 * np.eye(5)[indices]).astype(np.float32)
    return annotated.annotate(classes, samples, **({"duration_s": 60.0, "probabilities": probabilities} | changes))


beats = st.lists(st.tuples(st.integers(0, 3 * 10**9), st.sampled_from(CLASSES)), max_size=30).map(sorted)
rates = st.one_of(st.sampled_from([100.0, 250.0, 257.5, 360.0, 1000.0, 2000.0]), st.floats(100.0, 2000.0))


@settings(max_examples=60, deadline=None)
@given(beats, rates)
def test_wfdb_reads_back_every_sample_and_symbol(tmp_path_factory, listed, fs):
    folder = tmp_path_factory.mktemp("wfdb")
    samples, classes = [sample for sample, _ in listed], [letter for _, letter in listed]
    path = annotate(samples, classes, fs=fs).to_wfdb(folder)
    assert path == folder / "rec.ecgkan"
    read = wfdb.rdann(str(folder / "rec"), "ecgkan")
    assert read.sample.tolist() == samples
    assert read.symbol == classes
    if samples:
        assert read.fs == pytest.approx(fs, rel=1e-12)


noise = {"noisy": np.array([[5, 20], [20, 31], [90, 100]]), "noisy_reasons": ("missing", "noise", "flat")}


def test_noisy_stretches_are_marked_as_ec57_marks_a_shutdown(tmp_path):
    annotate([3, 40, 100], "NVS", **noise).to_wfdb(tmp_path)
    read = wfdb.rdann(str(tmp_path / "rec"), "ecgkan")
    assert read.sample.tolist() == [3, 5, 20, 20, 31, 40, 90, 100, 100]
    assert read.symbol == ["N", "~", "~", "~", "~", "V", "~", "~", "S"]
    assert read.subtype.tolist() == [0, -1, 0, -1, 0, 0, -1, 0, 0]
    notes = [note.rstrip("\0") for note in read.aux_note]
    assert notes == ["", "missing", "", "noise", "", "", "flat", "", ""]


def test_noise_without_beats_is_written_too(tmp_path):
    annotate([], "", **noise).to_wfdb(tmp_path)
    assert wfdb.rdann(str(tmp_path / "rec"), "ecgkan").symbol == ["~"] * 6


def test_flutter_is_marked_as_wfdb_marks_it(tmp_path):
    flutter = np.array([[50, 80], [80, 95]])
    annotate([3, 40, 100], "NVS", flutter=flutter, noisy=np.array([[45, 60]]), noisy_reasons=("noise",)).to_wfdb(
        tmp_path
    )
    read = wfdb.rdann(str(tmp_path / "rec"), "ecgkan")
    assert read.sample.tolist() == [3, 40, 45, 50, 60, 80, 80, 95, 100]
    assert read.symbol == ["N", "V", "~", "[", "~", "]", "[", "]", "S"]
    annotate([], "", record="none", flutter=flutter).to_wfdb(tmp_path)
    assert wfdb.rdann(str(tmp_path / "none"), "ecgkan").symbol == ["[", "]", "[", "]"]


def test_there_is_no_rr_interval_across_flutter():
    annotations = mark_flutter(annotate([100, 400, 700, 1000], "NNNN"), [(500, 600), (2000, 2100), (21_590, 1 << 60)])
    assert annotations.flutter.tolist() == [[500, 600], [2000, 2100], [21_590, 21_600]], "of 60 s"
    assert np.isnan(annotations.rr_after_s).tolist() == [False, True, False, True]
    assert np.isnan(annotations.rr_before_s).tolist() == [True, False, True, False]
    document = annotations.to_dict()
    assert document["flutter"][0] == {"start_s": 500 / 360, "stop_s": 600 / 360}
    assert document["summary"]["flutter"]["episodes"] == 3
    assert len(mark_flutter(annotate([], ""), [(1, 2)]).flutter) == 1


@pytest.mark.parametrize("annotator", ["qrs", "ecgkan2", "a_b-1"])
def test_any_annotator_name_that_wfdb_knows_can_be_had(tmp_path, annotator):
    path = annotate([10, 20], "NV").to_wfdb(tmp_path, annotator)
    assert [file.name for file in tmp_path.iterdir()] == [f"rec.{annotator}"]
    assert path.name == f"rec.{annotator}"
    path.rename(tmp_path / "rec.plain")  # wfdb-python reads letters alone
    assert wfdb.rdann(str(tmp_path / "rec"), "plain").symbol == ["N", "V"]


@pytest.mark.parametrize("annotator", ["", "a.b", "a b", "1st", "hea", "dat", "csv", "../up"])
def test_annotator_names_that_cannot_be(tmp_path, annotator):
    with pytest.raises(DataError, match="cannot be an annotator's name"):
        annotate([10], "N").to_wfdb(tmp_path, annotator)
    assert list(tmp_path.iterdir()) == []


def test_parquet_holds_the_table_exactly(tmp_path):
    annotations = annotate([360, 720, 1260], "NSV")
    read = pd.read_parquet(annotations.to_parquet(tmp_path / "rec.parquet"))
    pd.testing.assert_frame_equal(read, annotations.to_dataframe())
    with pytest.raises(OutputExistsError):
        annotations.to_parquet(tmp_path / "rec.parquet")


def test_json_says_what_was_classified_by_what(tmp_path):
    annotations = annotate(np.arange(10) * 360, "NNNNNSSVFQ", **noise, notes=("units taken as mV",), lead_reason="why")
    path = annotations.to_json(tmp_path / "rec.json", facts={"leads": ["MLII"]})
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["weights_sha256"] == "0" * 64
    assert document["versions"]["ecgkan"] == __version__
    assert document["noisy"][1] == {"start_s": 20 / 360, "stop_s": 31 / 360, "reason": "noise"}
    assert document["leads"] == ["MLII"]
    assert document["summary"] == summarize(annotations).to_dict()


def test_beats_are_uncertain_below_the_threshold():
    sure = np.array([0.95, UNCERTAIN_BELOW, np.nextafter(np.float32(UNCERTAIN_BELOW), np.float32(0)), 0.4])
    probabilities = np.column_stack([sure, *[(1 - sure) / 4] * 4]).astype(np.float32)
    annotations = annotate([1, 2, 3, 4], "NNNN", probabilities=probabilities)
    assert annotations.uncertain.tolist() == [False, False, True, True]
    assert annotations.to_dataframe()["uncertain"].tolist() == [False, False, True, True]
    assert annotations.summary().uncertain == 2
    assert annotate([], "").uncertain.shape == (0,)


@pytest.mark.parametrize(
    "samples",
    [[], [0], [0, 0], [1, 1, 1], [1023, 1024, 2048], [2**31 - 1, 2**31, 2**33]],
    ids=["no beats", "sample 0", "twice 0", "one sample thrice", "around a skip", "beyond 31 bits"],
)
def test_positions_that_need_care_in_the_format(tmp_path, samples):
    classes = ["NSVFQ"[i % 5] for i in range(len(samples))]
    annotate(samples, classes).to_wfdb(tmp_path)
    read = wfdb.rdann(str(tmp_path / "rec"), "ecgkan")
    assert read.sample.tolist() == samples
    assert read.symbol == classes


def test_an_existing_file_is_left_as_it_is_unless_asked(tmp_path):
    annotate([10], "N").to_wfdb(tmp_path)
    annotate([10], "N").to_csv(tmp_path / "rec.csv")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    later = annotate([20, 30], "VV")
    for write in (later.to_wfdb, lambda folder: later.to_csv(folder / "rec.csv"), later.save):
        with pytest.raises(OutputExistsError, match="was left as it is"):
            write(tmp_path)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    later.save(tmp_path, overwrite=True)
    assert wfdb.rdann(str(tmp_path / "rec"), "ecgkan").sample.tolist() == [20, 30]
    assert len(pd.read_csv(tmp_path / "rec.csv")) == 2


def test_save_writes_nothing_where_one_of_the_two_exists(tmp_path):
    (tmp_path / "rec.ecgkan").write_bytes(b"another's")
    with pytest.raises(OutputExistsError, match=r"rec\.ecgkan"):
        annotate([10], "N").save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["rec.ecgkan"]


def test_a_write_that_fails_leaves_what_was_there_and_no_rest(tmp_path, monkeypatch):
    annotate([10], "N").to_wfdb(tmp_path)
    before = (tmp_path / "rec.ecgkan").read_bytes()

    def cut_short(record_name, extension, *args, write_dir, **kwargs):
        Path(write_dir, f"{record_name}.{extension}").write_bytes(b"\0")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wfdb, "wrann", cut_short)
    with pytest.raises(EcgkanError, match="No space left on device"):
        annotate([20], "V").to_wfdb(tmp_path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["rec.ecgkan"]
    assert (tmp_path / "rec.ecgkan").read_bytes() == before


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(EcgkanError, match="cannot write into"):
        annotate([10], "N").to_wfdb(tmp_path / "taken")


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "rec.ecgkan").mkdir()
    with pytest.raises(DataError, match="a folder has that name"):
        annotate([10], "N").to_wfdb(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("record", "stem"),
    [("two words", "two_words"), ("a.b", "a_b"), ("é1", "_1"), ("", "recording"), ("../up", "___up"), ("100", "100")],
)
def test_names_that_wfdb_cannot_have_become_some_that_it_can(tmp_path, record, stem):
    files = annotate([10], "N", record=record).save(tmp_path / "out")
    assert files == (tmp_path / "out" / f"{stem}.csv", tmp_path / "out" / f"{stem}.ecgkan")
    assert wfdb.rdann(str(tmp_path / "out" / stem), "ecgkan").sample.tolist() == [10]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_the_table_holds_everything_about_a_beat(tmp_path):
    annotations = annotate([360, 720, 1260], "NSV")
    frame = annotations.to_dataframe()
    assert list(frame.columns) == [
        *("sample", "time_s", "class", "p_N", "p_S", "p_V", "p_F", "p_Q", "rr_before_s", "rr_after_s"),
        *("quality", "uncertain"),
    ]
    assert frame["time_s"].tolist() == [1.0, 2.0, 3.5]
    assert frame["class"].tolist() == ["N", "S", "V"]
    assert frame["p_S"].tolist() == pytest.approx([0.05, 0.8, 0.05])
    read = pd.read_csv(annotations.to_csv(tmp_path / "deep" / "rec.csv"))
    pd.testing.assert_frame_equal(read, frame, check_dtype=False, atol=1e-6)
    assert np.isnan(read["rr_before_s"][0])
    assert np.isnan(read["rr_after_s"][2])


def test_no_beats_give_an_empty_table_with_the_same_columns(tmp_path):
    annotations = annotate([], "")
    read = pd.read_csv(annotations.to_csv(tmp_path / "rec.csv"))
    assert list(read.columns) == list(annotate([1], "N").to_dataframe().columns)
    assert len(read) == 0


def test_the_summary_counts():
    annotations = annotate(np.arange(10) * 360, "NNNNNSSVFQ", left_out=np.array([5000]))
    summary = annotations.summary()
    assert summary.counts == {"N": 5, "S": 2, "V": 1, "F": 1, "Q": 1}
    assert summary.beats == 10
    assert summary.left_out == 1
    assert summary.ectopic_burden_percent == pytest.approx(30.0)
    assert (summary.heart_rate.mean, summary.heart_rate.min, summary.heart_rate.max) == (60.0, 60.0, 60.0)


def test_the_summary_of_no_beats_is_unknown_not_zero():
    summary = annotate([], "").summary()
    assert summary.beats == 0
    assert summary.ectopic_burden_percent is summary.heart_rate.mean is None
    assert summary.to_dict()["heart_rate"]["max"] is None
    assert summary.to_dict()["counts"] == dict.fromkeys(CLASSES, 0)


def test_the_heart_rate_does_not_follow_one_missed_beat():
    rr_s = np.full(40, 0.75)
    rr_s[20] = 1.5
    assert set(heart_rates(rr_s).tolist()) == {80.0}


def test_the_heart_rate_follows_a_change_that_lasts():
    rates = heart_rates(np.concatenate([np.full(20, 1.0), np.full(20, 0.5)]))
    assert (rates.min(), rates.max()) == (60.0, 120.0)
    assert len(rates) == 40 - 7


@pytest.mark.parametrize(("rr_s", "rates"), [([], []), ([np.nan], []), ([0.0], []), ([0.5, np.nan], [120.0])])
def test_heart_rates_of_few_intervals(rr_s, rates):
    assert heart_rates(np.array(rr_s)).tolist() == rates


def test_the_burden_leaves_fusion_beats_out():
    assert ectopic_burden_percent({"N": 6, "S": 1, "V": 1, "F": 2, "Q": 0}) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": np.zeros((2, 4), np.float32)}, "probabilities has shape"),
        ({"rr_after_s": np.zeros(3)}, "rr_after_s has shape"),
        ({"samples": np.array([20, 10])}, "must be ascending"),
        ({"samples": np.array([-1, 10])}, "not negative"),
        ({"classes": np.array(["N", "X"])}, "unknown classes"),
        ({"quality": np.ones(3, np.float32)}, "quality has shape"),
        ({"mean_beats": np.zeros((5, 255), np.float32)}, "mean_beats has shape"),
        ({"noisy_reasons": ("noise",)}, "noisy has shape"),
        ({"noisy": np.array([[5, 9], [8, 12]]), "noisy_reasons": ("noise",) * 2}, "not overlap"),
        ({"noisy": np.array([[5, 5]]), "noisy_reasons": ("noise",)}, "not be empty"),
        ({"flutter": np.array([[5, 9], [8, 12]])}, "flutter stretches must ascend"),
        ({"flutter": np.array([5, 9])}, "flutter has shape"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        replace(annotate([10, 20], "NV"), **changes)
