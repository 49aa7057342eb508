"""Evidence adds up: against the model's own outputs, finite differences, and beats with samples taken away."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import wfdb
from matplotlib.colors import to_hex
from scipy.stats import spearmanr
from tests.inference.test_commands import run
from tests.synthetic import synthetic_ecg, write_record

from ecgkan.aami import CLASSES
from ecgkan.data.beats import cut_beats, normalize_windows
from ecgkan.data.embedded import embedded_recording
from ecgkan.data.recording import Recording
from ecgkan.data.resampling import resample
from ecgkan.errors import CheckpointError, DataError, OutputExistsError
from ecgkan.evaluation.plots import CLASS_COLOURS
from ecgkan.inference.classifier import classify
from ecgkan.inference.evidence import Evidence, explain, explain_beat, explain_to_file
from ecgkan.inference.evidence_figure import evidence_figure
from ecgkan.models.checkpoint import Checkpoint, load_checkpoint

MODELS = ("cnn_mlp", "cnn_kan")


@pytest.fixture(scope="module")
def beats() -> dict[str, np.ndarray]:
    """Model name → windows `[k, 256]` of beats of the embedded recording, one each of class N, V and F."""
    recording = embedded_recording()
    chosen = {}
    for name in MODELS:
        annotations = classify(recording, name)
        windows = cut_beats(recording.signals[:, 0], annotations.samples, edges="pad").windows
        chosen[name] = np.stack([windows[annotations.classes == letter][5] for letter in "NVF"])
    return chosen


@pytest.fixture(scope="module")
def explained(beats) -> dict[str, list[Evidence]]:
    """Model name → evidence of these beats, by the shipped models."""
    return {name: [explain_beat(name, window) for window in beats[name]] for name in MODELS}


def logits_of(checkpoint: Checkpoint, windows: np.ndarray) -> np.ndarray:
    """Logits `[n, 5]` by the model as it is."""
    with torch.no_grad():
        return checkpoint.model(torch.from_numpy(normalize_windows(windows)[:, None])).double().numpy()


# --- what adds up to what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_decision_is_the_models(name, beats, explained):
    checkpoint = load_checkpoint(name)
    logits = logits_of(checkpoint, beats[name])
    flat = checkpoint.model(torch.zeros(1, 1, 256)).detach().double().numpy()[0]
    for evidence, row in zip(explained[name], logits, strict=True):
        target, rival = np.argsort(-row)[:2]
        assert (evidence.target, evidence.rival) == (CLASSES[target], CLASSES[rival])
        np.testing.assert_allclose(evidence.logits, row, atol=1e-4)
        tempered = np.exp(row / checkpoint.temperature)
        np.testing.assert_allclose(evidence.probabilities, tempered / tempered.sum(), atol=1e-5)
        assert evidence.margin == pytest.approx(row[target] - row[rival], abs=1e-4)
        assert evidence.baseline_margin == pytest.approx(flat[target] - flat[rival], abs=1e-4)
        assert evidence.weights_sha256 == checkpoint.sha256


@pytest.mark.parametrize("name", MODELS)
def test_samples_and_features_add_up_to_the_change_of_the_margin(name, explained):
    for evidence in explained[name]:
        assert evidence.integrated_gradients.sum() == pytest.approx(evidence.change, abs=0.15)
        assert evidence.feature_attribution.sum() == pytest.approx(evidence.change, abs=0.05)
        assert sum(weight for *_, weight in evidence.by_time()) == pytest.approx(evidence.integrated_gradients.sum())


def test_edges_add_up_to_the_outputs_of_their_layer_and_to_the_change_of_the_margin(beats, explained):
    head = copy.deepcopy(load_checkpoint("cnn_kan").model).double().kan_head
    for evidence in explained["cnn_kan"]:
        first, second = evidence.layers
        with torch.no_grad():
            hidden = head.kan1(torch.from_numpy(evidence.features)[None])
            logits = head.kan2(hidden)
        np.testing.assert_allclose(first.values.sum(1), hidden[0].numpy(), rtol=1e-12, atol=1e-11)
        np.testing.assert_allclose(second.values.sum(1), logits[0].numpy(), rtol=1e-12, atol=1e-11)
        np.testing.assert_allclose(second.values.sum(1), evidence.logits, rtol=1e-12, atol=1e-11)
        assert first.contributions.sum() == pytest.approx(evidence.change, abs=1e-3)
        assert second.contributions.sum() == pytest.approx(evidence.change, rel=1e-10)
        compared = [CLASSES.index(evidence.target), CLASSES.index(evidence.rival)]
        assert not np.delete(second.contributions, compared, axis=0).any()


def test_the_strongest_edges_lie_on_their_functions(explained):
    for evidence in explained["cnn_kan"]:
        for layer in evidence.layers:
            strength = np.abs([edge.contribution for edge in layer.edges])
            assert (np.diff(strength) <= 0).all()
            assert strength[0] == np.abs(layer.contributions).max()
            for edge in layer.edges:
                assert edge.value == layer.values[edge.output, edge.input]
                assert edge.z == layer.z[edge.input]
                assert edge.contribution == layer.contributions[edge.output, edge.input]
                for z, value in ((edge.z, edge.value), (edge.baseline_z, edge.baseline_value)):
                    assert edge.curve_z[0] <= z <= edge.curve_z[-1]
                    assert np.interp(z, edge.curve_z, edge.curve_value) == pytest.approx(value, abs=5e-3)
    assert all(evidence.layers == () for evidence in explained["cnn_mlp"])


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_that_of_finite_differences(name, beats, explained):
    """Of a piecewise linear encoder, so at steps within one piece, in float64."""
    network = copy.deepcopy(load_checkpoint(name).model).double()
    evidence = explained[name][0]
    beat = torch.from_numpy(normalize_windows(beats[name][:1]).astype(np.float64))
    z = beat[0].numpy()
    target, rival = CLASSES.index(evidence.target), CLASSES.index(evidence.rival)
    where = np.argsort(-np.abs(evidence.gradient_x_input))[:40]
    step = 1e-7
    moved = beat + step * torch.eye(256, dtype=torch.float64)[where]
    with torch.no_grad():
        margins = [logits[:, target] - logits[:, rival] for logits in (network(moved[:, None]), network(beat[:, None]))]
    numeric = ((margins[0] - margins[1]) / step).numpy() * z[where]
    agree = np.isclose(numeric, evidence.gradient_x_input[where], rtol=1e-2, atol=1e-2)
    assert agree.mean() > 0.9, "a few samples may sit at a kink of max pooling"


@pytest.mark.parametrize("name", MODELS)
def test_what_speaks_for_the_class_is_missed_when_it_is_taken_away(name, beats, explained):
    """The margin falls where a soft window of 0.13 s flattens samples that speak for it; by rank, over 31 windows."""
    checkpoint = load_checkpoint(name)
    steps = np.arange(256)
    windows = np.array([np.cos(np.pi * (steps - c) / 48) ** 2 * (np.abs(steps - c) < 24) for c in range(8, 256, 8)])
    correlations = []
    for window, evidence in zip(beats[name], explained[name], strict=True):
        target, rival = CLASSES.index(evidence.target), CLASSES.index(evidence.rival)
        z = (normalize_windows(window[None]) * (1 - windows)).astype(np.float32)
        with torch.no_grad():
            logits = checkpoint.model(torch.from_numpy(z[:, None])).numpy()
        falls = evidence.margin - (logits[:, target] - logits[:, rival])
        correlations.append(spearmanr(falls, windows @ evidence.integrated_gradients).statistic)
    assert np.mean(correlations) > 0.3


# --- what is asked for -----------------------------------------------------------------------------------------------


def test_another_class_can_be_explained(beats, explained):
    decided = explained["cnn_mlp"][0]
    against = explain_beat("cnn_mlp", beats["cnn_mlp"][0], target=decided.rival)
    assert (against.target, against.rival) == (decided.rival, decided.target)
    np.testing.assert_allclose(against.integrated_gradients, -decided.integrated_gradients, atol=1e-4)


def test_a_model_in_memory_is_left_as_it_is(checkpoints, beats):
    model = load_checkpoint(checkpoints["cnn_kan"]).model
    before = copy.deepcopy(model.state_dict())
    evidence = explain_beat(model.train(), beats["cnn_kan"][0])
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert (evidence.model, evidence.weights_sha256, evidence.record) == ("cnn_kan", "", "")
    again = explain_beat(checkpoints["cnn_kan"], beats["cnn_kan"][0])
    np.testing.assert_array_equal(evidence.integrated_gradients, again.integrated_gradients)


@pytest.mark.parametrize(
    ("window", "target", "message"),
    [
        (np.zeros(255), None, r"shape \[256\]"),
        (np.zeros((1, 256)), None, r"shape \[256\]"),
        (np.full(256, np.nan), None, "missing samples"),
        (np.arange(256.0), "X", "no class 'X'"),
    ],
)
def test_wrong_windows_and_classes_are_named(checkpoints, window, target, message):
    with pytest.raises(DataError, match=message):
        explain_beat(checkpoints["cnn_mlp"], window, target=target)


def test_a_flat_window_has_nothing_to_explain(checkpoints):
    evidence = explain_beat(checkpoints["cnn_kan"], np.full(256, 0.4))
    assert evidence.change == pytest.approx(0, abs=1e-6)
    assert np.abs(evidence.integrated_gradients).max() < 1e-6
    assert evidence_figure(evidence).axes


def test_evidence_is_json(explained):
    for name in MODELS:
        document = explained[name][1].to_dict()
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        assert len(document["integrated_gradients"]) == 256
        assert sorted(document["edges"]) == (["kan1", "kan2"] if name == "cnn_kan" else [])


# --- beats of recordings ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Three minutes at 250 Hz, so that windows are resampled, and beats lie on both sides of a block's border."""
    signal = resample(embedded_recording().signals[:64_800, 0], 360.0, 250.0)
    return Recording("three", signal[:, None], 250.0, ("II",))


def test_the_window_explained_is_the_one_that_was_classified(recording, checkpoints):
    annotations = classify(recording, checkpoints["cnn_kan"])
    border = int(np.searchsorted(annotations.samples, 60 * 250))
    for beat in (border - 1, border):
        evidence = explain(recording, annotations, beat, checkpoints["cnn_kan"])
        assert evidence.target == annotations.classes[beat]
        np.testing.assert_allclose(evidence.probabilities, annotations.probabilities[beat], atol=1e-5)
        assert (evidence.record, evidence.lead) == ("three", "II")
        assert evidence.time_s == annotations.samples[beat] / 250


def test_beats_that_are_not_there_and_other_models_are_refused(recording, checkpoints):
    annotations = classify(recording, checkpoints["cnn_kan"])
    with pytest.raises(DataError, match=f"no beat {len(annotations)}"):
        explain(recording, annotations, len(annotations), checkpoints["cnn_kan"])
    with pytest.raises(DataError, match="classified by weights"):
        explain(recording, annotations, 0, checkpoints["cnn_mlp"])
    with pytest.raises(DataError, match="no lead"):
        explain(recording, replace(annotations, lead="V9"), 0, checkpoints["cnn_kan"])


@pytest.fixture
def record(tmp_path):
    signal, rpeaks = synthetic_ecg(360.0, 150.0)
    path = write_record(tmp_path / "records", "r1", 360.0, {"II": signal})
    wfdb.wrann("r1", "atr", rpeaks[::2], symbol=["N"] * len(rpeaks[::2]), write_dir=str(path.parent))
    return path


def test_the_beat_nearest_to_a_time_is_explained(record, checkpoints, tmp_path):
    evidence = explain_to_file(record, 60.2, tmp_path / "beat.png", model=checkpoints["cnn_mlp"])
    assert evidence.time_s == pytest.approx(60.5, abs=0.05)
    assert (tmp_path / "beat.png").read_bytes().startswith(b"\x89PNG")
    other = explain_to_file(record, 61.4, tmp_path / "beat.svg", model=checkpoints["cnn_mlp"], annotator="atr")
    assert other.time_s == pytest.approx(61.3), "every second beat is annotated, from 0.5 s on every 1.6 s"
    assert "<svg" in (tmp_path / "beat.svg").read_text()


def test_where_there_is_no_beat_or_no_place(record, checkpoints, tmp_path):
    with pytest.raises(DataError, match=r"no beat within 0.5 s of 400 s; the nearest is at 1\d\d"):
        explain_to_file(record, 400, tmp_path / "beat.png", model=checkpoints["cnn_mlp"])
    with pytest.raises(DataError, match=r"ends in \.png"):
        explain_to_file(record, 60, tmp_path / "beat.txt", model=checkpoints["cnn_mlp"])
    (tmp_path / "taken.png").write_text("mine")
    with pytest.raises(OutputExistsError):
        explain_to_file(record, 60, tmp_path / "taken.png", model=checkpoints["cnn_mlp"])
    with pytest.raises(CheckpointError):
        explain_to_file(record, 60, tmp_path / "beat.png", model=tmp_path / "taken.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["records", "taken.png"]


def test_the_command(record, checkpoints, tmp_path):
    arguments = ("explain", record, "--beat", 12.4, "--model", checkpoints["cnn_kan"], "--out", tmp_path / "b.png")
    text = run(*arguments)
    assert "Record r1, beat at 12.50 s, lead II" in text
    assert f"Wrote {tmp_path / 'b.png'}" in text
    assert "not a medical device" in text
    assert max(len(line) for line in text.splitlines() if "Wrote" not in line) <= 100
    document = json.loads(run(*arguments, "--overwrite", "--json", "--class", "V"))
    assert (document["target"], document["model"], document["record"]) == ("V", "cnn_kan", "r1")
    assert len(document["edges"]["kan1"]) > 3


# --- the figure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_figure_shows_what_the_evidence_holds(name, explained):
    evidence = explained[name][1]
    figure = evidence_figure(evidence)
    beat, samples, features, *edges = figure.axes
    drawn = np.concatenate([piece[1:2] for piece in beat.collections[0].get_segments()])
    np.testing.assert_allclose(drawn[:, 1], evidence.window)
    strongest = np.argsort(-np.abs(evidence.feature_attribution), kind="stable")
    for bar, feature in zip(features.patches, strongest, strict=False):
        assert bar.get_width() == pytest.approx(evidence.feature_attribution[feature])
        letter = evidence.target if bar.get_width() > 0 else evidence.rival
        assert to_hex(bar.get_facecolor()).upper() == CLASS_COLOURS[letter]
    assert samples.get_xlabel() == "s from the R peak"
    assert len(edges) == (8 if name == "cnn_kan" else 0)
    shown = [edge for layer in reversed(evidence.layers) for edge in layer.edges[:4]]
    for axes, edge in zip(edges, shown, strict=True):
        dot = axes.lines[-1]
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (edge.z, edge.value)
    assert figure.texts[0].get_text() == f"Why V (ventricular ectopic) rather than {evidence.rival} " + (
        "(normal)" if evidence.rival == "N" else "(fusion)"
    )
