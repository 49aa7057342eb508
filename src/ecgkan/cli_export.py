"""The command `ecgkan export`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A file (.pth), or the name of a shipped model: cnn_mlp, cnn_kan, patient_mlp, patient_kan.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.onnx", help="The file to write.")] = None,
    format_: Annotated[  # noqa: ARG001 - there is one so far
        Literal["onnx"], typer.Option("--format", help="Of the file: onnx.")
    ] = "onnx",
    precision: Annotated[
        Literal["float32", "int8"],
        typer.Option("--precision", help="int8: convolutions in 8 bits, calibrated on training beats."),
    ] = "float32",
    raw: Annotated[
        bool, typer.Option("--raw", help="Take windows in mV [batch, 256] and normalize them in the graph.")
    ] = False,
    shipped: Annotated[
        Path | None,
        typer.Option("--shipped", metavar="DIR", help="Instead: each shipped model beside its checkpoint in DIR."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Folder that holds mitdb/, for int8; else ECGKAN_DATA, else the cache."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON and nothing else.")] = False,
) -> None:
    """Export a model for ONNX Runtime: beats in, calibrated probabilities out, no PyTorch needed (docs/export.md).

    Examples: `ecgkan export cnn_kan --format onnx --raw --out cnn_kan_raw.onnx`,
    `ecgkan export runs/kan-1/cnn_kan.pth --precision int8 --out cnn_kan_int8.onnx`,
    `ecgkan export --shipped checkpoints --overwrite`
    """
    if (shipped is None) == (checkpoint is None) or (shipped is None) != (out is not None):
        raise typer.BadParameter(
            "give a CHECKPOINT and --out FILE.onnx, or --shipped DIR alone", param_hint="CHECKPOINT, --out, --shipped"
        )
    if shipped is not None and (raw or precision != "float32"):
        raise typer.BadParameter(
            "goes with float32 of normalized beats, as `ecgkan classify` takes them", param_hint="--shipped"
        )
    from ecgkan.studies.export import export_shipped, export_to_file

    if shipped is not None:
        exported = export_shipped(shipped, overwrite=overwrite)
    else:
        assert checkpoint is not None and out is not None  # noqa: S101 - for the type checker
        exported = [
            export_to_file(checkpoint, out, precision=precision, raw=raw, data_dir=data_dir, overwrite=overwrite)
        ]
    if as_json:
        typer.echo(json.dumps([one.to_dict() for one in exported]))
        return
    for one in exported:
        typer.echo(
            f"{one.path}: {one.model}, {one.precision}, {one.size / 1000:.0f} kB, weights {one.weights_sha256[:12]}"
        )
