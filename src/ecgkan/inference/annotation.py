"""Beat annotations: what a model says about each beat of a recording, as a value, a table and a WFDB file."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.errors import DataError
from ecgkan.inference.writing import refuse_existing, replacing

if TYPE_CHECKING:
    import pandas as pd

ANNOTATOR: Final = "ecgkan"
"""Annotator name, thus extension, of the annotation files we write."""

HEART_RATE_BEATS: Final = 8
"""RR intervals of which the median gives a local heart rate, so that one early or missed beat does not."""

ECTOPIC_CLASSES: Final = ("S", "V")

CLASS_NAMES: Final = {
    "N": "normal",
    "S": "supraventricular ectopic",
    "V": "ventricular ectopic",
    "F": "fusion",
    "Q": "paced or unclassifiable",
}
"""Short forms of `ecgkan.aami.CLASS_MEANINGS`, for tables and legends."""


def _no_samples() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class AnnotationSummary:
    """What a reader wants to know first.

    Attributes
    ----------
    record, lead, rpeaks, model, weights_sha256 : str
        Of the annotations.
    duration_s : float
        Length of the recording.
    beats : int
        Classified beats.
    left_out : int
        Beats without enough signal to classify.
    counts : mapping
        Class letter → beats, in the order N S V F Q.
    ectopic_burden_percent : float
        Beats of class S or V, in percent of all classified beats; NaN without beats. Fusion beats (F) are not counted.
    heart_rate_mean, heart_rate_min, heart_rate_max : float
        Beats per minute: mean, minimum and maximum over the recording of 60 s divided by the median of 8
        consecutive RR intervals (of all of them where there are fewer); NaN without RR intervals.
    """

    record: str
    lead: str
    rpeaks: str
    model: str
    weights_sha256: str
    duration_s: float
    beats: int
    left_out: int
    counts: Mapping[str, int]
    ectopic_burden_percent: float
    heart_rate_mean: float
    heart_rate_min: float
    heart_rate_max: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold: None instead of NaN."""
        return {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True, eq=False)
class BeatAnnotations:
    """The classified beats of one lead of a recording.

    Attributes
    ----------
    record : str
        Record name.
    fs : float
        The recording's sampling rate, Hz.
    samples : ndarray
        `[n]` int64, R peaks at `fs`, ascending.
    classes : ndarray
        `[n]` str, class letters N S V F Q.
    probabilities : ndarray
        `[n, 5]` float32, calibrated, columns in the order N S V F Q.
    rr_before_s, rr_after_s : ndarray
        `[n]` float64, seconds to the previous and the next beat; NaN at the ends, and across missing
        signal where beats may have gone undetected.
    lead : str
        Name of the lead that was classified.
    model : str
        Name of the model.
    weights_sha256 : str
        SHA-256 of its checkpoint file; empty for a model that came from no file.
    rpeaks : str
        Where the R peaks came from: "detector", "annotator atr" ..., "given".
    duration_s : float
        Length of the recording.
    left_out : ndarray
        `[m]` int64, R peaks at `fs` that could not be classified because the signal is missing there.

    Raises
    ------
    DataError
        If shapes do not fit together, samples descend, or a class is none of the five.
    """

    record: str
    fs: float
    samples: NDArray[np.int64]
    classes: NDArray[np.str_]
    probabilities: NDArray[np.float32]
    rr_before_s: NDArray[np.float64]
    rr_after_s: NDArray[np.float64]
    lead: str
    model: str
    weights_sha256: str
    rpeaks: str
    duration_s: float
    left_out: NDArray[np.int64] = field(default_factory=_no_samples)

    def __post_init__(self) -> None:
        n = len(self.samples)
        expected = {"samples": (n,), "classes": (n,), "rr_before_s": (n,), "rr_after_s": (n,)}
        for name, shape in (expected | {"probabilities": (n, len(CLASSES))}).items():
            if getattr(self, name).shape != shape:
                found = list(getattr(self, name).shape)
                raise DataError(f"annotations of {self.record}: {name} has shape {found}, expected {list(shape)}")
        if n and (self.samples[0] < 0 or np.any(np.diff(self.samples) < 0)):
            raise DataError(f"annotations of {self.record}: samples must be ascending and not negative; sort the beats")
        unknown = sorted(set(self.classes.tolist()) - set(CLASSES))
        if unknown:
            raise DataError(f"annotations of {self.record}: unknown classes {unknown}; expected {' '.join(CLASSES)}")

    def __len__(self) -> int:
        return len(self.samples)

    def to_dataframe(self) -> "pd.DataFrame":
        """Return one row per beat: sample, time_s, class, p_N ... p_Q, rr_before_s, rr_after_s."""
        import pandas as pd

        columns: dict[str, Any] = {"sample": self.samples, "time_s": self.samples / self.fs, "class": self.classes}
        columns |= {f"p_{letter}": self.probabilities[:, i] for i, letter in enumerate(CLASSES)}
        columns |= {"rr_before_s": self.rr_before_s, "rr_after_s": self.rr_after_s}
        return pd.DataFrame(columns)

    def to_csv(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the table of `to_dataframe`; an unknown RR interval is an empty field.

        Raises
        ------
        OutputExistsError
            If the file exists and `overwrite` is False.
        """
        path = Path(path)
        with replacing(path, overwrite=overwrite) as temporary:
            self.to_dataframe().to_csv(temporary, index=False, float_format="%.6f")
        return path

    def to_wfdb(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a WFDB annotation file, `FOLDER/<record>.ecgkan`, with symbols N S V F Q.

        `wfdb.rdann(f"{folder}/{record}", "ecgkan")` reads back the same samples and symbols.

        Raises
        ------
        DataError
            If the record's name cannot be one of WFDB.
        OutputExistsError
            If the file exists and `overwrite` is False.
        """
        _, path = output_paths(folder, self.record)
        with replacing(path, overwrite=overwrite) as temporary:
            if len(self):
                self._write_annotation_file(temporary.parent)
            else:  # wfdb refuses to write it; by the format it is the two zero bytes that end every file
                temporary.write_bytes(b"\0\0")
        return path

    def _write_annotation_file(self, folder: Path) -> None:
        import wfdb

        symbols = self.classes.tolist()
        wfdb.wrann(self.record, ANNOTATOR, self.samples, symbol=symbols, fs=float(self.fs), write_dir=str(folder))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write `<record>.csv` and `<record>.ecgkan` into a folder; nothing if one of them exists.

        Raises
        ------
        DataError, OutputExistsError
            See `to_wfdb`.
        """
        table, annotation_file = output_paths(folder, self.record)
        refuse_existing([table, annotation_file], overwrite=overwrite)
        return self.to_csv(table, overwrite=overwrite), self.to_wfdb(folder, overwrite=overwrite)

    def summary(self) -> AnnotationSummary:
        """Count the beats; see `AnnotationSummary` for how burden and heart rate are defined."""
        counts = {letter: int(np.count_nonzero(self.classes == letter)) for letter in CLASSES}
        rates = heart_rates(self.rr_before_s)
        return AnnotationSummary(
            record=self.record,
            lead=self.lead,
            rpeaks=self.rpeaks,
            model=self.model,
            weights_sha256=self.weights_sha256,
            duration_s=self.duration_s,
            beats=len(self),
            left_out=len(self.left_out),
            counts=counts,
            ectopic_burden_percent=ectopic_burden_percent(counts),
            heart_rate_mean=float(rates.mean()) if len(rates) else float("nan"),
            heart_rate_min=float(rates.min()) if len(rates) else float("nan"),
            heart_rate_max=float(rates.max()) if len(rates) else float("nan"),
        )


def ectopic_burden_percent(counts: Mapping[str, int]) -> float:
    """Return the beats of class S or V in percent of all beats, from beats per class; NaN without beats."""
    beats = sum(counts.values())
    return 100 * sum(counts[letter] for letter in ECTOPIC_CLASSES) / beats if beats else float("nan")


def heart_rates(rr_s: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return local heart rates, beats per minute: 60 / median of 8 consecutive RR intervals, moved beat by beat.

    Parameters
    ----------
    rr_s : ndarray
        `[n]`, seconds; NaN where unknown, left out like intervals that are not positive.

    Returns
    -------
    ndarray
        `[max(k - 7, 1)]` for k known intervals, `[0]` for none.
    """
    known = np.asarray(rr_s, dtype=np.float64)
    known = known[np.isfinite(known) & (known > 0)]
    if len(known) == 0:
        return known
    windows = np.lib.stride_tricks.sliding_window_view(known, min(HEART_RATE_BEATS, len(known)))
    rates: NDArray[np.float64] = 60.0 / np.median(windows, axis=1)
    return rates


def output_paths(folder: str | Path, record: str) -> tuple[Path, Path]:
    """Return where `BeatAnnotations.save` writes the table and the WFDB annotation file.

    Raises
    ------
    DataError
        If the record's name cannot be one of WFDB.
    """
    # WFDB's own rule; wfdb-python also lets letters pass that WFDB's C programs do not.
    if not re.fullmatch(r"[A-Za-z0-9_-]+", record):
        raise DataError(
            f"{record!r} cannot be the name of a WFDB record: expected letters, digits, hyphens and underscores; "
            "rename the recording's files, or the annotations with dataclasses.replace(annotations, record=...)"
        )
    return Path(folder) / f"{record}.csv", Path(folder) / f"{record}.{ANNOTATOR}"
