"""The command `ecgkan ec57`: two annotators compared beat by beat and run by run."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ecgkan.evaluation.ec57 import Comparison

_STANDARD_OUTPUT = "-"


def _seconds(text: str) -> float:
    """Read seconds, M:SS or H:MM:SS."""
    if not re.fullmatch(r"(\d+:){0,2}\d*\.?\d+|\d+\.", text):
        raise typer.BadParameter(f"{text!r} is no time; expected seconds, M:SS or H:MM:SS")
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def ec57(
    reference: Annotated[
        str, typer.Option("--reference", metavar="DIR:ANNOTATOR", help="The truth, such as mitdb:atr for mitdb/*.atr.")
    ],
    test: Annotated[str, typer.Option("--test", metavar="DIR:ANNOTATOR", help="The annotator to be judged by it.")],
    records: Annotated[
        list[str] | None,
        typer.Option("--records", metavar="LIST", help="Such as 100,101,103; else all that both have."),
    ] = None,
    classes: Annotated[
        Literal["literature", "bxb"] | None,
        typer.Option(
            "--classes",
            help="Where escape beats j and e belong: literature, to N (the default); bxb, to S (with --format).",
            show_default=False,
        ),
    ] = None,
    line_format: Annotated[
        Literal["bxb-l", "bxb-L", "bxb-l-shutdown", "bxb-L-shutdown", "rxr-L", "rxr-L-sve"] | None,
        typer.Option("--format", help="Print the very rows of WFDB's programs instead of tables.", show_default=False),
    ] = None,
    sumstats: Annotated[
        bool, typer.Option("--sumstats", help="With --format: sum, gross and average as sumstats prints them.")
    ] = False,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="Start: seconds, M:SS or H:MM:SS.")] = "5:00",
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="End, else the record's; 0: where either annotator ends.")
    ] = None,
    window: Annotated[float, typer.Option("--window", metavar="SECONDS", min=0, help="Match window.")] = 0.15,
    fs: Annotated[
        float | None, typer.Option("--fs", metavar="HZ", help="Sampling rate, where a header is missing.")
    ] = None,
    csv: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Every count by record; - prints it.")
    ] = None,
    as_json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Every count, with definitions; - prints it.")
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", metavar="FILE.png", help="The matrix of labels.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier comparison.")] = False,
) -> None:
    """Compare two annotators beat by beat and run by run, as ANSI/AAMI EC57 and WFDB's bxb, rxr and sumstats do.

    Examples: `ecgkan ec57 --reference mitdb:atr --test results:ecgkan`,
    `ecgkan ec57 --reference mitdb:atr --test results:ecgkan --format bxb-L --sumstats`
    """
    from ecgkan.errors import DataError
    from ecgkan.evaluation.ec57 import AnnotatorFiles, compare_folders, tool_lines
    from ecgkan.evaluation.ec57.export import check_outputs, comparison_csv, comparison_json, write_whole
    from ecgkan.evaluation.ec57.tables import comparison_text

    if sumstats and line_format is None:
        raise typer.BadParameter(
            "goes with --format; the tables have gross and average anyway", param_hint="--sumstats"
        )
    if (csv is not None and csv == as_json) or (line_format is not None and _STANDARD_OUTPUT in (csv, as_json)):
        raise typer.BadParameter(
            "each needs a file of its own, and only one thing can be printed", param_hint="--csv, --json"
        )
    try:
        annotators = AnnotatorFiles.parse(reference), AnnotatorFiles.parse(test)
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="--reference, --test") from error
    names = None if not records else [name for name in re.split(r"[,\s]+", ",".join(records)) if name]
    if names == []:
        raise typer.BadParameter("names no record", param_hint="--records")
    texts = {csv: comparison_csv, as_json: comparison_json}
    files = [Path(name) for name in texts if name not in (None, _STANDARD_OUTPUT)]
    check_outputs([*files, *([figure] if figure else [])], overwrite=overwrite)
    comparison = compare_folders(
        *annotators,
        names,
        classes=classes or ("literature" if line_format is None else "bxb"),
        start_s=_seconds(start),
        end_s=None if end is None else _seconds(end),
        window_s=window,
        fs=fs,
    )
    for name, make in texts.items():
        if name not in (None, _STANDARD_OUTPUT):
            write_whole(Path(name), make(comparison).encode())
    if figure is not None:
        _write_figure(comparison, figure)
    _tell_what_is_missing(comparison, line_format)
    if _STANDARD_OUTPUT in texts:
        typer.echo(texts[_STANDARD_OUTPUT](comparison), nl=False)
    elif line_format is not None:
        typer.echo(tool_lines(comparison, line_format, sumstats=sumstats), nl=False)
    else:
        typer.echo(comparison_text(comparison), nl=False)


def _write_figure(comparison: "Comparison", file: Path) -> None:
    import io

    from ecgkan.evaluation.ec57.export import write_whole
    from ecgkan.evaluation.ec57.figure import matrix_figure

    stream = io.BytesIO()
    matrix_figure(comparison).savefig(stream, format=file.suffix[1:] or "png", dpi=200)
    write_whole(file, stream.getvalue())


def _tell_what_is_missing(comparison: "Comparison", line_format: str | None) -> None:
    """Say on standard error which records have no row, and why."""
    for record, reason in comparison.not_compared.items():
        typer.echo(f"ecgkan: record {record} is not compared: {reason}", err=True)
    if line_format not in ("rxr-L", "rxr-L-sve"):
        return
    for compared in comparison.records:
        runs = compared.ventricular if line_format == "rxr-L" else compared.supraventricular
        if not runs.complete:
            reason = "an annotator has nothing after the start, and rxr prints no row then"
            typer.echo(f"ecgkan: record {compared.record} has no row: {reason}", err=True)
