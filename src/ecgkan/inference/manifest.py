"""What has been done in an archive: one line of JSON per recording, appended as recordings finish."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ecgkan.errors import DataError

if TYPE_CHECKING:
    from ecgkan.inference.record import ClassifyOptions

MANIFEST: Final = "manifest.jsonl"
"""In the output folder: a line per recording that is done, with what was written and what made it."""

FAILURES: Final = "failures.csv"
"""In the output folder: path, error type and message of each recording that failed last; absent where none did."""

PLAN: Final = ".ecgkan-plan"
"""In the output folder while something is left to do: the recordings whose outputs are a run's to write and replace."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One recording that is done.

    Attributes
    ----------
    path : str
        The recording, as an absolute path or a URL.
    relative : str
        Folder and name of the recording below the folder it was found in, such as `ward-3/100`.
    outputs : mapping
        File below the output folder → its size in bytes.
    beats : int
        Classified beats.
    counts : mapping
        Class letter → beats, in the order N S V F Q.
    duration_s : float
        Length of the recording.
    seconds : float
        What it took.
    model, weights_sha256 : str
        Name of the model, and SHA-256 of its checkpoint file.
    options : mapping
        The options that outputs depend on; see `output_options`.
    version : str
        Version of ecgkan.
    started, finished : str
        UTC, ISO 8601.
    """

    path: str
    relative: str
    outputs: Mapping[str, int]
    beats: int
    counts: Mapping[str, int]
    duration_s: float
    seconds: float
    model: str
    weights_sha256: str
    options: Mapping[str, Any]
    version: str
    started: str
    finished: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)

    def to_line(self) -> str:
        """Return the entry as a line of the manifest."""
        return json.dumps(self.to_dict(), allow_nan=False) + "\n"


class Failure(NamedTuple):
    """A recording that could not be classified: its path, the type of the error, and what it says."""

    path: str
    error: str
    message: str


def output_options(options: "ClassifyOptions") -> dict[str, Any]:
    """Return the options that decide what is in the outputs; the model is told by the hash of its weights instead."""
    chosen = asdict(options) | {"formats": sorted(options.formats)}
    return {name: value for name, value in chosen.items() if name not in ("model", "overwrite")}


def read_manifest(text: str, place: str) -> dict[str, ManifestEntry]:
    """Return the entries of a manifest by `relative`; of several of one recording the last.

    A last line without its end, as a killed run or a full disk leaves it, is passed over: its recording is not done.

    Parameters
    ----------
    text : str
        The file's contents.
    place : str
        Where it was read from, for messages.

    Raises
    ------
    DataError
        If another line is not an entry.
    """
    entries = {}
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        entry = _parse_entry(line, f"{place}, line {number}")
        entries[entry.relative] = entry
    return entries


def _parse_entry(line: str, place: str) -> ManifestEntry:
    names = [field.name for field in fields(ManifestEntry)]
    try:
        values = json.loads(line)
        return ManifestEntry(**{name: values[name] for name in names})
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{place} is no line of a manifest ({type(error).__name__}: {error}); expected a JSON object with "
            f"{', '.join(names)}; move the file away, or choose another output folder"
        ) from error


def format_failures(failures: Iterable[Failure], *, header: bool = True) -> str:
    """Return failures as lines of CSV, with the names of the columns before them unless told not to."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([Failure._fields, *failures] if header else failures)
    return text.getvalue()


def read_failures(text: str) -> list[Failure]:
    """Return the failures of a file; what is no row of it, such as a last line cut short, is passed over."""
    rows = csv.reader(io.StringIO(text, newline=""))
    return [Failure(*row) for row in rows if len(row) == len(Failure._fields) and tuple(row) != Failure._fields]


def format_plan(relatives: Iterable[str]) -> str:
    """Return the contents of the plan: a JSON string per line, since names may hold anything."""
    return "".join(json.dumps(relative) + "\n" for relative in relatives)


def read_plan(text: str) -> set[str]:
    """Return the recordings of a plan; a line cut short is passed over."""
    return {json.loads(line) for line in text.splitlines(keepends=True) if line.endswith('"\n')}
