"""Annotators in folders: which records two of them share, and the comparison of all of these."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np

from ecgkan.data.recording import ReferenceAnnotations, read_annotation_file
from ecgkan.errors import DataError, DataNotFoundError
from ecgkan.evaluation.ec57.beats import compare_beats, samples_of
from ecgkan.evaluation.ec57.labels import ClassTable
from ecgkan.evaluation.ec57.matching import END_OF_EITHER, END_OF_REFERENCE, LEARNING_S, MATCH_WINDOW_S
from ecgkan.evaluation.ec57.runs import compare_runs
from ecgkan.evaluation.ec57.summary import Comparison, RecordComparison

_DEFAULT_FS: Final = 250.0
"""What the WFDB library takes where a header names no sampling rate."""


class AnnotatorFiles(NamedTuple):
    """The annotation files `FOLDER/<record>.<annotator>`."""

    folder: Path
    annotator: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take `DIR:ANNOTATOR` apart.

        Raises
        ------
        DataError
            If there is no annotator, or no colon.
        """
        folder, colon, annotator = text.rpartition(":")
        if not colon or not folder or not re.fullmatch(r"[\w.-]+", annotator):
            raise DataError(f"{text!r}: expected DIR:ANNOTATOR, such as mitdb:atr for the files mitdb/*.atr")
        return cls(Path(folder), annotator)

    def __str__(self) -> str:
        return f"{self.folder}:{self.annotator}"

    def file(self, record: str) -> Path:
        """Return the annotation file of a record."""
        return self.folder / f"{record}.{self.annotator}"

    def records(self) -> list[str]:
        """Return the records that have a file, by name.

        Raises
        ------
        DataNotFoundError
            If there is no such folder, or no such file in it.
        """
        if not self.folder.is_dir():
            raise DataNotFoundError(f"no folder {self.folder}; expected one with annotation files *.{self.annotator}")
        suffix = f".{self.annotator}"
        names = sorted(file.name.removesuffix(suffix) for file in self.folder.glob(f"*{suffix}") if file.is_file())
        if not names:
            others = sorted({file.suffix[1:] for file in self.folder.iterdir() if file.is_file() and file.suffix})
            raise DataNotFoundError(
                f"no annotation files *{suffix} in {self.folder}; files there end in: {', '.join(others) or 'nothing'}"
            )
        return names


@dataclass(frozen=True, slots=True)
class Length:
    """What a header says of a record.

    Attributes
    ----------
    fs : float
        Sampling rate, Hz.
    n_samples : int
        Length; 0 where the header does not say it.
    """

    fs: float
    n_samples: int


def compare_folders(
    reference: AnnotatorFiles,
    test: AnnotatorFiles,
    records: Sequence[str] | None = None,
    *,
    classes: ClassTable = "literature",
    start_s: float = LEARNING_S,
    end_s: float | None = None,
    window_s: float = MATCH_WINDOW_S,
    fs: float | None = None,
) -> Comparison:
    """Compare two annotators on many records, beat by beat and run by run.

    Parameters
    ----------
    reference, test : AnnotatorFiles
        Where their files are. A header `<record>.hea` in either folder tells sampling rate and length.
    records : sequence of str, optional
        Record names; by default all that both annotators have.
    classes, start_s, window_s
        See `ecgkan.evaluation.ec57.compare_beats`.
    end_s : float, optional
        Where the comparison ends, s; 0 where either annotator does. By default at the record's end, or the reference's
        where no header tells the length.
    fs : float, optional
        Sampling rate of records without a header, Hz.

    Raises
    ------
    DataNotFoundError
        If a folder, a file of one of `records`, or a sampling rate is missing, or no record is left.
    DataError
        If a file is damaged, or a record is shorter than `start_s`.
    """
    chosen, left_out = _records(reference, test, records)
    comparisons = []
    for record in chosen:
        length = _length(record, (reference.folder, test.folder), fs)
        expected, found = (_read(files.file(record), length.fs) for files in (reference, test))
        stop = _stop(length, end_s)
        beats = compare_beats(
            expected,
            found,
            fs=length.fs,
            classes=classes,
            start_s=start_s,
            window_s=window_s,
            stop=stop,
            record=record,
        )
        runs = compare_runs(
            expected,
            found,
            fs=length.fs,
            classes=classes,
            start_s=start_s,
            window_s=window_s,
            stop=stop,
            record=record,
        )
        comparisons.append(RecordComparison(record, beats, *runs))
    return Comparison(
        records=tuple(comparisons),
        reference=str(reference),
        test=str(test),
        classes=classes,
        start_s=start_s,
        end_s=end_s,
        window_s=window_s,
        not_compared=left_out,
    )


def _records(
    reference: AnnotatorFiles, test: AnnotatorFiles, records: Sequence[str] | None
) -> tuple[list[str], Mapping[str, str]]:
    """Return the records to compare, and why others are not."""
    in_reference, in_test = reference.records(), test.records()
    if records is not None:
        for files, there in ((reference, in_reference), (test, in_test)):
            missing = [record for record in records if record not in there]
            if missing:
                raise DataNotFoundError(
                    f"no annotation file {files.file(missing[0])}; leave record {missing[0]} out or bring its file"
                    + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
                )
        return list(dict.fromkeys(records)), {}
    shared = set(in_reference) & set(in_test)
    if not shared:
        raise DataNotFoundError(
            f"{reference} and {test} have no record in common: {_some(in_reference)} there, {_some(in_test)} here"
        )
    left_out = {record: f"no file {test.file(record)}" for record in in_reference if record not in shared}
    left_out |= {record: f"no file {reference.file(record)}" for record in in_test if record not in shared}
    return [record for record in in_reference if record in shared], left_out


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _length(record: str, folders: Sequence[Path], fs: float | None) -> Length:
    for folder in folders:
        header = folder / f"{record}.hea"
        if header.is_file():
            return read_length(header)
    if fs is not None:
        return Length(fs, 0)
    raise DataNotFoundError(
        f"no header {record}.hea in {' or '.join(dict.fromkeys(map(str, folders)))}; expected one, for the sampling "
        "rate: bring it, or give the rate (--fs)"
    )


def read_length(header: Path) -> Length:
    """Read sampling rate and length from a WFDB header's first line.

    Raises
    ------
    DataError
        If that is no such line.
    """
    lines = header.read_text(encoding="utf-8", errors="replace").splitlines()
    fields = next((line.split() for line in lines if line.strip() and not line.startswith("#")), [])
    rate = re.match(r"[\d.]+(e[+-]?\d+)?", fields[2]) if len(fields) > 2 else None
    try:
        found = Length(float(rate[0]) if rate else _DEFAULT_FS, int(fields[3]) if len(fields) > 3 else 0)
        usable = len(fields) > 1 and found.fs >= 1 and found.n_samples >= 0
    except ValueError:
        usable = False
    if not usable:
        raise DataError(
            f"{header} begins with {' '.join(fields)!r}; expected record name, number of signals, sampling rate and "
            "number of samples: correct it or fetch it again"
        )
    return found


def _read(file: Path, fs: float) -> ReferenceAnnotations:
    """Read annotations, in samples of the record where the file counts in another unit of time."""
    annotations = read_annotation_file(file)
    if annotations.fs is None or annotations.fs == fs:
        return annotations
    samples = np.floor(annotations.samples * (fs / annotations.fs) + 0.5).astype(np.int64)
    return replace(annotations, samples=samples, fs=fs)


def _stop(length: Length, end_s: float | None) -> int:
    if end_s is not None:
        return samples_of(end_s, length.fs) if end_s > 0 else END_OF_EITHER
    return length.n_samples if length.n_samples > 0 else END_OF_REFERENCE
