"""Where the files of a database can come from: a web server, a folder, or a zip.

A `Source` copies one file at a time into a ``.part`` file; it knows nothing of
checksums or of the data root. `ecgkan.data.fetch` decides whether what arrived
is right.
"""

import errno
import http.client
import os
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, Protocol

from ecgkan.data.databases import Database, DatabaseFile
from ecgkan.errors import FetchError

PHYSIONET_URL: Final = "https://physionet.org/files/"
"""Where PhysioNet serves ``NAME/VERSION/FILE``; the environment variable ``ECGKAN_PHYSIONET_URL`` replaces it."""

CHUNK_BYTES: Final = 1 << 16

OnBytes = Callable[[int], None]
"""Called with the length the part file is about to have, in bytes; stops the copy by raising."""


class FileUnavailableError(FetchError):
    """One file cannot be had from a source; the other files may still be.

    `absent` tells a file the source does not have from one that it has and fails to deliver.
    """

    def __init__(self, message: str, *, absent: bool = False) -> None:
        super().__init__(message)
        self.absent = absent


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a download is with a bad connection.

    Attributes
    ----------
    attempts : int
        Give up on a file after so many requests in a row that brought nothing new.
    first_delay_s : float
        Pause in seconds before the first retry; it doubles with every request that brings nothing new.
    timeout_s : float
        A connection that is silent for so many seconds counts as cut.
    """

    attempts: int = 6
    first_delay_s: float = 0.25
    timeout_s: float = 20.0

    def delay_s(self, fruitless_requests: int) -> float:
        """Return the pause in seconds after so many requests in a row that brought nothing new."""
        return self.first_delay_s * 2.0**fruitless_requests


class Source(Protocol):
    """A place that holds the files of a database."""

    def location_of(self, file: DatabaseFile) -> str:
        """Return where `file` is taken from, for messages."""

    def copy(self, file: DatabaseFile, part: Path, on_bytes: OnBytes) -> None:
        """Copy `file` to `part`, going on from what `part` holds where the source allows it.

        What arrives may be the wrong bytes, and at most one byte longer than the file should be.

        Raises
        ------
        FileUnavailableError
            If this file cannot be had.
        FetchError
            If no file can be had, or `part` cannot be written.
        """


def open_source(database: Database, source: str | Path | None, *, retry: RetryPolicy) -> Source:
    """Return the source that a user named, after a first look that it has something of `database`.

    Parameters
    ----------
    database : Database
        What is to be fetched.
    source : str, Path or None
        An http(s) URL, a folder or a zip. The files may stand there directly, or under ``NAME/`` or
        ``NAME/VERSION/``; in a zip, in any one folder. None is PhysioNet, or the server named by the
        environment variable ``ECGKAN_PHYSIONET_URL``.
    retry : RetryPolicy
        For web servers.

    Raises
    ------
    FetchError
        If there is no such source, it cannot be reached, or it has nothing of `database`.
    """
    if source is None:
        base_url = os.environ.get("ECGKAN_PHYSIONET_URL") or PHYSIONET_URL
        return _open_server(database, base_url, _subfolders(database), retry)
    scheme, separator, _ = str(source).partition("://")
    if separator and scheme.lower() in ("http", "https"):
        return _open_server(database, str(source), _subfolders(database)[::-1], retry)
    if separator:
        raise FetchError(f"cannot fetch from {source}: expected an http:// or https:// URL, a folder or a zip file")
    path = Path(source).expanduser()
    try:
        return _open_folder(database, path) if path.is_dir() else _open_zip(database, path)
    except PermissionError as error:
        raise FetchError(f"cannot read {path}: {error.strerror}; {other_ways(database)}") from error


def other_ways(database: Database) -> str:
    """Return what a user can do who cannot get the files from where they were looked for."""
    return (
        f"get the files another way and run `ecgkan data fetch {database.name} --from FOLDER|ZIP|URL`, "
        f"or set ECGKAN_DATA to a folder that holds {database.name}/"
    )


def cannot_write(path: Path, error: OSError) -> FetchError:
    """Return the error for a place under the data root that cannot be written."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "make room there, or give another data folder"
    else:
        advice = "make it writable, or give another data folder"
    return FetchError(f"cannot write {path}: {reason}; {advice} with --data-dir or ECGKAN_DATA")


def _subfolders(database: Database) -> list[str]:
    """Return where below a base the files may stand, PhysioNet's own layout first."""
    return [f"{database.name}/{database.version}/", f"{database.name}/", ""]


# --- a web server --------------------------------------------------------------------------------


class _TransferCutError(Exception):
    """A request ended before the file was complete; asking again may help."""

    def __init__(self, reason: str, *, connected: bool = True, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.connected = connected
        self.wait_s = wait_s


_BUSY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ABSENT_STATUSES: Final = frozenset({403, 404, 410})  # object stores answer 403 for what they do not have
_LONGEST_WAIT_S: Final = 60.0


@dataclass(frozen=True)
class HttpSource:
    """A folder of a web server, for example ``https://physionet.org/files/mitdb/1.0.0/``."""

    database: Database
    url: str
    retry: RetryPolicy

    def location_of(self, file: DatabaseFile) -> str:
        """Return the URL of `file`."""
        return self.url + file.name

    def copy(self, file: DatabaseFile, part: Path, on_bytes: OnBytes) -> None:
        """Download `file`, resuming `part` and asking again as long as new bytes arrive."""
        longest = length_of(part)
        fruitless_requests = 0
        while True:
            try:
                return self._receive(file, part, on_bytes)
            except _TransferCutError as cut:
                arrived = length_of(part)
                fruitless_requests = 0 if arrived > longest else fruitless_requests + 1
                longest = max(longest, arrived)
                if fruitless_requests >= self.retry.attempts:
                    raise self._gave_up(file, cut) from cut
                time.sleep(max(self.retry.delay_s(fruitless_requests), cut.wait_s))

    def _receive(self, file: DatabaseFile, part: Path, on_bytes: OnBytes) -> None:
        """Ask for what is missing of `part`, once."""
        start = length_of(part)
        if start == file.size_bytes:
            return
        if start > file.size_bytes:
            start = 0
        with self._request(file, part, start) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                start = 0  # the server ignores ranges and sends the file from its beginning
            promised_end = file.size_bytes if response.length is None else start + response.length
            chunks = _received_chunks(response, file.size_bytes + 1 - start)
            length = write_part(part, chunks, on_bytes, start=start)
        if length < min(promised_end, file.size_bytes):
            raise _TransferCutError(f"connection cut after {length:,} of {file.size_bytes:,} bytes")

    def _request(self, file: DatabaseFile, part: Path, start: int) -> http.client.HTTPResponse:
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        try:
            response = _open_url(self.location_of(file), self.retry.timeout_s, headers)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(file, part, error) from error
        except (OSError, http.client.HTTPException) as error:
            connected = not isinstance(error, urllib.error.URLError)
            raise _TransferCutError(_reason(error), connected=connected) from error
        if response.status == http.client.PARTIAL_CONTENT and _range_start(response) != start:
            response.close()
            part.unlink(missing_ok=True)
            raise _TransferCutError("the server sent another range than it was asked for")
        return response

    def _refusal(self, file: DatabaseFile, part: Path, error: urllib.error.HTTPError) -> Exception:
        """Return what an HTTP error status means for `file`."""
        message = f"HTTP {error.code} {error.reason}"
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)  # what we hold does not fit the server's file: from the beginning
            return _TransferCutError(message)
        if error.code in _BUSY_STATUSES:
            return _TransferCutError(message, wait_s=_retry_after_s(error))
        absent = error.code in _ABSENT_STATUSES
        return FileUnavailableError(f"{self.location_of(file)}: {message}", absent=absent)

    def _gave_up(self, file: DatabaseFile, cut: _TransferCutError) -> FetchError:
        if not cut.connected:
            return _unreachable(self.database, self.url, str(cut))
        return FileUnavailableError(f"{self.location_of(file)}: {cut}, {self.retry.attempts} times in a row")


def _open_server(database: Database, base_url: str, subfolders: list[str], retry: RetryPolicy) -> HttpSource:
    """Find out below which of `subfolders` a server has the files; the first is taken if none can be told."""
    base_url = base_url.rstrip("/") + "/"
    if base_url.lower().endswith(".zip/"):
        raise FetchError(f"{base_url[:-1]} is a zip; download it and give the file: --from FILE.zip")
    smallest = min(database.files, key=lambda file: file.size_bytes)
    for subfolder in subfolders:
        try:
            with _open_url(base_url + subfolder + smallest.name, retry.timeout_s, {}):
                return HttpSource(database, base_url + subfolder, retry)
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in _ABSENT_STATUSES:
                    return HttpSource(database, base_url + subfolder, retry)
        except (urllib.error.URLError, http.client.InvalidURL, TimeoutError) as error:
            raise _unreachable(database, base_url, _reason(error)) from error
        except (OSError, http.client.HTTPException):
            # The server was reached and cut the connection: that is for the retries of the download.
            return HttpSource(database, base_url + subfolder, retry)
    return HttpSource(database, base_url + subfolders[0], retry)


def _open_url(url: str, timeout_s: float, headers: dict[str, str]) -> http.client.HTTPResponse:
    headers = {"User-Agent": "ecgkan", **headers}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - open_source allows http and https only
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310
    return response


def _received_chunks(response: http.client.HTTPResponse, limit_bytes: int) -> Iterator[bytes]:
    while limit_bytes > 0:
        try:
            chunk = response.read1(min(CHUNK_BYTES, limit_bytes))
        except (OSError, http.client.HTTPException) as error:
            raise _TransferCutError(f"connection cut: {_reason(error)}") from error
        if not chunk:
            return
        limit_bytes -= len(chunk)
        yield chunk


def _range_start(response: http.client.HTTPResponse) -> int | None:
    """Return the first byte position of ``Content-Range: bytes 1000-1999/2000``."""
    unit, _, positions = response.headers.get("Content-Range", "").partition(" ")
    start = positions.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdecimal() else None


def _retry_after_s(error: urllib.error.HTTPError) -> float:
    """Return the seconds a busy server asks us to wait, within reason; 0 if it does not say."""
    asked = error.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_WAIT_S) if asked.isdecimal() else 0.0


def _unreachable(database: Database, url: str, reason: str) -> FetchError:
    return FetchError(f"cannot reach {url} ({reason}); {other_ways(database)}")


def _reason(error: Exception) -> str:
    """Return the short reason of a network error, without the wrapping of urllib."""
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


# --- a folder ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderSource:
    """A local folder that holds the files."""

    folder: Path

    def location_of(self, file: DatabaseFile) -> str:
        """Return the path of `file`."""
        return str(self.folder / file.name)

    def copy(self, file: DatabaseFile, part: Path, on_bytes: OnBytes) -> None:
        """Copy `file` from its beginning."""
        try:
            stream = (self.folder / file.name).open("rb")
        except OSError as error:
            raise _unreadable(self.location_of(file), error) from error
        with stream:
            write_part(part, _read_chunks(stream, file, self.location_of(file)), on_bytes)


def _open_folder(database: Database, path: Path) -> FolderSource:
    candidates = [path / subfolder for subfolder in _subfolders(database)[::-1]]
    for folder in candidates:
        if any((folder / file.name).is_file() for file in database.files):
            return FolderSource(folder)
    looked_in = ", ".join(str(folder) for folder in candidates)
    raise FetchError(f"no file of {database.name} in {path} (looked in {looked_in}); {other_ways(database)}")


# --- a zip ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ZipSource:
    """A zip that holds the files; `members` maps the name of a file to its name inside the zip.

    Members are read by name and written to names of our own: nothing in the zip decides where a file lands.
    """

    path: Path
    members: Mapping[str, str]

    def location_of(self, file: DatabaseFile) -> str:
        """Return the zip and the member that `file` is read from."""
        return f"{self.path}:{self.members.get(file.name, file.name)}"

    def copy(self, file: DatabaseFile, part: Path, on_bytes: OnBytes) -> None:
        """Unpack `file` from its beginning."""
        location = self.location_of(file)
        if file.name not in self.members:
            raise FileUnavailableError(f"{location}: no such file in the zip", absent=True)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.members[file.name]) as stream:
                write_part(part, _read_chunks(stream, file, location), on_bytes)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # RuntimeError: it is encrypted
            raise FileUnavailableError(f"{location}: {error}") from error


def _open_zip(database: Database, path: Path) -> ZipSource:
    """Find the folder of a zip that holds most of the database, as PhysioNet's own zips have one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except FileNotFoundError as error:
        raise FetchError(f"no such folder or file: {path}; {other_ways(database)}") from error
    except (zipfile.BadZipFile, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FetchError(f"cannot read {path} as a zip ({reason}); {other_ways(database)}") from error
    wanted = {file.name for file in database.files}
    members = [(member, PurePosixPath(member)) for member in names if PurePosixPath(member).name in wanted]
    if not members:
        raise FetchError(f"no file of {database.name} in the zip {path}; {other_ways(database)}")
    [(folder, _)] = Counter(inner.parent for _, inner in members).most_common(1)
    return ZipSource(path, {inner.name: member for member, inner in members if inner.parent == folder})


# --- what all sources share ----------------------------------------------------------------------


def write_part(part: Path, chunks: Iterable[bytes], on_bytes: OnBytes, *, start: int = 0) -> int:
    """Write `chunks` to the file `part` from byte `start` on, and return its new length in bytes.

    Raises
    ------
    FetchError
        If `part` cannot be written; it is removed, so that a full disk gets its room back.
    """
    length = start
    try:
        with part.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            for chunk in chunks:
                length += len(chunk)
                on_bytes(length)
                stream.write(chunk)
    except FetchError:
        raise
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise cannot_write(part, error) from error
    return length


def _read_chunks(stream: IO[bytes], file: DatabaseFile, location: str) -> Iterator[bytes]:
    """Yield what a file holds, up to one byte more than it should."""
    remaining = file.size_bytes + 1
    while remaining > 0:
        try:
            chunk = stream.read(min(CHUNK_BYTES, remaining))
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(location, error) from error
        if not chunk:
            return
        remaining -= len(chunk)
        yield chunk


def _unreadable(location: str, error: Exception) -> FileUnavailableError:
    reason = getattr(error, "strerror", None) or str(error)
    return FileUnavailableError(f"{location}: {reason}", absent=isinstance(error, FileNotFoundError))


def length_of(path: Path) -> int:
    """Return the length of a file in bytes; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
