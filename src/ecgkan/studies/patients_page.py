"""The page and the cards of the models for new patients, filled from the results that the commands wrote."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ecgkan.aami import CLASS_MEANINGS, CLASSES
from ecgkan.data.protocols import INTER_PATIENT_NOTE
from ecgkan.errors import DataNotFoundError
from ecgkan.evaluation.ds2_log import read_ds2_log
from ecgkan.evaluation.ec57.export import write_whole
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.evaluation.tables import markdown_table
from ecgkan.models.checkpoint import PATIENT_MODELS
from ecgkan.studies.patients import SHIPPED_SEED, PatientFolders, load_results
from ecgkan.studies.random_split import over_seeds
from ecgkan.studies.stress import SNRS_DB
from ecgkan.training.patient_runs import validation_file

Result = dict[str, Any]

BARS: Final = {"accuracy": 0.965, "macro F1 (N S V)": 0.86, "F1 S": 0.65, "F1 V": 0.95}
"""What the project asks of the mean over seeds on DS2."""

PUBLISHED: Final = (
    ("Farag 2023", "98.2", "92.2", "82.1", "95.3"),
    ("Saenz-Cogollo & Agelli 2020", "96.1", "–", "73.1", "90.9"),
    ("Mondéjar-Guerra et al. 2019", "94.5", "–", "60.8 (Se 78.1, +P 49.7)", "94.3"),
    ("de Chazal et al. 2004", "–", "–", "51.1 (Se 75.9, +P 38.5)", "79.8 (Se 77.7, +P 81.9)"),
)
"""Single lead, automatic, no tuning to the patient; percent; F1 computed from Se and +P where those were published."""

CAVEATS: Final = (
    "One database: 44 records of 43 patients, 22 to train and 22 to test; 201 (DS1) and 202 (DS2) are one person.",
    "Record 232 holds 1,382 of DS2's 1,837 S beats, so S is told with and without it.",
    "F is close to unlearnable here: 372 of DS1's 414 F beats are record 208's, most of DS2's record 213's. Q has 15 "
    "beats in both sets, so a macro F1 over five classes is capped near 0.8.",
    "In atrial fibrillation (201, 203, 219, 221, 222 among others) irregular intervals make normal beats look early.",
)

LEADS_TOLD: Final = {"ds2": "one lead", "ds2_two_leads": "two leads"}
"""Table of a run's figures → what the model looked at."""

Figure = Callable[[Result], float | None]


def _of(table: str, *keys: str) -> Figure:
    """Return the function that looks a figure up in one of a run's tables."""

    def look_up(told: Result) -> float | None:
        value: Any = told[table]
        for key in keys:
            value = value[key]
        return None if value is None else float(value)

    return look_up


def _risk_at(coverage: float) -> Figure:
    """Return the function that looks up the error rate at a coverage."""

    def look_up(told: Result) -> float:
        curve = told["risk_coverage"]
        return float(curve["risk"][curve["coverage"].index(coverage)])

    return look_up


FIGURES: Final[dict[str, Figure]] = {
    "accuracy": _of("headline", "accuracy"),
    "macro F1 (N S V)": _of("headline", "macro_f1"),
    **{
        f"{title} {letter}": _of("headline", "classes", letter, key)
        for letter in "NSV"
        for key, title in (("se", "Se"), ("ppv", "+P"), ("f1", "F1"))
    },
    "F1 S without 232": _of("headline_without_232", "classes", "S", "f1"),
    "macro F1 (N S V) without 232": _of("headline_without_232", "macro_f1"),
    "five classes: accuracy": _of("five_class", "accuracy"),
    "five classes: macro F1": _of("five_class", "macro_f1"),
    **{f"five classes: F1 {letter}": _of("five_class", "classes", letter, "f1") for letter in CLASSES},
    "calibration error": _of("reliability", "calibration_error"),
    "error at full coverage": _risk_at(1.0),
    "error at 95 % coverage": _risk_at(0.95),
}
"""Name of a figure → where it stands in a run's figures on a set of records."""


def patients_page(folders: PatientFolders, stress: Path) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    folders : PatientFolders
        The recipe, with the results beside it.
    stress : Path
        What `ecgkan patients stress` wrote.
    """
    results = load_results(folders)
    sections = [
        "# New patients",
        f"**{INTER_PATIENT_NOTE}** How the models see a beat, and how they are trained: [context.md](context.md); what "
        "the KAN head has learned: [patient-kan-edges.md](patient-kan-edges.md). "
        f"Recipe `{folders.recipe.stem}` ({folders.recipe.as_posix()}), frozen before DS2 was scored. Written by "
        "`ecgkan patients report`.",
        _headline_section(results),
        _literature_section(results),
        _validation_section(folders),
        _records_section(results),
        _stress_section(stress),
        _confusion_section(results),
        "## What to keep in mind\n\n" + "\n".join(f"- {caveat}" for caveat in CAVEATS),
        _scorings_section(folders),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(results: Sequence[Result], figure: Figure, table: str = "ds2", digits: int = 4) -> str:
    values = [value for result in results if table in result and (value := figure(result[table])) is not None]
    if not values:
        return "–"
    over = over_seeds(values)
    return f"{over.mean:.{digits}f}" + (f" ± {over.sd:.{digits}f}" if over.n > 1 else "")


def _headline_section(results: dict[str, list[Result]]) -> str:
    columns = [(model, table) for table in LEADS_TOLD for model in PATIENT_MODELS if results[model]]
    rows = [
        [
            name,
            *(_summary(results[model], figure, table) for model, table in columns),
            f"{BARS[name]}" if name in BARS else "",
        ]
        for name, figure in FIGURES.items()
    ]
    counts = {column: sum(column[1] in result for result in results[column[0]]) for column in columns}
    titles = [f"{MODEL_TITLES[model]}, {LEADS_TOLD[table]} (n = {counts[model, table]})" for model, table in columns]
    return (
        "## On DS2, reference R peaks\n\nMean ± standard deviation over seeds. One lead: the one chosen by name, as in "
        "the literature and by default. Two leads: the mean of the logits of both, as `ecgkan classify --second-lead "
        "auto` does; the same weights. As in the literature, reference beats of class F and Q are left out of the "
        "first rows (no denominators, no false positives); a prediction of F or Q on a remaining beat is an error. "
        "Commands: `ecgkan patients validate`, `ecgkan patients train`, `ecgkan patients score`; one file per run in "
        "`results/patients/`.\n\n" + markdown_table(["", *titles, "bar"], rows)
    )


def _literature_section(results: dict[str, list[Result]]) -> str:
    names = ("accuracy", "macro F1 (N S V)", "F1 S", "F1 V")

    def ours(model: str, table: str) -> list[str]:
        found = [result[table] for result in results[model] if table in result]
        return [f"{100 * over_seeds([float(FIGURES[name](told) or 0) for told in found]).mean:.1f}" for name in names]

    rows = [
        [f"{MODEL_TITLES[model]}, {LEADS_TOLD[table]}", *ours(model, table)]
        for table in LEADS_TOLD
        for model in PATIENT_MODELS
        if any(table in result for result in results[model])
    ]
    return (
        "### Beside published figures\n\nPercent, DS2, F and Q left out; ours are means over seeds, the published "
        "ones are of one lead.\n\n"
        + markdown_table(["", "accuracy", "macro F1 (N S V)", "F1 S", "F1 V"], [*rows, *map(list, PUBLISHED)])
    )


def _validation_section(folders: PatientFolders) -> str:
    columns, told = {}, []
    for model in PATIENT_MODELS:
        file = validation_file(folders.recipe, model)
        if file.is_file():
            columns[model] = json.loads(file.read_text())
            told.append((f"{MODEL_TITLES[model]}, one lead", columns[model]["held_out"]))
    for model in columns:
        repetition = validation_file(folders.recipe, model, repeated=True)
        document = json.loads(repetition.read_text()) if repetition.is_file() else columns[model]
        again = "again, " if repetition.is_file() else ""
        for table, leads in (("held_out", "one lead"), ("held_out_two_leads", "two leads")):
            if table in document and (again or table != "held_out"):
                told.append((f"{MODEL_TITLES[model]}, {again}{leads}", document[table]))
    rows = [
        [name, *(_number(figure(figures)) for _, figures in told)]
        for name, figure in FIGURES.items()
        if "232" not in name
    ]
    fitted = "; ".join(
        f"{MODEL_TITLES[model]}: temperature {document['calibration']['temperature']:.3f}, F1 of S before calibration "
        f"{document['held_out_uncalibrated']['classes']['S']['f1']:.4f}"
        for model, document in columns.items()
    )
    return (
        "## Inside DS1, by which everything was chosen\n\nFour folds of whole records, one seed; the calibration is "
        "fitted on these held-out beats, so its own figures are slightly flattered. Command: `ecgkan patients "
        f"validate`. By one lead, {fitted}. Again: the same once more, rounded otherwise (`ecgkan patients validate "
        "--repeat`), its calibration its own, to see what a second lead brings. It promised more here than it kept "
        "on DS2; seeing that, one lead, scored first, was left as the default.\n\n"
        + markdown_table(["", *(title for title, _ in told)], rows)
    )


def _records_section(results: dict[str, list[Result]]) -> str:
    rows = []
    shipped = {model: _shipped(results, model) for model in PATIENT_MODELS if results[model]}
    if not shipped:
        return "## By record\n\nNothing is scored yet."
    tables = [table for table in LEADS_TOLD if all(table in result for result in shipped.values())]
    for record in next(iter(shipped.values()))["ds2"]["confusion_by_record"]:
        row = [record]
        for table in tables:
            for result in shipped.values():
                counts = result[table]["confusion_by_record"][record]
                row += [_found(counts, 1), _found(counts, 2)]
        rows.append(row)
    header = [
        f"{MODEL_TITLES[model]}, {LEADS_TOLD[table]}: {letter}"
        for table in tables
        for model in shipped
        for letter in "SV"
    ]
    return (
        f"## By record\n\nShipped weights (seed {SHIPPED_SEED}, fixed before anything was scored): beats found / "
        "reference beats, + beats of N S V wrongly called so.\n\n" + markdown_table(["record", *header], rows)
    )


def _found(counts: list[list[int]], index: int) -> str:
    reference, false = sum(counts[index]), sum(counts[row][index] for row in range(3) if row != index)
    return f"{counts[index][index]} / {reference} + {false}" if reference or false else "–"


def _shipped(results: dict[str, list[Result]], model: str) -> Result:
    return next(result for result in results[model] if result["seed"] == SHIPPED_SEED)


def _stress_section(stress: Path) -> str:
    if not stress.is_file():
        return "## Behind our own detector\n\nNot measured yet: `ecgkan patients stress`."
    document = json.loads(stress.read_text())
    return "\n\n".join(
        [
            "## Behind our own detector, by EC57",
            "What a user gets: our detector finds the beats, noisy stretches are marked and left out, then ANSI/AAMI "
            "EC57's beat-by-beat comparison as WFDB's `bxb` and `sumstats` do it (from 5:00, window 0.15 s; "
            "[ec57.md](ec57.md)). Shipped weights. Command: `ecgkan patients stress`.",
            ec57_table({MODEL_TITLES[name]: told["ds2"] for name, told in document.items()}, average=True),
            "The same where the models look at a second lead, too (`ecgkan classify --second-lead auto`):",
            ec57_table({MODEL_TITLES[name]: told["ds2_two_leads"] for name, told in document.items()}, average=True),
            "### In noise",
            "DS2 with record `em` added to both leads as WFDB's `nst` does it, in turn two minutes with and two "
            "without. Left: all of each record by EC57, what could not be read left out (so its beats count as "
            "missed). Right: the beats in noisy stretches, reference R peaks, nothing left out.",
            *(f"{MODEL_TITLES[name]}:\n\n{_noise_table(told)}" for name, told in document.items()),
            "The noise stress records, of **training patients** 118 and 119, by EC57:",
            markdown_table(
                ["record", *(f"{MODEL_TITLES[name]} {what}" for name in document for what in _EC57_SHORT)],
                [
                    [
                        record,
                        *(
                            _percent(told["noise_stress"][record]["gross"][key])
                            for told in document.values()
                            for key in _EC57_SHORT.values()
                        ),
                    ]
                    for record in next(iter(document.values()))["noise_stress"]
                ],
            ),
        ]
    )


_EC57_FIGURES: Final = {
    "QRS Se": "qrs_se",
    "QRS +P": "qrs_p",
    "VEB Se": "veb_se",
    "VEB +P": "veb_p",
    "VEB FPR": "veb_fpr",
    "SVEB Se": "sveb_se",
    "SVEB +P": "sveb_p",
    "SVEB FPR": "sveb_fpr",
}
_EC57_SHORT: Final = {"QRS Se": "qrs_se", "VEB Se": "veb_se", "VEB +P": "veb_p"}


def ec57_table(columns: dict[str, Result], *, average: bool) -> str:
    """Return EC57's figures as a table, percent: by title what `ecgkan.studies.stress.told` made of a comparison."""
    rows = []
    for title, key in _EC57_FIGURES.items():
        row = [title]
        for told in columns.values():
            row.append(_percent(told["gross"][key]))
            if average:
                row.append(_percent(told["average"][key]))
        rows.append(row)
    rows.append(
        ["beats left out", *(cell for told in columns.values() for cell in (f"{told['left_out_percent']:.2f}", ""))]
    )
    header = [f"{title}, {what}" for title in columns for what in ("gross", "average")]
    return markdown_table(["percent", *header], rows)


def _noise_table(told: Result) -> str:
    """Return one model's table in noise."""
    rows = []
    for snr_db in map(str, SNRS_DB):
        at = told["ds2_in_noise"][snr_db]
        row = [_percent(at["ec57"]["gross"][key]) for key in ("veb_se", "veb_p", "sveb_se", "sveb_p")]
        row += [_percent(at["ec57"]["left_out_percent"])]
        row += [_number(at["reference_peaks"]["classes"][letter]["f1"], 3) for letter in "NSV"]
        rows.append([f"{snr_db} dB", *row])
    names = ("VEB Se", "VEB +P", "SVEB Se", "SVEB +P", "left out", "F1 N", "F1 S", "F1 V")
    return markdown_table(["em", *names], rows)


def _confusion_section(results: dict[str, list[Result]]) -> str:
    parts = ["## All five classes, shipped weights", "Rows reference, columns predicted."]
    for model in PATIENT_MODELS:
        if results[model]:
            matrices = _shipped(results, model)["ds2"]["confusion_by_record"].values()
            total = [[sum(matrix[i][j] for matrix in matrices) for j in range(5)] for i in range(5)]
            rows = [[letter, *map(str, row)] for letter, row in zip(CLASSES, total, strict=True)]
            parts += [markdown_table([MODEL_TITLES[model], *CLASSES], rows)]
    return "\n\n".join(parts)


_LOGGED: Final = (
    _of("headline", "accuracy"),
    _of("headline", "macro_f1"),
    _of("headline", "classes", "S", "f1"),
    _of("headline", "classes", "V", "f1"),
)


def _scorings_section(folders: PatientFolders) -> str:
    lines = [line for line in read_ds2_log(folders.log) if line["model"] in PATIENT_MODELS]
    kinds = list(dict.fromkeys((line["recipe"], line["model"], line.get("leads", 1)) for line in lines))
    rows = []
    for kind in kinds:
        chosen = [line for line in lines if (line["recipe"], line["model"], line.get("leads", 1)) == kind]
        figures = [over_seeds([figure(line) or 0.0 for line in chosen]) for figure in _LOGGED]
        rows.append([kind[0], MODEL_TITLES[kind[1]], str(kind[2]), str(len(chosen)), *map(str, figures)])
    return (
        "## How often DS2 was looked at\n\nEvery first scoring of weights is a line of `docs/ds2-scorings.jsonl`, with "
        "the recipe's hash and the commit; none of them chose an epoch, a threshold or a hyper-parameter of a model. "
        "One choice was made with them in view: records held out inside DS1 spoke for two leads, and the default of "
        "`ecgkan classify` nevertheless stays at one, as first scored.\n\n"
        + markdown_table(["recipe", "model", "leads", "scorings", "accuracy", "macro F1 (N S V)", "F1 S", "F1 V"], rows)
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def patient_card(folders: PatientFolders, model: str, stress: Path) -> str:
    """Return the card of one model as Markdown with YAML front matter, in the Hub's format."""
    results = load_results(folders)[model]
    if not results:
        raise DataNotFoundError(f"{model} has no results beside {folders.recipe}: run ecgkan patients score")
    shipped = next(result for result in results if result["seed"] == SHIPPED_SEED)
    headline = shipped["ds2"]["headline"]
    kan = "kan_head" in dict(PATIENT_MODELS[model]().named_children())
    head = "a Kolmogorov-Arnold head (170 → 20 → 5, cubic B-splines)" if kan else "an MLP head (170 → 128 → 64 → 5)"
    parameters = sum(parameter.numel() for parameter in PATIENT_MODELS[model]().parameters())
    parts = [
        "\n".join(
            [
                "---",
                "license: mit",
                "library_name: ecgkan",
                f"tags: [ECG, arrhythmia, heartbeat-classification, MIT-BIH, AAMI, pytorch{', KAN' if kan else ''}]",
                "model-index:",
                f"- name: ecgkan {model}",
                "  results:",
                "  - task: {type: time-series-classification, name: Heartbeat classification}",
                "    dataset: {type: mitdb, name: 'MIT-BIH Arrhythmia Database, protocol inter-patient', split: DS2}",
                "    metrics:",
                f"    - {{type: accuracy, name: accuracy, value: {headline['accuracy']:.4f}}}",
                f"    - {{type: f1, name: macro F1 over N S V, value: {headline['macro_f1']:.4f}}}",
                "---",
            ]
        ),
        f"# {MODEL_TITLES[model]}: heartbeats of new patients into the AAMI classes N S V F Q",
        f"A small 1-D CNN sees a beat beside the patient's own average beat, its place in the rhythm is told by ratios "
        f"of RR intervals, and {head} weighs both; {parameters:,} parameters. Part of ecgkan; weights in "
        f"`{model}.pth`, SHA-256 `{shipped['weights_sha256']}`.",
        "**A research tool, not a medical device.** Do not use it for diagnosis or to guide treatment.",
        f"**{INTER_PATIENT_NOTE}**",
        "## Use",
        "```python\nfrom ecgkan import classify\n\n"
        f'annotations = classify("path/to/record", model="{model}")\nprint(annotations.to_dataframe())\n```',
        markdown_table(["class", "meaning"], CLASS_MEANINGS.items()),
        "## Training",
        f"DS1 of the MIT-BIH Arrhythmia Database (22 records), recipe `{folders.recipe.stem}`, seed {SHIPPED_SEED}, "
        "fixed before any test beat was scored; noise records `bw` and `ma`, never `em`. Command: `ecgkan train "
        f"--model {model} --recipe {folders.recipe.as_posix()} --seed {SHIPPED_SEED} --out DIR`. "
        "Probabilities are calibrated on records held out inside DS1.",
        "## Figures on DS2",
        "Reference R peaks, F and Q left out where it says N S V; shipped weights, and mean ± sd over "
        f"{len(results)} seeds; by the lead chosen by name, and by both leads together. Command: `ecgkan patients "
        "score`.",
        markdown_table(
            ["figure", *(f"{what}, {leads}" for leads in LEADS_TOLD.values() for what in ("shipped", "over seeds"))],
            [
                [
                    name,
                    *(
                        cell
                        for table in LEADS_TOLD
                        for cell in (_number(figure(shipped[table])), _summary(results, figure, table))
                    ),
                ]
                for name, figure in FIGURES.items()
            ],
        ),
        _card_ec57(model, stress),
        "## Where it fails, by record",
        "Shipped weights, one lead.",
        _failures(shipped),
        "## Intended use and limits",
        "- For research on heartbeat classification, and as a first pass that a person checks.\n"
        + "\n".join(f"- {caveat}" for caveat in CAVEATS)
        + "\n- A beat is known two beats later; the first beats of a recording have little context.\n"
        "- Paced rhythms were never seen in training.",
        "## Citation",
        "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. "
        "IEEE Eng in Med and Biol 20(3):45-50 (2001).\n"
        "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101(23):e215-e220 (2000).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _card_ec57(model: str, stress: Path) -> str:
    if not stress.is_file():
        return ""
    document = json.loads(stress.read_text())
    if model not in document:
        return ""
    return "Behind our own detector, by EC57 on DS2 (command: `ecgkan patients stress`):\n\n" + ec57_table(
        {MODEL_TITLES[model]: document[model]["ds2"]}, average=True
    )


def _failures(shipped: Result, *, most: int = 6) -> str:
    """Name the records that hold most of the missed and of the false S and V beats."""
    lines = []
    matrices = shipped["ds2"]["confusion_by_record"]
    for index, letter in ((1, "S"), (2, "V")):
        missed = {record: sum(m[index]) - m[index][index] for record, m in matrices.items()}
        false = {record: sum(m[row][index] for row in range(3) if row != index) for record, m in matrices.items()}
        for what, counts in ((f"{letter} missed", missed), (f"wrongly called {letter}", false)):
            worst = sorted(counts, key=lambda record: -counts[record])[:most]
            told = ", ".join(f"{record} ({counts[record]})" for record in worst if counts[record])
            lines.append(f"- {what} ({sum(counts.values())} in all): {told or 'none'}")
    return "\n".join(lines)


def write_page_and_cards(folders: PatientFolders, stress: Path, page: Path, cards: Path) -> list[Path]:
    """Write the page and both cards, each under a temporary name that is then renamed."""
    texts = {page: patients_page(folders, stress)}
    texts |= {cards / f"{model}.md": patient_card(folders, model, stress) for model in PATIENT_MODELS}
    for file, text in texts.items():
        write_whole(file, text.encode())
    return list(texts)
