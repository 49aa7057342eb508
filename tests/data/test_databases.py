"""The pinned lists of the databases, and verifying a folder against them."""

import hashlib
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgkan.data.databases import (
    DATABASE_TITLES,
    Database,
    DatabaseFile,
    find_problem,
    load_database,
    verify_database,
)
from ecgkan.errors import DataError

CONTENT = bytes(range(256)) * 8
PUBLISHED = DatabaseFile("100.dat", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.mark.parametrize(("name", "n_files", "n_records"), [("mitdb", 146, 48), ("nstdb", 43, 15)])
def test_pinned_lists_cover_every_record(name, n_files, n_records):
    files = load_database(name).files
    assert len(files) == n_files
    assert sum(file.name.endswith(".hea") for file in files) == n_records
    assert sum(file.name.endswith(".dat") for file in files) == n_records
    assert len({file.name for file in files}) == n_files
    assert all(re.fullmatch(r"[0-9a-z_]+\.(dat|hea|atr)|RECORDS|ANNOTATORS", file.name) for file in files)
    assert all(re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size_bytes > 0 for file in files)


def test_pinned_lists_name_the_same_files_in_both_tables():
    for name in DATABASE_TITLES:
        tables = [
            resources.files("ecgkan.data").joinpath("checksums", f"{name}.{kind}").read_text()
            for kind in ("sha256", "sizes")
        ]
        sha256_names, size_names = ([line.split()[1] for line in table.splitlines()] for table in tables)
        assert sha256_names == size_names


def test_pinned_sizes_are_30_minutes_of_two_leads_in_format_212():
    sizes = {file.size_bytes for file in load_database("mitdb").files if file.name.endswith(".dat")}
    assert sizes == {650_000 * 2 * 12 // 8}


@pytest.mark.parametrize("name", DATABASE_TITLES)
def test_real_database_is_as_published(name, data_dir):
    assert verify_database(name, data_dir) == []


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs the program sha256sum")
@pytest.mark.parametrize("name", DATABASE_TITLES)
def test_pinned_checksums_agree_with_the_program_sha256sum(name, data_dir):
    table = resources.files("ecgkan.data").joinpath("checksums", f"{name}.sha256").read_text()
    subprocess.run(
        ["sha256sum", "--strict", "--quiet", "-c", "-"], input=table, text=True, cwd=data_dir / name, check=True
    )


def test_unknown_database_is_refused_with_the_names_there_are():
    with pytest.raises(DataError, match="unknown database 'ltdb'; expected one of mitdb, nstdb"):
        load_database("ltdb")


def test_verify_names_every_bad_file_and_what_is_wrong(tmp_path):
    files = tuple(DatabaseFile(f"{n}.dat", len(CONTENT), PUBLISHED.sha256) for n in range(100, 106))
    folder = tmp_path / "mitdb"
    folder.mkdir()
    (folder / "100.dat").write_bytes(CONTENT)
    (folder / "101.dat").write_bytes(CONTENT[:-1])
    (folder / "102.dat").write_bytes(CONTENT + b"\0")
    (folder / "103.dat").write_bytes(b"\1" + CONTENT[1:])
    (folder / "104.dat").mkdir()
    problems = verify_database(Database("mitdb", files), tmp_path)
    assert [(problem.file, problem.kind) for problem in problems] == [
        ("101.dat", "truncated"),
        ("102.dat", "corrupted"),
        ("103.dat", "corrupted"),
        ("104.dat", "unreadable"),
        ("105.dat", "missing"),
    ]
    assert str(problems[0]) == "101.dat: truncated (found 2,047 bytes, expected 2,048 bytes)"
    assert hashlib.sha256(b"\1" + CONTENT[1:]).hexdigest() in str(problems[2])


def test_verify_of_a_folder_that_does_not_exist_reports_every_file_missing(tmp_path):
    problems = verify_database("nstdb", tmp_path / "nowhere")
    assert [problem.file for problem in problems] == [file.name for file in load_database("nstdb").files]
    assert {problem.kind for problem in problems} == {"missing"}
    assert list(tmp_path.iterdir()) == []


@given(position=st.integers(0, len(CONTENT) - 1), change=st.integers(1, 255))
def test_any_changed_byte_is_found(position, change, tmp_path_factory):
    damaged = bytearray(CONTENT)
    damaged[position] ^= change
    path = tmp_path_factory.getbasetemp() / "changed.dat"
    path.write_bytes(damaged)
    problem = find_problem(path, PUBLISHED)
    assert problem is not None
    assert problem.kind == "corrupted"


@given(length=st.integers(0, 2 * len(CONTENT)))
def test_any_other_length_is_found(length, tmp_path_factory):
    path: Path = tmp_path_factory.getbasetemp() / "length.dat"
    path.write_bytes((CONTENT * 2)[:length])
    problem = find_problem(path, PUBLISHED)
    kind = problem.kind if problem else None
    assert kind == ("truncated" if length < len(CONTENT) else "corrupted" if length > len(CONTENT) else None)
