"""Beat annotations: what a model says about each beat of a recording, as a value, a table and a WFDB file."""

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES
from ecgkan.data.beats import AFTER, BEFORE
from ecgkan.errors import DataError
from ecgkan.inference.writing import refuse_existing, replacing

if TYPE_CHECKING:
    import pandas as pd

ANNOTATOR: Final = "ecgkan"
"""Annotator name, thus extension, of the annotation files we write."""

UNCERTAIN_BELOW: Final = 0.9
"""A beat whose class has a calibrated probability below this is flagged `uncertain`; docs/quality.md says why here."""

NOISE_SYMBOL: Final = "~"
"""WFDB's symbol for a change in signal quality."""

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


_OTHER_EXTENSIONS: Final = ("hea", "dat", "csv", "parquet", "json", "html", "png")


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
        Beats that were not classified: too little signal, or too much noise, where they lie.
    uncertain : int
        Classified beats flagged `uncertain`.
    noisy_s : float
        Seconds in stretches that were not read.
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
    uncertain: int
    noisy_s: float
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
    quality : ndarray
        `[n]` float32, signal quality index around each beat from 0 (unreadable) to 1 (clean); see docs/quality.md.
    noisy : ndarray
        `[k, 2]` int64, start and stop (exclusive) at `fs` of stretches that are not read, because signal is missing
        there or too noisy; ascending, not overlapping.
    noisy_reasons : tuple of str
        `k` reasons: "missing", "flat", "saturated", "noise", "baseline".
    mean_beats : ndarray
        `[5, 256]` float32, mV, 360 Hz: mean window of each class; NaN where a class has no beat.
    left_out : ndarray
        `[m]` int64, R peaks at `fs` that were not classified: they lie in a stretch that is not read, or too little
        of their window is signal.
    started : datetime or None
        When the recording began, if its file says so.
    lead_reason : str
        Why this lead was chosen.
    inverted : bool
        The lead looks as if it were recorded upside down; it was classified as it is.
    notes : tuple of str
        What the reader of the file and the classification assumed or noticed.

    Raises
    ------
    DataError
        If shapes do not fit together, samples descend, stretches overlap, or a class is none of the five.
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
    quality: NDArray[np.float32]
    noisy: NDArray[np.int64]
    noisy_reasons: tuple[str, ...]
    mean_beats: NDArray[np.float32]
    left_out: NDArray[np.int64] = field(default_factory=_no_samples)
    started: datetime.datetime | None = None
    lead_reason: str = ""
    inverted: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, k = len(self.samples), len(self.noisy_reasons)
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(
            ("samples", "classes", "rr_before_s", "rr_after_s", "quality"), (n,)
        )
        expected |= {"probabilities": (n, len(CLASSES)), "noisy": (k, 2), "mean_beats": (len(CLASSES), BEFORE + AFTER)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                found = list(getattr(self, name).shape)
                raise DataError(f"annotations of {self.record}: {name} has shape {found}, expected {list(shape)}")
        if n and (self.samples[0] < 0 or np.any(np.diff(self.samples) < 0)):
            raise DataError(f"annotations of {self.record}: samples must be ascending and not negative; sort the beats")
        unknown = sorted(set(self.classes.tolist()) - set(CLASSES))
        if unknown:
            raise DataError(f"annotations of {self.record}: unknown classes {unknown}; expected {' '.join(CLASSES)}")
        edges = self.noisy.ravel()
        if k and (edges[0] < 0 or np.any(np.diff(edges) < 0) or np.any(self.noisy[:, 0] == self.noisy[:, 1])):
            raise DataError(f"annotations of {self.record}: noisy stretches must ascend, not overlap and not be empty")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def uncertain(self) -> NDArray[np.bool_]:
        """Which beats `[n]` have no class of a calibrated probability of at least `UNCERTAIN_BELOW`."""
        return np.asarray(self.probabilities.max(axis=1, initial=0.0) < UNCERTAIN_BELOW)

    @property
    def noisy_s(self) -> float:
        """Seconds in stretches that are not read."""
        return float((self.noisy[:, 1] - self.noisy[:, 0]).sum() / self.fs)

    def to_dataframe(self) -> "pd.DataFrame":
        """Return one row per beat.

        Columns: sample, time_s, class, p_N ... p_Q, rr_before_s, rr_after_s, quality, uncertain.
        """
        import pandas as pd

        columns: dict[str, Any] = {"sample": self.samples, "time_s": self.samples / self.fs, "class": self.classes}
        columns |= {f"p_{letter}": self.probabilities[:, i] for i, letter in enumerate(CLASSES)}
        columns |= {"rr_before_s": self.rr_before_s, "rr_after_s": self.rr_after_s}
        columns |= {"quality": self.quality, "uncertain": self.uncertain}
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

    def to_parquet(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the table of `to_dataframe` as a Parquet file.

        Raises
        ------
        OutputExistsError
            If the file exists and `overwrite` is False.
        """
        path = Path(path)
        with replacing(path, overwrite=overwrite) as temporary:
            self.to_dataframe().to_parquet(temporary, index=False)
        return path

    def to_json(
        self, path: str | Path, *, facts: Mapping[str, Any] = MappingProxyType({}), overwrite: bool = False
    ) -> Path:
        """Write the Holter summary with what was classified by what, as JSON.

        Parameters
        ----------
        path : path
            The file.
        facts : mapping, optional
            Further plain values to write beside the others.

        Raises
        ------
        OutputExistsError
            If the file exists and `overwrite` is False.
        """
        from ecgkan.inference.holter import summarize

        document = self._facts() | dict(facts) | {"summary": summarize(self).to_dict()}
        path = Path(path)
        with replacing(path, overwrite=overwrite) as temporary:
            text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
            temporary.write_text(f"{text}\n", encoding="utf-8")
        return path

    def _facts(self) -> dict[str, Any]:
        """Return what was classified, by what, and what was not, as plain values."""
        stretches = zip((self.noisy / self.fs).tolist(), self.noisy_reasons, strict=True)
        return {
            "record": self.record,
            "started": None if self.started is None else self.started.isoformat(),
            "duration_s": self.duration_s,
            "fs": self.fs,
            "lead": self.lead,
            "lead_reason": self.lead_reason,
            "inverted": self.inverted,
            "notes": list(self.notes),
            "rpeaks": self.rpeaks,
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "versions": _versions(),
            "left_out": len(self.left_out),
            "uncertain": int(np.count_nonzero(self.uncertain)),
            "uncertain_below": UNCERTAIN_BELOW,
            "noisy": [{"start_s": start, "stop_s": stop, "reason": why} for (start, stop), why in stretches],
        }

    def to_wfdb(self, folder: str | Path, annotator: str = ANNOTATOR, *, overwrite: bool = False) -> Path:
        """Write a WFDB annotation file, `FOLDER/<stem>.<annotator>`: beats N S V F Q, noise `~`.

        `<stem>` is `output_stem(record)`. A `~` of subtype -1 (unreadable, its note the reason) starts a stretch
        that is not read, one of subtype 0 ends it; WFDB's `bxb` takes them for a shutdown, as EC57 asks for.
        `wfdb.rdann(f"{folder}/{stem}", annotator)` reads back the same samples and symbols.

        Raises
        ------
        DataError
            If the annotator's name cannot be one of WFDB.
        OutputExistsError
            If the file exists and `overwrite` is False.
        """
        check_annotator(annotator)
        path = Path(folder) / f"{output_stem(self.record)}.{annotator}"
        with replacing(path, overwrite=overwrite) as temporary:
            if len(self) or len(self.noisy):
                self._write_annotation_file(temporary)
            else:  # wfdb refuses to write it; by the format it is the two zero bytes that end every file
                temporary.write_bytes(b"\0\0")
        return path

    def _write_annotation_file(self, path: Path) -> None:
        import wfdb

        n, k = len(self), len(self.noisy)
        samples = np.concatenate([self.samples, self.noisy[:, 0], self.noisy[:, 1]])
        symbols = np.concatenate([self.classes, np.full(2 * k, NOISE_SYMBOL)])
        subtypes = np.concatenate([np.zeros(n, int), np.full(k, -1), np.zeros(k, int)])
        notes = np.array([""] * n + list(self.noisy_reasons) + [""] * k, dtype=object)
        # Where a stretch ends at the sample at which the next one starts, its end comes first; both before a beat.
        rank = np.concatenate([np.full(n, 2), np.full(k, 1), np.zeros(k, int)])
        order = np.lexsort([rank, samples])
        # wfdb lets letters alone be an annotator's name, so the file gets its own name afterwards.
        wfdb.wrann(
            path.stem,
            ANNOTATOR,
            samples[order],
            symbol=symbols[order].tolist(),
            subtype=subtypes[order],
            aux_note=notes[order].tolist(),
            fs=float(self.fs),
            write_dir=str(path.parent),
        )
        path.with_suffix(f".{ANNOTATOR}").rename(path)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write `<stem>.csv` and `<stem>.ecgkan` into a folder; nothing if one of them exists.

        Raises
        ------
        OutputExistsError
            If one of the files exists and `overwrite` is False.
        """
        stem = Path(folder) / output_stem(self.record)
        table = stem.with_suffix(".csv")
        refuse_existing([table, stem.with_suffix(f".{ANNOTATOR}")], overwrite=overwrite)
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
            uncertain=int(np.count_nonzero(self.uncertain)),
            noisy_s=self.noisy_s,
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


def _versions() -> dict[str, str]:
    """Versions of ecgkan and of what computes with it."""
    import platform
    from importlib.metadata import version

    from ecgkan import __version__

    return {"ecgkan": __version__, "python": platform.python_version()} | {
        package: version(package) for package in ("numpy", "scipy", "torch")
    }


def output_stem(name: str) -> str:
    """Return the name that a recording's output files bear: its own, with `_` for what WFDB does not allow.

    Examples
    --------
    >>> output_stem("Holter 2024-03-01.edf")
    'Holter_2024-03-01_edf'
    """
    # WFDB's own rule; wfdb-python also lets letters pass that WFDB's C programs do not.
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) or "recording"


def check_annotator(annotator: str) -> None:
    """Refuse what cannot be an annotator's name.

    Raises
    ------
    DataError
        If it is not made of letters, digits, `_` and `-`, or is the extension of another file of a WFDB record.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", annotator) or annotator in _OTHER_EXTENSIONS:
        raise DataError(
            f"{annotator!r} cannot be an annotator's name: it becomes the file's extension; expected a letter, then "
            f"letters, digits, hyphens and underscores, and none of {', '.join(_OTHER_EXTENSIONS)}"
        )
