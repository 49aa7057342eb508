"""`ecgkan explain MODEL` as a function: study a KAN head, and write figures, tables, a page and derived models."""

import io
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ecgkan.errors import CheckpointError, DataError
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.inference.writing import check_writable, refuse_existing, replacing_all
from ecgkan.models.checkpoint import PATIENT_MODELS, Checkpoint, load_checkpoint, save_checkpoint
from ecgkan.models.kan import KANHead
from ecgkan.models.kan_edges import prune_edges, refine_head, strongest_edges, with_head
from ecgkan.studies.kan_edges.beats import load_studied_beats
from ecgkan.studies.kan_edges.figures import DPI, edges_figure, inputs_figure, pruning_figure
from ecgkan.studies.kan_edges.page import Images, StudiedModel, page_text, pruning_csv, symbolic_csv
from ecgkan.studies.kan_edges.study import EdgeStudy, study_edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE: Final = "kan-edges.md"

FIGURES: Final = ("edges", "pruning", "inputs")
"""Names of the figures; the last one is drawn where the head's inputs have names."""


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedModel:
    """A study, what was studied, and the files it was written to."""

    study: EdgeStudy
    model: StudiedModel
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        about = {name: getattr(self.model, name) for name in ("title", "weights_sha256", "protocol", "subset")}
        about["note"] = " ".join(self.model.notes)
        return about | self.study.to_dict() | {"files": [str(file) for file in self.files]}


def explain_model(
    requested: str,
    out: Path,
    *,
    refine: int | None = None,
    prune: float | None = None,
    report: Path | None = None,
    data_dir: Path | None = None,
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda _: None,
) -> ExplainedModel:
    """Study the KAN head of a model on beats of its own protocol that are no test beats, and write what was found.

    A model of protocol `random-split` is studied on its validation beats. Those for new patients were trained on all
    patients that are not for testing; they are studied on beats of these training patients, and everything says so.

    Parameters
    ----------
    requested : str
        Name of a shipped model with a KAN head, or a checkpoint file.
    out : Path
        Folder for `edges.png`, `pruning.png`, `pruning.csv`, `symbolic.csv`, the page, and derived models; where the
        head's inputs have names, `inputs.png` as well.
    refine : int, optional
        Save the model with this many spline intervals over its grid's range; the study compares it with the model as
        it is. By default the study doubles the intervals, and nothing is saved.
    prune : float, optional
        Save the model with this share of its edges.
    report : Path, optional
        Write the page here as well, and its figures into the folder `images` beside it.
    data_dir : Path, optional
        Folder that holds the database; see `ecgkan.data.mitdb.data_root`.
    overwrite : bool
        Replace files of the same names.
    announce : callable
        Told what is going on.

    Raises
    ------
    OutputExistsError
        If a file would be overwritten; nothing was computed then.
    CheckpointError
        If the model has no KAN head, or cannot be read.
    DataError, DataNotFoundError
        If the grid would become coarser, or the data cannot be used.
    """
    checkpoint = load_checkpoint(requested)
    head = kan_head_of(checkpoint)
    _check_intervals(head, refine)
    named = checkpoint.name in PATIENT_MODELS
    places = _Places.of(out, checkpoint.path.stem, named=named, refine=refine, prune=prune, report=report)
    refuse_existing(places.all, overwrite=overwrite)
    for folder in {path.parent for path in places.all}:
        check_writable(folder)

    beats = load_studied_beats(checkpoint, data_dir, announce=announce)
    study = study_edges(
        head,
        beats.features,
        beats.labels,
        grid_size=refine,
        inputs=beats.inputs,
        class_shift=beats.class_shift,
        announce=announce,
    )
    model = StudiedModel(
        title=MODEL_TITLES.get(checkpoint.name, checkpoint.name),
        weights_sha256=checkpoint.sha256,
        protocol=beats.protocol,
        subset=beats.subset,
        beats=beats.described,
        notes=beats.notes,
        normalization=head.kan1.normalization,
        command=_command(requested, out, refine=refine, prune=prune, report=report),
    )
    announce("figures")
    derived: dict[Path, tuple[KANHead, dict[str, Any]]] = {}
    if refine is not None:
        derived[places.refined] = (refine_head(head, refine), {"refined_to_intervals": refine})
    if prune is not None:
        mask = strongest_edges(study.importance, prune)
        derived[places.pruned] = (prune_edges(head, mask), {"edges_kept": mask.kept, "share_kept": mask.share})
    _write(places, study, model, checkpoint, derived, overwrite=overwrite)
    return ExplainedModel(study, model, tuple(places.all))


def kan_head_of(checkpoint: Checkpoint) -> KANHead:
    """Return a model's KAN head.

    Raises
    ------
    CheckpointError
        If it has none.
    """
    head = getattr(checkpoint.model, "kan_head", None)
    if not isinstance(head, KANHead):
        raise CheckpointError(
            f"{checkpoint.path} is a {MODEL_TITLES.get(checkpoint.name, checkpoint.name)} and has no KAN head, so "
            "there are no learned edge functions to show; name a model that has one, such as cnn_kan, or explain one "
            "beat (ecgkan explain RECORD --beat TIME_S --model ...)"
        )
    return head


@dataclass(frozen=True, slots=True)
class _Places:
    """Where what is written goes: into the folder, and beside the report."""

    folder: tuple[Path, ...]
    images: tuple[Path, ...]
    report: tuple[Path, ...]
    refined: Path
    pruned: Path

    @classmethod
    def of(
        cls, out: Path, stem: str, *, named: bool, refine: int | None, prune: float | None, report: Path | None
    ) -> "_Places":
        refined, pruned = out / f"{stem}-grid{refine}.pth", out / f"{stem}-pruned.pth"
        figures = FIGURES if named else FIGURES[:2]
        names = (*(f"{figure}.png" for figure in figures), "pruning.csv", "symbolic.csv", PAGE)
        models = [refined] * (refine is not None) + [pruned] * (prune is not None)
        folder = (*(out / name for name in names), *models)
        if report is None:
            return cls(folder, (), (), refined, pruned)
        endings = ("" if figure == "edges" else f"-{figure}" for figure in figures)
        images = tuple(report.parent / "images" / f"{report.stem}{ending}.png" for ending in endings)
        return cls(folder, images, (report,), refined, pruned)

    @property
    def all(self) -> list[Path]:
        """Everything that is written, in the order it is named to the user."""
        return [*self.folder, *self.images, *self.report]


def _check_intervals(head: KANHead, refine: int | None) -> None:
    intervals = head.kan1.grid.shape[-1] - 2 * head.kan1.spline_order - 1
    if refine is not None and refine < intervals:
        raise DataError(f"the model's grid has {intervals} intervals; --refine {refine} would make it coarser")


def _command(requested: str, out: Path, *, refine: int | None, prune: float | None, report: Path | None) -> str:
    words = ["ecgkan", "explain", requested, "--out", str(out)]
    options = {"--refine": refine, "--prune": prune, "--report": report}
    return shlex.join(
        words + [word for name, value in options.items() if value is not None for word in (name, f"{value}")]
    )


def _write(
    places: _Places,
    study: EdgeStudy,
    model: StudiedModel,
    checkpoint: Checkpoint,
    derived: Mapping[Path, tuple[KANHead, dict[str, Any]]],
    *,
    overwrite: bool,
) -> None:
    figures = [_png(figure) for figure in _figures(study, model)]
    page = page_text(study, model, Images(*(path.name for path in places.folder[: len(figures)])))
    contents = (*figures, pruning_csv(study).encode(), symbolic_csv(study).encode(), page.encode())
    with replacing_all(places.folder, overwrite=overwrite) as temporary:
        for path, content in zip(temporary, contents, strict=False):
            path.write_bytes(content)
        for path, place in zip(temporary, places.folder, strict=True):
            if place in derived:
                _save_derived(path, checkpoint, *derived[place])
    if not places.report:
        return
    with replacing_all(places.images, overwrite=overwrite) as temporary:
        for path, content in zip(temporary, figures, strict=True):
            path.write_bytes(content)
    links = Images(*(f"images/{path.name}" for path in places.images))
    with replacing_all(places.report, overwrite=overwrite) as temporary:
        temporary[0].write_text(page_text(study, model, links), encoding="utf-8")


def _save_derived(path: Path, checkpoint: Checkpoint, head: KANHead, how: Mapping[str, Any]) -> None:
    """Save a model with another head; it keeps its temperature, and says what it came from and how that was trained."""
    layer = head.kan1
    grid = {
        "grid_size": layer.grid.shape[-1] - 2 * layer.spline_order - 1,
        "grid_range": [float(layer.grid[0, layer.spline_order]), float(layer.grid[0, -layer.spline_order - 1])],
    }
    save_checkpoint(
        path,
        name=checkpoint.name,
        model=with_head(checkpoint.model, head),
        protocol=checkpoint.protocol,
        temperature=checkpoint.temperature,
        training={"derived_from": checkpoint.sha256, **how, "original": checkpoint.training},
        arguments=checkpoint.arguments | grid,
    )


def _figures(study: EdgeStudy, model: StudiedModel) -> "list[Figure]":
    """Draw the figures, in the order of `FIGURES`."""
    n_edges = study.pruning[0].edges
    title, beats, note = model.title, model.beats, "\n".join(model.notes)
    drawn = [
        edges_figure(study, title=f"{title}: the strongest edges for each class, {beats}", note=note),
        pruning_figure(study, title=f"{title}: how many of its {n_edges:,} edges it needs, {beats}", note=note),
    ]
    if study.inputs is not None:
        heading = f"{title}: the inputs worth most for each class, {beats}"
        drawn.append(inputs_figure(study.inputs, title=heading, note=note))
    return drawn


def _png(figure: "Figure") -> bytes:
    """Draw a figure as PNG with a palette, which takes a third of the space, and without software or date."""
    from PIL import Image

    drawn, stream = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    # Median cut would give a colour of few pixels, as of one thin line, to its neighbours.
    by = Image.Quantize.MAXCOVERAGE
    picture = Image.open(drawn).convert("RGB").quantize(128, by, dither=Image.Dither.NONE)
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
