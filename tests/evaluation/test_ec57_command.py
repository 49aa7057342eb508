"""`ecgkan ec57`: what it prints and writes, and what it says when it cannot."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import wfdb
from typer.testing import CliRunner

from ecgkan.cli import app
from ecgkan.errors import DataError, EcgkanError
from ecgkan.evaluation.ec57 import AnnotatorFiles
from ecgkan.evaluation.ec57.folders import read_length

FS = 360
BEATS = np.arange(1, 400) * 360
SYMBOLS = [*"NVVNNjNVVVN" * 36, *"NNN"]


def write(folder: Path, record: str, annotator: str, samples=BEATS, symbols=SYMBOLS, **options) -> None:
    folder.mkdir(exist_ok=True)
    wfdb.wrann(record, annotator, np.asarray(samples), list(symbols), write_dir=str(folder), **options)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two records with a reference `r/*.atr`; the test annotator `t/*.tst` calls every V of the second N."""
    for record in ("100", "a7"):
        write(tmp_path / "r", record, "atr")
        (tmp_path / "r" / f"{record}.hea").write_text(f"{record} 1 {FS} 150000\n{record}.dat 16 200\n")
    write(tmp_path / "t", "100", "tst")
    write(tmp_path / "t", "a7", "tst", symbols=["N" if symbol == "V" else symbol for symbol in SYMBOLS])
    return tmp_path


def ec57(folder: Path, *options: str, test: str = "t:tst", reference: str = "r:atr"):
    arguments = ["ec57", "--reference", f"{folder}/{reference}", "--test", f"{folder}/{test}", *options]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def test_tables(folders):
    done = ec57(folders)
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert "2 records" in done.stdout
    assert "From 5:00 to the record's end, match window 0.15 s" in done.stdout
    first = next(line.split() for line in done.stdout.splitlines() if line.startswith("100 "))
    assert first[1:8] == ["100", "100.00", "100.00", "44", "100.00", "100.00", "0.000"]
    assert "44 of 88 ventricular" in done.stdout
    assert {"Gross", "Average", "Ventricular", "Labels", "extra"} <= rows.keys()


def test_the_programs_rows_and_their_classes(folders):
    done = ec57(folders, "--format", "bxb-L", "--sumstats")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Record Nn' Sn'")
    assert lines[1].split()[:3] == ["100", "47", "0"]
    assert lines[1].split()[7] == "9"  # Ss: the escape beats
    assert lines[2].split()[:4] == ["a7", "47", "0", "44"]
    assert lines[-1] == "Summary of results from 2 records"
    assert ec57(folders, "--format", "bxb-L", "--classes", "literature").stdout.splitlines()[1].split()[7] == "0"


@pytest.mark.parametrize("line_format", ["bxb-l", "bxb-L", "bxb-l-shutdown", "bxb-L-shutdown", "rxr-L", "rxr-L-sve"])
@pytest.mark.parametrize("sumstats", [False, True])
def test_every_format(folders, line_format, sumstats):
    done = ec57(folders, "--format", line_format, *["--sumstats"] * sumstats, "--records", "100")
    assert done.exit_code == 0, done.output
    assert sum(line.startswith(" 100 ") for line in done.stdout.splitlines()) == 1
    assert ("Summary of results from 1 record\n" in done.stdout) == sumstats


def test_shutdown_sums_are_those_of_sumstats(folders):
    """Which counts the beats there are twice, and so halves the gross shares."""
    shutdown = ([109_000, 109_360, 115_000, 115_100], "N~~N")
    write(folders / "t", "100", "tst", *shutdown, subtype=np.array([0, 0x30, 0, 0]))
    lines = ec57(folders, "--format", "bxb-l-shutdown", "--sumstats", "--records", "100").stdout.splitlines()
    assert lines[2:] == [
        " 100    8    8    0    0    16.00  14.29  18.18      -   16 seconds 56 0 44 0 0",
        "_" * 68,
        "Sum      8    8    0    0                                 16 seconds",
        "Gross                       8.00   7.14   9.09      -",
        "Average                    16.00  14.29  18.18      -",
        "",
        "Summary of results from 1 record",
    ]


def test_an_empty_annotator_has_no_rows_of_runs(folders):
    (folders / "t" / "100.tst").write_bytes(b"\0\0")
    assert ec57(folders, "--format", "bxb-l", "--records", "100").stdout.splitlines()[1] == (
        " 100     0   0   0   0   0    0   0   0  56  44   0   0.00      -   0.00      -      -"
    )
    done = ec57(folders, "--format", "rxr-L")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["Record", "a7"]
    assert "record 100 has no row" in done.stderr


def test_files(folders):
    files = [folders / name for name in ("x.csv", "x.json", "x.png")]
    options = [
        part for file, option in zip(files, ("--csv", "--json", "--figure"), strict=True) for part in (option, file)
    ]
    done = ec57(folders, *map(str, options))
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(files[0].read_text().splitlines()))
    assert [row["record"] for row in rows] == ["100", "a7", "gross", "average"]
    assert (rows[1]["Vn"], rows[2]["Vv"], rows[2]["veb_se_percent"], rows[3]["veb_se_percent"]) == (
        "44",
        "44",
        "50",
        "50",
    )
    document = json.loads(files[1].read_text())
    assert document["labels"] == list("NSVFQOX")
    assert document["records"]["a7"]["counts"][2][0] == 44
    assert document["gross"]["veb_se"] == {"part": 44, "whole": 88, "percent": 50.0}
    assert document["gross"]["sveb_se"]["percent"] is None
    assert set(document["gross"]) - {"ventricular_runs", "supraventricular_runs"} <= set(document["definitions"])
    assert files[2].read_bytes().startswith(b"\x89PNG")
    again = ec57(folders, *map(str, options))
    assert isinstance(again.exception, EcgkanError)
    assert "x.csv exists and was left as it is; use --overwrite" in str(again.exception)
    assert ec57(folders, *map(str, options), "--overwrite").exit_code == 0


def test_standard_output(folders):
    assert json.loads(ec57(folders, "--json", "-").stdout)["classes"] == "literature"
    assert ec57(folders, "--csv", "-").stdout.startswith("record,Nn,Ns")


def test_annotations_in_another_unit_of_time(folders):
    """The header says 360 Hz, the test annotator counts thousandths of a second."""
    write(folders / "t", "100", "tst", samples=np.round(BEATS / FS * 1000).astype(int), fs=1000)
    done = ec57(folders, "--format", "bxb-l", "--records", "100")
    assert done.stdout.splitlines()[1].split()[-5:] == ["100.00", "100.00", "100.00", "100.00", "0.000"]


def test_start_end_and_window(folders):
    write(folders / "t", "100", "tst", samples=BEATS + 60)

    def found(*options: str) -> str:
        return ec57(folders, "--format", "bxb-l", "--records", "100", *options).stdout.splitlines()[1].split()[-5]

    assert (found(), found("--window", "0.2")) == ("0.00", "100.00")
    beats = ec57(folders, "--records", "100", "--from", "1:00", "--to", "0:03:00", "--window", "0.2", "--json", "-")
    assert json.loads(beats.stdout)["gross"]["qrs_se"]["whole"] == 121


def test_records_that_one_annotator_lacks_are_named(folders):
    write(folders / "r", "b8", "atr")
    write(folders / "t", "c9", "tst")
    done = ec57(folders)
    assert done.exit_code == 0
    assert "record b8 is not compared: no file" in done.stderr
    assert "Not compared: b8 (no file" in done.stdout
    assert "c9 (no file" in done.stdout


def test_without_a_header_the_rate_must_be_given(folders):
    write(folders / "r", "b8", "atr")
    write(folders / "t", "b8", "tst")
    done = ec57(folders, "--records", "b8")
    assert "no header b8.hea in" in str(done.exception)
    assert "100.00" in ec57(folders, "--records", "b8", "--fs", "360", "--format", "bxb-l").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": "t:xyz"}, "no annotation files *.xyz in"),
        ({"test": "nowhere:tst"}, "no folder"),
        ({"records": "100,999"}, "leave record 999 out or bring its file"),
        ({"start": "9:00"}, "record 100: it ends at 417 s, before the comparison starts at 540 s; start earlier"),
    ],
)
def test_errors(folders, options, message):
    records = ("--records", options["records"]) if "records" in options else ()
    start = ("--from", options["start"]) if "start" in options else ()
    done = ec57(folders, *records, *start, test=options.get("test", "t:tst"))
    assert isinstance(done.exception, EcgkanError)
    assert message in str(done.exception)


@pytest.mark.parametrize(
    "options",
    [
        ["--sumstats"],
        ["--from", "soon"],
        ["--records", ","],
        ["--csv", "-", "--json", "-"],
        ["--format", "bxb-l", "--json", "-"],
        ["--format", "bxb"],
        ["--test", "folder-without-annotator"],
    ],
)
def test_usage(folders, options):
    assert ec57(folders, *options).exit_code == 2


def test_annotators_are_taken_apart_at_the_last_colon():
    assert AnnotatorFiles.parse("a:b/c:atr") == AnnotatorFiles(Path("a:b/c"), "atr")
    for text in ("mitdb", "mitdb:", ":atr", "mitdb:a/b"):
        with pytest.raises(DataError, match="expected DIR:ANNOTATOR"):
            AnnotatorFiles.parse(text)


@pytest.mark.parametrize(
    ("line", "fs", "n_samples"),
    [
        ("100 2 360 650000 12:00:00", 360, 650_000),
        ("100/3 2 360/360(0) 650000", 360, 650_000),
        ("# a comment\n\n100 2 128.5", 128.5, 0),
        ("100 2", 250, 0),
    ],
)
def test_headers(tmp_path, line, fs, n_samples):
    (tmp_path / "100.hea").write_text(f"{line}\n")
    length = read_length(tmp_path / "100.hea")
    assert (length.fs, length.n_samples) == (fs, n_samples)


@pytest.mark.parametrize("line", ["", "100", "100 2 0 650000", "100 2 360 many"])
def test_headers_that_say_nothing(tmp_path, line):
    (tmp_path / "100.hea").write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"100\.hea begins with"):
        read_length(tmp_path / "100.hea")
