"""What is printed: figures, intervals, the reference beside ours, and the note."""

import dataclasses
import io

import pytest
from rich.console import Console

from ecgkan.evaluation.comparison import shared_figures
from ecgkan.evaluation.published import PUBLISHED
from ecgkan.evaluation.tables import print_report


def printed(evaluations, width=160) -> str:
    stream = io.StringIO()
    print_report(Console(file=stream, width=width, markup=False, highlight=False), evaluations)
    return stream.getvalue()


def row(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.strip().startswith(name))


def test_figures_stand_with_their_intervals(evaluations):
    text = printed(evaluations)
    for evaluation in evaluations:
        low, high = evaluation.intervals.macro_f1
        assert f"{evaluation.metrics.macro_f1:.4f} [{low:.4f}–{high:.4f}]".replace("[0", "[").replace("–0", "–") in text
        assert evaluation.weights_sha256[:12] in text
    assert row(text, "parameters")[1:] == ["175,973", "285,280"]
    assert "best, 7" in text
    assert evaluations[0].note in text
    assert "test set, 300 beats" in text


def test_the_reference_stands_beside_ours(evaluations):
    text = printed(evaluations)
    table = text[text.index("Ours beside the reference") :]
    mlp, kan = evaluations
    shown = row(table, "macro F1")
    assert shown[2] == "0.9019"
    assert shown[3] == f"{mlp.metrics.macro_f1:.4f}"
    assert shown[4] == f"{mlp.metrics.macro_f1 - 0.9019:+.4f}"
    assert shown[5] == "0.8167"
    assert shown[6] == f"{kan.metrics.macro_f1:.4f}"
    assert row(table, "F1 S")[2] == "0.8111"
    assert row(table, "parameters") == ["parameters", "175,973", "175,973", "+0", "285,280", "285,280", "+0"]


def test_the_published_latency_is_marked_and_not_compared(evaluations):
    text = printed(evaluations)
    shown = row(text, "ms per sample *")
    ours = [f"{evaluation.latency.batch_128_ms:.4f}" for evaluation in evaluations]
    assert shown == ["ms", "per", "sample", "*", "0.3664", "*", ours[0], "–", "0.6308", "*", ours[1], "–"]
    assert "published, other hardware" in text


def test_on_other_beats_there_is_no_reference(evaluations):
    text = printed([dataclasses.replace(evaluation, subset="validation") for evaluation in evaluations])
    assert "reference model card" not in text


def test_one_model_is_compared_with_its_own_reference(evaluations):
    text = printed(evaluations[1:])
    assert row(text[text.index("Ours beside") :], "accuracy")[1] == "0.9476"


def test_eighty_columns_cut_nothing_off(evaluations):
    text = printed(evaluations, width=80)
    assert "…" not in text
    tables = [line for line in text.splitlines() if not line.startswith("Protocol random-split: patients")]
    assert max(map(len, tables)) <= 80


def test_shared_figures_are_the_published_table(evaluations):
    figures = {figure.name: figure for figure in shared_figures(evaluations[0], PUBLISHED["cnn_mlp"])}
    assert list(figures) == [
        *("accuracy", "macro F1", "weighted F1", "macro AUC"),
        *("F1 N", "F1 S", "F1 V", "F1 F", "F1 Q"),
    ]
    assert figures["F1 F"].reference == 0.7589
    assert figures["F1 F"].difference == pytest.approx(evaluations[0].metrics.f1[3] - 0.7589)
