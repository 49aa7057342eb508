"""What the named inputs of a KAN head are worth for each class, and how a class answers when one of them moves.

An edge says what an input does to a hidden unit, which has no name. Summed over the hidden units, and followed through
the whole head, what is said is about the input itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgkan.aami import CLASSES
from ecgkan.models.kan import KANHead
from ecgkan.models.kan_edges import EdgeImportance, in_batches

INPUTS_SHOWN: Final = 6
"""Inputs listed and drawn per class."""

SAMPLE_BEATS: Final = 100
"""Beats per class in which an input is moved."""

RANGE: Final = (0.005, 0.995)
"""Quantiles over the beats between which it is moved."""

_POINTS: Final = 41


@dataclass(frozen=True, slots=True)
class InputNames:
    """What the inputs of a head are.

    Attributes
    ----------
    names : tuple of str
        One per input.
    kinds : tuple of str
        What kind of input each is, such as "learned shape".
    learned : str
        The kind whose inputs mean nothing by themselves: they are counted, but neither listed nor drawn.
    in_own_units : callable
        Maps inputs `[..., in]` to their own units, each by a line of its own.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    learned: str
    in_own_units: Callable[[Tensor], Tensor]

    @property
    def readable(self) -> NDArray[np.int64]:
        """The inputs that mean something by themselves: `[k]` int64."""
        return np.flatnonzero(np.array(self.kinds) != self.learned)


class KindShare(NamedTuple):
    """Which share of what all inputs are worth for a class is that of one kind of them."""

    letter: str
    kind: str
    inputs: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class InputResponse:
    """One of the inputs worth most for a class, and how the class answers when it alone is moved.

    Attributes
    ----------
    letter : str
        The class.
    input : int
        Which input.
    name : str
        Its name.
    worth : float
        What its edges are worth for the class, summed over the hidden units, logits.
    x : ndarray
        `[41]` float64, the input in its own units, over the range of 99 % of the beats.
    mean, low, high : ndarray
        `[41]` float64: log odds of the class less those with the input as it is: mean, lower and upper quartile over
        beats of all classes, as many of each as far as there are.
    """

    letter: str
    input: int
    name: str
    worth: float
    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        curves = {name: getattr(self, name).tolist() for name in ("x", "mean", "low", "high")}
        return {name: getattr(self, name) for name in ("letter", "input", "name", "worth")} | curves


@dataclass(frozen=True, slots=True, eq=False)
class InputStudy:
    """What was found about the inputs: by class, the strongest first."""

    kinds: tuple[KindShare, ...]
    responses: tuple[InputResponse, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kinds": [share._asdict() for share in self.kinds],
            "responses": [response.to_dict() for response in self.responses],
        }


def study_inputs(
    head: KANHead,
    features: Tensor,
    labels: NDArray[np.int64],
    importance: EdgeImportance,
    names: InputNames,
    *,
    class_shift: Tensor,
) -> InputStudy:
    """Study the named inputs of a head.

    Parameters
    ----------
    head : KANHead
        In eval mode.
    features : Tensor
        `[n, in]`, its input at the beats.
    labels : ndarray
        `[n]` int64, their reference classes.
    importance : EdgeImportance
        What the head's edges are worth.
    names : InputNames
        What the inputs are.
    class_shift : Tensor
        `[classes]`, what the model adds to the head's logits.
    """
    worth = importance.first.sum(1).numpy()  # (classes, in)
    sample = features[torch.from_numpy(_evenly(labels))]
    kinds, responses = [], []
    for place, letter in enumerate(CLASSES):
        total = max(float(worth[place].sum()), np.finfo(float).tiny)
        for kind in dict.fromkeys(names.kinds):
            of_kind = np.array(names.kinds) == kind
            kinds.append(KindShare(letter, kind, int(of_kind.sum()), float(worth[place, of_kind].sum()) / total))
        order = names.readable[np.argsort(-worth[place, names.readable], kind="stable")]
        for entry in order[:INPUTS_SHOWN].tolist():
            values = torch.quantile(features[:, entry].double(), torch.tensor(RANGE, dtype=torch.float64))
            points = torch.linspace(float(values[0]), float(values[1]), _POINTS)
            answers = _answers(head, sample, entry, points, class_shift, place)
            low, high = np.quantile(answers, (0.25, 0.75), axis=0)
            responses.append(
                InputResponse(
                    letter=letter,
                    input=entry,
                    name=names.names[entry],
                    worth=float(worth[place, entry]),
                    x=_own_values(names, features.shape[1], entry, points),
                    mean=answers.mean(axis=0),
                    low=low,
                    high=high,
                )
            )
    return InputStudy(tuple(kinds), tuple(responses))


def _evenly(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose up to `SAMPLE_BEATS` beats of each class, spread evenly over those there are."""
    chosen = [np.flatnonzero(labels == place) for place in range(len(CLASSES))]
    parts = [
        places[np.linspace(0, len(places) - 1, min(SAMPLE_BEATS, len(places))).astype(int)]
        for places in chosen
        if len(places)
    ]
    return np.concatenate(parts)


def _answers(
    head: KANHead, sample: Tensor, entry: int, points: Tensor, class_shift: Tensor, place: int
) -> NDArray[np.float64]:
    """Return how the log odds of a class change where one input is put to each point, beat by beat: `[n, points]`."""
    moved = sample.repeat_interleave(len(points), 0)  # (n * points, in)
    moved[:, entry] = points.to(sample).repeat(len(sample))
    as_it_is, there = (_log_odds(in_batches(head, x) + class_shift, place) for x in (sample, moved))
    answers: NDArray[np.float64] = (there.view(len(sample), len(points)) - as_it_is[:, None]).numpy()
    return answers


def _log_odds(logits: Tensor, place: int) -> Tensor:
    others = [i for i in range(logits.shape[1]) if i != place]
    return logits[:, place].double() - logits[:, others].double().logsumexp(1)


def _own_values(names: InputNames, n_inputs: int, entry: int, points: Sequence[float] | Tensor) -> NDArray[np.float64]:
    inputs = torch.zeros(len(points), n_inputs, dtype=torch.float64)
    inputs[:, entry] = torch.as_tensor(points, dtype=torch.float64)
    own: NDArray[np.float64] = names.in_own_units(inputs)[:, entry].numpy()
    return own
