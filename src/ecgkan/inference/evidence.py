"""Evidence: which samples of a beat, which features, and which learned edge functions moved a model's decision.

What is explained is a margin: the logit of one class minus the logit of its strongest rival, at a beat, compared with
the same margin for a flat line. docs/evidence.md says how, and what it does not say.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE, cut_beats, normalize_windows
from ecgkan.data.blocks import Block, block_grid, make_block
from ecgkan.data.recording import read_annotations
from ecgkan.data.rpeaks import BlockDetector, reference_rpeaks
from ecgkan.errors import DataError
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.evaluation.plots import CLASS_COLOURS
from ecgkan.inference.annotation import CLASS_NAMES
from ecgkan.inference.figures import GREY, PAPER, TRACE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from ecgkan.data.recording import SignalSource
    from ecgkan.inference.annotation import BeatAnnotations
    from ecgkan.models.checkpoint import Checkpoint
    from ecgkan.models.cnn import BeatClassifier
    from ecgkan.models.kan import KANLayer

STEPS: Final = 256
"""Points on the way from the flat line to the beat at which gradients are taken (middles of equal intervals)."""

EDGES_KEPT: Final = 12
"""Edges of each KAN layer that are kept with their learned function."""

NEAR_S: Final = 0.5
"""How far from the time asked for the beat may lie."""

FIGURE_SUFFIXES: Final = (".png", ".pdf", ".svg")

_CURVE_POINTS: Final = 121


@dataclass(frozen=True, slots=True, eq=False)
class EdgeEvidence:
    """One edge of a KAN layer: a learned function of one normalized input, added to one output.

    Attributes
    ----------
    input, output : int
        Which input of the layer, and which output.
    z, value : float
        The normalized input at the beat, and what the edge adds to the output there.
    flat_z, flat_value : float
        The same for a flat line.
    contribution : float
        What the edge's change from the flat line to the beat adds to the margin, logits.
    curve_z, curve_value : ndarray
        `[121]` float64, the function over the layer's spline grid, and as far beyond as `z` and `flat_z` lie.
    """

    input: int
    output: int
    z: float
    value: float
    flat_z: float
    flat_value: float
    contribution: float
    curve_z: NDArray[np.float64]
    curve_value: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LayerEvidence:
    """What the edges of a KAN layer say at a beat.

    Attributes
    ----------
    name : str
        "kan1" (features → hidden units) or "kan2" (hidden units → logits).
    z : ndarray
        `[in]` float64, normalized inputs.
    values : ndarray
        `[out, in]` float64: base_weight · SiLU(z) + spline(z) of each edge; a row sums to the layer's output.
    contributions : ndarray
        `[out, in]` float64, logits: what each edge's change from the flat line to the beat adds to the margin. All of
        them sum to the change of the margin.
    edges : tuple of EdgeEvidence
        The edges with the largest contributions by absolute value, largest first.
    """

    name: str
    z: NDArray[np.float64]
    values: NDArray[np.float64]
    contributions: NDArray[np.float64]
    edges: tuple[EdgeEvidence, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What moved a model's decision about one beat.

    Attributes
    ----------
    model : str
        Name of the model.
    weights_sha256 : str
        SHA-256 of its checkpoint file; empty for a model that came from no file.
    target : str
        The class that is explained, by default the model's own.
    rival : str
        Of the other classes the one with the highest logit.
    logits, probabilities : ndarray
        `[5]` float64, in the order N S V F Q; probabilities calibrated as far as the checkpoint carries a temperature.
    margin, flat_margin : float
        Logit of `target` minus logit of `rival`, for the beat and for a flat line.
    window : ndarray
        `[256]` float64, mV, 360 Hz: the beat as it was handed in.
    gradient_x_input : ndarray
        `[256]` float64: gradient of the margin at the z-scored beat, times the z-scored beat. What counts locally.
    integrated_gradients : ndarray
        `[256]` float64, logits: each sample's part of the change of the margin from the flat line to the beat. Positive
        speaks for `target`, negative for `rival`.
    features : ndarray
        `[256]` float64, the encoder's output.
    feature_attribution : ndarray
        `[256]` float64, logits: the same change, divided among the features.
    layers : tuple of LayerEvidence
        Of the two KAN layers; empty for the MLP head.
    record : str
        Record name; empty if only a window was handed in.
    lead : str
        Lead name, likewise.
    time_s : float or None
        R peak in seconds from the start of the recording, if known.
    """

    model: str
    weights_sha256: str
    target: str
    rival: str
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    margin: float
    flat_margin: float
    window: NDArray[np.float64]
    gradient_x_input: NDArray[np.float64]
    integrated_gradients: NDArray[np.float64]
    features: NDArray[np.float64]
    feature_attribution: NDArray[np.float64]
    layers: tuple[LayerEvidence, ...] = ()
    record: str = ""
    lead: str = ""
    time_s: float | None = None

    @property
    def change(self) -> float:
        """Change of the margin from the flat line to the beat, which every attribution divides among its parts."""
        return self.margin - self.flat_margin

    def by_time(self, width_s: float = 0.1) -> list[tuple[float, float, float]]:
        """Return the integrated gradients summed over intervals: start and stop, s from the R peak, and logits."""
        edges = np.arange(round(-BEFORE / BEAT_FS / width_s), round(AFTER / BEAT_FS / width_s) + 1) * width_s
        sums = np.histogram(_TIME_S, [-np.inf, *edges[1:-1], np.inf], weights=self.integrated_gradients)[0]
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), sums.tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; of the KAN layers the edges that matter most, without the rest."""
        names = ("record", "lead", "time_s", "model", "weights_sha256", "target", "rival", "margin", "flat_margin")
        arrays = ("window", "gradient_x_input", "integrated_gradients", "features", "feature_attribution")
        document: dict[str, Any] = {name: getattr(self, name) for name in names}
        document["logits"] = dict(zip(CLASSES, self.logits.tolist(), strict=True))
        document["probabilities"] = dict(zip(CLASSES, self.probabilities.tolist(), strict=True))
        document |= {name: getattr(self, name).tolist() for name in arrays}
        document["edges"] = {layer.name: [_edge_to_dict(edge) for edge in layer.edges] for layer in self.layers}
        return document


def explain_beat(
    model: "str | Path | Checkpoint | BeatClassifier", window: NDArray[np.floating], *, target: str | None = None
) -> Evidence:
    """Say which samples, features and learned edge functions moved the decision about a beat.

    Parameters
    ----------
    model : str, path, Checkpoint or BeatClassifier
        A shipped model (`cnn_kan`, `cnn_mlp`), a checkpoint file, or one already loaded.
    window : ndarray
        `[256]`, mV, 360 Hz: 128 samples before the R peak and 128 from it on, as `cut_beats` gives them.
    target : str, optional
        The class to explain; by default the one the model gives the beat.

    Returns
    -------
    Evidence
        Samples: integrated gradients over 256 steps (Sundararajan, Taly and Yan 2017) from a window of zeros after
        the z-score, which is a flat line; they add up to the change of the margin within about 1 %. Features and
        hidden units: likewise between their values for the flat line and the beat, in float64.

    Raises
    ------
    DataError
        If the window has another shape or missing samples, or `target` is no class.
    DataNotFoundError, CheckpointError
        If the model cannot be loaded.

    Examples
    --------
    >>> evidence = explain_beat("cnn_kan", window)  # doctest: +SKIP
    >>> evidence.integrated_gradients.argmax() - 128  # samples from the R peak  # doctest: +SKIP
    """
    import torch

    _check_window(window, target)
    network, temperature, name, sha256 = _open_model(model)
    exact = copy.deepcopy(network).double()  # for the head, which takes next to no time
    beat = torch.from_numpy(normalize_windows(np.asarray(window)[None]))[:, None]  # (1, 1, 256)
    flat = torch.zeros_like(beat)
    with torch.no_grad():
        features, flat_features = network.get_features(beat).double(), network.get_features(flat).double()  # (1, 256)
        logits, flat_logits = exact.forward_head(features)[0], exact.forward_head(flat_features)[0]
    compared = _compared_classes(logits, target)

    gradient = _mean_gradient(lambda x: network(x) @ compared.float(), beat, beat, steps=1)
    path_gradient = _mean_gradient(lambda x: network(x) @ compared.float(), flat, beat)
    feature_gradient = _mean_gradient(lambda x: exact.forward_head(x) @ compared, flat_features, features)
    return Evidence(
        model=name,
        weights_sha256=sha256,
        target=CLASSES[int(compared.argmax())],
        rival=CLASSES[int(compared.argmin())],
        logits=logits.numpy(),
        probabilities=(logits / temperature).softmax(0).numpy(),
        margin=float(compared @ logits),
        flat_margin=float(compared @ flat_logits),
        window=np.array(window, dtype=np.float64),
        gradient_x_input=(gradient * beat).double().flatten().numpy(),
        integrated_gradients=(path_gradient * beat).double().flatten().numpy(),
        features=features.flatten().numpy(),
        feature_attribution=(feature_gradient * (features - flat_features)).flatten().numpy(),
        layers=_explain_kan_layers(exact, features, flat_features, compared),
    )


def explain(
    source: "SignalSource",
    annotations: "BeatAnnotations",
    beat_index: int,
    model: "str | Path | Checkpoint | BeatClassifier",
    *,
    target: str | None = None,
) -> Evidence:
    """Explain a classified beat of a recording; see `explain_beat`.

    Parameters
    ----------
    source : SignalSource
        The recording; what lies around the beat is read of it.
    annotations : BeatAnnotations
        Its classified beats.
    beat_index : int
        Which of them.
    model : str, path, Checkpoint or BeatClassifier
        The model that classified them.
    target : str, optional
        The class to explain; by default the one the beat was given.

    Raises
    ------
    DataError
        If there is no such beat, or the beats are another model's or another lead's.
    """
    from ecgkan.models.checkpoint import Checkpoint, load_checkpoint

    if not 0 <= beat_index < len(annotations):
        raise DataError(f"record {annotations.record} has no beat {beat_index}; it has {len(annotations)}, from 0")
    if isinstance(model, str | Path):
        model = load_checkpoint(model)
    sha256 = model.sha256 if isinstance(model, Checkpoint) else ""
    if sha256 and annotations.weights_sha256 not in ("", sha256):
        raise DataError(
            f"the beats of record {annotations.record} were classified by weights {annotations.weights_sha256[:8]}, "
            f"these are {sha256[:8]}; explain them with the model that classified them"
        )
    sample = int(annotations.samples[beat_index])
    window = _window_at(source, source.lead_index(annotations.lead), sample)
    evidence = explain_beat(model, window, target=target or str(annotations.classes[beat_index]))
    return replace(evidence, record=annotations.record, lead=annotations.lead, time_s=sample / annotations.fs)


def explain_to_file(
    path: str | Path,
    time_s: float,
    out: str | Path,
    *,
    model: "str | Path | Checkpoint" = "cnn_kan",
    target: str | None = None,
    lead: str | None = None,
    annotator: str | None = None,
    fs: float | None = None,
    units: str | None = None,
    overwrite: bool = False,
) -> Evidence:
    """Explain the beat of a recording nearest to a time, and write the figure.

    Parameters
    ----------
    path : path
        The recording. Only what lies around the beat is read of it.
    time_s : float
        Seconds from the start of the recording; the beat's R peak must lie within half a second.
    out : path
        Figure to write; its extension says how (`.png`, `.pdf`, `.svg`).
    model : str, path or Checkpoint
        See `explain_beat`.
    target : str, optional
        The class to explain; by default the one the model gives the beat.
    lead, annotator, fs, units
        See `ecgkan.inference.classifier.classify`.
    overwrite : bool
        Write over what is there.

    Raises
    ------
    DataError
        If there is no beat near that time, or the figure's extension is unknown.
    EcgkanError
        Another of its children, if the recording or the model cannot be read, or the file not be written.
    """
    from ecgkan.data.recording import open_recording
    from ecgkan.inference.figures import write_figure
    from ecgkan.inference.writing import refuse_existing

    out = Path(out)
    if out.suffix.lower() not in FIGURE_SUFFIXES:
        raise DataError(f"cannot draw {out}: expected a name that ends in {', '.join(FIGURE_SUFFIXES)}")
    refuse_existing([out], overwrite=overwrite)
    with open_recording(path, fs=fs, units=units) as source:
        choice = source.choose_lead(lead)
        if annotator is None:
            rpeaks = _detect_around(source, choice.index, time_s)
        else:
            rpeaks = reference_rpeaks(read_annotations(path, annotator))
        sample = _nearest_beat(source, rpeaks, time_s)
        evidence = explain_beat(model, _window_at(source, choice.index, sample), target=target)
        evidence = replace(evidence, record=source.name, lead=choice.name, time_s=sample / source.fs)
    write_figure(evidence_figure(evidence), out, overwrite=overwrite)
    return evidence


def _window_at(source: "SignalSource", column: int, sample: int) -> NDArray[np.float64]:
    """Return the very window `[256]` that the model is given of a beat when the recording is classified."""
    block = _block_at(source, column, sample // block_grid(source.n_samples, source.fs).core)
    beats = cut_beats(block.at_360, block.positions_at_360(np.array([sample])), edges="pad")
    return np.asarray(beats.windows[0], dtype=np.float64)


def _block_at(source: "SignalSource", column: int, k: int) -> Block:
    grid = block_grid(source.n_samples, source.fs)
    start, stop = grid.block_of(k)
    return make_block(source.read(start, stop, [column])[:, 0], source.fs, start, grid.core_of(k))


def _detect_around(source: "SignalSource", column: int, time_s: float) -> NDArray[np.int64]:
    """Detect the R peaks of the block at a time and of its neighbours."""
    grid = block_grid(source.n_samples, source.fs)
    middle = int(np.clip(time_s * source.fs // grid.core, 0, len(grid) - 1))
    detector = BlockDetector()
    blocks = range(max(middle - 1, 0), min(middle + 2, len(grid)))
    return np.concatenate([detector.detect(_block_at(source, column, k)).core for k in blocks])


def _nearest_beat(source: "SignalSource", rpeaks: NDArray[np.int64], time_s: float) -> int:
    times_s = rpeaks / source.fs
    nearest = int(np.abs(times_s - time_s).argmin()) if len(rpeaks) else None
    if nearest is None or abs(times_s[nearest] - time_s) > NEAR_S:
        hint = "there is none near" if nearest is None else f"the nearest is at {times_s[nearest]:.2f} s"
        raise DataError(
            f"recording {source.name}, which lasts {source.duration_s:.2f} s, has no beat within {NEAR_S:g} s of "
            f"{time_s:g} s; {hint}"
        )
    return int(rpeaks[nearest])


def _check_window(window: NDArray[np.floating], target: str | None) -> None:
    if np.shape(window) != (BEFORE + AFTER,):
        raise DataError(f"expected one window of shape [{BEFORE + AFTER}] in mV, got {list(np.shape(window))}")
    if not np.isfinite(window).all():
        raise DataError("the window has missing samples (NaN); fill them first (ecgkan.data.missing.fill_missing)")
    if target is not None and target not in CLASSES:
        raise DataError(f"no class {target!r} to explain; expected one of {' '.join(CLASSES)}")


def _open_model(model: "str | Path | Checkpoint | BeatClassifier") -> "tuple[BeatClassifier, float, str, str]":
    """Return a copy of the model in eval mode and float32, with its temperature, name and checksum."""
    from ecgkan.models.checkpoint import MODELS, Checkpoint, load_checkpoint
    from ecgkan.models.cnn import BeatClassifier

    if isinstance(model, BeatClassifier):
        name = {kind: name for name, kind in MODELS.items()}.get(type(model), type(model).__name__)
        return _frozen_copy(model), 1.0, name, ""
    checkpoint = model if isinstance(model, Checkpoint) else load_checkpoint(model)
    return _frozen_copy(checkpoint.beat_model), checkpoint.temperature, checkpoint.name, checkpoint.sha256


def _frozen_copy(model: "BeatClassifier") -> "BeatClassifier":
    return copy.deepcopy(model).float().eval().requires_grad_(False)


def _compared_classes(logits: "Tensor", target: str | None) -> "Tensor":
    """Return weights `[5]` that make the margin of logits: 1 for the target, -1 for its strongest rival, 0 else."""
    import torch

    chosen = int(logits.argmax()) if target is None else CLASSES.index(target)
    others = logits.clone()
    others[chosen] = -torch.inf
    compared = torch.zeros_like(logits)
    compared[chosen], compared[int(others.argmax())] = 1.0, -1.0
    return compared


def _mean_gradient(
    function: "Callable[[Tensor], Tensor]", start: "Tensor", stop: "Tensor", steps: int = STEPS
) -> "Tensor":
    """Return the mean gradient of `function` on the straight line between two points `[1, ...]`, shape `[1, ...]`."""
    import torch

    shares = (torch.arange(steps, dtype=start.dtype) + 0.5) / steps
    points = (start + shares.view(-1, *[1] * (start.ndim - 1)) * (stop - start)).requires_grad_()
    (gradients,) = torch.autograd.grad(function(points).sum(), points)
    return gradients.mean(0, keepdim=True)


def _explain_kan_layers(
    network: "BeatClassifier", features: "Tensor", flat_features: "Tensor", compared: "Tensor"
) -> tuple[LayerEvidence, ...]:
    import torch

    from ecgkan.models.cnn_kan import ECGCNNWithKAN

    if not isinstance(network, ECGCNNWithKAN):
        return ()
    head = network.kan_head
    with torch.no_grad():
        hidden, flat_hidden = head.kan1(features), head.kan1(flat_features)
    # What a hidden unit counts for varies on the way from the flat line: the second layer is not linear.
    weights = _mean_gradient(lambda x: head.kan2(x) @ compared, flat_hidden, hidden)[0]
    return (
        _explain_layer("kan1", head.kan1, features, flat_features, weights),
        _explain_layer("kan2", head.kan2, hidden, flat_hidden, compared),
    )


def _explain_layer(name: str, layer: "KANLayer", x: "Tensor", flat_x: "Tensor", weights: "Tensor") -> LayerEvidence:
    """Divide the change of the margin among a layer's edges; `weights` `[out]` say what each output counts for."""
    import torch

    with torch.no_grad():
        z, flat_z = layer.normalize(x)[0], layer.normalize(flat_x)[0]
        values, flat_values = layer.edge_functions(z), layer.edge_functions(flat_z)
        contributions = weights[:, None] * (values - flat_values)
        strongest = contributions.abs().flatten().argsort(descending=True, stable=True)[:EDGES_KEPT].tolist()
        low = min(float(layer.grid[0, layer.spline_order]), float(z.min()), float(flat_z.min()))
        high = max(float(layer.grid[0, -layer.spline_order - 1]), float(z.max()), float(flat_z.max()))
        curve_z = torch.linspace(low, high, _CURVE_POINTS, dtype=z.dtype)
        curves = layer.edge_functions(curve_z[:, None].expand(-1, layer.in_features))  # (121, out, in)
    edges = []
    for output, entry in (divmod(edge, layer.in_features) for edge in strongest):
        edges.append(
            EdgeEvidence(
                input=entry,
                output=output,
                z=float(z[entry]),
                value=float(values[output, entry]),
                flat_z=float(flat_z[entry]),
                flat_value=float(flat_values[output, entry]),
                contribution=float(contributions[output, entry]),
                curve_z=curve_z.numpy(),
                curve_value=curves[:, output, entry].numpy().copy(),
            )
        )
    return LayerEvidence(name, z.numpy(), values.numpy(), contributions.numpy(), tuple(edges))


def _edge_to_dict(edge: EdgeEvidence) -> dict[str, Any]:
    values = {name: getattr(edge, name) for name in EdgeEvidence.__slots__}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def evidence_figure(evidence: Evidence) -> "Figure":
    """Draw the evidence: the beat coloured by what each sample says, the strongest features, and learned functions.

    The colour of the class that is explained marks what speaks for it, its rival's what speaks against it. For the KAN
    head, four edges of each layer are shown: the learned function over its grid, where the beat lies on it (dot), and
    where a flat line would (ring).
    """
    from matplotlib.figure import Figure

    rows = 2 if evidence.layers else 1
    figure = Figure(figsize=(11.0, 4.6 + 3.3 * (rows - 1)), facecolor="white")
    height = figure.get_figheight()
    figure.text(0.055, 1 - 0.28 / height, _title(evidence), fontsize=12, weight="bold", va="center")
    figure.text(0.055, 1 - 0.56 / height, _subtitle(evidence), fontsize=8.5, color=GREY, va="center")
    top, bottom = 1 - 0.85 / height, 1 - 4.05 / height
    upper = figure.add_gridspec(
        2, 1, height_ratios=(2.1, 1), hspace=0.08, left=0.055, right=0.64, top=top, bottom=bottom
    )
    beat_axes = figure.add_subplot(upper[0])
    _draw_beat(beat_axes, evidence)
    _draw_samples(figure.add_subplot(upper[1], sharex=beat_axes), evidence)
    features = figure.add_gridspec(1, 1, left=0.72, right=0.985, top=top, bottom=bottom)
    _draw_features(figure.add_subplot(features[0]), evidence)
    if evidence.layers:
        caption = "Learned functions that moved the margin most, by how many logits. Dot: this beat; ring: a flat line."
        figure.text(0.055, 1 - 4.57 / height, caption, fontsize=8.5, color=GREY, va="center")
        lower = figure.add_gridspec(
            2, 4, left=0.055, right=0.985, top=1 - 4.98 / height, bottom=0.5 / height, hspace=0.62, wspace=0.28
        )
        for row, layer in enumerate(reversed(evidence.layers)):
            for column, edge in enumerate(layer.edges[:4]):
                _draw_edge(figure.add_subplot(lower[row, column]), evidence, layer, edge)
    return figure


def _title(evidence: Evidence) -> str:
    place = [f"record {evidence.record}"] if evidence.record else []
    place += [f"{evidence.time_s:.2f} s"] if evidence.time_s is not None else []
    target, rival = (f"{letter} ({CLASS_NAMES[letter]})" for letter in (evidence.target, evidence.rival))
    title = f"{', '.join(place)}: why {target} rather than {rival}" if place else f"why {target} rather than {rival}"
    return title[0].upper() + title[1:]


def _subtitle(evidence: Evidence) -> str:
    chances = ", ".join(
        f"{letter} {evidence.probabilities[CLASSES.index(letter)]:.3f}" for letter in (evidence.target, evidence.rival)
    )
    lead = f" · lead {evidence.lead}" if evidence.lead else ""
    return (
        f"{MODEL_TITLES.get(evidence.model, evidence.model)}{lead} · probability {chances} · "
        f"margin {_signed(evidence.margin)} logits, {_signed(evidence.flat_margin)} for a flat line"
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _colour(evidence: Evidence, value: float) -> str:
    return CLASS_COLOURS[evidence.target if value >= 0 else evidence.rival]


def _plain_axes(axes: "Axes") -> None:
    axes.tick_params(labelsize=7.5, length=2, color=GREY, labelcolor=GREY)
    for name, spine in axes.spines.items():
        spine.set(color="#C8C8C8", linewidth=0.7, visible=name in ("left", "bottom"))


_TIME_S: Final = (np.arange(BEFORE + AFTER) - BEFORE) / BEAT_FS


def _draw_beat(axes: "Axes", evidence: Evidence) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgb

    weights = _smoothed(evidence.integrated_gradients)
    strength = np.abs(weights) / max(np.abs(weights).max(), 1e-12)
    base = np.array(to_rgb("#B5B5B5"))
    colours = [
        (1 - amount) * base + amount * np.array(to_rgb(_colour(evidence, weight)))
        for weight, amount in zip(weights, np.sqrt(strength), strict=True)
    ]
    points = np.column_stack([_TIME_S, evidence.window])
    middles = (points[1:] + points[:-1]) / 2
    ends = np.concatenate([points[:1], middles, points[-1:]])
    pieces = [np.stack([ends[i], points[i], ends[i + 1]]) for i in range(len(points))]
    axes.add_collection(
        LineCollection(pieces, colors=colours, linewidths=1.2 + 2.6 * strength, capstyle="round", joinstyle="round")
    )
    low, high = float(evidence.window.min()), float(evidence.window.max())
    margin = 0.08 * max(high - low, 0.2)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(_TIME_S[0], _TIME_S[-1])
    axes.set_facecolor(PAPER)
    axes.set_ylabel("mV", fontsize=8)
    axes.tick_params(labelbottom=False)
    _plain_axes(axes)
    for y, letter in ((0.95, evidence.target), (0.86, evidence.rival)):
        style: dict[str, Any] = {"fontsize": 8.5, "weight": "bold", "ha": "right", "va": "top"}
        axes.text(0.985, y, f"speaks for {letter}", transform=axes.transAxes, color=CLASS_COLOURS[letter], **style)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth attributions for the eye, by a Gaussian of 4 samples (11 ms): raw, their sign flips between neighbours."""
    kernel = np.exp(-0.5 * (np.arange(-12, 13) / 4.0) ** 2)
    return np.convolve(values, kernel / kernel.sum(), mode="same")


def _draw_samples(axes: "Axes", evidence: Evidence) -> None:
    weights = evidence.integrated_gradients
    for letter, part in ((evidence.target, weights.clip(min=0)), (evidence.rival, weights.clip(max=0))):
        axes.fill_between(_TIME_S, part, step="mid", color=CLASS_COLOURS[letter], alpha=0.85, lw=0)
    axes.axhline(0, color=GREY, lw=0.6)
    axes.set_ylabel("logits", fontsize=8)
    axes.set_xlabel("s from the R peak", fontsize=8)
    _plain_axes(axes)


def _draw_features(axes: "Axes", evidence: Evidence, most: int = 14) -> None:
    from matplotlib.ticker import MaxNLocator

    order = np.argsort(-np.abs(evidence.feature_attribution), kind="stable")[:most]
    values = evidence.feature_attribution[order]
    places = np.arange(len(order))[::-1]
    axes.barh(places, values, color=[_colour(evidence, value) for value in values], height=0.72)
    axes.axvline(0, color=GREY, lw=0.6)
    axes.set_yticks(places, [str(i) for i in order])
    axes.set_xlabel("logits", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    share = np.abs(values).sum() / max(np.abs(evidence.feature_attribution).sum(), 1e-12)
    axes.set_title(
        f"The strongest of 256 features, {100 * share:.0f} % of the weight", fontsize=8.5, loc="left", color=TRACE
    )
    _plain_axes(axes)


def _draw_edge(axes: "Axes", evidence: Evidence, layer: LayerEvidence, edge: EdgeEvidence) -> None:
    colour = _colour(evidence, edge.contribution)
    names = ("feature", "hidden") if layer.name == "kan1" else ("hidden", "class")
    output = CLASSES[edge.output] if layer.name == "kan2" else f"{edge.output}"
    axes.axhline(0, color="#DDDDDD", lw=0.6, zorder=0)
    axes.plot(edge.curve_z, edge.curve_value, color=TRACE, lw=1.2)
    axes.plot(edge.flat_z, edge.flat_value, "o", ms=5, mfc="white", mec=GREY, mew=1.0)
    axes.plot(edge.z, edge.value, "o", ms=6.5, color=colour)
    axes.set_title(f"{names[0]} {edge.input} → {names[1]} {output}", fontsize=8.5, loc="left", color=TRACE)
    axes.set_title(_signed(edge.contribution), fontsize=8.5, loc="right", color=colour, weight="bold")
    axes.margins(x=0.02, y=0.12)
    axes.set_xlabel("normalized input", fontsize=7.5, labelpad=1)
    _plain_axes(axes)
