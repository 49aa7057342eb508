"""Figures hold what they are given: counts, letters, intervals, notes."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ecgkan.aami import CLASSES
from ecgkan.evaluation import plots
from ecgkan.evaluation.comparison import bars_of, side_by_side_figure
from ecgkan.evaluation.metrics import Interval, reliability
from ecgkan.evaluation.plots import ForestRow, forest_figure
from ecgkan.evaluation.published import PUBLISHED

from .conftest import HISTORY

NOTE = "patients are shared between training and test, a line long enough that it has to be broken somewhere"


def texts(figure: Figure) -> list[str]:
    """Every non-empty text of a figure, as drawn."""
    FigureCanvasAgg(figure).draw()
    return [text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")) if text.get_text()]


def overlap(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of the figure's own texts (heading, note, legends) and its axes' labels and titles that overlap."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    items = [*figure.texts, *figure.legends]
    for axes in figure.axes:
        items += [axes.title, axes.xaxis.label, axes.yaxis.label]
    boxes = [(str(item), item.get_window_extent(renderer)) for item in items if getattr(item, "get_text", lambda: 1)()]
    return [
        (name, other)
        for i, (name, box) in enumerate(boxes)
        for other, second in boxes[i + 1 :]
        if box.overlaps(second) and box.width and second.width
    ]


def sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), [200, 20, 40, 10, 30])
    logits = rng.normal(size=(300, 5))
    logits[np.arange(300), labels] += 2
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def check(figure: Figure, title: str) -> list[str]:
    found = texts(figure)
    assert any(" ".join(text.split()) == NOTE for text in found)
    assert title in found
    assert overlap(figure) == []
    for extension in ("png", "pdf"):
        stream = io.BytesIO()
        figure.savefig(stream, format=extension)
        assert stream.tell() > 5000
    return found


def test_confusion_figure_shows_every_count_and_share():
    published = PUBLISHED["cnn_mlp"].confusion_array()
    found = check(plots.confusion_figure(published, title="Matrix", note=NOTE), "Matrix")
    for count in published.ravel():
        assert f"{count:,}" in found
    assert "98.2 %" in found  # 13,348 of 13,589
    assert "0.09 %" in found  # 12 of 13,589
    assert "F\n+P 66.5 %" in found
    assert "S\nSe 91.1 %\nn = 417" in found


def test_confusion_figure_of_absent_classes():
    matrix = np.zeros((5, 5), dtype=int)
    matrix[0, 0] = 3
    found = texts(plots.confusion_figure(matrix, title="Matrix"))
    assert "S\nSe –\nn = 0" in found
    assert "S\n+P –" in found


def test_curves_figure_names_each_class_with_its_areas():
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels, probabilities = sample()
    found = check(plots.curves_figure(labels, probabilities, title="Curves", note=NOTE), "Curves")
    for index, letter in enumerate(CLASSES):
        positive, score = labels == index, probabilities[:, index]
        areas = f"{roc_auc_score(positive, score):.4f}, {average_precision_score(positive, score):.4f}"
        assert f"{letter}  {areas}" in found


def test_curves_figure_of_an_absent_class():
    labels, probabilities = sample()
    kept = labels != 3
    found = texts(plots.curves_figure(labels[kept], probabilities[kept], title="Curves"))
    assert "F  –, –" in found


def test_history_figure_marks_the_selected_epoch():
    figure = plots.history_figure(HISTORY, selected_epoch=2, title="Training", note=NOTE)
    found = check(figure, "Training")
    assert "selected: epoch 2, 0.7000" in found
    loss, macro_f1, rate = figure.axes
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(loss.lines[1].get_ydata(), [1.2, 0.6, 0.4, 0.3])
    np.testing.assert_allclose(macro_f1.lines[0].get_ydata(), [0.5, 0.6, 0.7, 0.8])
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [1e-3] * 4)


@pytest.mark.parametrize("selected", [None, 99])
def test_history_figure_without_a_selected_epoch(selected):
    found = texts(plots.history_figure(HISTORY[:1], selected_epoch=selected, title="Training"))
    assert not any(text.startswith("selected") for text in found)


def test_reliability_figure_shows_errors_and_counts():
    labels, probabilities = sample()
    bins = reliability(labels, probabilities)
    sharper = reliability(labels, probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True))
    found = check(plots.reliability_figure(sharper, uncalibrated=bins, title="Calibration", note=NOTE), "Calibration")
    assert f"calibrated: error {sharper.calibration_error:.4f}" in found
    assert f"temperature 1: error {bins.calibration_error:.4f}" in found
    assert {str(n) for n in sharper.counts if n} <= set(found)


def test_wilson_interval_by_hand():
    # Newcombe (1998), table I, method 3: 81 of 263 and 0 of 20.
    low, high = plots.wilson_interval(np.array([81 / 263, 0.0]), np.array([263, 20]))
    np.testing.assert_allclose(low, [0.2553, 0.0], atol=5e-5)
    np.testing.assert_allclose(high, [0.3662, 0.1611], atol=5e-5)


def test_comparison_figure_hatches_what_is_published():
    names = ["accuracy", "macro F1", *(f"F1 {letter}" for letter in CLASSES)]
    models = [
        plots.Bars("A, reference", "#0072B2", dict.fromkeys(names, 0.8), {}, published=True),
        plots.Bars("A", "#0072B2", dict.fromkeys(names, 0.9), dict.fromkeys(names, Interval(0.85, 0.93))),
        plots.Bars("B", "#D55E00", {"accuracy": 0.5, "macro F1": float("nan")}, {}),
    ]
    figure = plots.comparison_figure(models, title="Side by side", note=NOTE)
    found = check(figure, "Side by side")
    assert {"A, reference", "A", "B", ".800", ".900", ".500"} <= set(found)
    overall, f1 = figure.axes[0], figure.axes[1]
    assert [bool(bars[0].get_hatch()) for bars in overall.containers if hasattr(bars, "patches")] == [
        True,
        False,
        False,
    ]
    assert [bar.get_height() for bar in f1.patches] == [0.8] * 5 + [0.9] * 5
    segments = f1.collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 1] for segment in segments], [[0.85, 0.93]] * 5)


def test_side_by_side_puts_the_reference_before_ours(evaluations):
    bars = bars_of(evaluations)
    titles = ["CNN+MLP, reference (published)", "CNN+MLP", "CNN+KAN, reference (published)", "CNN+KAN"]
    assert [bar.title for bar in bars] == titles
    assert [bar.published for bar in bars] == [True, False, True, False]
    assert bars[0].colour == bars[1].colour != bars[2].colour
    assert bars[0].values["F1 S"] == pytest.approx(0.8111, abs=5e-5)
    assert bars[0].values["macro AUC"] == 0.9965
    assert bars[1].intervals["Se Q"] == evaluations[0].intervals.recall[4]
    found = " ".join(" ".join(texts(side_by_side_figure(evaluations))).split())
    assert evaluations[0].note in found
    assert "test set, 300 beats" in found


def test_wrong_beats_figure_names_each_beat():
    beat = plots.BeatPanel(np.sin(np.arange(256.0)), "208", 360 * 61 + 36, "F", "V", 0.876, np.zeros(256))
    other = plots.BeatPanel(np.cos(np.arange(256.0)), "232", 720, "S", "N", 0.5, None)
    figure = plots.wrong_beats_figure([beat, other] * 4, title="Wrong", note=NOTE)
    found = check(figure, "Wrong")
    assert found.count("F → V  0.88\n208  1:01.1") == 4
    assert found.count("S → N  0.50\n232  0:02.0") == 4
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 256]
    np.testing.assert_allclose(drawn[1].get_ydata(), beat.window)
    assert drawn[1].get_xdata()[128] == 0
    assert drawn[1].get_xdata()[0] == pytest.approx(-128 / 360 * 1000)


def test_wrong_beats_figure_of_a_flawless_model():
    assert "Nothing" in texts(plots.wrong_beats_figure([], title="Nothing"))


def test_the_users_settings_stay_as_they_were():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.confusion_figure(np.eye(5, dtype=int), title="Matrix")
    assert dict(matplotlib.rcParams) == before


def test_a_forest_plot_has_a_row_for_each_difference() -> None:
    rows = [
        ForestRow("KAN − MLP", [0.01, 0.03], 0.02, Interval(0.01, 0.03), Interval(-0.01, 0.04)),
        ForestRow("KAN, grid 8 − KAN", [0.0], 0.0, Interval(-0.01, 0.01), Interval(-0.02, 0.02)),
    ]
    (axes,) = forest_figure(rows, xlabel="difference", title="Heads").axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["KAN − MLP", "KAN, grid 8 − KAN"]
    means = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in means] == [0.02, 0.0]
    assert means[0].get_color() != means[1].get_color()  # the first interval leaves 0 out
