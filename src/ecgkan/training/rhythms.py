"""Made-up rhythms: in what order beats come, and how far apart, in rhythms that DS1 has few patients of.

Twenty-two patients show a beat's shape well enough, but premature atrial beats of only a handful of them, atrial
fibrillation of two. A patient's own normal beats, set in a made-up rhythm, show a model what a rhythm does to the
intervals around a beat, apart from what it does to shapes. Coupling, pauses and variability are drawn from wide ranges
of what textbooks describe, never from counts of any record.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES

N, S, V = (CLASSES.index(letter) for letter in "NSV")

RR_RANGE_S: Final = (0.28, 3.5)
"""Made-up intervals are kept within what hearts do, seconds."""


class Rhythm(NamedTuple):
    """A made-up rhythm.

    Attributes
    ----------
    kind : str
        Its name, one of `KINDS`.
    rr_s : ndarray
        `[n]` float64, interval before each beat, seconds.
    labels : ndarray
        `[n]` int64, class indices (N, S or V).
    """

    kind: str
    rr_s: NDArray[np.float64]
    labels: NDArray[np.int64]


def make_rhythm(n: int, rng: np.random.Generator) -> Rhythm:
    """Draw a rhythm of n beats: its kind, and everything about it."""
    shares = np.array([share for _, share in KINDS.values()])
    kind = str(rng.choice(list(KINDS), p=shares / shares.sum()))
    rr_s, labels = KINDS[kind][0](n, rng)
    return Rhythm(kind, np.clip(rr_s[:n], *RR_RANGE_S), labels[:n])


_Beats = tuple[NDArray[np.float64], NDArray[np.int64]]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _sinus_rr(n: int, rng: np.random.Generator, variability: float | None = None) -> NDArray[np.float64]:
    """Draw intervals of a sinus rhythm: a slow drift, correlated variability, often breathing: `[n]` seconds."""
    usual_s = _log_uniform(rng, 0.55, 1.25)
    variability = _log_uniform(rng, 0.008, 0.07) if variability is None else variability
    memory = rng.uniform(0.5, 0.95)
    steps = rng.normal(0, np.sqrt(1 - memory**2), n)
    wander = np.zeros(n)
    for i in range(1, n):
        wander[i] = memory * wander[i - 1] + steps[i]
    breathing = np.sin(2 * np.pi * usual_s * rng.uniform(0.15, 0.35) * np.arange(n) + rng.uniform(0, 2 * np.pi))
    drift = np.cumsum(rng.normal(0, 0.004, n))
    rr_s: NDArray[np.float64] = usual_s * np.exp(
        variability * (0.7 * wander + float(rng.choice([0.0, 0.5, 1.5])) * breathing) + drift
    )
    return rr_s


def _sinus(n: int, rng: np.random.Generator) -> _Beats:
    return _sinus_rr(n, rng, _log_uniform(rng, 0.01, 0.12)), np.full(n, N)


def _fibrillation(n: int, rng: np.random.Generator) -> _Beats:
    """Atrial fibrillation: every interval by itself, none shorter than the node lets pass."""
    rr = _log_uniform(rng, 0.45, 1.1) * np.exp(rng.normal(0, rng.uniform(0.10, 0.30), n))
    return np.maximum(rr, rng.uniform(0.3, 0.38)), np.full(n, N)


def _atrial_premature(n: int, rng: np.random.Generator) -> _Beats:
    """Premature atrial beats, single or a few in a row, each time followed by a pause."""
    sinus = _sinus_rr(n, rng)
    often = _log_uniform(rng, 0.01, 0.4)
    coupling, spread, pause = rng.uniform(0.45, 0.88), rng.uniform(0.01, 0.08), rng.uniform(0.95, 1.35)
    more = rng.choice([0.0, 0.15, 0.5])
    rr: list[float] = []
    labels: list[int] = []
    for i, cycle in enumerate(sinus):
        if len(rr) >= n:
            break
        if rng.random() >= often or i == 0:
            rr.append(cycle)
            labels.append(N)
            continue
        run = 1
        while rng.random() < more and run < 8:
            run += 1
        ratios = np.clip(coupling + rng.normal(0, spread, run) + 0.05 * (np.arange(run) > 0), 0.35, 0.93)
        rr += [*(cycle * ratios), cycle * float(np.clip(pause + rng.normal(0, 0.04), 0.85, 1.7))]
        labels += [S] * run + [N]
    return np.array(rr), np.array(labels)


def _atrial_runs(n: int, rng: np.random.Generator) -> _Beats:
    """Atrial tachycardia of any length between stretches of sinus rhythm of any length, ended by a pause."""
    sinus = _sinus_rr(n, rng)
    run_beats, sinus_beats = _log_uniform(rng, 2, 40), _log_uniform(rng, 1.5, 60)
    ratio, variability = rng.uniform(0.4, 0.85), _log_uniform(rng, 0.005, 0.06)
    pause = _log_uniform(rng, 1.0, 1.8)
    rr: list[float] = []
    labels: list[int] = []
    while len(rr) < n:
        cycle = sinus[len(rr)]
        between = 1 + int(rng.poisson(sinus_beats))
        run = 1 + int(rng.geometric(1 / run_beats))
        faster = float(np.clip(ratio * np.exp(rng.normal(0, 0.05)), 0.35, 0.9))
        stretch = cycle * np.exp(rng.normal(0, 0.02, between))
        stretch[0] *= pause if rr else 1.0
        rr += [*stretch, *(cycle * faster * np.exp(rng.normal(0, variability, run)))]
        labels += [N] * between + [S] * run
    return np.array(rr), np.array(labels)


def _ventricular_premature(n: int, rng: np.random.Generator) -> _Beats:
    """Ventricular beats, early or not, single or in runs, with compensation, a new start, or in between two beats."""
    cycles = _sinus_rr(n, rng) if rng.random() < 0.7 else _fibrillation(n, rng)[0]
    often, coupling, spread = _log_uniform(rng, 0.03, 0.6), rng.uniform(0.4, 1.0), rng.uniform(0.01, 0.12)
    more, within = rng.choice([0.0, 0.1, 0.4, 0.8], p=[0.5, 0.25, 0.15, 0.1]), rng.uniform(0.4, 1.2)
    after = rng.choice(["compensated", "reset", "interpolated"], p=[0.6, 0.3, 0.1])
    rr: list[float] = []
    labels: list[int] = []
    for cycle in cycles:
        if len(rr) >= n:
            break
        if rng.random() >= often or not rr:
            rr.append(cycle)
            labels.append(N)
            continue
        run = 1
        while rng.random() < more and run < 15:
            run += 1
        first = float(np.clip(coupling * np.exp(rng.normal(0, spread)), 0.33, 1.25))
        pauses = {
            "compensated": max(2 - first, 0.7),
            "reset": rng.uniform(0.95, 1.3),
            "interpolated": max(1 - first, 0.35),
        }
        pause = pauses[after] if run == 1 else rng.uniform(0.9, 1.4)
        rr += [cycle * first, *(cycle * within * np.exp(rng.normal(0, 0.05, run - 1))), cycle * pause]
        labels += [V] * run + [N]
    return np.array(rr), np.array(labels)


KINDS: Final[dict[str, tuple[Callable[[int, np.random.Generator], _Beats], float]]] = {
    "sinus": (_sinus, 0.7),
    "fibrillation": (_fibrillation, 3.0),
    "atrial premature": (_atrial_premature, 3.0),
    "atrial runs": (_atrial_runs, 2.5),
    "ventricular premature": (_ventricular_premature, 2.5),
}
"""Kind of rhythm → how it is drawn, and how often."""
