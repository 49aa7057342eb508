"""An annotator's beats as a beat-by-beat comparison reads them: in order, with flutter and shutdown taken out.

An annotation file is read from front to back, one beat ahead of the one that is compared. What is known of flutter and
shutdown at a beat is what stands in the file before the beat after it; `known_from` keeps that.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.recording import ReferenceAnnotations
from ecgkan.errors import DataError
from ecgkan.evaluation.ec57.labels import NOT_COUNTED

NEVER: Final = 1 << 60
"""A sample after every recording's end."""

UNREADABLE_BITS: Final = 0x30
"""Both set in the subtype of `~`: no signal can be read from here on (shutdown)."""

_PADDING: Final = 3


@dataclass(slots=True)
class Episodes:
    """Stretches of flutter or of shutdown, in the order of the file.

    Attributes
    ----------
    starts, stops : list of int
        First and last sample of each.
    known_from : list of int
        The position of the first beat after each: who has read up to that beat knows of the episode.
    """

    starts: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    known_from: list[int] = field(default_factory=list)

    def add(self, start: int, stop: int, known_from: int) -> None:
        """Append an episode."""
        self.starts.append(start)
        self.stops.append(stop)
        self.known_from.append(known_from)

    def hold(self, sample: int, position: int) -> bool:
        """Tell if one of the last two episodes known at `position` holds the sample; older ones are forgotten."""
        known = bisect_right(self.known_from, position)
        return any(self.starts[k] <= sample <= self.stops[k] for k in range(max(0, known - 2), known))


class BeatStream(NamedTuple):
    """Beats to compare, with a place before the first (sample 0) and places after the last (`NEVER`).

    Attributes
    ----------
    samples : list of int
        `[1 + n + 3]`.
    labels : ndarray
        `[1 + n + 3]` int64, indices in `ecgkan.evaluation.ec57.labels.LABELS`.
    rr : ndarray
        `[1 + n + 3]` int64, samples since the beat before, 0 where there is none or flutter or shutdown lies between.
    flutter, shutdown : Episodes
        What was taken out.
    shutdown_lengths : list of int
        Samples, one per episode of shutdown.
    """

    samples: list[int]
    labels: NDArray[np.int64]
    rr: NDArray[np.int64]
    flutter: Episodes
    shutdown: Episodes
    shutdown_lengths: list[int]


def read_beats(
    annotations: ReferenceAnnotations, class_of: Mapping[str, int], *, window: int, stop: int, is_reference: bool
) -> BeatStream:
    """Take the beats out of an annotator's annotations.

    Parameters
    ----------
    annotations : ReferenceAnnotations
        Of one annotator.
    class_of : mapping
        Beat symbol → index in `LABELS`.
    window : int
        Match window, samples: how far a shutdown that is marked only once keeps from the beats around it.
    stop : int
        End of the comparison, sample; 0 or less where it is not known. A shutdown without an end lasts until then.
    is_reference : bool
        Whether a second shutdown without an end counts, which `bxb` forgets in the test annotator.

    Notes
    -----
    Everything from `[` to `]` is left out; without `]`, everything to the end. Shutdown lasts from a `~` with both
    bits of `UNREADABLE_BITS` to the next annotation, if that is a `~` without; otherwise the mark stands within
    the shutdown (as in the AHA database), which fills the room between the annotations around it.
    """
    reader = _Reader(annotations, class_of, window=window, stop=stop, is_reference=is_reference)
    reader.read()
    beats = np.flatnonzero(reader.is_kept)
    samples = [0, *annotations.samples[beats].tolist(), *[NEVER] * _PADDING]
    labels = np.full(len(samples), NOT_COUNTED, dtype=np.int64)
    labels[1 : 1 + len(beats)] = reader.labels[beats]
    rr = _rr_intervals(np.array(samples), (reader.flutter, reader.shutdown))
    return BeatStream(samples, labels, rr, reader.flutter, reader.shutdown, reader.shutdown_lengths)


class _Reader:
    """Goes through the marks of flutter and shutdown, and takes out the beats that they cover."""

    def __init__(
        self,
        annotations: ReferenceAnnotations,
        class_of: Mapping[str, int],
        *,
        window: int,
        stop: int,
        is_reference: bool,
    ) -> None:
        symbols = annotations.symbols
        if len(symbols) != len(annotations.samples):
            raise DataError(f"{len(annotations.samples)} samples and {len(symbols)} symbols; expected one for each")
        self._samples, self._symbols, self._subtypes = annotations.samples, symbols, annotations.subtypes
        self._window, self._stop, self._is_reference = window, stop, is_reference
        self.labels = np.array([class_of.get(symbol, -1) for symbol in symbols], dtype=np.int64)
        self.is_kept = self.labels >= 0
        self.flutter, self.shutdown = Episodes(), Episodes()
        self.shutdown_lengths: list[int] = []
        self._flutter_stop = -1  # of the latest episode that has one
        self._n_beats, self._counted = 0, 0

    def read(self) -> None:
        marks = [at for at, symbol in enumerate(self._symbols) if symbol in ("[", "~")]
        next_unread = 0
        for at in marks:
            if at < next_unread:
                continue
            self._n_beats += int(np.count_nonzero(self.is_kept[self._counted : at]))
            self._counted = at
            if self._symbols[at] == "[":
                next_unread = self._read_flutter(at)
            elif self._is_unreadable(at):
                next_unread = self._read_shutdown(at)

    def _is_unreadable(self, at: int) -> bool:
        return self._subtypes is not None and int(self._subtypes[at]) & UNREADABLE_BITS == UNREADABLE_BITS

    def _read_flutter(self, at: int) -> int:
        try:
            end = self._symbols.index("]", at + 1)
        except ValueError:
            end = len(self._symbols)
            # Without an end it lasts for ever; but a later episode takes over the end of the one before, as in bxb.
            stop = NEVER if self._flutter_stop == -1 else self._flutter_stop
        else:
            stop = self._flutter_stop = int(self._samples[end])
        self.is_kept[at + 1 : end] = False
        self.flutter.add(int(self._samples[at]), stop, self._n_beats + 1)
        return end + 1

    def _read_shutdown(self, at: int) -> int:
        start, after = int(self._samples[at]), at + 1
        if after == len(self._symbols):
            forgotten = not self._is_reference and bool(self.shutdown.stops)
            stop = self.shutdown.stops[-1] if forgotten else NEVER
            length = self._stop - start if self._stop > 0 else 0
        elif self._symbols[after] == "~" and not self._is_unreadable(after):
            stop = int(self._samples[after])
            length = stop - start
            after += 1
        else:
            beat = self._last_beat_before(at)
            stop = int(self._samples[after]) - self._window
            start = min(max(self._flutter_stop, beat) + self._window, stop)
            length = stop - start
        self.shutdown.add(start, stop, self._n_beats + 1)
        self.shutdown_lengths.append(length)
        return after

    def _last_beat_before(self, at: int) -> int:
        before = np.flatnonzero(self.is_kept[:at])
        return int(self._samples[before[-1]]) if len(before) else 0


def _rr_intervals(samples: NDArray[np.int64], kinds: tuple[Episodes, Episodes]) -> NDArray[np.int64]:
    """Return the RR interval that ends at each place, 0 where an episode known there began within it."""
    rr = np.diff(samples, prepend=0)
    before = np.concatenate(([0], samples[:-1]))
    rr[(before == 0) | (samples == NEVER)] = 0
    for episodes in kinds:
        # Only the last two are remembered: each counts until the second after it is known.
        forgotten_from = [*episodes.known_from[2:], len(samples), len(samples)]
        for start, known, forgotten in zip(episodes.starts, episodes.known_from, forgotten_from, strict=False):
            part = slice(known, forgotten)
            rr[part][(before[part] <= start) & (start < samples[part])] = 0
    return rr
