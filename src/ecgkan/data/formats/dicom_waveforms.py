"""DICOM waveforms: 12-lead, general and ambulatory ECG (DICOM PS3.3, A.34 and C.10.9)."""

import datetime
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.formats.opened import Assumptions, OpenedSignals, Signal, agreed_fs, keep_signals, reading
from ecgkan.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KINDS: Final = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4", "SV": "i8", "UV": "u8"}
"""NumPy types by Waveform Sample Interpretation; MB and AB, compressed audio, are no ECG."""


class _Channel(NamedTuple):
    """A channel's definition: value = sample * sensitivity + baseline, in `unit`."""

    name: str
    unit: str
    sensitivity: float
    baseline: float


def open_dicom(path: Path, assumptions: Assumptions) -> OpenedSignals:
    """Open a DICOM file with a waveform; its samples are held in memory as they are in the file.

    Parameters
    ----------
    path : Path
        The file.
    assumptions : Assumptions
        Units for channels that state none.

    Raises
    ------
    DataError
        If the file is damaged or holds no ECG waveform.
    """
    import pydicom

    with reading(path, "a DICOM waveform", "a DICOM file with an ECG waveform"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, on fields that are not read here
        dataset = pydicom.dcmread(path)
        group, notes = _choose_group(path, dataset)
        samples = _samples(path, dataset, group)
        channels = [_channel(definition, i) for i, definition in enumerate(group.ChannelDefinitionSequence)]
        if len(channels) != samples.shape[1]:
            raise DataError(f"{path} announces {samples.shape[1]} channels and defines {len(channels)}")
        stated_fs = float(group.SamplingFrequency) if group.get("SamplingFrequency") else 0.0
        if stated_fs <= 0:
            raise DataError(f"{path} states a sampling rate of {stated_fs:g} Hz; expected 100 to 2000 Hz")
        fs = agreed_fs(path, stated_fs, assumptions.fs)
        kept = keep_signals(path, [Signal(c.name, c.unit, fs) for c in channels], assumptions.units)
        reader = _Reader(
            samples, _padding(dataset, group), [channels[i] for i in kept.places], kept.places, kept.mv_per_unit
        )
        return OpenedSignals(
            fs=fs,
            leads=tuple(channels[i].name for i in kept.places),
            n_samples=len(samples),
            read=reader.read,
            started=_started(dataset, group),
            notes=(*notes, *kept.notes),
        )


class _Reader(NamedTuple):
    """Reads parts of a multiplex group held as `[n_samples, n_channels]` integers."""

    samples: NDArray[np.integer[Any]]
    padding: int | None
    channels: Sequence[_Channel]
    places: Sequence[int]
    scales: Sequence[float]

    def read(self, start: int, stop: int, columns: Sequence[int]) -> NDArray[np.float64]:
        """Return samples `[start, stop)`, mV; NaN where the file holds its padding value."""
        values = np.empty((stop - start, len(columns)))
        for k, column in enumerate(columns):
            digital = self.samples[start:stop, self.places[column]]
            channel = self.channels[column]
            values[:, k] = (digital * channel.sensitivity + channel.baseline) * self.scales[column]
            if self.padding is not None:
                values[digital == self.padding, k] = np.nan
        return values


def _choose_group(path: Path, dataset: "Dataset") -> tuple["Dataset", tuple[str, ...]]:
    """Choose the multiplex group: the recorded rhythm rather than a median beat or a derived one, then the longest."""
    groups = list(dataset.get("WaveformSequence") or ())
    if not groups:
        raise DataError(f"{path} is a DICOM file without a waveform ({_kind(dataset)}); expected an ECG waveform")
    labels = [str(group.get("MultiplexGroupLabel") or "").strip() or f"group {i}" for i, group in enumerate(groups)]
    place = max(range(len(groups)), key=lambda i: (_preference(groups[i], labels[i]), -i))
    if len(groups) == 1:
        return groups[0], ()
    others = ", ".join(label for i, label in enumerate(labels) if i != place)
    return groups[place], (f"of {len(groups)} multiplex groups {labels[place]} is read; left out: {others}",)


def _preference(group: "Dataset", label: str) -> tuple[bool, bool, bool, int]:
    return (
        not re.search(r"median|template|average|mean", label, re.IGNORECASE),
        "rhythm" in label.lower(),
        group.get("WaveformOriginality") != "DERIVED",
        int(group.get("NumberOfWaveformSamples") or 0),
    )


def _kind(dataset: "Dataset") -> str:
    uid = dataset.get("SOPClassUID")
    return str(uid.name) if uid is not None else "of no stated kind"


def _samples(path: Path, dataset: "Dataset", group: "Dataset") -> NDArray[np.integer[Any]]:
    n_channels, n_samples = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
    dtype = _dtype(path, dataset, group)
    data = bytes(group.WaveformData)
    needed = n_channels * n_samples * dtype.itemsize
    if len(data) < needed:
        raise DataError(
            f"{path} is too short: it holds {len(data)} bytes of waveform, {n_samples} samples of {n_channels} "
            f"channels need {needed}; export it again"
        )
    return np.frombuffer(data, dtype, count=n_channels * n_samples).reshape(n_samples, n_channels)


def _dtype(path: Path, dataset: "Dataset", group: "Dataset") -> np.dtype[Any]:
    kind = str(group.WaveformSampleInterpretation)
    if kind not in _KINDS:
        raise DataError(f"{path} holds waveform samples of kind {kind!r}; expected one of {', '.join(_KINDS)}")
    is_little_endian = dataset.original_encoding[1]
    return np.dtype(("<" if is_little_endian is not False else ">") + _KINDS[kind])


def _padding(dataset: "Dataset", group: "Dataset") -> int | None:
    value = group.get("WaveformPaddingValue")
    if value is None:
        return None
    if isinstance(value, int):
        return value
    dtype = _dtype(Path(), dataset, group)
    return int(np.frombuffer(bytes(value)[: dtype.itemsize], dtype)[0]) if len(value) >= dtype.itemsize else None


def _channel(definition: "Dataset", number: int) -> _Channel:
    units = definition.get("ChannelSensitivityUnitsSequence")
    correction = definition.get("ChannelSensitivityCorrectionFactor")
    sensitivity = definition.get("ChannelSensitivity")
    scale = 1.0 if sensitivity is None else float(sensitivity)  # without one, samples are in adu
    return _Channel(
        name=_lead_name(definition, number),
        unit=str(units[0].CodeValue) if units else ("adu" if sensitivity is None else ""),
        sensitivity=scale * (1.0 if correction is None else float(correction)),
        baseline=float(definition.get("ChannelBaseline") or 0.0),
    )


def _lead_name(definition: "Dataset", number: int) -> str:
    """Return `II` for `Lead II (Einthoven)`: the source's meaning, else the channel's label, else its number."""
    source = definition.get("ChannelSourceSequence")
    meaning = str(source[0].get("CodeMeaning") or "") if source else ""
    name = meaning or str(definition.get("ChannelLabel") or "")
    return re.sub(r"^lead\s+|\s*\(.*?\)", "", name.strip(), flags=re.IGNORECASE).strip() or f"channel {number}"


def _started(dataset: "Dataset", group: "Dataset") -> datetime.datetime | None:
    stated = str(dataset.get("AcquisitionDateTime") or "")
    if not stated:
        stated = f"{dataset.get('ContentDate') or dataset.get('StudyDate') or ''}"
        stated += f"{dataset.get('ContentTime') or dataset.get('StudyTime') or ''}"
    match = re.match(r"(\d{14})(?:\.(\d{1,6}))?", stated)
    if match is None:
        return None
    try:
        started = datetime.datetime.strptime(match[1], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    offset_ms = float(group.get("MultiplexGroupTimeOffset") or 0.0)
    return started + datetime.timedelta(seconds=float(f"0.{match[2] or 0}"), milliseconds=offset_ms)
