"""How evidence behaves: does the margin fall where it is taken away, and where in the beat does it lie, by class.

    python benchmarks/evidence.py

Twelve beats of each class N, S, V and F that the model itself gives that class, spread over records 119, 208, 209
and 222. Needs the database: set ECGKAN_DATA.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ecgkan.aami import CLASSES
from ecgkan.data.beats import BEAT_FS, BEFORE, cut_beats, normalize_windows
from ecgkan.data.mitdb import data_root
from ecgkan.data.recording import read_recording
from ecgkan.inference.classifier import classify
from ecgkan.inference.evidence import Evidence, explain_beat
from ecgkan.models.checkpoint import Checkpoint, load_checkpoint

RECORDS = {"N": ("119", "222"), "S": ("209", "222"), "V": ("119", "208"), "F": ("208",)}
BEATS = 12
QRS_S = (-0.06, 0.10)


def main() -> None:
    """Print one line per model and class, and the evidence by tenths of a second."""
    torch.set_num_threads(1)
    for name in ("cnn_mlp", "cnn_kan"):
        checkpoint = load_checkpoint(name)
        for letter in RECORDS:
            explained = [explain_beat(checkpoint, window) for window in windows_of(checkpoint, letter)]
            falls = [rank_correlations(checkpoint, evidence) for evidence in explained]
            integrated, gradient = np.mean(falls, axis=0)
            qrs = np.mean([share_in_qrs(evidence) for evidence in explained])
            residual = max(abs(evidence.integrated_gradients.sum() - evidence.change) for evidence in explained)
            print(
                f"{name} {letter}: {len(explained)} beats, rank correlation {integrated:.2f} "
                f"(gradient x input {gradient:.2f}), {qrs:.0%} within the QRS, largest residual {residual:.3f} logits"
            )
            by_time = np.mean([[weight for *_, weight in evidence.by_time()] for evidence in explained], axis=0)
            starts = [start for start, *_ in explained[0].by_time()]
            print("   ", "  ".join(f"{s:+.1f} s {w:+.1f}" for s, w in zip(starts, by_time, strict=True)))


def windows_of(checkpoint: Checkpoint, letter: str) -> Iterator[NDArray[np.float32]]:
    """Yield windows of beats of one class, spread evenly over its records."""
    for record in RECORDS[letter]:
        path = data_root() / "mitdb" / record
        annotations = classify(path, checkpoint, annotator="atr")
        chosen = np.flatnonzero(annotations.classes == letter)
        chosen = chosen[np.linspace(0, len(chosen) - 1, BEATS // len(RECORDS[letter])).astype(int)]
        signal = read_recording(path).signals[:, 0]
        yield from cut_beats(signal, annotations.samples[chosen], edges="pad").windows


def rank_correlations(checkpoint: Checkpoint, evidence: Evidence) -> tuple[float, float]:
    """Compare the fall of the margin where 31 soft windows of 0.13 s flatten the beat with the evidence in them."""
    steps = np.arange(256)
    flatten = np.array([np.cos(np.pi * (steps - c) / 48) ** 2 * (np.abs(steps - c) < 24) for c in range(8, 256, 8)])
    z = (normalize_windows(evidence.window[None]) * (1 - flatten)).astype(np.float32)
    with torch.no_grad():
        logits = checkpoint.model(torch.from_numpy(z[:, None])).numpy()
    target, rival = CLASSES.index(evidence.target), CLASSES.index(evidence.rival)
    falls = evidence.margin - (logits[:, target] - logits[:, rival])
    integrated = spearmanr(falls, flatten @ evidence.integrated_gradients).statistic
    return float(integrated), float(spearmanr(falls, flatten @ evidence.gradient_x_input).statistic)


def share_in_qrs(evidence: Evidence) -> float:
    """Return which share of the absolute evidence lies within the QRS."""
    weights = np.abs(evidence.integrated_gradients)
    start, stop = (BEFORE + round(edge * BEAT_FS) for edge in QRS_S)
    return float(weights[start:stop].sum() / weights.sum())


if __name__ == "__main__":
    main()
