"""Many recordings, several workers: the same function in this process, in others, or on a cluster.

A worker loads the model once and takes one recording at a time. Whoever hires the workers knows which recording
each one holds, so that a worker that dies costs that one recording a retry, and the others nothing.
"""

import datetime
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ecgkan.aami import CLASSES
from ecgkan.errors import EcgkanError
from ecgkan.inference.backends import Backend, choose_backend, load_for
from ecgkan.inference.manifest import Failure, ManifestEntry, output_options
from ecgkan.inference.record import ClassifiedRecord, ClassifyOptions, classify_to_folder, expected_outputs
from ecgkan.inference.stores import is_url, local_copy, local_path, publish, size_on_disk

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext, SpawnContext
    from multiprocessing.process import BaseProcess

    from ecgkan.models.checkpoint import Checkpoint
    from ecgkan.models.onnx_model import OnnxModel

MAX_ATTEMPTS: Final = 3
"""A recording whose worker dies is tried this often in all."""

_STOP_GRACE_S: Final = 5.0


class RecordingTask(NamedTuple):
    """One recording to do: its path or URL, its name, and the folder below the output folder ("" for itself)."""

    path: str
    name: str
    folder: str

    @property
    def relative(self) -> str:
        """Folder and name, by which the manifest knows it."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


class Outcome(NamedTuple):
    """What became of a task: an entry for the manifest, or a failure."""

    task: RecordingTask
    entry: ManifestEntry | None
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker needs to know before its first recording.

    Attributes
    ----------
    out : str
        Output folder, absolute, or a URL.
    options : ClassifyOptions
        For every recording; what exists is overwritten, since whoever made the tasks has looked.
    threads : int or None
        Threads of the model and NumPy in this worker; None leaves their own choice.
    checkpoint : bytes or None
        Contents of the model's file for workers that do not see this machine's files.
    """

    out: str
    options: ClassifyOptions
    threads: int | None = None
    checkpoint: bytes | None = None


class RecordingClassifier:
    """What a worker is: a loaded model that does one task after the other."""

    def __init__(self, setup: WorkerSetup) -> None:
        if setup.threads is not None:
            _limit_threads(setup.threads)
        self._setup = setup
        self._model = _load(setup)

    def __call__(self, task: RecordingTask) -> Outcome:
        """Do a task; whatever goes wrong with the recording is an outcome, too."""
        try:
            return Outcome(task, self._classify(task), None)
        except EcgkanError as error:
            return fail(task, type(error).__name__, str(error))
        except Exception as error:  # a defect, or a file that no reader foresaw: the other recordings go on
            return fail(task, type(error).__name__, f"unexpected: {error}")

    def _classify(self, task: RecordingTask) -> ManifestEntry:
        started, clock = _utc_now(), time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="ecgkan-") as temporary:
            # Nothing is written there unless the recording or the results are in object storage.
            classified = self._between_stores(task, Path(temporary))
            sizes = self._sizes(task, Path(temporary))
        annotations = classified.annotations
        return ManifestEntry(
            path=task.path,
            relative=task.relative,
            outputs=sizes,
            beats=len(annotations),
            counts={letter: int((annotations.classes == letter).sum()) for letter in CLASSES},
            duration_s=annotations.duration_s,
            seconds=round(time.perf_counter() - clock, 3),
            model=annotations.model,
            weights_sha256=annotations.weights_sha256,
            options=output_options(self._setup.options),
            version=_version(),
            started=started,
            finished=_utc_now(),
        )

    def _between_stores(self, task: RecordingTask, temporary: Path) -> ClassifiedRecord:
        options = self._setup.options
        remote = is_url(self._setup.out)
        folder = temporary / "out" if remote else local_path(self._setup.out)
        with local_copy(task.path, temporary / "in", options.annotator) as path:
            classified = classify_to_folder(path, folder / task.folder, options, model=self._model)
        if remote:
            publish(folder, self._setup.out)
        return classified

    def _sizes(self, task: RecordingTask, temporary: Path) -> dict[str, int]:
        root = temporary / "out" if is_url(self._setup.out) else local_path(self._setup.out)
        names = output_names(task, self._setup.options)
        return {name: size_on_disk(root / name) or 0 for name in names}


def output_names(task: RecordingTask, options: ClassifyOptions) -> list[str]:
    """Return the outputs of a task, relative to the output folder."""
    return [path.as_posix() for path in expected_outputs(task.name, task.folder, options)]


def fail(task: RecordingTask, error: str, message: str) -> Outcome:
    """Return the outcome of a task that went wrong."""
    return Outcome(task, None, Failure(task.path, error, message))


def _limit_threads(threads: int) -> None:
    """Let the linear algebra under NumPy use so many threads, so that workers do not crowd each other."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)


def _load(setup: WorkerSetup) -> "Checkpoint | OnnxModel":
    """Load the model, for so many threads as the worker may use."""
    options, threads = setup.options, setup.threads
    backend = choose_backend(options.model, options.backend)
    if backend == "torch" and threads is not None:
        import torch

        torch.set_num_threads(threads)
    if setup.checkpoint is None:
        return load_for(options.model, backend, threads=threads)
    with tempfile.TemporaryDirectory(prefix="ecgkan-") as folder:
        path = Path(folder) / f"{Path(options.model).stem}{'.onnx' if backend == 'onnx' else '.pth'}"
        path.write_bytes(setup.checkpoint)
        return load_for(path, backend, threads=threads)


def _utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _version() -> str:
    from importlib.metadata import version

    return version("ecgkan")


class WorkerEvent(NamedTuple):
    """News of a worker: `outcome` of the task it had; None from one that has just become ready, or died.

    Attributes
    ----------
    worker : int
        Its number.
    outcome : Outcome or None
        Of the task it had.
    death : str or None
        How it died.
    """

    worker: int
    outcome: Outcome | None = None
    death: str | None = None


class Crew(Protocol):
    """Workers of one kind."""

    def hire(self, worker: int) -> None:
        """Begin to start a worker; it is ready when `wait` says so."""

    def give(self, worker: int, task: RecordingTask) -> None:
        """Give a worker that is ready a task."""

    def wait(self) -> list[WorkerEvent]:
        """Wait until there is news of a worker."""

    def dismiss(self) -> None:
        """End all workers, whatever they are at; leave no process behind."""


def classify_here(setup: WorkerSetup, tasks: Iterable[RecordingTask]) -> Iterator[Outcome]:
    """Do tasks one after the other in this process."""
    classifier = RecordingClassifier(setup)
    return map(classifier, tasks)


def classify_with(crew: Crew, tasks: Iterable[RecordingTask], size: int) -> Iterator[Outcome]:
    """Do tasks with up to `size` workers; yield outcomes as they come, exactly one for each task.

    A task whose worker dies is tried again after the others, `MAX_ATTEMPTS` times in all.

    Raises
    ------
    EcgkanError
        If workers die before they are ready.
    """
    waiting, attempts, shift = deque(tasks), Counter[RecordingTask](), _Shift(crew)
    try:
        shift.hire(min(size, len(waiting)))
        while waiting or shift.held:
            for event in crew.wait():
                task = shift.held.pop(event.worker, None)
                if event.outcome is not None:
                    yield event.outcome
                if event.death is None:
                    shift.welcome(event.worker)
                    continue
                shift.bury(event, ready=task is not None)
                if task is None:
                    continue
                attempts[task] += 1
                if attempts[task] < MAX_ATTEMPTS:
                    waiting.append(task)
                else:
                    yield fail(task, "WorkerDiedError", f"its worker died {MAX_ATTEMPTS} times, at last {event.death}")
            shift.hire(min(size, len(waiting) + len(shift.held)) - shift.size)
            while waiting and shift.idle:
                shift.give(waiting.popleft())
    finally:
        crew.dismiss()


@dataclass
class _Shift:
    """Who is at work: workers by number, with the tasks they hold."""

    crew: Crew
    held: dict[int, RecordingTask] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    size: int = 0
    hired: int = 0
    stillborn: int = 0

    def hire(self, count: int) -> None:
        for _ in range(count):
            self.crew.hire(self.hired)
            self.hired += 1
            self.size += 1

    def give(self, task: RecordingTask) -> None:
        worker = self.idle.pop()
        self.held[worker] = task
        self.crew.give(worker, task)

    def welcome(self, worker: int) -> None:
        self.idle.add(worker)
        self.stillborn = 0

    def bury(self, event: WorkerEvent, *, ready: bool) -> None:
        self.size -= 1
        if ready or event.worker in self.idle:
            self.idle.discard(event.worker)
            return
        self.stillborn += 1
        if self.stillborn >= MAX_ATTEMPTS * (self.size + 1):
            raise EcgkanError(f"workers die while they start: {event.death}")


class ProcessCrew:
    """Workers in processes of this machine."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._context = _make_context(choose_backend(setup.options.model, setup.options.backend))
        self._setup = setup
        self._processes: dict[int, tuple[BaseProcess, Connection[Any, Any]]] = {}

    def hire(self, worker: int) -> None:
        """Begin to start a process."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._setup), name=f"ecgkan-{worker}", daemon=True)
        _start_fork_server(self._context)
        with _delaying_interrupts():
            process.start()
            theirs.close()
            self._processes[worker] = process, ours

    def give(self, worker: int, task: RecordingTask) -> None:
        """Send a task; a worker that has died by now is told of by `wait`."""
        try:
            self._processes[worker][1].send(task)
        except OSError:
            return

    def wait(self) -> list[WorkerEvent]:
        """Wait until a process has sent an outcome, or is no more."""
        from multiprocessing.connection import wait

        workers = {id(connection): worker for worker, (_, connection) in self._processes.items()}
        ready = wait([connection for _, connection in self._processes.values()])
        return [self._receive(workers[id(connection)]) for connection in ready]

    def _receive(self, worker: int) -> WorkerEvent:
        process, connection = self._processes[worker]
        try:
            message = connection.recv()
        except (EOFError, OSError):
            del self._processes[worker]
            connection.close()
            process.join(_STOP_GRACE_S)
            return WorkerEvent(worker, death=_cause_of_death(process.exitcode))
        if isinstance(message, Exception):
            raise message
        return WorkerEvent(worker, outcome=message)

    def dismiss(self) -> None:
        """End all processes; they take their unfinished files with them, unless they must be killed."""
        for process, connection in self._processes.values():
            connection.close()
            process.terminate()
        for process, _ in self._processes.values():
            process.join(_STOP_GRACE_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes.clear()


def _make_context(backend: Backend) -> "ForkServerContext | SpawnContext":
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Imported once for all workers, those that replace a dead one included.
    needed = ["torch", "ecgkan.models.checkpoint"] if backend == "torch" else ["ecgkan.models.onnx_model"]
    context.set_forkserver_preload(["onnxruntime", "ecgkan.inference.workers", *needed])
    return context


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = ", as happens when memory runs out" if name == "SIGKILL" else ""
        return f"by signal {name}{hint}"
    return f"with exit status {exitcode}"


def _start_fork_server(context: "ForkServerContext | SpawnContext") -> None:
    """Start the process that others are forked from; it, and they, ignore Ctrl-C from their first moment."""
    if context.get_start_method() != "forkserver" or threading.current_thread() is not threading.main_thread():
        return
    from multiprocessing.forkserver import ensure_running

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a process ignores, those that it starts do
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _delaying_interrupts() -> Iterator[None]:
    """Heed Ctrl-C only at the end: a process half-started would be known to nobody, and its start takes seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _serve(connection: "Connection[Any, Any]", setup: WorkerSetup) -> None:
    """Live as a worker process: load the model, say so, do what is sent until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # by way of every finally
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        classifier = RecordingClassifier(setup)
    except EcgkanError as error:
        connection.send(error)
        return
    connection.send(None)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(classifier(task))


def _die_with_parent() -> None:
    """End this process with the one that hired it, even if that was killed."""
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
