"""Writes docs/kan-vs-mlp.md, its figure and its table of raw results from the runs that are there."""

import json
import math
import statistics
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.protocols import INTER_PATIENT_NOTE
from ecgkan.evaluation.inter_patient import DOMINANT_S_RECORD, HEADLINE_CLASSES
from ecgkan.evaluation.paired import PERMUTATIONS, smallest_p
from ecgkan.evaluation.plots import ForestRow, forest_figure
from ecgkan.evaluation.tables import markdown_table
from ecgkan.studies.head_contrasts import FIGURES, Contrast, contrasts, device_of, values_of, write_raw_results
from ecgkan.studies.heads import (
    ARMS,
    SEEDS,
    VALIDATED_ARMS,
    VALIDATION_FOLD,
    HeadResult,
    HeadRun,
    Results,
    arm_named,
    load_results,
    load_validation,
    planned_runs,
    recipe_file,
    validation_runs,
)
from ecgkan.studies.random_split import StudyFolders, over_seeds
from ecgkan.training.recipe import load_recipe

LEVEL: Final = 0.05
COMMAND: Final = "ecgkan compare --protocol inter-patient --train --report docs/kan-vs-mlp.md"


def write_heads_page(folders: StudyFolders, page: Path) -> None:
    """Write the page, its figure into `images/` beside it, and the raw results as `runs.csv` among the results."""
    results = load_results(folders)
    found = contrasts(results)
    write_raw_results(results, folders.results / "runs.csv")
    rows = [_forest_row(contrast) for contrast in found if contrast.compared is not None]
    image = page.parent / "images" / "kan-vs-mlp.png"
    if rows:
        image.parent.mkdir(parents=True, exist_ok=True)
        figure = forest_figure(
            rows,
            xlabel="difference of macro F1 over N S V on DS2",
            title="Heads compared: the first named minus the second",
            note="Thick: 95 % bootstrap interval over records, blue where it leaves 0 out, which is no verdict by "
            "itself; thin: over records and seeds; dots: single seeds. " + INTER_PATIENT_NOTE,
        )
        figure.savefig(image, dpi=160, metadata={"Software": None})
    _write(page, heads_page(folders, results, found, with_figure=bool(rows)))


def _forest_row(contrast: Contrast) -> ForestRow:
    compared = contrast.compared
    assert compared is not None  # noqa: S101
    return ForestRow(
        title=_pair(contrast),
        differences=compared.differences,
        mean=compared.mean,
        interval=compared.records_interval,
        wide_interval=compared.both_interval,
    )


def _pair(contrast: Contrast) -> str:
    return f"{arm_named(contrast.arm).title} − {arm_named(contrast.against).title}"


def heads_page(folders: StudyFolders, results: Results, found: list[Contrast], *, with_figure: bool) -> str:
    """Return the page as Markdown."""
    figure = "![Differences between heads with intervals over records](images/kan-vs-mlp.png)" if with_figure else ""
    parts = [
        "# MLP or KAN? New patients",
        f"<!-- Written by `{COMMAND}`; change the study, not this page. -->",
        f"**{INTER_PATIENT_NOTE}** What is asked here is which head is better on patients never seen, by the encoder "
        "and the "
        "single beats of the published models; how good a model of its own kind can be is another question.",
        _status_section(results),
        _answer_section(found),
        _differences_section(found),
        figure,
        _arms_section(results),
        _cost_section(folders, results),
        _records_section(results),
        _method_section(folders),
        _change_section(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _status_section(results: Results) -> str:
    missing: dict[str, list[str]] = {}
    for run in planned_runs():
        if run.seed not in results.get(run.arm.name, {}):
            missing.setdefault(run.arm.name, []).append(str(run.seed))
    planned = len(planned_runs())
    if not missing:
        return f"All {planned} runs of the study are in."
    left = "; ".join(f"`{arm}` seeds {' '.join(seeds)}" for arm, seeds in missing.items())
    return (
        f"**Incomplete: {planned - sum(map(len, missing.values()))} of {planned} runs are in.** Figures below rest on "
        f"those alone, and n says on how many seeds. The same command goes on with what is missing: {left}."
    )


def _answer_section(found: list[Contrast]) -> str:
    lines = [f"- {_pair(contrast).replace(' − ', ' against ')}: {_verdict(contrast)}" for contrast in found]
    return "## The answer\n\n" + _short_answer(found) + "\n\n" + "\n".join(lines)


def _short_answer(found: list[Contrast]) -> str:
    heads = [contrast for contrast in found if contrast.against == "mlp"]
    if any(len(contrast.seeds) < len(SEEDS) for contrast in heads):
        return (
            f"**Not yet: a verdict on the heads needs {len(SEEDS)} seeds of every arm beside the MLP.** What the runs "
            "so far say of "
            "each comparison:"
        )
    better = [c for c in heads if _is_decided(c) and _mean(c) > 0]
    worse = [c for c in heads if _is_decided(c) and _mean(c) < 0]
    titles = {c.arm: arm_named(c.arm).title for c in heads}
    said = []
    if better:
        said.append(f"better than the MLP: {', '.join(titles[c.arm] for c in better)}")
    if worse:
        said.append(f"worse than the MLP: {', '.join(titles[c.arm] for c in worse)}")
    undecided = [c for c in heads if c not in better and c not in worse]
    if undecided:
        said.append(f"not told apart from the MLP by these patients: {', '.join(titles[c.arm] for c in undecided)}")
    return f"**On new patients: {'; '.join(said)}.**"


def _mean(contrast: Contrast) -> float:
    return contrast.compared.mean if contrast.compared is not None else float("nan")


def _is_decided(contrast: Contrast) -> bool:
    """Whether a difference holds for other patients and other seeds alike."""
    compared = contrast.compared
    if compared is None or len(contrast.seeds) < len(SEEDS):
        return False
    low, high = compared.both_interval
    return contrast.holm_p <= LEVEL and (low > 0 or high < 0)


def _verdict(contrast: Contrast) -> str:
    compared = contrast.compared
    if compared is None:
        return "no pair of runs yet."
    low, high = compared.both_interval
    figures = f"macro F1 {compared.mean:+.3f}, between {low:+.3f} and {high:+.3f}"
    if len(contrast.seeds) < len(SEEDS):
        return f"open, {len(contrast.seeds)} of {len(SEEDS)} seeds ({figures})."
    if _is_decided(contrast):
        return f"{'better' if compared.mean > 0 else 'worse'} ({figures})."
    return f"no difference that these patients can show ({figures})."


def _differences_section(found: list[Contrast]) -> str:
    header = [
        "difference of macro F1 (N S V)",
        "n",
        "mean",
        "95 %, records",
        "95 %, records and seeds",
        "p, records",
        "p, Holm",
        "p, seeds",
        "d_z",
        "rank-biserial",
    ]
    rows = [_difference_row(contrast) for contrast in found]
    n = len(SEEDS)
    return (
        "## Differences\n\n"
        + markdown_table(header, rows)
        + "\n\nPairs share seed, first encoder weights, order of beats and device. Intervals: bootstrap over the 22 "
        "records of DS2, the "
        "same records drawn for both arms, 1,000 resamples; then seeds drawn too. p over records: the two arms "
        "swapped on random "
        f"halves of the records, {PERMUTATIONS:,} times, two-sided; Holm's correction over the comparisons of the "
        "table. p over "
        f"seeds: exact sign-flip test, which with {n} seeds cannot fall below {smallest_p(n):.4f}, so it can support "
        "a difference but "
        f"never carry it. A difference is called one when Holm's p is at most {LEVEL} and the interval over records "
        "and seeds leaves 0 "
        "out. d_z: mean difference over its standard deviation over seeds."
    )


def _difference_row(contrast: Contrast) -> list[str]:
    compared = contrast.compared
    if compared is None:
        return [_pair(contrast), "0", *["–"] * 8]
    return [
        _pair(contrast),
        str(len(contrast.seeds)),
        f"{compared.mean:+.4f}",
        "[{:+.4f}, {:+.4f}]".format(*compared.records_interval),
        "[{:+.4f}, {:+.4f}]".format(*compared.both_interval),
        f"{compared.records_p:.4f}",
        f"{contrast.holm_p:.4f}",
        f"{compared.seeds_p:.4f}",
        _plain(compared.cohens_d, "+.2f"),
        _plain(compared.rank_biserial, "+.2f"),
    ]


def _plain(value: float, digits: str) -> str:
    return f"{value:{digits}}" if math.isfinite(value) else "–"


def _arms_section(results: Results) -> str:
    rows = [
        [
            arm.title,
            str(len(results.get(arm.name, {}))),
            *(_mean_and_sd(values_of(results.get(arm.name, {}), figure)) for figure in FIGURES.values()),
        ]
        for arm in ARMS
    ]
    return (
        "## Every arm on DS2\n\nMean ± standard deviation over seeds. Reference beats of class F and Q are left out "
        "but in the last "
        f"column. Record {DOMINANT_S_RECORD} holds three quarters of DS2's S beats. Each cell of each run, by record, "
        "is a row of "
        "`results/inter-patient/runs.csv`.\n\n" + markdown_table(["arm", "n", *FIGURES], rows)
    )


def _mean_and_sd(values: list[float]) -> str:
    return str(over_seeds(values)) if values else "–"


def _cost_section(folders: StudyFolders, results: Results) -> str:
    rows = []
    for arm in ARMS:
        documents = [result.document for result in results.get(arm.name, {}).values()]
        whole = [document["cpu_seconds"] for document in documents if not document["resumed"]]
        head = _head_latency(folders, arm.name)
        rows.append(
            [
                arm.title,
                f"{documents[0]['parameters']:,}" if documents else "–",
                f"{statistics.median(whole):.0f}" if whole else "–",
                *(f"{1000 * head[batch]:.1f}" if head else "–" for batch in ("batch_1", "batch_128")),
            ]
        )
    header = ["arm", "parameters", "training, CPU seconds", "head, µs per beat at batch 1", "at batch 128"]
    devices = sorted({device_of(result) for runs in results.values() for result in runs.values()})
    encoder = _latency(folders).get("batch_128", {}).get("encoder")
    beside = f"; the encoder, the same for all, takes {1000 * encoder:.0f} µs at batch 128" if encoder else ""
    return (
        "## What it costs\n\nMedian over the runs that were not interrupted, one thread"
        + (f", {', '.join(devices)}" if devices else "")
        + f". Latency of the heads: `python benchmarks/head_latency.py`{beside}.\n\n"
        + markdown_table(header, rows)
    )


LATENCY_ROWS: Final = {
    "mlp": "mlp",
    "kan-grid-3": "kan, grid 3",
    "kan-grid-8": "kan, grid 8",
    "kan-batch-norm": "kan, batch norm",
    "kan-mended": "kan, batch norm",
    "kan-mended-equal-parameters": "kan, batch norm, 18 hidden",
}
"""Arm → row of the latency benchmark, where the row is not named by the head's width."""


def _latency(folders: StudyFolders) -> dict[str, Any]:
    file = folders.results / "latency.json"
    document: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return document


def _head_latency(folders: StudyFolders, arm: str) -> dict[str, float] | None:
    document = _latency(folders)
    if not document:
        return None
    recipe = load_recipe(recipe_file(folders, arm))
    mlp = arm_named(arm).model == "cnn_mlp"
    sized = f"mlp, {recipe.mlp_hidden_features} hidden" if mlp else f"kan, {recipe.kan_hidden_features} hidden"
    row = LATENCY_ROWS.get(arm, sized)
    return {batch: float(document[batch][row]) for batch in ("batch_1", "batch_128")}


def _records_section(results: Results) -> str:
    """Say where the published heads part: errors by record, means over the seeds both have."""
    mlp, kan = results.get("mlp", {}), results.get("kan", {})
    seeds = sorted(mlp.keys() & kan.keys())
    if not seeds:
        return ""
    records = mlp[seeds[0]].confusions.records
    errors = np.stack([_errors(runs, seeds) for runs in (mlp, kan)])  # (2, records)
    beats = mlp[seeds[0]].confusions.counts[:, : len(HEADLINE_CLASSES)].sum(axis=(1, 2))
    order = np.argsort(-np.abs(errors[1] - errors[0]))[:8]
    rows = [
        [
            records[i],
            f"{beats[i]:,}",
            f"{errors[0, i]:.0f}",
            f"{errors[1, i]:.0f}",
            f"{errors[1, i] - errors[0, i]:+.0f}",
        ]
        for i in order
    ]
    return (
        "## Where the published heads part\n\nThe eight records with the largest difference; wrong beats of N S V, "
        f"mean over {len(seeds)} "
        "seed(s).\n\n" + markdown_table(["record", "beats", "wrong, MLP", "wrong, KAN", "difference"], rows)
    )


def _errors(runs: dict[int, HeadResult], seeds: list[int]) -> NDArray[np.float64]:
    kept = len(HEADLINE_CLASSES)
    counts = np.stack([runs[seed].confusions.counts[:, :kept] for seed in seeds])  # (seeds, records, 3, 5)
    hits = np.diagonal(counts[..., :kept], axis1=-2, axis2=-1).sum(axis=-1)
    wrong: NDArray[np.float64] = (counts.sum(axis=(-2, -1)) - hits).mean(axis=0)
    return wrong


def _method_section(folders: StudyFolders) -> str:
    recipe = load_recipe(recipe_file(folders, ARMS[0].name))
    text = (
        "## How it was done\n\n"
        "One recipe for all arms but for what their names say, frozen in `results/inter-patient/recipes/`: Adam, "
        "learning rate "
        f"{recipe.learning_rate:g} in one cycle, weight decay {recipe.weight_decay:g} on everything, batch "
        f"{recipe.batch_size}, "
        f"gradient norm clipped at {recipe.gradient_clip_norm:g}, no augmentation. Of DS1's 45,846 N beats "
        f"{recipe.normal_beats_per_epoch:,} "
        "are drawn anew for each epoch, beside all others, so that 60 runs fit the time; class weights are the square "
        "root of the published "
        f"ones. {recipe.epochs} epochs, the last one kept: nothing is chosen by looking at test beats. All arms and "
        "the number of epochs "
        "were committed before the first scoring of DS2; every scoring is a line of `docs/ds2-scorings.jsonl`.\n\n"
        f"The equal-parameter arms have the hidden width that brings the model within 1 % of the MLP's {175_973:,} "
        "parameters, the "
        "equal-latency arm is the MLP widened until its head takes as long as the published KAN's at batch 128, by "
        "`benchmarks/head_latency.py`: a KAN head of one hidden unit is still slower than the published MLP's."
    )
    return text + _validation_text(folders)


def _validation_text(folders: StudyFolders) -> str:
    curves = load_validation(folders)
    if len(curves) < len(validation_runs()):
        return "\n\nThe curves that justify the number of epochs are missing."
    rows = []
    for run, history in curves:
        quarters = [round(len(history) * share) for share in (0.25, 0.5, 0.75, 1)]
        for figure, key in (("macro F1", "validation_macro_f1"), ("loss", "validation_loss")):
            shown = [f"{history[epoch - 1][key]:.3f} (epoch {epoch})" for epoch in quarters]
            rows.append([run.arm.title, str(len(history)), figure, *shown])
    epochs = len(curves[0][1])
    return (
        f"\n\nWhy {epochs} epochs: both published heads, seed 0, validated on the held-out records of fold "
        f"{VALIDATION_FOLD} of DS1 (macro F1 over five classes, of which the fold has few or no beats of two; weighted "
        "loss), trained as here and for twice as long, after each quarter of the epochs:\n\n"
        + markdown_table(["arm", "epochs", "figure", "a quarter", "half", "three quarters", "all"], rows)
        + "\n\n"
        + " ".join(_longer_sentence(arm_named(name).title, curves) for name in VALIDATED_ARMS)
    )


def _longer_sentence(title: str, curves: list[tuple[HeadRun, list[dict[str, float]]]]) -> str:
    """Say what twice the epochs brought an arm."""
    ours, longer = (history for run, history in curves if run.arm.title == title)
    f1, loss = (longer[-1][key] - ours[-1][key] for key in ("validation_macro_f1", "validation_loss"))
    return f"{title}: twice the epochs change macro F1 by {f1:+.3f} and the loss by {loss:+.3f}."


def _change_section(found: list[Contrast]) -> str:
    widths = [c.compared.both_interval.high - c.compared.both_interval.low for c in found if c.compared is not None]
    resolution = (
        f" The intervals over records and seeds are {statistics.median(widths):.3f} wide in the middle: smaller "
        "differences than about half "
        "of that stay unseen here."
        if widths
        else ""
    )
    return (
        "## What would change the answer\n\n"
        "- More patients. 22 test records decide, and few of them hold most S and V beats; another database is worth "
        "more than another "
        f"seed.{resolution}\n"
        "- Another recipe. One recipe serves all arms; a head tuned by itself may gain, and the choice of recipe "
        "would then be part of what is "
        "compared.\n"
        "- Longer training, all N beats in every epoch, augmentation: they are left out for time, alike for all arms.\n"
        "- Another encoder. The head sees 256 features in which the encoder has done most of the work.\n"
        "- Context. A single beat without its neighbours hides most of what makes an S beat."
    )


def _write(file: Path, text: str) -> None:
    """Write under a temporary name and rename."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".part")
    temporary.write_text(text)
    temporary.replace(file)
