"""Fetch a database: download, resume, verify, and only then put each file in its place.

A file travels as ``NAME.part`` beside its final name and is renamed when its
bytes are the published ones and safely on disk. So a fetch may be interrupted
at any moment, by Ctrl-C as by a power cut, and the next one goes on from there.
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import NamedTuple

from ecgkan.data.databases import (
    Database,
    DatabaseFile,
    FileProblem,
    as_database,
    find_problem,
    verify_database,
)
from ecgkan.data.sources import (
    FileUnavailableError,
    RetryPolicy,
    Source,
    cannot_write,
    length_of,
    open_source,
    other_ways,
)
from ecgkan.errors import DataError, FetchError

_POLL_S = 0.1
_JOIN_S = 1.0
_SHOWN_FAILURES = 5


class FetchProgress(NamedTuple):
    """How far a fetch has come; files that were right from the start are not counted.

    Attributes
    ----------
    file : str
        The file that moved last.
    bytes_done, bytes_total : int
        Bytes on disk, and bytes of all files to fetch. `bytes_done` falls when a file starts over.
    files_done, files_total : int
        Files verified and in place, and files to fetch.
    """

    file: str
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int


@dataclass(frozen=True)
class FetchReport:
    """What a fetch did.

    Attributes
    ----------
    database : str
        PhysioNet's short name.
    folder : Path
        Where the files are.
    problems : tuple of FileProblem
        What was wrong before, file by file; all of it is mended now.
    fetched : tuple of str
        Names of the files that were fetched, in the order of the database.
    kept : tuple of str
        Names of the files that were right already and were not touched.
    """

    database: str
    folder: Path
    problems: tuple[FileProblem, ...]
    fetched: tuple[str, ...]
    kept: tuple[str, ...]


def fetch_database(
    database: str | Database,
    root: Path,
    *,
    source: str | Path | None = None,
    workers: int = 4,
    retry: RetryPolicy | None = None,
    on_problems: Callable[[Sequence[FileProblem]], None] | None = None,
    on_progress: Callable[[FetchProgress], None] | None = None,
) -> FetchReport:
    """Bring every file of a database to a data root, byte for byte as it was published.

    Files that are right already are left alone; missing, truncated and corrupted ones are fetched. Run again
    after any interruption, it completes what is left.

    Parameters
    ----------
    database : str or Database
        PhysioNet's short name, ``mitdb`` or ``nstdb``, or a `Database`.
    root : Path
        The data root; the files go to ``root/NAME``.
    source : str, Path or None
        An http(s) URL, a folder or a zip; None is PhysioNet (or ``ECGKAN_PHYSIONET_URL``).
    workers : int
        Files fetched at the same time.
    retry : RetryPolicy or None
        How patient to be with a bad connection.
    on_problems : callable or None
        Called once, before anything is fetched, with what is wrong with the files on disk, if anything is.
    on_progress : callable or None
        Called as bytes arrive, from one thread at a time.

    Returns
    -------
    FetchReport

    Raises
    ------
    DataError
        If the database is unknown, or `workers` is below 1.
    FetchError
        If the source cannot be reached or lacks a file, its bytes are wrong, or the data root cannot be
        written. What has been verified until then stays in place.

    Examples
    --------
    >>> fetch_database("mitdb", Path("data"), source="mit-bih-arrhythmia-database-1.0.0.zip")  # doctest: +SKIP
    """
    if workers < 1:
        raise DataError(f"cannot fetch with {workers} workers; expected 1 or more")
    database = as_database(database)
    folder = root / database.name
    problems = tuple(verify_database(database, root))
    if problems:
        if on_problems is not None:
            on_problems(problems)
        _refuse_if_unwritable(folder)
        opened = open_source(database, source, retry=retry or RetryPolicy())
        with _sole_writer(folder):
            _fetch_files(database, folder, opened, problems, workers=workers, on_progress=on_progress)
    _remove_leftovers(database, folder)
    bad = {problem.file for problem in problems}
    names = [file.name for file in database.files]
    return FetchReport(
        database.name,
        folder,
        problems,
        fetched=tuple(name for name in names if name in bad),
        kept=tuple(name for name in names if name not in bad),
    )


def _fetch_files(
    database: Database,
    folder: Path,
    source: Source,
    problems: Sequence[FileProblem],
    *,
    workers: int,
    on_progress: Callable[[FetchProgress], None] | None,
) -> None:
    bad = {problem.file for problem in problems}
    files = [file for file in database.files if file.name in bad]
    _refuse_if_too_full(folder, files)
    crew = _Crew(source, folder, files, on_progress=on_progress, workers=workers)
    crew.run()
    if len(crew.done) < len(files):
        raise FetchError(_describe_failures(database, crew))


def _describe_failures(database: Database, crew: "_Crew") -> str:
    failed = [file.name for file in crew.files if file.name in crew.failures]
    shown = [str(crew.failures[name]) for name in failed[:_SHOWN_FAILURES]]
    more = failed[_SHOWN_FAILURES:]
    reasons = "; ".join([*shown, *([f"also {', '.join(more)}"] if more else [])])
    return (
        f"{len(crew.files) - len(crew.done)} of {len(database.files)} files of {database.name} could not be "
        f"fetched: {reasons}. What has arrived is kept: run the command again, or {other_ways(database)}"
    )


# --- the threads that fetch ----------------------------------------------------------------------


class _StoppedError(Exception):
    """The fetch is over for a reason met elsewhere; raised to leave a copy between two chunks."""


class _Crew:
    """Threads that fetch the files of one database, and what they have achieved so far.

    The threads are daemons, so that Ctrl-C does not have to wait for a silent server.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        files: Sequence[DatabaseFile],
        *,
        workers: int,
        on_progress: Callable[[FetchProgress], None] | None,
    ) -> None:
        self.files = files
        self.done: list[str] = []
        self.failures: dict[str, FileUnavailableError] = {}
        self._source = source
        self._folder = folder
        self._workers = workers
        self._on_progress = on_progress
        self._fatal: BaseException | None = None
        self._stop = Event()
        self._lock = Lock()
        self._arrived_bytes = {file.name: 0 for file in files}
        self._queue: SimpleQueue[DatabaseFile] = SimpleQueue()
        for file in files:
            self._queue.put(file)

    def run(self) -> None:
        """Fetch all files; return when each is done or has failed, raise what ended the fetch early."""
        threads = [Thread(target=self._work, name=f"fetch-{n}", daemon=True) for n in range(self._workers)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive() and not self._stop.is_set():
                    thread.join(_POLL_S)  # in short turns, because on Windows a long one is deaf to Ctrl-C
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(_JOIN_S / self._workers)
        if self._fatal is not None:
            raise self._fatal

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                file = self._queue.get_nowait()
            except Empty:
                return
            try:
                self._fetch(file)
            except _StoppedError:
                return
            except FileUnavailableError as failure:
                self._note_failure(file, failure)
            except BaseException as error:  # raised again by run(), in the thread that asked for the fetch
                self._end(error)

    def _fetch(self, file: DatabaseFile) -> None:
        """Fetch one file; if it arrives with wrong bytes, once more from its beginning."""
        part = part_path(self._folder, file)
        problem = self._transfer(file, part) and self._transfer(file, part)
        if problem is not None:
            raise FileUnavailableError(
                f"{self._source.location_of(file)} is not the published file "
                f"(found {problem.found}, expected {problem.expected})"
            )
        _publish(part, self._folder / file.name)
        self._note_done(file)

    def _transfer(self, file: DatabaseFile, part: Path) -> FileProblem | None:
        """Copy one file into its part; a part that is complete and wrong is removed."""
        self._source.copy(file, part, lambda length: self._note_bytes(file, length))
        problem = find_problem(part, file)
        if problem is not None:
            part.unlink(missing_ok=True)
        return problem

    def _note_bytes(self, file: DatabaseFile, length: int) -> None:
        if self._stop.is_set():
            raise _StoppedError
        with self._lock:
            self._arrived_bytes[file.name] = min(length, file.size_bytes)
            self._tell(file)

    def _note_done(self, file: DatabaseFile) -> None:
        with self._lock:
            self.done.append(file.name)
            self._arrived_bytes[file.name] = file.size_bytes
            self._tell(file)

    def _note_failure(self, file: DatabaseFile, failure: FileUnavailableError) -> None:
        """Go on with the other files, unless the source has failed each thread once and delivered nothing."""
        with self._lock:
            self.failures[file.name] = failure
            undelivered = sum(not failure.absent for failure in self.failures.values())
            if not self.done and undelivered >= self._workers:
                self._stop.set()

    def _tell(self, file: DatabaseFile) -> None:
        if self._on_progress is None:
            return
        bytes_done = sum(self._arrived_bytes.values())
        bytes_total = sum(file.size_bytes for file in self.files)
        progress = FetchProgress(file.name, bytes_done, bytes_total, len(self.done), len(self.files))
        try:
            self._on_progress(progress)
        except BaseException as error:
            # An OSError of the caller's must not be taken for one of the network or the disk.
            self._end(error)
            raise _StoppedError from error

    def _end(self, error: BaseException) -> None:
        self._fatal = self._fatal or error
        self._stop.set()


# --- the folder that is written ------------------------------------------------------------------


def part_path(folder: Path, file: DatabaseFile) -> Path:
    """Return where a file gathers until it is complete and verified."""
    return folder / f"{file.name}.part"


def _publish(part: Path, final: Path) -> None:
    """Put a verified file in its place, so that even a power cut leaves either nothing or all of it."""
    try:
        with part.open("r+b") as stream:
            os.fsync(stream.fileno())
        part.replace(final)
        _sync_folder(final.parent)
    except OSError as error:
        raise cannot_write(final, error) from error


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # a folder cannot be opened there; NTFS journals the renaming itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_if_unwritable(folder: Path) -> None:
    """Raise before anything is asked of the network or created on disk."""
    # os.access, because Path.exists raises below a folder that may not be entered
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))
    if not nearest.is_dir():
        raise cannot_write(folder, NotADirectoryError(errno.ENOTDIR, f"{nearest} is not a folder"))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise cannot_write(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _refuse_if_too_full(folder: Path, files: Sequence[DatabaseFile]) -> None:
    needed_bytes = sum(max(0, file.size_bytes - length_of(part_path(folder, file))) for file in files)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        reason = f"{os.strerror(errno.ENOSPC)}: {needed_bytes:,} bytes are needed and {free_bytes:,} are free"
        raise cannot_write(folder, OSError(errno.ENOSPC, reason))


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Create the folder and keep other fetches out of it, as two of them would write the same part files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    if sys.platform == "win32":
        yield  # no lock there: two fetches at once spoil each other's parts, which verification then finds
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)  # releases the lock, as the end of the process would


def _lock(descriptor: int, folder: Path) -> None:
    import fcntl  # does not exist on Windows

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FetchError(f"another fetch is writing to {folder}; wait for it to end, then run this again") from error
    except OSError:
        return  # some network file systems cannot lock a folder; a fetch without a lock beats none


def _remove_leftovers(database: Database, folder: Path) -> None:
    """Remove part files of an earlier fetch whose files have since come another way."""
    for file in database.files:
        with suppress(OSError):
            part_path(folder, file).unlink(missing_ok=True)
