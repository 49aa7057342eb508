"""Comparisons, figures and raw results of the study of heads, from the runs that are there."""

import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecgkan.aami import CLASSES
from ecgkan.data.protocols import INTER_PATIENT_NOTE
from ecgkan.evaluation.inter_patient import (
    DOMINANT_S_RECORD,
    HEADLINE_CLASSES,
    RecordConfusions,
    Statistic,
    class_f1,
    five_class_dict,
    headline_accuracy,
    headline_figures,
    headline_macro_f1,
)
from ecgkan.evaluation.paired import PairedComparison, compare_paired, holm
from ecgkan.studies.heads import COMPARISONS, HeadResult, Results, load_results, planned_runs
from ecgkan.studies.random_split import MeanAndSd, StudyFolders, over_seeds

COLUMNS: Final = ("arm", "model", "seed", "device", "record", "reference", "predicted", "beats")
"""Of the table of raw results."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """One comparison of the study; `compared` is None while there is no pair of runs on one device.

    Attributes
    ----------
    arm, against : str
        Names of the two arms.
    seeds : tuple of int
        Seeds that both have, run on the same device.
    compared : PairedComparison or None
        Of the macro F1 over N S V, arm minus against.
    holm_p : float
        `compared.records_p` after Holm's correction over the comparisons that are there.
    """

    arm: str
    against: str
    seeds: tuple[int, ...]
    compared: PairedComparison | None
    holm_p: float = float("nan")


def contrasts(results: Results, statistic: Statistic = headline_macro_f1) -> list[Contrast]:
    """Compare the study's pairs of arms on what is there, with Holm's correction over them."""
    found = [_contrast(results, arm, against, statistic) for arm, against in COMPARISONS]
    p_values = [contrast.compared.records_p for contrast in found if contrast.compared is not None]
    adjusted = iter(holm(p_values))
    return [
        Contrast(c.arm, c.against, c.seeds, c.compared, next(adjusted)) if c.compared is not None else c for c in found
    ]


def _contrast(results: Results, arm: str, against: str, statistic: Statistic) -> Contrast:
    ours, theirs = results.get(arm, {}), results.get(against, {})
    seeds = tuple(
        seed for seed in sorted(ours.keys() & theirs.keys()) if device_of(ours[seed]) == device_of(theirs[seed])
    )
    if not seeds:
        return Contrast(arm, against, (), None)
    a, b = (np.stack([runs[seed].confusions.counts for seed in seeds]) for runs in (ours, theirs))
    return Contrast(arm, against, seeds, compare_paired(a, b, statistic))


def device_of(result: HeadResult) -> str:
    """Return what computed a run."""
    return str(result.document["device"])


def study_summary(folders: StudyFolders) -> dict[str, Any]:
    """Return the figures of arms and comparisons as plain values for JSON."""
    results = load_results(folders)
    return {
        "protocol": "inter-patient",
        "note": INTER_PATIENT_NOTE,
        "runs": sum(map(len, results.values())),
        "planned": len(planned_runs()),
        "arms": {
            arm: {name: _mean_sd_n(over_seeds(values_of(runs, figure))) for name, figure in FIGURES.items()}
            for arm, runs in results.items()
        },
        "comparisons": [_contrast_dict(contrast) for contrast in contrasts(results)],
    }


def _mean_sd_n(over: MeanAndSd) -> dict[str, float | int | None]:
    return {"mean": over.mean, "sd": over.sd if over.n > 1 else None, "n": over.n}


def _contrast_dict(contrast: Contrast) -> dict[str, Any]:
    document: dict[str, Any] = {"arm": contrast.arm, "against": contrast.against, "seeds": list(contrast.seeds)}
    compared = contrast.compared
    if compared is None:
        return document
    return document | {
        "differences": list(compared.differences),
        "mean": compared.mean,
        "interval_95_records": list(compared.records_interval),
        "interval_95_records_and_seeds": list(compared.both_interval),
        "p_seeds": compared.seeds_p,
        "p_records": compared.records_p,
        "p_records_holm": contrast.holm_p,
        "cohens_d": _or_none(compared.cohens_d),
        "rank_biserial": _or_none(compared.rank_biserial),
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _of_total(statistic: Statistic) -> Callable[[RecordConfusions], float]:
    return lambda confusions: float(statistic(confusions.total))


def _f1_s_without_dominant(confusions: RecordConfusions) -> float:
    s = HEADLINE_CLASSES.index("S")
    return float(headline_figures(confusions.without(DOMINANT_S_RECORD).total).f1[s])


def _five_class_macro_f1(confusions: RecordConfusions) -> float:
    return float(five_class_dict(confusions.total)["macro_f1"])


FIGURES: Final[dict[str, Callable[[RecordConfusions], float]]] = {
    "macro F1 (N S V)": _of_total(headline_macro_f1),
    "accuracy": _of_total(headline_accuracy),
    **{f"F1 {letter}": _of_total(class_f1(letter)) for letter in HEADLINE_CLASSES},
    f"F1 S without {DOMINANT_S_RECORD}": _f1_s_without_dominant,
    "macro F1, five classes": _five_class_macro_f1,
}
"""Figure's name → how to compute it of a run."""


def values_of(runs: dict[int, HeadResult], figure: Callable[[RecordConfusions], float]) -> list[float]:
    """Compute a figure for each run of an arm."""
    return [figure(result.confusions) for result in runs.values()]


def write_raw_results(results: Results, file: Path) -> None:
    """Write every raw result as one tidy table: the beats of each run, record, reference and predicted class."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_raw_rows(results))
    temporary = file.with_suffix(".part")
    temporary.write_text(stream.getvalue())
    temporary.replace(file)


def _raw_rows(results: Results) -> Iterator[tuple[object, ...]]:
    for arm, runs in results.items():
        for seed, result in runs.items():
            run = (arm, result.document["model"], seed, device_of(result))
            confusions = result.confusions
            for record, matrix in zip(confusions.records, confusions.counts, strict=True):
                for reference, predicted in np.argwhere(matrix).tolist():
                    yield (*run, record, CLASSES[reference], CLASSES[predicted], int(matrix[reference, predicted]))
