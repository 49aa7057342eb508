"""What the labels of annotators count as: the class of each WFDB symbol, in two tables."""

from collections.abc import Mapping
from typing import Final, Literal

from ecgkan.aami import SYMBOL_TO_CLASS

ClassTable = Literal["literature", "bxb"]
"""`literature`: as in `ecgkan.aami`, escape beats `e` and `j` are N. `bxb`: as in WFDB's programs, they are S."""

LABELS: Final = ("N", "S", "V", "F", "Q", "O", "X")
"""Rows and columns of a matrix of counts: five classes, O (no beat there), X (no beat there, during a shutdown)."""

N, S, V, F, Q, O, X = range(7)  # noqa: E741 - the standard's own letters

NOT_COUNTED: Final = 7
"""The label of what stands for no annotation at all: before the first and after the last."""

_OTHER_BEATS_IN_BXB: Final = "ej"
_FLUTTER_WAVE: Final = "!"


def class_of_beat(classes: ClassTable) -> Mapping[str, int]:
    """Return the table from beat symbol to index in `LABELS`; symbols that mark no beat are not in it.

    Notes
    -----
    WFDB's `bxb` takes a flutter wave (`!`) outside of an episode of flutter for a beat without a class: it may be
    paired, and then counts as no beat. The table `bxb` has it as O; in `literature` it marks no beat.
    """
    table = {symbol: LABELS.index(letter) for symbol, letter in SYMBOL_TO_CLASS.items()}
    if classes == "bxb":
        table.update(dict.fromkeys(_OTHER_BEATS_IN_BXB, S))
        table[_FLUTTER_WAVE] = O
    return table
