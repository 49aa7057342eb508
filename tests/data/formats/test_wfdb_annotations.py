"""Annotation files decoded as the wfdb package decodes them."""

import struct
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgkan.data.formats.wfdb_annotations import decode_annotations
from ecgkan.data.recording import read_annotation_file
from ecgkan.errors import DataError, DataNotFoundError

END = b"\0\0"
SYMBOLS = 'NLRaVFJASEj/Q~|sT*D"=pB^t+u?![]en@xf()r'


def word(code: int, data: int) -> bytes:
    return struct.pack("<H", code << 10 | data)


def same_as_wfdb(file: Path) -> None:
    ours, theirs = read_annotation_file(file), wfdb.rdann(str(file.with_suffix("")), file.suffix[1:])
    assert ours.samples.tolist() == theirs.sample.tolist()
    assert list(ours.symbols) == list(theirs.symbol)
    assert ours.subtypes.tolist() == np.asarray(theirs.subtype).tolist()
    assert [ours.texts.get(at, "") for at in range(len(ours.symbols))] == [
        text.rstrip("\0") for text in theirs.aux_note
    ]


@pytest.mark.parametrize("folder", ["mitdb/*.atr", "nstdb/*.atr", "ec57-oracle/*.tst"])
def test_real_files(data_dir, folder):
    files = sorted(data_dir.glob(folder))
    assert len(files) >= 12
    for file in files:
        same_as_wfdb(file)


annotations = st.lists(
    st.tuples(
        st.integers(0, 5000), st.sampled_from(SYMBOLS), st.integers(-128, 127), st.sampled_from(["", "(N", "(AFIB"])
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(annotations)
def test_written_by_wfdb(tmp_path, drawn):
    samples = np.cumsum([interval for interval, *_ in drawn]) + 1
    symbols, texts = [symbol for _, symbol, *_ in drawn], [text for *_, text in drawn]
    subtypes = np.array([subtype for *_, subtype, _ in drawn])
    wfdb.wrann("x", "ann", samples, symbols, subtype=subtypes, aux_note=texts, write_dir=str(tmp_path))
    ours = read_annotation_file(tmp_path / "x.ann")
    assert ours.samples.tolist() == samples.tolist()
    assert list(ours.symbols) == symbols
    assert ours.subtypes.tolist() == subtypes.tolist()
    assert [ours.texts.get(at, "") for at in range(len(symbols))] == texts


def test_time_resolution_and_own_codes_are_taken_from_the_notes_at_the_start(tmp_path):
    labels = [(42, "z", "Something of our own")]
    wfdb.wrann("x", "ann", np.array([0, 10]), ["N", "z"], fs=128, custom_labels=labels, write_dir=str(tmp_path))
    ours = read_annotation_file(tmp_path / "x.ann")
    assert (ours.fs, ours.samples.tolist(), ours.symbols) == (128.0, [0, 10], ("N", "z"))


def test_skips_are_long_and_may_go_back():
    def skip(interval: int) -> bytes:
        return word(59, 0) + struct.pack("<HH", interval >> 16 & 0xFFFF, interval & 0xFFFF)

    decoded = decode_annotations(
        skip(100_000) + word(1, 5) + skip(-10) + word(5, 0) + skip(-(1 << 20)) + word(1, 1) + END
    )
    assert decoded.samples.tolist() == [100_005, 99_995, 99_995 - (1 << 20) + 1]
    assert decoded.symbols == ("N", "V", "N")


def test_nothing_is_nothing():
    for content in (b"", END, END + b"rubbish!"):
        decoded = decode_annotations(content)
        assert (len(decoded.samples), decoded.symbols, decoded.fs) == (0, (), None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x01", "1 bytes, expected an even number"),
        (word(1, 5) + word(59, 0) + b"\0\0", "ends within the annotation at byte 2"),
        (word(1, 5) + word(63, 9) + b"(AFIB\0", "ends within the annotation at byte 2"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    file = tmp_path / "x.atr"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.atr cannot be read as a WFDB annotation file \(.*{message}"):
        read_annotation_file(file)
    with pytest.raises(DataNotFoundError, match=r"no annotation file .*y\.atr"):
        read_annotation_file(tmp_path / "y.atr")
