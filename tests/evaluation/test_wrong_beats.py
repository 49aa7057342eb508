"""Which errors are shown: every kind in turn, the surest first."""

import dataclasses

import numpy as np

from ecgkan.evaluation.wrong_beats import choose_wrong_beats, wrong_beat_panels


def with_predictions(evaluation, predicted, confidence):
    probabilities = np.full((len(predicted), 5), ((1 - confidence) / 4)[:, None])
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return dataclasses.replace(evaluation, probabilities=probabilities)


def test_every_kind_of_error_is_shown_before_any_twice(evaluations):
    evaluation = evaluations[0]
    predicted = evaluation.labels.copy()
    confidence = np.full(300, 0.5)
    to_n = np.flatnonzero(evaluation.labels == 1)[:10]  # ten S → N
    to_v = np.flatnonzero(evaluation.labels == 3)[:2]  # two F → V
    predicted[to_n], predicted[to_v] = 0, 2
    confidence[to_n] = np.linspace(0.3, 0.9, 10)
    evaluation = with_predictions(evaluation, predicted, confidence)
    np.testing.assert_array_equal(choose_wrong_beats(evaluation, limit=2), [to_n[9], to_v[0]])
    np.testing.assert_array_equal(choose_wrong_beats(evaluation, limit=5), [*to_n[[9, 8, 7]], *to_v])
    assert len(choose_wrong_beats(evaluation, limit=100)) == 12


def test_panels_carry_the_beat_and_the_records_typical_one(evaluations, small_split):
    evaluation = evaluations[0]
    predicted = evaluation.labels.copy()
    position = int(np.flatnonzero((evaluation.labels == 1) & (evaluation.records == "232"))[3])
    predicted[position] = 0
    evaluation = with_predictions(evaluation, predicted, np.full(300, 0.7))
    (panel,) = wrong_beat_panels(evaluation, small_split)
    assert (panel.record, panel.reference, panel.predicted) == ("232", "S", "N")
    assert panel.sample == evaluation.samples[position]
    assert panel.probability == 0.7
    beats = small_split.table.model_input(small_split.test)[:, 0]
    np.testing.assert_array_equal(panel.window, beats[position])
    alike = (evaluation.records == "232") & (evaluation.labels == 0)
    np.testing.assert_allclose(panel.typical, np.median(beats[alike], axis=0), rtol=1e-6)


def test_too_few_beats_are_not_typical(evaluations, small_split):
    evaluation = evaluations[0]
    labels = np.where((evaluation.labels == 0) & (evaluation.records == "232"), 1, evaluation.labels)
    predicted = labels.copy()
    predicted[int(np.flatnonzero(evaluation.records == "232")[0])] = 0
    changed = dataclasses.replace(with_predictions(evaluation, predicted, np.full(300, 0.7)), labels=labels)
    (panel,) = wrong_beat_panels(changed, small_split)
    assert panel.typical is None


def test_a_flawless_model_has_none(evaluations, small_split):
    evaluation = with_predictions(evaluations[0], evaluations[0].labels, np.full(300, 0.9))
    assert wrong_beat_panels(evaluation, small_split) == []
