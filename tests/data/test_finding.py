"""Recordings are found in files, folders and patterns, each once, and what is beside them is not taken for one."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.data.formats.packing import write_packed

from ecgkan.data.recording import FoundRecording, find_recordings
from ecgkan.errors import DataError, DataNotFoundError

HEADED = "time (s),ECG (mV)\n" + "".join(f"{i / 250:.3f},0.1\n" for i in range(100))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with every sort of file."""
    root = tmp_path / "archive"
    (root / "ward" / "a").mkdir(parents=True)
    digital = np.zeros((100, 2), int)
    for folder, name in ((root, "100"), (root / "ward", "100"), (root, "s1"), (root, "s2")):
        write_packed(folder, "16", digital, name=name)
    (root / "multi.hea").write_text("multi/3 2 250 200\nmulti_layout 0\ns1 100\n~ 0\ns2 100\n")
    (root / "multi_layout.hea").write_text("multi_layout 2 250 0\n~ 0 1 0 0 0 0 0 ECG1\n~ 0 1 0 0 0 0 0 ECG2\n")
    for name in (
        "100.atr",
        "RECORDS",
        "ANNOTATORS",
        "README.md",
        "SHA256SUMS.txt",
        ".hidden.csv",
        "x.pdf",
        "100.csv.part",
    ):
        (root / name).write_text("text\n")
    (root / "ward" / "holter.csv").write_text(HEADED)
    (root / "ward" / "a" / "damaged.csv").write_text("oh no\n")
    (root / "ward" / "a" / "wearable.txt").write_text("0.1\n0.2\n")
    (root / "ward" / "a" / "letter.txt").write_text("Dear colleague,\nthank you for 2 recordings.\n")
    (root / "ward" / "a" / "100annotations.txt").write_text("0 1\n1 2\n")
    (root / "ward" / "beats.csv").write_text("sample,time_s,class,p_N\n1,2,N,0.5\n")
    (root / "failures.csv").write_text("1,2\n")
    np.save(root / "ward" / "a" / "array.npy", np.zeros(10))
    (root / ".cache").mkdir()
    (root / ".cache" / "x.csv").write_text(HEADED)
    return root


def found(*paths: str | Path) -> list[str]:
    return [f"{recording.relative}|{recording.path.name}" for recording in find_recordings(paths)]


def test_a_folder_with_its_sub_folders(archive: Path) -> None:
    assert found(archive) == [
        ".|100.hea", ".|multi.hea", "ward|100.hea", "ward|holter.csv", "ward/a|array.npy", "ward/a|damaged.csv",
        "ward/a|wearable.txt",
    ]  # fmt: skip


def test_each_recording_once(archive: Path) -> None:
    by_file = [archive / "100", archive / "100.hea", archive / "100.dat", str(archive / "*")]
    assert found(*by_file)[:2] == [".|100.hea", ".|multi.hea"]
    names = [recording.path for recording in find_recordings([*by_file, archive, archive / "ward"])]
    assert len(names) == len(set(names)) == 7


def test_patterns_keep_the_folders_below_their_fixed_part(archive: Path) -> None:
    assert found(f"{archive}/*/1*") == ["ward|100.hea"]
    assert found(f"{archive}/**/*.csv") == ["ward|holter.csv", "ward/a|damaged.csv"]
    assert found(f"{archive}/ward/h?lter.csv") == [".|holter.csv"]


def test_a_file_that_is_named_is_taken_as_it_is(archive: Path) -> None:
    assert find_recordings([archive / "s1"]) == [FoundRecording(archive / "s1.hea", Path())]
    assert found(archive / "ward" / "beats.csv") == [".|beats.csv"]


def test_links_into_a_folder_again_are_followed_once(archive: Path) -> None:
    (archive / "again").symlink_to(archive / "ward" / "a")
    assert len(found(archive)) == 7


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("archive/none", "no recording at .*records there: 100, multi"),
        ("nowhere/none", "there is no folder"),
        ("archive/*.edf", "no recordings match .*looked for WFDB"),
        ("empty", "no recordings in .*empty or its sub-folders; looked for WFDB"),
    ],
)
def test_nothing_there(argument: str, message: str, archive: Path) -> None:
    (archive.parent / "empty").mkdir()
    with pytest.raises(DataNotFoundError, match=message):
        find_recordings([archive.parent / argument])


def test_a_folder_that_may_not_be_read(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("ward"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"ward cannot be searched: Permission denied"):
        find_recordings([archive])


def test_the_tables_that_we_write_are_no_recordings(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"sample": [1], "time_s": [0.1], "class": ["N"]}).to_parquet(tmp_path / "beats.parquet")
    pd.DataFrame({"time (s)": [0.0, 0.004], "ECG (mV)": [0.0, 0.1]}).to_parquet(tmp_path / "ecg.parquet")
    assert found(tmp_path) == [".|ecg.parquet"]


def test_dicom_files_need_no_extension(tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    shutil.copy(str(get_testdata_file("waveform_ecg.dcm")), tmp_path / "IM0001")
    assert found(tmp_path) == [".|IM0001"]


def test_the_real_database_has_48(mitdb_dir: Path) -> None:
    names = (mitdb_dir / "RECORDS").read_text().split()
    assert [recording.path.stem for recording in find_recordings([mitdb_dir])] == names
