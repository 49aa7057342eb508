"""Beats compared one by one: the pairing at its edges, and what flutter and shutdown do to it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.errors import DataError
from ecgkan.evaluation.ec57 import (
    END_OF_EITHER,
    LABELS,
    BeatComparison,
    beat_figures,
    compare_beats,
    compare_runs,
)

UNREADABLE = 0x30
CASES = json.loads((Path(__file__).parent / "ec57_cases.json").read_text())


def annotator(*annotations: tuple) -> ReferenceAnnotations:
    """Annotations of (sample, symbol) or (sample, symbol, subtype or text)."""
    extras = [annotation[2] if len(annotation) > 2 else 0 for annotation in annotations]
    return ReferenceAnnotations(
        np.array([annotation[0] for annotation in annotations], dtype=np.int64),
        tuple(annotation[1] for annotation in annotations),
        np.array([0 if isinstance(extra, str) else extra for extra in extras], dtype=np.int8),
        {at: extra for at, extra in enumerate(extras) if isinstance(extra, str)},
    )


def compared(reference: ReferenceAnnotations, test: ReferenceAnnotations, **options) -> BeatComparison:
    return compare_beats(
        reference, test, **({"fs": 100.0, "start_s": 10.0, "stop": 10_000, "classes": "bxb"} | options)
    )


def entries(comparison: BeatComparison) -> dict[str, int]:
    """The matrix as `Vn` → how many ventricular beats were called normal."""
    return {
        LABELS[row] + LABELS[column].lower(): int(comparison.counts[row, column])
        for row, column in np.argwhere(comparison.counts)
    }


def dense(values: dict[str, int], size: int) -> np.ndarray:
    array = np.zeros(size, dtype=np.int64)
    for place, value in values.items():
        array[int(place)] = value
    return array


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_odd_annotators(case):
    """Beats out of every rule, against counts from a separate program that follows bxb and rxr step by step.

    Flutter and shutdown in both annotators, marked twice, without an end or across another, beats nearer than the
    window, unusual starts, ends and windows, nothing at all.
    """
    reference, test = annotator(*map(tuple, case["reference"])), annotator(*map(tuple, case["test"]))
    options = {
        "fs": case["fs"],
        "classes": "bxb",
        "start_s": case["start"] / case["fs"],
        "window_s": case["window"] / case["fs"],
        "stop": case["stop"],
    }
    beats = compare_beats(reference, test, **options)
    assert beats.counts.ravel().tolist() == dense(case["counts"], 49).tolist()
    assert (beats.rr_pairs, beats.rr_squares) == (case["rr_pairs"], case["rr_squares"])
    assert beats.shutdown_s == case["shutdown_s"]
    for runs in compare_runs(reference, test, **options):
        expected = case[runs.kind]
        assert runs.complete == (expected is not None)
        if expected is not None:
            found = np.concatenate((runs.sensitivity.ravel(), runs.predictivity.ravel()))
            assert found.tolist() == dense(expected, 98).tolist()


def test_labels_of_pairs_of_missed_and_of_extra_beats():
    reference = annotator((2000, "N"), (2100, "V"), (2200, "A"), (2300, "F"), (2400, "/"), (2500, "N"))
    test = annotator((2001, "N"), (2099, "N"), (2200, "V"), (2310, "F"), (2400, "Q"), (2600, "V"))
    comparison = compared(reference, test)
    assert entries(comparison) == {"Nn": 1, "No": 1, "Vn": 1, "Sv": 1, "Ff": 1, "Qq": 1, "Ov": 1}
    assert comparison.matched.tolist() == [[2000, 2001], [2100, 2099], [2200, 2200], [2300, 2310], [2400, 2400]]
    assert (comparison.missed.tolist(), comparison.extra.tolist()) == ([2500], [2600])


@pytest.mark.parametrize(("symbol", "bxb", "literature"), [
    *((symbol, "N", "N") for symbol in "NLRB"),
    *((symbol, "S", "S") for symbol in "AaJSn"),
    *((symbol, "S", "N") for symbol in "ej"),
    *((symbol, "V", "V") for symbol in "VEr"),
    ("F", "F", "F"),
    *((symbol, "Q", "Q") for symbol in "/fQ?"),
])  # fmt: skip
def test_the_class_of_each_beat(symbol, bxb, literature):
    one = annotator((2000, symbol))
    for classes, letter in (("bxb", bxb), ("literature", literature)):
        assert entries(compared(one, one, classes=classes)) == {letter + letter.lower(): 1}


def test_a_flutter_wave_outside_of_flutter_is_half_a_beat_to_bxb():
    wave, beat = annotator((2000, "!")), annotator((2010, "N"))
    assert entries(compared(wave, beat)) == {"On": 1}
    assert entries(compared(beat, wave)) == {"No": 1}
    assert entries(compared(wave, wave)) == {}
    assert entries(compared(wave, beat, classes="literature")) == {"On": 1}
    assert entries(compared(annotator((2000, "!"), (2012, "N")), beat, classes="literature")) == {"Nn": 1}


@pytest.mark.parametrize(("fs", "window"), [(360.0, 54), (250.0, 38), (128.0, 19), (100.0, 15)])
def test_the_window_is_rounded_to_samples(fs, window):
    beats = annotator((2000, "N"), (9000, "N"))
    for distance, counts in ((window, {"Nn": 2}), (window + 1, {"Nn": 1, "No": 1, "On": 1})):
        test = annotator((2000 + distance, "N"), (9000, "N"))
        assert entries(compared(beats, test, fs=fs, start_s=1000 / fs)) == counts


def test_a_beat_may_be_paired_across_the_start():
    # The start is sample 1000.
    assert entries(compared(annotator((1002, "V")), annotator((998, "V"), (1300, "N")))) == {"Vv": 1, "On": 1}
    # The other way about, the detection is taken for that of a beat before the start, and not counted ...
    reference = annotator((998, "V"), (1400, "N"))
    assert entries(compared(reference, annotator((1002, "V"), (1400, "N")))) == {"Nn": 1}
    # ... if another one is nearer to the first beat after it, and lies no further from the start than the window.
    assert entries(compared(reference, annotator((1002, "V")))) == {"No": 1, "Ov": 1}
    assert entries(compared(reference, annotator((1016, "V"), (1400, "N")))) == {"Nn": 1, "Ov": 1}


def test_beats_after_the_end():
    reference, test = (
        annotator((2000, "N"), (9990, "N")),
        annotator((2000, "N"), (9990, "N"), (9999, "V"), (10_001, "V")),
    )
    assert entries(compared(reference, test, stop=10_000)) == {"Nn": 2, "Ov": 1}
    assert entries(compared(reference, test, stop=20_000)) == {"Nn": 2, "Ov": 2}
    assert entries(compared(reference, test, stop=-1)) == {"Nn": 2}
    assert entries(compared(test, reference, stop=END_OF_EITHER)) == {"Nn": 2}
    assert entries(compared(test, reference, stop=-1)) == {"Nn": 2, "Vo": 2}


def test_an_empty_test_annotator_misses_everything():
    comparison = compared(annotator((500, "N"), (2000, "N"), (2100, "V")), annotator())
    assert entries(comparison) == {"No": 1, "Vo": 1}
    figures = comparison.figures
    assert (figures.qrs_se.percent, figures.veb_se.percent) == (0, 0)
    assert all(
        math.isnan(figure.percent) for figure in (figures.qrs_p, figures.veb_p, figures.veb_fpr, figures.sveb_se)
    )
    assert math.isnan(comparison.rr_error_ms)
    assert entries(compared(annotator(), annotator())) == {}


def test_extra_beats_in_the_references_flutter_do_not_count():
    reference = annotator((2000, "N"), (2100, "["), (2200, "!"), (2900, "]"), (3000, "N"))
    test = annotator((2000, "N"), (2300, "V"), (2400, "V"), (3000, "N"))
    assert entries(compared(reference, test)) == {"Nn": 2}
    # The other way about the beats are missed: only the reference may say what cannot be judged.
    assert entries(compared(test, reference)) == {"Nn": 2, "Vo": 2}


def test_flutter_without_an_end_lasts_for_ever():
    reference = annotator((2000, "N"), (2100, "["), (2500, "N"))
    assert entries(compared(reference, annotator((2000, "N"), (2500, "V"), (9000, "N")))) == {"Nn": 1}


def test_beats_in_shutdown_are_x():
    shutdown = annotator((2000, "N"), (2100, "~", UNREADABLE), (2900, "~", 0), (3000, "N"))
    beats = annotator((2000, "N"), (2300, "V"), (3000, "N"))
    missed = compared(beats, shutdown)
    assert entries(missed) == {"Nn": 2, "Vx": 1}
    assert missed.shutdown_s == 8
    assert entries(compared(shutdown, beats)) == {"Nn": 2, "Xv": 1}
    assert compared(shutdown, beats).shutdown_s == 0  # only the test annotator's is counted
    # With one signal still readable it is no shutdown.
    noisy = annotator((2000, "N"), (2100, "~", 0x10), (2900, "~", 0), (3000, "N"))
    assert entries(compared(beats, noisy)) == {"Nn": 2, "Vo": 1}


def test_a_shutdown_marked_once_fills_the_room_between_beats():
    once = annotator((2000, "N"), (2500, "~", -1), (3000, "N"))
    beats = annotator((2000, "N"), (2100, "V"), (2984, "V"), (3000, "N"))
    comparison = compared(beats, once, window_s=0.1)
    assert entries(comparison) == {"Nn": 2, "Vx": 2}
    assert comparison.shutdown_s == 10  # 980 samples and a half second, whole seconds


def test_a_shutdown_without_an_end_lasts_until_the_records_end():
    comparison = compared(annotator((2000, "N"), (5000, "N")), annotator((2000, "N"), (3000, "~", UNREADABLE)))
    assert entries(comparison) == {"Nn": 1, "Nx": 1}
    assert comparison.shutdown_s == 70


def test_rr_intervals_across_flutter_and_shutdown_are_not_compared():
    plain = annotator((2000, "N"), (2100, "N"), (2200, "N"))
    late = annotator((2000, "N"), (2103, "N"), (2200, "N"))
    assert compared(plain, late).rr_error_ms == pytest.approx(30.0)
    assert compared(plain, late).rr_pairs == 2  # the first beat of each annotator ends no interval
    broken = annotator((2000, "N"), (2103, "N"), (2150, "["), (2160, "]"), (2200, "N"))
    assert compared(plain, broken).rr_pairs == 1


def test_what_counts_as_false():
    counts = np.zeros((7, 7), dtype=np.int64)
    for row, column in ("NV", "SV", "OV", "XV", "FV", "QV", "NS", "VS", "OS", "XS", "FS", "QS", "VV", "SS"):
        counts[LABELS.index(row), LABELS.index(column)] = 1
    figures = beat_figures(counts)
    assert figures.veb_p == (1, 5)  # F and Q called V count for nothing
    assert figures.sveb_p == (1, 6)  # only Q called S counts for nothing
    assert beat_figures(counts, of_several_records=True).sveb_p == (1, 5)  # as sumstats, which cannot tell F from Q
    assert figures.qrs_se == (10, 10)
    assert figures.qrs_p == (10, 14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fs": 0.0}, "sampling rate 0 Hz"),
        ({"start_s": -1.0}, "start -1 s"),
        ({"window_s": math.nan}, "window nan s"),
        ({"stop": 999}, "record x: it ends at 10 s, before the comparison starts at 10 s; start earlier"),
    ],
)
def test_unusable_times_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        compared(annotator(), annotator(), record="x", **options)


def test_annotations_that_do_not_belong_together_are_refused():
    with pytest.raises(DataError, match="1 samples and 2 symbols"):
        compared(ReferenceAnnotations(np.array([1]), ("N", "N")), annotator())
