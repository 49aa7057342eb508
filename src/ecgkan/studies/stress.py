"""What a user gets: the models for new patients behind our own detector, by EC57, and in noise.

Noise is added as WFDB's `nst` does it for the noise stress database: record `em`, from 5:00 on in turn two minutes with
and two without, at a signal-to-noise ratio that counts the QRS complexes' height as the signal's. The gain agrees with
that of the published stress records within 1 % in the first lead and 2 % in the second (tests/studies/test_stress.py).
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.context_table import put_into_context
from ecgkan.data.leads import choose_lead
from ecgkan.data.mitdb import DS2, database_dir
from ecgkan.data.recording import Recording, read_annotations, read_recording
from ecgkan.evaluation.ec57 import AnnotatorFiles, Comparison, compare_folders
from ecgkan.evaluation.inter_patient import headline_dict, record_confusions
from ecgkan.inference.classifier import classify
from ecgkan.models.checkpoint import Checkpoint
from ecgkan.models.patient import PatientClassifier
from ecgkan.studies.detector import NOISE_RECORDS
from ecgkan.studies.patients import scored_models
from ecgkan.training.patients import predict_context

SNRS_DB: Final = (24, 18, 12, 6, 0, -6)

LEARNING_S: Final = 300
"""Noise starts here."""

_NORMAL: Final = ("N", "L", "R")
"""Beats by whose height `nst` measures the signal."""

TURN_S: Final = 120
"""Length of a stretch with noise, and of one without."""

_MEASURED: Final = 300
_TRIMMED: Final = 0.05
"""`nst` measures the first 300 normal beats, and 300 s of noise, without the largest and the smallest 5 % of them."""


def is_noisy_minute(samples: NDArray[np.integer], fs: float) -> NDArray[np.bool_]:
    """Say which samples `[n]` lie in stretches to which noise is added."""
    seconds = np.asarray(samples) / fs - LEARNING_S
    return np.asarray((seconds >= 0) & (np.floor(seconds / TURN_S) % 2 == 0))


def add_noise(
    signal: NDArray[np.floating], rpeaks: NDArray[np.integer], noise: NDArray[np.floating], fs: float, snr_db: float
) -> NDArray[np.float64]:
    """Add noise to a lead.

    Parameters
    ----------
    signal : ndarray
        `[n]`, mV.
    rpeaks : ndarray
        `[m]`, reference R peaks of normal beats; their QRS complexes' mean height A counts as a signal of power A²/8.
    noise : ndarray
        `[k]`, from the recording's start on, repeated as often as needed; its power is the mean square over seconds,
        each around its own mean.
    fs : float
        Sampling rate of both, Hz.
    snr_db : float
        Ratio of the two powers in the noisy stretches.
    """
    reach = round(0.05 * fs)
    heights = [
        np.ptp(signal[peak - reach : peak + reach + 1]) for peak in rpeaks if reach <= peak < len(signal) - reach
    ]
    seconds = noise[: len(noise) // round(fs) * round(fs)].reshape(-1, round(fs))
    power = _trimmed_mean(np.array(heights)[:_MEASURED]) ** 2 / 8
    gain = np.sqrt(power / (_trimmed_mean(seconds.std(axis=1)[:_MEASURED]) ** 2 * 10 ** (snr_db / 10)))
    everywhere = np.resize(noise, len(signal))
    noisy: NDArray[np.float64] = signal + gain * everywhere * is_noisy_minute(np.arange(len(signal)), fs)
    return noisy


def _trimmed_mean(values: NDArray[np.floating]) -> float:
    cut = int(_TRIMMED * len(values))
    return float(np.sort(values)[cut : len(values) - cut].mean())


def noisy_recording(database: Path, record: str, noise: NDArray[np.floating], snr_db: float) -> Recording:
    """Read a record and add noise `[k, 2]` to both leads, its first column to the one that is chosen by name."""
    recording = read_recording(database / record)
    chosen = choose_lead(record, recording.leads).index
    annotations = read_annotations(database / record, "atr")
    rpeaks = annotations.samples[np.isin(annotations.symbols, _NORMAL)]
    signals = recording.signals.copy()
    for column, added in zip((chosen, 1 - chosen), noise.T, strict=True):
        signals[:, column] = add_noise(signals[:, column], rpeaks, added, recording.fs, snr_db)
    return replace(recording, signals=signals)


def ec57_in_the_loop(
    model: Checkpoint,
    database: Path,
    records: Sequence[str],
    *,
    read: Callable[[str], Recording] | None = None,
    second_lead: str | None = None,
) -> tuple[Comparison, float]:
    """Classify records with our own detector and compare the result with annotator `atr` by EC57.

    Parameters
    ----------
    model : Checkpoint
        Any model.
    database : Path
        Folder of the records and their annotations.
    records : sequence of str
        Record names.
    read : callable, optional
        From a record's name to its recording; by default read from the database.
    second_lead : str, optional
        See `ecgkan.classify`.

    Returns
    -------
    tuple of Comparison and float
        The comparison, and the share of the beats found that are left out as unreadable.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = annotate(model, database, records, Path(folder), read=read, second_lead=second_lead)
        comparison = compare_folders(
            AnnotatorFiles(database, "atr"), AnnotatorFiles(Path(folder), "ecgkan"), list(records)
        )
    return comparison, share_left_out(found.values())


class BeatsFound(NamedTuple):
    """How many beats the detector found in a record, and how many of them are left out as unreadable."""

    found: int
    left_out: int


def annotate(
    model: Checkpoint,
    database: Path,
    records: Sequence[str],
    folder: Path,
    *,
    read: Callable[[str], Recording] | None = None,
    second_lead: str | None = None,
) -> dict[str, BeatsFound]:
    """Classify records with our own detector and write the annotation files that `ecgkan classify` writes.

    Parameters
    ----------
    model, database, records, read, second_lead
        As in `ec57_in_the_loop`.
    folder : Path
        Existing folder for the files `<record>.ecgkan`.

    Returns
    -------
    dict
        Record → beats found, and how many of them are left out.
    """
    found = {}
    for record in records:
        recording = read(record) if read is not None else read_recording(database / record)
        annotations = classify(recording, model, second_lead=second_lead)
        annotations.to_wfdb(folder)
        left_out = len(annotations.left_out)
        found[record] = BeatsFound(len(annotations.samples) + left_out, left_out)
    return found


def share_left_out(found: Iterable[BeatsFound]) -> float:
    """Return the share of the beats found that are left out."""
    beats = list(found)
    return sum(record.left_out for record in beats) / max(sum(record.found for record in beats), 1)


def reference_peaks_in_noise(
    network: PatientClassifier, database: Path, noise: NDArray[np.floating], snr_db: float
) -> dict[str, Any]:
    """Return the N S V table of DS2's beats in noisy stretches, with reference R peaks and nothing left out."""
    labels, predicted, records = [], [], []
    for record in DS2:
        table, samples = put_into_context(noisy_recording(database, record, noise, snr_db), database / record)
        chosen = is_noisy_minute(samples, 360.0) & table.counted
        predicted.append(predict_context(network, table).argmax(axis=1)[chosen])
        labels.append(table.labels[chosen])
        records.append(table.records[chosen])
    confusions = record_confusions(np.concatenate(labels), np.concatenate(predicted), np.concatenate(records))
    return headline_dict(confusions.total)


def stress(
    names: Sequence[str], *, log: Path, data_dir: Path | None = None, announce: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Run everything of this module for some models.

    Parameters
    ----------
    names : sequence of str
        Names of shipped models, or files.
    log : Path
        The log of DS2 scorings, in which other weights than the shipped ones have to be.

    Returns
    -------
    dict
        By model: `ds2` (EC57, detector in the loop, DS2), `ds2_two_leads`,
        `noise_stress` (the noise stress records, training patients), `ds2_in_noise` by SNR: EC57 and reference R peaks.
    """
    mitdb, nstdb = database_dir("mitdb", data_dir), database_dir("nstdb", data_dir)
    noise = np.nan_to_num(read_recording(nstdb / "em").signals)
    document: dict[str, Any] = {}
    for name, (model, network) in scored_models(names, log).items():
        announce(f"{name}: DS2")
        document[name] = {"weights_sha256": model.sha256, "ds2": told(ec57_in_the_loop(model, mitdb, DS2))}
        document[name]["ds2_two_leads"] = told(ec57_in_the_loop(model, mitdb, DS2, second_lead="auto"))
        document[name]["noise_stress"] = {
            record: told(ec57_in_the_loop(model, nstdb, [record]), runs=False) for record in NOISE_RECORDS
        }
        document[name]["ds2_in_noise"] = {}
        for snr_db in SNRS_DB:
            announce(f"{name}: DS2 with em at {snr_db} dB")

            def read(record: str, snr_db: int = snr_db) -> Recording:
                return noisy_recording(mitdb, record, noise, snr_db)

            document[name]["ds2_in_noise"][str(snr_db)] = {
                "ec57": told(ec57_in_the_loop(model, mitdb, DS2, read=read), runs=False),
                "reference_peaks": reference_peaks_in_noise(network, mitdb, noise, snr_db),
            }
    return document


def told(result: tuple[Comparison, float], *, runs: bool = True) -> dict[str, Any]:
    """Return the figures of a comparison, and unless told otherwise their average and those of each record, percent."""
    comparison, left_out = result
    whole = comparison.to_dict()
    figures = {"left_out_percent": round(100 * left_out, 3), "gross": _percents(whole["gross"])}
    if runs:
        figures["average"] = {key: _rounded(value) for key, value in whole["average_percent"].items()}
        figures["records"] = {record: _percents(values) for record, values in whole["records"].items()}
    return figures


def _percents(figures: dict[str, Any]) -> dict[str, Any]:
    percents = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            percents[name] = _rounded(value["percent"]) if "percent" in value else _percents(value)
    return percents


def _rounded(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {name: _rounded(figure) for name, figure in value.items()}
    return None if value is None else round(float(value), 3)
