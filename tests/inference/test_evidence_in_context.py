"""Evidence about beats in their context: what the models for new patients were given, and what adds up to what."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.inference.test_commands import run
from tests.synthetic import synthetic_ecg, write_record

from ecgkan.aami import CLASSES
from ecgkan.data.context import CONTEXT_FEATURES, SHAPE_WIDTH
from ecgkan.data.embedded import embedded_recording
from ecgkan.data.recording import read_recording
from ecgkan.errors import DataError
from ecgkan.inference.annotation import BeatAnnotations
from ecgkan.inference.classifier import classify
from ecgkan.inference.evidence import Evidence, explain, explain_beat, explain_to_file
from ecgkan.inference.evidence_figure import evidence_figure
from ecgkan.inference.seen_beat import BeatInContext, context_of_beat, see_in_context
from ecgkan.models.checkpoint import load_checkpoint
from ecgkan.models.patient import FEATURES, SHAPE_FEATURES

MODELS = ("patient_mlp", "patient_kan")


@pytest.fixture(scope="module")
def annotations() -> dict[str, BeatAnnotations]:
    return {name: classify(embedded_recording(), name) for name in MODELS}


@pytest.fixture(scope="module")
def explained(annotations) -> dict[str, list[Evidence]]:
    """Model name → evidence of beats of the embedded recording: one each of class N and V, and the first beat."""
    recording = embedded_recording()
    chosen = {
        name: [*(np.flatnonzero(beats.classes == letter)[40] for letter in "NV"), 0]
        for name, beats in annotations.items()
    }
    return {name: [explain(recording, annotations[name], int(i), name) for i in chosen[name]] for name in MODELS}


def a_context(seed: int = 0, **changed: np.ndarray) -> BeatInContext:
    rng = np.random.default_rng(seed)
    values = {name: rng.normal(size=SHAPE_WIDTH) for name in ("shape", "average")}
    values |= {name: rng.normal(size=len(CONTEXT_FEATURES)) for name in ("rhythm", "usual_rhythm")}
    return BeatInContext(**(values | changed))


# --- the beat explained is the one that was classified ---------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_decision_is_the_one_of_classify(name, annotations):
    beats, recording = annotations[name], embedded_recording()
    for index in (0, 1, 17, len(beats) // 2, len(beats) - 1):
        evidence = explain(recording, beats, index, name)
        assert evidence.target == beats.classes[index]
        np.testing.assert_allclose(evidence.probabilities, beats.probabilities[index], atol=1e-4)
        assert evidence.time_s == beats.samples[index] / beats.fs


def test_beats_that_were_left_out_have_their_part_in_the_context(annotations):
    """As when the recording was classified: they bound intervals, but are kept out of the average beat."""
    recording = embedded_recording()
    signal = recording.signals.copy()
    signal[40 * 360 : 47 * 360] = np.nan
    cut = replace(recording, signals=signal)
    beats = classify(cut, "patient_mlp", rpeaks=annotations["patient_mlp"].samples)
    assert len(beats.left_out) > 3
    for index in np.searchsorted(beats.samples, np.array([48, 60]) * 360).tolist():
        evidence = explain(cut, beats, index, "patient_mlp")
        np.testing.assert_allclose(evidence.probabilities, beats.probabilities[index], atol=1e-4)


def test_another_sampling_rate_and_a_border_of_blocks():
    signal, _ = synthetic_ecg(250.0, 150.0)
    recording = replace(embedded_recording(), name="made", signals=signal[:, None], fs=250.0, leads=("II",))
    beats = classify(recording, "patient_mlp")
    border = int(np.searchsorted(beats.samples, 120 * 250))
    for index in (border - 1, border):
        evidence = explain(recording, beats, index, "patient_mlp")
        np.testing.assert_allclose(evidence.probabilities, beats.probabilities[index], atol=1e-4)


# --- what adds up to what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_parts_add_up_to_the_change_of_the_margin(name, explained):
    for evidence in explained[name]:
        parts = evidence.integrated_gradients.sum() + evidence.context_attribution.sum()
        assert parts == pytest.approx(evidence.change, abs=0.15)
        assert evidence.feature_attribution.sum() == pytest.approx(evidence.change, abs=0.05)
        assert sum(weight for *_, weight in evidence.by_time()) == pytest.approx(evidence.integrated_gradients.sum())
        for layer in evidence.layers:
            assert layer.contributions.sum() == pytest.approx(evidence.change, abs=1e-2)
        assert len(evidence.layers) == (2 if name == "patient_kan" else 0)


@pytest.mark.parametrize("name", MODELS)
def test_both_margins_are_the_models(name, annotations):
    """The baseline is the average beat in the usual rhythm, and the class shift is part of every logit."""
    beat = context_of_beat(embedded_recording(), annotations[name], 60)
    checkpoint, seen = load_checkpoint(name), see_in_context(beat)
    evidence = explain_beat(checkpoint, beat)
    with torch.no_grad():
        logits, usual = (checkpoint.model(*x)[0].numpy() for x in (seen.inputs, seen.baseline))
    compared = [CLASSES.index(evidence.target), CLASSES.index(evidence.rival)]
    assert evidence.margin == pytest.approx(float(logits[compared[0]] - logits[compared[1]]), abs=1e-4)
    assert evidence.baseline_margin == pytest.approx(float(usual[compared[0]] - usual[compared[1]]), abs=1e-4)
    shape, average = seen.baseline[0][0]
    assert torch.equal(shape, average)


def test_edges_add_up_to_the_outputs_of_their_layer(explained):
    head = copy.deepcopy(load_checkpoint("patient_kan").model).double()
    for evidence in explained["patient_kan"]:
        first, second = evidence.layers
        np.testing.assert_allclose(second.values.sum(1) + head.class_shift.numpy(), evidence.logits, atol=1e-9)
        assert first.values.shape[1] == len(FEATURES)


def test_a_usual_beat_has_nothing_to_explain():
    beat = a_context()
    usual = replace(beat, shape=beat.average, rhythm=beat.usual_rhythm)
    for name in MODELS:
        evidence = explain_beat(name, usual)
        assert evidence.change == pytest.approx(0, abs=1e-6)
        assert not evidence.integrated_gradients.any()
        assert np.isfinite(evidence.gradient_x_input).all(), "two equal shapes have a kink between them"
        assert evidence_figure(evidence).axes


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_features_bear_their_names_and_are_in_their_own_units(name, annotations):
    beat = context_of_beat(embedded_recording(), annotations[name], 60)
    evidence = explain_beat(name, beat)
    assert evidence.feature_names == FEATURES
    assert evidence.learned == SHAPE_FEATURES
    n = len(CONTEXT_FEATURES)
    np.testing.assert_allclose(evidence.features[-n:], beat.rhythm, atol=1e-4)
    np.testing.assert_allclose(evidence.baseline_features[-n:], beat.usual_rhythm, atol=1e-4)
    likeness = FEATURES.index("likeness of QRS")
    assert evidence.baseline_features[likeness] == pytest.approx(1, abs=1e-3), "the average beat is like itself"


def test_the_figure_names_what_it_shows(explained):
    evidence = explained["patient_kan"][1]
    beat, _, features, *edges = evidence_figure(evidence).axes
    np.testing.assert_allclose(beat.lines[0].get_ydata(), evidence.average)
    labels = [label.get_text() for label in features.get_yticklabels()]
    assert len(labels) == 14
    for label, i in zip(labels, evidence.strongest_features(14), strict=True):
        assert label.startswith(FEATURES[i])
    assert len(edges) == 8
    for axes, edge in zip(edges[4:], evidence.layers[0].edges, strict=False):
        assert axes.get_title(loc="left") == f"{FEATURES[edge.input]} → hidden {edge.output}"


@pytest.mark.parametrize("name", MODELS)
def test_evidence_is_json(name, explained):
    document = explained[name][1].to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["feature_names"] == list(FEATURES)
    assert len(document["window"]) == len(document["average"]) == SHAPE_WIDTH


# --- what is asked for -----------------------------------------------------------------------------------------------


def test_each_model_takes_its_own_kind_of_beat():
    with pytest.raises(DataError, match="patient_mlp looks at beats in their context, a window was given"):
        explain_beat("patient_mlp", np.arange(256.0))
    with pytest.raises(DataError, match="cnn_mlp looks at single beats, a beat in context was given"):
        explain_beat("cnn_mlp", a_context())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": np.zeros(100)}, r"a beat's shape of shape \[112\], got \[100\]"),
        ({"rhythm": np.zeros(2)}, r"a beat's rhythm of shape \[\d+\], got \[2\]"),
        ({"average": np.full(SHAPE_WIDTH, np.nan)}, "the beat's average has missing samples"),
    ],
)
def test_wrong_contexts_are_named(changed, message):
    with pytest.raises(DataError, match=message):
        explain_beat("patient_mlp", a_context(**changed))


@pytest.fixture
def record(tmp_path):
    """A record whose beats from 60 s to 66 s cannot be read."""
    signal, rpeaks = synthetic_ecg(360.0, 150.0)
    signal[60 * 360 : 66 * 360] = np.nan
    import wfdb

    path = write_record(tmp_path / "records", "r1", 360.0, {"II": signal})
    wfdb.wrann("r1", "atr", rpeaks, symbol=["N"] * len(rpeaks), write_dir=str(path.parent))
    return path


def test_the_beat_nearest_to_a_time_is_explained(record, tmp_path):
    shares: list[float] = []
    evidence = explain_to_file(record, 30.2, tmp_path / "beat.png", progress=shares.append)
    assert (evidence.model, evidence.record, evidence.lead) == ("patient_kan", "r1", "II"), "the model of classify"
    assert evidence.time_s == pytest.approx(30.1, abs=0.05)
    assert (tmp_path / "beat.png").read_bytes().startswith(b"\x89PNG")
    assert shares[-1] == 1
    whole = classify(read_recording(record))
    index = int(np.abs(whole.samples - 360 * 30.1).argmin())
    np.testing.assert_allclose(evidence.probabilities, whole.probabilities[index], atol=1e-4)
    with pytest.raises(DataError, match=r"the beat at 62.10 s cannot be read well enough"):
        explain_to_file(record, 62.1, tmp_path / "other.png", annotator="atr")


def test_the_command(record, tmp_path):
    text = run("explain", record, "--beat", 12.4, "--out", tmp_path / "b.png")
    assert "Record r1, beat at 12.50 s, lead II" in text
    assert "patient KAN: N rather than" in text
    assert "for the patient's average beat in the usual rhythm" in text
    assert "rhythm and neighbours" in text
    assert any(name in text for name in CONTEXT_FEATURES)
    assert "-0.00" not in text
    assert max(len(line) for line in text.splitlines() if "Wrote" not in line) <= 100


# --- the real database -----------------------------------------------------------------------------------------------


def test_an_early_and_odd_beat_is_explained_by_its_rhythm_and_its_shape(mitdb_dir, tmp_path):
    """A premature ventricular beat of record 119, which is in DS1: early, followed by a pause, and of another shape."""
    evidence = explain_to_file(mitdb_dir / "119", 25.1, tmp_path / "beat.png", annotator="atr")
    assert evidence.target == "V"
    assert evidence.change > 2
    values = dict(zip(evidence.feature_names, evidence.features, strict=True))
    assert values["rr/mean12"] < -0.2
    assert values["likeness of QRS"] < 0.9
    assert evidence.context_attribution.sum() > 0
