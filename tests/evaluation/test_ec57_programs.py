"""Against what WFDB's bxb, rxr and sumstats print, byte for byte (shared/ec57-oracle, shared/detectors)."""

import time
from pathlib import Path

import pytest

from ecgkan.evaluation.ec57 import AnnotatorFiles, Comparison, compare_folders, tool_lines

ORACLE = [
    ("bxb_l.txt", "bxb-l", False),
    ("bxb_L.txt", "bxb-L", False),
    ("bxb_l_shutdown.txt", "bxb-l-shutdown", False),
    ("bxb_L_shutdown.txt", "bxb-L-shutdown", False),
    ("rxr_L.txt", "rxr-L", False),
    ("rxr_L_sve.txt", "rxr-L-sve", False),
    ("bxb_l_sumstats.txt", "bxb-l", True),
    ("bxb_L_sumstats.txt", "bxb-L", True),
    ("rxr_L_sumstats.txt", "rxr-L", True),
]


@pytest.fixture(scope="module")
def comparison(data_dir: Path) -> Comparison:
    files = AnnotatorFiles(data_dir / "mitdb", "atr"), AnnotatorFiles(data_dir / "ec57-oracle", "tst")
    return compare_folders(*files, classes="bxb")


def test_every_file_of_the_oracle_is_among_these(data_dir):
    assert {file.name for file in (data_dir / "ec57-oracle").glob("*.txt")} == {name for name, _, _ in ORACLE}


@pytest.mark.parametrize(("file", "line_format", "sumstats"), ORACLE)
def test_the_programs_own_lines(comparison, data_dir, file, line_format, sumstats):
    expected = (data_dir / "ec57-oracle" / file).read_text()
    assert len(expected.splitlines()) > 48
    assert tool_lines(comparison, line_format, sumstats=sumstats) == expected


@pytest.mark.parametrize(
    ("database", "file", "sumstats"), [("mitdb", "gqrs_bxb_l_sumstats.txt", True), ("nstdb", "gqrs_bxb_l.txt", False)]
)
def test_the_lines_for_another_detector(data_dir, database, file, sumstats):
    expected = (data_dir / "detectors" / database / file).read_text()
    rows = [line.split()[0] for line in expected.splitlines() if line[:4].strip()[:1].isdigit()]
    files = AnnotatorFiles(data_dir / database, "atr"), AnnotatorFiles(data_dir / "detectors" / database, "qrs")
    assert tool_lines(compare_folders(*files, rows, classes="bxb"), "bxb-l", sumstats=sumstats) == expected


def test_the_gross_figures_are_those_of_sumstats(comparison):
    gross, runs = comparison.gross(), comparison.gross_runs("ventricular")
    shown = [f"{proportion.percent:.2f}" for proportion in (*gross[:4], gross.sveb_se, gross.sveb_p)]
    assert shown == ["95.71", "96.08", "92.62", "82.08", "82.99", "63.58"]
    assert f"{gross.veb_fpr.percent:.3f}" == "1.451"
    assert [f"{proportion.percent:.0f}" for proportion in runs] == ["88", "60", "83", "31", "100", "95"]
    average = comparison.average()
    means = [average.beats[name] for name in ("qrs_se", "qrs_p", "veb_se", "veb_p", "sveb_se", "sveb_p")]
    assert [f"{mean:.2f}" for mean in means] == ["95.70", "96.18", "94.70", "47.17", "81.70", "23.74"]
    assert f"{average.rr_error_ms:.2f}" == "741.19"
    assert [f"{mean:.0f}" for mean in average.ventricular.values()] == ["89", "19", "86", "33", "100", "86"]


def test_escape_beats_change_class_and_nothing_else(comparison, data_dir):
    files = AnnotatorFiles(data_dir / "mitdb", "atr"), AnnotatorFiles(data_dir / "ec57-oracle", "tst")
    literature = compare_folders(*files, classes="literature")
    difference = comparison.counts - literature.counts
    assert (difference[0] == -difference[1]).all()  # what S gains, N loses
    assert difference[1].sum() == 243  # all j and e after 5:00
    assert not difference[2:].any()


def test_the_database_takes_less_than_two_seconds_of_a_processor(data_dir):
    files = AnnotatorFiles(data_dir / "mitdb", "atr"), AnnotatorFiles(data_dir / "ec57-oracle", "tst")
    started = time.process_time()
    compare_folders(*files)
    assert time.process_time() - started < 2
