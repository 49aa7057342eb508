"""`ecgkan evaluate --protocol inter-patient`: DS2's figures of finished models for new patients, into a folder.

This tells figures of weights that are what they are; a new recipe's first meeting with DS2 belongs to
`ecgkan patients score`, which logs it.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgkan.aami import CLASSES
from ecgkan.data.ds2 import load_test_context
from ecgkan.data.protocols import INTER_PATIENT_NOTE
from ecgkan.errors import DataError, OutputExistsError
from ecgkan.evaluation.evaluate import code_version
from ecgkan.evaluation.tables import markdown_table
from ecgkan.models.checkpoint import PATIENT_MODELS, load_checkpoint
from ecgkan.models.patient import PatientClassifier
from ecgkan.studies.patients import calibrated_probabilities, score_on
from ecgkan.studies.patients_page import FIGURES
from ecgkan.training.patients import predict_context


def evaluate_on_ds2(
    checkpoints: Sequence[str],
    out: Path,
    *,
    data_dir: Path | None = None,
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Score models for new patients on DS2 and write `evaluation.json` and `<name>-predictions.csv`.

    Parameters
    ----------
    checkpoints : sequence of str
        Files, or names of shipped models.
    out : Path
        Folder; made if missing.

    Returns
    -------
    dict
        The document of `evaluation.json`.

    Raises
    ------
    DataError
        If a model was trained by another protocol: one of protocol `random-split` has seen DS2's patients.
    OutputExistsError
        If a file exists and `overwrite` is False; before anything is computed.
    """
    loaded = {name: load_checkpoint(name) for name in checkpoints}
    networks: dict[str, PatientClassifier] = {}
    for name, checkpoint in loaded.items():
        if not isinstance(checkpoint.model, PatientClassifier) or checkpoint.protocol != "inter-patient":
            raise DataError(
                f"{name}: {checkpoint.name}, trained by protocol {checkpoint.protocol}, is not scored on DS2: models "
                f"of protocol random-split have seen its patients; expected {' or '.join(PATIENT_MODELS)}"
            )
        networks[name] = checkpoint.model
    files = {name: out / f"{Path(name).stem}-predictions.csv" for name in loaded}
    existing = [str(file) for file in (out / "evaluation.json", *files.values()) if file.exists()]
    if existing and not overwrite:
        raise OutputExistsError(f"{', '.join(existing)} exist; use --overwrite, or another folder")
    out.mkdir(parents=True, exist_ok=True)
    table = load_test_context(data_dir)
    document: dict[str, Any] = {
        "protocol": "inter-patient",
        "note": INTER_PATIENT_NOTE,
        "commit": code_version().commit,
        "models": {},
    }
    for name, checkpoint in loaded.items():
        announce(name)
        told = {"model": checkpoint.name, "weights_sha256": checkpoint.sha256}
        document["models"][name] = told | {"ds2": score_on(checkpoint, table)}
        logits = predict_context(networks[name], table)
        _write(files[name], _predictions(table.records, table.labels, table.counted, logits, checkpoint.temperature))
    _write(out / "evaluation.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    return document


def _predictions(
    records: np.ndarray, labels: np.ndarray, counted: np.ndarray, logits: np.ndarray, temperature: float
) -> str:
    probabilities = calibrated_probabilities(logits, temperature)
    frame = pd.DataFrame({"record": records, "reference": np.array(CLASSES)[labels]})
    frame["predicted"] = np.array(CLASSES)[probabilities.argmax(axis=1)]
    for index, letter in enumerate(CLASSES):
        frame[f"p_{letter}"] = probabilities[:, index].round(6)
    return str(frame[counted].to_csv(index=False))


def _write(file: Path, text: str) -> None:
    temporary = file.with_suffix(".part")
    temporary.write_text(text)
    temporary.replace(file)


def evaluation_text(document: dict[str, Any]) -> str:
    """Return the figures as a table to print, with the protocol's line."""
    models = document["models"]
    rows = [[name, *(_told(figure(model["ds2"])) for model in models.values())] for name, figure in FIGURES.items()]
    return markdown_table(["DS2", *models], rows) + f"\n\n{document['note']}"


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
