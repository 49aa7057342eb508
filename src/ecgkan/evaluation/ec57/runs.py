"""Run-by-run comparison of one record: couplets, short and long runs of ectopic beats, as WFDB's `rxr` compares them.

Each annotator's runs are looked for in the other: those of the reference for the sensitivity, those of the test
annotator for the positive predictivity. A run found in one is compared with the longest run that the other has in the
same time, widened by the match window at both ends. Lengths above five are all one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.evaluation.ec57.annotators import UNREADABLE_BITS
from ecgkan.evaluation.ec57.beats import Proportion, checked_times
from ecgkan.evaluation.ec57.labels import LABELS, ClassTable, class_of_beat
from ecgkan.evaluation.ec57.matching import END_OF_REFERENCE, LEARNING_S, MATCH_WINDOW_S

RunKind = Literal["ventricular", "supraventricular"]

LONGEST: Final = 6
"""Stands for every run of more than five beats, and for an episode of flutter or of atrial fibrillation."""

_BEAT_MARKS: Final = "NSVFQ"
_NOTHING: Final = "-"
_ENDING: Final = "]", "}"


class RunFigures(NamedTuple):
    """Counts and figures of couplets (2 beats), short runs (3 to 5) and long ones (6 and more).

    Each `*_se` is runs found out of the reference's, each `*_p` runs confirmed out of the test annotator's.
    """

    couplet_se: Proportion
    couplet_p: Proportion
    short_se: Proportion
    short_p: Proportion
    long_se: Proportion
    long_p: Proportion


@dataclass(frozen=True, slots=True, eq=False)
class RunComparison:
    """What a run-by-run comparison of one record found.

    Attributes
    ----------
    record : str
        Record name.
    kind : {'ventricular', 'supraventricular'}
        Ventricular runs are of V and F beats, supraventricular ones of S beats.
    sensitivity, predictivity : ndarray
        `[7, 7]` int64 each: rows the reference's run length (0 to 5, and 6 for more), columns the test annotator's;
        of the reference's runs, and of the test annotator's.
    complete : bool
        False where an annotator has nothing at all after the start; `rxr` prints no row for such a record.
    """

    record: str
    kind: RunKind
    sensitivity: NDArray[np.int64]
    predictivity: NDArray[np.int64]
    complete: bool = True

    @property
    def figures(self) -> RunFigures:
        """Couplets, short and long runs of this record."""
        return run_figures(self.sensitivity, self.predictivity)


class _Run(NamedTuple):
    """What makes a run of one kind."""

    beats: str  # marks of the beats that a run is made of
    opening: str  # mark of an episode that counts as a run of the longest kind
    ending: str
    other_opening: str


_RUN: Final[Mapping[RunKind, _Run]] = {
    "ventricular": _Run("VF", "[", "]", "{"),
    "supraventricular": _Run("S", "{", "}", "["),
}


class _Mark(NamedTuple):
    """One annotation."""

    symbol: str
    subtype: int
    text: str


_NO_MARK: Final = _Mark(" ", 0, "")
_UNCLASSIFIED: Final = _Mark("Q", 0, "")


def compare_runs(
    reference: ReferenceAnnotations,
    test: ReferenceAnnotations,
    *,
    fs: float,
    classes: ClassTable = "literature",
    start_s: float = LEARNING_S,
    window_s: float = MATCH_WINDOW_S,
    stop: int = END_OF_REFERENCE,
    record: str = "",
) -> tuple[RunComparison, RunComparison]:
    """Compare two annotators of one record run by run.

    Parameters
    ----------
    reference, test, fs, classes, start_s, window_s, stop, record
        See `ecgkan.evaluation.ec57.compare_beats`. Without a record's length the comparison ends with each annotator.

    Returns
    -------
    tuple of RunComparison
        Ventricular runs, supraventricular runs.

    Raises
    ------
    DataError
        If a time is not usable.

    Notes
    -----
    Flutter counts as a long ventricular run, and atrial fibrillation or flutter (a rhythm annotation that begins
    with `(AF`) as a long supraventricular one, in which N beats count as S.
    """
    start, window = checked_times(fs, start_s, window_s, stop, record)
    class_of = class_of_beat(classes)
    annotators = (_Annotator(reference, class_of), _Annotator(test, class_of))
    comparisons: list[RunComparison] = []
    # What each pass leaves under the reading head is the first thing the next pass finds there: rxr's own memory.
    left: list[_Mark] = [_NO_MARK, _NO_MARK]
    for kind in ("ventricular", "supraventricular"):
        matrices, complete = [], True
        for own in (0, 1):
            other = 1 - own
            lengths = _Lengths(_RUN[kind], start, window, stop)
            follower = _Follower(annotators[other], left[other], _RUN[kind])
            pairs, left[own], has_any = lengths.compare(annotators[own], follower)
            complete &= has_any
            matrix = np.zeros((LONGEST + 1, LONGEST + 1), dtype=np.int64)
            for mine, theirs in pairs:
                matrix[(mine, theirs) if own == 0 else (theirs, mine)] += 1
            matrices.append(matrix)
        if comparisons:
            complete &= comparisons[0].complete
        comparisons.append(RunComparison(record, kind, matrices[0], matrices[1], complete))
    return comparisons[0], comparisons[1]


def run_figures(sensitivity: NDArray[np.integer], predictivity: NDArray[np.integer]) -> RunFigures:
    """Return couplets, short and long runs of two matrices of run lengths, as in `RunComparison`."""
    s, p = np.asarray(sensitivity), np.asarray(predictivity)
    pairs = (
        (s[2, 2:], s[2]),
        (p[2:, 2], p[:, 2]),
        (s[3:6, 3:], s[3:6]),
        (p[3:, 3:6], p[:, 3:6]),
        (s[6, 6], s[6]),
        (p[6, 6], p[:, 6]),
    )
    return RunFigures(*(Proportion(int(part.sum()), int(whole.sum())) for part, whole in pairs))


class _Annotator:
    """Samples and annotations of one annotator, and the mark that each of them is to a comparison of runs."""

    def __init__(self, annotations: ReferenceAnnotations, class_of: Mapping[str, int]) -> None:
        self.annotations = annotations
        self.samples: list[int] = annotations.samples.tolist()
        letters = {
            symbol: LABELS[index] if index < len(_BEAT_MARKS) else _NOTHING for symbol, index in class_of.items()
        }
        self._letters = letters
        self._plain = [letters.get(symbol, _NOTHING) for symbol in annotations.symbols]
        self._state_changes = [at for at, symbol in enumerate(annotations.symbols) if symbol in ("+", "[", "]", "~")]

    def __len__(self) -> int:
        return len(self.samples)

    def mark(self, at: int) -> _Mark:
        """Return an annotation."""
        subtypes = self.annotations.subtypes
        subtype = 0 if subtypes is None else int(subtypes[at])
        return _Mark(self.annotations.symbols[at], subtype, self.annotations.texts.get(at, ""))

    def marks(self, before: _Mark | None = None) -> list[str]:
        """Return the mark of each annotation, with that of one `before` them all in front of them."""
        state = _State()
        marks = self._plain.copy()
        first = self._letters.get(before.symbol, _NOTHING) if before is not None else _NOTHING
        if before is not None and first == _NOTHING:
            first = state.mark_of(before)
        fibrillating_from = 0 if state.in_fibrillation else None
        for at in self._state_changes:
            marks[at] = state.mark_of(self.mark(at))
            if state.in_fibrillation and fibrillating_from is None:
                fibrillating_from = at
            elif not state.in_fibrillation and fibrillating_from is not None:
                _call_supraventricular(marks, fibrillating_from, at)
                fibrillating_from = None
        if fibrillating_from is not None:
            _call_supraventricular(marks, fibrillating_from, len(marks))
        return marks if before is None else [first, *marks]


def _call_supraventricular(marks: list[str], start: int, stop: int) -> None:
    """Call the normal beats of a stretch supraventricular: within atrial fibrillation they are."""
    marks[start:stop] = ["S" if mark == "N" else mark for mark in marks[start:stop]]


class _State:
    """Whether flutter, fibrillation or shutdown is going on; an annotation that says so again says nothing."""

    def __init__(self) -> None:
        self.in_fibrillation = self.in_flutter = self.unreadable = False

    def mark_of(self, annotation: _Mark) -> str:
        """Return `[ ] { }` where flutter or fibrillation begins or ends, `U` and `C` for shutdown, else nothing."""
        match annotation.symbol:
            case "~":
                return self._quality(annotation.subtype & UNREADABLE_BITS == UNREADABLE_BITS)
            case "[":
                return self._begin_flutter()
            case "]":
                return self._end_flutter()
            case "+" if annotation.text.startswith("(AF"):
                return self._begin_fibrillation()
            case "+" if annotation.text.startswith("(VF"):
                return self._begin_flutter()
            case "+" if annotation.text:
                return self._end_fibrillation() if self.in_fibrillation else self._end_flutter()
        return _NOTHING

    def _quality(self, unreadable: bool) -> str:
        changed, self.unreadable = self.unreadable != unreadable, unreadable
        if not changed:
            return _NOTHING
        return "U" if unreadable else "C"

    def _begin_flutter(self) -> str:
        if self.in_flutter:
            return _NOTHING
        self.in_flutter, self.in_fibrillation = True, False
        return "["

    def _end_flutter(self) -> str:
        if not self.in_flutter:
            return _NOTHING
        self.in_flutter = False
        return "]"

    def _begin_fibrillation(self) -> str:
        if self.in_fibrillation:
            return _NOTHING
        self.in_fibrillation, self.in_flutter = True, False
        return "{"

    def _end_fibrillation(self) -> str:
        self.in_fibrillation = False
        return "}"


class _Follower:
    """Reads one annotator forward, and finds its longest run in each of a sequence of stretches."""

    def __init__(self, annotator: _Annotator, before: _Mark, run: _Run) -> None:
        self._samples = [0, *annotator.samples]
        self._marks = annotator.marks(before)
        self._run = run
        self._at = 0
        self._episode_end: float = 0

    def longest_run(self, first: int, last: int) -> int:
        """Return the length of the longest run from sample `first` to sample `last`."""
        samples, marks, run = self._samples, self._marks, self._run
        if self._episode_end > first:
            return LONGEST
        end, at = len(samples), self._at
        while at < end and samples[at] < first:
            if marks[at] == run.opening:
                at = self._skip_episode(at)
                if at == end or samples[at] > first:
                    return self._within_episode(at)
            at += 1
        longest = length = 0
        while at < end and samples[at] <= last:
            mark = marks[at]
            if mark in run.beats:
                length = min(length + 1, LONGEST)
                longest = max(longest, length)
            elif mark in _BEAT_MARKS or mark in ("U", run.other_opening):
                length = 0
            elif mark == run.opening:
                return self._within_episode(self._skip_episode(at))
            at += 1
        self._at = at
        return longest

    def _skip_episode(self, at: int) -> int:
        """Return where an episode ends."""
        ending = (self._run.ending, self._run.other_opening, "U")
        at += 1
        while at < len(self._marks) and self._marks[at] not in ending:
            at += 1
        return at

    def _within_episode(self, at: int) -> int:
        """Remember where the episode ends in which a stretch lies, and return its length."""
        if at == len(self._marks):
            self._episode_end = float("inf")
        else:
            self._episode_end = self._samples[at]
            self._marks[at] = _NOTHING  # it has said what it says
        self._at = at
        return LONGEST


class _Lengths:
    """Finds one annotator's runs, and the other's longest run in the same stretch for each."""

    def __init__(self, run: _Run, start: int, window: int, stop: int) -> None:
        self._run, self._start, self._window, self._stop = run, start, window, stop

    def compare(self, annotator: _Annotator, other: _Follower) -> tuple[list[tuple[int, int]], _Mark, bool]:
        """Return pairs of run lengths, the last annotation read, and whether there was anything to compare."""
        marks = annotator.marks()
        at, length = self._begin(annotator.samples, marks)
        if length < 0:
            return [], annotator.mark(len(marks) - 1) if len(marks) else _NO_MARK, False
        if at == len(marks):
            # The last annotation is looked at once more. What it has said of an episode it does not say again.
            at -= 1
            if marks[at] not in _BEAT_MARKS:
                marks[at] = _NOTHING
        return self._go_on(annotator, marks, other, at, length)

    def _begin(self, samples: Sequence[int], marks: Sequence[str]) -> tuple[int, int]:
        """Return the first annotation to compare, and the run under way there; -1 if there is nothing at all."""
        length = -1
        for at, (sample, mark) in enumerate(zip(samples, marks, strict=True)):
            if sample >= self._start:
                return at, max(length, 0)
            if mark == self._run.opening:
                length = LONGEST
            elif mark in _ENDING:
                length = 0
        return len(marks), length

    def _go_on(
        self, annotator: _Annotator, marks: Sequence[str], other: _Follower, at: int, length: int
    ) -> tuple[list[tuple[int, int]], _Mark, bool]:
        run, window = self._run, self._window
        samples = annotator.samples
        first, last = (self._start - window, self._start + window) if length else (0, 0)
        pairs = []
        mark, sample, left = marks[at], samples[at], annotator.mark
        ended_by_force = False
        while True:
            if mark in run.beats:
                if not length:
                    first = sample - window
                length = min(length + 1, LONGEST)
                last = sample + window
            elif mark == run.opening:
                if not length:
                    length, first = LONGEST, sample - window
            elif length and mark == run.ending:
                last = sample + window
            elif length and (mark in _BEAT_MARKS or mark == "U"):
                pairs.append((length, other.longest_run(first, last)))
                length = 0
            at += 1
            if at < len(marks):
                mark, sample = marks[at], samples[at]
            elif length:
                mark, ended_by_force = "Q", True  # the end of the file ends a run
            else:
                break
            if 0 < self._stop < sample:
                break
        if ended_by_force:
            return pairs, _UNCLASSIFIED, True
        return pairs, left(min(at, len(marks) - 1)), True
