"""Writing results: whole or not at all, and over nothing that exists unless asked to."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
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
        If a path to write, with an extension and so meant to be a file, is a folder.
    """
    for path in paths:
        if path.is_dir() and path.suffix:
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


@contextmanager
def replacing_all(paths: Sequence[Path], *, overwrite: bool) -> Iterator[list[Path]]:
    """Give a place for each of several files or folders of one folder; at the end all are renamed, or none.

    Each place has its path's name, in a temporary folder beside them. After an error nothing of
    them is left, and what was there before is still there.

    Raises
    ------
    OutputExistsError, DataError
        See `refuse_existing`.
    EcgkanError
        If the folder cannot be made or written to, or the disk is full.
    """
    refuse_existing(paths, overwrite=overwrite)
    temporary = _temporary_folder(paths[0].parent)
    try:
        yield [temporary / path.name for path in paths]
        _rename_all([(temporary / path.name, path) for path in paths], temporary)
    except EcgkanError as error:  # says which file could not be written: by its final name, please
        raise type(error)(str(error).replace(str(temporary), str(paths[0].parent))) from error
    except OSError as error:
        raise EcgkanError(
            f"cannot write {paths[0].stem} into {paths[0].parent}: {error.strerror or error}; nothing was changed"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, or made, before hours are spent on what belongs there.

    Raises
    ------
    EcgkanError
        If it is a file, or the nearest folder that exists denies writing.
    """
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        reason = "no permission" if nearest.is_dir() else f"{nearest} is a file"
        raise EcgkanError(f"cannot write into {folder}: {reason}; choose a folder that can be written to")


def _rename_all(pairs: Iterable[tuple[Path, Path]], temporary: Path) -> None:
    """Rename each (new, path), and back if one of them fails; what was there is kept aside until then."""
    aside = Path(tempfile.mkdtemp(dir=temporary))
    done: list[tuple[Path, Path]] = []  # (from, to), to be undone in reverse
    try:
        for new, path in pairs:
            for source, target in ((path, aside / path.name), (new, path)):
                if source is new or source.exists():
                    source.rename(target)
                    done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        raise


def _temporary_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=folder, prefix=".ecgkan-", suffix=".part"))
    except OSError as error:
        raise EcgkanError(
            f"cannot write into {folder}: {error.strerror or error}; choose a folder that can be written to"
        ) from error
