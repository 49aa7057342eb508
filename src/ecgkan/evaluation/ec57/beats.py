"""Beat-by-beat comparison of one record: the matrix of labels, and what EC57 makes of it."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.errors import DataError
from ecgkan.evaluation.ec57.annotators import BeatStream, read_beats
from ecgkan.evaluation.ec57.labels import NOT_COUNTED, ClassTable, F, N, O, Q, S, V, X, class_of_beat
from ecgkan.evaluation.ec57.matching import (
    END_OF_REFERENCE,
    EXTRA,
    LEARNING_S,
    MATCH_WINDOW_S,
    MISSED,
    PAIRED,
    Steps,
    walk,
)

_BEATS: Final = slice(0, 5)
_NO_BEAT: Final = slice(5, 7)


class Proportion(NamedTuple):
    """A count out of another, such as beats found out of beats there."""

    part: int
    whole: int

    @property
    def percent(self) -> float:
        """In percent; NaN where there is nothing to take a part of."""
        return 100.0 * self.part / self.whole if self.whole > 0 else math.nan


class BeatFigures(NamedTuple):
    """The figures of a matrix of counts: sensitivity (Se), positive predictivity (+P) and false positive rate (FPR).

    Of all beats (QRS complexes), of ventricular (VEB) and of supraventricular ectopic beats (SVEB). FPR is the share
    of beats of other classes, and of detections that are no beats, that are called ectopic.
    """

    qrs_se: Proportion
    qrs_p: Proportion
    veb_se: Proportion
    veb_p: Proportion
    veb_fpr: Proportion
    sveb_se: Proportion
    sveb_p: Proportion
    sveb_fpr: Proportion


@dataclass(frozen=True, slots=True, eq=False)
class BeatComparison:
    """What a beat-by-beat comparison of one record found.

    Attributes
    ----------
    record : str
        Record name.
    fs : float
        Sampling rate that samples count, Hz.
    counts : ndarray
        `[7, 7]` int64, rows reference, columns test, both N S V F Q O X: beats of the reference's class that the test
        annotator gave a class, or missed (columns O, and X during the test annotator's shutdown); beats that only the
        test annotator has stand in the rows O and X (during the reference's shutdown).
    rr_squares, rr_pairs : int
        Sum of the squared differences of RR intervals (samples²), and of how many.
    shutdown_s : int
        The test annotator's shutdown, whole seconds.
    matched : ndarray
        `[k, 2]` int64, samples of the beats that were paired: reference, test.
    missed, extra : ndarray
        `[m]`, `[e]` int64, samples of the reference's and of the test annotator's beats without a partner.
    """

    record: str
    fs: float
    counts: NDArray[np.int64]
    rr_squares: int
    rr_pairs: int
    shutdown_s: int
    matched: NDArray[np.int64]
    missed: NDArray[np.int64]
    extra: NDArray[np.int64]

    @property
    def figures(self) -> BeatFigures:
        """Se, +P and FPR of this record."""
        return beat_figures(self.counts)

    @property
    def rr_error_ms(self) -> float:
        """Root mean square difference of RR intervals, ms; NaN where none was compared."""
        if not self.rr_pairs:
            return math.nan
        return math.sqrt(self.rr_squares / self.rr_pairs) * 1000.0 / samples_of(1.0, self.fs)


def samples_of(seconds: float, fs: float) -> int:
    """Convert a time to samples as the WFDB library does: halves are rounded up."""
    return int(seconds * fs + 0.5)


def compare_beats(
    reference: ReferenceAnnotations,
    test: ReferenceAnnotations,
    *,
    fs: float,
    classes: ClassTable = "literature",
    start_s: float = LEARNING_S,
    window_s: float = MATCH_WINDOW_S,
    stop: int = END_OF_REFERENCE,
    record: str = "",
) -> BeatComparison:
    """Compare two annotators of one record beat by beat.

    Parameters
    ----------
    reference, test : ReferenceAnnotations
        Samples at `fs`, in order of time.
    fs : float
        Sampling rate, Hz.
    classes : {'literature', 'bxb'}
        Where junctional and atrial escape beats (j, e) belong: to N, or to S.
    start_s : float
        Where the comparison starts, s.
    window_s : float
        Largest distance of two beats that may be the same one, s.
    stop : int
        Sample where it ends: the record's length, or `END_OF_REFERENCE`, or `END_OF_EITHER`.
    record : str
        Record name, for tables.

    Returns
    -------
    BeatComparison
        Its counts are those of WFDB's `bxb`.

    Raises
    ------
    DataError
        If a time is not usable.

    Notes
    -----
    ANSI/AAMI EC57:2012, and the behaviour of WFDB 10.7's `bxb` where the standard leaves room.

    Examples
    --------
    >>> import numpy as np
    >>> reference = ReferenceAnnotations(np.array([110_000, 110_300, 110_600]), ("N", "V", "N"))
    >>> test = ReferenceAnnotations(np.array([110_002, 110_310, 110_900]), ("N", "V", "V"))
    >>> comparison = compare_beats(reference, test, fs=360.0, stop=650_000)
    >>> comparison.figures.veb_se.percent, comparison.figures.veb_p.percent
    (100.0, 50.0)
    """
    start, window = checked_times(fs, start_s, window_s, stop, record)
    class_of = class_of_beat(classes)
    expected = read_beats(reference, class_of, window=window, stop=stop, is_reference=True)
    found = read_beats(test, class_of, window=window, stop=stop, is_reference=False)
    i, j, first_pair = _first_positions(expected.samples, found.samples, start, window)
    steps = walk(expected.samples, found.samples, i, j, window=window, stop=stop)
    if first_pair is not None:
        steps = Steps(
            np.concatenate(([first_pair[0]], steps.reference)),
            np.concatenate(([first_pair[1]], steps.test)),
            np.concatenate(([PAIRED], steps.kind)),
            steps.end,
        )
    rr, other_rr = expected.rr[steps.reference], found.rr[steps.test]
    differences = (rr - other_rr)[(rr > 0) & (other_rr > 0)]
    labels = _labels(steps, expected, found)
    at_reference, at_test = np.array(expected.samples)[steps.reference], np.array(found.samples)[steps.test]
    matched, missed, extra = (
        (steps.kind == kind) & (labels != NOT_COUNTED).all(axis=1) for kind in (PAIRED, MISSED, EXTRA)
    )
    return BeatComparison(
        record=record,
        fs=fs,
        counts=_count(labels),
        rr_squares=int((differences * differences).sum()),
        rr_pairs=len(differences),
        shutdown_s=_shutdown_s(found, steps.end[1] + 1, fs),
        matched=np.column_stack((at_reference[matched], at_test[matched])),
        missed=at_reference[missed],
        extra=at_test[extra],
    )


def beat_figures(counts: NDArray[np.integer], *, of_several_records: bool = False) -> BeatFigures:
    """Return the figures of a matrix of counts, `[7, 7]` as in `BeatComparison`.

    Parameters
    ----------
    counts : ndarray
        Of one record, or the sum over several.
    of_several_records : bool
        Take SVEB +P as WFDB's `sumstats` does: without the fusion beats that were called supraventricular, which it
        cannot tell from unclassifiable ones in the rows that `bxb` prints.
    """
    c = np.asarray(counts)
    found = c[_BEATS, _BEATS].sum()
    not_ventricular, not_supraventricular = [N, S, F, Q, O, X], [N, V, F, Q, O, X]
    # Fusion and unclassifiable beats called ventricular are neither right nor wrong; of the supraventricular, only
    # the unclassifiable ones.
    false_v = c[[N, S, O, X], V].sum()
    false_s = c[[N, V, O, X], S].sum() + (0 if of_several_records else c[F, S])
    other_v = c[np.ix_(not_ventricular, [N, S, F, Q])].sum()
    other_s = c[np.ix_(not_supraventricular, [N, V, F, Q])].sum()
    pairs = (
        (found, found + c[_BEATS, _NO_BEAT].sum()),
        (found, found + c[_NO_BEAT, _BEATS].sum()),
        (c[V, V], c[V].sum()),
        (c[V, V], c[V, V] + false_v),
        (false_v, false_v + other_v),
        (c[S, S], c[S].sum()),
        (c[S, S], c[S, S] + false_s),
        (false_s, false_s + other_s),
    )
    return BeatFigures(*(Proportion(int(part), int(whole)) for part, whole in pairs))


def checked_times(fs: float, start_s: float, window_s: float, stop: int, record: str) -> tuple[int, int]:
    """Return start and window in samples.

    Raises
    ------
    DataError
        If they cannot be used, or the record ends before the start.
    """
    name = f"record {record}: " if record else ""
    if not (math.isfinite(fs) and fs >= 1):
        raise DataError(f"{name}sampling rate {fs:g} Hz, expected at least 1 Hz")
    if not (math.isfinite(start_s) and start_s >= 0 and math.isfinite(window_s) and window_s >= 0):
        raise DataError(f"{name}start {start_s:g} s and window {window_s:g} s, expected numbers of 0 or more")
    start = samples_of(start_s, fs)
    if 0 < stop < start:
        raise DataError(
            f"{name}it ends at {stop / fs:.0f} s, before the comparison starts at {start_s:g} s; start earlier"
        )
    return start, samples_of(window_s, fs)


def _first_positions(
    reference: list[int], test: list[int], start: int, window: int
) -> tuple[int, int, tuple[int, int] | None]:
    """Return the positions where the comparison starts, and a pair astride of the start, if there is one.

    A test beat from before the start may be the first reference beat after it; and a first test beat near the start
    that the next one surpasses belongs to a reference beat from before it, and is not counted.
    """
    i = next(place for place, sample in enumerate(reference) if sample >= start)
    j = next(place for place in range(len(test) - 1) if test[place + 1] >= start)
    if reference[i] - test[j] < abs(reference[i] - test[j + 1]) and reference[i] - test[j] <= window:
        return i + 1, j + 1, (i, j)
    j += 1
    if test[j] - start <= window and abs(reference[i] - test[j + 1]) < abs(reference[i] - test[j]):
        j += 1
    return i, j, None


def _labels(steps: Steps, expected: BeatStream, found: BeatStream) -> NDArray[np.int64]:
    """Return the label that each annotator has at each step, `[n, 2]`; O, X or none stand in for a missing beat."""
    labels = np.column_stack((expected.labels[steps.reference], found.labels[steps.test]))
    places = np.column_stack((steps.reference, steps.test))
    for at in np.flatnonzero(steps.kind == MISSED).tolist():
        i, j = places[at].tolist()
        labels[at, 1] = X if found.shutdown.hold(expected.samples[i], j + 1) else O
    for at in np.flatnonzero(steps.kind == EXTRA).tolist():
        i, j = places[at].tolist()
        labels[at, 0] = _label_of_nothing(expected, found.samples[j], i + 1)
    return labels


def _count(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    side = NOT_COUNTED + 1
    counts = np.bincount(labels[:, 0] * side + labels[:, 1], minlength=side * side).reshape(side, side)
    # What neither annotator calls a beat is nothing; nor is what lies before the first beat or in flutter.
    counts[_NO_BEAT, _NO_BEAT] = 0
    return counts[:NOT_COUNTED, :NOT_COUNTED].copy()


def _shutdown_s(found: BeatStream, position: int, fs: float) -> int:
    """Return the shutdown of which the test annotator was read up to a position, to the nearest second."""
    lengths = zip(found.shutdown_lengths, found.shutdown.known_from, strict=True)
    samples = sum(length for length, known_from in lengths if known_from <= position)
    return int((samples_of(0.5, fs) + samples) / samples_of(1.0, fs))


def _label_of_nothing(expected: BeatStream, sample: int, position: int) -> int:
    """Return what an extra beat is paired with: nothing, shutdown, or (not to be counted) flutter."""
    if expected.flutter.hold(sample, position):
        return NOT_COUNTED
    return X if expected.shutdown.hold(sample, position) else O
