"""Signal quality: what is marked, with which reason, what is not, and the index around beats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, sosfiltfilt
from tests.synthetic import synthetic_ecg

from ecgkan import Recording
from ecgkan.data.blocks import make_block, read_blocks
from ecgkan.data.embedded import embedded_recording
from ecgkan.data.mitdb import DS1, PACED_RECORDS
from ecgkan.data.quality import REASONS, Stretch, assess_quality, is_inverted, join_stretches
from ecgkan.data.recording import read_annotations, read_recording
from ecgkan.data.rpeaks import BlockDetector, given_rpeaks, reference_rpeaks

FS = 360.0


def assess(signal, fs=FS, rpeaks=None):
    """Quality of a short signal as one block whose core is all of it."""
    block = make_block(np.asarray(signal, dtype=float), fs, 0, (0, len(signal)))
    return assess_quality(block, BlockDetector().detect(block) if rpeaks is None else given_rpeaks(block, rpeaks))


def look(recording, column=0):
    """Samples marked, and the reasons, of a recording walked block by block."""
    marked, found, detector = np.zeros(recording.n_samples, dtype=bool), [], BlockDetector()
    for block in read_blocks(recording, column):
        found += assess_quality(block, detector.detect(block)).stretches
    for start, stop, _ in found:
        marked[start:stop] = True
    return marked, {reason for *_, reason in found}


@pytest.fixture(scope="module")
def real():
    """Eighty seconds of record 208: ventricular and fusion beats among others."""
    return embedded_recording().signals[:28_800, 0]


def with_noise(signal, start_s, stop_s, strength, fs=FS):
    noisy, part = signal.copy(), slice(round(start_s * fs), round(stop_s * fs))
    noisy[part] += np.random.default_rng(0).normal(0, strength, part.stop - part.start)
    return noisy


def motion(n, rng):
    """Steps that die away, as an electrode makes them that slips: no beats, though they look alike."""
    steps = np.zeros(n + 1440)
    for at in np.sort(rng.integers(0, n, n // 200)):
        length = 1440
        steps[at : at + length] += rng.normal() * np.exp(-np.arange(length) / rng.uniform(40, 250))
    return steps[:n]


def test_five_real_minutes_with_ventricular_beats_are_read(real):
    marked, reasons = look(embedded_recording())
    assert not marked.any()
    assert reasons == set()
    assert assess(real).beats.min() > 0.5


def test_a_clean_signal_has_the_best_index():
    signal, rpeaks = synthetic_ecg(FS, 80.0)
    quality = assess(signal, rpeaks=rpeaks)
    assert quality.beats.dtype == np.float32
    assert quality.beats.tolist() == [1.0] * len(rpeaks)
    assert quality.readable.all()
    assert quality.stretches == []


def test_strong_muscle_noise_is_marked_where_it_is(real):
    quality = assess(with_noise(real, 20.0, 60.0, 1.5))
    (stretch,) = quality.stretches
    assert stretch.reason == "noise"
    assert abs(stretch.start / FS - 20.0) < 4
    assert abs(stretch.stop / FS - 60.0) < 4
    assert not quality.readable[stretch.start : stretch.stop].any()
    assert quality.readable[: stretch.start].all()


def test_strong_electrode_motion_is_marked(real):
    noisy = real.copy()
    noisy[7200:21_600] += 4.0 * motion(14_400, np.random.default_rng(1))
    marked = np.zeros(len(real), dtype=bool)
    for start, stop, reason in assess(noisy).stretches:
        assert reason in {"noise", "baseline"}
        marked[start:stop] = True
    assert marked[7200:21_600].mean() > 0.7
    assert marked[:5400].mean() == marked[-5400:].mean() == 0


def test_the_index_falls_as_noise_grows(real):
    means = [assess(with_noise(real, 0, 80, strength)).beats.mean() for strength in (0.0, 0.1, 0.3, 1.0)]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.9
    assert means[-1] < 0.2


def test_a_little_noise_and_short_noise_are_not_marked(real):
    assert assess(with_noise(real, 20.0, 60.0, 0.03)).stretches == []
    assert assess(with_noise(real, 20.0, 24.0, 1.5)).stretches == []


def test_flutter_is_no_noise():
    t = np.arange(28_800) / FS
    flutter = 0.8 * np.sin(2 * np.pi * 4.6 * t + 2 * np.sin(0.3 * t)) + np.random.default_rng(0).normal(0, 0.02, len(t))
    signal, _ = synthetic_ecg(FS, 80.0)
    signal[10_000:18_000] = flutter[10_000:18_000]
    assert assess(signal).stretches == []


def test_what_the_detector_doubts_is_not_read(real):
    """The same signal is read or not by how sure the detector is of its beats, whoever marked them."""
    block = make_block(real, FS, 0, (0, len(real)))
    sure = BlockDetector().detect(block)
    assert assess_quality(block, sure).stretches == []
    doubted = sure.likelihood.copy()
    doubted[1800:5400] = 0.2 * doubted[1800:5400] + 0.02  # of its beats, and of whether there are none in between
    (stretch,) = assess_quality(block, sure._replace(likelihood=doubted)).stretches
    assert stretch.reason == "noise"
    assert abs(stretch.start / FS - 20.0) < 8 and abs(stretch.stop / FS - 60.0) < 8
    doubted[:] = sure.likelihood
    doubted[1800:2400] = 0.2 * doubted[1800:2400] + 0.02  # too short
    assert assess_quality(block, sure._replace(likelihood=doubted)).stretches == []


def test_beats_that_are_alike_are_read_though_the_detector_doubts_them(real):
    """Its doubt about what it finds is excused, not that about what it does not."""
    block = make_block(real, FS, 0, (0, len(real)))
    sure = BlockDetector().detect(block)
    doubted = sure.likelihood.copy()
    doubted[1800:5400] *= 0.2
    assert assess_quality(block, sure._replace(likelihood=doubted)).stretches == []
    without = sure.seen[::2]  # every other beat is one that it does not find
    (stretch,) = assess_quality(block, sure._replace(likelihood=doubted, core=without, seen=without)).stretches
    assert stretch.reason == "noise"


def repeated(name, noise_mv=0.02):
    """Two minutes of what no heart makes, once or twice a second."""
    t = np.arange(43_200) / FS
    signal = {
        "pulse": gaussian_filter1d(1.0 * (t % 1 < 0.1), 4),
        "saw": t % 1,
        "decay": np.exp(-(t % 1) / 0.2),
        "square": gaussian_filter1d(0.5 * np.sign(np.sin(2 * np.pi * t)), 4),
        "fast square": gaussian_filter1d(0.5 * np.sign(np.sin(4 * np.pi * t)), 4),
        "hum": 0.3 * np.sin(2 * np.pi * 50 * t),
        "sine": np.sin(2 * np.pi * t),
    }[name]
    return signal + np.random.default_rng(0).normal(0, noise_mv, len(t))


@pytest.mark.parametrize("name", ["pulse", "saw", "decay", "square", "fast square", "hum", "sine"])
def test_what_repeats_without_t_waves_is_no_heart(name):
    assert 1 - assess(repeated(name)).readable.mean() > 0.9


def test_muscle_noise_over_a_flat_line_is_no_heart():
    muscle = sosfiltfilt(butter(2, (20, 150), "bandpass", fs=FS, output="sos"), with_noise(np.zeros(43_200), 0, 120, 1))
    assert not assess(0.3 * muscle).readable.any()


def test_rhythm_is_read_whatever_the_detector_makes_of_it():
    t = np.arange(28_800) / FS
    signal, _ = synthetic_ecg(FS, 80.0)
    signal[10_000:18_000] = 0.8 * np.sin(2 * np.pi * 4.6 * t + 2 * np.sin(0.3 * t))[10_000:18_000]
    block = make_block(signal, FS, 0, (0, len(signal)))
    detected = BlockDetector().detect(block)
    detected.likelihood[2500:4500] = 0.1
    assert assess_quality(block, detected).stretches == []


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 721])
def test_given_beats_do_not_change_how_far_the_detector_sees(real, gap):
    """Nor do gaps shift its likelihoods by more than two samples."""
    signal = real.copy()
    signal[5000 : 5000 + gap] = np.nan
    block = make_block(signal, FS, 0, (0, len(signal)))
    found = BlockDetector().detect(block)
    given = given_rpeaks(block, found.seen)
    assert np.array_equal(given.likelihood, found.likelihood)
    assert np.array_equal(given.core, found.core) and np.array_equal(given.seen, found.seen)
    assert len(found.likelihood) == len(real) // 4
    sure = found.seen[found.likelihood[np.round(found.seen / 4).astype(int)] > 0.5]
    assert len(sure) > 0.9 * len(found.seen)


def test_ectopic_beats_of_a_shape_of_their_own_are_no_noise():
    signal, rpeaks = synthetic_ecg(FS, 80.0)
    t = (np.arange(-70, 90) / FS)[None]
    for k, at in enumerate(rpeaks[5:-5:6]):  # each wider, higher and further turned than the one before
        shape = (1.5 + 0.1 * k) * np.exp(-0.5 * (t / 0.05) ** 2) - (0.1 * k) * np.exp(-0.5 * ((t - 0.12) / 0.06) ** 2)
        signal[at - 70 : at + 90] = shape[0] * (-1) ** k
    assert assess(signal, rpeaks=rpeaks).stretches == []


def test_baseline_that_runs_away_is_marked_and_wander_is_not():
    signal, _ = synthetic_ecg(FS, 80.0)
    t = np.arange(len(signal)) / FS
    assert assess(signal + 1.5 * np.sin(2 * np.pi * 0.3 * t)).stretches == []
    away = np.where((t > 30) & (t < 40), 20 * np.sin(2 * np.pi * 0.5 * t), 0)
    assert {stretch.reason for stretch in assess(signal + away).stretches} == {"baseline"}


@pytest.mark.parametrize("fs", [100.0, 257.0, 360.0, 999.5])
def test_missing_and_flat_signal_are_marked_to_the_sample(fs):
    signal, _ = synthetic_ecg(fs, 60.0)
    gap, flat = slice(round(20 * fs), round(21 * fs)), slice(round(40 * fs), round(43 * fs))
    signal[gap], signal[flat] = np.nan, 1.0
    assert assess(signal, fs).stretches == [
        Stretch(gap.start, gap.stop, "missing"),
        Stretch(flat.start, flat.stop, "flat"),
    ]


def test_a_signal_at_its_limit_is_saturated():
    signal, _ = synthetic_ecg(FS, 80.0)
    t = np.arange(len(signal)) / FS
    driven = signal + np.where((t > 30) & (t < 50), 8 * np.sin(2 * np.pi * 0.5 * t), 0)
    stretches = assess(np.clip(driven, -5.0, 5.0)).stretches
    assert "saturated" in {stretch.reason for stretch in stretches}
    assert min(stretch.start for stretch in stretches) > 25 * FS
    assert max(stretch.stop for stretch in stretches) < 55 * FS


def test_a_baseline_at_the_lowest_value_and_r_peaks_cut_off_are_not_saturated():
    signal, _ = synthetic_ecg(FS, 80.0, noise_mv=0.0)
    assert assess(np.maximum(np.round(signal, 1), 0.0)).stretches == []
    assert assess(np.minimum(signal, 0.8)).stretches == []


def test_a_pause_without_beats_is_no_noise():
    signal, rpeaks = synthetic_ecg(FS, 80.0)
    rng = np.random.default_rng(0)
    signal[10_000:16_000] = 0.1 * np.sin(np.arange(6000) / 200) + rng.normal(0, 0.01, 6000)
    outside = rpeaks[(rpeaks < 9900) | (rpeaks > 16_100)]
    assert assess(signal, rpeaks=outside).stretches == []


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 4000),
    fs=st.sampled_from([100.0, 257.0, 360.0, 2000.0]),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4]),
    holes=st.lists(st.tuples(st.integers(0, 3999), st.integers(1, 900)), max_size=3),
    seed=st.integers(0, 9),
)
def test_whatever_the_signal_the_answer_fits_it(n, fs, scale, holes, seed):
    signal = scale * np.random.default_rng(seed).normal(size=n)
    for start, length in holes:
        signal[start : start + length] = np.nan
    rpeaks = np.unique(np.random.default_rng(seed).integers(0, n, 5))
    quality = assess(signal, fs, rpeaks)
    assert quality.readable.shape == (n,)
    assert quality.beats.shape == rpeaks.shape
    assert np.all((quality.beats >= 0) & (quality.beats <= 1))
    told, last = np.ones(n, dtype=bool), 0
    for start, stop, reason in quality.stretches:
        assert last <= start < stop <= n
        assert reason in REASONS
        told[start:stop], last = False, stop
    assert np.array_equal(told, quality.readable)


def test_stretches_that_touch_are_one():
    found = [Stretch(0, 5, "noise"), Stretch(5, 9, "noise"), Stretch(9, 12, "flat"), Stretch(14, 20, "flat")]
    assert join_stretches(found) == [Stretch(0, 9, "noise"), Stretch(9, 12, "flat"), Stretch(14, 20, "flat")]
    assert join_stretches([]) == []


def test_an_inverted_lead_is_noticed_and_others_are_not():
    signal, rpeaks = synthetic_ecg(FS, 80.0)
    assert assess(signal, rpeaks=rpeaks).inverted is False
    assert assess(-signal, rpeaks=rpeaks).inverted is True
    assert assess(signal[:3600], rpeaks=rpeaks[rpeaks < 3600]).inverted is None


@pytest.mark.parametrize(
    ("votes", "lead", "inverted"),
    [
        ([True] * 5, "MLII", True),
        ([True] * 5, " lead avr ", False),
        ([True, False], "II", False),
        ([], "II", False),
        ([True] * 7 + [False] * 3, "ECG", True),
    ],
)
def test_the_blocks_vote(votes, lead, inverted):
    assert is_inverted(votes, lead) is inverted


@pytest.mark.parametrize(("record", "most"), [("203", 0.01), ("207", 0.0), ("208", 0.0)])
def test_real_flutter_and_runs_are_read(mitdb_dir, record, most):
    """207 has ventricular flutter, 203 noise among runs; both of DS1, on which the thresholds were chosen."""
    assert record in DS1
    recording = read_recording(mitdb_dir / record)
    marked, _ = look(recording)
    assert marked.mean() <= most
    if record == "207":
        annotations = read_annotations(mitdb_dir / record, "atr")
        flutter = annotations.samples[[symbol in "[]!" for symbol in annotations.symbols]]
        assert len(flutter) > 400
        assert not marked[flutter].any()


@pytest.mark.parametrize("record", PACED_RECORDS)
def test_paced_records_are_read(mitdb_dir, record):
    """The detector never saw a paced beat and doubts them; 104 has some muscle noise."""
    recording = read_recording(mitdb_dir / record)
    marked, _ = look(recording, recording.lead_index())
    assert marked.mean() <= (0.011 if record == "104" else 0.0)


@pytest.mark.parametrize("record", PACED_RECORDS)
@pytest.mark.parametrize("noise", ["white", "motion"])
def test_paced_records_in_noise_are_not_read(mitdb_dir, record, noise):
    recording = read_recording(mitdb_dir / record)
    signal = recording.signals[:43_200, recording.lead_index()]
    height = np.ptp(signal)
    added = (
        np.random.default_rng(0).normal(size=43_200)
        if noise == "white"
        else 2 * motion(43_200, np.random.default_rng(1))
    )
    assert 1 - assess(signal + 0.5 * height * added).readable.mean() > 0.9


def test_real_beats_have_a_high_index(mitdb_dir):
    recording = read_recording(mitdb_dir / "100")
    rpeaks = reference_rpeaks(read_annotations(mitdb_dir / "100", "atr"))
    lows = 0
    for block in read_blocks(recording, 0):
        lows += int((assess_quality(block, given_rpeaks(block, rpeaks)).beats < 0.9).sum())
    assert lows < 0.01 * len(rpeaks)


def test_a_recording_in_memory_and_its_blocks_agree(real):
    noisy = with_noise(np.tile(real, 3), 50.0, 130.0, 1.5)
    marked, reasons = look(Recording(name="rec", signals=noisy[:, None], fs=FS, leads=("MLII",)))
    assert reasons == {"noise"}
    assert marked[round(56 * FS) : round(124 * FS)].all(), "across two borders of blocks"
    assert not marked[: round(44 * FS)].any()
