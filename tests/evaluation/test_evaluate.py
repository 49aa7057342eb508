"""Scoring a checkpoint: predictions, calibration, speed, and what is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import ecgkan
from ecgkan.data.protocols import SHARED_PATIENTS_NOTE
from ecgkan.errors import CheckpointError, DataError
from ecgkan.evaluation.evaluate import (
    code_version,
    distinct_labels,
    environment,
    evaluate_checkpoint,
    measure_latency,
    predict_logits,
    softmax,
)
from ecgkan.evaluation.metrics import classification_metrics
from ecgkan.models.checkpoint import load_checkpoint

from .conftest import write_checkpoint


def test_probabilities_are_those_of_the_model_at_its_temperature(evaluations, checkpoints, small_split):
    for evaluation, path in zip(evaluations, checkpoints.values(), strict=True):
        checkpoint = load_checkpoint(path)
        beats = torch.from_numpy(small_split.table.model_input(small_split.test))
        with torch.no_grad():
            expected = torch.softmax(checkpoint.model(beats).double() / 0.7, dim=1).numpy()
        np.testing.assert_allclose(evaluation.probabilities, expected, atol=1e-6)
        assert evaluation.temperature == pytest.approx(0.7)


def test_temperature_changes_confidence_but_no_prediction(checkpoints, small_split):
    checkpoint = load_checkpoint(checkpoints["cnn_mlp"])
    options = {"resamples": 10, "measure_speed": False}
    cool, warm = (
        evaluate_checkpoint(dataclasses.replace(checkpoint, temperature=t), small_split, **options) for t in (0.2, 5.0)
    )
    np.testing.assert_array_equal(cool.predicted, warm.predicted)
    assert cool.probabilities.max(axis=1).mean() > warm.probabilities.max(axis=1).mean()
    assert cool.uncalibrated.calibration_error == warm.uncalibrated.calibration_error


def test_labels_records_and_samples_are_those_of_the_subset(checkpoints, small_split):
    checkpoint = load_checkpoint(checkpoints["cnn_mlp"])
    for subset, indices in (("test", small_split.test), ("validation", small_split.validation)):
        evaluation = evaluate_checkpoint(checkpoint, small_split, subset=subset, resamples=10, measure_speed=False)
        np.testing.assert_array_equal(evaluation.indices, indices)
        np.testing.assert_array_equal(evaluation.labels, small_split.table.labels[indices])
        np.testing.assert_array_equal(evaluation.records, small_split.table.records[indices])
        np.testing.assert_array_equal(evaluation.samples, small_split.table.samples[indices])
        assert evaluation.latency is None
        expected = classification_metrics(evaluation.labels, evaluation.probabilities)
        assert evaluation.metrics.macro_f1 == expected.macro_f1
        assert set(evaluation.wrong) == set(np.flatnonzero(evaluation.predicted != evaluation.labels))


def test_to_dict_is_plain_json_and_says_where_it_comes_from(evaluations, checkpoints):
    for evaluation, path in zip(evaluations, checkpoints.values(), strict=True):
        document = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
        assert document["protocol"] == "random-split"
        assert document["note"] == SHARED_PATIENTS_NOTE
        assert document["weights_sha256"] == load_checkpoint(path).sha256
        assert document["beats"] == 300
        assert document["beats_per_class"] == {"N": 60, "S": 60, "V": 60, "F": 60, "Q": 60}
        assert document["training"]["seed"] == 7
        assert "history" not in document["training"]
        assert document["metrics"]["macro_f1"]["value"] == evaluation.metrics.macro_f1
        assert document["classes"]["V"]["recall"]["interval_95"] == list(evaluation.intervals.recall[2])
        assert np.sum(document["confusion"]["counts"]) == 300
        assert document["latency_ms_per_sample"]["batch_128"] > 0
    assert [e.parameters for e in evaluations] == [175_973, 285_280]


def test_undefined_figures_become_null(evaluations, small_split):
    only_n = dataclasses.replace(
        evaluations[0], metrics=classification_metrics(np.zeros(4, dtype=int), np.full((4, 5), 0.2)), latency=None
    )
    document = json.loads(json.dumps(only_n.to_dict(), allow_nan=False))
    assert document["classes"]["V"]["f1"]["value"] is None
    assert document["metrics"]["macro_auc"]["value"] is None
    assert document["latency_ms_per_sample"] is None


def test_batches_do_not_change_predictions(checkpoints, small_split):
    model = load_checkpoint(checkpoints["cnn_kan"]).model
    beats = np.tile(small_split.table.model_input(np.arange(600)), (2, 1, 1))  # more than two batches
    logits = predict_logits(model, beats)
    assert logits.shape == (1200, 5)
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits[:600], logits[600:], atol=1e-5)


def test_softmax_of_large_logits():
    probabilities = softmax(np.array([[1000.0, 0, 0], [-1000, -1000, -1001]]))
    np.testing.assert_allclose(probabilities[0], [1, 0, 0])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities[1, 0] / probabilities[1, 2] == pytest.approx(math.e)


def test_latency_is_measured_on_one_thread_which_is_then_restored(checkpoints):
    model = load_checkpoint(checkpoints["cnn_mlp"]).model
    seen = set()
    model.register_forward_hook(lambda *_: seen.add(torch.get_num_threads()))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        latency = measure_latency(model)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {1}
    assert 0 < latency.batch_128_ms < 100
    assert 0 < latency.batch_1_ms < 1000


def test_a_model_of_another_protocol_is_refused(tmp_path, small_split):
    foreign = load_checkpoint(write_checkpoint(tmp_path / "m.pth", "cnn_mlp", protocol="inter-patient"))
    with pytest.raises(CheckpointError, match=r"inter-patient.*trained on"):
        evaluate_checkpoint(foreign, small_split)


def test_weights_of_unknown_protocol_are_scored(tmp_path, checkpoints, small_split):
    bare = tmp_path / "published.pth"
    torch.save({"model_state": load_checkpoint(checkpoints["cnn_mlp"]).model.state_dict()}, bare)
    evaluation = evaluate_checkpoint(load_checkpoint(bare), small_split, resamples=10, measure_speed=False)
    assert evaluation.training == {}
    assert evaluation.temperature == 1.0


def test_other_class_order_and_unknown_subset_are_refused(checkpoints, small_split):
    checkpoint = load_checkpoint(checkpoints["cnn_mlp"])
    with pytest.raises(CheckpointError, match="V N S F Q"):
        evaluate_checkpoint(dataclasses.replace(checkpoint, classes=tuple("VNSFQ")), small_split)
    with pytest.raises(DataError, match="unknown subset 'train'"):
        evaluate_checkpoint(checkpoint, small_split, subset="train")


def test_infinite_logits_are_refused(checkpoints, small_split):
    checkpoint = load_checkpoint(checkpoints["cnn_mlp"])
    with torch.no_grad():
        checkpoint.model.classifier[8].weight.fill_(1e38)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        evaluate_checkpoint(checkpoint, small_split)


def test_distinct_labels(tmp_path, checkpoints):
    mlp, kan = (load_checkpoint(path) for path in checkpoints.values())
    assert distinct_labels([mlp, kan]) == ("cnn_mlp", "cnn_kan")
    second = load_checkpoint(write_checkpoint(tmp_path / "kan-2.pth", "cnn_kan", seed=2))
    assert distinct_labels([mlp, kan, second]) == ("cnn_mlp", "cnn_kan", "kan-2")
    runs = [load_checkpoint(write_checkpoint(tmp_path / f"run{i}" / "m.pth", "cnn_kan", seed=i)) for i in (1, 2)]
    assert distinct_labels(runs) == ("run1-m", "run2-m")
    with pytest.raises(CheckpointError, match="same weights"):
        distinct_labels([mlp, mlp])


def test_title_names_the_label_where_it_says_more(evaluations):
    assert evaluations[0].title == "CNN+MLP"
    assert dataclasses.replace(evaluations[1], label="kan-2").title == "CNN+KAN (kan-2)"


def test_code_version_and_environment():
    code = code_version()
    assert code.version == ecgkan.__version__
    assert code.commit is None or len(code.commit.removesuffix("-dirty")) == 40
    assert environment()["torch"] == torch.__version__
    assert environment()["processor"]
