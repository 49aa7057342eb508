"""The demonstration: the embedded recording classified by several models, with tables and figures in a folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ecgkan.data.beats import cut_beats
from ecgkan.data.embedded import EMBEDDED_NAME, EMBEDDED_SOURCE, embedded_recording
from ecgkan.data.recording import Recording
from ecgkan.errors import DataError
from ecgkan.inference.annotation import ANNOTATOR, BeatAnnotations
from ecgkan.inference.backends import load_for
from ecgkan.inference.classifier import classify
from ecgkan.inference.disagreement import Disagreement, find_disagreements, write_disagreements
from ecgkan.inference.figures import (
    class_gallery_figure,
    disagreement_figure,
    most_varied_strip,
    strip_figure,
    write_figure,
)
from ecgkan.inference.writing import refuse_existing, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgkan.models.checkpoint import Checkpoint
    from ecgkan.models.onnx_model import OnnxModel

DEMO_MODELS: Final = ("cnn_mlp", "cnn_kan")

FIGURES: Final = ("strip.png", "classes.png", "disagreements.png")


@dataclass(frozen=True, slots=True, eq=False)
class DemoResult:
    """What the demonstration found and wrote.

    Attributes
    ----------
    recording : Recording
        The embedded recording.
    annotations : tuple of BeatAnnotations
        One per model, of the same beats.
    disagreements : tuple of Disagreement
        Beats on which the models do not agree.
    files : tuple of Path
        What was written.
    """

    recording: Recording
    annotations: tuple[BeatAnnotations, ...]
    disagreements: tuple[Disagreement, ...]
    files: tuple[Path, ...]


def run_demo(
    out: str | Path = "demo",
    *,
    models: Sequence["str | Path | Checkpoint | OnnxModel"] = DEMO_MODELS,
    overwrite: bool = False,
) -> DemoResult:
    """Classify the embedded recording and write what came out into a folder.

    Parameters
    ----------
    out : path
        Folder; it is made if need be, and other files in it are left alone.
    models : sequence of str, path, Checkpoint or OnnxModel
        Two or more models with different names; the two shipped ones by default.
    overwrite : bool
        Write over the files of an earlier demonstration.

    Raises
    ------
    OutputExistsError
        If one of the files exists and `overwrite` is False; nothing is written then.
    DataNotFoundError, CheckpointError
        If a model cannot be loaded.
    """
    out = Path(out)
    loaded = [load_for(model) if isinstance(model, str | Path) else model for model in models]
    names = [model.name for model in loaded]
    if len(set(names)) != len(names) or len(names) < 2:
        raise DataError(f"the demonstration compares two or more different models, got {', '.join(names) or 'none'}")
    tables, differences, figures, record, annotation_files = _places(out, names)
    files = (*tables, differences, *figures, *record, *annotation_files)
    refuse_existing(files, overwrite=overwrite)
    recording = embedded_recording()
    annotations = tuple(classify(recording, model) for model in loaded)
    disagreements = find_disagreements(annotations)
    for annotated, table, file in zip(annotations, tables, annotation_files, strict=True):
        annotated.to_csv(table, overwrite=overwrite)
        annotated.to_wfdb(file.parent, overwrite=overwrite)
    write_disagreements(disagreements, differences, overwrite=overwrite)
    for figure, file in zip(_draw(recording, annotations, disagreements), figures, strict=True):
        write_figure(figure, file, overwrite=overwrite)
    _write_record(recording, record, overwrite=overwrite)
    return DemoResult(recording, annotations, disagreements, files)


def _places(out: Path, names: Sequence[str]) -> tuple[list[Path], Path, list[Path], list[Path], list[Path]]:
    """Return where the files go; annotation files of one record and annotator need a folder each."""
    tables = [out / f"beats_{name}.csv" for name in names]
    figures = [out / file for file in FIGURES]
    record = [out / "recording" / f"{EMBEDDED_NAME}.{extension}" for extension in ("dat", "hea")]
    annotation_files = [out / "annotations" / name / f"{EMBEDDED_NAME}.{ANNOTATOR}" for name in names]
    return tables, out / "disagreements.csv", figures, record, annotation_files


def _draw(
    recording: Recording, annotations: Sequence[BeatAnnotations], disagreements: Sequence[Disagreement]
) -> Iterator["Figure"]:
    """Yield the figures in the order of FIGURES."""
    signal, beats = recording.signals[:, 0], annotations[0]
    source = f"MIT-BIH record {EMBEDDED_SOURCE[0]}, lead {beats.lead}"
    strip = most_varied_strip(signal, annotations)
    yield strip_figure(
        signal, annotations, strip, title=f"{source}: beats found by a detector, classified by two models"
    )
    windows = cut_beats(signal, beats.samples, edges="pad").windows
    yield class_gallery_figure(windows, annotations, title=f"{source}: {len(beats)} beats in 5 minutes by class")
    yield disagreement_figure(signal, recording.fs, disagreements, beats=len(beats))


def _write_record(recording: Recording, files: Sequence[Path], *, overwrite: bool) -> None:
    """Write the recording as WFDB record, exactly: its values are whole steps of 1/200 mV."""
    import wfdb

    data, header = files
    digital = np.round(recording.signals * 200 + 1024).astype(np.int64)
    record, first, stop = EMBEDDED_SOURCE
    comments = [
        f"Samples {first} to {stop - 1} of signal 0 of record {record}, MIT-BIH Arrhythmia Database 1.0.0 (ODC-By 1.0)"
    ]
    with replacing(data, overwrite=overwrite) as new_data, replacing(header, overwrite=overwrite) as new_header:
        wfdb.wrsamp(
            recording.name,
            fs=recording.fs,
            units=["mV"],
            sig_name=list(recording.leads),
            d_signal=digital,
            fmt=["212"],
            adc_gain=[200.0],
            baseline=[1024],
            comments=comments,
            write_dir=str(new_data.parent),
        )
        (new_data.parent / header.name).replace(new_header)
