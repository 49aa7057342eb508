"""All beats of chosen records with their context, as the models for new patients are trained and scored on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.beat_table import beat_labels
from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE
from ecgkan.data.context import BeatContext, average_beats, context_features, cut_shapes, scale_shapes
from ecgkan.data.leads import choose_lead
from ecgkan.data.mitdb import DS1, database_dir
from ecgkan.data.recording import Recording, read_annotations, read_recording
from ecgkan.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class ContextTable:
    """Beats with their context, record by record, in time order.

    Attributes
    ----------
    shapes, averages : ndarray
        `[n, leads, 112]` float32, mV: each beat, and the average beat so far. The first lead is the one chosen by name.
    rhythm : ndarray
        `[n, leads, 31]` float32, the columns `ecgkan.data.context.CONTEXT_FEATURES`.
    labels : ndarray
        `[n]` int64, class indices 0..4 = N S V F Q.
    records : ndarray
        `[n]` str, record names.
    counted : ndarray
        `[n]` bool, beats whose window of 256 samples fits into the record: those the protocol counts.
    """

    shapes: NDArray[np.float32]
    averages: NDArray[np.float32]
    rhythm: NDArray[np.float32]
    labels: NDArray[np.int64]
    records: NDArray[np.str_]
    counted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def of_records(self, records: Sequence[str]) -> "ContextTable":
        """Return the beats of some records, in the order they have here."""
        chosen = np.isin(self.records, records)
        return ContextTable(
            shapes=self.shapes[chosen],
            averages=self.averages[chosen],
            rhythm=self.rhythm[chosen],
            labels=self.labels[chosen],
            records=self.records[chosen],
            counted=self.counted[chosen],
        )

    def model_input(self, lead: int = 0) -> BeatContext:
        """Return all beats as a model takes them."""
        return BeatContext(scale_shapes(self.shapes[:, lead], self.averages[:, lead]), self.rhythm[:, lead])


def load_training_context(data_dir: Path | None = None) -> ContextTable:
    """Load the beats of DS1 in both leads; see `read_context_table`. DS2 is in `ecgkan.data.ds2`."""
    return read_context_table(database_dir("mitdb", data_dir), records=DS1)


def read_context_table(database: Path, *, records: Sequence[str]) -> ContextTable:
    """Read records of the MIT-BIH Arrhythmia Database and put all their beats into context, in both leads.

    Parameters
    ----------
    database : Path
        The folder `mitdb`.
    records : sequence of str
        Records, in the order of the table.

    Raises
    ------
    DataNotFoundError, DataError
        If a record is missing or damaged.
    """
    parts = [put_into_context(read_recording(database / record), database / record)[0] for record in records]
    return ContextTable(
        shapes=np.concatenate([part.shapes for part in parts]),
        averages=np.concatenate([part.averages for part in parts]),
        rhythm=np.concatenate([part.rhythm for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        records=np.concatenate([part.records for part in parts]),
        counted=np.concatenate([part.counted for part in parts]),
    )


def put_into_context(recording: Recording, path: Path) -> tuple[ContextTable, NDArray[np.int64]]:
    """Put the beats that a record's annotator `atr` marks into context, in both leads.

    Parameters
    ----------
    recording : Recording
        The record, as it is or changed, at 360 Hz and with two leads.
    path : Path
        The record, for its annotations.

    Returns
    -------
    tuple of ContextTable and ndarray
        The beats, and their R peaks `[n]` int64, in samples.
    """
    annotations = read_annotations(path, "atr")
    try:
        labels = beat_labels(annotations.symbols)
    except ValueError as error:
        raise DataError(f"{path}.atr: {error}") from error
    samples, labels = annotations.samples[labels >= 0], labels[labels >= 0]
    rr_s = np.diff(samples, prepend=np.nan) / BEAT_FS
    chosen = choose_lead(path.name, recording.leads).index
    shapes, averages, rhythm = [], [], []
    for column in (chosen, 1 - chosen):
        shapes.append(cut_shapes(recording.signals[:, column], samples))
        averages.append(average_beats(shapes[-1], rr_s))
        rhythm.append(context_features(shapes[-1], averages[-1], rr_s))
    counted = (samples - BEFORE >= 0) & (samples + AFTER < recording.signals.shape[0])
    names = np.full(len(samples), path.name)
    table = ContextTable(np.stack(shapes, 1), np.stack(averages, 1), np.stack(rhythm, 1), labels, names, counted)
    return table, samples
