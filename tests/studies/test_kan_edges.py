"""`ecgkan explain MODEL`: the study against direct computation, its files, its refusals, and the committed page."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ecgkan.aami import CLASSES
from ecgkan.cli import app, main
from ecgkan.data.beat_table import MARGIN, BeatTable
from ecgkan.data.context import CONTEXT_FEATURES, SHAPE_BEFORE, SHAPE_WIDTH
from ecgkan.data.context_table import ContextTable
from ecgkan.data.protocols import BeatSplit, load_split
from ecgkan.errors import CheckpointError, DataError, OutputExistsError
from ecgkan.evaluation.evaluate import evaluate_checkpoint
from ecgkan.models.checkpoint import MODELS, load_checkpoint, save_checkpoint
from ecgkan.models.kan import KANHead
from ecgkan.models.kan_edges import edge_importance, prune_edges, refine_head, strongest_edges
from ecgkan.models.patient import FEATURES, PatientKAN
from ecgkan.studies.kan_edges import beats as beats_module
from ecgkan.studies.kan_edges.beats import KINDS, TRAINING_PATIENTS_NOTE, beat_features
from ecgkan.studies.kan_edges.figures import edges_figure, inputs_figure, pruning_figure
from ecgkan.studies.kan_edges.folder import explain_model
from ecgkan.studies.kan_edges.inputs import InputNames, InputResponse, InputStudy
from ecgkan.studies.kan_edges.study import (
    EdgeStudy,
    PruningPoint,
    _last_within,
    class_balanced_importance,
    score_head,
    study_edges,
)
from ecgkan.training.patients import predict_context

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def split() -> BeatSplit:
    """400 noisy beats, a class to each height of the R peak; 100 to validate."""
    labels = np.arange(400) % 5
    windows = np.random.default_rng(0).normal(0, 0.5, (400, 256 + 2 * MARGIN)).astype(np.float32)
    windows[:, MARGIN + 120 : MARGIN + 136] += 2 * labels[:, None] - 3
    table = BeatTable(windows, labels, np.repeat(["100", "208"], 200), np.arange(400) * 300 + 200)
    return BeatSplit("random-split", table, np.arange(200), np.arange(200, 300), np.arange(300, 400))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, split) -> dict[str, Path]:
    """Untrained models of both kinds that have seen enough beats to tell them apart."""
    folder = tmp_path_factory.mktemp("checkpoints")
    files = {name: folder / f"{name}.pth" for name in MODELS}
    beats = torch.from_numpy(split.table.model_input(split.train[:64]))
    for name, path in files.items():
        torch.manual_seed(3)
        model = MODELS[name]()
        with torch.no_grad():
            for _ in range(12):
                model(beats)
        save_checkpoint(path, name=name, model=model, protocol="random-split", temperature=1.5, training={"seed": 3})
    return files


@pytest.fixture(scope="module")
def explained(checkpoints, split, tmp_path_factory) -> tuple[dict, Path, str]:
    """The command run once: its JSON, its folder, and what it said."""
    out = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beats_module, "load_split", lambda *_: split)
        options = ["--refine", "10", "--prune", "0.25", "--report", str(out / "docs" / "page.md")]
        arguments = ["explain", str(checkpoints["cnn_kan"]), "--out", str(out / "edges"), *options, "--json"]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.output), out, result.output


def logits_of(path: Path, split: BeatSplit) -> torch.Tensor:
    with torch.no_grad():
        return load_checkpoint(path).model(torch.from_numpy(split.table.model_input(split.validation)))


# --- what the study says ---------------------------------------------------------------------------------------------


def test_with_all_edges_the_figures_are_the_evaluations(explained, checkpoints, split):
    document = explained[0]
    evaluation = evaluate_checkpoint(
        load_checkpoint(checkpoints["cnn_kan"]), split, subset="validation", resamples=20, measure_speed=False
    )
    full = document["pruning"][0]
    assert (full["accuracy"], full["macro_f1"]) == (evaluation.metrics.accuracy, evaluation.metrics.macro_f1)
    assert full["edges"] == 256 * 64 + 64 * 5
    assert (full["random_accuracy"], full["random_macro_f1"]) == (full["accuracy"], full["macro_f1"])
    assert document["beats"] == len(split.validation)
    assert document["subset"] == "validation"


def test_the_strongest_edges_of_each_class_are_named(explained, checkpoints, split):
    checkpoint = load_checkpoint(checkpoints["cnn_kan"])
    labels = split.table.labels[split.validation]
    weights = torch.from_numpy(1 / np.bincount(labels)[labels])
    importance = edge_importance(checkpoint.model.kan_head, beat_features(checkpoint, split, split.validation), weights)
    for place, letter in enumerate(CLASSES):
        edges = [edge for edge in explained[0]["edges"] if edge["letter"] == letter]
        assert [edge["layer"] for edge in edges] == ["kan2"] * 4 + ["kan1"] * 2
        assert [edge["input"] for edge in edges[:4]] == importance.second[place].argsort(descending=True)[:4].tolist()
        assert edges[4]["worth"] == pytest.approx(float(importance.first[place].max()))
        for edge in edges:
            assert edge["worth"] > 0
            assert 0 <= edge["fit"]["r2"] <= 1 + 1e-9


def test_edges_drawn_are_those_of_the_layer(explained, checkpoints):
    head = load_checkpoint(checkpoints["cnn_kan"]).model.kan_head
    for edge in explained[0]["edges"]:
        layer = getattr(head, edge["layer"])
        z = torch.tensor(edge["curve_z"], dtype=torch.float32)[:, None].expand(-1, layer.in_features)
        expected = layer.edge_functions(z)[:, edge["output"], edge["input"]].detach()
        np.testing.assert_allclose(edge["curve_value"], expected.numpy(), atol=1e-5)


def test_the_point_marked_is_the_last_before_the_figures_fall():
    def point(share: float, accuracy: float, macro_f1: float) -> PruningPoint:
        return PruningPoint(share, 0, accuracy, macro_f1, (), 0.0, 0.0)

    points = [point(1, 0.99, 0.95), point(0.5, 0.986, 0.951), point(0.3, 0.99, 0.944), point(0.2, 0.99, 0.95)]
    assert _last_within(points, 0.005).share == 0.5
    assert _last_within(points, 0.1).share == 0.2
    assert _last_within(points[:1], 0.005).share == 1


def small_study(**options) -> EdgeStudy:
    torch.manual_seed(0)
    head = KANHead(6, 5, 5).eval()
    labels = np.arange(200) % 5
    features = torch.randn(200, 6) + torch.from_numpy(labels)[:, None] * torch.linspace(-1, 1, 6)
    return study_edges(head, features, labels, shares=(1.0, 0.5), **options)


def test_any_head_can_be_studied_and_its_inputs_may_have_names():
    names = ("RR ratio", "QRS width", "p", "q", "r", "s")
    inputs = InputNames(names, ("rhythm", "shape", "seen", "seen", "seen", "seen"), "seen", lambda x: x)
    study = small_study(inputs=inputs, grid_size=7)
    assert {edge.input_name for edge in study.edges if edge.layer == "kan1"} <= set(names[:2])
    assert study.refinement.spline_difference > 1e-6, "7 intervals do not hold the knots of 5"
    assert study.pruning[1].edges == round(0.5 * (6 * 5 + 5 * 5))
    figure = edges_figure(study, title="t")
    assert len(figure.axes) == 2 * 6 * 5
    assert all(axes.get_title(loc="left") for axes in figure.axes[::2])
    panels = pruning_figure(study, title="t").axes
    assert [line.get_label() for line in panels[1].lines[:5]] == [f"F1 {letter}" for letter in CLASSES]
    np.testing.assert_allclose(panels[0].lines[0].get_ydata(), [point.accuracy for point in study.pruning])
    with pytest.raises(DataError, match="6 features and 1 names"):
        small_study(inputs=InputNames(("one",), ("seen",), "seen", lambda x: x))


def test_a_head_without_names_is_said_nothing_of():
    study = small_study()
    assert study.inputs is None
    assert {edge.variable for edge in study.edges} == {"z"}
    assert all(edge.input_name.startswith("feature ") for edge in study.edges if edge.layer == "kan1")


def test_a_class_of_a_handful_of_beats_does_not_decide_as_much_as_the_others():
    torch.manual_seed(0)
    head, labels = KANHead(6, 5, 5).eval(), np.repeat([0, 1, 2, 3, 4], [300, 200, 150, 120, 2])
    features = torch.randn(len(labels), 6)
    weights = torch.from_numpy(np.array([1 / 300, 1 / 200, 1 / 150, 1 / 120, 1 / 100])[labels])
    found = class_balanced_importance(head, features, labels)
    torch.testing.assert_close(found.second, edge_importance(head, features, weights).second)


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_are_those_named(explained):
    document, out, _ = explained
    names = ["cnn_kan-grid10.pth", "cnn_kan-pruned.pth", "edges.png", "kan-edges.md"]
    names += ["pruning.csv", "pruning.png", "symbolic.csv"]
    assert sorted(path.name for path in (out / "edges").iterdir()) == names
    written = sorted(str(path) for path in out.rglob("*") if path.is_file())
    assert written == sorted(document["files"])
    for image in ("edges/edges.png", "docs/images/page.png", "docs/images/page-pruning.png"):
        assert (out / image).read_bytes().startswith(b"\x89PNG")
        assert (out / image).stat().st_size < 200_000
    with (out / "edges" / "pruning.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["share_kept"]) for row in rows] == [point["share"] for point in document["pruning"]]
    with (out / "edges" / "symbolic.csv").open() as stream:
        assert [row["formula"] for row in csv.DictReader(stream)] == [
            edge["fit"]["formula"] for edge in document["edges"]
        ]


def test_the_page_names_its_command_and_its_images(explained):
    document, out, _ = explained
    for page, images in (
        (out / "edges" / "kan-edges.md", ("edges.png", "pruning.png")),
        (out / "docs" / "page.md", ("images/page.png", "images/page-pruning.png")),
    ):
        text = page.read_text()
        assert "`ecgkan explain " in text
        assert document["note"] in text
        assert all((page.parent / image).is_file() and f"]({image})" in text for image in images)
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert all(row.replace(r"\|", "").count("|") in (8, 12) for row in rows)


def test_the_refined_model_loads_and_computes_the_same(explained, checkpoints, split):
    document, out, _ = explained
    refined = load_checkpoint(out / "edges" / "cnn_kan-grid10.pth")
    assert refined.arguments["grid_size"] == refined.model.kan_head.kan1.spline_weight.shape[-1] - 3 == 16
    before = logits_of(checkpoints["cnn_kan"], split)
    difference = (logits_of(refined.path, split) - before).abs().max()
    assert difference < 1e-4 * before.abs().max()
    assert document["refinement"]["changed_beats"] == 0
    assert refined.temperature == 1.5
    assert refined.training["original"] == {"seed": 3}
    assert refined.training["derived_from"] == load_checkpoint(checkpoints["cnn_kan"]).sha256


def test_the_pruned_model_loads_and_has_that_many_edges(explained, split):
    document, out, _ = explained
    pruned = load_checkpoint(out / "edges" / "cnn_kan-pruned.pth")
    left = sum(
        int(((layer.base_weight != 0) | (layer.spline_weight != 0).any(-1)).sum())
        for layer in (pruned.model.kan_head.kan1, pruned.model.kan_head.kan2)
    )
    point = next(point for point in document["pruning"] if point["share"] == 0.25)
    assert left == point["edges"] == pruned.training["edges_kept"]
    metrics = score_head(
        pruned.model.kan_head, beat_features(pruned, split, split.validation), split.table.labels[split.validation]
    )
    assert metrics.macro_f1 == point["macro_f1"]


# --- a model for new patients ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> ContextTable:
    """300 beats in context, a class to each height of the beat; two of them lie too near to an end to count."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 5
    shapes = rng.normal(0, 0.1, (300, 2, SHAPE_WIDTH)).astype(np.float32)
    shapes[..., SHAPE_BEFORE - 3 : SHAPE_BEFORE + 4] += 1 + labels[:, None, None]
    averages = rng.normal(0, 0.02, shapes.shape).astype(np.float32)
    averages[..., SHAPE_BEFORE - 3 : SHAPE_BEFORE + 4] += 1
    rhythm = rng.normal(0, 0.3, (300, 2, len(CONTEXT_FEATURES))).astype(np.float32) + 0.2 * labels[:, None, None]
    counted = np.arange(300) > 1
    return ContextTable(shapes, averages, rhythm.astype(np.float32), labels, np.repeat(["101", "208"], 150), counted)


@pytest.fixture(scope="module")
def patient_checkpoint(tmp_path_factory, table) -> Path:
    """An untrained model that has seen enough beats to tell them apart, and shifts its classes."""
    path = tmp_path_factory.mktemp("checkpoints") / "patient_kan.pth"
    torch.manual_seed(3)
    model = PatientKAN()
    context = table.model_input()
    with torch.no_grad():
        for _ in range(12):
            model(torch.from_numpy(context.shapes), torch.from_numpy(context.rhythm))
        model.class_shift.copy_(torch.tensor([0.5, -0.5, 0.0, 0.3, -1.0]))
    save_checkpoint(
        path, name="patient_kan", model=model.eval(), protocol="inter-patient", temperature=1.2, training={"seed": 3}
    )
    return path


@pytest.fixture(scope="module")
def patient_explained(patient_checkpoint, table, tmp_path_factory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("patient")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beats_module, "load_training_context", lambda *_: table)
        options = ["--refine", "10", "--prune", "0.25", "--report", str(out / "page.md"), "--json"]
        arguments = ["explain", str(patient_checkpoint), "--out", str(out / "edges"), *options]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.output), out


def test_a_model_for_new_patients_is_studied_on_its_training_patients_and_says_so(
    patient_explained, patient_checkpoint, table
):
    document, out = patient_explained
    logits = predict_context(load_checkpoint(patient_checkpoint).model, table)[table.counted]
    labels = table.labels[table.counted]
    assert document["pruning"][0]["accuracy"] == (logits.argmax(1) == labels).mean(), "with the class shift"
    assert document["beats"] == len(labels)
    assert document["subset"] == "training patients"
    assert TRAINING_PATIENTS_NOTE in document["note"]
    for page in (out / "page.md", out / "edges" / "kan-edges.md"):
        text = page.read_text()
        assert "298 beats of training patients of protocol `inter-patient`" in text
        assert f"**{TRAINING_PATIENTS_NOTE}**" in text
        assert "validation" not in text
        assert "LayerNorm" not in text, "each input of this head is normalized by itself"


def test_its_edges_bear_the_names_of_features(patient_explained, patient_checkpoint, table):
    document, out = patient_explained
    model = load_checkpoint(patient_checkpoint).model
    context = table.model_input()
    with torch.no_grad():
        features = model.get_features(torch.from_numpy(context.shapes), torch.from_numpy(context.rhythm))
        z, own = model.kan_head.kan1.normalize(features).numpy(), model.in_own_units(features).numpy()
    np.testing.assert_allclose(own[:, -len(CONTEXT_FEATURES) :], context.rhythm, atol=1e-4)
    first = [edge for edge in document["edges"] if edge["layer"] == "kan1"]
    assert len(first) == 4 * len(CLASSES)
    for edge in first:
        assert edge["input_name"] == FEATURES[edge["input"]]
        assert not edge["input_name"].startswith("shape "), "a learned shape means nothing by itself"
        assert edge["variable"] == "x"
        expected = np.interp(
            edge["curve_z"], *(values[np.argsort(z[:, edge["input"]]), edge["input"]] for values in (z, own))
        )
        np.testing.assert_allclose(edge["curve_x"], expected, atol=1e-3)
    text = (out / "page.md").read_text()
    for edge in document["edges"]:
        assert f"| {edge['input_name']} → {edge['output_name']} |" in text
    with (out / "edges" / "symbolic.csv").open() as stream:
        assert {row["input"] for row in csv.DictReader(stream) if row["variable"] == "x"} <= set(FEATURES)


def test_inputs_are_worth_what_their_edges_are_and_answer_as_the_model_does(
    patient_explained, patient_checkpoint, table
):
    document = patient_explained[0]["inputs"]
    model = load_checkpoint(patient_checkpoint).model
    context = table.model_input()
    shapes, rhythm = torch.from_numpy(context.shapes), torch.from_numpy(context.rhythm)
    labels = table.labels
    with torch.no_grad():
        features = model.get_features(shapes, rhythm)[torch.from_numpy(table.counted)]
    importance = class_balanced_importance(model.kan_head, features, labels[table.counted])
    for place, letter in enumerate(CLASSES):
        assert sum(kind["share"] for kind in document["kinds"] if kind["letter"] == letter) == pytest.approx(1)
        responses = [response for response in document["responses"] if response["letter"] == letter]
        worths = [response["worth"] for response in responses]
        assert worths == sorted(worths, reverse=True)
        for response in responses:
            assert FEATURES[response["input"]] == response["name"]
            assert response["worth"] == pytest.approx(float(importance.first[place, :, response["input"]].sum()))
    # 60 beats of each class at most, so all of them answer; of a rhythm feature the model itself can be asked.
    response = next(each for each in document["responses"] if each["name"] in CONTEXT_FEATURES)
    place, column = CLASSES.index(response["letter"]), CONTEXT_FEATURES.index(response["name"])
    moved = rhythm.clone()
    moved[:, column] = response["x"][10]
    with torch.no_grad():
        odds = [
            logits[:, place] - logits[:, [i for i in range(5) if i != place]].logsumexp(1)
            for logits in (model(shapes, moved), model(shapes, rhythm))
        ]
    change = (odds[0] - odds[1])[torch.from_numpy(table.counted)]
    assert response["mean"][10] == pytest.approx(float(change.mean()), abs=1e-4)


def test_its_derived_models_load_and_compute(patient_explained, patient_checkpoint, table):
    document, out = patient_explained
    before = predict_context(load_checkpoint(patient_checkpoint).model, table)
    refined = load_checkpoint(out / "edges" / "patient_kan-grid10.pth")
    np.testing.assert_allclose(predict_context(refined.model, table), before, atol=1e-4)
    pruned = predict_context(load_checkpoint(out / "edges" / "patient_kan-pruned.pth").model, table)[table.counted]
    point = next(point for point in document["pruning"] if point["share"] == 0.25)
    assert (pruned.argmax(1) == table.labels[table.counted]).mean() == point["accuracy"]


def test_its_figures_are_written_and_drawn_from_what_was_found(patient_explained):
    document, out = patient_explained
    for image in ("edges/edges.png", "edges/inputs.png", "images/page.png", "images/page-inputs.png"):
        assert (out / image).read_bytes().startswith(b"\x89PNG")
        assert (out / image).stat().st_size < 200_000
    assert sorted(str(path) for path in out.rglob("*") if path.is_file()) == sorted(document["files"])
    assert "](images/page-inputs.png)" in (out / "page.md").read_text()
    curves = {name: np.linspace(0, 1, 41) for name in ("x", "mean", "low", "high")}
    responses = [InputResponse(letter, 0, "rr/mean12", 0.5, **curves) for letter in CLASSES]
    figure = inputs_figure(InputStudy((), tuple(responses)), title="t")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["rr/mean12"] * 5


def test_every_input_has_a_kind():
    assert len(KINDS) == len(FEATURES)
    assert {kind for kind, name in zip(KINDS, FEATURES, strict=True) if name in CONTEXT_FEATURES} == {
        "rhythm and neighbours"
    }


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_explained_is_refused_before_anything_is_computed(checkpoints, tmp_path):
    with pytest.raises(CheckpointError, match=r"is a CNN\+MLP and has no KAN head"):
        explain_model(str(checkpoints["cnn_mlp"]), tmp_path / "out")
    with pytest.raises(DataError, match="5 intervals; --refine 3"):
        explain_model(str(checkpoints["cnn_kan"]), tmp_path / "out", refine=3)
    (tmp_path / "pruning.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"pruning\.csv exists"):
        explain_model(str(checkpoints["cnn_kan"]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pruning.csv"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["mitdb/208", "--out", "beat.png"], 2, "one beat is explained; give its time"),
        (["cnn_kan", "--out", "edges", "--lead", "II"], 2, "--lead"),
        (["cnn_kan", "--out", "edges", "--model", "cnn_mlp"], 2, "--model"),
        (["mitdb/208", "--beat", "3", "--out", "beat.png", "--refine", "10"], 2, "--refine"),
        (["cnn_kan", "--out", "edges", "--prune", "1.5"], 2, "--prune"),
        (["cnn_mlp", "--out", "edges"], 1, "has no KAN head"),
        (["nothing.pth", "--out", "edges"], 1, "no checkpoint nothing.pth"),
    ],
)
def test_errors_have_their_exit_status(monkeypatch, capsys, tmp_path, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ecgkan", "explain", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == status
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


# --- the shipped model -----------------------------------------------------------------------------------------------


def test_the_committed_page_is_the_shipped_models():
    text = (DOCS / "kan-edges.md").read_text()
    checkpoint = load_checkpoint("cnn_kan")
    assert f"Weights {checkpoint.sha256[:16]};" in text
    row = next(line for line in text.splitlines() if line.startswith("| 100 % | 16,704 |"))
    assert f"{checkpoint.training['validation']['macro_f1']:.4f}" in row, "what training itself measured on these beats"
    for image in ("images/kan-edges.png", "images/kan-edges-pruning.png"):
        assert image in text
        assert (DOCS / image).stat().st_size < 200_000


def test_the_committed_page_of_the_patient_model_is_the_shipped_one():
    text = (DOCS / "patient-kan-edges.md").read_text()
    assert f"Weights {load_checkpoint('patient_kan').sha256[:16]};" in text
    assert "not how well it does on a new patient" in text
    for image in ("patient-kan-edges.png", "patient-kan-edges-inputs.png", "patient-kan-edges-pruning.png"):
        assert f"images/{image}" in text
        assert (DOCS / "images" / image).stat().st_size < 200_000


def test_the_shipped_head_needs_few_of_its_edges(data_dir):
    split = load_split("random-split", data_dir)
    some = replace(split, validation=split.validation[:2000])
    checkpoint = load_checkpoint("cnn_kan")
    head, labels = checkpoint.model.kan_head, some.table.labels[some.validation]
    features = beat_features(checkpoint, some, some.validation)
    weights = torch.from_numpy(1 / np.bincount(labels)[labels])
    pruned = prune_edges(head, strongest_edges(edge_importance(head, features, weights), 0.3))
    full = score_head(head, features, labels).accuracy
    assert full > 0.98
    assert score_head(pruned, features, labels).accuracy > full - 0.01
    with torch.no_grad():
        assert (refine_head(head, 10)(features) - head(features)).abs().max() < 1e-4
