"""Writes docs/results.md from the study's results: every figure in it comes from a file in the repository."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ecgkan.aami import CLASSES
from ecgkan.data.protocols import SHARED_PATIENTS_NOTE
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.evaluation.published import LATENCY_MARK, PUBLISHED, PublishedModel
from ecgkan.evaluation.tables import markdown_table
from ecgkan.models.checkpoint import MODELS
from ecgkan.studies.by_record import read_by_record
from ecgkan.studies.by_record_page import ec57_section, records_section
from ecgkan.studies.random_split import SEEDS, MeanAndSd, Run, StudyFolders, load_results, over_seeds

OVERALL: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "macro_auc": "macro AUC",
}
FIGURES: Final = (*OVERALL.values(), *(f"F1 {letter}" for letter in CLASSES), "calibration error", "epochs")

Results = dict[Run, dict[str, Any]]


def results_page(folders: StudyFolders, shipped: dict[str, Any]) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    folders : StudyFolders
        Where results and log lie.
    shipped : dict
        The document `ecgkan evaluate cnn_mlp cnn_kan` wrote for the shipped models.
    """
    results = load_results(folders)
    by_record = read_by_record(folders, shipped)
    scorings = [line for line in folders.log.read_text().splitlines() if line.strip()]
    parts = [
        "# Results",
        "<!-- Written by `ecgkan compare --report docs/results.md`; change the study, not this page. -->",
        f"**{SHARED_PATIENTS_NOTE}**",
        _shipped_section(shipped),
        _seeds_section(results),
        _heads_section(results),
        _luck_section(results),
        ec57_section(by_record),
        records_section(by_record),
        _scorings_section(folders, scorings),
    ]
    return "\n\n".join(parts) + "\n"


def _published(model: str) -> PublishedModel:
    return PUBLISHED[model]


def _published_figures(model: str) -> dict[str, str]:
    published = _published(model)
    figures = {title: f"{getattr(published, name):.4f}" for name, title in OVERALL.items()}
    return figures | {f"F1 {letter}": f"{f1:.4f}" for letter, f1 in zip(CLASSES, published.f1, strict=True)}


def _shipped_section(document: dict[str, Any]) -> str:
    columns: dict[str, dict[str, str]] = {}
    for entry in document["models"]:
        metrics = {title: _with_interval(entry["metrics"][name]) for name, title in OVERALL.items()}
        classes = {f"F1 {letter}": _with_interval(entry["classes"][letter]["f1"]) for letter in CLASSES}
        latency = entry["latency_ms_per_sample"]
        speed = {
            "parameters": f"{entry['parameters']:,}",
            "ms per sample, batch 1": f"{latency['batch_1']:.3f}",
            "ms per sample, batch 128": f"{latency['batch_128']:.3f}",
            "calibration error": f"{entry['metrics']['calibration_error']['value']:.4f}",
        }
        columns[f"{MODEL_TITLES[entry['model']]}, shipped"] = metrics | classes | speed
        published = _published(entry["model"])
        columns[f"{MODEL_TITLES[entry['model']]}, reference"] = _published_figures(entry["model"]) | {
            "parameters": f"{published.parameters:,}",
            "ms per sample, batch 128": f"{published.latency_ms:.4f} ({LATENCY_MARK})",
        }
    names = list(next(iter(columns.values())))
    rows = [[name, *(column.get(name, "–") for column in columns.values())] for name in names]
    return "\n\n".join(
        [
            "## The shipped models",
            "Test set of protocol `random-split` (16,418 beats), 95 % bootstrap intervals over beats in brackets. "
            "Command: `ecgkan evaluate cnn_mlp cnn_kan --out evaluation`. Latencies are medians on one thread of "
            "the machine that ran it; the reference's column shows its published figures.",
            markdown_table(["", *columns], rows),
        ]
    )


def _with_interval(figure: dict[str, Any]) -> str:
    interval = figure.get("interval_95")
    value = "–" if figure["value"] is None else f"{figure['value']:.4f}"
    return value if interval is None else f"{value} [{interval[0]:.4f}, {interval[1]:.4f}]"


def figure_of(result: dict[str, Any], name: str) -> float:
    """Return one of `FIGURES` of a run's result."""
    if name == "epochs":
        return float(result["epochs"])
    if name.startswith("F1 "):
        return float(result["test"]["f1"][name.removeprefix("F1 ")])
    keys = {title: key for key, title in OVERALL.items()} | {"calibration error": "calibration_error"}
    return float(result["test"][keys[name]])


def _summary(results: Results, recipe: str, model: str, figure: Callable[[dict[str, Any]], float]) -> MeanAndSd | None:
    values = [figure(result) for run, result in results.items() if (run.recipe, run.model) == (recipe, model)]
    return over_seeds(values) if values else None


def _seeds_section(results: Results) -> str:
    groups = [(recipe, model) for recipe in SEEDS for model in MODELS]
    counts = {group: sum((run.recipe, run.model) == group for run in results) for group in groups}
    header = [f"{MODEL_TITLES[model]}, `{recipe}` (n = {counts[recipe, model]})" for recipe, model in groups]
    rows = []
    for name in ("validation macro F1", *FIGURES):

        def figure(result: dict[str, Any], name: str = name) -> float:
            return float(result["validation"]["macro_f1"]) if name.startswith("valid") else figure_of(result, name)

        row = [_summary(results, recipe, model, figure) for recipe, model in groups]
        digits = ".1f" if name == "epochs" else ".4f"
        rows.append([name, *(_mean_and_sd(summary, digits) for summary in row)])
    missing = sum(len(seeds) for seeds in SEEDS.values()) * len(MODELS) - len(results)
    note = f"\n\n{missing} of the study's runs have no result yet." if missing else ""
    return (
        "## All seeds\n\nMean ± standard deviation over seeds, test set. `best` is our recipe, `reference` the "
        "published one to the letter. Command: `ecgkan compare --train`; one file per run in "
        "`results/random-split/`.\n\n" + markdown_table(["", *header], rows) + note
    )


def _mean_and_sd(summary: MeanAndSd | None, digits: str) -> str:
    if summary is None:
        return "–"
    return f"{summary.mean:{digits}}" + ("" if math.isnan(summary.sd) else f" ± {summary.sd:{digits}}")


def _heads_section(results: Results) -> str:
    def macro_f1(result: dict[str, Any]) -> float:
        return figure_of(result, "macro F1")

    lines = []
    for recipe in SEEDS:
        mlp, kan = (_summary(results, recipe, model, macro_f1) for model in ("cnn_mlp", "cnn_kan"))
        if mlp is None or kan is None or mlp.n < 2 or kan.n < 2:
            continue
        pooled = math.sqrt(((mlp.n - 1) * mlp.sd**2 + (kan.n - 1) * kan.sd**2) / (mlp.n + kan.n - 2))
        within = "within" if kan.mean >= mlp.mean - pooled else "not within"
        lines.append(
            f"- Recipe `{recipe}`: macro F1 of CNN+KAN minus that of CNN+MLP is {kan.mean - mlp.mean:+.4f}; the pooled "
            f"standard deviation over seeds is {pooled:.4f}, so the KAN head is {within} one of it of the MLP head, "
            "or above."
        )
    gap = _published("cnn_kan").macro_f1 - _published("cnn_mlp").macro_f1
    lines.append(f"- The reference's table, one run each: {gap:+.4f}.")
    return "## MLP or KAN head\n\n" + "\n".join(lines)


def _luck_section(results: Results) -> str:
    rows = []
    for model in MODELS:
        title = MODEL_TITLES[model]
        runs = [
            (run.seed, figure_of(result, "macro F1"), figure_of(result, "accuracy"), int(result["epochs"]))
            for run, result in results.items()
            if (run.recipe, run.model) == ("reference", model)
        ]
        published = _published(model)
        rows += [[title, str(seed), f"{f1:.4f}", f"{accuracy:.4f}", str(epochs)] for seed, f1, accuracy, epochs in runs]
        rows.append(
            [title, "as published", f"{published.macro_f1:.4f}", f"{published.accuracy:.4f}", str(published.epochs)]
        )
    return (
        "## How much of the reference's table was luck\n\nThe reference's recipe, rerun with other seeds:\n\n"
        + markdown_table(["model", "seed", "macro F1", "accuracy", "epochs"], rows)
    )


def _scorings_section(folders: StudyFolders, scorings: list[str]) -> str:
    selection = json.loads((folders.results / "selection.json").read_text())
    chosen = "; ".join(
        f"{MODEL_TITLES[model]}: seed {entry['seed']} (validation macro F1 {entry['validation_macro_f1']:.4f})"
        for model, entry in selection.items()
    )
    return (
        "## How often the test set was looked at\n\n"
        f"The shipped seeds were chosen by validation macro F1 before any test beat was scored: {chosen}. "
        f"Every scoring of the test set since then is a line of `docs/test-scorings.jsonl`: {len(scorings)} so far, "
        "one per run of the study and per logged evaluation of the shipped models. `ecgkan compare --by-record` "
        "repeats the scoring of the shipped weights, takes no others, and chooses nothing. The recipe search "
        "(docs/recipe-search.md) looked at validation data alone."
    )


def write_results_page(folders: StudyFolders, shipped: dict[str, Any], page: Path) -> None:
    """Write the page under a temporary name and rename it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    temporary = page.with_suffix(".part")
    temporary.write_text(results_page(folders, shipped))
    temporary.replace(page)
