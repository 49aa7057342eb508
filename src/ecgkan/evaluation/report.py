"""`ecgkan evaluate` as a function: score checkpoints, and write JSON, predictions and figures into a folder."""

import csv
import io
import json
import math
import os
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ecgkan.aami import CLASSES
from ecgkan.data.protocols import BeatSplit, load_split
from ecgkan.errors import DataError, OutputExistsError
from ecgkan.evaluation import plots, published
from ecgkan.evaluation.comparison import reference_of, shared_figures, side_by_side_figure
from ecgkan.evaluation.evaluate import (
    Evaluation,
    Subset,
    code_version,
    distinct_labels,
    environment,
    evaluate_checkpoint,
)
from ecgkan.evaluation.scoring_log import append_scorings, check_log
from ecgkan.evaluation.wrong_beats import wrong_beat_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgkan.models.checkpoint import Checkpoint

FIGURE_FORMATS: Final = ("png", "pdf")
FIGURE_DPI: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Evaluations of checkpoints on the same beats, and the files they were written to."""

    evaluations: tuple[Evaluation, ...]
    document: dict[str, Any]
    files: tuple[Path, ...]


def _say_nothing(_message: str) -> None:
    pass


def evaluate_to_folder(
    requested: Sequence[str],
    out: Path,
    *,
    protocol: str = "random-split",
    subset: Subset = "test",
    data_dir: Path | None = None,
    overwrite: bool = False,
    log: Path | None = None,
    announce: Callable[[str], None] = _say_nothing,
) -> Report:
    """Score checkpoints and write `evaluation.json`, predictions and figures.

    Parameters
    ----------
    requested : sequence of str
        Names of shipped models, or checkpoint files.
    out : Path
        Folder, made if needed.
    protocol, subset : str
        Which beats.
    data_dir : Path, optional
        Folder that holds the database; see `ecgkan.data.mitdb.data_root`.
    overwrite : bool
        Replace files of the same names in `out`.
    log : Path, optional
        Append a line per checkpoint to this log of test-set scorings.
    announce : callable
        Told what is going on.

    Raises
    ------
    OutputExistsError
        If a file would be overwritten; nothing was scored then.
    DataError, DataNotFoundError, CheckpointError
        If data, checkpoints or the log cannot be used.
    """
    from ecgkan.models.checkpoint import load_checkpoint

    if log is not None:
        check_log(log)
        if subset != "test":
            raise DataError(f"{log} counts scorings of the test set; leave out --log with --subset {subset}")
    checkpoints = [load_checkpoint(name) for name in requested]
    labels = distinct_labels(checkpoints)
    _check_outputs(_planned_files(out, checkpoints, labels), overwrite=overwrite)
    announce(f"reading the beats of protocol {protocol}")
    split = load_split(protocol, data_dir)
    evaluations = []
    for name, checkpoint, label in zip(requested, checkpoints, labels, strict=True):
        announce(f"scoring {name}")
        evaluations.append(evaluate_checkpoint(checkpoint, split, subset=subset, label=label, requested_as=name))
    if log is not None:
        append_scorings(log, evaluations)
    announce(f"writing tables and figures to {out}")
    document = to_document(evaluations)
    return Report(tuple(evaluations), document, tuple(write_report(evaluations, document, split, out)))


def to_document(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the JSON document of checkpoints evaluated on the same beats."""
    first = evaluations[0]
    code = code_version()
    command = ["ecgkan", "evaluate", *(evaluation.checkpoint for evaluation in evaluations)]
    command += ["--protocol", first.protocol, "--subset", first.subset]
    return {
        "protocol": first.protocol,
        "subset": first.subset,
        "note": first.note,
        "command": shlex.join(command),
        "ecgkan": code.version,
        "commit": code.commit,
        "environment": environment(),
        "class_order": list(CLASSES),
        "models": [evaluation.to_dict() for evaluation in evaluations],
        "reference": {evaluation.label: _reference_as_dict(evaluation) for evaluation in evaluations},
    }


def write_report(
    evaluations: Sequence[Evaluation], document: dict[str, Any], split: BeatSplit, out: Path
) -> list[Path]:
    """Write the document, predictions and figures; each file appears whole or not at all.

    Returns
    -------
    list of Path
        The files, in the order written.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = [_write(out / "evaluation.json", json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")]
    for evaluation in evaluations:
        files.append(_write(out / f"{evaluation.label}_predictions.csv", predictions_csv(evaluation).encode()))
        for name, figure in model_figures(evaluation, split).items():
            files += _write_figure(figure, out / f"{evaluation.label}_{name}")
    files += _write_figure(side_by_side_figure(evaluations), out / "comparison")
    return files


def predictions_csv(evaluation: Evaluation) -> str:
    """Return the predictions as CSV: record, sample, reference and predicted class, probabilities, protocol."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["record", "sample", "reference", "predicted", *(f"probability_{letter}" for letter in CLASSES), "protocol"]
    )
    # One word a row says what a comment line would, without breaking readers of CSV.
    protocol = f"{evaluation.protocol} (shared patients)" if evaluation.note else evaluation.protocol
    rows = zip(
        evaluation.records.tolist(),
        evaluation.samples.tolist(),
        evaluation.labels.tolist(),
        evaluation.predicted.tolist(),
        evaluation.probabilities.tolist(),
        strict=True,
    )
    for record, sample, label, predicted, probabilities in rows:
        shown = [f"{probability:.6f}" for probability in probabilities]
        writer.writerow([record, sample, CLASSES[label], CLASSES[predicted], *shown, protocol])
    return stream.getvalue()


def model_figures(evaluation: Evaluation, split: BeatSplit) -> "dict[str, Figure]":
    """Draw the figures of one checkpoint; that of its training only if it knows its history."""
    note, where = evaluation.note, f"{evaluation.subset} set"
    metrics, title = evaluation.metrics, evaluation.title
    panels = wrong_beat_panels(evaluation, split)
    figures = {
        "confusion": plots.confusion_figure(metrics.confusion, title=f"{title}, {where}", note=note),
        "curves": plots.curves_figure(
            evaluation.labels,
            evaluation.probabilities,
            title=f"{title}, {where}, one class against the rest",
            note=note,
        ),
        "reliability": plots.reliability_figure(
            metrics.reliability, uncalibrated=evaluation.uncalibrated, title=f"{title}: calibration, {where}", note=note
        ),
        "errors": plots.wrong_beats_figure(
            panels,
            title=f"{title}: {len(panels)} of the {len(evaluation.wrong):,} beats it gets wrong "
            f"({len(evaluation.labels):,} in the {where})",
            note=note,
        ),
    }
    if evaluation.training.get("history"):
        training = evaluation.training
        figures["training"] = plots.history_figure(
            training["history"],
            selected_epoch=training.get("selected_epoch"),
            title=f"{title}: training, recipe {training.get('recipe')}, seed {training.get('seed')}",
            note=note,
        )
    return figures


def _reference_as_dict(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the reference's figures with our differences; None where it published none on the same beats."""
    reference = reference_of(evaluation)
    if reference is None:
        return None
    return {
        "source": published.SOURCE,
        "title": reference.title,
        "figures": {
            figure.name: {"reference": figure.reference, "difference": _rounded(figure.difference)}
            for figure in shared_figures(evaluation, reference)
        },
        "parameters": reference.parameters,
        "latency_ms_per_sample": {"batch_128": reference.latency_ms, "note": published.LATENCY_MARK},
        "confusion": [list(row) for row in reference.confusion],
    }


def _rounded(difference: float) -> float | None:
    """Round to the four decimals that the reference prints; None where ours is undefined."""
    return None if math.isnan(difference) else round(difference, 4)


def _planned_files(out: Path, checkpoints: "Sequence[Checkpoint]", labels: Sequence[str]) -> list[Path]:
    files = [out / "evaluation.json"]
    stems = ["comparison"]
    for checkpoint, label in zip(checkpoints, labels, strict=True):
        files.append(out / f"{label}_predictions.csv")
        names = ["confusion", "curves", "reliability", "errors"]
        stems += [f"{label}_{name}" for name in names + ["training"] * bool(checkpoint.training.get("history"))]
    return files + [out / f"{stem}.{extension}" for stem in stems for extension in FIGURE_FORMATS]


def _check_outputs(files: Sequence[Path], *, overwrite: bool) -> None:
    existing = [file for file in files if file.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise OutputExistsError(
            f"{existing[0]}{more} exist; choose another folder, or give --overwrite to replace them"
        )


def _write_figure(figure: "Figure", stem: Path) -> list[Path]:
    """Save a figure in each format, without the date, so that the same figure is the same file."""
    files = []
    for extension in FIGURE_FORMATS:
        stream = io.BytesIO()
        metadata = {"CreationDate": None} if extension == "pdf" else {"Software": None}
        figure.savefig(stream, format=extension, dpi=FIGURE_DPI, metadata=metadata)
        figure.set_layout_engine("none")  # the layout stands after the first drawing, and takes half of its time
        files.append(_write(stem.with_name(f"{stem.name}.{extension}"), stream.getvalue()))
    return files


def _write(path: Path, contents: bytes) -> Path:
    """Write under a temporary name, then rename, so that a file is whole or not there."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(contents)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
