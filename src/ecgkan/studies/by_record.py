"""The shipped models of protocol `random-split` record by record: behind our own detector by EC57, and on test beats.

These models have met every patient of the database, and behind the detector most beats that are compared were trained
on. So all figures carry the label `TRAINING_PATIENTS`, and none is of DS2: a row of it would look like one of new
patients.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ecgkan.data.mitdb import PACED_RECORDS, RECORDS, database_dir
from ecgkan.data.protocols import SHARED_PATIENTS_NOTE, BeatSplit
from ecgkan.errors import DataError
from ecgkan.evaluation.ec57 import AnnotatorFiles, Comparison, beat_figures, compare_folders
from ecgkan.evaluation.evaluate import evaluate_checkpoint
from ecgkan.evaluation.inter_patient import record_confusions
from ecgkan.models.checkpoint import Checkpoint
from ecgkan.studies.random_split import StudyFolders
from ecgkan.studies.stress import annotate, share_left_out, told

TRAINING_PATIENTS: Final = "training patients"

UNPACED_RECORDS: Final = tuple(record for record in RECORDS if record not in PACED_RECORDS)

RECORD_SETS: Final[dict[str, tuple[str, ...]]] = {
    "44 records without pacing": UNPACED_RECORDS,
    "all 48 records": RECORDS,
}
"""Whose gross and average figures are told; EC57 leaves paced records out."""

COUNTED: Final = ("qrs_se", "qrs_p", "veb_se", "veb_p", "sveb_se", "sveb_p")
"""EC57's figures that are kept of each record, as part and whole."""


def by_record_file(folders: StudyFolders) -> Path:
    """Return the file of these figures."""
    return folders.results / "by-record.json"


def judge_by_record(
    checkpoints: Mapping[str, Checkpoint],
    split: BeatSplit,
    shipped: dict[str, Any],
    *,
    data_dir: Path | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Judge shipped models record by record.

    Parameters
    ----------
    checkpoints : mapping
        Model → checkpoint.
    split : BeatSplit
        The beats of protocol `random-split`.
    shipped : dict
        The document of the shipped models' scoring, which names their weights.
    data_dir : Path, optional
        Folder that holds `mitdb/`.
    announce : callable
        Told what is going on.

    Returns
    -------
    dict
        `note`, `patients` (the label), `command`, and `models`, by model: `weights_sha256`; `ec57`, for each of
        `RECORD_SETS` the gross and average figures in percent; `ec57_by_record`, [part, whole] of `COUNTED`, with the
        class rules of the gross figures, and `left_out`, [left out, found]; `test_confusion_by_record`, rows
        reference, columns predicted.

    Raises
    ------
    DataError
        If weights are not the shipped ones: new weights meet the test set once, and that is counted in the log.
    DataNotFoundError
        If there is no database.
    """
    weights = {entry["model"]: entry["weights_sha256"] for entry in shipped["models"]}
    for name, checkpoint in checkpoints.items():
        if checkpoint.sha256 != weights.get(name):
            raise DataError(
                f"{checkpoint.path}: weights {checkpoint.sha256[:12]}… are not those that were scored as shipped "
                f"({str(weights.get(name))[:12]}…): they would meet the test set uncounted; ship them first "
                "(ecgkan compare --ship DIR)"
            )
    database = database_dir("mitdb", data_dir)
    models = {}
    for name, checkpoint in checkpoints.items():
        announce(f"{name}: test beats by record")
        evaluation = evaluate_checkpoint(checkpoint, split, measure_speed=False, resamples=200)
        confusions = record_confusions(evaluation.labels, evaluation.predicted, evaluation.records)
        announce(f"{name}: {len(RECORDS)} records behind our own detector")
        models[name] = {
            "weights_sha256": checkpoint.sha256,
            **_behind_the_detector(checkpoint, database),
            "test_confusion_by_record": confusions.to_dict(),
        }
    return {
        "note": SHARED_PATIENTS_NOTE,
        "patients": TRAINING_PATIENTS,
        "command": "ecgkan compare --by-record",
        "models": models,
    }


def _behind_the_detector(checkpoint: Checkpoint, database: Path) -> dict[str, Any]:
    """Classify every record once, then compare each set of records."""
    with tempfile.TemporaryDirectory() as folder:
        found = annotate(checkpoint, database, RECORDS, Path(folder))
        files = AnnotatorFiles(database, "atr"), AnnotatorFiles(Path(folder), "ecgkan")
        compared = {name: compare_folders(*files, records) for name, records in RECORD_SETS.items()}
    figures = {}
    for name, records in RECORD_SETS.items():
        of_set = told((compared[name], share_left_out(found[record] for record in records)))
        figures[name] = {key: of_set[key] for key in ("left_out_percent", "gross", "average")}
    counts = _counts_by_record(compared["all 48 records"])
    for record, beats in found.items():
        counts[record]["left_out"] = [beats.left_out, beats.found]
    return {"ec57": figures, "ec57_by_record": counts}


def _counts_by_record(comparison: Comparison) -> dict[str, dict[str, list[int]]]:
    counts = {}
    for record in comparison.records:
        # As in the gross figures, so that the records' counts add up to those.
        figures = beat_figures(record.beats.counts, of_several_records=True)
        counts[record.record] = {name: list(getattr(figures, name)) for name in COUNTED}
    return counts


def read_by_record(folders: StudyFolders, shipped: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Read the figures of the shipped weights: model → figures. Those of other weights are as good as not measured."""
    file = by_record_file(folders)
    if not file.is_file():
        return {}
    measured = json.loads(file.read_text())["models"]
    weights = {entry["model"]: entry["weights_sha256"] for entry in shipped["models"]}
    return {
        model: measured[model] for model in weights if measured.get(model, {}).get("weights_sha256") == weights[model]
    }
