"""Archives: many recordings, each classified once, whatever happens on the way."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ecgkan.data.finding import recording_name
from ecgkan.errors import DataError, OutputExistsError
from ecgkan.inference.backends import load_for, weights_sha256
from ecgkan.inference.manifest import (
    FAILURES,
    MANIFEST,
    PLAN,
    Failure,
    ManifestEntry,
    format_failures,
    format_plan,
    output_options,
    read_failures,
    read_manifest,
    read_plan,
)
from ecgkan.inference.record import ClassifyOptions
from ecgkan.inference.stores import OutputFolder, header_files, is_url, open_output
from ecgkan.inference.workers import (
    Outcome,
    ProcessCrew,
    RecordingTask,
    WorkerSetup,
    classify_here,
    classify_with,
    output_names,
)
from ecgkan.models.onnx_model import available_cores


class ArchiveRecording(NamedTuple):
    """A recording of an archive: an absolute path or a URL, and the folder its outputs go to ("" for the top)."""

    path: str
    folder: str


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """What a run will do, before it does it.

    Attributes
    ----------
    tasks : tuple of RecordingTask
        To be done.
    skipped : tuple of ManifestEntry
        Done by an earlier run.
    failed : tuple of Failure
        That cannot be done, because their outputs would be those of another recording.
    """

    tasks: tuple[RecordingTask, ...]
    skipped: tuple[ManifestEntry, ...]
    failed: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What a run has done.

    Attributes
    ----------
    out : str
        The output folder.
    done, skipped : tuple of ManifestEntry
        Recordings that this run, and that an earlier run did.
    failed : tuple of Failure
        Recordings that could not be classified.
    seconds : float
        What the run took, model loading included.
    """

    out: str
    done: tuple[ManifestEntry, ...]
    skipped: tuple[ManifestEntry, ...]
    failed: tuple[Failure, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        separator = "" if self.out.endswith("/") else "/"
        return {
            "out": self.out,
            "manifest": f"{self.out}{separator}{MANIFEST}",
            "failures": f"{self.out}{separator}{FAILURES}" if self.failed else None,
            "seconds": round(self.seconds, 3),
            "counts": {"done": len(self.done), "skipped": len(self.skipped), "failed": len(self.failed)},
            "recordings": [
                {"status": status, **entry.to_dict()}
                for status, entries in (("done", self.done), ("skipped", self.skipped))
                for entry in entries
            ],
            "failed": [failure._asdict() for failure in self.failed],
        }


def classify_archive(
    recordings: Sequence[ArchiveRecording],
    out: str | Path,
    options: ClassifyOptions,
    *,
    resume: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    on_plan: Callable[[ArchivePlan], None] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> ArchiveReport:
    """Classify recordings into a folder, with a manifest of what was done.

    Parameters
    ----------
    recordings : sequence of ArchiveRecording
        See `ecgkan.inference.search.find_archive`.
    out : path or URL
        Folder to write to.
    options : ClassifyOptions
        For every recording. With `overwrite` what exists is done again.
    resume : bool
        Skip what the manifest says was done with the same options, and whose outputs are there in full.
    workers : int, optional
        Worker processes, or actors with `ray`; by default this process alone, or one actor per core of the cluster.
    ray : str, optional
        Address of a Ray cluster, or `local`.
    on_plan, on_outcome : callable, optional
        Told what will be done, and what became of each recording.

    Raises
    ------
    OutputExistsError
        If outputs are there already and neither `resume` nor `options.overwrite` says what to do; nothing is changed.
    EcgkanError
        If the model is unusable, or no worker can be had. What becomes of single recordings raises nothing.
    """
    begun = time.monotonic()
    model = load_for(options.model, options.backend)  # before anything is written
    output = open_output(out)
    with _claimed(output, recordings):
        manifest = read_manifest(output.read_text(MANIFEST) or "", f"{out}/{MANIFEST}")
        plan = plan_archive(recordings, options, output, manifest, weights_sha256(model), resume=resume)
        if on_plan is not None:
            on_plan(plan)
        setup = WorkerSetup(str(output), replace(options, overwrite=True))
        run = _Run(output, list(plan.failed), on_outcome)
        run.begin(plan, manifest)
        try:
            with closing(_outcomes(plan.tasks, setup, model.path, workers, ray)) as outcomes:
                for outcome in outcomes:
                    run.record(outcome)
        finally:
            run.end()
    return ArchiveReport(str(output), tuple(run.done), plan.skipped, tuple(run.failed), time.monotonic() - begun)


def plan_archive(
    recordings: Sequence[ArchiveRecording],
    options: ClassifyOptions,
    output: OutputFolder,
    manifest: Mapping[str, ManifestEntry],
    weights_sha256: str,
    *,
    resume: bool,
) -> ArchivePlan:
    """Decide what to do with each recording; nothing is changed.

    Raises
    ------
    OutputExistsError
        If that is not to be decided without `resume` or `options.overwrite`, or if what is there to resume was made
        with other options.
    """
    recordings = _without_results(recordings, output, options, manifest)
    tasks, failed = _assign_outputs(recordings, output, options, manifest if resume else {})
    names = {task: output_names(task, options) for task in tasks}
    sizes = output.sizes([MANIFEST, FAILURES, PLAN, *(name for task in tasks for name in names[task])])
    if options.overwrite:
        return ArchivePlan(tuple(tasks), (), tuple(failed))
    if not resume:
        _refuse_outputs(output, sizes)
        return ArchivePlan(tuple(tasks), (), tuple(failed))
    _refuse_strangers(output, names, sizes, manifest)
    _refuse_other_options(output, tasks, manifest, options, weights_sha256)
    done = [task for task in tasks if _is_done(task, names[task], sizes, manifest, options.annotator)]
    skipped = tuple(manifest[task.relative] for task in done)
    over = set(done)
    return ArchivePlan(tuple(task for task in tasks if task not in over), skipped, tuple(failed))


def _without_results(
    recordings: Sequence[ArchiveRecording],
    output: OutputFolder,
    options: ClassifyOptions,
    manifest: Mapping[str, ManifestEntry],
) -> list[ArchiveRecording]:
    """Leave out what earlier runs wrote, where results lie among the recordings: our tables can be read like one."""
    results = {name for entry in manifest.values() for name in entry.outputs} | {FAILURES}
    for relative in read_plan(output.read_text(PLAN) or ""):
        folder, _, name = relative.rpartition("/")
        results |= set(output_names(RecordingTask("", name, folder), options))
    places = {output.place(name) for name in results}
    return [recording for recording in recordings if recording.path not in places]


def _assign_outputs(
    recordings: Sequence[ArchiveRecording],
    output: OutputFolder,
    options: ClassifyOptions,
    manifest: Mapping[str, ManifestEntry],
) -> tuple[list[RecordingTask], list[Failure]]:
    """Make a task of each recording, or a failure where its outputs belong to another one or are one."""
    owners = dict.fromkeys((MANIFEST, FAILURES, PLAN), "the list of what was done")
    owners |= {name: entry.path for entry in manifest.values() for name in entry.outputs}
    inputs = {recording.path for recording in recordings}
    tasks, failed = [], []
    for recording in recordings:
        task = RecordingTask(recording.path, recording_name(Path(recording.path)), recording.folder)
        try:
            names = output_names(task, options)
        except DataError as error:
            failed.append(Failure(task.path, type(error).__name__, str(error)))
            continue
        owned = [name for name in names if owners.get(name, task.path) != task.path]
        inputs_hit = [name for name in names if output.place(name) in inputs]
        if owned:
            failed.append(_collision(task, owned[0], f"that of {owners[owned[0]]}"))
        elif inputs_hit:
            failed.append(_collision(task, inputs_hit[0], "a recording itself"))
        else:
            tasks.append(task)
            owners |= dict.fromkeys(names, task.path)
    return tasks, failed


def _collision(task: RecordingTask, name: str, what: str) -> Failure:
    message = f"its output {name} is {what}; rename one of them, or classify it into another folder (--out)"
    return Failure(task.path, OutputExistsError.__name__, message)


def _refuse_outputs(output: OutputFolder, sizes: Mapping[str, int]) -> None:
    if sizes:
        more = f" and {len(sizes) - 1} more" if len(sizes) > 1 else ""
        first = min(sizes, key=lambda name: (name == PLAN, name))
        raise OutputExistsError(
            f"{output} holds outputs already ({first}{more}); nothing was changed: skip what is done with "
            "--resume, do it again with --overwrite, or choose another folder with --out"
        )


def _refuse_strangers(
    output: OutputFolder,
    names: Mapping[RecordingTask, Sequence[str]],
    sizes: Mapping[str, int],
    manifest: Mapping[str, ManifestEntry],
) -> None:
    """Refuse to resume over files that no archive run made: they are in no manifest and in no plan."""
    ours = set(manifest) | read_plan(output.read_text(PLAN) or "")
    strangers = [name for task in names if task.relative not in ours for name in names[task] if name in sizes]
    if strangers:
        raise OutputExistsError(
            f"{output} holds {strangers[0]}, which is in no manifest of what was done there; nothing was changed: "
            "move it away, replace it with --overwrite, or choose another folder with --out"
        )


def _refuse_other_options(
    output: OutputFolder,
    tasks: Iterable[RecordingTask],
    manifest: Mapping[str, ManifestEntry],
    options: ClassifyOptions,
    weights_sha256: str,
) -> None:
    """Refuse to resume what was made in another way: one archive, one way."""
    wanted = output_options(options) | {"weights": weights_sha256}
    for entry in (manifest[task.relative] for task in tasks if task.relative in manifest):
        made = dict(entry.options) | {"weights": entry.weights_sha256}
        differing = [
            f"{name} {made.get(name)!r}, now {wanted[name]!r}" for name in wanted if made.get(name) != wanted[name]
        ]
        if differing:
            raise OutputExistsError(
                f"{entry.relative} in {output} was made with other options ({'; '.join(differing)}); nothing was "
                "changed: give the same options, do all again with --overwrite, or choose another folder with --out"
            )


def _is_done(
    task: RecordingTask,
    names: Iterable[str],
    sizes: Mapping[str, int],
    manifest: Mapping[str, ManifestEntry],
    annotator: str | None,
) -> bool:
    """Whether the manifest has it, its outputs are there in full, and its files are older than they."""
    entry = manifest.get(task.relative)
    if entry is None or entry.path != task.path:
        return False
    if any(entry.outputs.get(name) != sizes.get(name, -1) for name in names):
        return False
    return not _changed_since(task.path, entry.started, annotator)


def _changed_since(path: str, moment: str, annotator: str | None) -> bool:
    """Whether one of a local recording's files was written to after a moment; files in object storage never are."""
    import datetime

    if is_url(path):
        return False
    since = datetime.datetime.fromisoformat(moment).timestamp()
    try:
        return any(file.stat().st_mtime > since for file in _recording_files(Path(path), annotator) if file.exists())
    except OSError:  # cannot be read any more: to do it again says why
        return True


def _recording_files(path: Path, annotator: str | None) -> Iterator[Path]:
    yield path
    if annotator is not None:
        yield path.with_suffix(f".{annotator}")
    if path.suffix != ".hea":
        return

    def read_header(name: str) -> str:
        file = path.with_name(name)
        return file.read_text(errors="replace") if file.exists() else ""

    for name in header_files(read_header(path.name), read_header):
        yield path.with_name(name)


@contextmanager
def _claimed(output: OutputFolder, recordings: Iterable[ArchiveRecording]) -> Iterator[None]:
    output.claim()
    try:
        yield
    finally:
        output.release({"", *(recording.folder for recording in recordings)})


@dataclass
class _Run:
    """The books of a run."""

    output: OutputFolder
    failed: list[Failure]
    on_outcome: Callable[[Outcome], None] | None
    done: list[ManifestEntry] = field(default_factory=list)
    planned: set[str] = field(default_factory=set)
    failures_listed: bool = False

    def begin(self, plan: ArchivePlan, manifest: Mapping[str, ManifestEntry]) -> None:
        """Say which recordings' outputs are the run's own from now on, and forget that they were done, or failed."""
        tasks = {task.relative for task in plan.tasks}
        done_before = {entry.relative for entry in plan.skipped}
        self.planned = (read_plan(self.output.read_text(PLAN) or "") | tasks) - done_before
        self.output.write_text(PLAN, format_plan(sorted(self.planned)))
        kept = (entry.to_line() for relative, entry in manifest.items() if relative not in tasks)
        self.output.write_text(MANIFEST, "".join(kept))
        looked_at = {task.path for task in plan.tasks} | {entry.path for entry in plan.skipped}
        looked_at |= {failure.path for failure in plan.failed}
        earlier = read_failures(self.output.read_text(FAILURES) or "")
        failures = [*(failure for failure in earlier if failure.path not in looked_at), *self.failed]
        self.failures_listed = bool(failures)
        if failures:
            self.output.write_text(FAILURES, format_failures(failures))
        else:
            self.output.remove(FAILURES)

    def record(self, outcome: Outcome) -> None:
        if outcome.entry is not None:
            self.output.append(MANIFEST, outcome.entry.to_line())
            self.done.append(outcome.entry)
        if outcome.failure is not None:
            self.output.append(FAILURES, format_failures([outcome.failure], header=not self.failures_listed))
            self.failures_listed = True
            self.failed.append(outcome.failure)
        if self.on_outcome is not None:
            self.on_outcome(outcome)

    def end(self) -> None:
        """Leave lists in one piece; the plan keeps what is left to resume, be it of this run or of an earlier one."""
        self.output.flush()
        left = self.planned - {entry.relative for entry in self.done}
        if left:
            self.output.write_text(PLAN, format_plan(sorted(left)))
        else:
            self.output.remove(PLAN)


def _outcomes(
    tasks: Sequence[RecordingTask], setup: WorkerSetup, checkpoint: Path, workers: int | None, ray: str | None
) -> Generator[Outcome, None, None]:
    """Do the tasks with the workers asked for; a generator, so that closing it ends them."""
    if not tasks:
        return
    if ray is not None:
        from ecgkan.inference.cluster import RayCrew, with_checkpoint

        ray_setup = with_checkpoint(replace(setup, threads=1), checkpoint)
        ray_crew = RayCrew(ray_setup, ray, cores=workers)
        yield from classify_with(ray_crew, tasks, workers or ray_crew.cores)
    elif workers is None or workers == 1:
        yield from classify_here(setup, tasks)
    else:
        threads = max(1, available_cores() // workers)
        yield from classify_with(ProcessCrew(replace(setup, threads=threads)), tasks, workers)
