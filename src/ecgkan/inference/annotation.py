"""Beat annotations: what a model says about each beat of a recording, as a value, a table and a WFDB file."""

import datetime
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
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

    from ecgkan.inference.holter import HolterSummary

ANNOTATOR: Final = "ecgkan"
"""Annotator name, thus extension, of the annotation files we write."""

UNCERTAIN_BELOW: Final = 0.9
"""A beat whose class has a calibrated probability below this is flagged `uncertain`; docs/quality.md says why here."""

NOISE_SYMBOL: Final = "~"
"""WFDB's symbol for a change in signal quality."""

FLUTTER_SYMBOLS: Final = ("[", "]")
"""WFDB's symbols for the start and the end of ventricular flutter or fibrillation."""

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


def _no_stretches() -> NDArray[np.int64]:
    return np.zeros((0, 2), dtype=np.int64)


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
        `[n]` float64, seconds to the previous and the next beat; NaN at the ends, across missing
        signal where beats may have gone undetected, and across ventricular flutter.
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
    flutter : ndarray
        `[m, 2]` int64, start and stop at `fs` of ventricular flutter, which has no beats, where the annotator that
        gave the R peaks marked it; ascending, not overlapping. The detector marks none.
    started : datetime or None
        When the recording began, if its file says so.
    lead_reason : str
        Why this lead was chosen.
    second_lead : str
        The lead that the model looked at beside it; empty if there was none.
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
    flutter: NDArray[np.int64] = field(default_factory=_no_stretches)
    started: datetime.datetime | None = None
    lead_reason: str = ""
    second_lead: str = ""
    inverted: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, k = len(self.samples), len(self.noisy_reasons)
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(
            ("samples", "classes", "rr_before_s", "rr_after_s", "quality"), (n,)
        )
        expected |= {"probabilities": (n, len(CLASSES)), "noisy": (k, 2), "flutter": (len(self.flutter), 2)}
        expected |= {"mean_beats": (len(CLASSES), BEFORE + AFTER)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                found = list(getattr(self, name).shape)
                raise DataError(f"annotations of {self.record}: {name} has shape {found}, expected {list(shape)}")
        if n and (self.samples[0] < 0 or np.any(np.diff(self.samples) < 0)):
            raise DataError(f"annotations of {self.record}: samples must be ascending and not negative; sort the beats")
        unknown = sorted(set(self.classes.tolist()) - set(CLASSES))
        if unknown:
            raise DataError(f"annotations of {self.record}: unknown classes {unknown}; expected {' '.join(CLASSES)}")
        for name, stretches in (("noisy", self.noisy), ("flutter", self.flutter)):
            edges = stretches.ravel()
            if len(edges) and (edges[0] < 0 or np.any(np.diff(edges) < 0) or np.any(edges[::2] == edges[1::2])):
                raise DataError(
                    f"annotations of {self.record}: {name} stretches must ascend, not overlap and not be empty"
                )

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
        document = self.to_dict() | dict(facts)
        path = Path(path)
        with replacing(path, overwrite=overwrite) as temporary:
            text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
            temporary.write_text(f"{text}\n", encoding="utf-8")
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return the Holter summary with what was classified by what, and what was not, as plain values for JSON."""
        stretches = zip((self.noisy / self.fs).tolist(), self.noisy_reasons, strict=True)
        return {
            "record": self.record,
            "started": None if self.started is None else self.started.isoformat(),
            "duration_s": self.duration_s,
            "fs": self.fs,
            "lead": self.lead,
            "lead_reason": self.lead_reason,
            "second_lead": self.second_lead or None,
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
            "flutter": [{"start_s": start, "stop_s": stop} for start, stop in (self.flutter / self.fs).tolist()],
            "summary": self.summary().to_dict(),
        }

    def to_wfdb(self, folder: str | Path, annotator: str = ANNOTATOR, *, overwrite: bool = False) -> Path:
        """Write a WFDB annotation file, `FOLDER/<stem>.<annotator>`: beats N S V F Q, noise `~`, flutter `[ ]`.

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
            if len(self) or len(self.noisy) or len(self.flutter):
                self._write_annotation_file(temporary)
            else:  # wfdb refuses to write it; by the format it is the two zero bytes that end every file
                temporary.write_bytes(b"\0\0")
        return path

    def _write_annotation_file(self, path: Path) -> None:
        import wfdb

        n, k, m = len(self), len(self.noisy), len(self.flutter)
        samples = np.concatenate([self.samples, *self.noisy.T, *self.flutter.T])
        symbols = np.concatenate([self.classes, np.full(2 * k, NOISE_SYMBOL), np.repeat(FLUTTER_SYMBOLS, m)])
        subtypes = np.concatenate([np.zeros(n, int), np.full(k, -1), np.zeros(k + 2 * m, int)])
        notes = np.array([""] * n + list(self.noisy_reasons) + [""] * (k + 2 * m), dtype=object)
        # Where a stretch ends at the sample at which the next one starts, its end comes first; both before a beat.
        rank = np.repeat([2, 1, 0, 1, 0], [n, k, k, m, m])
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

    def summary(self) -> "HolterSummary":
        """Return `ecgkan.inference.holter.summarize` of them: beats, burden, heart rate, pauses, runs ..."""
        from ecgkan.inference.holter import summarize

        return summarize(self)


def mark_flutter(annotations: BeatAnnotations, episodes: Iterable[tuple[int, int]]) -> BeatAnnotations:
    """Return the annotations with stretches of ventricular flutter, across which there is no RR interval.

    Parameters
    ----------
    annotations : BeatAnnotations
        Classified beats.
    episodes : iterable of (int, int)
        Start and stop samples; what lies beyond the recording's end is cut off.
    """
    n_samples = round(annotations.duration_s * annotations.fs)
    inside = [(start, min(stop, n_samples)) for start, stop in episodes if start < min(stop, n_samples)]
    flutter = np.array(inside, dtype=np.int64).reshape(-1, 2)
    parted = reaches_between(flutter, annotations.samples)
    edge = np.zeros(min(len(annotations), 1), dtype=np.bool_)
    return replace(
        annotations,
        flutter=flutter,
        rr_before_s=np.where(np.concatenate([edge, parted]), np.nan, annotations.rr_before_s),
        rr_after_s=np.where(np.concatenate([parted, edge]), np.nan, annotations.rr_after_s),
    )


def reaches_between(stretches: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell between which successive samples a stretch reaches: `[k, 2]`, ascending, and `[n]` → `[n - 1]`."""
    start, stop = stretches.reshape(-1, 2).T
    reached: NDArray[np.bool_] = (
        np.searchsorted(start, samples[1:], "left") - np.searchsorted(stop, samples[:-1], "right") > 0
    )
    return reached


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
    from importlib.metadata import PackageNotFoundError, version

    from ecgkan import __version__

    versions = {"ecgkan": __version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "onnxruntime", "torch"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


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
