"""Windows are cut where the protocols say, for any signal and any peaks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgkan.data.beats import cut_beats, normalize_windows
from ecgkan.errors import DataError

SIGNAL = np.arange(1000, dtype=np.float64)


@given(
    peaks=st.lists(st.integers(0, 999), max_size=20).map(sorted),
    margin=st.integers(0, 70),
)
def test_windows_equal_a_plain_loop(peaks: list[int], margin: int) -> None:
    beats = cut_beats(SIGNAL, np.array(peaks, dtype=np.int64), margin=margin)
    kept = [i for i, s in enumerate(peaks) if s - 128 >= 0 and s + 128 < 1000]
    assert beats.indices.tolist() == kept
    for row, index in zip(beats.windows, kept, strict=True):
        positions = np.clip(np.arange(peaks[index] - 128 - margin, peaks[index] + 128 + margin), 0, 999)
        np.testing.assert_array_equal(row, SIGNAL[positions].astype(np.float32))


def test_edges_by_the_protocols_inequalities() -> None:
    peaks = np.array([127, 128, 871, 872])
    assert cut_beats(SIGNAL, peaks).samples.tolist() == [128, 871]
    padded = cut_beats(SIGNAL, peaks, edges="pad")
    assert padded.samples.tolist() == peaks.tolist()
    assert padded.windows[0, 0] == 0.0
    assert padded.windows[3, -1] == 999.0


def test_rr_intervals_are_between_all_beats_handed_in() -> None:
    beats = cut_beats(SIGNAL, np.array([100, 280, 640]))
    assert beats.indices.tolist() == [1, 2]
    np.testing.assert_allclose(beats.rr_before_s, [0.5, 1.0])
    np.testing.assert_allclose(beats.rr_after_s, [1.0, np.nan])


def test_no_beats() -> None:
    beats = cut_beats(SIGNAL, np.array([], dtype=np.int64))
    assert len(beats) == 0
    assert beats.model_input().shape == (0, 1, 256)
    assert beats.rr_before_s.shape == (0,)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_normalization_ignores_gain_and_offset(seed: int, gain: float, offset: float) -> None:
    windows = np.random.default_rng(seed).standard_normal((3, 256))
    expected = (windows - windows.mean(1, keepdims=True)) / windows.std(1, keepdims=True)
    normalized = normalize_windows(gain * windows + offset)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized, expected, atol=1e-4)


def test_a_flat_window_becomes_zeros() -> None:
    assert not normalize_windows(np.full((1, 256), 5.0)).any()


@pytest.mark.parametrize(
    ("signal", "peaks", "message"),
    [
        (np.zeros((10, 2)), np.array([1]), "one lead"),
        (np.zeros(0), np.array([], dtype=np.int64), "one lead"),
        (SIGNAL, np.array([1.5]), "integers"),
        (SIGNAL, np.array([1000]), "outside"),
        (SIGNAL, np.array([-1]), "outside"),
        (SIGNAL, np.array([300, 200]), "ascending"),
    ],
)
def test_unusable_input_is_a_clear_error(signal: np.ndarray, peaks: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cut_beats(signal, peaks)
