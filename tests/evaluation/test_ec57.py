"""Against what WFDB's bxb prints for two detectors (shared/detectors), row by row."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgkan.data.recording import ReferenceAnnotations, read_annotations
from ecgkan.data.rpeaks import reference_rpeaks
from ecgkan.errors import DataError
from ecgkan.evaluation.ec57 import Detection, compare_detections, flutter_episodes, match_beats, total


def printed_by_bxb(file: Path) -> dict[str, Detection]:
    """Rows of `bxb -l`: Nn' Vn' Fn' are beats found, No' Vo' Fo' missed, On' extra."""
    rows = {}
    for line in file.read_text().splitlines():
        words = line.split()
        if words and re.fullmatch(r"\d{3}(e\d\d|e_6)?", words[0]):
            counts = [int(word) for word in words[1:12]]
            rows[words[0]] = Detection(sum(counts[:3]), sum(counts[8:11]), counts[3])
    return rows


@pytest.mark.parametrize(
    ("database", "table", "n_records"),
    [("mitdb", "gqrs_bxb_l_sumstats.txt", 48), ("nstdb", "gqrs_bxb_l.txt", 12)],
)
def test_every_row_of_bxb(data_dir, database, table, n_records):
    expected = printed_by_bxb(data_dir / "detectors" / database / table)
    assert len(expected) == n_records
    found = {}
    for record in expected:
        reference = read_annotations(data_dir / database / record, "atr")
        detected = reference_rpeaks(read_annotations(data_dir / "detectors" / database / record, "qrs"))
        found[record] = compare_detections(reference, detected, 360.0)
    assert found == expected


def test_gross_figures_of_gqrs(data_dir):
    gross = total(printed_by_bxb(data_dir / "detectors/mitdb/gqrs_bxb_l_sumstats.txt").values())
    assert round(gross.sensitivity_percent, 2) == 99.74
    assert round(gross.positive_predictivity_percent, 2) == 99.72


def test_a_pair_may_lie_as_far_apart_as_the_window_and_no_further():
    assert match_beats([1000], [1054], window=54).reference.tolist() == [0]
    assert match_beats([1000], [1055], window=54).missed.tolist() == [0]
    assert match_beats([1055], [1000], window=54).extra.tolist() == [0]


def test_the_nearer_of_two_detections_is_the_beat():
    matched = match_beats([1000], [970, 1002], window=54)
    assert (matched.test.tolist(), matched.extra.tolist()) == ([1], [0])
    matched = match_beats([970, 1002], [1000], window=54)
    assert (matched.reference.tolist(), matched.missed.tolist()) == ([1], [0])


beats = st.lists(st.integers(0, 5000), max_size=30, unique=True).map(sorted)


@given(beats, beats)
def test_every_beat_is_paired_once_or_left_over(reference, test):
    matched = match_beats(reference, test, window=54)
    assert sorted([*matched.reference, *matched.missed]) == list(range(len(reference)))
    assert sorted([*matched.test, *matched.extra]) == list(range(len(test)))
    pairs = zip(matched.reference, matched.test, strict=True)
    assert all(abs(reference[i] - test[j]) <= 54 for i, j in pairs)
    assert np.all(np.diff(matched.reference) > 0)
    assert np.all(np.diff(matched.test) > 0)


@given(beats)
def test_an_annotator_agrees_with_itself(samples):
    matched = match_beats(samples, samples, window=54)
    assert matched.reference.tolist() == matched.test.tolist() == list(range(len(samples)))


def test_the_first_five_minutes_and_flutter_are_not_compared():
    samples = np.array([100, 108_000, 108_400, 108_500, 109_000, 109_400])
    reference = ReferenceAnnotations(samples, ("N", "N", "[", "N", "]", "V"))
    assert flutter_episodes(reference) == [(108_400, 109_000)]
    detected = np.array([50, 108_010, 108_600, 108_700, 109_400, 109_900])
    assert compare_detections(reference, detected, 360.0) == Detection(found=2, missed=0, extra=1)


def test_flutter_without_an_end_lasts_to_the_end():
    reference = ReferenceAnnotations(np.array([200_000, 200_500, 201_000]), ("N", "[", "N"))
    assert compare_detections(reference, np.array([200_001, 201_000]), 360.0) == Detection(1, 0, 0)


def test_beats_in_disorder_are_refused():
    with pytest.raises(DataError, match="ascending"):
        compare_detections(ReferenceAnnotations(np.array([1]), ("N",)), np.array([3, 2]), 360.0)


def test_figures_without_beats_are_nan():
    empty = Detection(0, 0, 0)
    assert np.isnan(empty.sensitivity_percent)
    assert np.isnan(empty.positive_predictivity_percent)
