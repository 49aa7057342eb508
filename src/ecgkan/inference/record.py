"""One record from its files to ours: read, classify, compare, write."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecgkan.data.recording import read_annotations, read_recording
from ecgkan.data.rpeaks import reference_rpeaks
from ecgkan.inference.agreement import Agreement, agreement_with, training_patient_note
from ecgkan.inference.annotation import BeatAnnotations, output_paths
from ecgkan.inference.classifier import classify
from ecgkan.inference.writing import refuse_existing


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
        The table and the WFDB annotation file.
    """

    annotations: BeatAnnotations
    agreement: Agreement | None
    note: str | None
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        agreement = self.agreement and {
            "annotator": self.agreement.annotator,
            "beats": self.agreement.beats,
            "accuracy": self.agreement.accuracy if self.agreement.beats else None,
            "confusion": self.agreement.confusion.tolist(),
        }
        files = [str(file) for file in self.files]
        return self.annotations.summary().to_dict() | {"agreement": agreement, "note": self.note, "files": files}


def classify_to_folder(
    record: str | Path,
    out: str | Path,
    *,
    model: str | Path = "cnn_kan",
    lead: str | None = None,
    annotator: str | None = None,
    overwrite: bool = False,
) -> ClassifiedRecord:
    """Classify a WFDB record and write `<record>.csv` and `<record>.ecgkan` into a folder.

    Parameters
    ----------
    record : path
        The WFDB record.
    out : path
        Folder to write to; made if need be.
    model, lead, annotator
        See `ecgkan.inference.classifier.classify`.
    overwrite : bool
        Write over what is there.

    Raises
    ------
    EcgkanError
        One of its children: see `classify` and `BeatAnnotations.save`. What exists is left as it is.
    """
    recording = read_recording(record)
    refuse_existing(output_paths(out, recording.name), overwrite=overwrite)
    if annotator is None:
        annotations, agreement = classify(recording, model, lead=lead), None
    else:
        reference = read_annotations(record, annotator)
        at_peaks = classify(recording, model, lead=lead, rpeaks=reference_rpeaks(reference))
        annotations = replace(at_peaks, rpeaks=f"annotator {annotator}")
        agreement = agreement_with(annotations, reference, annotator)
    note = training_patient_note(recording.name, recording.fs)
    return ClassifiedRecord(annotations, agreement, note, annotations.save(out, overwrite=overwrite))
