"""What it costs to cut the beats and to feed the network, as shares taken in one run.

    python benchmarks/feeding.py [--json FILE]

Prints the time to cut all beats of the MIT-BIH Arrhythmia Database beside the time to read its files, and the
time to make training batches beside the time of the training steps that use them (one thread, recipe `best`, both
heads). Needs the database: set ECGKAN_DATA.
"""

import argparse
import dataclasses
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from ecgkan.data.beat_table import MARGIN, beat_labels
from ecgkan.data.beats import cut_beats
from ecgkan.data.mitdb import RECORDS, database_dir
from ecgkan.data.recording import read_annotations, read_recording
from ecgkan.training.batches import BeatBatches, epoch_generator, steps_per_epoch
from ecgkan.training.fit import build_model, keep_freed_memory
from ecgkan.training.module import TrainingRun
from ecgkan.training.recipe import RECIPES, Recipe

TRAINING_BEATS, VALIDATION_BEATS = 76_615, 16_418
"""Of protocol random-split."""


def time_cutting() -> dict[str, float]:
    """Time reading the 48 records and cutting their beats, in seconds."""
    database = database_dir("mitdb")
    reading, cutting = 0.0, 0.0
    for record in RECORDS:
        started = time.perf_counter()
        signal = read_recording(database / record, channels=[0]).signals[:, 0]
        annotations = read_annotations(database / record, "atr")
        read = time.perf_counter()
        cut_beats(signal, annotations.samples[beat_labels(annotations.symbols) >= 0], margin=MARGIN)
        cutting += time.perf_counter() - read
        reading += read - started
    return {"reading_s": reading, "cutting_s": cutting}


def time_validation(run: TrainingRun) -> float:
    """Time the validation that ends each epoch, in milliseconds."""
    run.model.eval()
    with torch.no_grad():
        durations = []
        for _ in range(3):
            started = time.perf_counter()
            for batch in run.val_dataloader():
                run.validation_step((batch[0], batch[1]), 0)
            durations.append(1e3 * (time.perf_counter() - started))
    run._logits.clear()
    run.model.train()
    return statistics.median(durations)


def time_feeding(name: str, recipe: Recipe, *, steps: int = 24, repetitions: int = 5) -> dict[str, float]:
    """Time batches and training steps in turn, and validation; return medians and feeding's share of an epoch."""
    count = recipe.batch_size * steps
    windows = torch.randn(count, 384)
    labels = torch.randint(0, 5, (count,))
    run = TrainingRun(
        build_model(name, recipe, 0),
        recipe,
        0,
        train_windows=windows,
        train_labels=labels,
        validation_input=torch.randn(VALIDATION_BEATS, 1, 256),
        validation_labels=torch.randint(0, 5, (VALIDATION_BEATS,)),
    )
    validation_ms = time_validation(run)
    optimizer = torch.optim.AdamW(run.model.parameters(), foreach=True)
    run._mask_generator = epoch_generator(0, 0, stream=1)
    run.log = lambda *_, **__: None  # type: ignore[method-assign]
    feeding, stepping = [], []
    for repetition in range(repetitions + 1):
        batches = iter(BeatBatches(windows, labels, recipe, 0, repetition))
        feed, step = 0.0, 0.0
        for _ in range(steps):
            started = time.perf_counter()
            batch = next(batches)
            fed = time.perf_counter()
            optimizer.zero_grad()
            run.training_step(batch, 0).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(run.model.parameters(), recipe.gradient_clip_norm)
            optimizer.step()
            run.on_train_batch_end(None, batch, 0)
            step += time.perf_counter() - fed
            feed += fed - started
        if repetition:  # the first one compiles
            feeding.append(1e3 * feed / steps)
            stepping.append(1e3 * step / steps)
    steps_an_epoch = steps_per_epoch(TRAINING_BEATS, recipe)
    epochs = steps_an_epoch * (np.array(feeding) + np.array(stepping)) + validation_ms
    shares = steps_an_epoch * np.array(feeding) / epochs
    return {
        "validation_ms": validation_ms,
        "epoch_s": 1e-3 * float(np.median(epochs)),
        "feed_ms": statistics.median(feeding),
        "step_ms": statistics.median(stepping),
        "share": float(np.median(shares)),
        "share_max": float(shares.max()),
    }


def main() -> None:
    """Measure, print, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--skip-data", action="store_true", help="measure feeding alone, without the database")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as train_model does
    results: dict[str, object] = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    if not arguments.skip_data:
        cutting = time_cutting()
        results["cutting"] = cutting
        print(f"48 records: reading {cutting['reading_s']:.2f} s, cutting all beats {cutting['cutting_s']:.2f} s")
    augmented = dataclasses.replace(
        RECIPES["best"], name="best, every augmentation", max_shift_samples=8, max_stretch=0.1
    )
    for recipe in (RECIPES["reference"], RECIPES["best"], augmented):
        for name in ("cnn_mlp", "cnn_kan"):
            figures = time_feeding(name, recipe)
            results[f"{name}, {recipe.name}"] = figures
            print(
                f"{name}, recipe {recipe.name}: batch {figures['feed_ms']:.2f} ms, step {figures['step_ms']:.1f} ms, "
                f"epoch {figures['epoch_s']:.1f} s, feeding {100 * figures['share']:.2f} % of it "
                f"(largest of 5: {100 * figures['share_max']:.2f} %)"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
