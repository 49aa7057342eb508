"""The protocol's counts and split on the real database, and a cache that is whole or not there."""

import hashlib
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecgkan.aami import CLASSES
from ecgkan.data import beat_table
from ecgkan.data.beat_table import BeatTable, beat_labels, read_beat_table
from ecgkan.data.ds2 import load_test_beats
from ecgkan.data.mitdb import DS1, DS2, PACED_RECORDS, RECORDS, subject_of
from ecgkan.data.protocols import FOLDS, BeatSplit, load_inter_patient_split, load_split
from ecgkan.errors import DataError, DataNotFoundError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(beat_table.platformdirs, "user_cache_dir", lambda _: str(cache))
    return cache


@pytest.fixture
def split(data_dir: Path, use_cache: Path) -> BeatSplit:
    return load_split("random-split", data_dir)


def test_class_counts_of_the_whole_database(split: BeatSplit) -> None:
    everything = np.arange(len(split.table))
    assert split.class_counts(everything) == {"N": 90_593, "S": 2_781, "V": 7_235, "F": 802, "Q": 8_040}
    assert len(split.table) == 109_451


def test_split_sizes_and_the_test_sets_identity(split: BeatSplit) -> None:
    assert [len(part) for part in (split.train, split.validation, split.test)] == [76_615, 16_418, 16_418]
    assert split.class_counts(split.test) == {"N": 13_589, "S": 417, "V": 1_085, "F": 121, "Q": 1_206}
    digest = hashlib.sha256(np.sort(split.test).astype("<i8").tobytes()).hexdigest()
    assert digest == "d8bcce50352055401ff3618ef507a688b9fb2b9772802f6adc272690e5a8d915"
    together = np.concatenate([split.train, split.validation, split.test])
    assert np.array_equal(np.sort(together), np.arange(len(split.table)))


def test_beats_equal_a_plain_reading_of_a_record(split: BeatSplit, mitdb_dir: Path) -> None:
    signal = wfdb.rdrecord(str(mitdb_dir / "207")).p_signal[:, 0]
    annotation = wfdb.rdann(str(mitdb_dir / "207"), "atr")
    classes = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
    expected = [
        (signal[s - 128 : s + 128], class_index)
        for s, symbol in zip(annotation.sample, annotation.symbol, strict=True)
        for class_index, letter in enumerate(CLASSES)
        if symbol in classes[letter] and s - 128 >= 0 and s + 128 < len(signal)
    ]
    mine = np.flatnonzero(split.table.records == "207")
    assert split.table.labels[mine].tolist() == [label for _, label in expected]
    windows = np.array([window for window, _ in expected])
    z_scores = (windows - windows.mean(1, keepdims=True)) / (windows.std(1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(split.table.model_input(mine)[:, 0], z_scores, atol=1e-5)


def test_records_stand_in_the_databases_order(split: BeatSplit, mitdb_dir: Path) -> None:
    assert tuple((mitdb_dir / "RECORDS").read_text().split()) == RECORDS
    first_seen = list(dict.fromkeys(split.table.records.tolist()))
    assert tuple(first_seen) == RECORDS
    for record in RECORDS:
        assert np.all(np.diff(split.table.samples[split.table.records == record]) > 0)


def test_the_cache_is_used_and_a_damaged_one_is_made_anew(split: BeatSplit, use_cache: Path, data_dir: Path) -> None:
    (file,) = (use_cache / "prepared").glob("mitdb-*")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    again = load_split("random-split", data_dir)
    np.testing.assert_array_equal(again.table.windows, split.table.windows)
    assert file.stat().st_size == len(whole)
    assert not list((use_cache / "prepared").glob("*.part"))


def test_the_cache_is_keyed_by_the_files_contents(mitdb_dir: Path, tmp_path: Path) -> None:
    database = tmp_path / "mitdb"
    database.mkdir()
    for file in mitdb_dir.iterdir():
        if file.suffix in {".hea", ".atr", ".dat"}:
            (database / file.name).symlink_to(file)
    key = beat_table._cache_key(database)
    assert key == beat_table._cache_key(mitdb_dir)
    (database / "100.atr").unlink()
    contents = (mitdb_dir / "100.atr").read_bytes()
    (database / "100.atr").write_bytes(contents[:2] + contents[2:3] + contents[3:])
    assert beat_table._cache_key(database) == key
    (database / "100.atr").write_bytes(contents[:-2])
    assert beat_table._cache_key(database) != key


def test_cutting_the_database_takes_little_beyond_reading_it(mitdb_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = 0.0
    plain = beat_table.cut_beats

    def timed(*args: object, **options: object) -> object:
        nonlocal spent
        started = time.process_time()
        try:
            return plain(*args, **options)
        finally:
            spent += time.process_time() - started

    monkeypatch.setattr(beat_table, "cut_beats", timed)
    assert len(read_beat_table(mitdb_dir)) == 109_451
    assert spent < 5.0  # the figure is in benchmarks/; this only catches a loop over beats


def test_a_missing_file_is_named(mitdb_dir: Path, tmp_path: Path, use_cache: Path) -> None:
    (tmp_path / "mitdb").mkdir()
    shutil.copy(mitdb_dir / "100.hea", tmp_path / "mitdb")
    with pytest.raises(DataNotFoundError, match=r"100\.dat is missing.*data fetch mitdb"):
        load_split("random-split", tmp_path)


def test_no_database_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="ecgkan data fetch mitdb"):
        load_split("random-split", tmp_path)


def test_unknown_protocol_is_named() -> None:
    with pytest.raises(DataError, match="unknown protocol 'random'"):
        load_split("random")


def test_labels_of_symbols() -> None:
    assert beat_labels(("N", "+", "a", "V", "F", "/", "~")).tolist() == [0, -1, 1, 2, 3, 4, -1]
    with pytest.raises(ValueError, match="unknown annotation symbol 'Z'"):
        beat_labels(("N", "Z"))


def test_patients_of_the_two_halves_are_apart_but_for_201_and_202() -> None:
    assert set(DS1) | set(DS2) | set(PACED_RECORDS) == set(RECORDS)
    assert not set(DS1) & set(DS2)
    assert {subject_of(r) for r in DS1} & {subject_of(r) for r in DS2} == {"201"}


def test_model_input_is_z_scored_in_the_middle_of_the_wide_window() -> None:
    windows = np.random.default_rng(0).standard_normal((4, 384)).astype(np.float32)
    table = BeatTable(windows, np.zeros(4, dtype=np.int64), np.full(4, "100"), np.arange(4))
    x = table.model_input(np.array([1, 3]))
    assert x.shape == (2, 1, 256)
    inner = windows[[1, 3], 64:320]
    expected = (inner - inner.mean(1, keepdims=True)) / inner.std(1, keepdims=True)
    np.testing.assert_allclose(x[:, 0], expected, atol=1e-5)


@pytest.fixture
def ds1(data_dir: Path, use_cache: Path) -> BeatSplit:
    return load_split("inter-patient", data_dir)


def test_counts_of_ds1_and_ds2(ds1: BeatSplit, data_dir: Path) -> None:
    assert ds1.class_counts(ds1.train) == {"N": 45_846, "S": 944, "V": 3_788, "F": 414, "Q": 8}
    assert len(ds1.train) == len(ds1.table) == 51_000
    assert len(ds1.validation) == len(ds1.test) == 0
    ds2 = load_test_beats(data_dir)
    assert np.bincount(ds2.labels).tolist() == [44_241, 1_837, 3_220, 388, 7]
    assert len(ds2) == 49_693
    assert tuple(dict.fromkeys(ds2.records.tolist())) == DS2


def test_training_is_given_records_of_ds1_alone(ds1: BeatSplit, data_dir: Path, use_cache: Path) -> None:
    assert tuple(dict.fromkeys(ds1.table.records.tolist())) == DS1
    for fold in range(len(FOLDS)):
        split = load_split("inter-patient", data_dir, fold=fold)
        assert set(split.table.records.tolist()) == set(DS1)
        assert set(split.table.records[split.validation].tolist()) == set(FOLDS[fold])
        assert not set(split.table.records[split.train].tolist()) & set(FOLDS[fold])
        assert len(split.train) + len(split.validation) == 51_000
        assert len(split.test) == 0
        assert min(split.class_counts(split.validation)[letter] for letter in "SV") > 100


def test_every_record_of_ds1_is_held_out_once() -> None:
    assert sorted(record for fold in FOLDS for record in fold) == sorted(DS1)


def test_the_lead_is_chosen_by_name(ds1: BeatSplit, mitdb_dir: Path) -> None:
    record = wfdb.rdrecord(str(mitdb_dir / "114"))
    assert record.sig_name == ["V5", "MLII"]
    (mine,) = np.nonzero(ds1.table.records == "114")
    sample = int(ds1.table.samples[mine[5]])
    expected = record.p_signal[sample - 192 : sample + 192, 1]
    np.testing.assert_allclose(ds1.table.windows[mine[5]], expected, atol=1e-6)


def test_no_such_fold() -> None:
    with pytest.raises(DataError, match="no fold 4 of DS1; expected 0 to 3"):
        load_inter_patient_split(fold=4)
    with pytest.raises(DataError, match="folds belong to protocol inter-patient"):
        load_split("random-split", fold=0)
