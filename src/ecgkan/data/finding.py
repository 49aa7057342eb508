"""Recordings by file, folder and pattern: which files of an archive are recordings, each once."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ecgkan.data.formats.detection import FORMAT_OF_SUFFIX, READ_FORMATS, WFDB_PARTS, format_of, header_of
from ecgkan.data.formats.wfdb_records import segment_names
from ecgkan.errors import DataError, DataNotFoundError

_ABOUT_RECORDINGS: Final = re.compile(
    r"^(readme|license|licence|copying|changelog|changes|notes?|records|annotators|sha\d+sums?|md5sums?|checksums?|"
    r"failures|manifest|requirements|subject[-_]info|.*annotations?)\b",
    re.IGNORECASE,
)
"""Stems of files that stand beside recordings; our own `failures.csv` among them."""

_BEAT_COLUMNS: Final = ("sample", "time_s", "class")
"""How the tables of beats that we write begin."""

_LINE_OF_NUMBERS: Final = re.compile(r"^[\s\d.,;:+\-eE'\"]*\d[\s\d.,;:+\-eE'\"]*$", re.MULTILINE)

_SNIFFED_BYTES: Final = 1 << 14


class FoundRecording(NamedTuple):
    """A recording's file, for a WFDB record its header, and its folder under the argument it was found by.

    `relative` is that sub-folder (`.` where there is none): results mirror it.
    """

    path: Path
    relative: Path


def recording_name(path: Path) -> str:
    """Return a recording's name: its file's without the extension, if that is one of a format that is read.

    Examples
    --------
    >>> recording_name(Path("holter.csv")), recording_name(Path("1.2.840.7"))
    ('holter', '1.2.840.7')
    """
    return path.stem if path.suffix.lower() in FORMAT_OF_SUFFIX else path.name


def find_recordings(paths: Iterable[str | Path]) -> list[FoundRecording]:
    """Find the recordings that files, folders and patterns name.

    Parameters
    ----------
    paths : iterable of path
        Files (a WFDB record also without extension), folders, which are searched with their sub-folders, and patterns
        with `*`, `?`, `[...]` and `**`.

    Returns
    -------
    list of FoundRecording
        Each recording once, in the order of the arguments, inside a folder by name. Segments of multi-segment WFDB
        records, annotation files, hidden files, lists and texts beside recordings, and the tables of beats that
        ecgkan wrote are skipped in folders and patterns; a file named by itself is taken as it is.

    Raises
    ------
    DataNotFoundError
        If an argument names nothing that is there, or a folder or pattern has no recordings.
    """
    found: dict[Path, FoundRecording] = {}
    for path in paths:
        for recording in _found_by(str(path)):
            found.setdefault(recording.path.resolve(), recording)
    return list(found.values())


def _found_by(argument: str) -> list[FoundRecording]:
    path = Path(argument)
    if path.is_dir():
        found = list(_in_folder(path, path))
        if not found:
            raise DataNotFoundError(f"no recordings in {path} or its sub-folders; looked for {READ_FORMATS}")
        return found
    named = path if path.is_file() and path.suffix not in WFDB_PARTS else header_of(path)
    if named is not None or path.is_file():
        return [FoundRecording(named or path, Path())]
    if not glob.has_magic(argument):
        raise DataNotFoundError(f"no recording at {path}; {_hint(path)}")
    matched = sorted(_by_pattern(argument), key=lambda found: (found.path.parent, found.path.name))
    if not matched:
        raise DataNotFoundError(f"no recordings match {argument}; looked for {READ_FORMATS}")
    return matched


def _hint(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    try:
        near = [found.path.stem for found in _in_files(path.parent, path.parent, _names(path.parent))]
    except OSError:
        near = []
    return f"records there: {', '.join(near[:5])} ..." if near else f"no recordings in {path.parent}"


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.is_file()]


def _by_pattern(pattern: str) -> Iterator[FoundRecording]:
    root = Path(*_fixed_parts(Path(pattern)))
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 (patterns may be absolute)
    by_folder: dict[Path, list[str]] = {}
    for match in matches:
        if match.is_dir():
            yield from _in_folder(match, root)
            continue
        name = match.name
        if match.suffix.lower() not in FORMAT_OF_SUFFIX and (header := header_of(match)) is not None:
            name = header.name
        by_folder.setdefault(match.parent, []).append(name)
    for folder, names in by_folder.items():
        yield from _in_files(folder, root, list(dict.fromkeys(names)))


def _fixed_parts(pattern: Path) -> list[str]:
    parts = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


def _in_folder(folder: Path, root: Path) -> Iterator[FoundRecording]:
    for here, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from _in_files(Path(here), root, names)


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be searched: {error.strerror}; ask for the right to read it") from error


def _in_files(folder: Path, root: Path, names: Iterable[str]) -> Iterator[FoundRecording]:
    visible = sorted(name for name in names if not name.startswith("."))
    headers = [name for name in folder_headers(folder) if name in visible]
    segments = {f"{segment}.hea" for name in folder_headers(folder) for segment in segment_names(folder / name)}
    for name in visible:
        if name in headers:
            if name not in segments:
                yield FoundRecording(folder / name, folder.relative_to(root))
        elif _is_recording(folder / name):
            yield FoundRecording(folder / name, folder.relative_to(root))


def folder_headers(folder: Path) -> list[str]:
    """Return the names of the WFDB headers in a folder, sorted."""
    return sorted(path.name for path in folder.glob("*.hea"))


def _is_recording(path: Path) -> bool:
    """Whether a file that is no WFDB header looks like a recording; one that may not be read does if its name does."""
    if _ABOUT_RECORDINGS.match(path.stem):
        return False
    if path.suffix.lower() not in FORMAT_OF_SUFFIX and path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        found_format = format_of(path)
        if found_format == "text":
            return _holds_numbers(path)
        return found_format is not None and not (found_format == "Parquet" and _is_our_parquet(path))
    except OSError:
        return path.suffix.lower() in FORMAT_OF_SUFFIX


def _holds_numbers(path: Path) -> bool:
    with path.open("rb") as file:
        text = file.read(_SNIFFED_BYTES).decode("latin-1").replace("\x00", "")
    if text.startswith(",".join(_BEAT_COLUMNS)):
        return False
    # A damaged .csv is better reported than skipped; a .txt without a line of numbers is a text.
    return (
        path.suffix.lower() != ".txt"
        or re.search(r"^[\s\d.,;:+\-eE'\"]*\d[\s\d.,;:+\-eE'\"]*$", text, re.M) is not None
    )


def _is_our_parquet(path: Path) -> bool:
    import pyarrow.parquet as pq

    try:
        return tuple(pq.read_schema(path).names[: len(_BEAT_COLUMNS)]) == _BEAT_COLUMNS
    except Exception:  # damaged: reported when it is read
        return False
