"""Recordings: signals in mV with their sampling rate and lead names, and reference annotations.

The only room that knows file formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError, DataNotFoundError

FS_RANGE_HZ = (100.0, 2000.0)
"""Sampling rates that can be classified: below, a QRS complex has too few samples; above, something is mislabelled."""

PREFERRED_LEADS = ("MLII", "II", "ML2", "LEAD II")
"""Lead names looked for, in this order, when none is asked for; the models were trained on MLII."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One ECG recording.

    Attributes
    ----------
    name : str
        Record name.
    signals : ndarray
        `[n_samples, n_leads]` float64, mV; NaN where a sample is missing.
    fs : float
        Sampling rate, Hz.
    leads : tuple of str
        One name per column of `signals`.

    Raises
    ------
    DataError
        If shapes, sampling rate or lead names do not fit together.
    """

    name: str
    signals: NDArray[np.float64]
    fs: float
    leads: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.signals.ndim != 2 or self.signals.shape[0] == 0 or self.signals.shape[1] == 0:
            raise DataError(
                f"recording {self.name}: signals must have shape [n_samples, n_leads] with at least one sample and "
                f"one lead, got {list(self.signals.shape)}"
            )
        if len(self.leads) != self.signals.shape[1]:
            raise DataError(
                f"recording {self.name}: {self.signals.shape[1]} signals but {len(self.leads)} lead names {self.leads}"
            )
        low, high = FS_RANGE_HZ
        if not low <= self.fs <= high:
            raise DataError(
                f"recording {self.name}: sampling rate {self.fs:g} Hz, expected {low:g} to {high:g} Hz; "
                "check the header"
            )

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.signals.shape[0] / self.fs)

    def lead_index(self, lead: str | int | None = None) -> int:
        """Return the column of a lead: by name, by number, or (None) MLII by name, else the first.

        Raises
        ------
        DataError
            If there is no such lead.
        """
        if lead is None:
            upper = [name.strip().upper() for name in self.leads]
            return next((upper.index(name) for name in PREFERRED_LEADS if name in upper), 0)
        if isinstance(lead, int):
            if not 0 <= lead < len(self.leads):
                raise DataError(f"recording {self.name}: no lead number {lead}; it has {len(self.leads)}: {self.leads}")
            return lead
        matches = [i for i, name in enumerate(self.leads) if name.strip().upper() == lead.strip().upper()]
        if not matches:
            raise DataError(f"recording {self.name}: no lead {lead!r}; it has {', '.join(self.leads)}")
        return matches[0]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceAnnotations:
    """An annotation file's contents.

    Attributes
    ----------
    samples : ndarray
        `[n]` int64, positions at the recording's own sampling rate.
    symbols : tuple of str
        `[n]` WFDB annotation symbols, beats and others.
    """

    samples: NDArray[np.int64]
    symbols: tuple[str, ...]


def read_recording(path: str | Path, *, channels: Sequence[int] | None = None) -> Recording:
    """Read a WFDB record.

    Parameters
    ----------
    path : path
        The record, with or without `.hea`, `.dat` or another extension of one of its files.
    channels : sequence of int, optional
        Signals to read; all by default.

    Raises
    ------
    DataNotFoundError
        If there is no header there.
    DataError
        If the files cannot be read as a WFDB record, or hold no usable signal.
    """
    import wfdb

    base = _record_base(Path(path))
    try:
        record = wfdb.rdrecord(str(base), channels=list(channels) if channels is not None else None)
    except FileNotFoundError as error:
        raise DataNotFoundError(
            f"{base}.hea names a signal file that is not there ({Path(error.filename or '').name}); "
            "a WFDB record needs its header (.hea) and its signal file (.dat) side by side"
        ) from error
    except Exception as error:  # wfdb raises bare Exceptions, ValueErrors and IndexErrors on damaged files
        raise DataError(
            f"{base}.hea cannot be read as a WFDB record ({type(error).__name__}: {error}); expected a header and a "
            "signal file of the length it announces; compare their sizes or fetch them again"
        ) from error
    if record.p_signal is None or not record.fs:
        raise DataError(f"{base}.hea announces no signals or no sampling rate; expected at least one ECG signal")
    return Recording(
        name=base.name,
        signals=np.asarray(record.p_signal, dtype=np.float64),
        fs=float(record.fs),
        leads=tuple(str(name) for name in record.sig_name),
    )


def read_annotations(path: str | Path, annotator: str) -> ReferenceAnnotations:
    """Read a WFDB annotation file of a record.

    Parameters
    ----------
    path : path
        The record, with or without extension.
    annotator : str
        Annotator name: the annotation file's extension, such as `atr`.

    Raises
    ------
    DataNotFoundError
        If there is no such annotation file.
    DataError
        If it cannot be read.
    """
    import wfdb

    base = _strip_extension(Path(path))
    file = base.with_name(f"{base.name}.{annotator}")
    if not file.is_file():
        raise DataNotFoundError(f"no annotation file {file}; annotators there: {_annotators_beside(base)}")
    try:
        annotation = wfdb.rdann(str(base), annotator)
    except Exception as error:  # wfdb raises IndexError, ValueError and others on damaged files
        raise DataError(
            f"{file} cannot be read as a WFDB annotation file ({type(error).__name__}: {error}); fetch it again"
        ) from error
    return ReferenceAnnotations(samples=np.asarray(annotation.sample, dtype=np.int64), symbols=tuple(annotation.symbol))


def _strip_extension(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in {".hea", ".dat", ".atr"} else path


def _record_base(path: Path) -> Path:
    base = _strip_extension(path)
    if not base.with_name(f"{base.name}.hea").is_file():
        near = sorted(p.stem for p in base.parent.glob("*.hea"))[:5] if base.parent.is_dir() else []
        hint = f"records there: {', '.join(near)} ..." if near else f"no WFDB headers in {base.parent}"
        raise DataNotFoundError(f"no WFDB record at {base} (looked for {base.name}.hea); {hint}")
    return base


def _annotators_beside(base: Path) -> str:
    signal_extensions = {".hea", ".dat"}
    found = sorted(p.suffix[1:] for p in base.parent.glob(f"{base.name}.*") if p.suffix not in signal_extensions)
    return ", ".join(found) or "none"
