"""Risk against coverage."""

import numpy as np
import pytest

from ecgkan.errors import DataError
from ecgkan.evaluation.selective import COVERAGES, risk_coverage


def test_by_hand() -> None:
    confidence = np.linspace(1, 0.5, 100)
    correct = np.ones(100, bool)
    correct[[97, 99]] = False
    curve = risk_coverage(confidence, correct)
    assert curve.at(1.0) == pytest.approx(0.02)
    assert curve.at(0.98) == pytest.approx(1 / 98)
    assert curve.at(0.95) == 0
    assert curve.area == pytest.approx((1 / 98 + 1 / 99 + 2 / 100) / 100, abs=1e-6)


def test_ties_are_told_pessimistically() -> None:
    curve = risk_coverage(np.full(10, 0.9), np.arange(10) >= 5)
    assert curve.at(0.5) == 1.0


def test_order_of_beats_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(500), rng.random(500) < 0.9
    shuffled = rng.permutation(500)
    assert risk_coverage(confidence, correct) == risk_coverage(confidence[shuffled], correct[shuffled])


def test_a_single_beat() -> None:
    assert risk_coverage(np.array([0.7]), np.array([False])).risk == (1.0,) * len(COVERAGES)


@pytest.mark.parametrize("n", [0, 3])
def test_lengths(n: int) -> None:
    with pytest.raises(DataError, match="at least one"):
        risk_coverage(np.ones(n), np.ones(2 if n else 0, bool))
