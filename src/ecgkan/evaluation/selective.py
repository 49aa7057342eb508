"""Risk and coverage: how wrong a model is on the beats it is sure of.

Beats are accepted in order of confidence. At coverage c the most confident share c is accepted; risk is the error rate
among them (El-Yaniv R, Wiener Y. On the Foundations of Noise-free Selective Classification. JMLR 11:1605-1641, 2010).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError

COVERAGES: Final = (1.0, 0.99, 0.98, 0.97, 0.95, 0.925, 0.9, 0.85, 0.8, 0.7, 0.5)
"""Coverages at which the risk is told."""


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The risk-coverage curve at a few coverages.

    Attributes
    ----------
    coverage, risk : tuple of float
        Share of beats accepted, and error rate among them.
    area : float
        Mean risk over all coverages.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float

    def at(self, coverage: float) -> float:
        """Return the risk at one of the coverages."""
        return self.risk[self.coverage.index(coverage)]

    def to_dict(self) -> dict[str, Any]:
        """Return all values for JSON."""
        return {"coverage": list(self.coverage), "risk": [round(value, 6) for value in self.risk], "area": self.area}


def risk_coverage(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> RiskCoverage:
    """Compute risk against coverage.

    Parameters
    ----------
    confidence : ndarray
        `[n]`, highest probability of each beat. Of equally confident beats, wrong ones are accepted first.
    correct : ndarray
        `[n]` bool.

    Raises
    ------
    DataError
        If there are no beats, or the lengths differ.

    Examples
    --------
    >>> curve = risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, True, False]))
    >>> curve.at(1.0), curve.at(0.5)
    (0.25, 0.0)
    """
    if len(confidence) == 0 or len(confidence) != len(correct):
        raise DataError(f"{len(confidence)} confidences and {len(correct)} answers; expected as many, at least one")
    order = np.lexsort((correct, -np.asarray(confidence)))
    risks = np.cumsum(~correct[order]) / np.arange(1, len(correct) + 1)
    accepted = [max(round(share * len(correct)), 1) for share in COVERAGES]
    return RiskCoverage(COVERAGES, tuple(float(risks[n - 1]) for n in accepted), round(float(risks.mean()), 6))
