"""Writing results: whole or not at all, and over nothing that exists unless asked to."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ecgkan.errors import DataError, EcgkanError, OutputExistsError


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Raise before anything is written if one of the files to write is already there.

    Raises
    ------
    OutputExistsError
        If a path exists and `overwrite` is False.
    DataError
        If a path to write is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise DataError(f"cannot write {path}: a folder has that name; choose another output folder")
        if path.exists() and not overwrite:
            raise OutputExistsError(
                f"{path} exists and was left as it is; ask to overwrite it (--overwrite, overwrite=True) or choose "
                "another output folder"
            )


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path to write to; what lies there at the end is renamed to `path`, or removed after an error.

    The path given has the same file name, because WFDB derives record names from it, in a temporary
    folder beside `path`.

    Raises
    ------
    OutputExistsError, DataError
        See `refuse_existing`.
    EcgkanError
        If the folder cannot be made or written to.
    """
    refuse_existing([path], overwrite=overwrite)
    temporary = _temporary_folder(path.parent)
    try:
        yield temporary / path.name
        (temporary / path.name).replace(path)
    except OSError as error:
        raise EcgkanError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=folder, prefix=".ecgkan-", suffix=".part"))
    except OSError as error:
        raise EcgkanError(
            f"cannot write into {folder}: {error.strerror or error}; choose a folder that can be written to"
        ) from error
