"""WFDB annotation files (the MIT format), decoded with NumPy: fifty times as fast as word by word.

A file is a sequence of 16-bit words, little-endian: 6 bits of code and 10 of interval to the annotation before. Codes
from 59 on add to the annotation before them (subtype, channel, number, text) or to the interval (skip), and a word of
zeros ends the file (https://physionet.org/physiotools/wag/annot-5.htm).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError

_SKIP, _SUBTYPE, _AUX = 59, 61, 63
_FIRST_PSEUDO_CODE: Final = 59
_NOTE: Final = 22
_TIME_RESOLUTION: Final = "## time resolution: "
_DEFINITIONS: Final = "## annotation type definitions"
_END_OF_DEFINITIONS: Final = "## end of definitions"

SYMBOL_OF_CODE: Final = tuple(' NLRaVFJASEj/Q~\0|\0sT*D"=pB^t+u?![]en@xf()r')
"""WFDB annotation symbol by code, 0 to 41; NUL where a code is not defined."""


class DecodedAnnotations(NamedTuple):
    """What an annotation file holds.

    Attributes
    ----------
    samples : ndarray
        `[n]` int64, in ticks of the file's own time resolution.
    symbols : tuple of str
        `[n]` annotation symbols, those of codes that the file defines itself included.
    subtypes : ndarray
        `[n]` int8.
    texts : mapping
        Index of an annotation → its auxiliary text, such as `(AFIB` of a rhythm change.
    fs : float, optional
        The time resolution that the file states, ticks per second.
    """

    samples: NDArray[np.int64]
    symbols: tuple[str, ...]
    subtypes: NDArray[np.int8]
    texts: Mapping[int, str]
    fs: float | None


def decode_annotations(content: bytes) -> DecodedAnnotations:
    """Decode an annotation file.

    Notes
    -----
    The notes at sample 0 by which a file states its time resolution and its own codes are taken as such and left out.

    Raises
    ------
    DataError
        If the content ends within an annotation, or is no such file. The message does not name the file.
    """
    if len(content) % 2:
        raise DataError(f"{len(content)} bytes, expected an even number")
    words = np.frombuffer(content, dtype="<u2")
    codes = (words >> 10).astype(np.int64)
    is_payload, intervals, texts_at, end = _pseudo_annotations(content, words, codes)
    place = np.flatnonzero((codes[:end] < _FIRST_PSEUDO_CODE) & ~is_payload[:end])
    intervals[place] = words[place] & 0x3FF
    samples = np.cumsum(intervals[:end])[place]
    owner_of = {at: int(np.searchsorted(place, at)) - 1 for at in texts_at}
    texts = {owner_of[at]: text for at, text in texts_at.items() if owner_of[at] >= 0}
    subtypes = np.zeros(len(place), dtype=np.int8)
    subtyped = np.flatnonzero((codes[:end] == _SUBTYPE) & ~is_payload[:end])
    owners = np.searchsorted(place, subtyped) - 1
    subtypes[owners[owners >= 0]] = (words[subtyped[owners >= 0]] & 0xFF).astype(np.uint8).view(np.int8)
    return _without_definitions(samples, codes[place], subtypes, texts)


def _pseudo_annotations(
    content: bytes, words: NDArray[np.uint16], codes: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], dict[int, str], int]:
    """Return which words are data of a skip or a text, the skips' intervals, the texts by place, and where it ends."""
    is_payload = np.zeros(len(words), dtype=np.bool_)
    intervals = np.zeros(len(words), dtype=np.int64)
    texts: dict[int, str] = {}
    follow = 0
    for at in np.flatnonzero((codes == _SKIP) | (codes == _AUX) | (words == 0)).tolist():
        if at < follow:
            continue
        if words[at] == 0:
            return is_payload, intervals, texts, at
        length = int(words[at]) & 0xFF
        follow = at + 3 if codes[at] == _SKIP else at + 1 + (length + 1) // 2
        if follow > len(words):
            raise DataError(f"it ends within the annotation at byte {2 * at}")
        is_payload[at + 1 : follow] = True
        if codes[at] == _SKIP:
            high_low = int(words[at + 1]) << 16 | int(words[at + 2])
            intervals[at] = high_low - (1 << 32) if high_low >> 31 else high_low
        else:
            texts[at] = content[2 * at + 2 : 2 * at + 2 + length].decode("latin-1").rstrip("\0")
    return is_payload, intervals, texts, len(words)


def _without_definitions(
    samples: NDArray[np.int64], codes: NDArray[np.int64], subtypes: NDArray[np.int8], texts: Mapping[int, str]
) -> DecodedAnnotations:
    """Take the notes at the start that state the time resolution and codes of the file's own."""
    fs: float | None = None
    own_symbols: dict[int, str] = {}
    defining = False
    n_left_out = 0
    for index in range(len(samples)):
        text = texts.get(index, "")
        if samples[index] != 0 or codes[index] != _NOTE or subtypes[index] != 0:
            break
        if text.startswith(_TIME_RESOLUTION):
            fs = _frequency(text.removeprefix(_TIME_RESOLUTION))
        elif text.startswith((_DEFINITIONS, _END_OF_DEFINITIONS)):
            defining = text.startswith(_DEFINITIONS)
        elif defining and text.split()[0:1] and text.split()[0].isdigit() and len(text.split()) > 1:
            own_symbols[int(text.split()[0])] = text.split()[1]
        else:
            break
        n_left_out = index + 1
    # The library ends its definitions with an annotation of no type at sample 0.
    if 0 < n_left_out < len(samples) and codes[n_left_out] == 0 and samples[n_left_out] == 0:
        n_left_out += 1
    standard = [symbol if symbol != "\0" else "" for symbol in SYMBOL_OF_CODE]
    standard += [""] * (_FIRST_PSEUDO_CODE - len(standard))
    symbol_of = np.array([own_symbols.get(code, symbol) for code, symbol in enumerate(standard)], dtype=object)
    return DecodedAnnotations(
        samples[n_left_out:],
        tuple(symbol_of[codes[n_left_out:]].tolist()),
        subtypes[n_left_out:],
        {index - n_left_out: text for index, text in texts.items() if index >= n_left_out},
        fs,
    )


def _frequency(text: str) -> float | None:
    try:
        fs = float(text.split()[0])
    except (ValueError, IndexError):
        return None
    return fs if fs > 0 else None
