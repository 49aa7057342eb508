"""Agreement with an annotator, and the honest line about patients the models know."""

import numpy as np
import pytest
from tests.inference.test_annotation import annotate

from ecgkan.data.mitdb import RECORDS
from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.errors import DataError
from ecgkan.inference.agreement import agreement_with, training_patient_note


def test_classes_are_compared_beat_by_beat():
    reference = ReferenceAnnotations(np.array([3, 10, 20, 30, 40]), ("+", "N", "L", "V", "A"))
    agreement = agreement_with(annotate([10, 20, 30, 40], "NNVN"), reference, "atr")
    assert agreement.beats == 4
    assert agreement.accuracy == 0.75
    expected = np.zeros((5, 5), dtype=int)
    expected[0, 0], expected[2, 2], expected[1, 0] = 2, 1, 1  # the A is a reference S that was called N
    assert np.array_equal(agreement.confusion, expected)


def test_beats_left_out_are_not_compared():
    reference = ReferenceAnnotations(np.array([10, 20, 30]), ("N", "V", "N"))
    agreement = agreement_with(annotate([10, 30], "NV", left_out=np.array([20])), reference, "atr")
    assert (agreement.beats, agreement.accuracy) == (2, 0.5)


def test_agreement_on_no_beats_is_unknown():
    agreement = agreement_with(annotate([], ""), ReferenceAnnotations(np.array([5]), ("+",)), "atr")
    assert agreement.beats == 0
    assert np.isnan(agreement.accuracy)


def test_beats_of_a_detector_cannot_be_compared_one_to_one():
    reference = ReferenceAnnotations(np.array([10, 20]), ("N", "V"))
    with pytest.raises(DataError, match="not those of annotator atr"):
        agreement_with(annotate([11, 21], "NV"), reference, "atr")


def test_an_unknown_symbol_is_named():
    with pytest.raises(DataError, match="unknown annotation symbol '§'"):
        agreement_with(annotate([10], "N"), ReferenceAnnotations(np.array([10]), ("§",)), "atr")


@pytest.mark.parametrize("record", [*RECORDS, "118e06", "119e_6", "118e24"])
def test_records_of_patients_the_models_know_carry_the_line(record):
    note = training_patient_note(record, 360.0)
    assert note is not None
    assert "says nothing about how they do on a new one" in note
    assert f"Record {record[:3]} " in note


@pytest.mark.parametrize(
    ("record", "fs"), [("I01", 257.0), ("100", 250.0), ("800", 360.0), ("embedded", 360.0), ("118e", 360.0)]
)
def test_other_records_do_not(record, fs):
    assert training_patient_note(record, fs) is None
