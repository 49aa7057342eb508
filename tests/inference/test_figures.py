"""Figures show what they are given, in colours that hold up; they are written whole, and the same every time."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from tests.inference.test_annotation import annotate

from ecgkan.data.beats import cut_beats
from ecgkan.data.embedded import embedded_recording
from ecgkan.errors import DataError, OutputExistsError
from ecgkan.evaluation.plots import CLASS_COLOURS
from ecgkan.inference.disagreement import find_disagreements, surest
from ecgkan.inference.figures import (
    Strip,
    class_gallery_figure,
    disagreement_figure,
    most_varied_strip,
    strip_figure,
    write_figure,
)

SAMPLES = np.arange(1, 60) * 1800  # one beat every 5 s of the embedded recording


@pytest.fixture(scope="module")
def signal():
    return embedded_recording().signals[:, 0]


def pair(first: str, second: str):
    """Annotations of two models at the same R peaks, classes repeated as often as needed."""
    letters = [(classes * 60)[: len(SAMPLES)] for classes in (first, second)]
    models = ("cnn_mlp", "cnn_kan")
    return [annotate(SAMPLES, some, model=model, duration_s=300.0) for some, model in zip(letters, models, strict=True)]


def texts(axes) -> list[tuple[str, str]]:
    return [(text.get_text(), to_hex(text.get_color())) for text in axes.texts]


def test_a_strip_has_the_scale_of_ecg_paper(signal):
    figure = strip_figure(signal, pair("N", "N"), Strip(20.0, row_s=8.0, rows=2), title="strip")
    width_in, height_in = figure.get_size_inches()
    assert len(figure.axes) == 2
    for axes in figure.axes:
        box = axes.get_position()
        assert box.width * width_in * 25.4 / np.ptp(axes.get_xlim()) == pytest.approx(25.0)  # mm/s
        assert box.height * height_in * 25.4 / np.ptp(axes.get_ylim()) == pytest.approx(10.0)  # mm/mV
        assert box.y0 >= 0 and box.y1 <= 1
    assert figure.axes[0].get_xlim() == (20.0, 28.0)
    assert figure.axes[1].get_xlim() == (28.0, 36.0)


def test_each_beat_of_a_strip_has_a_letter_per_model_in_its_colour(signal):
    mlp, kan = pair("NVS", "NVF")
    figure = strip_figure(signal, [mlp, kan], Strip(4.0, row_s=20.0, rows=1), title="strip")
    inside = (SAMPLES / 360 >= 4) & (SAMPLES / 360 < 24)
    expected = [letter for some in (mlp, kan) for letter in some.classes[inside].tolist()]
    drawn = [text for text in figure.axes[0].texts if text.get_text() in CLASS_COLOURS]
    assert [text.get_text() for text in drawn] == expected
    for text in drawn:
        box = text.get_bbox_patch()
        colour = to_hex(box.get_facecolor() if box else text.get_color()).upper()
        assert colour == CLASS_COLOURS[text.get_text()]
    boxed = [text.get_text() for text in drawn if text.get_bbox_patch()]
    assert boxed == ["S", "F"], "where models disagree, letters are boxed, so that it does not rest on colour"


def test_a_strip_beyond_the_end_or_without_signal_is_drawn(signal, tmp_path):
    torn = signal.copy()
    torn[:8000] = np.nan
    for start_s in (0.0, 295.0):
        figure = strip_figure(torn, pair("NV", "NS"), Strip(start_s, row_s=10.0, rows=2), title="edge")
        assert write_figure(figure, tmp_path / f"{start_s}.png").stat().st_size > 10_000


def test_a_strip_of_a_part_of_the_signal_is_the_strip_of_all_of_it(signal):
    annotations = pair("NVS", "NVS")[:1]
    whole, part = (
        strip_figure(values, annotations, Strip(20.0, row_s=7.0, rows=2), title="strip", first_sample=first)
        for values, first in ((signal, 0), (signal[7000:12_500], 7000))
    )
    for axes, same in zip(whole.axes, part.axes, strict=True):
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), same.lines[0].get_xydata())
        assert axes.get_ylim() == same.get_ylim()


def test_stretches_that_are_not_read_are_shaded(signal):
    (annotations,) = pair("NVS", "NVS")[:1]
    noisy = replace(annotations, noisy=np.array([[0, 360], [7560, 9000]]), noisy_reasons=("flat", "noise"))
    figure = strip_figure(signal, [noisy], Strip(20.0, row_s=4.0, rows=1), title="strip", window_s=(20.5, 20.75))
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in figure.axes[0].patches]
    assert spans == [pytest.approx((21.0, 24.0)), pytest.approx((20.5, 20.75))]


def test_the_gallery_shows_every_beat_in_its_class(signal):
    mlp, kan = pair("NVF", "NVV")
    windows = cut_beats(signal, SAMPLES).windows
    figure = class_gallery_figure(windows, [mlp, kan], title="gallery")
    for annotated, row in zip((mlp, kan), np.array(figure.axes).reshape(2, 5), strict=True):
        for letter, axes in zip("NSVFQ", row, strict=True):
            count = int(np.count_nonzero(annotated.classes == letter))
            segments = [len(lines.get_segments()) for lines in axes.collections]
            assert segments == ([count] if count else [])
            assert (f"{count} beats", to_hex("#5A5A5A")) in texts(axes)
            if count:
                beats = windows[annotated.classes == letter]
                mean = (beats - np.median(beats, axis=1, keepdims=True)).mean(axis=0)
                np.testing.assert_allclose(axes.lines[-1].get_ydata(), mean, atol=1e-6)


def test_a_gallery_of_no_beats(tmp_path):
    empty = [annotate([], "", model=model) for model in ("cnn_mlp", "cnn_kan")]
    figure = class_gallery_figure(np.zeros((0, 256)), empty, title="none")
    assert write_figure(figure, tmp_path / "none.png").is_file()


def test_windows_that_are_not_those_of_the_beats_are_refused():
    with pytest.raises(DataError, match="one per beat"):
        class_gallery_figure(np.zeros((3, 256)), pair("N", "N"), title="")


def test_disagreements_are_shown_with_both_verdicts(signal):
    disagreements = find_disagreements(pair("NNNV", "NNNF"))
    assert len(disagreements) == 14
    figure = disagreement_figure(signal, 360.0, disagreements, beats=59)
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 12
    for axes, disagreement in zip(shown, surest(disagreements, 12), strict=True):
        assert axes.get_title(loc="left") == f"{disagreement.time_s:.2f} s"
        verdicts = dict(texts(axes))
        assert verdicts["CNN+MLP V 0.80"].upper() == CLASS_COLOURS["V"]
        assert verdicts["CNN+KAN F 0.80"].upper() == CLASS_COLOURS["F"]
    assert "14 of 59 beats" in figure.get_suptitle()


def test_a_disagreement_at_the_very_edge_or_in_a_gap_is_drawn(signal, tmp_path):
    edges = [annotate([0, 5000, 107_999], letters, model=letters) for letters in ("NNN", "VVV")]
    torn = signal.copy()
    torn[4000:6000] = np.nan
    figure = disagreement_figure(torn, 360.0, find_disagreements(edges), beats=3)
    assert write_figure(figure, tmp_path / "edges.png").is_file()


def test_models_that_agree_give_a_figure_that_says_so(signal, tmp_path):
    figure = disagreement_figure(signal, 360.0, find_disagreements(pair("NV", "NV")), beats=59)
    assert any("same class" in text.get_text() for text in figure.texts)
    assert write_figure(figure, tmp_path / "agree.png").is_file()


def test_only_annotations_of_the_same_beats_can_be_compared():
    with pytest.raises(DataError, match="same beats"):
        find_disagreements([annotate([1, 2], "NN"), annotate([1, 3], "NN")])


def test_the_strip_chosen_has_the_most_classes(signal):
    letters = ["N"] * len(SAMPLES)
    letters[30], letters[31] = "V", "S"  # at 155 s and 160 s
    both = [annotate(SAMPLES, letters, model=model, duration_s=300.0) for model in ("cnn_mlp", "cnn_kan")]
    strip = most_varied_strip(signal, both)
    assert strip.start_s <= 155.0
    assert strip.start_s + 20 > 160.0


def test_a_recording_shorter_than_a_strip_starts_at_its_beginning(signal):
    short = [annotate([100, 500], "NV", model=model, duration_s=5.0) for model in ("cnn_mlp", "cnn_kan")]
    assert most_varied_strip(signal[:1800], short).start_s == 0.0


def test_a_figure_is_the_same_every_time_and_not_overwritten_unasked(signal, tmp_path):
    files = [tmp_path / "one.png", tmp_path / "two.png"]
    for file in files:
        write_figure(strip_figure(signal, pair("NVS", "NVF"), Strip(4.0), title="strip"), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(OutputExistsError):
        write_figure(strip_figure(signal, pair("N", "N"), Strip(4.0), title="strip"), files[0])
    assert files[0].read_bytes() == files[1].read_bytes()
