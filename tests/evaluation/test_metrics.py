"""Metrics against scikit-learn, and intervals against what they promise."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from ecgkan.errors import DataError
from ecgkan.evaluation.metrics import (
    bootstrap_confusion,
    bootstrap_metrics,
    classification_metrics,
    confusion_matrix,
    metrics_from_confusion,
    precision_recall_curve,
    reliability,
    roc_curve,
)

# No deadline: a busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

PAIRS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(hnp.arrays(np.int64, n, elements=st.integers(0, 4)), st.integers(0, 2**32 - 1))
)


def probabilities_for(labels: np.ndarray, seed: int, *, skill: float = 1.5, decimals: int | None = None) -> np.ndarray:
    """Probabilities that know something of the labels; rounded logits make ties."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), 5))
    logits[np.arange(len(labels)), labels] += skill
    if decimals is not None:
        logits = logits.round(decimals)
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def sample(n: int, seed: int = 0, **options) -> tuple[np.ndarray, np.ndarray]:
    labels = np.random.default_rng(seed).choice(5, n, p=[0.6, 0.1, 0.15, 0.05, 0.1])
    return labels, probabilities_for(labels, seed + 1, **options)


@unhurried
@given(PAIRS)
def test_figures_of_the_confusion_matrix_equal_scikit_learns(pair):
    labels, seed = pair
    predicted = probabilities_for(labels, seed).argmax(axis=1)
    ours = metrics_from_confusion(confusion_matrix(labels, predicted))
    np.testing.assert_array_equal(ours.confusion, sk.confusion_matrix(labels, predicted, labels=range(5)))
    assert ours.accuracy == pytest.approx(sk.accuracy_score(labels, predicted))
    # By default scikit-learn averages over the classes that occur in either, as we do.
    assert ours.macro_f1 == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert ours.weighted_f1 == pytest.approx(sk.f1_score(labels, predicted, average="weighted"))
    options = {"labels": range(5), "average": None, "zero_division": np.nan}
    np.testing.assert_allclose(ours.precision, sk.precision_score(labels, predicted, **options), rtol=1e-12)
    np.testing.assert_allclose(ours.recall, sk.recall_score(labels, predicted, **options), rtol=1e-12)
    np.testing.assert_allclose(ours.f1, sk.f1_score(labels, predicted, **options), rtol=1e-12)
    np.testing.assert_array_equal(ours.support, np.bincount(labels, minlength=5))


@unhurried
@given(PAIRS, st.sampled_from([None, 0, 1]))
def test_figures_of_the_probabilities_equal_scikit_learns(pair, decimals):
    labels, seed = pair
    probabilities = probabilities_for(labels, seed, decimals=decimals)
    ours = classification_metrics(labels, probabilities)
    one_hot = np.eye(5)[labels]
    expected = [
        sk.roc_auc_score(one_hot[:, i], probabilities[:, i]) if 0 < one_hot[:, i].sum() < len(labels) else np.nan
        for i in range(5)
    ]
    np.testing.assert_allclose(ours.auc, expected, atol=1e-12)
    defined = [area for area in expected if not math.isnan(area)]
    assert ours.macro_auc == pytest.approx(np.mean(defined) if defined else math.nan, nan_ok=True)
    assert ours.negative_log_likelihood == pytest.approx(sk.log_loss(labels, probabilities, labels=range(5)))
    assert ours.brier == pytest.approx(((probabilities - one_hot) ** 2).sum() / len(labels))


def test_macro_auc_equals_scikit_learns_where_all_classes_occur():
    labels, probabilities = sample(2000)
    ours = classification_metrics(labels, probabilities)
    assert ours.macro_auc == pytest.approx(sk.roc_auc_score(labels, probabilities, multi_class="ovr"), abs=1e-12)


def test_an_absent_class_is_undefined_and_left_out_of_means():
    # Class Q neither occurs nor is predicted; F occurs but is never predicted; V is predicted but does not occur.
    labels = np.array([0, 0, 0, 1, 1, 3])
    predicted = np.array([0, 0, 2, 1, 1, 0])
    metrics = metrics_from_confusion(confusion_matrix(labels, predicted))
    np.testing.assert_allclose(metrics.precision, [2 / 3, 1, 0, np.nan, np.nan])
    np.testing.assert_allclose(metrics.recall, [2 / 3, 1, np.nan, 0, np.nan])
    np.testing.assert_allclose(metrics.f1, [2 / 3, 1, 0, 0, np.nan])
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 1) / 4)
    assert metrics.weighted_f1 == pytest.approx((3 * 2 / 3 + 2 * 1) / 6)


def test_one_class_alone_has_no_auc():
    labels = np.zeros(4, dtype=np.int64)
    probabilities = np.full((4, 5), 0.2)
    metrics = classification_metrics(labels, probabilities)
    assert np.isnan(metrics.auc).all()
    assert math.isnan(metrics.macro_auc)
    intervals = bootstrap_metrics(labels, probabilities, resamples=10)
    assert math.isnan(intervals.macro_auc.low)
    assert intervals.accuracy == (1.0, 1.0)


def test_reliability_by_hand():
    probabilities = np.array([[0.9, 0.1, 0, 0, 0], [0.9, 0.1, 0, 0, 0], [0.2, 0.6, 0.2, 0, 0], [0, 0, 1, 0, 0]])
    bins = reliability(np.array([0, 1, 1, 2]), probabilities)
    assert len(bins.counts) == 15
    # 0.9 lies in (13/15, 14/15], 0.6 at the upper edge of (8/15, 9/15], 1 in the last bin.
    assert {i: n for i, n in enumerate(bins.counts) if n} == {8: 1, 13: 2, 14: 1}
    np.testing.assert_allclose(bins.accuracy[[8, 13, 14]], [1, 0.5, 1])
    np.testing.assert_allclose(bins.confidence[[8, 13, 14]], [0.6, 0.9, 1])
    assert np.isnan(bins.accuracy[0])
    assert bins.calibration_error == pytest.approx((1 * 0.4 + 2 * 0.4 + 1 * 0) / 4)


@unhurried
@given(PAIRS)
def test_reliability_bins_hold_every_beat(pair):
    labels, seed = pair
    bins = reliability(labels, probabilities_for(labels, seed, skill=4))
    assert bins.counts.sum() == len(labels)
    held = bins.counts > 0
    # Compared with a margin for the rounding of sums.
    assert (bins.confidence[held] > bins.edges[:-1][held] - 1e-12).all()
    assert (bins.confidence[held] <= bins.edges[1:][held] + 1e-12).all()
    shares = bins.counts[held] / len(labels)
    assert bins.calibration_error == pytest.approx((shares * abs(bins.accuracy - bins.confidence)[held]).sum())


def test_curves_equal_the_areas_in_the_metrics():
    labels, probabilities = sample(500)
    auc = classification_metrics(labels, probabilities).auc
    for index in range(5):
        assert roc_curve(labels, probabilities, index).area == pytest.approx(auc[index])
        curve = precision_recall_curve(labels, probabilities, index)
        assert curve.area == pytest.approx(sk.average_precision_score(labels == index, probabilities[:, index]))
        assert (np.diff(curve.x) >= 0).all()
    assert roc_curve(np.zeros(3, dtype=int), np.full((3, 5), 0.2), 1) is None
    assert roc_curve(np.zeros(3, dtype=int), np.full((3, 5), 0.2), 0) is None
    assert precision_recall_curve(np.zeros(3, dtype=int), np.full((3, 5), 0.2), 1) is None


def all_bounds(intervals) -> np.ndarray:
    return np.concatenate([np.ravel(getattr(intervals, f.name)) for f in dataclasses.fields(intervals)])


def test_bootstrap_is_decided_by_its_seed():
    labels, probabilities = sample(400)
    first, again = (bootstrap_metrics(labels, probabilities, resamples=120, seed=3) for _ in range(2))
    other = bootstrap_metrics(labels, probabilities, resamples=120, seed=4)
    np.testing.assert_array_equal(all_bounds(first), all_bounds(again))
    assert (all_bounds(first) != all_bounds(other)).any()


def test_intervals_hold_the_figure_and_shrink_with_the_number_of_beats():
    widths = []
    for n in (300, 4800):
        labels, probabilities = sample(n)
        metrics = classification_metrics(labels, probabilities)
        intervals = bootstrap_metrics(labels, probabilities)
        for name in ("accuracy", "macro_f1", "weighted_f1", "macro_auc"):
            low, high = getattr(intervals, name)
            assert low < getattr(metrics, name) < high
        for name in ("precision", "recall", "f1", "auc"):
            low, high = np.array(getattr(intervals, name)).T
            assert ((low <= getattr(metrics, name)) & (getattr(metrics, name) <= high)).all()
        widths.append(intervals.accuracy.high - intervals.accuracy.low)
    # 16 times the beats: a quarter of the width.
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.25)


def test_multinomial_resampling_equals_drawing_beats():
    labels, probabilities = sample(500)
    predicted = probabilities.argmax(axis=1)
    fast = bootstrap_confusion(confusion_matrix(labels, predicted), resamples=4000)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        chosen = rng.integers(0, 500, 500)
        drawn.append(metrics_from_confusion(confusion_matrix(labels[chosen], predicted[chosen])).macro_f1)
    np.testing.assert_allclose(fast.macro_f1, np.percentile(drawn, [2.5, 97.5]), atol=0.008)


def test_auc_intervals_equal_drawing_beats_by_scikit_learn():
    labels, probabilities = sample(300)
    fast = bootstrap_metrics(labels, probabilities, resamples=2000)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(600):
        chosen = rng.integers(0, 300, 300)
        drawn.append(sk.roc_auc_score(labels[chosen] == 2, probabilities[chosen, 2]))
    np.testing.assert_allclose(fast.auc[2], np.percentile(drawn, [2.5, 97.5]), atol=0.01)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth = np.array([[50, 5, 2, 1, 0], [4, 12, 1, 0, 0], [2, 1, 14, 1, 0], [1, 0, 1, 3, 0], [0, 0, 0, 0, 10]])
    accuracy = truth.trace() / truth.sum()
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        seen = rng.multinomial(800, (truth / truth.sum()).ravel()).reshape(5, 5)
        low, high = bootstrap_confusion(seen, resamples=300).accuracy
        covered += low <= accuracy <= high
    assert 0.91 < covered / 300 < 0.98


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 5], np.full((2, 5), 0.2), "0 to 5; expected class indices 0 to 4"),
        ([0, -1], np.full((2, 5), 0.2), "-1 to 0"),
        ([], np.zeros((0, 5)), "at least one beat"),
        ([0, 1], np.full((3, 5), 0.2), r"\[2, 5\] for 2 beats, got \[3, 5\]"),
        ([0, 1], np.full((2, 4), 0.25), r"got \[2, 4\]"),
        ([0, 1], np.array([[0.2] * 5, [np.nan] * 5]), r"1 of 2 beats have NaN.*first: beat 1"),
        ([0, 1], np.full((2, 5), 1.0), "apply the softmax"),
        ([0, 1], np.array([[1.5, -0.5, 0, 0, 0]] * 2), "lowest is -0.5"),
    ],
)
def test_bad_input_is_named(labels, probabilities, message):
    labels = np.array(labels, dtype=np.int64)
    for function in (classification_metrics, bootstrap_metrics, reliability):
        with pytest.raises(DataError, match=message):
            function(labels, probabilities)


def test_bad_labels_are_named():
    with pytest.raises(DataError, match="integers of shape"):
        classification_metrics(np.array([0.0, 1.0]), np.full((2, 5), 0.2))
    with pytest.raises(DataError, match="2 labels but 3 predicted"):
        confusion_matrix(np.array([0, 1]), np.array([0, 1, 2]))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((4, 4), dtype=int), r"\[4, 4\]"),
        (np.eye(5), "float64"),
        (-np.eye(5, dtype=int), "counts"),
        (np.zeros((5, 5), dtype=int), "no beats"),
    ],
)
def test_what_is_no_confusion_matrix_is_named(matrix, message):
    for function in (metrics_from_confusion, bootstrap_confusion):
        with pytest.raises(DataError, match=message):
            function(matrix)


@pytest.mark.parametrize("options", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_bootstrap_options_out_of_range_are_named(options):
    with pytest.raises(DataError, match="at least one resample"):
        bootstrap_confusion(np.eye(5, dtype=int), **options)
