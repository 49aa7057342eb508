"""The log of test-set scorings: one JSON line each time a checkpoint meets the test set.

A test set that is looked at often ends up choosing models. The repository's log is docs/test-scorings.jsonl.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecgkan.aami import CLASSES
from ecgkan.errors import DataError, DataNotFoundError
from ecgkan.evaluation.evaluate import CodeVersion, Evaluation, code_version


def scoring_entry(evaluation: Evaluation, code: CodeVersion, now: datetime) -> dict[str, Any]:
    """Return the log's entry of a scoring: when, what code, which weights, and the main figures."""
    metrics = evaluation.metrics
    return {
        "date_utc": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "protocol": evaluation.protocol,
        "subset": evaluation.subset,
        "note": evaluation.note,
        "ecgkan": code.version,
        "commit": code.commit,
        "model": evaluation.name,
        "weights_sha256": evaluation.weights_sha256,
        "recipe": evaluation.training.get("recipe"),
        "seed": evaluation.training.get("seed"),
        "selected_epoch": evaluation.training.get("selected_epoch"),
        "accuracy": _rounded(metrics.accuracy),
        "macro_f1": _rounded(metrics.macro_f1),
        "weighted_f1": _rounded(metrics.weighted_f1),
        "macro_auc": _rounded(metrics.macro_auc),
        "f1": {letter: _rounded(value) for letter, value in zip(CLASSES, metrics.f1, strict=True)},
    }


def append_scorings(log: Path, evaluations: Sequence[Evaluation]) -> None:
    """Append one line per evaluation; what the log holds already is not touched.

    Raises
    ------
    DataError
        If an evaluation is not of the test set: the log counts those alone.
    DataNotFoundError
        If the log's folder does not exist.
    """
    check_log(log)
    for evaluation in evaluations:
        if evaluation.subset != "test":
            raise DataError(f"{log} counts scorings of the test set; this one is of the {evaluation.subset} set")
    code, now = code_version(), datetime.now(UTC)
    lines = [json.dumps(scoring_entry(evaluation, code, now), allow_nan=False) + "\n" for evaluation in evaluations]
    with log.open("a+b") as stream:
        # A line that an earlier run did not finish must not swallow ours.
        if stream.seek(0, os.SEEK_END) and not _ends_with_newline(log):
            lines.insert(0, "\n")
        stream.write("".join(lines).encode())
        stream.flush()
        os.fsync(stream.fileno())


def check_log(log: Path) -> None:
    """Find out before a long scoring whether the log can be written.

    Raises
    ------
    DataNotFoundError
        If its folder does not exist, or the log is a folder.
    """
    if not log.parent.is_dir() or log.is_dir():
        raise DataNotFoundError(f"{log} cannot be a scoring log: expected a file in an existing folder")


def _ends_with_newline(log: Path) -> bool:
    with log.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _rounded(value: float) -> float | None:
    """Round to six decimals; None where undefined."""
    return None if value != value else round(float(value), 6)
