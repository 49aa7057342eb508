"""The embedded recording is what we say it is."""

import numpy as np

from ecgkan.data.beat_table import beat_labels
from ecgkan.data.embedded import EMBEDDED_REFERENCE_COUNTS, EMBEDDED_SOURCE, embedded_recording
from ecgkan.data.recording import read_annotations, read_recording


def test_it_is_five_minutes_at_360_hz():
    recording = embedded_recording()
    assert recording.signals.shape == (108_000, 1)
    assert recording.fs == 360.0
    assert recording.leads == ("MLII",)
    assert recording.duration_s == 300.0


def test_it_is_the_named_part_of_the_database(mitdb_dir):
    record, start, stop = EMBEDDED_SOURCE
    original = read_recording(mitdb_dir / record, channels=[0])
    assert original.leads == ("MLII",)
    assert np.array_equal(embedded_recording().signals, original.signals[start:stop])


def test_the_reference_counts_are_those_of_the_database(mitdb_dir):
    record, start, stop = EMBEDDED_SOURCE
    annotations = read_annotations(mitdb_dir / record, "atr")
    labels = beat_labels(annotations.symbols)[(annotations.samples >= start) & (annotations.samples < stop)]
    counts = np.bincount(labels[labels >= 0], minlength=5)
    assert dict(zip("NSVFQ", counts.tolist(), strict=True)) == dict(EMBEDDED_REFERENCE_COUNTS)
