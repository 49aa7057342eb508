"""The published figures follow from the published confusion matrices, to every printed digit."""

import numpy as np
import pytest

from ecgkan.evaluation.published import LATENCY_MARK, PUBLISHED, published_for

BOTH = pytest.mark.parametrize("name", ["cnn_mlp", "cnn_kan"])


@BOTH
def test_matrices_reproduce_the_published_table(name):
    published = PUBLISHED[name]
    metrics = published.metrics()
    assert f"{metrics.accuracy:.4f}" == f"{published.accuracy:.4f}"
    assert f"{metrics.macro_f1:.4f}" == f"{published.macro_f1:.4f}"
    assert f"{metrics.weighted_f1:.4f}" == f"{published.weighted_f1:.4f}"
    assert [f"{value:.4f}" for value in metrics.f1] == [f"{value:.4f}" for value in published.f1]


@BOTH
def test_rows_are_the_classes_of_the_test_set(name):
    np.testing.assert_array_equal(PUBLISHED[name].metrics().support, [13589, 417, 1085, 121, 1206])


def test_parameters_are_those_of_the_models():
    from ecgkan.models.checkpoint import MODELS

    for name, published in PUBLISHED.items():
        assert sum(p.numel() for p in MODELS[name]().parameters()) == published.parameters


def test_published_for_the_same_beats_only():
    assert published_for("cnn_mlp", "random-split", "test") is PUBLISHED["cnn_mlp"]
    assert published_for("cnn_mlp", "random-split", "validation") is None
    assert published_for("cnn_mlp", "inter-patient", "test") is None
    assert published_for("another", "random-split", "test") is None


def test_latency_is_marked():
    assert LATENCY_MARK == "published, other hardware"
