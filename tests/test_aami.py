"""The class table is the literature's, and unknown symbols are refused."""

import pytest

from ecgkan.aami import CLASSES, NON_BEAT_SYMBOLS, SYMBOL_TO_CLASS, class_of_symbol


def test_table_is_the_protocols() -> None:
    expected = {"N": "NLRejB", "S": "AaJSn", "V": "VEr", "F": "F", "Q": "/fQ?"}
    assert CLASSES == ("N", "S", "V", "F", "Q")
    for class_letter, symbols in expected.items():
        assert {s for s, c in SYMBOL_TO_CLASS.items() if c == class_letter} == set(symbols)


def test_symbols_that_mark_no_beat() -> None:
    assert [class_of_symbol(symbol) for symbol in '+~|!x"[]'] == [None] * 8
    assert not NON_BEAT_SYMBOLS & set(SYMBOL_TO_CLASS)


def test_every_wfdb_symbol_is_known() -> None:
    from wfdb.io.annotation import ann_labels

    symbols = {label.symbol for label in ann_labels} - {" "}
    assert symbols <= NON_BEAT_SYMBOLS | set(SYMBOL_TO_CLASS)


@pytest.mark.parametrize("symbol", ["Z", "", "NN", "1"])
def test_unknown_symbol_is_named(symbol: str) -> None:
    with pytest.raises(ValueError, match="unknown annotation symbol"):
        class_of_symbol(symbol)
