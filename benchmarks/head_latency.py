"""How long the heads take for a beat's features, and which MLP head takes as long as the published KAN head.

The encoder is the same for all models, so heads are measured by themselves, and the encoder beside them.
Forward passes on the CPU, one thread, eval mode, warm; heads take turns, so that a busy machine slows them alike, and
processor time is counted, so that waiting for the processor is not. Figures are those of the fastest turn.

Run: python benchmarks/head_latency.py --write results/inter-patient/latency.json
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ecgkan.models.cnn import ECGCNN, FEATURES, WINDOW_SAMPLES, BeatClassifier
from ecgkan.models.cnn_kan import ECGCNNWithKAN
from ecgkan.training.fit import write_json

KAN_WIDTHS = (1, 4, 18, 32, 64)
MLP_WIDTHS = tuple(range(192, 961, 64))
BATCHES = (1, 128)


def models() -> dict[str, BeatClassifier]:
    """Return models with MLP and KAN heads of each width, and with the published KAN head with other parts."""
    built: dict[str, BeatClassifier] = {"mlp": ECGCNN()}
    built |= {f"mlp, {width} hidden": ECGCNN(hidden_features=width) for width in MLP_WIDTHS}
    built |= {f"kan, {width} hidden": ECGCNNWithKAN(hidden_features=width) for width in KAN_WIDTHS}
    built |= {f"kan, grid {size}": ECGCNNWithKAN(grid_size=size) for size in (3, 8)}
    built["kan, batch norm"] = ECGCNNWithKAN(normalization="batch")
    built["kan, batch norm, 18 hidden"] = ECGCNNWithKAN(normalization="batch", hidden_features=18)
    return {name: model.eval() for name, model in built.items()}


def measure(passes: Mapping[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Return milliseconds of each pass: the fastest of the rounds, in which every one has its turn."""
    taken: dict[str, list[float]] = {name: [] for name in passes}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, run in passes.items():
                run()  # brings the weights into the caches
                started = time.process_time()
                run()
                taken[name].append(time.process_time() - started)
    return {name: 1000 * min(seconds) for name, seconds in taken.items()}


def measure_batch(built: dict[str, BeatClassifier], batch: int, rounds: int) -> dict[str, float]:
    """Return milliseconds per beat of the encoder and of each head."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, FEATURES, generator=generator)
    beats = torch.randn(batch, 1, WINDOW_SAMPLES, generator=generator)
    passes: dict[str, Callable[[], Tensor]] = {
        name: partial(model.forward_head, features) for name, model in built.items()
    }
    encoder = {"encoder": partial(built["mlp"].get_features, beats)}
    taken = measure(encoder, max(rounds // 10, 5)) | measure(passes, rounds)
    return {name: round(ms / batch, 5) for name, ms in taken.items()}


def as_slow_as_kan(row: dict[str, float]) -> int:
    """Return the width of the MLP head whose time is closest to the published KAN head's."""
    return min(MLP_WIDTHS, key=lambda width: abs(row[f"mlp, {width} hidden"] - row["kan, 64 hidden"]))


def main() -> None:
    """Measure, choose the width, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="turns of each model")
    parser.add_argument("--write", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    built = models()
    per_batch = {batch: measure_batch(built, batch, arguments.rounds) for batch in BATCHES}
    document = {
        "unit": "ms per beat",
        "method": f"processor time, one thread, fastest of {arguments.rounds} turns, heads without the encoder",
        "torch": str(torch.__version__),
        "parameters": {name: sum(p.numel() for p in model.parameters()) for name, model in built.items()},
        **{f"batch_{batch}": row for batch, row in per_batch.items()},
        **{f"mlp_width_as_slow_as_kan_batch_{batch}": as_slow_as_kan(row) for batch, row in per_batch.items()},
    }
    print(json.dumps(document, indent=1))
    if arguments.write is not None:
        write_json(arguments.write, document)


if __name__ == "__main__":
    main()
