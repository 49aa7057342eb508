"""`ecgkan evaluate --protocol inter-patient`: DS2's figures of finished models for new patients, into a folder.

This tells figures of weights that have met DS2 before; a first meeting is counted, by `ecgkan patients score`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.context_table import ContextTable
from ecgkan.data.ds2 import load_test_context
from ecgkan.data.protocols import INTER_PATIENT_NOTE
from ecgkan.errors import OutputExistsError
from ecgkan.evaluation.ec57.export import write_whole
from ecgkan.evaluation.evaluate import code_version
from ecgkan.evaluation.tables import markdown_table
from ecgkan.models.checkpoint import PATIENT_MODELS
from ecgkan.studies.patients import LEADS, calibrated_probabilities, figures_of, scored_models
from ecgkan.studies.patients_page import FIGURES, LEADS_TOLD
from ecgkan.training.fit import write_json
from ecgkan.training.patients import predict_context, predict_two_leads


def evaluate_on_ds2(
    checkpoints: Sequence[str],
    out: Path,
    *,
    log: Path,
    data_dir: Path | None = None,
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Score models for new patients on DS2 and write `evaluation.json` and `<name>_predictions.csv`.

    Parameters
    ----------
    checkpoints : sequence of str
        Files, or names of shipped models.
    out : Path
        Folder; made if missing.
    log : Path
        The log of DS2 scorings, in which weights other than the shipped ones have to be.

    Returns
    -------
    dict
        The document of `evaluation.json`.

    Raises
    ------
    DataError
        See `scored_models`.
    OutputExistsError
        If a file exists and `overwrite` is False; before anything is computed.
    """
    loaded = scored_models(checkpoints, log)
    files = {name: out / f"{_label(name)}_predictions.csv" for name in loaded}
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
    for name, (checkpoint, network) in loaded.items():
        announce(name)
        logits = {"ds2": predict_context(network, table), "ds2_two_leads": predict_two_leads(network, table)}
        told = {"model": checkpoint.name, "weights_sha256": checkpoint.sha256}
        figures = {leads: figures_of(table, values, checkpoint.temperature) for leads, values in logits.items()}
        document["models"][name] = told | figures
        predictions = _predictions(table, logits, checkpoint.temperature)
        write_whole(files[name], predictions.encode())
    write_json(out / "evaluation.json", document)
    return document


def _label(name: str) -> str:
    """Return what a model's file of predictions is called: runs of one name are told apart by their folder."""
    path = Path(name)
    return name if name in PATIENT_MODELS else f"{path.parent.name}-{path.stem}".lstrip("-")


def _predictions(table: ContextTable, logits: dict[str, NDArray[np.float32]], temperature: float) -> str:
    """Return the table of beats as CSV: by the lead chosen by name, and what both leads together say."""
    probabilities = calibrated_probabilities(logits["ds2"], temperature)
    frame = pd.DataFrame({"record": table.records, "reference": np.array(CLASSES)[table.labels]})
    frame["predicted"] = np.array(CLASSES)[probabilities.argmax(axis=1)]
    for index, letter in enumerate(CLASSES):
        frame[f"p_{letter}"] = probabilities[:, index].round(6)
    frame["predicted_two_leads"] = np.array(CLASSES)[logits["ds2_two_leads"].argmax(axis=1)]
    return str(frame[table.counted].to_csv(index=False))


def evaluation_text(document: dict[str, Any]) -> str:
    """Return the figures as a table to print, with the protocol's line."""
    models = document["models"]
    rows = [
        [name, *(_told(figure(model[leads])) for model in models.values() for leads in LEADS)]
        for name, figure in FIGURES.items()
    ]
    header = [f"{name}, {LEADS_TOLD[leads]}" for name in models for leads in LEADS]
    return markdown_table(["DS2", *header], rows) + f"\n\n{document['note']}"


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
