"""How good the QRS detector is: against the reference annotations by bxb's rules, beside other detectors, in noise."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES, SYMBOL_TO_CLASS
from ecgkan.data.mitdb import DS1, DS2, PACED_RECORDS, RECORDS, data_root, database_dir
from ecgkan.data.recording import read_annotations, read_recording
from ecgkan.data.rpeaks import detect_rpeaks, reference_rpeaks
from ecgkan.evaluation.ec57 import (
    MATCH_WINDOW_S,
    Detection,
    compare_detections,
    compared_beats,
    flutter_episodes,
    match_beats,
    total,
)
from ecgkan.evaluation.tables import markdown_table
from ecgkan.training.fit import write_json

Detector = Callable[[Path], NDArray[np.int64]]

SNRS_DB: Final = ("24", "18", "12", "06", "00", "_6")
NOISE_RECORDS: Final = tuple(f"{patient}e{snr}" for patient in ("118", "119") for snr in SNRS_DB)

CLOSE_SAMPLES: Final = 4
"""At 360 Hz: 11 ms."""

PARTS: Final[Mapping[str, Sequence[str]]] = {
    "all 48 records": RECORDS,
    "DS1 (trained on)": DS1,
    "DS2 (never seen)": DS2,
    "paced (never seen)": PACED_RECORDS,
}


class Offsets(NamedTuple):
    """How far detections lie from the reference annotations they match, samples at 360 Hz."""

    beats: int
    within_percent: float
    median: float
    low: float
    high: float


def our_detector(record: Path) -> NDArray[np.int64]:
    """Detect the beats of signal 0 of a record: `[n]` int64."""
    recording = read_recording(record, channels=[0])
    return detect_rpeaks(recording.signals[:, 0], recording.fs)


def sleepecg_detector(record: Path) -> NDArray[np.int64]:
    """Detect the beats of signal 0 of a record with sleepecg's detector, a modified Pan-Tompkins algorithm in C."""
    from sleepecg.heartbeats import detect_heartbeats

    recording = read_recording(record, channels=[0])
    found: NDArray[np.int64] = detect_heartbeats(recording.signals[:, 0], recording.fs).astype(np.int64)
    return found


def annotated_by_gqrs(folder: Path) -> Detector:
    """Return a detector that reads gqrs's annotation files, `FOLDER/<record>.qrs`."""
    return lambda record: reference_rpeaks(read_annotations(folder / record.name, "qrs"))


def score(detector: Detector, database: Path, records: Sequence[str]) -> dict[str, Detection]:
    """Compare a detector with the reference annotations, record by record."""
    counts = {}
    for record in records:
        reference = read_annotations(database / record, "atr")
        counts[record] = compare_detections(reference, detector(database / record), 360.0)
    return counts


def position_offsets(detector: Detector, database: Path, records: Sequence[str]) -> dict[str, Offsets]:
    """Return how far the detections lie from the beats they match, by the beats' AAMI class."""
    offsets: dict[str, list[int]] = {letter: [] for letter in CLASSES}
    for record in records:
        reference = read_annotations(database / record, "atr")
        class_at = {
            int(sample): SYMBOL_TO_CLASS[symbol]
            for sample, symbol in zip(reference.samples, reference.symbols, strict=True)
            if symbol in SYMBOL_TO_CLASS
        }
        episodes = flutter_episodes(reference)
        beats = compared_beats(np.array(sorted(class_at)), 360.0, episodes, start_s=0.0)
        found = compared_beats(detector(database / record), 360.0, episodes, start_s=0.0)
        matched = match_beats(beats.tolist(), found.tolist(), window=int(MATCH_WINDOW_S * 360))
        for beat, detection in zip(beats[matched.reference], found[matched.test], strict=True):
            offsets[class_at[int(beat)]].append(int(detection - beat))
    return {letter: _offsets(np.array(values)) for letter, values in offsets.items() if values}


def time_detectors(
    detectors: Mapping[str, Callable[[NDArray[np.float64]], object]], database: Path
) -> dict[str, float]:
    """Return the seconds each detector takes for signal 0 of all 48 records in memory, record by record in turn."""
    seconds = dict.fromkeys(detectors, 0.0)
    for record in RECORDS:
        signal = read_recording(database / record, channels=[0]).signals[:, 0]
        for name, detect in detectors.items():
            started = time.perf_counter()
            detect(signal)
            seconds[name] += time.perf_counter() - started
    return seconds


def study(data_dir: Path | None = None, *, report: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Score our detector, and those beside it, on both databases; plain values for JSON."""
    mitdb, nstdb = database_dir("mitdb", data_dir), database_dir("nstdb", data_dir)
    detectors: dict[str, tuple[Detector, Detector]] = {
        "ecgkan": (our_detector, our_detector),
        "sleepecg": (sleepecg_detector, sleepecg_detector),
    }
    gqrs = data_root(data_dir) / "detectors"
    if gqrs.is_dir():
        detectors["gqrs"] = (annotated_by_gqrs(gqrs / "mitdb"), annotated_by_gqrs(gqrs / "nstdb"))
    results: dict[str, Any] = {"mitdb": {}, "nstdb": {}}
    for name, (on_mitdb, on_nstdb) in detectors.items():
        report(f"{name} on 48 records")
        results["mitdb"][name] = score(on_mitdb, mitdb, RECORDS)
        report(f"{name} on the noise stress records")
        results["nstdb"][name] = score(on_nstdb, nstdb, NOISE_RECORDS)
    report("positions")
    results["offsets"] = {
        name: {letter: offsets._asdict() for letter, offsets in position_offsets(our_detector, mitdb, records).items()}
        for name, records in PARTS.items()
    }
    report("time")
    from sleepecg.heartbeats import detect_heartbeats

    timed = {"ecgkan": lambda x: detect_rpeaks(x, 360.0), "sleepecg": lambda x: detect_heartbeats(x, 360.0)}
    results["seconds"] = time_detectors(timed, mitdb)
    for database in ("mitdb", "nstdb"):
        results[database] = {
            name: {record: list(counts) for record, counts in rows.items()} for name, rows in results[database].items()
        }
    return results


def detector_tables(results: Mapping[str, Any]) -> str:
    """Return the results of `study` as Markdown tables."""
    names = list(results["mitdb"])
    mitdb = {name: _counts(rows) for name, rows in results["mitdb"].items()}
    nstdb = {name: _counts(rows) for name, rows in results["nstdb"].items()}
    gross = [
        [part, *(_se_and_p(total(mitdb[name][record] for record in records)) for name in names)]
        for part, records in PARTS.items()
    ]
    rows = [[record, *(_se_and_p(mitdb[name][record]) for name in names)] for record in RECORDS]
    noise = [[record, *(_se_and_p(nstdb[name][record]) for name in names)] for record in NOISE_RECORDS]
    header = [f"{name} Se / +P" for name in names]
    offsets = [
        [
            part,
            letter,
            f"{row['beats']}",
            f"{row['within_percent']:.1f} %",
            f"{row['median']:.0f}",
            f"{row['low']:.0f} to {row['high']:.0f}",
        ]
        for part, classes in results["offsets"].items()
        for letter, row in classes.items()
    ]
    seconds = [[name, f"{value:.1f}"] for name, value in results["seconds"].items()]
    sections = [
        ("Gross", markdown_table(["records", *header], gross)),
        ("In noise", markdown_table(["record", *header], noise)),
        (
            "Where the marks lie",
            markdown_table(
                ["records", "class", "matched beats", f"within ±{CLOSE_SAMPLES} samples", "median", "95 % lie in"],
                offsets,
            ),
        ),
        ("Record by record", markdown_table(["record", *header], rows)),
        ("Time", markdown_table(["detector", "seconds for 24 hours"], seconds)),
    ]
    return "\n\n".join(f"## {title}\n\n{table}" for title, table in sections) + "\n"


def write_study(page: Path, results: Mapping[str, Any]) -> None:
    """Write the results as JSON beside a page, and as tables into the page, below the line that marks their place."""
    write_json(page.with_suffix(".json"), dict(results))
    marker = "<!-- tables written by `ecgkan detector score` -->"
    text = page.read_text() if page.is_file() else f"# The QRS detector\n\n{marker}\n"
    head = text.split(marker)[0]
    page.write_text(f"{head}{marker}\n\n{detector_tables(results)}")


def read_study(page: Path) -> dict[str, Any]:
    """Read the results that lie beside a page."""
    results: dict[str, Any] = json.loads(page.with_suffix(".json").read_text())
    return results


def _offsets(values: NDArray[np.int64]) -> Offsets:
    low, high = np.percentile(values, [2.5, 97.5])
    within = 100 * float((np.abs(values) <= CLOSE_SAMPLES).mean())
    return Offsets(len(values), within, float(np.median(values)), float(low), float(high))


def _counts(rows: Mapping[str, Sequence[int]]) -> dict[str, Detection]:
    return {record: Detection(*counts) for record, counts in rows.items()}


def _se_and_p(counts: Detection) -> str:
    return f"{counts.sensitivity_percent:.2f} / {counts.positive_predictivity_percent:.2f}"
