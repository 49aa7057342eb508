"""What ONNX Runtime computes of an exported model is what PyTorch computes of the checkpoint."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ecgkan import load_checkpoint
from ecgkan.data.beats import normalize_windows
from ecgkan.data.context import CONTEXT_FEATURES, SHAPE_WIDTH
from ecgkan.data.context_table import load_training_context
from ecgkan.data.protocols import load_random_split
from ecgkan.errors import CheckpointError
from ecgkan.models.checkpoint import ALL_MODELS, Checkpoint, Classifier, save_checkpoint
from ecgkan.models.cnn_kan import ECGCNNWithKAN
from ecgkan.models.onnx_export import to_onnx
from ecgkan.models.onnx_model import OnnxModel, load_onnx_model
from ecgkan.models.patient import PatientClassifier, PatientKAN

TOLERANCE = 1e-5
"""Of logits, which reach 22; PyTorch's own float32 is as far from its float64."""


def made_inputs(model: Classifier, n: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    if isinstance(model, PatientClassifier):
        shapes = rng.normal(0, 0.3, (n, 2, SHAPE_WIDTH)).cumsum(axis=2).clip(-8, 8)
        return shapes.astype(np.float32), rng.normal(0, 1, (n, len(CONTEXT_FEATURES))).astype(np.float32)
    return (normalize_windows(rng.normal(0, 0.1, (n, 256)).cumsum(axis=1))[:, None],)


def trained(model: Classifier) -> Classifier:
    """Return a model with running statistics, and scales, that are not those of a new one."""
    with torch.no_grad():
        for module in model.modules():
            for name, low, high in (("weight", 0.5, 1.5), ("bias", -0.2, 0.2)):
                values = getattr(module, name, None)
                if isinstance(module, torch.nn.BatchNorm1d | torch.nn.LayerNorm) and values is not None:
                    values.uniform_(low, high)
        if isinstance(model, PatientClassifier):
            model.class_shift.uniform_(-1, 1)
            model.encoder.profile.uniform_(0, 0.5)
        for _ in range(20):
            model(*map(torch.from_numpy, made_inputs(model, 64)))
    return model.eval()


def checkpoint_of(model: Classifier, folder: Path, *, name: str, arguments: dict | None = None) -> Checkpoint:
    path = folder / f"{name}.pth"
    save_checkpoint(
        path, name=name, model=model, protocol="random-split", temperature=1.3, training={}, arguments=arguments
    )
    return load_checkpoint(path)


def exported(checkpoint: Checkpoint, folder: Path, *, raw: bool = False) -> OnnxModel:
    file = folder / ("raw.onnx" if raw else f"{checkpoint.name}.onnx")
    file.write_bytes(to_onnx(checkpoint, raw=raw))
    return load_onnx_model(file, threads=1)


def by_pytorch(model: Classifier, *inputs: np.ndarray) -> np.ndarray:
    parts = [tuple(torch.from_numpy(values[i : i + 500]) for values in inputs) for i in range(0, len(inputs[0]), 500)]
    with torch.inference_mode():
        return torch.cat([model(*part) for part in parts]).numpy()


@pytest.fixture(params=list(ALL_MODELS))
def checkpoint(request, tmp_path: Path) -> Checkpoint:
    torch.manual_seed(0)
    return checkpoint_of(trained(ALL_MODELS[request.param](num_classes=5)), tmp_path, name=request.param)


@pytest.mark.parametrize("n", [1, 3, 200])
def test_any_number_of_beats(checkpoint: Checkpoint, tmp_path: Path, n: int) -> None:
    model, inputs = exported(checkpoint, tmp_path), made_inputs(checkpoint.model, n)
    expected = by_pytorch(checkpoint.model, *inputs)
    np.testing.assert_allclose(model.logits(*inputs), expected, atol=TOLERANCE, rtol=0)
    assert n < 3 or np.ptp(expected, axis=0).max() > 0.1
    probabilities = torch.from_numpy(expected / 1.3).softmax(1).numpy()
    np.testing.assert_allclose(model.probabilities(*inputs), probabilities, atol=TOLERANCE, rtol=0)


def test_the_file_says_what_it_is(checkpoint: Checkpoint, tmp_path: Path) -> None:
    from ecgkan import __version__

    file = onnx.load_from_string(to_onnx(checkpoint))
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(metadata["classes"]) == ["N", "S", "V", "F", "Q"]
    assert json.loads(metadata["preprocessing"]) == checkpoint.preprocessing
    assert json.loads(metadata["temperature"]) == 1.3
    assert metadata["weights_sha256"] == checkpoint.sha256
    named = {key: metadata[key] for key in ("model", "protocol", "precision", "ecgkan_version")}
    assert named == {
        "model": checkpoint.name,
        "protocol": "random-split",
        "precision": "float32",
        "ecgkan_version": __version__,
    }
    assert {node.op_type for node in file.graph.node}.isdisjoint({"Where", "BatchNormalization", "Loop", "If", "Pow"})
    assert {entry.domain for entry in file.opset_import} == {""}, "any runtime can compute it"
    model = exported(checkpoint, tmp_path)
    assert (model.name, model.classes, model.temperature) == (checkpoint.name, checkpoint.classes, 1.3)
    assert model.preprocessing == checkpoint.preprocessing


def test_the_same_weights_give_the_same_bytes(checkpoint: Checkpoint) -> None:
    assert to_onnx(checkpoint) == to_onnx(checkpoint)


@pytest.mark.parametrize(
    "arguments",
    [
        {"grid_range": (-1.0, 1.0)},
        {"grid_size": 10},
        {"grid_size": 3, "hidden_features": 7, "normalization": "batch"},
    ],
    ids=["published grid", "finer", "batch norm"],
)
def test_kan_heads_of_other_shapes(tmp_path: Path, arguments: dict) -> None:
    torch.manual_seed(1)
    checkpoint = checkpoint_of(trained(ECGCNNWithKAN(**arguments)), tmp_path, name="cnn_kan", arguments=arguments)
    inputs = made_inputs(checkpoint.model, 100)
    found, expected = exported(checkpoint, tmp_path).logits(*inputs), by_pytorch(checkpoint.model, *inputs)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


def test_features_far_outside_of_the_splines(tmp_path: Path) -> None:
    torch.manual_seed(1)
    checkpoint = checkpoint_of(trained(PatientKAN()), tmp_path, name="patient_kan")
    shapes, rhythm = made_inputs(checkpoint.model, 50)
    rhythm *= 10.0 ** np.arange(-2, 3, 0.1, dtype=np.float32)[:50, None]
    found, expected = (
        exported(checkpoint, tmp_path).logits(shapes, rhythm),
        by_pytorch(checkpoint.model, shapes, rhythm),
    )
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=2e-6)


@pytest.mark.parametrize("name", ["patient_mlp", "patient_kan"])
def test_a_lead_that_is_off_gives_numbers(tmp_path: Path, name: str) -> None:
    torch.manual_seed(1)
    checkpoint = checkpoint_of(trained(ALL_MODELS[name](num_classes=5)), tmp_path, name=name)
    shapes = np.stack([np.zeros((2, SHAPE_WIDTH)), np.full((2, SHAPE_WIDTH), 3.0)]).astype(np.float32)
    rhythm = np.zeros((2, len(CONTEXT_FEATURES)), np.float32)
    found, expected = (
        exported(checkpoint, tmp_path).logits(shapes, rhythm),
        by_pytorch(checkpoint.model, shapes, rhythm),
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)  # what is 0 here is a rounding error there


def test_windows_in_millivolts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint = checkpoint_of(trained(ALL_MODELS["cnn_kan"](num_classes=5)), tmp_path, name="cnn_kan")
    rng = np.random.default_rng(0)
    windows = (rng.normal(0, 0.1, (40, 256)).cumsum(axis=1) + np.linspace(-5, 5, 40)[:, None]).astype(np.float32)
    windows[7] = 0.25  # flat
    model = exported(checkpoint, tmp_path, raw=True)
    assert model.inputs == ("windows",)
    expected = by_pytorch(checkpoint.model, normalize_windows(windows)[:, None])
    np.testing.assert_allclose(model.logits(windows), expected, atol=TOLERANCE, rtol=0)


def test_a_window_alone_is_no_context(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(PatientKAN().eval(), tmp_path, name="patient_kan")
    with pytest.raises(CheckpointError, match=r"patient_kan\.pth: patient_kan looks at beats in their context.*--raw"):
        to_onnx(checkpoint, raw=True)


def test_splines_on_an_uneven_grid_are_refused(tmp_path: Path) -> None:
    model = ECGCNNWithKAN().eval()
    model.kan_head.kan1.grid[:, -1] += 0.1
    checkpoint = checkpoint_of(model, tmp_path, name="cnn_kan")
    with pytest.raises(CheckpointError, match=r"not uniform.*use the model with PyTorch"):
        to_onnx(checkpoint)


@pytest.mark.parametrize("name", list(ALL_MODELS))
def test_ten_thousand_real_beats(data_dir: Path, tmp_path: Path, name: str) -> None:
    checkpoint = load_checkpoint(name)
    if name.startswith("patient"):
        context = load_training_context(data_dir).model_input()
        chosen = np.linspace(0, len(context) - 1, 10_000).astype(np.int64)
        inputs: tuple[np.ndarray, ...] = (context.shapes[chosen], context.rhythm[chosen])
    else:
        split = load_random_split(data_dir)
        inputs = (split.table.model_input(split.validation[:10_000]),)
    model, expected = load_onnx_model(name, threads=1), by_pytorch(checkpoint.model, *inputs)
    found = np.concatenate([model.logits(*(v[i : i + 500] for v in inputs)) for i in range(0, 10_000, 500)])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    assert (found.argmax(1) == expected.argmax(1)).all()
