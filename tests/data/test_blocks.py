"""Blocks: the grid, what a block holds, and that nothing depends on how much is read at a time."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.synthetic import synthetic_ecg

from ecgkan import Recording
from ecgkan.data import rpeaks
from ecgkan.data.blocks import block_grid, make_block, read_blocks
from ecgkan.data.missing import fill_missing
from ecgkan.data.qrs import Found
from ecgkan.data.resampling import resample, resampling_ratio
from ecgkan.data.rpeaks import BlockDetector, detect_rpeaks
from ecgkan.errors import DataError

rates = st.one_of(st.sampled_from([100.0, 128.0, 250.0, 257.0, 360.0, 500.0, 999.5, 2000.0]), st.floats(100.0, 2000.0))


def wandering(fs, duration_s):
    """A signal without two equal values in a row, quickly made."""
    rng = np.random.default_rng(1)
    t = np.arange(round(duration_s * fs)) / fs
    return np.sin(2 * np.pi * 1.2 * t) + 0.3 * np.sin(2 * np.pi * 11 * t) + rng.normal(0, 0.01, len(t))


def recording_of(signal, fs) -> Recording:
    return Recording(name="rec", signals=np.asarray(signal, dtype=float)[:, None], fs=fs, leads=("MLII",))


@settings(max_examples=80, deadline=None)
@given(rates, st.integers(0, 2_000_000))
def test_cores_cover_a_recording_once_and_blocks_start_on_samples_of_both_rates(fs, n_samples):
    grid = block_grid(n_samples, fs)
    cores = [grid.core_of(k) for k in range(len(grid))]
    assert [stop for _, stop in cores] == [start for start, _ in cores[1:]] + ([n_samples] if n_samples else [])
    assert not cores or cores[0][0] == 0
    assert 114 * fs < grid.core < 126 * fs
    assert 10 * fs <= grid.context <= 20.001 * fs
    ratio = resampling_ratio(fs, 360.0)
    for k in range(len(grid)):
        start, stop = grid.block_of(k)
        assert 0 <= start <= cores[k][0] < cores[k][1] <= stop <= n_samples
        assert (start * ratio).denominator == 1
        assert start == 0 or cores[k][0] - start == grid.context
        assert stop == n_samples or stop - cores[k][1] == grid.context


@pytest.mark.parametrize("fs", [250.0, 257.0, 360.0, 999.5])
def test_a_block_resamples_as_the_whole_recording_does(fs):
    signal = wandering(fs, 250.0)
    whole = resample(signal, fs, 360.0)
    for block in read_blocks(recording_of(signal, fs), 0):
        first = int(block.start * resampling_ratio(fs, 360.0))
        edge = 200  # where the block's own ends are continued by their last value
        inner = slice(edge if block.start else 0, -edge)
        expected = whole[first : first + len(block.at_360)]
        np.testing.assert_allclose(block.at_360[inner], expected[inner], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    fs=st.sampled_from([100.0, 250.0, 257.0]),
    gaps=st.lists(st.tuples(st.floats(0, 370), st.floats(0.01, 140), st.sampled_from([np.nan, 0.7])), max_size=4),
)
def test_what_is_missing_in_a_core_is_what_is_missing_in_the_recording(fs, gaps):
    """Also where a gap is longer than the context, and where it spans a core."""
    signal = wandering(fs, 370.0)
    for start_s, length_s, value in gaps:
        signal[round(start_s * fs) : round((start_s + length_s) * fs)] = value
    whole = fill_missing(signal, fs)
    for block in read_blocks(recording_of(signal, fs), 0):
        core = slice(block.core_start - block.start, block.core_stop - block.start)
        assert np.array_equal(block.present[core], whole.present[block.core_start : block.core_stop])
        read = block.present[core] & np.isfinite(signal[block.core_start : block.core_stop])
        assert np.array_equal(block.values[core][read], signal[block.core_start : block.core_stop][read])
        assert np.all(np.isnan(signal[block.core_start : block.core_stop][block.missing[core]]))


@pytest.mark.parametrize("chunk_s", [0.1, 120.0, 121.0, 300.0, 1e9])
def test_blocks_are_the_same_however_much_is_read_at_a_time(chunk_s):
    signal = wandering(257.0, 800.0)
    signal[20_000:21_000] = np.nan
    recording = recording_of(signal, 257.0)
    expected = list(read_blocks(recording, 0))
    found = list(read_blocks(recording, 0, chunk_s=chunk_s))
    assert len(found) == len(expected) == 7
    for one, other in zip(found, expected, strict=True):
        assert (one.start, one.core_start, one.core_stop) == (other.start, other.core_start, other.core_stop)
        for name in ("values", "missing", "present", "at_360", "present_at_360"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_only_what_was_asked_for_is_read_at_a_time():
    recording = recording_of(np.zeros(250 * 2000), 250.0)
    asked = []

    class Watched:
        name, fs, leads, n_samples = "watched", 250.0, ("MLII",), recording.n_samples

        def read(self, start, stop, columns):
            asked.append((start, stop, list(columns)))
            return recording.read(start, stop, columns)

    assert len(list(read_blocks(Watched(), 0, chunk_s=600.0))) == 17
    assert asked[0] == (0, 250 * 610, [0])
    assert asked[1] == (250 * 590, 250 * 1210, [0])
    assert asked[-1] == (250 * 1790, 250 * 2000, [0])


@pytest.mark.parametrize("n_samples", [1, 2, 300, 30_000, 30_001, 32_499, 32_501])
def test_recordings_of_any_length_are_walked(n_samples):
    blocks = list(read_blocks(recording_of(np.arange(n_samples) % 7, 250.0), 0))
    assert sum(block.core_stop - block.core_start for block in blocks) == n_samples


@settings(max_examples=30, deadline=None)
@given(rates, st.integers(0, 50))
@example(120.0625, 0)  # no ratio of numbers below 1000 in either direction
def test_there_and_back_is_exact_in_the_direction_that_allows_it(fs, k):
    start = block_grid(10**7, fs).core * k
    block = make_block(np.zeros(3000), fs, start, (start, start + 3000))
    if fs >= 360:  # where a window was cut is where it is cut again for the sample told
        positions = np.arange(len(block.at_360) - 2)  # the last ones may lie behind the recording's last sample
        assert np.array_equal(block.positions_at_360(block.samples_of(positions)), positions)
    else:
        samples = start + np.arange(2990)
        assert np.array_equal(block.samples_of(block.positions_at_360(samples)), samples)


@pytest.mark.parametrize("chunk_s", [0.0, -1.0, float("nan")])
def test_a_chunk_of_nothing_is_refused(chunk_s):
    with pytest.raises(DataError, match="chunk_s"):
        list(read_blocks(recording_of(np.zeros(1000), 250.0), 0, chunk_s=chunk_s))


@settings(max_examples=25, deadline=None)
@given(
    beats_s=st.lists(st.floats(0.3, 1.5), min_size=150, max_size=300).map(np.cumsum),
    jitter=st.lists(st.integers(-15, 15), min_size=2, max_size=9),
    fs=st.sampled_from([100.0, 250.0, 257.0, 360.0, 999.5]),
)
def test_no_beat_is_found_twice_or_lost_at_a_border(beats_s, jitter, fs):
    """A detector that places every beat up to 42 ms off, each block in its own way."""
    n_samples = round((beats_s[-1] + 1) * fs)
    beats = np.round(beats_s * fs).astype(np.int64)
    detector, found, k = BlockDetector(), [], 0
    grid = block_grid(n_samples, fs)
    with pytest.MonkeyPatch.context() as patch:
        for k in range(len(grid)):
            start, stop = grid.block_of(k)
            block = make_block(np.sin(np.arange(start, stop)), fs, start, grid.core_of(k))
            seen = block.positions_at_360(beats[(beats >= start) & (beats < stop)]) + jitter[k % len(jitter)]
            likelihood = np.zeros(-(-len(block.at_360) // 4), np.float32)
            inside = Found(seen[(seen >= 0) & (seen < len(block.at_360))], likelihood)
            patch.setattr(rpeaks, "find_beats", lambda _, inside=inside: inside)
            found.append(detector.detect(block).core)
    samples = np.concatenate(found)
    assert len(samples) == len(beats)
    assert np.abs(samples - beats).max() <= 15.5 * fs / 360 + 1  # half a sample at 360 Hz for the way there
    assert np.all(np.diff(samples) > 0)


@pytest.mark.parametrize("fs", [100.0, 257.0, 360.0])
def test_beats_across_borders_are_all_found_once(fs):
    """Beats of a regular heart, one of them on each border and one a sample before it."""
    core_s = block_grid(1, fs).core / fs
    for first_s in (core_s % 0.8, (core_s - 1 / fs) % 0.8):
        signal, beats = synthetic_ecg(fs, 250.0, first_s=max(first_s, 0.2))
        found = detect_rpeaks(signal, fs)
        assert len(found) == len(beats)
        assert np.abs(found - beats).max() <= 0.02 * fs
