"""What the QRS detector's threshold and marks were chosen by: networks judged on training records they have not seen.

    python benchmarks/detector_choices.py [--networks EVEN.onnx ODD.onnx] [--save FOLDER]

Two networks are trained for 3,500 steps, each on every other record of DS1 (a quarter of an hour each on one core), or
read if they were saved before; each is judged on the other half. DS2 and the noise kept for testing are not read. Needs
the databases (ECGKAN_DATA).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ecgkan.data import qrs
from ecgkan.data.mitdb import DS1, database_dir
from ecgkan.data.recording import read_annotations, read_recording
from ecgkan.data.rpeaks import reference_rpeaks
from ecgkan.evaluation.ec57 import Detection, compare_detections, total
from ecgkan.models.qrs import to_onnx
from ecgkan.studies.detector import position_offsets
from ecgkan.training.detector import SEED, NoisyCrops, train_detector

STEPS = 3500
HALVES = {"even": DS1[0::2], "odd": DS1[1::2]}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--networks", nargs=2, type=Path, metavar=("EVEN", "ODD"))
    arguments.add_argument("--save", type=Path, default=Path("runs"))
    given = arguments.parse_args()
    files = given.networks or [train(given.save, half) for half in HALVES]
    judges = dict(zip(HALVES, map(qrs.load_network, files), strict=True))
    judge = {record: judges["even" if record in HALVES["odd"] else "odd"] for record in DS1}
    database = database_dir("mitdb")
    leads = {record: np.nan_to_num(read_recording(database / record).signals[:, 0]) for record in DS1}
    thresholds(database, leads, judge)
    marks(database, leads, judge)


def train(folder: Path, half: str) -> Path:
    torch.set_num_threads(1)
    file = folder / f"detector-{half}.onnx"
    network = train_detector(records=HALVES[half], steps=STEPS, seed=SEED, report=lambda *row: print(half, *row))
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(to_onnx(network))
    return file


def thresholds(database: Path, leads: dict[str, NDArray[np.float64]], judge: dict[str, qrs.QRSNetwork]) -> None:
    """Print Se / +P for several thresholds, on records as they are and with made-up artefacts at -6 dB."""
    print("| threshold | as recorded, Se / +P | artefacts at -6 dB |\n|---|---|---|")
    references = {record: read_annotations(database / record, "atr") for record in DS1}
    likelihoods: dict[str, list[NDArray[np.float32]]] = {}
    for k, record in enumerate(DS1):
        noisy = leads[record] + artefacts(leads[record], reference_rpeaks(references[record]), seed=k)
        likelihoods[record] = [qrs.beat_likelihood(lead, network=judge[record]) for lead in (leads[record], noisy)]
    chosen = qrs.THRESHOLD
    for threshold in (0.1, 0.2, 0.3, 0.4):
        qrs.THRESHOLD = threshold  # type: ignore[misc]
        cells = []
        for kind in (0, 1):
            counts = total(
                compare_detections(
                    references[record], qrs.DECIMATION * qrs.pick_beats(likelihoods[record][kind]), 360.0
                )
                for record in DS1
            )
            cells.append(
                f"{counts.sensitivity_percent:.2f} / {counts.positive_predictivity_percent:.2f} (F1 {f1(counts):.2f})"
            )
        print(f"| {threshold} | {cells[0]} | {cells[1]} |", flush=True)
    qrs.THRESHOLD = chosen  # type: ignore[misc]


def artefacts(lead: NDArray[np.float64], beats: NDArray[np.int64], *, seed: int) -> NDArray[np.float64]:
    """Draw noise as the training does, for two minutes of every four from 5:00 on, as the noise stress test has it."""
    crops = NoisyCrops([], [], seed)
    pieces = []
    for _ in range(-(-len(lead) // (qrs.DECIMATION * crops.steps))):
        noise = [part / (part.std() + 1e-6) for part in (crops.artefacts(crops.steps), crops.coloured(crops.steps))]
        pieces.append(noise[0] + 0.7 * noise[1])
    coarse = np.concatenate(pieces)
    noise = np.interp(np.arange(len(lead)) / qrs.DECIMATION, np.arange(len(coarse)), coarse)
    height = np.median([np.ptp(lead[max(0, beat - 18) : beat + 18]) for beat in beats])
    seconds = np.arange(len(lead)) / qrs.DETECTOR_FS
    on = (seconds >= 300) & ((seconds - 300) % 240 < 120)
    gain = float(np.sqrt(height**2 / 8 / 10**-0.6 / noise.var()))  # -6 dB as the noise stress test defines it
    return np.where(on, gain * noise, 0.0)


def marks(database: Path, leads: dict[str, NDArray[np.float64]], judge: dict[str, qrs.QRSNetwork]) -> None:
    """Print the share of marks within 4 samples, for several likelihoods from which the network says where."""

    def find(path: Path) -> NDArray[np.int64]:
        return qrs.find_rpeaks(leads[path.name], network=judge[path.name])

    print("\n| the network says where | N | S | V | F |\n|---|---|---|---|---|")
    chosen = qrs.SURE
    for sure, title in ((0.0, "always"), (0.9, "above 0.9"), (0.95, "above 0.95"), (2.0, "never: the strongest point")):
        qrs.SURE = sure  # type: ignore[misc]
        offsets = position_offsets(find, database, DS1)
        print(f"| {title} | " + " | ".join(f"{offsets[letter].within_percent:.1f} %" for letter in "NSVF") + " |")
    qrs.SURE = chosen  # type: ignore[misc]


def f1(counts: Detection) -> float:
    return 200 * counts.found / (2 * counts.found + counts.missed + counts.extra)


if __name__ == "__main__":
    main()
