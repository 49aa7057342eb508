"""The detector's page says what the committed detector does."""

from pathlib import Path

import numpy as np
import pytest

from ecgkan.data.mitdb import RECORDS
from ecgkan.evaluation.ec57 import Detection, total
from ecgkan.studies.detector import (
    NOISE_RECORDS,
    detector_tables,
    our_detector,
    position_offsets,
    read_study,
    score,
    write_study,
)

PAGE = Path(__file__).parents[2] / "docs" / "detector.md"


@pytest.fixture(scope="module")
def committed() -> dict:
    return read_study(PAGE)


def test_the_page_holds_the_tables_of_the_committed_results(committed):
    assert detector_tables(committed) in PAGE.read_text()


@pytest.mark.parametrize(("database", "record"), [("mitdb", "208"), ("mitdb", "232"), ("nstdb", "118e06")])
def test_committed_counts_are_those_of_the_committed_detector(data_dir, committed, database, record):
    counts = score(our_detector, data_dir / database, [record])[record]
    assert list(counts) == committed[database]["ecgkan"][record]


def test_positions_are_those_of_the_committed_detector(data_dir):
    offsets = position_offsets(our_detector, data_dir / "mitdb", ["100"])
    assert offsets["N"].beats > 2200
    assert offsets["N"].within_percent > 99
    assert abs(offsets["N"].median) <= 1


def test_gqrs_and_sleepecg_have_their_known_figures(committed):
    for name, expected in (("gqrs", (99.74, 99.72)), ("sleepecg", (99.19, 99.33))):
        gross = total(Detection(*committed["mitdb"][name][record]) for record in RECORDS)
        assert (round(gross.sensitivity_percent, 2), round(gross.positive_predictivity_percent, 2)) == expected


def test_writing_keeps_what_stands_above_the_tables(tmp_path, committed):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nText.\n\n<!-- tables written by `ecgkan detector score` -->\nold tables\n")
    write_study(page, committed)
    text = page.read_text()
    assert text.startswith("# Title\n\nText.\n\n<!-- tables written")
    assert "old tables" not in text
    assert all(record in text for record in (*RECORDS, *NOISE_RECORDS))
    assert read_study(page) == committed
    write_study(page, committed)
    assert page.read_text() == text


def test_offsets_are_signed_and_counted_by_class(data_dir):
    def late(record: Path) -> np.ndarray:
        return our_detector(record) + 3

    shifted = position_offsets(late, data_dir / "mitdb", ["100"])["N"].median
    assert shifted == position_offsets(our_detector, data_dir / "mitdb", ["100"])["N"].median + 3
