"""The two PhysioNet databases ecgkan works with: which files they are made of, and whether a folder holds them.

The files of each database are pinned by two tables shipped beside this module:
``checksums/NAME.sha256`` are the lines of PhysioNet's own ``SHA256SUMS.txt``
for the records, annotations and lists (usable with ``sha256sum -c``), and
``checksums/NAME.sizes`` their lengths in bytes, so that a truncated file can be
told from a corrupted one.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, Literal, NamedTuple

from ecgkan.errors import DataError

DATABASE_TITLES: Final = {
    "mitdb": "MIT-BIH Arrhythmia Database",
    "nstdb": "MIT-BIH Noise Stress Test Database",
}
"""PhysioNet's short name → title of the databases that can be fetched."""


class DatabaseFile(NamedTuple):
    """One file of a database, as it is published.

    Attributes
    ----------
    name : str
        File name, for example ``100.dat``.
    size_bytes : int
        Length in bytes.
    sha256 : str
        SHA-256 of the content, 64 hexadecimal digits.
    """

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Database:
    """A published database: its PhysioNet name and version, and every file it is made of."""

    name: str
    files: tuple[DatabaseFile, ...]
    version: str = "1.0.0"


class FileProblem(NamedTuple):
    """What is wrong with one file of a database.

    Attributes
    ----------
    file : str
        File name, for example ``100.dat``.
    kind : {"missing", "truncated", "corrupted", "unreadable"}
        Truncated files are shorter than published; corrupted ones have other bytes or are longer.
    found : str
        What is there, in words.
    expected : str
        What should be there, in words.
    """

    file: str
    kind: Literal["missing", "truncated", "corrupted", "unreadable"]
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: {self.kind} (found {self.found}, expected {self.expected})"


@cache
def load_database(name: str) -> Database:
    """Return the database that PhysioNet calls `name`, with its pinned files in name order.

    Raises
    ------
    DataError
        If `name` is not one of `DATABASE_TITLES`.

    Examples
    --------
    >>> load_database("mitdb").files[1]
    DatabaseFile(name='100.dat', size_bytes=1950000, sha256='b2ea3c250e56e48f4b7b90697832b8ecd1afa1e0bb31f2dcfea4ed6e1075a639')
    """  # noqa: E501
    if name not in DATABASE_TITLES:
        raise DataError(f"unknown database {name!r}; expected one of {', '.join(DATABASE_TITLES)}")
    sizes = {file: int(size) for size, file in _read_pairs(f"{name}.sizes")}
    files = (DatabaseFile(file, sizes[file], sha256) for sha256, file in _read_pairs(f"{name}.sha256"))
    return Database(name, tuple(files))


def as_database(database: str | Database) -> Database:
    """Return `database` itself, or the pinned database of that name."""
    return load_database(database) if isinstance(database, str) else database


def verify_database(database: str | Database, root: Path) -> list[FileProblem]:
    """Compare every file of a database under a data root with what was published.

    Parameters
    ----------
    database : str or Database
        PhysioNet's short name, ``mitdb`` or ``nstdb``, or a `Database`.
    root : Path
        The data root; the files are looked for in ``root/NAME``. Nothing is written.

    Returns
    -------
    list of FileProblem
        One for each file that is missing, truncated, corrupted or unreadable, in the
        order of the database; empty when every byte is as published.
    """
    database = as_database(database)
    found = (find_problem(root / database.name / file.name, file) for file in database.files)
    return [problem for problem in found if problem is not None]


def find_problem(path: Path, file: DatabaseFile) -> FileProblem | None:
    """Return what is wrong with `path` as a copy of `file`, or None if it is the same bytes."""
    size = f"{file.size_bytes:,} bytes"
    try:
        if path.is_dir():
            return FileProblem(file.name, "unreadable", "a folder", size)
        found_size = path.stat().st_size
        if found_size < file.size_bytes:
            return FileProblem(file.name, "truncated", f"{found_size:,} bytes", size)
        if found_size > file.size_bytes:
            return FileProblem(file.name, "corrupted", f"{found_size:,} bytes", size)
        found_sha256 = _sha256_of(path)
    except FileNotFoundError:
        return FileProblem(file.name, "missing", "no file", size)
    except OSError as error:
        return FileProblem(file.name, "unreadable", error.strerror or str(error), size)
    if found_sha256 != file.sha256:
        return FileProblem(file.name, "corrupted", f"SHA-256 {found_sha256}", file.sha256)
    return None


def _sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_pairs(table: str) -> list[tuple[str, str]]:
    text = resources.files("ecgkan.data").joinpath("checksums", table).read_text(encoding="ascii")
    return [(value, file) for value, file in (line.split() for line in text.splitlines())]
