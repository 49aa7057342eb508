"""`ecgkan compare` as a function: train what is missing, choose, score, ship, report."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgkan.data.ds2 import load_test_beats
from ecgkan.data.protocols import SHARED_PATIENTS_NOTE, load_split
from ecgkan.errors import DataNotFoundError
from ecgkan.evaluation.ec57.export import write_whole
from ecgkan.evaluation.evaluate import MODEL_TITLES, evaluate_checkpoint
from ecgkan.evaluation.report import to_document
from ecgkan.evaluation.scoring_log import append_scorings
from ecgkan.models.checkpoint import MODELS, load_checkpoint
from ecgkan.studies import heads
from ecgkan.studies.by_record import RECORD_SETS, TRAINING_PATIENTS, by_record_file, judge_by_record, read_by_record
from ecgkan.studies.head_contrasts import study_summary
from ecgkan.studies.heads_page import write_heads_page
from ecgkan.studies.model_card import model_card
from ecgkan.studies.random_split import (
    SEEDS,
    StudyFolders,
    load_results,
    over_seeds,
    score_missing,
    select_shipped,
    shipped_checkpoint,
    train_missing,
)
from ecgkan.studies.results_page import FIGURES, figure_of, write_results_page
from ecgkan.training.fit import write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def run_comparison(
    folders: StudyFolders,
    data_dir: Path | None,
    *,
    train: bool = False,
    jobs: int = 2,
    ship: Path | None = None,
    by_record: bool = False,
    cards: Path | None = None,
    report: Path | None = None,
    announce: Callable[[str], None],
) -> dict[str, Any]:
    """Bring the study as far as asked, and return its figures over seeds.

    Parameters
    ----------
    folders : StudyFolders
        Where runs, results and the log lie. Runs that have a result are never trained or scored again.
    data_dir : Path, optional
        Folder that holds `mitdb/`.
    train, jobs
        Train what is missing, so many at a time.
    ship : Path, optional
        Copy the chosen checkpoints there, each with its model card, and score them.
    by_record : bool
        Judge the shipped models record by record, behind our own detector and on test beats; minutes.
    cards : Path, optional
        Write the model cards there, from results that lie there already.
    report : Path, optional
        Write the results page there.
    announce : callable
        Told what is going on.

    Returns
    -------
    dict
        `groups`: `{"recipe/model": {figure: {"mean", "sd", "n"}}}`; the protocol's note; and where `by_record` was
        asked for, what `ecgkan.studies.by_record.judge_by_record` found.
    """
    if train:
        train_missing(folders, data_dir, jobs=jobs, announce=announce)
    unscored = any(folders.runs.glob("*/run.json"))
    if unscored:
        select_shipped(folders)
        announce("reading the beats")
        score_missing(folders, load_split("random-split", data_dir), announce=announce)
    if ship is not None:
        ship_models(folders, data_dir, ship, announce=announce)
    judged = {"by_record": judge_shipped(folders, data_dir, ship, announce=announce)} if by_record else {}
    for folder in dict.fromkeys(folder for folder in (ship, cards) if folder is not None):
        write_cards(folders, folder)
    if report is not None:
        write_results_page(folders, _shipped_document(folders), report)
    return summarize(folders) | judged


def run_head_comparison(
    folders: StudyFolders,
    data_dir: Path | None,
    *,
    train: bool = False,
    jobs: int = 2,
    report: Path | None = None,
    announce: Callable[[str], None],
) -> dict[str, Any]:
    """Bring the study of heads on new patients as far as asked, and return its figures.

    All that is missing is trained first; what has finished is then scored on DS2, once and in the log.

    Parameters
    ----------
    folders, data_dir, train, jobs, announce
        As in `run_comparison`.
    report : Path, optional
        Write the page there, its figure beside it, and the raw results as `runs.csv` among the results.

    Returns
    -------
    dict
        Figures of each arm over seeds, and the comparisons.
    """
    if train:
        heads.train_missing(folders, data_dir, jobs=jobs, announce=announce)
    heads.note_validation(folders)
    if heads.unscored_runs(folders):
        announce("reading the test beats")
        heads.score_missing(folders, load_test_beats(data_dir), announce=announce)
    if report is not None:
        write_heads_page(folders, report)
    return study_summary(folders)


def ship_models(
    folders: StudyFolders, data_dir: Path | None, destination: Path, *, announce: Callable[[str], None]
) -> None:
    """Copy the chosen checkpoints, and score them once more with intervals and latency."""
    destination.mkdir(parents=True, exist_ok=True)
    split = load_split("random-split", data_dir)
    evaluations = []
    for model in MODELS:
        announce(f"shipping {model}")
        temporary = destination / f"{model}.part"
        shutil.copyfile(shipped_checkpoint(folders, model), temporary)
        temporary.replace(destination / f"{model}.pth")
        checkpoint = load_checkpoint(destination / f"{model}.pth")
        evaluations.append(evaluate_checkpoint(checkpoint, split, requested_as=model))
    append_scorings(folders.log, evaluations)
    document = to_document(evaluations)
    write_json(folders.results / "shipped.json", document)


def judge_shipped(
    folders: StudyFolders, data_dir: Path | None, shipped_to: Path | None, *, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Judge the shipped models record by record and keep the figures among the results.

    Parameters
    ----------
    folders, data_dir, announce
        As in `run_comparison`.
    shipped_to : Path, optional
        Folder of the shipped checkpoints; by default the package's own.
    """
    files = {model: model if shipped_to is None else shipped_to / f"{model}.pth" for model in MODELS}
    announce("reading the beats")
    judged = judge_by_record(
        {model: load_checkpoint(file) for model, file in files.items()},
        load_split("random-split", data_dir),
        _shipped_document(folders),
        data_dir=data_dir,
        announce=announce,
    )
    write_json(by_record_file(folders), judged)
    return judged


def write_cards(folders: StudyFolders, destination: Path) -> None:
    """Write the model cards of the shipped models from their figures."""
    document, results = _shipped_document(folders), load_results(folders)
    by_record = read_by_record(folders, document)
    destination.mkdir(parents=True, exist_ok=True)
    for entry in document["models"]:
        card = model_card(entry, document, results, by_record.get(entry["model"]))
        write_whole(destination / f"{entry['model']}.md", card.encode())


def _shipped_document(folders: StudyFolders) -> dict[str, Any]:
    file = folders.results / "shipped.json"
    if not file.is_file():
        raise DataNotFoundError(f"{file} is missing: ship the chosen models first (ecgkan compare --ship checkpoints)")
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def summarize(folders: StudyFolders) -> dict[str, Any]:
    """Return mean and standard deviation of each figure over the seeds that have a result."""
    results = load_results(folders)
    summary: dict[str, Any] = {"protocol": "random-split", "note": SHARED_PATIENTS_NOTE, "groups": {}}
    for recipe in SEEDS:
        for model in MODELS:
            group = [result for run, result in results.items() if (run.recipe, run.model) == (recipe, model)]
            if not group:
                continue
            figures = {}
            for name in FIGURES:
                over = over_seeds([figure_of(result, name) for result in group])
                figures[name] = {"mean": over.mean, "sd": over.sd if over.n > 1 else None, "n": over.n}
            summary["groups"][f"{recipe}/{model}"] = figures
    return summary


def print_comparison(console: "Console", summary: dict[str, Any]) -> None:
    """Print the figures over seeds as a table."""
    from rich.table import Table

    table = Table("mean ± sd over seeds, test set", box=None, pad_edge=False)
    for group, figures in summary["groups"].items():
        recipe, model = group.split("/")
        count = next(iter(figures.values()))["n"]
        table.add_column(f"{MODEL_TITLES[model]}\n{recipe}, n = {count}", justify="right")
    for name in FIGURES:
        cells = [_cell(figures[name], name) for figures in summary["groups"].values()]
        table.add_row(name, *cells)
    console.print(table)
    if "by_record" in summary:
        console.print(_by_record_table(summary["by_record"]))
    console.print(summary["note"])


def _by_record_table(judged: dict[str, Any]) -> "Table":
    """Return the gross figures behind our detector."""
    from rich.table import Table

    names = ("qrs_se", "qrs_p", "veb_se", "veb_p", "veb_fpr", "sveb_se", "sveb_p", "sveb_fpr")
    table = Table(f"EC57, gross, %: {TRAINING_PATIENTS}", box=None, pad_edge=False)
    columns = [(model, records) for model in judged["models"] for records in RECORD_SETS]
    for model, records in columns:
        table.add_column(f"{MODEL_TITLES[model]}\n{records}", justify="right")
    for name in names:
        values = [judged["models"][model]["ec57"][records]["gross"][name] for model, records in columns]
        table.add_row(name, *("–" if value is None else f"{value:.2f}" for value in values))
    return table


def print_head_comparison(console: "Console", summary: dict[str, Any]) -> None:
    """Print the arms' figures over seeds and the comparisons as tables."""
    from rich.table import Table

    arms = Table("mean ± sd over seeds, DS2", "n", box=None, pad_edge=False)
    names = list(next(iter(summary["arms"].values()), {}))
    for name in names:
        arms.add_column(name, justify="right")
    for arm, figures in summary["arms"].items():
        arms.add_row(arm, str(figures[names[0]]["n"]), *(_cell(figures[name], name) for name in names))
    console.print(arms)
    header = ("macro F1 (N S V)", "n", "difference", "95 %, records and seeds", "p, Holm")
    pairs = Table(*header, box=None, pad_edge=False)
    for pair in summary["comparisons"]:
        if pair["seeds"]:
            low, high = pair["interval_95_records_and_seeds"]
            difference, p = f"{pair['mean']:+.4f}", f"{pair['p_records_holm']:.4f}"
            title = f"{pair['arm']} − {pair['against']}"
            pairs.add_row(title, str(len(pair["seeds"])), difference, f"{low:+.4f} to {high:+.4f}", p)
    console.print(pairs)
    console.print(f"{summary['runs']} of {summary['planned']} runs are in. {summary['note']}")


def _cell(figure: dict[str, Any], name: str) -> str:
    digits = ".1f" if name == "epochs" else ".4f"
    mean = f"{figure['mean']:{digits}}"
    return mean if figure["sd"] is None else f"{mean} ± {figure['sd']:{digits}}"
