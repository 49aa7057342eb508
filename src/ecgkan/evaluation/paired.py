"""Paired comparison of two models: over the same seeds, over the same records, and over both.

Two sources of chance stand behind a difference. Another seed is another training: the sign-flip test over seeds asks
whether the difference would come out so with other trainings, on these very patients. Other patients are
another matter: the tests and intervals over records ask that, for these very trainings. A difference that holds for
both is one to rely on.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError
from ecgkan.evaluation.inter_patient import Statistic, draw_records, percentile_interval
from ecgkan.evaluation.metrics import RESAMPLES, Interval

PERMUTATIONS: Final = 9_999
"""Random swaps of the test over records; its smallest p is 1 in 10,000."""

_TIE: Final = 1e-12
"""Sums in another order differ by rounding; such permutations are as extreme as the observed one."""

_MOST_EXACT: Final = 16


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """One model against another, figure by figure of the same seeds and records.

    Attributes
    ----------
    differences : tuple of float
        The figure of model A minus that of model B, by seed.
    mean : float
        Their mean.
    seeds_p : float
        Exact sign-flip test over seeds, two-sided.
    records_p : float
        Test over records: arms swapped record by record, two-sided.
    records_interval, both_interval : Interval
        95 % bootstrap intervals of `mean`: over records, and over records and seeds.
    cohens_d : float
        `mean` over the standard deviation of `differences` (d_z); NaN with one seed, or without spread.
    rank_biserial : float
        Matched-pairs rank-biserial correlation, -1..1.
    """

    differences: tuple[float, ...]
    mean: float
    seeds_p: float
    records_p: float
    records_interval: Interval
    both_interval: Interval
    cohens_d: float
    rank_biserial: float


def compare_paired(
    a: NDArray[np.integer],
    b: NDArray[np.integer],
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> PairedComparison:
    """Compare two models trained from the same seeds and scored on the same records.

    Parameters
    ----------
    a, b : ndarray
        `[n_seeds, n_records, 5, 5]`, confusion matrices; seeds and records in the same order.
    statistic : callable
        From matrices `[..., 5, 5]` to figures `[...]`.
    resamples, permutations : int
        Of the bootstrap, and of the test over records.
    seed : int
        Of the random generator.

    Raises
    ------
    DataError
        If the shapes differ or there is nothing to compare.
    """
    if a.shape != b.shape or a.ndim != 4 or 0 in a.shape:
        raise DataError(
            f"a paired comparison needs two arrays [seeds, records, 5, 5] of one shape, got {list(a.shape)} and "
            f"{list(b.shape)}"
        )
    differences = statistic(a.sum(axis=1)) - statistic(b.sum(axis=1))
    return PairedComparison(
        differences=tuple(float(value) for value in differences),
        mean=float(differences.mean()),
        seeds_p=sign_flip_p(differences),
        records_p=record_swap_p(a, b, statistic, permutations=permutations, seed=seed),
        records_interval=percentile_interval(_over_records(a, b, statistic, resamples, seed)),
        both_interval=percentile_interval(_over_both(a, b, statistic, resamples, seed)),
        cohens_d=cohens_d(differences),
        rank_biserial=rank_biserial(differences),
    )


def sign_flip_p(differences: NDArray[np.float64]) -> float:
    """Test that paired differences are symmetric about 0 by flipping every combination of their signs, two-sided.

    Fisher's exact permutation test for pairs: with n differences no p below `smallest_p(n)` can come out.

    Raises
    ------
    DataError
        If there are none, or too many to go through all combinations.

    Examples
    --------
    >>> sign_flip_p(np.array([1.0, 2.0, 3.0]))
    0.25
    """
    n = len(differences)
    if not 1 <= n <= _MOST_EXACT:
        raise DataError(f"the exact sign-flip test takes 1 to {_MOST_EXACT} differences, got {n}")
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
    means = np.abs(signs @ differences)
    return float((means >= means[0] - _TIE).mean())


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that the exact sign-flip test of n pairs can give: 2 / 2^n."""
    return min(1.0, 2.0 / 2.0**n)


def record_swap_p(
    a: NDArray[np.integer],
    b: NDArray[np.integer],
    statistic: Statistic,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Test that it does not matter which model scored a record, by swapping the two on random halves of the records.

    A record is swapped for all seeds together, because its beats are one patient's. Monte-Carlo p of
    Davison & Hinkley (1997), `(1 + extreme) / (1 + permutations)`, two-sided, of the mean difference over seeds.

    Parameters
    ----------
    a, b : ndarray
        `[n_seeds, n_records, 5, 5]`.
    """
    rng = np.random.default_rng(seed)
    swapped = rng.integers(0, 2, (permutations, a.shape[1]))
    towards_b = np.einsum("pr,srij->psij", swapped, b - a)
    one = statistic(a.sum(axis=1) + towards_b)
    other = statistic(b.sum(axis=1) - towards_b)
    drawn = np.abs(np.nanmean(one - other, axis=1))
    observed = abs(float(np.nanmean(statistic(a.sum(axis=1)) - statistic(b.sum(axis=1)))))
    return float((1 + (drawn >= observed - _TIE).sum()) / (1 + permutations))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values of several tests so that the chance of any false alarm stays below the level (Holm 1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def cohens_d(differences: NDArray[np.float64]) -> float:
    """Return Cohen's d_z, the mean of paired differences over their sample standard deviation; NaN without spread."""
    if len(differences) < 2:
        return float("nan")
    spread = float(np.std(differences, ddof=1))
    return float(np.mean(differences)) / spread if spread > 0 else float("nan")


def rank_biserial(differences: NDArray[np.float64]) -> float:
    """Return the matched-pairs rank-biserial correlation (Kerby 2014): (favourable - unfavourable) / all rank sums.

    Differences of 0 are left out, as in Wilcoxon's test; NaN if no other is left.
    """
    from scipy.stats import rankdata

    kept = differences[differences != 0]
    if len(kept) == 0:
        return float("nan")
    ranks = rankdata(np.abs(kept))
    return float((ranks * np.sign(kept)).sum() / ranks.sum())


def _over_records(
    a: NDArray[np.integer], b: NDArray[np.integer], statistic: Statistic, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Resample records, the same ones for both models and all seeds: mean differences `[resamples]`."""
    weights = draw_records(a.shape[1], resamples=resamples, seed=seed)
    figures = [statistic(np.einsum("wr,srij->wsij", weights, counts)) for counts in (a, b)]
    means: NDArray[np.float64] = (figures[0] - figures[1]).mean(axis=1)
    return means


def _over_both(
    a: NDArray[np.integer], b: NDArray[np.integer], statistic: Statistic, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Resample records and, independently, seeds: mean differences `[resamples]`."""
    n_seeds = len(a)
    weights = draw_records(a.shape[1], resamples=resamples, seed=seed)
    figures = [statistic(np.einsum("wr,srij->wsij", weights, counts)) for counts in (a, b)]
    drawn = draw_records(n_seeds, resamples=resamples, seed=seed + 1)
    means: NDArray[np.float64] = ((figures[0] - figures[1]) * drawn).sum(axis=1) / n_seeds
    return means
