"""Evidence: which samples of a beat, which features, and which learned edge functions moved a model's decision.

What is explained is a margin: the logit of one class minus the logit of its strongest rival, at a beat, compared with
the same margin for a baseline (`ecgkan.inference.seen_beat`): a flat line, or the patient's average beat in the
usual rhythm, if the model sees that. docs/evidence.md says how, and what it does not say.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beats import cut_beats
from ecgkan.data.blocks import Block, block_grid, make_block
from ecgkan.data.recording import read_annotations
from ecgkan.data.rpeaks import BlockDetector, reference_rpeaks
from ecgkan.errors import DataError
from ecgkan.inference.classifier import classify
from ecgkan.inference.seen_beat import (
    BeatInContext,
    SeenBeat,
    context_of,
    context_of_beat,
    sample_times_s,
    samples_of,
    see_in_context,
    see_window,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ecgkan.data.recording import SignalSource
    from ecgkan.inference.annotation import BeatAnnotations
    from ecgkan.models.checkpoint import Checkpoint, Classifier
    from ecgkan.models.kan import KANHead, KANLayer

STEPS: Final = 256
"""Points on the way from the baseline to the beat at which gradients are taken (middles of equal intervals)."""

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
    baseline_z, baseline_value : float
        The same for the baseline.
    contribution : float
        What the edge's change from the baseline to the beat adds to the margin, logits.
    curve_z, curve_value : ndarray
        `[121]` float64, the function over the layer's spline grid, and as far beyond as `z` and `baseline_z` lie.
    """

    input: int
    output: int
    z: float
    value: float
    baseline_z: float
    baseline_value: float
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
        `[out, in]` float64, logits: what each edge's change from the baseline to the beat adds to the margin. All of
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
    margin, baseline_margin : float
        Logit of `target` minus logit of `rival`, for the beat and for the baseline.
    baseline : str
        What the beat is compared with: "a flat line", or "the patient's average beat in the usual rhythm".
    window : ndarray
        `[n]` float64, mV: the beat as it was handed in, 256 samples, or 112 for a model for new patients.
    average : ndarray or None
        `[n]` float64, mV: the patient's average beat, where the model sees one.
    window_fs : float
        Sampling rate of the window, Hz.
    window_before : int
        Samples of it before the R peak.
    gradient_x_input : ndarray
        `[n]` float64: gradient of the margin at the beat as the model is given it, times its difference from the
        baseline (which is 0 for a flat line). What counts locally.
    integrated_gradients : ndarray
        `[n]` float64, logits: each sample's part of the change of the margin from the baseline to the beat. Positive
        speaks for `target`, negative for `rival`.
    context_attribution : ndarray
        `[c]` float64, logits: the parts of the columns `ecgkan.data.context.CONTEXT_FEATURES` in the same change;
        empty for a model of single beats.
    feature_names : tuple of str
        Of the head's inputs; "feature 0" and so on where the encoder found all of them.
    learned : int
        How many of the features, the first ones, the encoder found; the others have names that mean something.
    features, baseline_features : ndarray
        `[m]` float64, the head's input for the beat and for the baseline; those with names in their own units.
    feature_attribution : ndarray
        `[m]` float64, logits: the same change, divided among the features.
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
    baseline_margin: float
    baseline: str
    window: NDArray[np.float64]
    average: NDArray[np.float64] | None
    window_fs: float
    window_before: int
    gradient_x_input: NDArray[np.float64]
    integrated_gradients: NDArray[np.float64]
    context_attribution: NDArray[np.float64]
    feature_names: tuple[str, ...]
    learned: int
    features: NDArray[np.float64]
    baseline_features: NDArray[np.float64]
    feature_attribution: NDArray[np.float64]
    layers: tuple[LayerEvidence, ...] = ()
    record: str = ""
    lead: str = ""
    time_s: float | None = None

    @property
    def change(self) -> float:
        """Change of the margin from the baseline to the beat, which every attribution divides among its parts."""
        return self.margin - self.baseline_margin

    @property
    def sample_times_s(self) -> NDArray[np.float64]:
        """When the samples lie, seconds from the R peak: `[n]`."""
        return sample_times_s(self.window_fs, self.window_before, len(self.window))

    def strongest_features(self, most: int) -> NDArray[np.int64]:
        """Return the features with the largest attributions by absolute value, largest first: `[most]` int64."""
        return np.argsort(-np.abs(self.feature_attribution), kind="stable")[:most]

    def by_time(self, width_s: float = 0.1) -> list[tuple[float, float, float]]:
        """Return the integrated gradients summed over intervals: start and stop, s from the R peak, and logits."""
        times_s = self.sample_times_s
        edges = np.arange(np.floor(times_s[0] / width_s), np.ceil(times_s[-1] / width_s) + 1) * width_s
        sums = np.histogram(times_s, [-np.inf, *edges[1:-1], np.inf], weights=self.integrated_gradients)[0]
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), sums.tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; of the KAN layers the edges that matter most, without the rest."""
        names: tuple[str, ...] = (
            "record",
            "lead",
            "time_s",
            "model",
            "weights_sha256",
            "target",
            "rival",
            "margin",
            "baseline_margin",
        )
        names += ("baseline", "window_fs", "window_before", "learned")
        arrays: tuple[str, ...] = ("window", "gradient_x_input", "integrated_gradients", "context_attribution")
        arrays += ("features", "baseline_features", "feature_attribution")
        document: dict[str, Any] = {name: getattr(self, name) for name in names}
        document["logits"] = dict(zip(CLASSES, self.logits.tolist(), strict=True))
        document["probabilities"] = dict(zip(CLASSES, self.probabilities.tolist(), strict=True))
        document |= {name: getattr(self, name).tolist() for name in arrays}
        document["average"] = None if self.average is None else self.average.tolist()
        document["feature_names"] = list(self.feature_names)
        document["edges"] = {layer.name: [_edge_to_dict(edge) for edge in layer.edges] for layer in self.layers}
        return document


def explain_beat(
    model: "str | Path | Checkpoint | Classifier",
    beat: NDArray[np.floating] | BeatInContext,
    *,
    target: str | None = None,
) -> Evidence:
    """Say which samples, features and learned edge functions moved the decision about a beat.

    Parameters
    ----------
    model : str, path, Checkpoint or model
        A shipped model (`patient_kan`, `patient_mlp`, `cnn_kan`, `cnn_mlp`), a checkpoint file, or one already loaded.
    beat : ndarray or BeatInContext
        For a model of single beats a window `[256]`, mV, 360 Hz: 128 samples before the R peak and 128 from it on, as
        `cut_beats` gives them. For a model for new patients the beat in its context; `explain` makes it of a recording.
    target : str, optional
        The class to explain; by default the one the model gives the beat.

    Returns
    -------
    Evidence
        Samples, and the context where there is one: integrated gradients over 256 steps (Sundararajan, Taly and Yan
        2017) from the baseline; they add up to the change of the margin within about 1 %. The baseline is a flat line,
        which a window of zeros after the z-score is, or the patient's average beat in the usual rhythm. Features and
        hidden units: likewise between their values for the baseline and the beat, in float64.

    Raises
    ------
    DataError
        If the beat is not what the model takes, has another shape or missing samples, or `target` is no class.
    DataNotFoundError, CheckpointError
        If the model cannot be loaded.

    Examples
    --------
    >>> evidence = explain_beat("cnn_kan", window)  # doctest: +SKIP
    >>> evidence.integrated_gradients.argmax() - 128  # samples from the R peak  # doctest: +SKIP
    """
    import torch

    if target is not None and target not in CLASSES:
        raise DataError(f"no class {target!r} to explain; expected one of {' '.join(CLASSES)}")
    network, temperature, name, sha256 = _open_model(model)
    seen = _see(beat, network, name)
    head = _Head.of(network)
    with torch.no_grad():
        found, baseline = (network.get_features(*x).double() for x in (seen.inputs, seen.baseline))  # (1, m)
        logits, baseline_logits = head(found)[0], head(baseline)[0]
    compared = _compared_classes(logits, target)

    def margin(*x: "Tensor") -> "Tensor":
        logits: Tensor = network(*x)
        return logits @ compared.float()

    gradient = _mean_gradients(margin, seen.inputs, seen.inputs, steps=1)
    path_gradient = _mean_gradients(margin, seen.baseline, seen.inputs)
    (feature_gradient,) = _mean_gradients(lambda x: head(x) @ compared, (baseline,), (found,))
    local, integrated = (_times_difference(gradients, seen) for gradients in (gradient, path_gradient))
    return Evidence(
        model=name,
        weights_sha256=sha256,
        target=CLASSES[int(compared.argmax())],
        rival=CLASSES[int(compared.argmin())],
        logits=logits.numpy(),
        probabilities=(logits / temperature).softmax(0).numpy(),
        margin=float(compared @ logits),
        baseline_margin=float(compared @ baseline_logits),
        baseline=seen.baseline_name,
        window=seen.window,
        average=seen.average,
        window_fs=seen.fs,
        window_before=seen.before,
        gradient_x_input=samples_of(local).numpy(),
        integrated_gradients=samples_of(integrated).numpy(),
        context_attribution=context_of(integrated).numpy(),
        feature_names=_feature_names(network, found.shape[1]),
        learned=found.shape[1] - _named_features(network),
        features=_in_own_units(network, found)[0].numpy(),
        baseline_features=_in_own_units(network, baseline)[0].numpy(),
        feature_attribution=(feature_gradient * (found - baseline))[0].numpy(),
        layers=_explain_kan_layers(head, found, baseline, compared),
    )


def _times_difference(gradients: "Sequence[Tensor]", seen: SeenBeat) -> "tuple[Tensor, ...]":
    """Multiply gradients by how far the model's arguments for the beat are from those for the baseline."""
    return tuple(
        ((x - x0) * gradient).double() for x, x0, gradient in zip(seen.inputs, seen.baseline, gradients, strict=True)
    )


def explain(
    source: "SignalSource",
    annotations: "BeatAnnotations",
    beat_index: int,
    model: "str | Path | Checkpoint | Classifier",
    *,
    target: str | None = None,
) -> Evidence:
    """Explain a classified beat of a recording; see `explain_beat`.

    Parameters
    ----------
    source : SignalSource
        The recording. What lies around the beat is read of it, or for a model for new patients all from its start to
        some beats after this one: the average beat and the rhythm reach back.
    annotations : BeatAnnotations
        Its classified beats.
    beat_index : int
        Which of them.
    model : str, path, Checkpoint or model
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
    beat: NDArray[np.floating] | BeatInContext
    if _is_in_context(model):
        beat = context_of_beat(source, annotations, beat_index)
    else:
        beat = _window_at(source, source.lead_index(annotations.lead), sample)
    evidence = explain_beat(model, beat, target=target or str(annotations.classes[beat_index]))
    return replace(evidence, record=annotations.record, lead=annotations.lead, time_s=sample / annotations.fs)


def _is_in_context(model: "Checkpoint | Classifier") -> bool:
    from ecgkan.models.checkpoint import Checkpoint
    from ecgkan.models.patient import PatientClassifier

    return isinstance(model.model if isinstance(model, Checkpoint) else model, PatientClassifier)


def explain_to_file(
    path: str | Path,
    time_s: float,
    out: str | Path,
    *,
    model: "str | Path | Checkpoint" = "patient_kan",
    target: str | None = None,
    lead: str | None = None,
    annotator: str | None = None,
    fs: float | None = None,
    units: str | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Evidence:
    """Explain the beat of a recording nearest to a time, and write the figure.

    Parameters
    ----------
    path : path
        The recording. For a model of single beats only what lies around the beat is read of it; for one for new
        patients the recording is classified, since a beat's context reaches back to the start.
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
    progress : callable, optional
        Called with the share of the recording that is classified, where it has to be.

    Raises
    ------
    DataError
        If there is no beat near that time or it was not classified, or the figure's extension is unknown.
    EcgkanError
        Another of its children, if the recording or the model cannot be read, or the file not be written.
    """
    from ecgkan.data.recording import open_recording
    from ecgkan.inference.evidence_figure import evidence_figure
    from ecgkan.inference.figures import write_figure
    from ecgkan.inference.writing import refuse_existing
    from ecgkan.models.checkpoint import Checkpoint, load_checkpoint

    out = Path(out)
    if out.suffix.lower() not in FIGURE_SUFFIXES:
        raise DataError(f"cannot draw {out}: expected a name that ends in {', '.join(FIGURE_SUFFIXES)}")
    refuse_existing([out], overwrite=overwrite)
    checkpoint = model if isinstance(model, Checkpoint) else load_checkpoint(model)
    with open_recording(path, fs=fs, units=units) as source:
        rpeaks = None if annotator is None else reference_rpeaks(read_annotations(path, annotator))
        if _is_in_context(checkpoint):
            annotations = classify(source, checkpoint, lead=lead, rpeaks=rpeaks, progress=progress)
            index = _nearest_classified(source, annotations, time_s)
            evidence = explain(source, annotations, index, checkpoint, target=target)
        else:
            choice = source.choose_lead(lead)
            found = _detect_around(source, choice.index, time_s) if rpeaks is None else rpeaks
            sample = _nearest_beat(source, found, time_s)
            evidence = explain_beat(checkpoint, _window_at(source, choice.index, sample), target=target)
            evidence = replace(evidence, record=source.name, lead=choice.name, time_s=sample / source.fs)
    write_figure(evidence_figure(evidence), out, overwrite=overwrite)
    return evidence


def _nearest_classified(source: "SignalSource", annotations: "BeatAnnotations", time_s: float) -> int:
    """Return which classified beat is the nearest one to a time."""
    sample = _nearest_beat(source, np.sort(np.concatenate([annotations.samples, annotations.left_out])), time_s)
    index = int(np.searchsorted(annotations.samples, sample))
    if index == len(annotations) or annotations.samples[index] != sample:
        raise DataError(
            f"recording {source.name}: the beat at {sample / source.fs:.2f} s cannot be read well enough "
            f"(docs/quality.md) and was given no class by {annotations.model}; give the time of another beat"
        )
    return index


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


def _open_model(model: "str | Path | Checkpoint | Classifier") -> "tuple[Classifier, float, str, str]":
    """Return a copy of the model in eval mode and float32, with its temperature, name and checksum."""
    from ecgkan.models.checkpoint import ALL_MODELS, Checkpoint, load_checkpoint

    if isinstance(model, str | Path):
        model = load_checkpoint(model)
    if isinstance(model, Checkpoint):
        return _frozen_copy(model.model), model.temperature, model.name, model.sha256
    names: dict[type, str] = {kind: name for name, kind in ALL_MODELS.items()}
    return _frozen_copy(model), 1.0, names.get(type(model), type(model).__name__), ""


def _frozen_copy(model: "Classifier") -> "Classifier":
    return copy.deepcopy(model).float().eval().requires_grad_(False)


def _see(beat: NDArray[np.floating] | BeatInContext, network: "Classifier", name: str) -> SeenBeat:
    in_context = _is_in_context(network)
    if in_context and not isinstance(beat, BeatInContext):
        raise DataError(
            f"{name} looks at beats in their context, a window was given; explain a beat of a recording (explain), or "
            "give an ecgkan.inference.seen_beat.BeatInContext"
        )
    if not in_context and isinstance(beat, BeatInContext):
        raise DataError(f"{name} looks at single beats, a beat in context was given; give its window of 256 samples")
    return see_in_context(beat) if isinstance(beat, BeatInContext) else see_window(beat)


class _Head(NamedTuple):
    """A model's head in float64, which takes next to no time, with what the model adds to its logits."""

    forward: "Callable[[Tensor], Tensor]"
    kan: "KANHead | None"
    shift: "Tensor"

    @classmethod
    def of(cls, network: "Classifier") -> "_Head":
        import torch

        from ecgkan.models.kan import KANHead

        exact = copy.deepcopy(network).double()
        kan = getattr(exact, "kan_head", None)
        shift = getattr(exact, "class_shift", torch.zeros(len(CLASSES), dtype=torch.float64))
        return cls(exact.forward_head, kan if isinstance(kan, KANHead) else None, shift)

    def __call__(self, features: "Tensor") -> "Tensor":
        return self.forward(features) + self.shift


def _feature_names(network: "Classifier", n: int) -> tuple[str, ...]:
    from ecgkan.models.patient import FEATURES

    return FEATURES if _is_in_context(network) else tuple(f"feature {i}" for i in range(n))


def _named_features(network: "Classifier") -> int:
    from ecgkan.models.patient import FEATURES, SHAPE_FEATURES

    return len(FEATURES) - SHAPE_FEATURES if _is_in_context(network) else 0


def _in_own_units(network: "Classifier", features: "Tensor") -> "Tensor":
    from ecgkan.models.patient import PatientClassifier

    return network.in_own_units(features) if isinstance(network, PatientClassifier) else features


def _compared_classes(logits: "Tensor", target: str | None) -> "Tensor":
    """Return weights `[5]` that make the margin of logits: 1 for the target, -1 for its strongest rival, 0 else."""
    import torch

    chosen = int(logits.argmax()) if target is None else CLASSES.index(target)
    others = logits.clone()
    others[chosen] = -torch.inf
    compared = torch.zeros_like(logits)
    compared[chosen], compared[int(others.argmax())] = 1.0, -1.0
    return compared


def _mean_gradients(
    function: "Callable[..., Tensor]", starts: "Sequence[Tensor]", stops: "Sequence[Tensor]", steps: int = STEPS
) -> "tuple[Tensor, ...]":
    """Return the mean gradient of `function` on the straight line between two points, for each argument `[1, ...]`."""
    import torch

    points = []
    for start, stop in zip(starts, stops, strict=True):
        shares = ((torch.arange(steps, dtype=start.dtype) + 0.5) / steps).view(-1, *[1] * (start.ndim - 1))
        points.append((start + shares * (stop - start)).requires_grad_())
    gradients = torch.autograd.grad(function(*points).sum(), points)
    # Of two shapes that are equal, as a flat line's are, the length of the difference has no gradient.
    return tuple(gradient.nan_to_num(0.0).mean(0, keepdim=True) for gradient in gradients)


def _explain_kan_layers(
    head: _Head, features: "Tensor", baseline_features: "Tensor", compared: "Tensor"
) -> tuple[LayerEvidence, ...]:
    import torch

    if head.kan is None:
        return ()
    kan1, kan2 = head.kan.kan1, head.kan.kan2
    with torch.no_grad():
        hidden, baseline_hidden = kan1(features), kan1(baseline_features)
    # What a hidden unit counts for varies on the way from the baseline: the second layer is not linear.
    (weights,) = _mean_gradients(lambda x: kan2(x) @ compared, (baseline_hidden,), (hidden,))
    return (
        _explain_layer("kan1", kan1, features, baseline_features, weights[0]),
        _explain_layer("kan2", kan2, hidden, baseline_hidden, compared),
    )


def _explain_layer(name: str, layer: "KANLayer", x: "Tensor", baseline_x: "Tensor", weights: "Tensor") -> LayerEvidence:
    """Divide the change of the margin among a layer's edges; `weights` `[out]` say what each output counts for."""
    import torch

    with torch.no_grad():
        z, baseline_z = layer.normalize(x)[0], layer.normalize(baseline_x)[0]
        values, baseline_values = layer.edge_functions(z), layer.edge_functions(baseline_z)
        contributions = weights[:, None] * (values - baseline_values)
        strongest = contributions.abs().flatten().argsort(descending=True, stable=True)[:EDGES_KEPT].tolist()
        low = min(float(layer.grid[0, layer.spline_order]), float(z.min()), float(baseline_z.min()))
        high = max(float(layer.grid[0, -layer.spline_order - 1]), float(z.max()), float(baseline_z.max()))
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
                baseline_z=float(baseline_z[entry]),
                baseline_value=float(baseline_values[output, entry]),
                contribution=float(contributions[output, entry]),
                curve_z=curve_z.numpy(),
                curve_value=curves[:, output, entry].numpy().copy(),
            )
        )
    return LayerEvidence(name, z.numpy(), values.numpy(), contributions.numpy(), tuple(edges))


def _edge_to_dict(edge: EdgeEvidence) -> dict[str, Any]:
    values = {name: getattr(edge, name) for name in EdgeEvidence.__slots__}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
