"""One record from its files to ours: read, classify, compare, write."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ecgkan.data.recording import open_recording, read_annotations
from ecgkan.data.rpeaks import reference_rpeaks
from ecgkan.errors import DataError
from ecgkan.evaluation.ec57 import flutter_episodes
from ecgkan.inference.agreement import Agreement, agreement_with, training_patient_note
from ecgkan.inference.annotation import ANNOTATOR, BeatAnnotations, check_annotator, mark_flutter, output_stem
from ecgkan.inference.backends import choose_backend
from ecgkan.inference.classifier import classify
from ecgkan.inference.writing import check_writable, refuse_existing, replacing_all

if TYPE_CHECKING:
    from ecgkan.data.recording import SignalSource
    from ecgkan.models.checkpoint import Checkpoint
    from ecgkan.models.onnx_model import OnnxModel

FORMATS: Final = ("wfdb", "csv", "parquet", "json", "html", "png")
"""What can be written of a classified recording."""


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """How recordings are classified, and what is written of them; plain values, so that it travels to workers.

    Attributes
    ----------
    model : str
        A shipped model, a checkpoint or an exported model.
    backend : str, optional
        What computes it, `torch` or `onnx`; see `ecgkan.inference.backends.choose_backend`.
    lead : str, optional
        Lead by name; else chosen, see `ecgkan.data.recording`.
    second_lead : str, optional
        Lead that models for new patients look at beside it; see `ecgkan.data.leads.choose_second_lead`.
    annotator : str, optional
        Take the R peaks from this annotation file beside the recording; else detect them.
    fs, units : float and str, optional
        For files that do not say their sampling rate (Hz) or unit.
    formats : tuple of str
        Some of `FORMATS`.
    output_annotator : str
        Annotator name, thus extension, of the WFDB annotation file.
    overwrite : bool
        Replace what is there.

    Raises
    ------
    DataError
        If a format, the annotator's name or the backend is unusable.
    """

    model: str = "patient_kan"
    backend: str | None = None
    lead: str | None = None
    second_lead: str | None = None
    annotator: str | None = None
    fs: float | None = None
    units: str | None = None
    formats: tuple[str, ...] = ("wfdb", "csv", "json", "html")
    output_annotator: str = ANNOTATOR
    overwrite: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise DataError(f"unknown formats {unknown}; expected one or more of {', '.join(FORMATS)}")
        check_annotator(self.output_annotator)
        choose_backend(self.model, self.backend)
        if self.output_annotator == self.annotator:
            raise DataError(
                f"the beats come from annotator {self.annotator} and would be written under the same name; "
                "choose another name for the result (--as-annotator)"
            )


@dataclass(frozen=True, slots=True, eq=False)
class ClassifiedRecord:
    """A classified record, and what was written.

    Attributes
    ----------
    annotations : BeatAnnotations
        The classified beats.
    agreement : Agreement or None
        With the annotator whose R peaks were used, if there was one.
    note : str or None
        What must be said with it where the models were trained on the record's patient.
    files : tuple of Path
        What was written, in the order of `expected_outputs`.
    origin : mapping
        Plain values about the recording's file: `source` (its name), `n_samples`, `leads`.
    """

    annotations: BeatAnnotations
    agreement: Agreement | None
    note: str | None
    files: tuple[Path, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON file holds, and `files`: plain values."""
        return self.annotations.to_dict() | self.facts() | {"files": [str(file) for file in self.files]}

    def facts(self) -> dict[str, Any]:
        """Return what the JSON file holds beside what the annotations know: plain values."""
        agreement = self.agreement and {
            "annotator": self.agreement.annotator,
            "beats": self.agreement.beats,
            "accuracy": self.agreement.accuracy if self.agreement.beats else None,
            "confusion": self.agreement.confusion.tolist(),
        }
        return dict(self.origin) | {"agreement": agreement, "note": self.note}


def expected_outputs(name: str, out: str | Path, options: ClassifyOptions) -> list[Path]:
    """Return what `classify_to_folder` writes of a recording of that name: files, and for `png` a folder of strips."""
    stem = output_stem(name)
    endings = {format_: f".{format_}" for format_ in FORMATS} | {
        "wfdb": f".{options.output_annotator}",
        "png": "_strips",
    }
    return [Path(out) / f"{stem}{endings[format_]}" for format_ in options.formats]


def classify_to_folder(
    path: str | Path,
    out: str | Path,
    options: ClassifyOptions = ClassifyOptions(),
    *,
    model: "Checkpoint | OnnxModel | None" = None,
    progress: Callable[[float], None] | None = None,
) -> ClassifiedRecord:
    """Classify a recording and write what came out into a folder: all of it, or nothing.

    Parameters
    ----------
    path : path
        The recording.
    out : path
        Folder to write to; made if need be.
    options : ClassifyOptions
        Model, lead, formats ...
    model : Checkpoint or OnnxModel, optional
        The model of `options`, if it is loaded already.
    progress : callable, optional
        Called with the share of the recording that is done, from 0 to 1.

    Raises
    ------
    EcgkanError
        One of its children: see `classify`, and `OutputExistsError` for files that exist. Nothing is written then.
    """
    with open_recording(path, fs=options.fs, units=options.units) as source:
        files = expected_outputs(source.name, out, options)
        refuse_existing(files, overwrite=options.overwrite)
        check_writable(Path(out))
        reference = None if options.annotator is None else read_annotations(path, options.annotator)
        annotations = classify(
            source,
            model or options.model,
            backend=None if model else options.backend,
            lead=options.lead,
            second_lead=options.second_lead,
            rpeaks=None if reference is None else reference_rpeaks(reference),
            progress=progress,
        )
        agreement = None
        if reference is not None and options.annotator is not None:
            annotations = replace(annotations, rpeaks=f"annotator {options.annotator}")
            annotations = mark_flutter(annotations, flutter_episodes(reference))
            agreement = agreement_with(annotations, reference, options.annotator)
        classified = ClassifiedRecord(
            annotations, agreement, training_patient_note(source.name, source.fs), tuple(files), _origin(source)
        )
        with replacing_all(files, overwrite=options.overwrite) as temporary:
            _write(classified, source, options, dict(zip(options.formats, temporary, strict=True)))
    return classified


def _write(
    classified: ClassifiedRecord, source: "SignalSource", options: ClassifyOptions, places: Mapping[str, Path]
) -> None:
    """Write each format asked for to its place; what is heavy to import is imported only for who asks for it."""
    annotations = classified.annotations
    lead_index = source.choose_lead(options.lead).index
    if "wfdb" in places:
        annotations.to_wfdb(places["wfdb"].parent, options.output_annotator)
    if "csv" in places:
        annotations.to_csv(places["csv"])
    if "parquet" in places:
        annotations.to_parquet(places["parquet"])
    if "json" in places:
        annotations.to_json(places["json"], facts=classified.facts())
    if "html" in places:
        from ecgkan.inference.report import write_report

        summary = annotations.summary()
        write_report(places["html"], annotations, source, summary=summary, lead_index=lead_index, note=classified.note)
    if "png" in places:
        from ecgkan.inference.strips import write_strips

        write_strips(places["png"], annotations, source, lead_index=lead_index)


def _origin(source: "SignalSource") -> dict[str, Any]:
    return {
        "source": None if source.source is None else source.source.name,
        "n_samples": source.n_samples,
        "leads": list(source.leads),
    }
