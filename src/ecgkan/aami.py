"""The five AAMI heartbeat classes, and the only table from WFDB symbol to class.

The mapping is the one the literature uses (de Chazal et al. 2004, after
ANSI/AAMI EC57): junctional and atrial escape beats count as N.
"""

from typing import Final

CLASSES: Final = ("N", "S", "V", "F", "Q")
"""Class letters in index order; the same order in checkpoints, probabilities, tables and plots."""

CLASS_MEANINGS: Final = {
    "N": "normal and other non-ectopic",
    "S": "supraventricular ectopic",
    "V": "ventricular ectopic",
    "F": "fusion of ventricular and normal",
    "Q": "paced, fusion of paced and normal, unclassifiable",
}

SYMBOL_TO_CLASS: Final = {
    symbol: class_letter
    for class_letter, symbols in {
        "N": "NLRejB",
        "S": "AaJSn",
        "V": "VEr",
        "F": "F",
        "Q": "/fQ?",
    }.items()
    for symbol in symbols
}
"""WFDB beat symbol → class letter. B, n, r and ? do not occur in the MIT-BIH Arrhythmia Database."""

NON_BEAT_SYMBOLS: Final = frozenset("+~|!x\"[]()ptu`'^sTDT*=@")
"""WFDB annotation symbols that mark something other than a beat (rhythm, noise, waveform limits ...)."""


def class_of_symbol(symbol: str) -> str | None:
    """Return the class letter of a WFDB annotation symbol, or None if it marks no beat.

    Raises
    ------
    ValueError
        If `symbol` is no WFDB annotation symbol at all.
    """
    if symbol in SYMBOL_TO_CLASS:
        return SYMBOL_TO_CLASS[symbol]
    if symbol in NON_BEAT_SYMBOLS:
        return None
    raise ValueError(
        f"unknown annotation symbol {symbol!r}; expected a WFDB symbol such as "
        f"{' '.join(SYMBOL_TO_CLASS)} (beats) or {' '.join(sorted(NON_BEAT_SYMBOLS))} (no beats)"
    )
