"""Figures of merit of a classifier of beats: from a confusion matrix, from probabilities, and their intervals.

Pure functions of arrays. Rows of a confusion matrix are the reference class, columns the predicted one; class
order is N S V F Q. What is undefined (0/0: the precision of a class never predicted, the recall of a class without
beats, the F1 of a class that is neither) is NaN, and means over classes are taken over the classes where the
figure is defined, never over made-up zeros.
"""

from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.errors import DataError

RELIABILITY_BINS: Final = 15
"""Equal-width confidence bins of the expected calibration error (Guo et al. 2017 use the same number)."""

INTERVAL_LEVEL: Final = 0.95
RESAMPLES: Final = 1000

_SUM_TOLERANCE: Final = 1e-3
_SMALLEST_PROBABILITY: Final = 1e-15
_CHUNK: Final = 50


class Interval(NamedTuple):
    """A confidence interval; NaN where the figure is undefined."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionMetrics:
    """Figures that follow from a confusion matrix alone.

    Attributes
    ----------
    confusion : ndarray
        `[5, 5]` int64, rows reference, columns predicted.
    accuracy : float
        Share of beats predicted right.
    macro_f1 : float
        Mean of `f1` over the classes where it is defined.
    weighted_f1 : float
        Mean of `f1` weighted by `support`.
    precision, recall, f1 : ndarray
        `[5]` float64; precision is the field's +P, recall its Se.
    support : ndarray
        `[5]` int64, reference beats per class.
    """

    confusion: NDArray[np.int64]
    accuracy: float
    macro_f1: float
    weighted_f1: float
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Confidence (the highest probability of a beat) against accuracy, in equal-width bins over [0, 1].

    Attributes
    ----------
    edges : ndarray
        `[16]` float64; bin i holds confidences in (edges[i], edges[i + 1]], the first one also 0.
    counts : ndarray
        `[15]` int64, beats per bin.
    confidence, accuracy : ndarray
        `[15]` float64, means over the beats of a bin; NaN where it is empty.
    calibration_error : float
        Expected calibration error: mean over beats of the absolute difference of the two.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    calibration_error: float


@dataclass(frozen=True, slots=True, eq=False)
class Metrics(ConfusionMetrics):
    """All figures, from labels and probabilities.

    Attributes
    ----------
    auc : ndarray
        `[5]` float64, area under the ROC curve, one class against the rest.
    macro_auc : float
        Mean of `auc` over the classes where it is defined.
    negative_log_likelihood : float
        Mean of -log(probability of the reference class), natural logarithm, probabilities clipped at 1e-15.
    brier : float
        Mean over beats of the squared differences from the one-hot reference, summed over classes: 0 (best) to 2.
    reliability : Reliability
        Calibration of the highest probability.
    """

    auc: NDArray[np.float64]
    macro_auc: float
    negative_log_likelihood: float
    brier: float
    reliability: Reliability


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Bootstrap percentile intervals of the figures; `auc` and `macro_auc` need probabilities, else they are None."""

    accuracy: Interval
    macro_f1: Interval
    weighted_f1: Interval
    precision: tuple[Interval, ...]
    recall: tuple[Interval, ...]
    f1: tuple[Interval, ...]
    auc: tuple[Interval, ...] | None = None
    macro_auc: Interval | None = None


class Curve(NamedTuple):
    """Points of a ROC curve (false positive rate, recall) or a precision-recall curve (recall, precision)."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area: float


class _Figures(NamedTuple):
    """Figures of many confusion matrices at once: leading axes as those of the matrices `[..., k, k]`."""

    accuracy: NDArray[np.float64]  # [...]
    macro_f1: NDArray[np.float64]  # [...]
    weighted_f1: NDArray[np.float64]  # [...]
    precision: NDArray[np.float64]  # [..., k]
    recall: NDArray[np.float64]  # [..., k]
    f1: NDArray[np.float64]  # [..., k]


def confusion_matrix(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count beats by reference class (rows) and predicted class (columns).

    Parameters
    ----------
    labels, predicted : ndarray
        `[n]` integer, class indices 0..4.

    Returns
    -------
    ndarray
        `[5, 5]` int64.

    Raises
    ------
    DataError
        If shapes differ or an index is no class.
    """
    _check_class_indices(labels, "labels")
    _check_class_indices(predicted, "predicted classes")
    if labels.shape != predicted.shape:
        raise DataError(f"{len(labels)} labels but {len(predicted)} predicted classes; expected one of each per beat")
    k = len(CLASSES)
    cells = labels.astype(np.int64) * k + predicted.astype(np.int64)
    return np.bincount(cells, minlength=k * k).reshape(k, k)


def metrics_from_confusion(confusion: NDArray[np.integer]) -> ConfusionMetrics:
    """Compute the figures that follow from a confusion matrix.

    Parameters
    ----------
    confusion : ndarray
        `[5, 5]` integer, rows reference, columns predicted, class order N S V F Q.

    Raises
    ------
    DataError
        If it is no confusion matrix of five classes, or holds no beats.
    """
    confusion = _check_confusion(confusion)
    figures = _figures(confusion)
    return ConfusionMetrics(
        confusion=confusion,
        accuracy=float(figures.accuracy),
        macro_f1=float(figures.macro_f1),
        weighted_f1=float(figures.weighted_f1),
        precision=figures.precision,
        recall=figures.recall,
        f1=figures.f1,
        support=confusion.sum(axis=1),
    )


def classification_metrics(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Metrics:
    """Compute all figures; the predicted class is the most probable one, the first of equals.

    Parameters
    ----------
    labels : ndarray
        `[n]` integer, class indices 0..4.
    probabilities : ndarray
        `[n, 5]` floating point, rows summing to 1.

    Raises
    ------
    DataError
        If shapes do not fit, there are no beats, a label is no class, or a probability is NaN, outside of [0, 1], or
        a row does not sum to 1.
    """
    probabilities = _check_probabilities(labels, probabilities)
    from_confusion = metrics_from_confusion(confusion_matrix(labels, probabilities.argmax(axis=1)))
    rows = np.arange(len(labels))
    one_hot = np.eye(len(CLASSES))[labels]
    auc = _auc_per_class(labels, probabilities, np.ones((1, len(labels)), dtype=np.int64))[0]
    likelihood = np.clip(probabilities[rows, labels], _SMALLEST_PROBABILITY, None)
    return Metrics(
        **{field.name: getattr(from_confusion, field.name) for field in fields(from_confusion)},
        auc=auc,
        macro_auc=float(_mean_of_defined(auc)),
        negative_log_likelihood=float(-np.log(likelihood).mean()),
        brier=float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        reliability=reliability(labels, probabilities),
    )


def reliability(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Reliability:
    """Compare confidence with accuracy in 15 equal-width bins.

    The expected calibration error of Naeini et al. (2015) and Guo et al. (2017), on the most probable class.

    Raises
    ------
    DataError
        See `classification_metrics`.
    """
    probabilities = _check_probabilities(labels, probabilities)
    confidence = np.minimum(probabilities.max(axis=1), 1.0)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, RELIABILITY_BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, None)
    counts = np.bincount(bins, minlength=RELIABILITY_BINS)
    summed_confidence = np.bincount(bins, confidence, RELIABILITY_BINS)
    summed_right = np.bincount(bins, right, RELIABILITY_BINS)
    return Reliability(
        edges=edges,
        counts=counts,
        confidence=_ratio(summed_confidence, counts),
        accuracy=_ratio(summed_right, counts),
        calibration_error=float(np.abs(summed_confidence - summed_right).sum() / len(labels)),
    )


def bootstrap_confusion(
    confusion: NDArray[np.integer], *, resamples: int = RESAMPLES, seed: int = 0, level: float = INTERVAL_LEVEL
) -> Intervals:
    """Bootstrap the figures that follow from a confusion matrix.

    Drawing n beats with replacement and counting them by cell is drawing the cells' counts from a
    multinomial distribution, so the matrices are drawn directly. Percentile intervals (Efron & Tibshirani 1993).

    Parameters
    ----------
    confusion : ndarray
        `[5, 5]` integer.
    resamples : int
        Number of bootstrap resamples.
    seed : int
        Of the random generator: the same seed gives the same intervals.
    level : float
        Nominal coverage, between 0 and 1.

    Raises
    ------
    DataError
        If the matrix is not one, or an option is out of range.
    """
    confusion = _check_confusion(confusion)
    _check_bootstrap(resamples, level)
    rng = np.random.default_rng(seed)
    beats = int(confusion.sum())
    figures = _figures(rng.multinomial(beats, confusion.ravel() / beats, resamples).reshape(-1, *confusion.shape))
    return Intervals(
        accuracy=_percentiles(figures.accuracy, level),
        macro_f1=_percentiles(figures.macro_f1, level),
        weighted_f1=_percentiles(figures.weighted_f1, level),
        precision=_percentiles_per_class(figures.precision, level),
        recall=_percentiles_per_class(figures.recall, level),
        f1=_percentiles_per_class(figures.f1, level),
    )


def bootstrap_metrics(
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = INTERVAL_LEVEL,
) -> Intervals:
    """Bootstrap all figures: `bootstrap_confusion`, and the AUCs by drawing beats with replacement.

    Beats are drawn singly, not patient by patient: the intervals speak of the sampling of beats, not of patients.

    Parameters
    ----------
    labels : ndarray
        `[n]` integer, class indices 0..4.
    probabilities : ndarray
        `[n, 5]` floating point.
    resamples, seed, level
        See `bootstrap_confusion`.

    Raises
    ------
    DataError
        See `classification_metrics` and `bootstrap_confusion`.
    """
    probabilities = _check_probabilities(labels, probabilities)
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1))
    intervals = bootstrap_confusion(confusion, resamples=resamples, seed=seed, level=level)
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, resamples, _CHUNK):
        weights = _draw_beats(rng, len(labels), min(_CHUNK, resamples - start))
        parts.append(_auc_per_class(labels, probabilities, weights))
    auc = np.concatenate(parts)  # [resamples, 5]
    return Intervals(
        **{field.name: getattr(intervals, field.name) for field in fields(intervals) if "auc" not in field.name},
        auc=_percentiles_per_class(auc, level),
        macro_auc=_percentiles(_mean_of_defined(auc), level),
    )


def roc_curve(labels: NDArray[np.integer], probabilities: NDArray[np.floating], class_index: int) -> Curve | None:
    """Return the ROC curve of a class against the rest; None where the class has no beats, or all of them."""
    from sklearn.metrics import auc
    from sklearn.metrics import roc_curve as sklearn_roc_curve

    positive = labels == class_index
    if positive.all() or not positive.any():
        return None
    false_positive_rate, recall, _ = sklearn_roc_curve(positive, probabilities[:, class_index])
    return Curve(false_positive_rate, recall, float(auc(false_positive_rate, recall)))


def precision_recall_curve(
    labels: NDArray[np.integer], probabilities: NDArray[np.floating], class_index: int
) -> Curve | None:
    """Return the precision-recall curve of a class, its area the average precision; None where it has no beats."""
    from sklearn.metrics import average_precision_score
    from sklearn.metrics import precision_recall_curve as sklearn_precision_recall_curve

    positive = labels == class_index
    if not positive.any():
        return None
    score = probabilities[:, class_index]
    precision, recall, _ = sklearn_precision_recall_curve(positive, score, drop_intermediate=True)
    return Curve(recall[::-1], precision[::-1], float(average_precision_score(positive, score)))


def _figures(matrices: NDArray[np.integer]) -> _Figures:
    """Compute figures of matrices `[..., k, k]`."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    support, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    f1 = _ratio(2 * hits, support + predicted)
    beats = support.sum(axis=-1)
    return _Figures(
        accuracy=_ratio(hits.sum(axis=-1), beats),
        macro_f1=_mean_of_defined(f1),
        # A class without reference beats has weight 0, whatever its F1.
        weighted_f1=_ratio((np.nan_to_num(f1) * support).sum(axis=-1), beats),
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, support),
        f1=f1,
    )


def _ratio(numerator: NDArray[np.number], denominator: NDArray[np.number]) -> NDArray[np.float64]:
    """Divide element by element; NaN where the denominator is 0."""
    defined = denominator > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)


def _mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over the last axis, leaving out NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def _draw_beats(rng: np.random.Generator, beats: int, resamples: int) -> NDArray[np.int64]:
    """Draw `beats` of `beats` with replacement, `resamples` times: how often each was drawn, `[resamples, beats]`."""
    drawn = rng.integers(0, beats, (resamples, beats)) + beats * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * beats).reshape(resamples, beats)


def _auc_per_class(
    labels: NDArray[np.integer], probabilities: NDArray[np.float64], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute one-vs-rest AUCs with each beat counted `weights` `[r, n]` times: `[r, 5]`, NaN where undefined."""
    columns = [_auc(probabilities[:, i], labels == i, weights) for i in range(len(CLASSES))]
    return np.stack(columns, axis=-1)


def _auc(scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the area under the ROC curve as the Mann-Whitney statistic, ties counted half: `[r]`."""
    # The fewer of positives and negatives are ranked among all: their pairs among themselves sum to half the
    # square of their number, so that only one cumulative sum over all beats is needed.
    few_are_positive = positive.sum() * 2 <= len(positive)
    few = positive if few_are_positive else ~positive
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    chosen = np.flatnonzero(few[order])
    first, last = (np.searchsorted(ordered, ordered[chosen], side=side) for side in ("left", "right"))
    counted = weights[:, order]
    below = np.pad(counted.cumsum(axis=1), ((0, 0), (1, 0)))
    of_few = counted[:, chosen]
    n_few = of_few.sum(axis=1)
    statistic = (of_few * (below[:, first] + below[:, last])).sum(axis=1) / 2 - n_few**2 / 2
    area = _ratio(statistic, n_few * (below[:, -1] - n_few))
    return area if few_are_positive else 1 - area


def _percentiles(values: NDArray[np.float64], level: float) -> Interval:
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(defined, [50 * (1 - level), 50 * (1 + level)])
    return Interval(float(low), float(high))


def _percentiles_per_class(values: NDArray[np.float64], level: float) -> tuple[Interval, ...]:
    return tuple(_percentiles(column, level) for column in values.T)


def _check_class_indices(indices: NDArray[np.integer], what: str) -> None:
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise DataError(f"{what} must be integers of shape [n], got {indices.dtype} {list(indices.shape)}")
    if len(indices) == 0:
        raise DataError(f"no {what}: expected at least one beat")
    if indices.min() < 0 or indices.max() >= len(CLASSES):
        raise DataError(
            f"{what} run from {indices.min()} to {indices.max()}; expected class indices 0 to {len(CLASSES) - 1} "
            f"({' '.join(CLASSES)})"
        )


def _check_confusion(confusion: NDArray[np.integer]) -> NDArray[np.int64]:
    k = len(CLASSES)
    if confusion.shape != (k, k) or not np.issubdtype(confusion.dtype, np.integer) or (confusion < 0).any():
        raise DataError(
            f"expected a confusion matrix of counts, integers ≥ 0 of shape [{k}, {k}], got {confusion.dtype} "
            f"{list(confusion.shape)}"
        )
    if confusion.sum() == 0:
        raise DataError("the confusion matrix holds no beats")
    return confusion.astype(np.int64)


def _check_probabilities(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    _check_class_indices(labels, "labels")
    if probabilities.shape != (len(labels), len(CLASSES)):
        raise DataError(
            f"expected probabilities of shape [{len(labels)}, {len(CLASSES)}] for {len(labels)} beats, got "
            f"{list(probabilities.shape)}"
        )
    wide = probabilities.astype(np.float64)
    not_finite = ~np.isfinite(wide).all(axis=1)
    if not_finite.any():
        raise DataError(
            f"{int(not_finite.sum())} of {len(wide)} beats have NaN or infinite probabilities (first: beat "
            f"{int(not_finite.argmax())}); the model's weights or its input are bad"
        )
    off = np.abs(wide.sum(axis=1) - 1).max()
    if wide.min() < 0 or off > _SUM_TOLERANCE:
        raise DataError(
            f"probabilities must be ≥ 0 and sum to 1 for each beat; the lowest is {wide.min():.3g}, sums are off by "
            f"up to {off:.3g}; apply the softmax to logits first"
        )
    return wide


def _check_bootstrap(resamples: int, level: float) -> None:
    if resamples < 1 or not 0 < level < 1:
        raise DataError(f"expected at least one resample and a level between 0 and 1, got {resamples} and {level}")
