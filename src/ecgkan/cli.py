"""The command line: a command parses its arguments, calls one function, and prints."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ecgkan.cli_ec57 import ec57
from ecgkan.cli_export import export
from ecgkan.cli_patients import patients_app
from ecgkan.errors import EcgkanError

if TYPE_CHECKING:
    from rich.console import Console

    from ecgkan.data.databases import FileProblem
    from ecgkan.data.fetch import FetchProgress
    from ecgkan.inference.archive import ArchiveRecording
    from ecgkan.inference.record import ClassifyOptions

app = typer.Typer(
    name="ecgkan",
    help=(
        "Classify heartbeats in ECG recordings into the five AAMI classes (N S V F Q). "
        "A research tool, not a medical device."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that holds mitdb/ and nstdb/; else ECGKAN_DATA, else the user's cache."),
]

ModelFile = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME|PATH", help="patient_kan, patient_mlp, cnn_kan, cnn_mlp, or a file (.pth, .onnx)."
    ),
]
LeadName = Annotated[str | None, typer.Option("--lead", help="Lead by name; else MLII or the one most like it.")]
PeaksFrom = Annotated[
    str | None,
    typer.Option("--annotator", help="Take the R peaks from this annotation file, such as atr; else detect them."),
]
SamplingRate = Annotated[
    float | None, typer.Option("--fs", metavar="HZ", help="Sampling rate, for files that do not say it.")
]
SignalUnits = Annotated[str | None, typer.Option("--units", help="mV, uV or V, for files that do not say it.")]

data_app = typer.Typer(help="Fetch the ECG databases from PhysioNet, and verify them.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(patients_app, name="patients")

DatabaseName = Annotated[
    Literal["mitdb", "nstdb"],
    typer.Argument(help="mitdb: MIT-BIH Arrhythmia Database; nstdb: MIT-BIH Noise Stress Test Database."),
]


@data_app.command("fetch")
def data_fetch(
    database: DatabaseName,
    source: Annotated[
        str | None,
        typer.Option("--from", help="Another URL, a folder, or a zip; else PhysioNet (or ECGKAN_PHYSIONET_URL)."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for programs.")] = False,
) -> None:
    """Bring a database to the data folder, every file verified; run again, it completes or mends what is there.

    Examples: `ecgkan data fetch mitdb`, `ecgkan data fetch mitdb --from ~/Downloads/mitdb.zip`
    """
    from ecgkan.data.fetch import fetch_database
    from ecgkan.data.mitdb import data_root

    with _fetch_progress() as (say, advance):

        def name_problems(problems: Sequence["FileProblem"]) -> None:
            for line in _describe_mending(database, problems):
                say(line)

        try:
            report = fetch_database(
                database,
                data_root(data_dir),
                source=source,
                on_problems=name_problems,
                on_progress=advance,
            )
        except KeyboardInterrupt:
            say("interrupted; what has arrived is kept, and the same command goes on from there")
            raise typer.Exit(130) from None
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "database": report.database,
                    "folder": str(report.folder),
                    "fetched": list(report.fetched),
                    "kept": list(report.kept),
                    "problems_before": [problem._asdict() for problem in report.problems],
                }
            )
        )
        return
    fetched = f"{len(report.fetched)} files fetched and verified" if report.fetched else "nothing to fetch"
    typer.echo(f"{database} is complete in {report.folder}: {fetched}, {len(report.kept)} were right already")


@data_app.command("verify")
def data_verify(
    database: DatabaseName,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for programs.")] = False,
) -> None:
    """Compare every file of a database with PhysioNet's checksums; name each bad file and exit with 1 if any is.

    Example: `ecgkan data verify mitdb`
    """
    from ecgkan.data.databases import load_database, verify_database
    from ecgkan.data.mitdb import data_root

    folder = data_root(data_dir) / database
    problems = verify_database(database, data_root(data_dir))
    n_files = len(load_database(database).files)
    if as_json:
        named = [problem._asdict() for problem in problems]
        typer.echo(json.dumps({"database": database, "folder": str(folder), "files": n_files, "problems": named}))
    elif problems:
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(
            f"{len(problems)} of {n_files} files of {database} in {folder} are bad; "
            f"`ecgkan data fetch {database}` mends them",
            err=True,
        )
    else:
        typer.echo(f"{database} is complete in {folder}: {n_files} files, each as published")
    raise typer.Exit(1 if problems else 0)


def _describe_mending(database: str, problems: Sequence["FileProblem"]) -> list[str]:
    """Name each file that will be fetched and why, in lines; where there is no file at all yet, none needs naming."""
    from ecgkan.data.databases import load_database

    missing = [problem.file for problem in problems if problem.kind == "missing"]
    if len(missing) == len(load_database(database).files):
        return []
    lines = [str(problem) for problem in problems if problem.kind != "missing"]
    if missing:
        lines.append(f"{len(missing)} missing: {' '.join(missing)}")
    return [f"to fetch: {line}" for line in lines]


@contextmanager
def _fetch_progress() -> Iterator[tuple[Callable[[str], None], Callable[["FetchProgress"], None]]]:
    """Yield a function that prints a line and one that moves a bar; without a terminal there is no bar."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    if not console.is_terminal:
        yield console.print, lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        task = progress.add_task("connecting", total=None)

        def advance(state: "FetchProgress") -> None:
            description = f"{state.files_done}/{state.files_total} files"
            progress.update(task, completed=state.bytes_done, total=state.bytes_total, description=description)

        yield console.print, advance


@app.command()
def train(
    model: Annotated[str, typer.Option("--model", help="patient_mlp, patient_kan, cnn_mlp or cnn_kan.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of this run: logs, checkpoints, the trained model.")],
    recipe: Annotated[
        str, typer.Option("--recipe", help="reference, best, or a JSON file with recipe fields.")
    ] = "best",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same machine, same weights.")] = 0,
    protocol: Annotated[str, typer.Option("--protocol", help="random-split or inter-patient.")] = "random-split",
    fold: Annotated[
        int | None,
        typer.Option(
            "--fold", min=0, help="Validate on this fold's records of DS1 (inter-patient); else train on all."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out after an interruption.")] = False,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads of this run.")] = None,
    accelerator: Annotated[str, typer.Option("--accelerator", help="Lightning's: auto, cpu, gpu ...")] = "auto",
    devices: Annotated[int, typer.Option("--devices", min=1, help="Devices per node.")] = 1,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Number of nodes.")] = 1,
    strategy: Annotated[str, typer.Option("--strategy", help="Lightning's: auto, ddp ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Train a model on the MIT-BIH Arrhythmia Database.

    Examples: `ecgkan train --model cnn_kan --recipe best --seed 1 --out runs/kan-1`,
    `ecgkan train --model cnn_mlp --protocol inter-patient --fold 0 --out runs/fold-0`
    """
    from dataclasses import asdict

    from ecgkan.data.protocols import load_split
    from ecgkan.evaluation.evaluate import PROTOCOL_NOTES
    from ecgkan.training.fit import train_model
    from ecgkan.training.recipe import load_recipe

    if model.startswith("patient_"):
        if fold is not None or devices != 1 or nodes != 1 or as_json:
            raise typer.BadParameter(
                "go with the models of single beats; recipes for new patients are cross-validated by "
                "`ecgkan patients validate`, and trained on one CPU",
                param_hint="--fold, --devices, --nodes, --json",
            )
        _train_for_new_patients(model, Path(recipe), seed, out, resume=resume, threads=threads, data_dir=data_dir)
        return
    options = {"accelerator": accelerator, "devices": devices, "num_nodes": nodes, "strategy": strategy}
    chosen = load_recipe(recipe)
    split = load_split(protocol, data_dir, fold=fold)
    try:
        trained = train_model(model, chosen, seed, split, out, resume=resume, threads=threads, trainer_options=options)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted; continue with the same command and --resume (state in {out}).", err=True)
        raise typer.Exit(1) from None
    if trained is None:  # another process of a distributed run tells the result
        return
    if as_json:
        typer.echo(json.dumps(asdict(trained), default=str))
        return
    macro_f1 = trained.validation_macro_f1
    validated = "no validation" if macro_f1 is None else f"validation macro F1 {macro_f1:.4f}"
    typer.echo(
        f"{trained.checkpoint}: {validated} "
        f"(epoch {trained.selected_epoch + 1} of {trained.epochs}), temperature {trained.temperature:.3f}"
    )
    typer.echo(PROTOCOL_NOTES[protocol])


def _train_for_new_patients(
    model: str, recipe: Path, seed: int, out: Path, *, resume: bool, threads: int | None, data_dir: Path | None
) -> None:
    from ecgkan.data.protocols import INTER_PATIENT_NOTE
    from ecgkan.training.patient_runs import train_patient_run

    try:
        trained = train_patient_run(model, recipe, seed, out, resume=resume, threads=threads, data_dir=data_dir)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted; continue with the same command and --resume (state in {out}).", err=True)
        raise typer.Exit(1) from None
    calibrated = (
        "not calibrated" if trained.calibration is None else f"temperature {trained.calibration.temperature:.3f}"
    )
    typer.echo(f"{trained.checkpoint}: {trained.epochs} epochs, {calibrated}")
    typer.echo(INTER_PATIENT_NOTE)


@app.command()
def evaluate(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT", help="Files, or names of shipped models: cnn_mlp, cnn_kan, patient_mlp, patient_kan."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for evaluation.json, predictions (CSV) and figures.")],
    protocol: Annotated[
        Literal["random-split", "inter-patient"] | None,
        typer.Option("--protocol", help="Which beats train, select and test; else the models' own."),
    ] = None,
    subset: Annotated[Literal["test", "validation"], typer.Option("--subset", help="Beats to score.")] = "test",
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Append a line per checkpoint to this log of test-set scorings (JSON lines)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier evaluation.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Score checkpoints on a protocol's beats: tables, JSON, predictions and figures.

    Examples: `ecgkan evaluate cnn_mlp cnn_kan --out evaluation`,
    `ecgkan evaluate patient_mlp patient_kan --out new-patients`,
    `ecgkan evaluate runs/kan-1/cnn_kan.pth --subset validation --out evaluation --json`

    With --log docs/test-scorings.jsonl a scoring of the test set is counted in the repository's log.
    """
    if log is not None and subset != "test":
        raise typer.BadParameter("counts scorings of the test set alone; leave it out", param_hint="--log")

    if protocol == "inter-patient" or (protocol is None and _are_for_new_patients(checkpoints)):
        if subset != "test" or log is not None:
            raise typer.BadParameter("go with protocol random-split", param_hint="--subset, --log")
        _evaluate_on_ds2(checkpoints, out, as_json=as_json, overwrite=overwrite, data_dir=data_dir)
        return
    from ecgkan.evaluation.report import evaluate_to_folder
    from ecgkan.evaluation.tables import print_report

    with _status() as announce:
        report = evaluate_to_folder(
            checkpoints,
            out,
            protocol="random-split",
            subset=subset,
            data_dir=data_dir,
            overwrite=overwrite,
            log=log,
            announce=announce,
        )
    if as_json:
        typer.echo(json.dumps(report.document, indent=2, allow_nan=False))
        return
    print_report(_wide_console(), report.evaluations)
    typer.echo(f"Wrote {len(report.files)} files to {out}: {', '.join(file.name for file in report.files)}")


def _are_for_new_patients(checkpoints: list[str]) -> bool:
    from ecgkan.models.checkpoint import PATIENT_MODELS, load_checkpoint

    return any(load_checkpoint(checkpoint).name in PATIENT_MODELS for checkpoint in checkpoints)


def _evaluate_on_ds2(
    checkpoints: list[str], out: Path, *, as_json: bool, overwrite: bool, data_dir: Path | None
) -> None:
    from ecgkan.studies.patients_evaluation import evaluate_on_ds2, evaluation_text

    with _status() as announce:
        log = Path("docs/ds2-scorings.jsonl")
        document = evaluate_on_ds2(checkpoints, out, log=log, data_dir=data_dir, overwrite=overwrite, announce=announce)
    typer.echo(json.dumps(document, allow_nan=False) if as_json else evaluation_text(document))


@app.command()
def compare(
    protocol: Annotated[
        Literal["random-split", "inter-patient"],
        typer.Option("--protocol", help="Known patients, both recipes; or new patients, every arm of the heads."),
    ] = "random-split",
    results: Annotated[
        Path | None, typer.Option("--results", help="Folder with one JSON file per run; else results/PROTOCOL.")
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", help="Folder of the training runs; else runs, or runs/inter-patient."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Log of test scorings; else docs/test-scorings.jsonl, or docs/ds2-scorings.jsonl."),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train what is missing first: hours on a CPU; interrupted, it goes on.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Trainings at a time, one thread each.")] = 2,
    ship: Annotated[
        Path | None,
        typer.Option("--ship", help="Copy the chosen seed of each head to this folder, with its card (random-split)."),
    ] = None,
    by_record: Annotated[
        bool,
        typer.Option(
            "--by-record",
            help="Judge the shipped models record by record, by EC57 behind our own detector and on test beats; "
            "minutes (random-split).",
        ),
    ] = False,
    cards: Annotated[
        Path | None, typer.Option("--cards", help="Write the model cards anew from the results (random-split).")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write the results page (Markdown) here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures over seeds as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Compare the MLP and the KAN head over seeds: on known patients, or on new ones arm by arm.

    Examples: `ecgkan compare`, `ecgkan compare --train --ship checkpoints --report docs/results.md`,
    `ecgkan compare --by-record --cards checkpoints --report docs/results.md`,
    `ecgkan compare --protocol inter-patient --train --report docs/kan-vs-mlp.md`

    Interrupted, the same command goes on; what has a result is neither trained nor scored again. --by-record judges the
    shipped weights anew each time.
    """
    from rich.console import Console

    from ecgkan.studies.comparison import (
        print_comparison,
        print_head_comparison,
        run_comparison,
        run_head_comparison,
    )
    from ecgkan.studies.random_split import StudyFolders

    new_patients = protocol == "inter-patient"
    folders = StudyFolders(
        runs=runs or Path("runs/inter-patient" if new_patients else "runs"),
        results=results or Path("results") / protocol,
        log=log or Path("docs") / ("ds2-scorings.jsonl" if new_patients else "test-scorings.jsonl"),
    )
    if new_patients:
        if ship is not None or by_record or cards is not None:
            raise typer.BadParameter("go with random-split alone", param_hint="--ship, --by-record, --cards")
        with _status() as announce:
            summary = run_head_comparison(folders, data_dir, train=train, jobs=jobs, report=report, announce=announce)
        if as_json:
            typer.echo(json.dumps(summary, indent=2, allow_nan=False))
        else:
            print_head_comparison(_wide_console(), summary)
        return
    with _status() as announce:
        summary = run_comparison(
            folders,
            data_dir,
            train=train,
            jobs=jobs,
            ship=ship,
            by_record=by_record,
            cards=cards,
            report=report,
            announce=announce,
        )
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_comparison(_wide_console() if by_record else Console(markup=False, highlight=False), summary)


@app.command()
def classify(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Recordings, folders of them, or glob patterns; also URLs, such as s3://bucket/folder.",
            show_default=False,
        ),
    ],
    model: ModelFile = "patient_kan",
    backend: Annotated[
        Literal["torch", "onnx"] | None,
        typer.Option(
            "--backend", help="What computes the model; else onnx for shipped models, torch for checkpoint files."
        ),
    ] = None,
    lead: LeadName = None,
    second_lead: Annotated[
        str | None,
        typer.Option(
            "--second-lead",
            help="Lead that models for new patients look at beside it: by name, or auto for another ECG lead.",
            show_default="none",
        ),
    ] = None,
    annotator: PeaksFrom = None,
    fs: SamplingRate = None,
    units: SignalUnits = None,
    formats: Annotated[
        str, typer.Option("--format", metavar="LIST", help="Of wfdb, csv, parquet, json, html, png.")
    ] = "wfdb,csv,json,html",
    output_annotator: Annotated[
        str, typer.Option("--as-annotator", metavar="NAME", help="Extension of the WFDB annotation file.")
    ] = "ecgkan",
    out: Annotated[str, typer.Option("--out", help="Folder or URL for the results.")] = ".",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of an earlier run.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what an earlier run has done.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that work side by side; with --ray, actors.")
    ] = None,
    ray: Annotated[str | None, typer.Option("--ray", metavar="ADDRESS|local", help="Work on this Ray cluster.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Classify the beats of recordings: a summary, tables, an annotation file and a report of each.

    Examples: `ecgkan classify mitdb/100 --out results`,
    `ecgkan classify mitdb/114 --lead V5 --annotator atr --model cnn_mlp`,
    `ecgkan classify holter.csv --fs 250 --format csv,json`,
    `ecgkan classify archive/ --out results --workers 4`, and after an interruption the same with --resume
    """
    if overwrite and resume:
        raise typer.BadParameter("says to do all again, --resume to skip what is done", param_hint="--overwrite")
    from ecgkan.errors import DataError
    from ecgkan.inference.record import ClassifyOptions
    from ecgkan.inference.search import find_archive
    from ecgkan.inference.stores import is_url

    try:
        options = ClassifyOptions(
            model=model,
            backend=backend,
            lead=lead,
            second_lead=second_lead,
            annotator=annotator,
            fs=fs,
            units=units,
            formats=tuple(dict.fromkeys(name.strip() for name in formats.split(",") if name.strip())),
            output_annotator=output_annotator,
            overwrite=overwrite,
        )
    except DataError as error:
        raise typer.BadParameter(str(error)) from error
    recordings = find_archive(paths)
    on_its_own = len(recordings) == 1 and not (resume or workers or ray)
    if on_its_own and not is_url(recordings[0].path) and not is_url(out):
        _classify_one(recordings[0], out, options, as_json=as_json)
    else:
        _classify_many(recordings, out, options, resume=resume, workers=workers, ray=ray, as_json=as_json)


def _classify_one(recording: "ArchiveRecording", out: str, options: "ClassifyOptions", *, as_json: bool) -> None:
    from ecgkan.inference.console import make_console, print_classified
    from ecgkan.inference.record import classify_to_folder
    from ecgkan.inference.stores import local_path

    with _share_done(Path(recording.path).name) as progress:
        folder = local_path(out) / recording.folder
        classified = classify_to_folder(recording.path, folder, options, progress=progress)
    if as_json:
        typer.echo(json.dumps(classified.to_dict(), indent=2, allow_nan=False))
    else:
        print_classified(make_console(), classified)


def _classify_many(
    recordings: "Sequence[ArchiveRecording]",
    out: str,
    options: "ClassifyOptions",
    *,
    resume: bool,
    workers: int | None,
    ray: str | None,
    as_json: bool,
) -> None:
    from contextlib import redirect_stdout

    from ecgkan.inference.archive import classify_archive
    from ecgkan.inference.archive_console import archive_progress, print_archive
    from ecgkan.inference.console import make_console

    try:
        # Ray tells of workers that died on standard output, where the result belongs.
        with redirect_stdout(sys.stderr), archive_progress() as (on_plan, on_outcome):
            report = classify_archive(
                recordings,
                out,
                options,
                resume=resume,
                workers=workers,
                ray=ray,
                on_plan=on_plan,
                on_outcome=on_outcome,
            )
    except KeyboardInterrupt:
        typer.echo(f"Interrupted; the same command with --resume goes on (results so far in {out}).", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    else:
        print_archive(make_console(), report)
    raise typer.Exit(1 if report.failed else 0)


@contextmanager
def _share_done(name: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that shows which share of a recording is done; silent without a terminal."""
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(name, total=1.0)
        yield lambda share: progress.update(task, completed=share)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for tables, figures and annotation files.")] = Path("demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier demonstration.")] = False,
) -> None:
    """Classify five real minutes with both shipped models; needs no data and no network.

    Example: `ecgkan demo --out demo`
    """
    from ecgkan.inference.console import make_console, print_demo
    from ecgkan.inference.demo import run_demo

    print_demo(make_console(), run_demo(out, overwrite=overwrite))


@app.command()
def explain(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECORD|MODEL",
            help="A recording in any format that classify reads, with --beat; or a model with a KAN head: patient_kan, "
            "cnn_kan, or a checkpoint file (.pth).",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE|DIR", help="Of a beat the figure (.png, .pdf, .svg); else a folder.")
    ],
    beat: Annotated[
        float | None,
        typer.Option("--beat", metavar="TIME_S", help="The beat nearest to this time, seconds from the start."),
    ] = None,
    model: ModelFile = "patient_kan",
    target: Annotated[
        str | None, typer.Option("--class", metavar="N|S|V|F|Q", help="Explain this class; else the model's own.")
    ] = None,
    lead: LeadName = None,
    annotator: PeaksFrom = None,
    fs: SamplingRate = None,
    units: SignalUnits = None,
    refine: Annotated[
        int | None,
        typer.Option("--refine", min=1, metavar="N", help="Save the model on a grid of N intervals as well."),
    ] = None,
    prune: Annotated[
        float | None,
        typer.Option(
            "--prune", min=0, max=1, metavar="SHARE", help="Save the model with this share of its edges as well."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE.md", help="Write the page here too, its figures into images/ beside it."
        ),
    ] = None,
    data_dir: DataDir = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier explanation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the evidence as JSON and nothing else.")] = False,
) -> None:
    """Explain a beat: which samples, features and learned functions moved the decision. Or explain a KAN head.

    A model with a KAN head is explained as a whole, on validation beats, or on beats of the patients that trained it if
    it is one for new patients: what its named inputs are worth, the learned functions of its strongest edges,
    accuracy as edges are pruned, formulas for the edges that matter, and its splines on a finer grid.

    Examples: `ecgkan explain mitdb/208 --beat 31.5 --annotator atr --out beat.png`,
    `ecgkan explain mitdb/208 --beat 31.5 --model cnn_mlp --out beat.png`,
    `ecgkan explain patient_kan --out edges`,
    `ecgkan explain cnn_kan --out edges --refine 10 --prune 0.3`
    """
    of_beat = {"--class": target, "--lead": lead, "--annotator": annotator, "--fs": fs, "--units": units}
    of_beat["--model"] = None if model == "patient_kan" else model
    of_model = {"--refine": refine, "--prune": prune, "--report": report, "--data-dir": data_dir}
    _refuse_options(of_beat if beat is None else of_model, "a model" if beat is None else "a beat (--beat)")
    if beat is None:
        _explain_model(
            source,
            out,
            refine=refine,
            prune=prune,
            report=report,
            data_dir=data_dir,
            overwrite=overwrite,
            as_json=as_json,
        )
        return
    from ecgkan.inference.console import make_console, print_evidence
    from ecgkan.inference.evidence import explain_to_file

    with _share_done(Path(source).name) as progress:
        evidence = explain_to_file(
            source,
            beat,
            out,
            model=model,
            target=target,
            lead=lead,
            annotator=annotator,
            fs=fs,
            units=units,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(evidence.to_dict(), allow_nan=False))
    else:
        print_evidence(make_console(), evidence, out)


def _refuse_options(options: Mapping[str, object], explained: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise typer.BadParameter(f"does not go with {explained}; leave it out", param_hint=name)


def _explain_model(
    source: str,
    out: Path,
    *,
    refine: int | None,
    prune: float | None,
    report: Path | None,
    data_dir: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    from ecgkan.inference.console import make_console
    from ecgkan.models.checkpoint import ALL_MODELS
    from ecgkan.studies.kan_edges.folder import explain_model
    from ecgkan.studies.kan_edges.page import print_study

    if source not in ALL_MODELS and Path(source).suffix not in (".pth", ".pt"):
        raise typer.BadParameter(
            f"missing: of the recording {source} one beat is explained; give its time, or name a model "
            f"({', '.join(ALL_MODELS)}, or a checkpoint file .pth) instead",
            param_hint="--beat",
        )
    with _status() as announce:
        explained = explain_model(
            source,
            out,
            refine=refine,
            prune=prune,
            report=report,
            data_dir=data_dir,
            overwrite=overwrite,
            announce=announce,
        )
    if as_json:
        typer.echo(json.dumps(explained.to_dict(), allow_nan=False))
    else:
        print_study(make_console(), explained.study, explained.model, explained.files)


app.command("ec57")(ec57)
app.command("export")(export)

detector_app = typer.Typer(help="The QRS detector: train it anew, or measure it.", no_args_is_help=True)
app.add_typer(detector_app, name="detector")


@detector_app.command("train")
def detector_train(
    out: Annotated[Path, typer.Option("--out", metavar="FILE.onnx", help="The network.")],
    seed: Annotated[int | None, typer.Option("--seed", help="What everything is drawn from.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Length of the training.")] = None,
    data_dir: DataDir = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier file.")] = False,
) -> None:
    """Train the QRS detector on the records of DS1 with noise added (half an hour on one core).

    Example: `ecgkan detector train --out qrs_detector.onnx`
    """
    from ecgkan.training.detector import SEED, STEPS, train_to_file

    def report(step: int, loss: float, seconds: float) -> None:
        typer.echo(f"step {step}  loss {loss:.4f}  {seconds:.0f} s")

    train_to_file(
        out,
        data_dir,
        seed=SEED if seed is None else seed,
        steps=STEPS if steps is None else steps,
        overwrite=overwrite,
        report=report,
    )
    typer.echo(f"Wrote {out}")


@detector_app.command("score")
def detector_score(
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.md", help="Put the tables into this page, and JSON beside.")
    ] = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON and nothing else.")] = False,
) -> None:
    """Compare the QRS detector with reference annotations and other detectors, by the rules of WFDB's bxb.

    Example: `ecgkan detector score --report docs/detector.md`
    """
    from ecgkan.studies.detector import detector_tables, study, write_study

    with _status() as say:
        results = study(data_dir, report=say)
    if report is not None:
        write_study(report, results)
    typer.echo(json.dumps(results) if as_json else detector_tables(results))


def _wide_console() -> "Console":
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a pipe has no width to fit into
    return console


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Yield a function that says what is going on; silent without a terminal."""
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("starting") as status:
        yield status.update


def main() -> None:
    """Run the command line; an expected error prints one line and exits with 1."""
    try:
        app()
    except EcgkanError as error:
        typer.echo(f"ecgkan: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
