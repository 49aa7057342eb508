"""Where recordings come from and results go to: folders, and object storage by way of fsspec.

Recordings in object storage are copied to a temporary folder of the worker, and results made in one, so that
reading and writing are the same everywhere.
"""

import errno
import os
import posixpath
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ecgkan.errors import DataError, DataNotFoundError, EcgkanError, MissingExtraError
from ecgkan.inference.writing import replacing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

FLUSH_EVERY_S: Final = 10.0
"""Lines appended to a file in object storage, where nothing can be appended, are sent at least this often."""

WHOLE_UPLOADS: Final = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory")
"""Stores in which an uploaded object appears when it is complete, and not before; elsewhere it is renamed."""

_UNFINISHED: Final = ".part"
"""How a file's name ends until it is complete, where that can be seen."""


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL of anything but a local file."""
    text = os.fspath(path)
    return "://" in text and not text.startswith(("file://", "local://"))


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return a local path or `file://` URL as a path."""
    text = os.fspath(path)
    for scheme in ("file://", "local://"):
        if text.startswith(scheme):
            return Path(text.removeprefix(scheme))
    return Path(text)


def open_store(url: str) -> tuple["AbstractFileSystem", str]:
    """Return the file system of a URL, and the path in it.

    Raises
    ------
    MissingExtraError
        If the package that speaks the protocol is not installed.
    DataError
        If there is no such protocol.
    """
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(f"{url}: {error}; install that package beside ecgkan, on every machine") from error
    except ValueError as error:
        raise DataError(
            f"{url}: {error}; expected a path, or a URL of a store that fsspec knows, such as s3://"
        ) from error
    return store, path.rstrip("/")


@contextmanager
def told_of_store(url: str) -> Iterator[None]:
    """Turn what the client of a store raises, which may be anything, into an error that names the URL.

    Raises
    ------
    EcgkanError
        Instead.
    """
    try:
        yield
    except EcgkanError:
        raise
    except Exception as error:
        raise EcgkanError(
            f"{url} cannot be used ({type(error).__name__}: {error}); check the address, the credentials, and that the "
            "store can be reached"
        ) from error


class OutputFolder(Protocol):
    """A folder of results, addressed by names relative to it with `/` between folders."""

    def place(self, name: str) -> str:
        """Return the absolute path or URL of a name."""

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return name → size in bytes of those that exist; of a folder the sum over its files."""

    def read_text(self, name: str) -> str | None:
        """Return a file's contents, None where there is none."""

    def write_text(self, name: str, text: str) -> None:
        """Write a file, whole or not at all, over what is there."""

    def append(self, name: str, line: str) -> None:
        """Append a line to a file, whole or not at all."""

    def flush(self) -> None:
        """Send what has been appended, and leave each file in one piece."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def claim(self) -> None:
        """Take the folder for this run.

        Raises
        ------
        EcgkanError
            If another run writes to it, or it cannot be made.
        """

    def release(self, folders: Iterable[str]) -> None:
        """Let go of the folder, and clear away what killed workers left unfinished in these folders below it."""


class LocalFolder:
    """Results in a folder of this machine or of a file system that every worker sees."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock: int | None = None

    def __str__(self) -> str:
        return str(self._root)

    def place(self, name: str) -> str:
        """Return the absolute path of a name."""
        return str(self._root / name)

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return name → size in bytes of those that exist; of a folder the sum over its files."""
        return {name: size for name in names if (size := size_on_disk(self._root / name)) is not None}

    def read_text(self, name: str) -> str | None:
        """Return a file's contents, None where there is none."""
        path = self._root / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    def write_text(self, name: str, text: str) -> None:
        """Write a file, whole or not at all, over what is there."""
        with replacing(self._root / name, overwrite=True) as temporary, temporary.open("wb") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())  # else a power cut may leave the new name with nothing in it

    def append(self, name: str, line: str) -> None:
        """Append a line to a file with one system call; what a full disk took of it is cut off again."""
        path = self._root / name
        try:
            with path.open("ab", buffering=0) as stream:
                size = stream.seek(0, os.SEEK_END)
                data = line.encode()
                if (written := stream.write(data)) != len(data):
                    stream.truncate(size)
                    raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} after {written} of {len(data)} bytes")
        except OSError as error:
            raise EcgkanError(
                f"cannot write {path}: {error.strerror or error}; mend that and run the same command with --resume"
            ) from error

    def flush(self) -> None:
        """Do nothing: each line is in its file already."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self._root / name).unlink(missing_ok=True)

    def claim(self) -> None:
        """Make the folder and lock it; the lock is gone when the process is, however that ends."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EcgkanError(
                f"cannot write into {self._root}: {error.strerror or error}; choose a folder that can be written to"
            ) from error
        self._lock = _lock_folder(self._root)

    def release(self, folders: Iterable[str]) -> None:
        """Unlock the folder, after clearing away what killed workers left unfinished in these folders below it."""
        for folder in folders:
            for leftover in (self._root / folder).glob(".ecgkan-*.part"):
                shutil.rmtree(leftover, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def size_on_disk(path: Path) -> int | None:
    """Return the size of a file, or of the files in a folder; None where there is nothing."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else None


def _lock_folder(folder: Path) -> int | None:
    """Lock a folder; None where the system or the file system has no such locks."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise EcgkanError(
            f"another run of ecgkan is writing to {folder}; wait for it, or choose another output folder"
        ) from error
    except OSError:  # some network file systems have no locks
        os.close(descriptor)
        return None
    return descriptor


class RemoteFolder:
    """Results in object storage, where a file cannot be appended to: appended lines travel in parts.

    Part k of `manifest.jsonl` is `manifest.jsonl.part-k`; reading puts them together, writing removes them.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._store, self._root = open_store(url)
        self._pending: dict[str, list[str]] = {}
        self._parts = 0
        self._parted: set[str] = set()
        self._sent = time.monotonic()

    def __str__(self) -> str:
        return self._url

    def place(self, name: str) -> str:
        """Return the URL of a name."""
        return str(self._store.unstrip_protocol(self._path(name)))

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return name → size in bytes of those that exist, from one listing."""
        with told_of_store(self._url):
            self._store.invalidate_cache()
            listing = self._store.find(self._root, detail=True) if self._store.exists(self._root) else {}
        listed: dict[str, int] = {}
        for path, info in listing.items():
            name = posixpath.relpath(path, self._root)
            folders = name.split("/")
            for depth in range(1, len(folders) + 1):
                listed["/".join(folders[:depth])] = listed.get("/".join(folders[:depth]), 0) + int(info["size"])
        return {name: listed[name] for name in names if name in listed}

    def read_text(self, name: str) -> str | None:
        """Return a file's contents and those of its parts, None where there are none."""
        path = self._path(name)
        with told_of_store(self._url):
            pieces = [path] if self._store.exists(path) else []
            pieces += self._list_parts(name)
            return b"".join(self._store.cat_file(piece) for piece in pieces).decode() if pieces else None

    def write_text(self, name: str, text: str) -> None:
        """Write a file over what is there, and remove its parts."""
        self._pending.pop(name, None)
        with told_of_store(self._url):
            parts = self._list_parts(name)
            self._put(self._path(name), text)
            for part in parts:
                self._store.rm_file(part)

    def append(self, name: str, line: str) -> None:
        """Keep a line to be sent with the next part."""
        self._pending.setdefault(name, []).append(line)
        self._parted.add(name)
        if time.monotonic() - self._sent >= FLUSH_EVERY_S:
            self.send()

    def send(self) -> None:
        """Send what has been appended, one part per file."""
        for name in list(self._pending):
            self._parts += 1
            part = f"{self._path(name)}.part-{time.time_ns():020d}-{self._parts:06d}"
            with told_of_store(self._url):
                self._put(part, "".join(self._pending[name]))
            del self._pending[name]
        self._sent = time.monotonic()

    def flush(self) -> None:
        """Send what has been appended, and put the parts of each file together."""
        self.send()
        for name in sorted(self._parted):
            self.write_text(name, self.read_text(name) or "")
        self._parted.clear()

    def remove(self, name: str) -> None:
        """Remove a file and its parts, if they are there."""
        self._pending.pop(name, None)
        with told_of_store(self._url):
            for path in (self._path(name), *self._list_parts(name)):
                if self._store.exists(path):
                    self._store.rm_file(path)

    def claim(self) -> None:
        """Make the folder, where the store has such a thing; object storage has no locks."""
        with told_of_store(self._url):
            self._store.makedirs(self._root, exist_ok=True)

    def release(self, folders: Iterable[str]) -> None:
        """Do nothing: unfinished results are in temporary folders of the workers."""

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)

    def _put(self, path: str, text: str) -> None:
        """Write a file so that it is there whole or not at all."""
        if _uploads_whole(self._store):
            self._store.pipe_file(path, text.encode())
            return
        self._store.pipe_file(f"{path}{_UNFINISHED}", text.encode())
        self._store.mv(f"{path}{_UNFINISHED}", path)

    def _list_parts(self, name: str) -> list[str]:
        self._store.invalidate_cache()
        found = (str(path) for path in self._store.glob(f"{self._path(name)}.part-*"))
        return sorted(path for path in found if not path.endswith(_UNFINISHED))


def open_output(out: str | os.PathLike[str]) -> LocalFolder | RemoteFolder:
    """Return the output folder of a path or URL; nothing is made yet."""
    return RemoteFolder(os.fspath(out)) if is_url(out) else LocalFolder(local_path(out).absolute())


def publish(folder: Path, url: str) -> None:
    """Upload what lies in a local folder, the results of one recording; JSON last: it says that they are complete.

    Where an upload could be seen half-done, it goes under another name first.
    """
    store, root = open_store(url)
    whole = _uploads_whole(store)
    files = [file for file in folder.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: (file.suffix == ".json", file.name)):
        target = posixpath.join(root, file.relative_to(folder).as_posix())
        store.makedirs(posixpath.dirname(target), exist_ok=True)
        if whole:
            store.put_file(str(file), target)
            continue
        store.put_file(str(file), f"{target}{_UNFINISHED}")
        store.mv(f"{target}{_UNFINISHED}", target)


def _uploads_whole(store: "AbstractFileSystem") -> bool:
    protocols = (store.protocol,) if isinstance(store.protocol, str) else store.protocol
    return any(protocol in WHOLE_UPLOADS for protocol in protocols)


@contextmanager
def local_copy(path: str, folder: Path, annotator: str | None) -> Iterator[Path]:
    """Give a recording as a local file: itself, or a copy of all its files in `folder`, removed afterwards.

    Raises
    ------
    DataNotFoundError
        If it, or a file that its header names, is not there.
    """
    if not is_url(path):
        yield Path(path)
        return
    store, remote = open_store(path)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield _fetch(store, remote, folder, annotator)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(store: "AbstractFileSystem", remote: str, folder: Path, annotator: str | None) -> Path:
    source, name = posixpath.split(remote)

    def fetch(file: str) -> Path:
        if "/" in file or "\\" in file or file in ("", ".", ".."):
            raise DataError(f"the header of {name} names {file!r}; expected a file beside it")
        local = folder / file
        if local.exists():
            return local
        try:
            store.get_file(posixpath.join(source, file), str(local))
        except FileNotFoundError as error:
            raise DataNotFoundError(f"{posixpath.join(source, file)} is not there; {name} needs it") from error
        return local

    first = fetch(name)
    for file in _companions(name, lambda header: fetch(header).read_text(errors="replace"), first, annotator):
        fetch(file)
    return first


def _companions(name: str, read_header: Callable[[str], str], first: Path, annotator: str | None) -> Iterator[str]:
    """Yield the other files a WFDB record needs; none for other formats, which are single files."""
    if not name.endswith(".hea"):
        return
    if annotator is not None:
        yield f"{name.removesuffix('.hea')}.{annotator}"
    yield from header_files(first.read_text(errors="replace"), read_header)


def header_files(header: str, read_header: Callable[[str], str]) -> Iterator[str]:
    """Yield the files that a WFDB header names: signal files, or the headers of its segments and what they name.

    Parameters
    ----------
    header : str
        Its text.
    read_header : callable
        File name of a segment's header → its text.
    """
    lines = [line.split() for line in header.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return
    names = dict.fromkeys(fields[0] for fields in lines[1:] if fields[0] != "~")  # ~ is a gap, or a layout's signal
    if "/" not in lines[0][0]:
        yield from names
        return
    for segment in names:
        yield f"{segment}.hea"
        yield from header_files(read_header(f"{segment}.hea"), read_header)
