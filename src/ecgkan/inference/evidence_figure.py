"""The evidence about a beat as a figure; see `ecgkan.inference.evidence`."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.evaluation.plots import CLASS_COLOURS
from ecgkan.inference.annotation import CLASS_NAMES
from ecgkan.inference.evidence import EdgeEvidence, Evidence, LayerEvidence
from ecgkan.inference.figures import GREY, PAPER, TRACE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def evidence_figure(evidence: Evidence) -> "Figure":
    """Draw the evidence: the beat coloured by what each sample says, the strongest features, and learned functions.

    The colour of the class that is explained marks what speaks for it, its rival's what speaks against it. For the KAN
    head, four edges of each layer are shown: the learned function over its grid, where the beat lies on it (dot), and
    where the baseline does (ring). Where the model sees the patient's average beat, that is drawn as well.
    """
    from matplotlib.figure import Figure

    rows = 2 if evidence.layers else 1
    figure = Figure(figsize=(11.0, 4.6 + 3.3 * (rows - 1)), facecolor="white")
    height = figure.get_figheight()
    figure.text(0.055, 1 - 0.28 / height, _title(evidence), fontsize=12, weight="bold", va="center")
    figure.text(0.055, 1 - 0.56 / height, _subtitle(evidence), fontsize=8.5, color=GREY, va="center")
    top, bottom = 1 - 0.85 / height, 1 - 4.05 / height
    # Features that have names need room for them.
    beat_right, features_left = (0.64, 0.72) if evidence.average is None else (0.58, 0.78)
    upper = figure.add_gridspec(
        2, 1, height_ratios=(2.1, 1), hspace=0.08, left=0.055, right=beat_right, top=top, bottom=bottom
    )
    beat_axes = figure.add_subplot(upper[0])
    _draw_beat(beat_axes, evidence)
    _draw_samples(figure.add_subplot(upper[1], sharex=beat_axes), evidence)
    features = figure.add_gridspec(1, 1, left=features_left, right=0.985, top=top, bottom=bottom)
    _draw_features(figure.add_subplot(features[0]), evidence)
    if evidence.layers:
        caption = (
            "Learned functions that moved the margin most, by how many logits. "
            f"Dot: this beat; ring: {evidence.baseline}."
        )
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
        f"margin {_signed(evidence.margin)} logits, {_signed(evidence.baseline_margin)} for {evidence.baseline}"
    )


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")  # no minus before 0.00


def _colour(evidence: Evidence, value: float) -> str:
    return CLASS_COLOURS[evidence.target if value >= 0 else evidence.rival]


def _plain_axes(axes: "Axes") -> None:
    axes.tick_params(labelsize=7.5, length=2, color=GREY, labelcolor=GREY)
    for name, spine in axes.spines.items():
        spine.set(color="#C8C8C8", linewidth=0.7, visible=name in ("left", "bottom"))


def _draw_beat(axes: "Axes", evidence: Evidence) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgb

    times_s = evidence.sample_times_s
    weights = _smoothed(evidence.integrated_gradients, evidence.window_fs)
    strength = np.abs(weights) / max(np.abs(weights).max(), 1e-12)
    base = np.array(to_rgb("#B5B5B5"))
    colours = [
        (1 - amount) * base + amount * np.array(to_rgb(_colour(evidence, weight)))
        for weight, amount in zip(weights, np.sqrt(strength), strict=True)
    ]
    points = np.column_stack([times_s, evidence.window])
    middles = (points[1:] + points[:-1]) / 2
    ends = np.concatenate([points[:1], middles, points[-1:]])
    pieces = [np.stack([ends[i], points[i], ends[i + 1]]) for i in range(len(points))]
    axes.add_collection(
        LineCollection(pieces, colors=colours, linewidths=1.2 + 2.6 * strength, capstyle="round", joinstyle="round")
    )
    drawn = [evidence.window]
    if evidence.average is not None:
        drawn.append(evidence.average)
        axes.plot(times_s, evidence.average, color=TRACE, lw=0.9, ls=(0, (4, 2)), zorder=1.5)
        style: dict[str, Any] = {"fontsize": 8.5, "ha": "right", "va": "top", "color": TRACE}
        axes.text(0.985, 0.77, "dashed: average beat", transform=axes.transAxes, **style)
    low, high = min(float(each.min()) for each in drawn), max(float(each.max()) for each in drawn)
    margin = 0.08 * max(high - low, 0.2)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(times_s[0], times_s[-1])
    axes.set_facecolor(PAPER)
    axes.set_ylabel("mV", fontsize=8)
    axes.tick_params(labelbottom=False)
    _plain_axes(axes)
    for y, letter in ((0.95, evidence.target), (0.86, evidence.rival)):
        style = {"fontsize": 8.5, "weight": "bold", "ha": "right", "va": "top", "color": CLASS_COLOURS[letter]}
        axes.text(0.985, y, f"speaks for {letter}", transform=axes.transAxes, **style)


def _smoothed(values: NDArray[np.float64], fs: float) -> NDArray[np.float64]:
    """Smooth attributions for the eye, by a Gaussian of 11 ms: raw, their sign flips between neighbours."""
    width = 4.0 * fs / 360.0
    reach = round(3 * width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.convolve(values, kernel / kernel.sum(), mode="same")


def _draw_samples(axes: "Axes", evidence: Evidence) -> None:
    weights = evidence.integrated_gradients
    for letter, part in ((evidence.target, weights.clip(min=0)), (evidence.rival, weights.clip(max=0))):
        axes.fill_between(evidence.sample_times_s, part, step="mid", color=CLASS_COLOURS[letter], alpha=0.85, lw=0)
    axes.axhline(0, color=GREY, lw=0.6)
    axes.set_ylabel("logits", fontsize=8)
    axes.set_xlabel("s from the R peak", fontsize=8)
    _plain_axes(axes)


def _draw_features(axes: "Axes", evidence: Evidence, most: int = 14) -> None:
    from matplotlib.ticker import MaxNLocator

    order = evidence.strongest_features(most)
    values = evidence.feature_attribution[order]
    places = np.arange(len(order))[::-1]
    axes.barh(places, values, color=[_colour(evidence, value) for value in values], height=0.72)
    axes.axvline(0, color=GREY, lw=0.6)
    axes.set_yticks(places, [_feature_label(evidence, i) for i in order.tolist()])
    axes.set_xlabel("logits", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    share = np.abs(values).sum() / max(np.abs(evidence.feature_attribution).sum(), 1e-12)
    axes.set_title(
        f"The strongest of {len(evidence.features)} features, {100 * share:.0f} % of the weight",
        fontsize=8.5,
        loc="left" if evidence.average is None else "right",
        color=TRACE,
    )
    _plain_axes(axes)


def _feature_label(evidence: Evidence, i: int) -> str:
    """Name a feature; one that means something by itself with its value."""
    if i < evidence.learned:
        return evidence.feature_names[i].removeprefix("feature ")
    return f"{evidence.feature_names[i]}  {_signed(evidence.features[i])}"


def _draw_edge(axes: "Axes", evidence: Evidence, layer: LayerEvidence, edge: EdgeEvidence) -> None:
    colour = _colour(evidence, edge.contribution)
    ends = (
        (evidence.feature_names[edge.input], f"hidden {edge.output}")
        if layer.name == "kan1"
        else (f"hidden {edge.input}", f"class {CLASSES[edge.output]}")
    )
    title = f"{ends[0]} → {ends[1]}"
    size = 8.5 * min(1.0, 30 / len(title))  # a long name leaves room for the number
    axes.axhline(0, color="#DDDDDD", lw=0.6, zorder=0)
    axes.plot(edge.curve_z, edge.curve_value, color=TRACE, lw=1.2)
    axes.plot(edge.baseline_z, edge.baseline_value, "o", ms=5, mfc="white", mec=GREY, mew=1.0)
    axes.plot(edge.z, edge.value, "o", ms=6.5, color=colour)
    axes.set_title(title, fontsize=size, loc="left", color=TRACE)
    axes.set_title(_signed(edge.contribution), fontsize=8.5, loc="right", color=colour, weight="bold")
    axes.margins(x=0.02, y=0.12)
    axes.set_xlabel("normalized input", fontsize=7.5, labelpad=1)
    _plain_axes(axes)
