"""`ecgkan patients`: validate, train, score and ship the models for new patients."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

patients_app = typer.Typer(
    help="The models for new patients: cross-validate a recipe inside DS1, train on DS1, score on DS2.",
    no_args_is_help=True,
)

RecipeFile = Annotated[Path, typer.Option("--recipe", help="JSON file of the recipe; results are written beside it.")]
RunsFolder = Annotated[Path, typer.Option("--runs", help="Folder of the training runs (checkpoints, states).")]
LogFile = Annotated[Path, typer.Option("--log", help="Log of DS2 scorings (JSON lines).")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that holds mitdb/ and nstdb/; else ECGKAN_DATA, else the user's cache."),
]
PatientModel = Literal["patient_mlp", "patient_kan"]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result for programs.")]

DEFAULT_RECIPE = Path("results/patients/patient-1.json")
DEFAULT_RUNS = Path("runs/patients")
DEFAULT_LOG = Path("docs/ds2-scorings.jsonl")
DEFAULT_STRESS = Path("results/patients/stress.json")


@patients_app.command("validate")
def validate(
    recipe: RecipeFile = DEFAULT_RECIPE,
    model: Annotated[PatientModel, typer.Option("--model", help="patient_mlp or patient_kan.")] = "patient_kan",
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Write beside the calibration in use, which stays as it is.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Cross-validate a recipe record-wise inside DS1 and fit the calibration; minutes on one core.

    Example: `ecgkan patients validate --recipe results/patients/patient-1.json --model patient_mlp`
    """
    from ecgkan.studies.patients import cross_validate, describe

    document = cross_validate(recipe, model, repeat=repeat, data_dir=data_dir, announce=_say)
    if as_json:
        typer.echo(json.dumps(document))
        return
    typer.echo(f"not calibrated: {describe(document['held_out_uncalibrated'])}")
    typer.echo(f"calibrated:     {describe(document['held_out']['headline'])}")
    typer.echo(f"two leads:      {describe(document['held_out_two_leads']['headline'])}")


@patients_app.command("train")
def train(
    recipe: RecipeFile = DEFAULT_RECIPE,
    runs: RunsFolder = DEFAULT_RUNS,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Trainings at a time, one thread each.")] = 2,
    ship: Annotated[Path | None, typer.Option("--ship", help="Copy the shipped seed of each head here.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Train both heads with every seed on all of DS1, or go on where it was interrupted.

    Example: `ecgkan patients train --ship checkpoints`
    """
    from ecgkan.studies.patients import PatientFolders, train_missing
    from ecgkan.studies.patients import ship as copy_shipped

    folders = PatientFolders(recipe=recipe, runs=runs, log=DEFAULT_LOG)
    trained = train_missing(folders, data_dir=data_dir, jobs=jobs, announce=_say)
    typer.echo(f"{len(trained)} runs trained: {', '.join(trained) or 'nothing was missing'}")
    if ship is not None:
        for file in copy_shipped(folders, ship):
            typer.echo(f"wrote {file}")


@patients_app.command("score")
def score(
    recipe: RecipeFile = DEFAULT_RECIPE,
    runs: RunsFolder = DEFAULT_RUNS,
    log: LogFile = DEFAULT_LOG,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Score trained runs on DS2, each once, by a committed recipe; without anything new, tell the figures again.

    Example: `ecgkan patients score`
    """
    from ecgkan.data.protocols import INTER_PATIENT_NOTE
    from ecgkan.studies.patients import PatientFolders, describe, load_results, score_missing

    folders = PatientFolders(recipe=recipe, runs=runs, log=log)
    score_missing(folders, data_dir=data_dir, announce=_say)
    results = load_results(folders)
    if as_json:
        typer.echo(json.dumps(results))
        return
    for model, runs_of_model in results.items():
        for result in runs_of_model:
            typer.echo(f"{model} seed {result['seed']}: {describe(result['ds2']['headline'])}")
    typer.echo(INTER_PATIENT_NOTE)


@patients_app.command("stress")
def stress(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL...]", help="patient_mlp, patient_kan; else both.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="JSON file for the figures.")] = DEFAULT_STRESS,
    data_dir: DataDir = None,
) -> None:
    """Judge shipped models behind our own detector by EC57, on DS2 and in electrode motion noise; many minutes.

    Example: `ecgkan patients stress`
    """
    from ecgkan.studies.stress import stress as judge
    from ecgkan.training.fit import write_json

    earlier = json.loads(out.read_text()) if out.is_file() else {}
    judged = judge(models or ["patient_mlp", "patient_kan"], log=DEFAULT_LOG, data_dir=data_dir, announce=_say)
    write_json(out, earlier | judged)
    typer.echo(f"wrote {out}")


@patients_app.command("report")
def report(
    recipe: RecipeFile = DEFAULT_RECIPE,
    log: LogFile = DEFAULT_LOG,
    stress: Annotated[Path, typer.Option("--stress", help="What `ecgkan patients stress` wrote.")] = DEFAULT_STRESS,
    page: Annotated[Path, typer.Option("--page", help="The page.")] = Path("docs/new-patients.md"),
    cards: Annotated[Path, typer.Option("--cards", help="Folder of the model cards.")] = Path("checkpoints"),
) -> None:
    """Write the page of results and the model cards from what the other commands left.

    Example: `ecgkan patients report`
    """
    from ecgkan.studies.patients import PatientFolders
    from ecgkan.studies.patients_page import write_page_and_cards

    folders = PatientFolders(recipe=recipe, runs=DEFAULT_RUNS, log=log)
    for file in write_page_and_cards(folders, stress, page, cards):
        typer.echo(f"wrote {file}")


def _say(line: str) -> None:
    typer.echo(line, err=True)
