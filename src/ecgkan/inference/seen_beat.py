"""A beat as a model sees it, and the beat it is compared with when the decision is explained.

A model of single beats sees a z-scored window; it is compared with a flat line. A model for new patients sees a beat
beside the patient's average beat, in its rhythm; it is compared with that average beat in the rhythm that this patient
usually has. (A perfectly regular one would not do: no heart beats like that, and the model has never seen it.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE, normalize_windows
from ecgkan.data.blocks import read_blocks
from ecgkan.data.context import (
    AVERAGED_BEATS,
    CONTEXT_FEATURES,
    GROUP_BEATS,
    SHAPE_BEFORE,
    SHAPE_FS,
    SHAPE_WIDTH,
    average_beats,
    beat_context,
    cut_shapes,
    scale_shapes,
)
from ecgkan.errors import DataError
from ecgkan.inference.classifier import rr_intervals

if TYPE_CHECKING:
    from torch import Tensor

    from ecgkan.data.recording import SignalSource
    from ecgkan.inference.annotation import BeatAnnotations

FLAT_LINE: Final = "a flat line"
USUAL_BEAT: Final = "the patient's average beat in the usual rhythm"


@dataclass(frozen=True, slots=True, eq=False)
class BeatInContext:
    """A beat as the models for new patients are given it, before it is scaled.

    Attributes
    ----------
    shape, average : ndarray
        `[112]`, mV, 120 Hz: the beat, and the patient's average beat so far (`ecgkan.data.context.cut_shapes`).
    rhythm : ndarray
        `[features]`, the columns `ecgkan.data.context.CONTEXT_FEATURES`.
    usual_rhythm : ndarray
        `[features]`, their usual values: medians over the beats that the average beat looks back on.
    """

    shape: NDArray[np.floating]
    average: NDArray[np.floating]
    rhythm: NDArray[np.floating]
    usual_rhythm: NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class SeenBeat:
    """What goes into a model, and what it is compared with.

    Attributes
    ----------
    inputs, baseline : tuple of Tensor
        The model's arguments for the beat and for what it is compared with, each `[1, ...]` float32. The beat's
        samples are `[0, 0]` of the first; a second one is its context.
    baseline_name : str
        What it is compared with.
    window : ndarray
        `[n]` float64, mV: the beat as it was handed in.
    average : ndarray or None
        `[n]` float64, mV: the patient's average beat, where the model sees one.
    fs : float
        Sampling rate of the window, Hz.
    before : int
        Samples of the window before the R peak.
    """

    inputs: "tuple[Tensor, ...]"
    baseline: "tuple[Tensor, ...]"
    baseline_name: str
    window: NDArray[np.float64]
    average: NDArray[np.float64] | None
    fs: float
    before: int


def see_window(window: NDArray[np.floating]) -> SeenBeat:
    """See a window `[256]` as a model of single beats does.

    Raises
    ------
    DataError
        If the window has another shape or missing samples.
    """
    import torch

    if np.shape(window) != (BEFORE + AFTER,):
        raise DataError(f"expected one window of shape [{BEFORE + AFTER}] in mV, got {list(np.shape(window))}")
    _check_finite(window, "the window")
    beat = torch.from_numpy(normalize_windows(np.asarray(window)[None]))[:, None]  # (1, 1, 256)
    in_mv = np.array(window, dtype=np.float64)
    return SeenBeat((beat,), (torch.zeros_like(beat),), FLAT_LINE, in_mv, None, BEAT_FS, BEFORE)


def see_in_context(beat: BeatInContext) -> SeenBeat:
    """See a beat in its context as a model for new patients does.

    Raises
    ------
    DataError
        If a part has another shape or missing values.
    """
    import torch

    expected = {"shape": SHAPE_WIDTH, "average": SHAPE_WIDTH}
    expected |= {"rhythm": len(CONTEXT_FEATURES), "usual_rhythm": len(CONTEXT_FEATURES)}
    for name, size in expected.items():
        if np.shape(getattr(beat, name)) != (size,):
            raise DataError(f"expected a beat's {name} of shape [{size}], got {list(np.shape(getattr(beat, name)))}")
        _check_finite(getattr(beat, name), f"the beat's {name}")

    def arguments(shape: NDArray[np.floating], rhythm: NDArray[np.floating]) -> "tuple[Tensor, ...]":
        pair = (np.asarray(values, dtype=np.float32)[None] for values in (shape, beat.average))
        return torch.from_numpy(scale_shapes(*pair)), torch.from_numpy(np.array(rhythm, dtype=np.float32)[None])

    return SeenBeat(
        inputs=arguments(beat.shape, beat.rhythm),
        baseline=arguments(beat.average, beat.usual_rhythm),
        baseline_name=USUAL_BEAT,
        window=np.array(beat.shape, dtype=np.float64),
        average=np.array(beat.average, dtype=np.float64),
        fs=SHAPE_FS,
        before=SHAPE_BEFORE,
    )


def _check_finite(values: NDArray[np.floating], name: str) -> None:
    if not np.isfinite(values).all():
        raise DataError(f"{name} has missing samples (NaN); fill them first (ecgkan.data.missing.fill_missing)")


def context_of_beat(source: "SignalSource", annotations: "BeatAnnotations", beat_index: int) -> BeatInContext:
    """Put a classified beat of a recording into the very context in which it was classified.

    Parameters
    ----------
    source : SignalSource
        The recording; it is read from its start to some beats after this one, since the average beat and the means of
        RR intervals reach back.
    annotations : BeatAnnotations
        Its classified beats.
    beat_index : int
        Which of them.
    """
    rpeaks = np.sort(np.concatenate([annotations.samples, annotations.left_out]))
    usable = np.isin(rpeaks, annotations.samples)
    unread = annotations.noisy if annotations.rpeaks == "detector" else annotations.noisy[:0]
    rr_s, _ = rr_intervals(rpeaks, annotations.fs, unread)
    index = int(np.searchsorted(rpeaks, annotations.samples[beat_index]))
    # The average beat of a group may look at the whole group, and nothing looks further.
    n = min(index + GROUP_BEATS + 1, len(rpeaks))
    shapes = _cut_shapes(source, source.lead_index(annotations.lead), rpeaks[:n])
    rr_s, usable = rr_s[:n], usable[:n]
    rhythm = beat_context(shapes, rr_s, usable).rhythm
    # Without a past, as many beats as the first average is made of.
    past = slice(max(index + 1 - AVERAGED_BEATS, 0), max(index + 1, GROUP_BEATS))
    return BeatInContext(
        shape=shapes[index],
        average=average_beats(shapes, rr_s, usable)[index],
        rhythm=rhythm[index],
        usual_rhythm=np.median(rhythm[past][usable[past]], axis=0),
    )


def _cut_shapes(source: "SignalSource", column: int, rpeaks: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cut shapes block by block, as they are when a recording is classified: `[n, 112]`."""
    shapes = [np.zeros((0, SHAPE_WIDTH), dtype=np.float32)]
    for block in read_blocks(source, column):
        first, stop = np.searchsorted(rpeaks, (block.core_start, block.core_stop))
        shapes.append(cut_shapes(block.at_360, block.positions_at_360(rpeaks[first:stop])))
        if stop == len(rpeaks):
            break
    return np.concatenate(shapes)


def sample_times_s(fs: float, before: int, n: int) -> NDArray[np.float64]:
    """Return when a window's samples lie, seconds from the R peak: `[n]`."""
    times: NDArray[np.float64] = (np.arange(n) - before) / fs
    return times


def samples_of(parts: "Sequence[Tensor]") -> "Tensor":
    """Return what belongs to the samples of the beat, of parts shaped as a model's arguments: `[n]`."""
    return parts[0][0, 0]


def context_of(parts: "Sequence[Tensor]") -> "Tensor":
    """Return what belongs to its context, `[features]`; empty for a model of single beats."""
    return parts[1][0] if len(parts) > 1 else parts[0].new_zeros(0)
