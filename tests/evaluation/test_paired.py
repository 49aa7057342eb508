"""Paired tests against SciPy and hand computation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import permutation_test, wilcoxon

from ecgkan.errors import DataError
from ecgkan.evaluation.inter_patient import headline_accuracy
from ecgkan.evaluation.paired import (
    cohens_d,
    compare_paired,
    holm,
    rank_biserial,
    record_swap_p,
    sign_flip_p,
    smallest_p,
)

DIFFERENCES = np.array([0.021, -0.004, 0.013, 0.009, 0.017])


def counts(accuracies: list[list[float]], beats: int = 1000) -> NDArray[np.int64]:
    """Confusion matrices `[seeds, records, 5, 5]` of N beats with the given accuracies."""
    matrices = np.zeros((*np.shape(accuracies), 5, 5), dtype=np.int64)
    right = np.round(np.array(accuracies) * beats).astype(np.int64)
    matrices[..., 0, 0], matrices[..., 0, 1] = right, beats - right
    return matrices


def test_the_sign_flip_test_equals_scipys_exact_one() -> None:
    scipys = permutation_test((DIFFERENCES,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(DIFFERENCES) == pytest.approx(scipys.pvalue)
    assert sign_flip_p(DIFFERENCES) == pytest.approx(4 / 32)


def test_five_seeds_cannot_give_a_p_below_a_sixteenth() -> None:
    assert sign_flip_p(np.abs(DIFFERENCES)) == smallest_p(5) == 1 / 16
    assert sign_flip_p(np.zeros(5)) == 1.0
    assert smallest_p(1) == 1.0


def test_too_many_differences_to_go_through() -> None:
    with pytest.raises(DataError, match="1 to 16 differences, got 17"):
        sign_flip_p(np.ones(17))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_nor_changes_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1.0 for p, q in zip(p_values, adjusted, strict=True))
    for i, j in itertools.combinations(range(len(p_values)), 2):
        assert (p_values[i] <= p_values[j]) <= (adjusted[i] <= adjusted[j])


def test_effect_sizes_by_hand() -> None:
    assert cohens_d(DIFFERENCES) == pytest.approx(DIFFERENCES.mean() / DIFFERENCES.std(ddof=1))
    assert np.isnan(cohens_d(np.array([0.1])))
    assert np.isnan(cohens_d(np.array([0.1, 0.1])))
    assert rank_biserial(DIFFERENCES) == pytest.approx((5 + 4 + 3 + 2 - 1) / 15)
    favourable = 15 - wilcoxon(DIFFERENCES).statistic
    assert rank_biserial(DIFFERENCES) == pytest.approx((favourable - (15 - favourable)) / 15)
    assert np.isnan(rank_biserial(np.zeros(3)))


def test_swapping_records_equals_going_through_all_of_them() -> None:
    a = counts([[0.9, 0.8, 0.95, 0.7], [0.92, 0.81, 0.9, 0.75]])
    b = counts([[0.85, 0.8, 0.9, 0.72], [0.88, 0.79, 0.93, 0.7]])
    by_record = (a - b)[..., 0, 0].sum(axis=0)  # accuracy is linear in the counts, so this is all there is to it
    flipped = [abs(np.dot(signs, by_record)) for signs in itertools.product((1, -1), repeat=4)]
    exact = np.mean(np.array(flipped) >= abs(by_record.sum()))
    assert record_swap_p(a, b, headline_accuracy) == pytest.approx(exact, abs=0.02)


def test_the_smallest_p_over_records_is_that_of_the_permutations() -> None:
    a, b = counts([[0.9] * 22]), counts([[0.8] * 22])
    assert record_swap_p(a, b, headline_accuracy, permutations=999) == 1 / 1000
    assert record_swap_p(a, a, headline_accuracy, permutations=99) == 1.0


def test_a_paired_comparison() -> None:
    rng = np.random.default_rng(0)
    patients = rng.uniform(0.5, 0.99, 22)  # patients differ far more than the models do
    b = counts([(patients - 0.02 + rng.normal(0, 0.002, 22)).tolist() for _ in range(5)])
    a = counts([(patients + rng.normal(0, 0.002, 22)).tolist() for _ in range(5)])
    compared = compare_paired(a, b, headline_accuracy)
    assert compared.mean == pytest.approx(np.mean(compared.differences)) == pytest.approx(0.02, abs=0.003)
    assert compared.seeds_p == 1 / 16
    assert compared.records_p == pytest.approx(0.0001)
    # Pairing takes the patients' spread out: the interval is far narrower than that of either model.
    for interval in (compared.records_interval, compared.both_interval):
        assert 0.015 < interval.low < compared.mean < interval.high < 0.025
    assert compared.cohens_d > 5
    assert compared.rank_biserial == 1.0


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match="one shape"):
        compare_paired(counts([[0.9]]), counts([[0.9, 0.8]]), headline_accuracy)
