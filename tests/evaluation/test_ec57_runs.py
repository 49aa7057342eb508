"""Couplets and runs, compared run by run."""

import numpy as np

from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.evaluation.ec57 import RunComparison, compare_runs
from tests.evaluation.test_ec57_beats import UNREADABLE, annotator


def beats(symbols: str, *, start: int = 2000, step: int = 100) -> ReferenceAnnotations:
    return annotator(*((start + step * at, symbol) for at, symbol in enumerate(symbols)))


def runs(reference: ReferenceAnnotations, test: ReferenceAnnotations, **options) -> tuple[RunComparison, RunComparison]:
    return compare_runs(reference, test, **({"fs": 100.0, "start_s": 10.0, "stop": 10_000, "classes": "bxb"} | options))


def lengths(matrix: np.ndarray) -> dict[tuple[int, int], int]:
    return {(int(row), int(column)): int(matrix[row, column]) for row, column in np.argwhere(matrix)}


def test_runs_are_counted_by_their_lengths_in_both_annotators():
    ventricular, supraventricular = runs(beats("NVVNVVVVNVVVVVVVNSSN"), beats("NVVNVVNVNVVVVVVVNNSN"))
    assert lengths(ventricular.sensitivity) == {(2, 2): 1, (4, 2): 1, (6, 6): 1}
    assert lengths(ventricular.predictivity) == {(2, 2): 2, (1, 1): 1, (6, 6): 1}
    assert ventricular.figures.couplet_se == (1, 1)
    assert ventricular.figures.couplet_p == (2, 2)
    assert ventricular.figures.short_se == (0, 1)
    assert ventricular.figures.long_p == (1, 1)
    assert lengths(supraventricular.sensitivity) == {(2, 1): 1}
    assert lengths(supraventricular.predictivity) == {(1, 1): 1}  # looked for around the test annotator's one beat


def test_fusion_belongs_to_ventricular_runs_and_supraventricular_beats_end_them():
    reference = beats("NVFSVN")
    ventricular, _ = runs(reference, reference)
    assert lengths(ventricular.sensitivity) == {(2, 2): 1, (1, 1): 1}


def test_escape_beats_are_runs_only_by_bxbs_classes():
    reference = beats("NjjjN")
    assert lengths(runs(reference, reference)[1].sensitivity) == {(3, 3): 1}
    assert lengths(runs(reference, reference, classes="literature")[1].sensitivity) == {}


def test_a_run_that_begins_before_the_start_is_cut():
    reference = beats("VVVVN", start=800)  # the start is sample 1000
    assert lengths(runs(reference, reference)[0].sensitivity) == {(2, 2): 1}
    # The window reaches back, so a beat of the other annotator from just before the start belongs to its run.
    assert lengths(runs(reference, annotator((990, "V"), (1050, "V"), (1110, "V"), (1200, "N")))[0].sensitivity) == {
        (2, 3): 1
    }


def test_a_run_at_the_end_counts_if_the_annotations_end_and_not_if_the_comparison_does():
    reference = beats("NVV")
    assert lengths(runs(reference, reference)[0].sensitivity) == {(2, 2): 1}
    longer = beats("NVVVVN")
    assert lengths(runs(longer, longer, stop=2250)[0].sensitivity) == {}


def test_flutter_is_a_long_run():
    reference = annotator((2000, "N"), (2100, "["), (2900, "]"), (3000, "N"))
    ventricular, _ = runs(reference, beats("NVVVVVVVVVN"))
    assert lengths(ventricular.sensitivity) == {(6, 6): 1}
    assert lengths(ventricular.predictivity) == {(6, 6): 1}
    ventricular, _ = runs(reference, beats("NNNNNNNNNNN"))
    assert ventricular.figures.long_se == (0, 1)


def test_flutter_under_way_at_the_start_is_one_too():
    reference = annotator((500, "["), (1500, "]"), (1600, "N"))
    test = annotator((990, "V"), (1100, "V"), (1600, "N"))
    assert lengths(runs(reference, test)[0].sensitivity) == {(6, 2): 1}


def test_within_fibrillation_normal_beats_are_supraventricular():
    reference = annotator((2000, "N"), (2050, "+", "(AFIB"), (2100, "N"), (2200, "N"), (2250, "+", "(N"), (2300, "N"))
    _, supraventricular = runs(reference, beats("NSSN"))
    assert lengths(supraventricular.sensitivity) == {(6, 2): 1}
    assert lengths(supraventricular.predictivity) == {(6, 2): 1}


def test_shutdown_ends_a_run():
    reference = annotator(
        (2000, "N"), (2100, "V"), (2200, "V"), (2250, "~", UNREADABLE), (2260, "~", 0), (2300, "V"), (2400, "N")
    )
    assert lengths(runs(reference, reference)[0].sensitivity) == {(2, 2): 1, (1, 1): 1}


def test_an_annotator_without_anything_after_the_start_is_said_to_be():
    reference = beats("NVVN")
    for test in (annotator(), annotator((500, "V"))):
        ventricular, supraventricular = runs(reference, test)
        assert not ventricular.complete
        assert not supraventricular.complete
        assert ventricular.figures.couplet_se == (0, 1)
    assert runs(reference, reference)[0].complete
