"""Workers on a Ray cluster: the same tasks and outcomes as with processes, each worker an actor."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ecgkan.errors import EcgkanError, MissingExtraError
from ecgkan.inference.workers import Outcome, RecordingClassifier, RecordingTask, WorkerEvent, WorkerSetup, fail

if TYPE_CHECKING:
    from types import ModuleType

    from ray import ObjectRef

LOCAL: Final = "local"
"""Instead of an address: a cluster of this machine alone, for the time of one run."""

_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports its use to its makers otherwise
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # and announces a change of its own that does not concern us
}

_OBJECT_STORE_BYTES: Final = 100 * 2**20
"""Of a cluster of this machine: tasks and outcomes are small, and the model is a megabyte."""


class RayCrew:
    """Workers on a Ray cluster.

    Actors are not restarted by Ray: the one that hires them replaces those that died, as with processes, so that a
    retry is counted in one place.

    Parameters
    ----------
    setup : WorkerSetup
        With the checkpoint's contents, since workers see other files.
    address : str
        Of a running cluster, such as `auto` or `ray://head:10001`, or `local`.
    cores : int, optional
        Workers to make room for in a cluster of this machine.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    EcgkanError
        If there is no cluster at that address.
    """

    def __init__(self, setup: WorkerSetup, address: str, *, cores: int | None = None) -> None:
        self._ray = _import_ray()
        self._ours = not self._ray.is_initialized()
        if self._ours:
            _connect(self._ray, address, cores)
        self._setup = self._ray.put(setup)
        # A worker that waits for a machine which the cluster has yet to start holds no task.
        self._actor_class = self._ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Worker)
        self._actors: dict[int, Any] = {}
        self._pending: dict[ObjectRef[Any], tuple[int, RecordingTask | None]] = {}

    @property
    def cores(self) -> int:
        """Cores of the cluster as it is now; at least one, which a cluster that has none yet will start."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def hire(self, worker: int) -> None:
        """Ask for an actor."""
        actor = self._actor_class.remote(self._setup)
        self._actors[worker] = actor
        self._pending[actor.start.remote()] = worker, None

    def give(self, worker: int, task: RecordingTask) -> None:
        """Give an actor a task."""
        self._pending[self._actors[worker].classify.remote(task)] = worker, task

    def wait(self) -> list[WorkerEvent]:
        """Wait until an actor has an outcome, or is no more."""
        ready, _ = self._ray.wait(list(self._pending), num_returns=1)
        return [self._receive(reference) for reference in ready]

    def _receive(self, reference: "ObjectRef[Any]") -> WorkerEvent:
        worker, task = self._pending.pop(reference)
        try:
            message = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # raised by the worker's own code
            if task is None:
                raise EcgkanError(
                    f"a worker of the cluster cannot start: {_last_line(error)}; every machine of it needs the same "
                    "version of ecgkan and its dependencies"
                ) from error
            return WorkerEvent(worker, outcome=fail(task, type(error).__name__, _last_line(error)))
        except self._ray.exceptions.RayError as error:  # the actor, its machine or its memory is no more
            self._ray.kill(self._actors.pop(worker))  # one that is only out of reach must not write any more
            return WorkerEvent(worker, death=_first_line(error))
        if isinstance(message, EcgkanError):
            raise message
        return WorkerEvent(worker, outcome=message)

    def dismiss(self) -> None:
        """End all actors; and the cluster, if it was made for this run."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._pending.clear()
        if self._ours:
            self._ray.shutdown()


class _Worker:
    """The actor; told to start, because what an actor's constructor raises cannot be told apart from its death."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._classifier: RecordingClassifier | None = None

    def start(self) -> EcgkanError | None:
        try:
            self._classifier = RecordingClassifier(self._setup)
        except EcgkanError as error:
            return error
        return None

    def classify(self, task: RecordingTask) -> Outcome:
        assert self._classifier is not None  # noqa: S101 (start comes first)
        return self._classifier(task)


def with_checkpoint(setup: WorkerSetup, path: Path) -> WorkerSetup:
    """Return the setup with the contents of a checkpoint file, for machines that do not have it."""
    return WorkerSetup(setup.out, setup.options, setup.threads, path.read_bytes())


def _import_ray() -> "ModuleType":
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingExtraError("--ray needs Ray, which is not installed; pip install 'ecgkan[cluster]'") from error
    return ray


def _connect(ray: "ModuleType", address: str, cores: int | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EcgkanError(
            f"no Ray cluster at {address}: {_first_line(error)}; start one (`ray up`, `ray start --head`), or use "
            f"--ray {LOCAL}"
        ) from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
