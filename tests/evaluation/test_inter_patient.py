"""The literature's N S V table against hand-worked cases and scikit-learn; intervals over records."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from ecgkan.errors import DataError
from ecgkan.evaluation.inter_patient import (
    RecordConfusions,
    bootstrap_over_records,
    class_f1,
    headline_accuracy,
    headline_figures,
    headline_macro_f1,
    patients_document,
    record_confusions,
)

N, S, V, F, Q = range(5)


def drawn_beats(n: int = 3000) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]:
    rng = np.random.default_rng(3)
    labels = rng.choice(5, n, p=[0.7, 0.1, 0.1, 0.07, 0.03])
    predicted = np.where(rng.random(n) < 0.8, labels, rng.integers(0, 5, n))
    return labels, predicted, rng.choice(["100", "232", "234"], n)


def test_a_hand_worked_table() -> None:
    labels = np.array([N, N, N, N, S, S, V, V, V, F, F, Q])
    predicted = np.array([N, N, S, F, S, N, V, V, Q, V, S, N])
    figures = headline_figures(record_confusions(labels, predicted, np.full(12, "100")).total)
    # 9 beats of N S V, 5 of them right; the F, F and Q beats count neither as missed nor as false positives.
    assert figures.accuracy == pytest.approx(5 / 9)
    np.testing.assert_allclose(figures.sensitivity, [2 / 4, 1 / 2, 2 / 3])
    np.testing.assert_allclose(figures.predictive_value, [2 / 3, 1 / 2, 2 / 2])
    np.testing.assert_allclose(figures.f1, [4 / 7, 1 / 2, 4 / 5])
    assert figures.macro_f1 == pytest.approx((4 / 7 + 1 / 2 + 4 / 5) / 3)


def test_figures_equal_scikit_learns_on_the_beats_that_remain() -> None:
    labels, predicted, records = drawn_beats()
    figures = headline_figures(record_confusions(labels, predicted, records).total)
    kept = labels <= V
    precision, recall, f1, _ = precision_recall_fscore_support(labels[kept], predicted[kept], labels=[N, S, V])
    np.testing.assert_allclose(figures.predictive_value, precision)
    np.testing.assert_allclose(figures.sensitivity, recall)
    np.testing.assert_allclose(figures.f1, f1)
    assert figures.accuracy == pytest.approx((labels == predicted)[kept].mean())


def test_the_five_class_table_equals_scikit_learns() -> None:
    labels, predicted, records = drawn_beats()
    table = patients_document(record_confusions(labels, predicted, records), resamples=5)["five_class"]
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, labels=range(5))
    for i, letter in enumerate("NSVFQ"):
        assert table["classes"][letter] == pytest.approx({"se": recall[i], "ppv": precision[i], "f1": f1[i]}, abs=1e-6)
    assert table["macro_f1"] == pytest.approx(f1.mean(), abs=1e-6)
    assert table["accuracy"] == pytest.approx((labels == predicted).mean(), abs=1e-6)


def test_s_with_and_without_record_232_and_by_record() -> None:
    labels, predicted, records = drawn_beats()
    confusions = record_confusions(labels, predicted, records)
    document = patients_document(confusions, resamples=5)
    others = records != "232"
    without = record_confusions(labels[others], predicted[others], records[others])
    assert document["headline_without_232"] == patients_document(without, resamples=5)["headline"]
    assert document["headline_without_232"] != document["headline"]
    assert set(document["by_record"]) == {"100", "232", "234"}
    assert sum(entry["beats"] for entry in document["by_record"].values()) == document["headline"]["beats"]
    again = RecordConfusions.from_dict(document["confusion_by_record"])
    assert again.records == confusions.records
    np.testing.assert_array_equal(again.counts, confusions.counts)


def test_what_is_undefined_is_none_and_no_zero() -> None:
    confusions = record_confusions(np.array([N, N]), np.array([N, N]), np.array(["100", "103"]))
    document = patients_document(confusions, resamples=5)
    assert document["headline"]["classes"]["S"] == {"se": None, "ppv": None, "f1": None}
    assert document["headline"]["macro_f1"] == 1.0
    assert document["headline_without_232"]["beats"] == 2


def test_the_bootstrap_draws_records_and_not_beats() -> None:
    right, wrong = np.zeros((5, 5), dtype=np.int64), np.zeros((5, 5), dtype=np.int64)
    right[N, N], wrong[N, S] = 1000, 1000
    # One of two records is all wrong: over records accuracy may be 0, 0.5 or 1; over beats it would be near 0.5.
    assert bootstrap_over_records(np.stack([right, wrong]), headline_accuracy) == (0.0, 1.0)
    assert bootstrap_over_records(np.stack([right, right]), headline_accuracy) == (1.0, 1.0)


def test_intervals_hold_the_figure_and_repeat_with_the_seed() -> None:
    counts = record_confusions(*drawn_beats()).counts
    for statistic in (headline_macro_f1, headline_accuracy, class_f1("S")):
        interval = bootstrap_over_records(counts, statistic, seed=1)
        assert interval.low <= statistic(counts.sum(axis=0)) <= interval.high
        assert interval == bootstrap_over_records(counts, statistic, seed=1)


def test_records_must_be_as_many_as_labels() -> None:
    with pytest.raises(DataError, match="2 labels but 1 records"):
        record_confusions(np.array([0, 1]), np.array([0, 1]), np.array(["100"]))
