"""The Holter summary and its events: sequences with known answers, a slow and obvious reference, real records."""

import datetime
import itertools
import json
import math
import time
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.annotated import annotate

from ecgkan import classify
from ecgkan.aami import class_of_symbol
from ecgkan.data.recording import read_annotations
from ecgkan.errors import DataError
from ecgkan.inference.annotation import UNCERTAIN_BELOW, BeatAnnotations
from ecgkan.inference.holter import FLUTTER, LEFT_OUT, Flutter, summarize
from ecgkan.inference.rhythm import EVENT_KINDS, Event, consecutive, find_events

FS = 360.0


def torn(annotations: BeatAnnotations, *after: int) -> BeatAnnotations:
    """The same with unknown RR intervals after some beats, as the pipeline has them across missing signal."""
    before_s, after_s = annotations.rr_before_s.copy(), annotations.rr_after_s.copy()
    for beat in after:
        after_s[beat] = before_s[beat + 1] = np.nan
    return replace(annotations, rr_before_s=before_s, rr_after_s=after_s)


def kinds(annotations, **options) -> list[str]:
    """Kinds of events, without those of the heart rate."""
    return [event.kind for event in find_events(annotations, **options) if not event.kind.endswith("rate")]


# --- sequences with known answers ------------------------------------------------------------------------------------


def test_isolated_beats_couplets_and_runs():
    summary = summarize(annotate("NVNVVNVVVNVVVVVNN"))
    ventricular = summary.ventricular
    assert (ventricular.beats, ventricular.isolated, ventricular.couplets) == (11, 1, 1)
    assert (ventricular.runs.number, ventricular.runs.beats, ventricular.runs.longest_beats) == (2, 8, 5)
    assert ventricular.runs.longest_time_s == pytest.approx(11 * 0.8)
    assert ventricular.burden_percent == pytest.approx(100 * 11 / 17)
    assert summary.supraventricular.beats == summary.supraventricular.runs.number == 0
    assert summary.supraventricular.runs.fastest_rate is None
    assert summary.counts == {"N": 6, "S": 0, "V": 11, "F": 0, "Q": 0}
    assert summary.burden_percent["N"] == pytest.approx(100 * 6 / 17)


def test_a_run_is_of_one_class():
    summary = summarize(annotate("NVSVSSSFVVQ"))
    assert (summary.ventricular.isolated, summary.ventricular.couplets, summary.ventricular.runs.number) == (2, 1, 0)
    assert (summary.supraventricular.isolated, summary.supraventricular.runs.number) == (1, 1)
    assert summary.ectopic_burden_percent == pytest.approx(100 * 8 / 11)


def test_the_longest_run_need_not_be_the_fastest():
    rr_s = [0.8, *[0.6] * 4, 0.8, 0.4, 0.4, 0.8]
    samples = np.round(FS * np.cumsum([1.0, *rr_s]))
    runs = summarize(annotate("NVVVVNSSSN".replace("S", "V"), samples)).ventricular.runs
    assert (runs.number, runs.longest_beats, runs.fastest_beats) == (2, 4, 3)
    assert runs.longest_time_s == pytest.approx(1.8)
    assert runs.fastest_time_s == pytest.approx(samples[6] / FS)
    assert runs.fastest_rate == pytest.approx(150.0)


@pytest.mark.parametrize(
    ("classes", "episodes", "beats"),
    [
        ("NVNVNV", 1, 6),
        ("NVNV", 0, 0),
        ("VNVNV", 0, 0),  # two cycles N V
        ("VNVNVNV", 1, 6),
        ("NNVNVNVNNN", 1, 6),
        ("NVNVNVVNVNVNV", 2, 12),  # the couplet parts them
        ("NVNVSVNV", 0, 0),
        ("QVQVQV", 0, 0),
        ("NVNVNVNNVNVNV", 2, 12),
    ],
)
def test_bigeminy(classes, episodes, beats):
    for letter, name in (("V", "ventricular"), ("S", "supraventricular")):
        swapped = classes.translate(str.maketrans("SV", "VS")) if letter == "S" else classes
        bigeminy = getattr(summarize(annotate(swapped)), name).bigeminy
        assert (bigeminy.episodes, bigeminy.beats) == (episodes, beats)


def test_trigeminy_is_two_normal_beats_between():
    summary = summarize(annotate("NNVNNVNNVNNVNVN"))
    assert (summary.ventricular.trigeminy.episodes, summary.ventricular.trigeminy.beats) == (1, 12)
    assert summary.ventricular.trigeminy.longest_time_s == pytest.approx(0.8)
    assert summary.ventricular.bigeminy.episodes == 0
    assert summary.ventricular.isolated == 5, "beats of trigeminy are isolated"
    assert summarize(annotate("NNVNNV")).ventricular.trigeminy.episodes == 0


def test_pauses_and_the_longest_interval():
    samples = np.round(FS * np.cumsum([1, 0.8, 2.0, 0.8, 3.5, 0.8, 1.99]))
    summary = summarize(annotate("N" * 7, samples))
    assert (summary.pauses.number, summary.pauses.times_s) == (2, (pytest.approx(1.8), pytest.approx(4.6)))
    assert (summary.pauses.longest_rr_s, summary.pauses.longest_rr_time_s) == (pytest.approx(3.5), pytest.approx(4.6))
    strict = summarize(annotate("N" * 7, samples), pause_s=3.0)
    assert (strict.pauses.threshold_s, strict.pauses.number) == (3.0, 1)
    assert summarize(annotate("N" * 7, samples), pause_s=4.0).pauses.longest_rr_s == pytest.approx(3.5)


def test_fusion_beats_and_kinds_of_events():
    assert kinds(annotate("NVNFNSSN")) == ["isolated ventricular beat", "fusion beat", "supraventricular couplet"]
    assert kinds(annotate("NVNVNVN")) == ["ventricular bigeminy", *["isolated ventricular beat"] * 3]
    run = find_events(annotate("NNVVVN", rr_s=0.5))[-1]
    assert run == Event("ventricular run", 540, 900, 3, pytest.approx(120.0))
    assert json.loads(json.dumps(run.to_dict()))["start_sample"] == 540


def test_a_pause_is_an_event_between_its_two_beats():
    (pause,) = [event for event in find_events(annotate("NN", [360, 1440])) if event.kind == "pause"]
    assert pause == Event("pause", 360, 1440, 2, 20.0)


def test_the_extremes_of_the_heart_rate_have_their_beats():
    samples = np.round(FS * np.cumsum([*[1.0] * 20, *[0.5] * 20]))
    lowest, highest = sorted((e for e in find_events(annotate("N" * 40, samples))), key=lambda e: e.rate)
    assert (lowest.kind, lowest.rate, lowest.beats, lowest.start_sample) == ("lowest heart rate", 60.0, 9, 360)
    assert (highest.kind, highest.rate, highest.beats) == ("highest heart rate", 120.0, 9)
    assert highest.stop_sample - highest.start_sample <= 9 * FS


# --- what is not read parts beats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["unknown interval", "beat left out", "noisy stretch", "one noisy sample", "flutter"])
def test_beats_on_both_sides_of_what_is_not_read_are_not_consecutive(how):
    whole = annotate("NVVVVNN", rr_s=2.5)
    parts = {
        "unknown interval": torn(whole, 2),
        "beat left out": annotate("NVVVVNN", rr_s=2.5, left_out=np.array([3000])),
        "noisy stretch": annotate("NVVVVNN", rr_s=2.5, noisy=np.array([[2800, 3100]]), noisy_reasons=("noise",)),
        "one noisy sample": annotate("NVVVVNN", rr_s=2.5, noisy=np.array([[2701, 2702]]), noisy_reasons=("noise",)),
        "flutter": annotate("NVVVVNN", rr_s=2.5, flutter=np.array([[2750, 3150]])),
    }
    assert consecutive(whole).all()
    assert consecutive(parts[how]).tolist() == [True, True, False, True, True, True]
    summary = summarize(parts[how])
    assert (summary.ventricular.runs.number, summary.ventricular.couplets) == (0, 2)
    assert summary.pauses.number == 5
    assert summarize(whole).pauses.number == 6


def test_a_noisy_stretch_that_only_touches_does_not_part():
    stretches = np.array([[0, 900], [1801, 1802]])
    annotations = annotate("NNN", [900, 1801, 2700], noisy=stretches, noisy_reasons=("noise", "noise"))
    assert consecutive(annotations).tolist() == [True, False], "a beat at a stretch's first sample lies in it"


def test_time_analysed_and_excluded():
    annotations = annotate(
        "NN",
        [900, 32_400],
        duration_s=100.0,
        noisy=np.array([[3600, 7200], [7200, 9000], [34_200, 40_000]]),
        noisy_reasons=("noise", "missing", "noise"),
        left_out=np.array([1800, 1801, 4000, 9000]),
    )
    time_ = summarize(annotations).time
    windows_s = 257 / 360 + 128 / 360  # two beats at almost one place; and half of the window beyond sample 9000
    assert time_.reasons == {
        "noise": pytest.approx(10.0 + 5.0),
        "missing": pytest.approx(5.0),
        LEFT_OUT: pytest.approx(windows_s),
    }
    assert time_.excluded_s == pytest.approx(20.0 + windows_s)
    assert time_.analysed_s == pytest.approx(80.0 - windows_s)


@pytest.mark.parametrize("reason", ["missing", "flat", "saturated", "noise", "baseline"])
def test_no_pause_and_no_heart_rate_across_what_is_not_read(reason):
    """Beats given by hand have an RR interval across noise, too: it says nothing of a pause."""
    samples = 360 * np.array([1, 2, 3, 103, 104, 105])
    annotations = annotate("NNNNNN", samples, noisy=np.array([[1200, 36_000]]), noisy_reasons=(reason,))
    assert np.isfinite(annotations.rr_after_s[:-1]).all()
    summary = summarize(annotations)
    assert (summary.pauses.number, summary.pauses.longest_rr_s) == (0, 1.0)
    assert (summary.heart_rate.mean, summary.heart_rate.min) == (60.0, 60.0)
    assert "pause" not in kinds(annotations)
    assert summarize(replace(annotations, noisy=annotations.noisy[:0], noisy_reasons=())).pauses.number == 1


def test_flutter_is_no_pause_and_time_of_its_own():
    annotations = annotate(
        "NNNN",
        [360, 720, 36_360, 36_720],
        duration_s=200.0,
        flutter=np.array([[900, 18_000], [18_900, 36_300]]),
        noisy=np.array([[720, 1260]]),
        noisy_reasons=("noise",),
    )
    summary = summarize(annotations)
    assert (summary.pauses.number, summary.pauses.longest_rr_s, summary.heart_rate.min) == (0, 1.0, 60.0)
    assert summary.flutter == Flutter(
        episodes=2,
        total_s=pytest.approx(47.5 + 48.3333, abs=1e-3),
        longest_s=pytest.approx(48.3333),
        longest_time_s=52.5,
        times_s=(2.5, 52.5),
        lengths_s=(47.5, pytest.approx(48.3333)),
    )
    assert summary.time.reasons == {
        "noise": pytest.approx(1.5),
        FLUTTER: pytest.approx(46.5 + 48.3333, abs=1e-3),  # the first second of it is noise already
    }
    assert summary.time.excluded_s == pytest.approx(sum(summary.time.reasons.values()))
    assert [(event.start_sample, event.stop_sample) for event in find_events(annotations) if not event.beats] == [
        (900, 18_000),
        (18_900, 36_300),
    ]


def test_the_heart_rate_is_beats_by_minutes_with_its_extremes_in_place():
    samples = np.round(FS * np.cumsum([*[1.0] * 30, *[0.5] * 30]))
    rate = summarize(annotate("N" * 60, samples)).heart_rate
    assert rate.mean == pytest.approx(60 * 59 / (29 * 1.0 + 30 * 0.5))
    assert (rate.min, rate.max) == (60.0, 120.0)
    assert rate.min_time_s == 5.0, "the fifth of nine beats"
    assert rate.max_time_s == 30.5, "five of the eight intervals around it last 0.5 s"


def test_hours():
    started = datetime.datetime(2024, 3, 1, 22, 30)
    samples = np.concatenate([np.arange(1, 601) * 2 * 360, 3_600 * 360 + np.arange(1, 1201) * 360])
    classes = "N" * 600 + "NNNV" * 300
    annotations = annotate(
        classes,
        samples,
        duration_s=5400.0,
        started=started,
        noisy=np.array([[2400 * 360, 3600 * 360 + 10]]),
        noisy_reasons=("flat",),
    )
    first, second = summarize(annotations).hours
    assert (first.index, first.started, second.started) == (0, started, started + datetime.timedelta(hours=1))
    assert (first.beats, second.beats) == (600, 1200)
    assert first.analysed_minutes == pytest.approx(40.0)
    assert second.analysed_minutes == pytest.approx(30.0, abs=0.001)
    assert (first.heart_rate_mean, first.heart_rate_max, second.heart_rate_mean) == (30.0, 30.0, 60.0)
    assert (first.ectopic_burden_percent, second.ectopic_burden_percent) == (0.0, 25.0)
    assert second.counts["V"] == 300


def test_an_hour_without_beats_is_unknown_and_there_is_always_one():
    hours = summarize(annotate("NN", [360, 720], duration_s=7300.0)).hours
    assert [hour.beats for hour in hours] == [2, 0, 0]
    assert (hours[1].heart_rate_mean, hours[1].ectopic_burden_percent, hours[1].started) == (None, None, None)
    assert len(summarize(annotate("", duration_s=3600.0)).hours) == 1
    assert len(summarize(annotate("", duration_s=3600.01)).hours) == 2


def test_variability_is_of_normal_intervals_in_range():
    rr_s = [0.8, 0.9, 0.8, 0.5, 1.2, 0.85, 2.5, 0.8, 0.2, 0.75]
    annotations = annotate("NNNNVNNNNNN", np.round(FS * np.cumsum([1.0, *rr_s])))
    nn_ms = np.array([800, 900, 800, 850, 800, 750])  # not to and from V, not 2.5 s, not 0.2 s
    variability = summarize(annotations).variability
    assert variability.intervals == 6
    assert variability.mean_nn_ms == pytest.approx(nn_ms.mean(), abs=1)
    assert variability.sdnn_ms == pytest.approx(np.std(nn_ms, ddof=1), abs=1)
    assert variability.rmssd_ms == pytest.approx(100, abs=2), "800 900 800: two differences of 100 ms"


def test_uncertain_beats_are_counted():
    probabilities = np.full((3, 5), 0.02, dtype=np.float32)
    probabilities[:, 0] = UNCERTAIN_BELOW - 0.01, UNCERTAIN_BELOW + 0.01, 0.5
    assert summarize(annotate("NNN", probabilities=probabilities)).uncertain == 2


# --- few beats -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", ["", "N", "V", "NV", "VV", "VVVVV", "NVNVNV"])
def test_few_beats_give_plain_values(classes):
    annotations = annotate(classes, noisy=np.array([[0, 10]]), noisy_reasons=("noise",))
    document = summarize(annotations).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["beats"] == len(classes)
    known = len(classes) > 1
    assert (document["heart_rate"]["mean"] is not None) == known
    assert (document["pauses"]["longest_rr_s"] is not None) == known
    assert len(document["hours"]) == 1


def test_all_intervals_unknown():
    annotations = torn(annotate("NVV"), 0, 1)
    summary = summarize(annotations)
    assert summary.heart_rate.mean is summary.pauses.longest_rr_s is summary.variability.sdnn_ms is None
    assert (summary.ventricular.isolated, summary.ventricular.couplets) == (2, 0)
    assert kinds(annotations) == ["isolated ventricular beat"] * 2


def test_beats_at_one_sample_have_no_rate():
    runs = summarize(annotate("VVV", [50, 50, 50])).ventricular.runs
    assert (runs.number, runs.fastest_rate, runs.fastest_time_s) == (1, None, None)
    assert find_events(annotate("VVV", [50, 50, 50]))[0].rate is None


def test_the_summary_of_a_started_recording_is_json():
    started = datetime.datetime(2024, 3, 1, 8, 0, tzinfo=datetime.UTC)
    document = summarize(annotate("NV", started=started)).to_dict()
    assert document["started"] == document["hours"][0]["started"] == "2024-03-01T08:00:00+00:00"


@pytest.mark.parametrize("pause_s", [0.0, -1.0, math.nan])
def test_a_pause_must_last(pause_s):
    with pytest.raises(DataError, match="pause_s"):
        summarize(annotate("NN"), pause_s=pause_s)


# --- the same by a slow and obvious way ------------------------------------------------------------------------------


def slow_segments(annotations: BeatAnnotations) -> list[list[int]]:
    """Cut the beats into lists of consecutive ones."""
    segments: list[list[int]] = []
    for i, sample in enumerate(annotations.samples.tolist()):
        previous = annotations.samples[i - 1] if i else 0
        apart = (
            i == 0
            or math.isnan(annotations.rr_before_s[i])
            or any(previous <= other <= sample for other in annotations.left_out.tolist())
            or any(start < sample and stop > previous for start, stop in annotations.noisy.tolist())
            or any(start < sample and stop > previous for start, stop in annotations.flutter.tolist())
        )
        if apart:
            segments.append([])
        segments[-1].append(i)
    return segments


def slow_ectopy(annotations: BeatAnnotations, letter: str) -> dict[str, object]:
    lengths: list[int] = []
    alternations: dict[int, list[int]] = {2: [], 3: []}
    for segment in slow_segments(annotations):
        word = "".join(str(annotations.classes[i]) for i in segment)
        length = 0
        for other in [*word, "end"]:
            if other == letter:
                length += 1
            elif length:
                lengths.append(length)
                length = 0
        for period, found in alternations.items():
            cycle = "N" * (period - 1) + letter
            i = 0
            while i < len(word):
                cycles = 0
                while word.startswith(cycle, i + cycles * period):
                    cycles += 1
                if cycles >= 3:
                    found.append(cycles * period)
                i += max(1, cycles * period)
    return {
        "beats": sum(lengths),
        "isolated": lengths.count(1),
        "couplets": lengths.count(2),
        "runs": sum(length >= 3 for length in lengths),
        "longest": max((length for length in lengths if length >= 3), default=None),
        "bigeminy": (len(alternations[2]), sum(alternations[2])),
        "trigeminy": (len(alternations[3]), sum(alternations[3])),
    }


def fast_ectopy(annotations: BeatAnnotations, letter: str) -> dict[str, object]:
    summary = summarize(annotations)
    found = summary.ventricular if letter == "V" else summary.supraventricular
    return {
        "beats": found.beats,
        "isolated": found.isolated,
        "couplets": found.couplets,
        "runs": found.runs.number,
        "longest": found.runs.longest_beats,
        "bigeminy": (found.bigeminy.episodes, found.bigeminy.beats),
        "trigeminy": (found.trigeminy.episodes, found.trigeminy.beats),
    }


@st.composite
def recordings(draw: st.DrawFn) -> BeatAnnotations:
    """Words that ectopic rhythms are made of, and irregular intervals; unknown ones, beats left out, noise."""
    words = draw(
        st.lists(st.sampled_from(["N", "NV", "NNV", "NS", "NNS", "V", "S", "F", "Q", "VV", "NNN"]), max_size=25)
    )
    classes = "".join(words)
    steps = draw(st.lists(st.integers(1, 1000), min_size=len(classes), max_size=len(classes)))
    samples = np.cumsum(np.array(steps, dtype=np.int64))
    end = int(samples[-1]) + 400 if len(samples) else 400
    positions = st.integers(0, end)
    # Classified beats lie outside of noise and are not left out.
    left_out = sorted(draw(st.sets(positions, max_size=3)) - set(samples.tolist()))
    edges = sorted(draw(st.sets(positions, max_size=6)))
    noisy = np.array(edges[: len(edges) // 2 * 2], dtype=np.int64).reshape(-1, 2)
    shaken = sorted(draw(st.sets(positions, max_size=3)))
    annotations = annotate(
        classes,
        samples,
        duration_s=end / FS,
        flutter=np.array(shaken[: len(shaken) // 2 * 2], dtype=np.int64).reshape(-1, 2),
        left_out=np.array(left_out, dtype=np.int64),
        noisy=noisy,
        noisy_reasons=("noise",) * len(noisy),
    )
    return (
        torn(annotations, *draw(st.sets(st.integers(0, len(classes) - 2), max_size=2)))
        if len(classes) > 1
        else annotations
    )


@settings(max_examples=120, deadline=None)
@given(recordings())
def test_everything_counted_equals_the_slow_way(annotations):
    for letter in "VS":
        assert fast_ectopy(annotations, letter) == slow_ectopy(annotations, letter)
    segments = slow_segments(annotations)
    intervals = [
        (int(annotations.samples[j] - annotations.samples[i]) / FS, i)
        for segment in segments
        for i, j in itertools.pairwise(segment)
    ]
    summary = summarize(annotations)
    assert summary.pauses.times_s == tuple(annotations.samples[i] / FS for rr_s, i in intervals if rr_s >= 2.0)
    assert summary.pauses.longest_rr_s == max((rr_s for rr_s, _ in intervals), default=None)
    windows = [intervals[i : i + 8] for i in range(max(1, len(intervals) - 7))]
    unbroken = [window for window in windows if len(window) == 8 and window[-1][1] - window[0][1] == 7]
    local = [60 / median(rr_s for rr_s, _ in window) for window in unbroken or windows if window]
    if intervals:
        assert summary.heart_rate.mean == pytest.approx(60 * len(intervals) / sum(rr_s for rr_s, _ in intervals))
        assert (summary.heart_rate.min, summary.heart_rate.max) == pytest.approx((min(local), max(local)))
    excluded = np.zeros(round(annotations.duration_s * FS), dtype=bool)
    for start, stop in annotations.noisy.tolist():
        excluded[start:stop] = True
    for start, stop in annotations.flutter.tolist():
        excluded[start:stop] = True
    for sample in annotations.left_out.tolist():
        excluded[max(0, sample - 128) : sample + 128] = True
    assert summary.time.excluded_s == pytest.approx(excluded.sum() / FS)
    assert sum(summary.time.reasons.values()) == pytest.approx(summary.time.excluded_s, abs=1e-5)
    assert sum(hour.analysed_minutes for hour in summary.hours) == pytest.approx(summary.time.analysed_s / 60)


@settings(max_examples=50, deadline=None)
@given(recordings())
def test_the_events_are_those_of_the_summary(annotations):
    events, summary = find_events(annotations), summarize(annotations)
    number = {kind: sum(event.kind == kind for event in events) for kind in EVENT_KINDS}
    assert sum(number.values()) == len(events)
    for name in ("ventricular", "supraventricular"):
        found = getattr(summary, name)
        assert number[f"{name} run"] == found.runs.number
        assert number[f"{name} couplet"] == found.couplets
        assert number[f"isolated {name} beat"] == found.isolated
        assert number[f"{name} bigeminy"] == found.bigeminy.episodes
        assert number[f"{name} trigeminy"] == found.trigeminy.episodes
    assert number["pause"] == summary.pauses.number
    assert number["fusion beat"] == summary.counts["F"]
    assert number["ventricular flutter"] == summary.flutter.episodes
    events = tuple(event for event in events if event.kind != "ventricular flutter")
    assert [event.start_sample for event in events] == sorted(event.start_sample for event in events)
    peaks = annotations.samples.tolist()
    for event in events:
        first, last = peaks.index(event.start_sample), peaks.index(event.stop_sample)
        assert event.beats == last - first + 1
        assert any(first in segment and last in segment for segment in slow_segments(annotations))


# --- real records ----------------------------------------------------------------------------------------------------


def reference_beats(mitdb_dir, record: str) -> BeatAnnotations:
    """The annotator's own beats and classes, as if a model had given them."""
    reference = read_annotations(mitdb_dir / record, "atr")
    letters = [
        (sample, class_of_symbol(symbol)) for sample, symbol in zip(reference.samples, reference.symbols, strict=True)
    ]
    beats = [(int(sample), letter) for sample, letter in letters if letter is not None]
    return annotate([letter for _, letter in beats], [sample for sample, _ in beats], duration_s=650_000 / FS)


@pytest.mark.parametrize("record", ["106", "119", "207", "208", "222"])
def test_real_records_against_a_loop_over_their_symbols(mitdb_dir, record):
    """The loop knows neither our classes nor our summary; of 222 it counts atrial beats."""
    reference = read_annotations(mitdb_dir / record, "atr")
    wanted = {"V": "VE", "S": "AaJS"}
    beat_symbols = "NLRejAaJSVEF/fQ"
    for letter, symbols in wanted.items():
        isolated = couplets = runs = longest = length = 0
        for symbol in (*(s for s in reference.symbols if s in beat_symbols), "N"):
            if symbol in symbols:
                length += 1
                continue
            isolated, couplets, runs = isolated + (length == 1), couplets + (length == 2), runs + (length > 2)
            longest, length = max(longest, length if length > 2 else 0), 0
        summary = summarize(reference_beats(mitdb_dir, record))
        found = summary.ventricular if letter == "V" else summary.supraventricular
        assert (found.isolated, found.couplets, found.runs.number) == (isolated, couplets, runs)
        assert (found.runs.longest_beats or 0) == longest
        assert found.beats == sum(symbol in symbols for symbol in reference.symbols)


@pytest.mark.parametrize(
    ("record", "period"), [("106", 2), ("119", 2), ("119", 3), ("200", 2), ("201", 3), ("208", 3), ("223", 2)]
)
def test_bigeminy_and_trigeminy_lie_where_cardiologists_saw_them(mitdb_dir, record, period):
    """MIT-BIH's rhythm annotations mark the same rhythms by eye, with freer borders."""
    annotation = wfdb.rdann(str(mitdb_dir / record), "atr")
    noted = zip(annotation.sample.tolist(), annotation.aux_note, strict=True)
    rhythms = [(sample, note.rstrip("\0")) for sample, note in noted if note.startswith("(")]
    seen, found = np.zeros((2, 650_000), dtype=bool)
    for (start, note), (stop, _) in zip(rhythms, [*rhythms[1:], (650_000, "")], strict=True):
        seen[start:stop] = note == {2: "(B", 3: "(T"}[period]
    for event in find_events(reference_beats(mitdb_dir, record)):
        if event.kind == {2: "ventricular bigeminy", 3: "ventricular trigeminy"}[period]:
            found[event.start_sample : event.stop_sample] = True
    assert (seen & found).sum() > 0.8 * max(seen.sum(), found.sum())


def test_the_flutter_of_207_is_no_pause(mitdb_dir, checkpoints):
    """Its longest episode lasts 98 s; two intervals of 2 s and more follow it, of which a loop knows, too."""
    annotations = classify(mitdb_dir / "207", checkpoints["cnn_kan"], annotator="atr")
    summary = summarize(annotations)
    assert (summary.flutter.episodes, summary.flutter.longest_time_s) == (6, 554_682 / FS)
    assert summary.flutter.longest_s == pytest.approx((589_926 - 554_682) / FS)
    intervals, last = [], None
    reference = read_annotations(mitdb_dir / "207", "atr")
    for sample, symbol in zip(reference.samples.tolist(), reference.symbols, strict=True):
        if symbol == "[":
            last = None
        elif symbol in "NLRejAaJSVEF/fQ":
            intervals += [] if last is None else [(sample - last) / FS]
            last = sample
    assert summary.pauses.number == sum(interval >= 2.0 for interval in intervals) == 2
    assert summary.pauses.longest_rr_s == max(intervals) < 3.0
    assert summary.time.reasons[FLUTTER] > 120


def test_a_day_takes_well_under_a_second():
    rng = np.random.default_rng(0)
    classes = rng.choice(list("NNNNNNVSVF"), 110_000)
    samples = np.cumsum(rng.integers(200, 360, 110_000))
    noisy = np.arange(0, samples[-1], 400_000)[:, None] + [[0, 5000]]
    annotations = annotate(classes.tolist(), samples, noisy=noisy, noisy_reasons=("noise",) * len(noisy))
    start = time.process_time()
    summarize(annotations)
    assert time.process_time() - start < 1.0
