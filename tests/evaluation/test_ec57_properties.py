"""What holds for any two annotators."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.evaluation.ec57 import ClassTable, compare_beats, compare_runs, match_beats

FS = 100.0
START = 1000
STOP = 40_000
BEATS = "NLRBejAaJSnVErF/fQ?"


def annotators(symbols: str = BEATS, *, first: int = 0, apart: int = 1):
    intervals = st.lists(st.tuples(st.integers(apart, 150), st.sampled_from(symbols)), max_size=60)

    def build(drawn: list[tuple[int, str]]) -> ReferenceAnnotations:
        samples = first + np.cumsum([interval for interval, _ in drawn], dtype=np.int64)
        subtypes = np.array([0x30 if at % 2 else 0 for at in range(len(drawn))], dtype=np.int8)
        return ReferenceAnnotations(samples.astype(np.int64), tuple(symbol for _, symbol in drawn), subtypes)

    return intervals.map(build)


OPTIONS = {"fs": FS, "start_s": START / FS, "stop": STOP}
tables: st.SearchStrategy[ClassTable] = st.sampled_from(["literature", "bxb"])


@settings(deadline=None)
@given(annotators(first=START), tables)
def test_an_annotator_agrees_with_itself(annotator, classes):
    beats = compare_beats(annotator, annotator, classes=classes, **OPTIONS)
    assert np.trace(beats.counts) == beats.counts.sum() == len(annotator.samples)
    assert beats.rr_squares == 0
    assert all(figure.part == figure.whole for name, figure in beats.figures._asdict().items() if "fpr" not in name)
    assert beats.figures.veb_fpr.part == beats.figures.sveb_fpr.part == 0


@settings(deadline=None)
@given(annotators(first=START, apart=31), tables)
def test_an_annotators_runs_agree_with_themselves(annotator, classes):
    """Where the windows of two runs never overlap."""
    for runs in compare_runs(annotator, annotator, classes=classes, **OPTIONS):
        assert (runs.sensitivity == runs.predictivity).all()
        assert np.trace(runs.sensitivity) == runs.sensitivity.sum()


@settings(deadline=None)
@given(annotators(first=START), annotators(first=START), tables)
def test_every_beat_is_counted_once(reference, test, classes):
    beats = compare_beats(reference, test, classes=classes, **OPTIONS)
    assert beats.counts[:5].sum() == len(reference.samples)
    assert beats.counts[:, :5].sum() <= len(test.samples)
    # Near the start a test beat may belong to a reference beat before it, and be left out: one at most.
    assert beats.counts[:, :5].sum() >= len(test.samples) - 1
    assert len(beats.matched) == beats.counts[:5, :5].sum()
    assert len(beats.missed) == beats.counts[:5, 5:].sum()
    assert len(beats.extra) == beats.counts[5:, :5].sum()
    assert (np.abs(beats.matched[:, 0] - beats.matched[:, 1]) <= 15).all()


@settings(deadline=None)
@given(annotators(BEATS + "~[]!"), annotators(BEATS + "~[]!"), tables)
def test_parts_are_never_more_than_the_whole(reference, test, classes):
    beats = compare_beats(reference, test, classes=classes, **OPTIONS)
    assert (beats.counts >= 0).all()
    assert beats.shutdown_s >= 0
    for runs in compare_runs(reference, test, classes=classes, **OPTIONS):
        assert all(0 <= figure.part <= figure.whole for figure in runs.figures)
    assert all(0 <= figure.part <= figure.whole for figure in beats.figures)


@settings(deadline=None)
@given(annotators(first=2 * START), annotators(first=2 * START), tables)
def test_swapped_annotators_give_the_transposed_matrix(reference, test, classes):
    """Where no beat has two candidates, the pairing does not depend on who is the reference."""
    gaps = np.diff(np.sort(np.concatenate((reference.samples, test.samples))))
    one_candidate = not (gaps[:-1] + gaps[1:] <= 30).any()
    there = compare_beats(reference, test, classes=classes, **OPTIONS)
    back = compare_beats(test, reference, classes=classes, **OPTIONS)
    if one_candidate:
        assert (there.counts == back.counts.T).all()
        assert there.figures.qrs_se == back.figures.qrs_p
    runs, runs_back = (
        compare_runs(*pair, classes=classes, **OPTIONS) for pair in ((reference, test), (test, reference))
    )
    for mine, theirs in zip(runs, runs_back, strict=True):
        # Each annotator's own runs are the same, whoever they are compared with.
        assert mine.sensitivity.sum() == theirs.predictivity.sum()


@settings(deadline=None)
@given(annotators(first=2 * START, apart=31), st.integers(-15, 15))
def test_a_shift_within_the_window_keeps_all_pairs(annotator, shift):
    shifted = ReferenceAnnotations(annotator.samples + shift, annotator.symbols)
    beats = compare_beats(annotator, shifted, **OPTIONS)
    assert len(beats.matched) == len(annotator.samples)
    assert not len(beats.missed) + len(beats.extra)
    assert beats.rr_squares == 0


@settings(deadline=None)
@given(annotators(first=2 * START), annotators(first=2 * START), st.integers(0, 60))
def test_a_wider_window_misses_no_more_where_beats_are_far_apart(reference, test, window):
    narrow = match_beats(reference.samples.tolist(), test.samples.tolist(), window=window)
    assert len(narrow.missed) + len(narrow.reference) == len(reference.samples)
    near = np.abs(reference.samples[narrow.reference] - test.samples[narrow.test])
    assert (near <= window).all()


@settings(deadline=None)
@given(annotators("NV", first=START), annotators("NV", first=START))
def test_the_table_of_classes_changes_nothing_without_escape_beats(reference, test):
    counts = [compare_beats(reference, test, classes=classes, **OPTIONS).counts for classes in ("literature", "bxb")]
    assert (counts[0] == counts[1]).all()
