"""Figures of protocol `inter-patient`: the literature's N S V table, all five classes, by record, over records.

Pure functions of arrays, so that any classifier of beats can be scored by them. Everything follows from one confusion
matrix per record; rows are the reference class, columns the predicted one, class order N S V F Q.

The literature's table (after de Chazal et al. 2004) leaves the reference beats of class F and Q out: they are neither
missed nor false positives. A prediction of F or Q on a beat of the other classes is an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.errors import DataError
from ecgkan.evaluation.metrics import INTERVAL_LEVEL, RESAMPLES, Interval, confusion_matrix

HEADLINE_CLASSES: Final = ("N", "S", "V")
"""Classes of the literature's table."""

DOMINANT_S_RECORD: Final = "232"
"""Holds 1,382 of DS2's 1,837 S beats: figures of S are told with and without it."""

Statistic = Callable[[NDArray[np.integer]], NDArray[np.float64]]
"""From confusion matrices `[..., 5, 5]` to one figure each `[...]`."""


class HeadlineFigures(NamedTuple):
    """The literature's table; leading axes as those of the confusion matrices it was computed from.

    NaN where undefined (0/0). `macro_f1` averages the classes whose F1 is defined.
    """

    accuracy: NDArray[np.float64]  # [...]
    macro_f1: NDArray[np.float64]  # [...]
    sensitivity: NDArray[np.float64]  # [..., 3], Se
    predictive_value: NDArray[np.float64]  # [..., 3], +P
    f1: NDArray[np.float64]  # [..., 3]


@dataclass(frozen=True, slots=True, eq=False)
class RecordConfusions:
    """One confusion matrix per record: all that figures of this protocol need.

    Attributes
    ----------
    records : tuple of str
        Records, in order of appearance.
    counts : ndarray
        `[n_records, 5, 5]` int64, rows reference, columns predicted.
    """

    records: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def total(self) -> NDArray[np.int64]:
        """The confusion matrix of all records together, `[5, 5]`."""
        summed: NDArray[np.int64] = self.counts.sum(axis=0)
        return summed

    def without(self, *records: str) -> "RecordConfusions":
        """Leave records out."""
        kept = [i for i, record in enumerate(self.records) if record not in records]
        return RecordConfusions(tuple(self.records[i] for i in kept), self.counts[kept])

    def to_dict(self) -> dict[str, list[list[int]]]:
        """Return record → matrix as plain lists."""
        return dict(zip(self.records, self.counts.tolist(), strict=True))

    @classmethod
    def from_dict(cls, matrices: dict[str, list[list[int]]]) -> "RecordConfusions":
        """Read what `to_dict` wrote."""
        return cls(tuple(matrices), np.array(list(matrices.values()), dtype=np.int64).reshape(-1, 5, 5))


def record_confusions(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], records: NDArray[np.str_]
) -> RecordConfusions:
    """Count beats by record, reference class and predicted class.

    Parameters
    ----------
    labels, predicted : ndarray
        `[n]` integer, class indices 0..4.
    records : ndarray
        `[n]` str.

    Raises
    ------
    DataError
        If shapes differ, there are no beats, or an index is no class.

    Examples
    --------
    >>> counted = record_confusions(np.array([0, 1, 0]), np.array([0, 0, 0]), np.array(["100", "100", "103"]))
    >>> counted.records, counted.total[:2, :2].tolist()
    (('100', '103'), [[2, 0], [1, 0]])
    """
    if len(records) != len(labels):
        raise DataError(f"{len(labels)} labels but {len(records)} records; expected one of each per beat")
    names = tuple(dict.fromkeys(records.tolist()))
    chosen = [records == name for name in names]
    return RecordConfusions(names, np.stack([confusion_matrix(labels[mine], predicted[mine]) for mine in chosen]))


def headline_figures(confusion: NDArray[np.integer]) -> HeadlineFigures:
    """Compute the literature's table from confusion matrices `[..., 5, 5]`.

    Examples
    --------
    An F beat taken for V counts nowhere, a V beat taken for F is missed:

    >>> confusion = np.diag([8, 2, 4, 0, 0])
    >>> confusion[3, 2], confusion[2, 3] = 5, 1
    >>> figures = headline_figures(confusion)
    >>> figures.predictive_value[2], figures.sensitivity[2]
    (np.float64(1.0), np.float64(0.8))
    """
    kept = len(HEADLINE_CLASSES)
    rows = confusion[..., :kept, :]
    hits = np.diagonal(rows[..., :kept], axis1=-2, axis2=-1)
    reference, predicted = rows.sum(axis=-1), rows[..., :kept].sum(axis=-2)
    f1 = _ratio(2 * hits, reference + predicted)
    return HeadlineFigures(
        accuracy=_ratio(hits.sum(axis=-1), reference.sum(axis=-1)),
        macro_f1=_mean_of_defined(f1),
        sensitivity=_ratio(hits, reference),
        predictive_value=_ratio(hits, predicted),
        f1=f1,
    )


def headline_macro_f1(confusion: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the macro F1 over N S V of matrices `[..., 5, 5]`: `[...]`."""
    return headline_figures(confusion).macro_f1


def headline_accuracy(confusion: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the accuracy on N S V beats of matrices `[..., 5, 5]`: `[...]`."""
    return headline_figures(confusion).accuracy


def class_f1(letter: str) -> Statistic:
    """Return the function that computes the F1 of one of N S V."""
    index = HEADLINE_CLASSES.index(letter)
    return lambda confusion: headline_figures(confusion).f1[..., index]


def draw_records(n_records: int, *, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """Draw records with replacement: how often each was drawn, `[resamples, n_records]` int64.

    A patient's beats resemble each other, so beats drawn singly would give intervals far too narrow.
    """
    if n_records < 1 or resamples < 1:
        raise DataError(f"expected at least one record and one resample, got {n_records} and {resamples}")
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_records, np.full(n_records, 1 / n_records), resamples)


def bootstrap_over_records(
    counts: NDArray[np.integer],
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = INTERVAL_LEVEL,
) -> Interval:
    """Bootstrap a figure over records: a percentile interval.

    Parameters
    ----------
    counts : ndarray
        `[n_records, 5, 5]`, one matrix per record.
    statistic : callable
        From matrices `[..., 5, 5]` to figures `[...]`.
    resamples, seed, level
        Number of resamples, seed of the generator, nominal coverage.
    """
    weights = draw_records(len(counts), resamples=resamples, seed=seed)
    return percentile_interval(statistic(np.tensordot(weights, counts, axes=1)), level=level)


def percentile_interval(values: NDArray[np.float64], *, level: float = INTERVAL_LEVEL) -> Interval:
    """Return the middle `level` of resampled figures, undefined ones left out; NaN if none is left."""
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(defined, [50 * (1 - level), 50 * (1 + level)])
    return Interval(float(low), float(high))


def patients_document(confusions: RecordConfusions, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Return all figures of one model on DS2 as plain values for JSON; undefined figures are None.

    Returns
    -------
    dict
        `headline` (N S V, F and Q beats left out), `headline_without_232`, `five_class` (all beats), `by_record`,
        `intervals_95` (bootstrap over records) and `confusion_by_record`.
    """
    counts, total = confusions.counts, confusions.total
    statistics: dict[str, Statistic] = {"accuracy": headline_accuracy, "macro_f1": headline_macro_f1}
    statistics |= {f"f1_{letter}": class_f1(letter) for letter in HEADLINE_CLASSES}
    intervals = {
        name: bootstrap_over_records(counts, statistic, resamples=resamples, seed=seed)
        for name, statistic in statistics.items()
    }
    return {
        "headline": headline_dict(total),
        f"headline_without_{DOMINANT_S_RECORD}": headline_dict(confusions.without(DOMINANT_S_RECORD).total),
        "five_class": five_class_dict(total),
        "by_record": {record: headline_dict(matrix) for record, matrix in zip(confusions.records, counts, strict=True)},
        "intervals_95": {name: [_number(bound) for bound in interval] for name, interval in intervals.items()},
        "confusion_by_record": confusions.to_dict(),
    }


def headline_dict(confusion: NDArray[np.integer]) -> dict[str, Any]:
    """Return the literature's table of one matrix `[5, 5]` as plain values."""
    figures = headline_figures(confusion)
    return {
        "beats": int(confusion[: len(HEADLINE_CLASSES)].sum()),
        "accuracy": _number(figures.accuracy),
        "macro_f1": _number(figures.macro_f1),
        "classes": _classes_dict(HEADLINE_CLASSES, figures.sensitivity, figures.predictive_value, figures.f1),
    }


def five_class_dict(confusion: NDArray[np.integer]) -> dict[str, Any]:
    """Return the table of all beats of one matrix `[5, 5]` as plain values."""
    hits, reference, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = _ratio(2 * hits, reference + predicted)
    return {
        "beats": int(confusion.sum()),
        "accuracy": _number(_ratio(hits.sum(), confusion.sum())),
        "macro_f1": _number(_mean_of_defined(f1)),
        "classes": _classes_dict(CLASSES, _ratio(hits, reference), _ratio(hits, predicted), f1),
    }


def _classes_dict(
    letters: Sequence[str],
    sensitivity: NDArray[np.float64],
    predictive_value: NDArray[np.float64],
    f1: NDArray[np.float64],
) -> dict[str, dict[str, float | None]]:
    return {
        letter: {
            "se": _number(sensitivity[i]),
            "ppv": _number(predictive_value[i]),
            "f1": _number(f1[i]),
        }
        for i, letter in enumerate(letters)
    }


def _ratio(numerator: NDArray[np.integer], denominator: NDArray[np.integer]) -> NDArray[np.float64]:
    """Divide element by element; NaN where the denominator is 0."""
    defined = denominator > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)


def _mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = ~np.isnan(values)
    count = defined.sum(axis=-1)
    mean = np.where(defined, values, 0.0).sum(axis=-1) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def _number(value: Any) -> float | None:  # noqa: ANN401
    """Round to six decimals; None where undefined, which JSON has no number for."""
    return None if np.isnan(value) else round(float(value), 6)
