"""Many records together: gross figures, of the sum of all counts, and average ones, over the records that have them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.evaluation.ec57.beats import BeatComparison, BeatFigures, Proportion, beat_figures
from ecgkan.evaluation.ec57.labels import LABELS, ClassTable
from ecgkan.evaluation.ec57.runs import RunComparison, RunFigures, RunKind, run_figures

DEFINITIONS: Final = {
    "counts": "rows reference, columns test: N S V F Q, O no beat there, X no beat there during shutdown",
    "qrs_se": "beats paired / reference beats",
    "qrs_p": "beats paired / test beats",
    "veb_se": "V called V / V",
    "veb_p": "V called V / beats called V, without F and Q called V",
    "veb_fpr": "N S O X called V / all that is not V, without F and Q called V",
    "sveb_se": "S called S / S",
    "sveb_p": "S called S / beats called S, without Q called S; gross and average (as sumstats) without F called S",
    "sveb_fpr": "N V F O X called S / all that is not S, without Q called S; gross and average without F called S",
    "couplet": "2 ectopic beats in a row; short run: 3 to 5; long run: 6 or more, or flutter (atrial fibrillation)",
    "run_se": "the reference's runs found / the reference's runs",
    "run_p": "the test annotator's runs confirmed / the test annotator's runs",
    "rr_error_ms": "root mean square difference of the RR intervals of both annotators",
    "gross": "of the sum of all records' counts",
    "average": "mean over the records in which the figure is defined",
}
"""What the figures are, for whoever reads them in a file."""


class RecordComparison(NamedTuple):
    """All comparisons of one record."""

    record: str
    beats: BeatComparison
    ventricular: RunComparison
    supraventricular: RunComparison

    def runs(self, kind: RunKind) -> RunComparison:
        """Return the comparison of one kind of run."""
        return self.ventricular if kind == "ventricular" else self.supraventricular


class Averages(NamedTuple):
    """Mean figures over records, percent (the RR error ms); NaN where no record has one.

    Attributes
    ----------
    beats, ventricular, supraventricular : mapping
        Field of `BeatFigures`, of `RunFigures` → mean.
    rr_error_ms : float
        Mean of the records' root mean square RR errors.
    """

    beats: Mapping[str, float]
    ventricular: Mapping[str, float]
    supraventricular: Mapping[str, float]
    rr_error_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two annotators compared on many records.

    Attributes
    ----------
    records : tuple of RecordComparison
        In order.
    reference, test : str
        `DIR:ANNOTATOR`.
    classes : {'literature', 'bxb'}
        The table of classes.
    start_s, window_s : float
        Start of the comparison and match window, s.
    end_s : float, optional
        Its end, s; None: the records' ends.
    not_compared : mapping
        Record → why it was left out.
    """

    records: tuple[RecordComparison, ...]
    reference: str
    test: str
    classes: ClassTable
    start_s: float
    window_s: float
    end_s: float | None = None
    not_compared: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Sum of the records' matrices, `[7, 7]`."""
        return sum_counts(record.beats for record in self.records)

    def gross(self) -> BeatFigures:
        """Se, +P and FPR of the sum."""
        return beat_figures(self.counts, of_several_records=True)

    def gross_runs(self, kind: RunKind) -> RunFigures:
        """Couplets and runs of the sum."""
        runs = [record.runs(kind) for record in self.records]
        zero = np.zeros((7, 7), dtype=np.int64)
        return run_figures(
            sum((run.sensitivity for run in runs), start=zero), sum((run.predictivity for run in runs), start=zero)
        )

    def average(self) -> Averages:
        """Mean figures over the records."""
        figures = [beat_figures(record.beats.counts, of_several_records=True) for record in self.records]
        errors = [record.beats.rr_error_ms for record in self.records]
        return Averages(
            mean_figures(figures),
            mean_figures([record.ventricular.figures for record in self.records]),
            mean_figures([record.supraventricular.figures for record in self.records]),
            _mean(errors),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON: definitions, and every count of every record."""
        averages = self.average()
        return {
            "reference": self.reference,
            "test": self.test,
            "classes": self.classes,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "window_s": self.window_s,
            "definitions": DEFINITIONS,
            "labels": list(LABELS),
            "gross": {
                "counts": self.counts.tolist(),
                **_plain(self.gross()),
                "ventricular_runs": _plain(self.gross_runs("ventricular")),
                "supraventricular_runs": _plain(self.gross_runs("supraventricular")),
            },
            "average_percent": {
                **_finite(averages.beats),
                "ventricular_runs": _finite(averages.ventricular),
                "supraventricular_runs": _finite(averages.supraventricular),
            },
            "average_rr_error_ms": _finite_or_none(averages.rr_error_ms),
            "records": {record.record: _record_dict(record) for record in self.records},
            "not_compared": dict(self.not_compared),
        }


def sum_counts(comparisons: Iterable[BeatComparison]) -> NDArray[np.int64]:
    """Add up the matrices of several records."""
    return sum((comparison.counts for comparison in comparisons), start=np.zeros((7, 7), dtype=np.int64))


def mean_figures(figures: Sequence[BeatFigures] | Sequence[RunFigures]) -> dict[str, float]:
    """Return the mean of each figure over the records in which it is defined, percent; NaN where there is none."""
    if not figures:
        return {}
    names = figures[0]._fields
    return {name: _mean([getattr(row, name).percent for row in figures]) for name in names}


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _plain(figures: BeatFigures | RunFigures) -> dict[str, Any]:
    return {name: _proportion(value) for name, value in figures._asdict().items()}


def _proportion(value: Proportion) -> dict[str, Any]:
    return {"part": value.part, "whole": value.whole, "percent": _finite_or_none(value.percent)}


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite_or_none(value) for name, value in values.items()}


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _record_dict(record: RecordComparison) -> dict[str, Any]:
    beats = record.beats
    return {
        "fs": beats.fs,
        "counts": beats.counts.tolist(),
        **_plain(beats.figures),
        "rr_error_ms": _finite_or_none(beats.rr_error_ms),
        "rr_pairs": beats.rr_pairs,
        "rr_squared_samples": beats.rr_squares,
        "shutdown_s": beats.shutdown_s,
        "ventricular_runs": _runs_dict(record.ventricular),
        "supraventricular_runs": _runs_dict(record.supraventricular),
    }


def _runs_dict(runs: RunComparison) -> dict[str, Any]:
    return {
        "sensitivity_counts": runs.sensitivity.tolist(),
        "predictivity_counts": runs.predictivity.tolist(),
        **_plain(runs.figures),
    }
