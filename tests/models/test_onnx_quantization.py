"""A model in int8 answers nearly as before."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from ecgkan import load_checkpoint
from ecgkan.data.beats import cut_beats
from ecgkan.data.context import beat_context, cut_shapes
from ecgkan.data.embedded import embedded_recording
from ecgkan.data.protocols import load_random_split
from ecgkan.data.rpeaks import detect_rpeaks
from ecgkan.evaluation.metrics import confusion_matrix, metrics_from_confusion
from ecgkan.models.onnx_export import to_onnx
from ecgkan.models.onnx_model import OnnxModel, load_onnx_model
from ecgkan.models.onnx_quantization import to_int8
from ecgkan.studies.export import calibration_beats


def embedded_beats() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the embedded recording's windows, shapes and rhythm."""
    signal = embedded_recording().signals[:, 0]
    rpeaks = detect_rpeaks(signal, 360.0)
    context = beat_context(cut_shapes(signal, rpeaks), np.diff(rpeaks, prepend=np.nan) / 360.0)
    return cut_beats(signal, rpeaks, edges="pad").model_input(), context.shapes, context.rhythm


@pytest.mark.parametrize("name", ["cnn_mlp", "cnn_kan", "patient_mlp", "patient_kan"])
def test_int8_answers_nearly_as_float32(tmp_path: Path, name: str) -> None:
    beats, shapes, rhythm = embedded_beats()
    inputs = {"shapes": shapes, "rhythm": rhythm} if name.startswith("patient") else {"beats": beats}
    original = to_onnx(load_checkpoint(name))
    (tmp_path / "small.onnx").write_bytes(to_int8(original, inputs))
    small, exact = load_onnx_model(tmp_path / "small.onnx", threads=1), load_onnx_model(name, threads=1)
    assert (small.precision, small.weights_sha256) == ("int8", exact.weights_sha256)
    found, expected = small.probabilities(*inputs.values()), exact.probabilities(*inputs.values())
    assert np.abs(found - expected).mean() < 0.01
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.98
    weights = onnx.load(tmp_path / "small.onnx").graph.initializer
    assert sum(entry.data_type == onnx.TensorProto.INT8 and len(entry.dims) == 4 for entry in weights) == 3
    assert (tmp_path / "small.onnx").stat().st_size < len(original)


def validation_macro_f1(model: OnnxModel, data_dir: Path) -> float:
    split = load_random_split(data_dir)
    classes = [
        model.logits(split.table.model_input(split.validation[start : start + 512])).argmax(1)
        for start in range(0, len(split.validation), 512)
    ]
    confusion = confusion_matrix(split.table.labels[split.validation], np.concatenate(classes))
    return metrics_from_confusion(confusion).macro_f1


@pytest.mark.parametrize("name", ["cnn_mlp", "cnn_kan"])
def test_int8_loses_little_on_validation_beats(data_dir: Path, tmp_path: Path, name: str) -> None:
    checkpoint = load_checkpoint(name)
    (tmp_path / "small.onnx").write_bytes(to_int8(to_onnx(checkpoint), calibration_beats(checkpoint, data_dir)))
    exact = validation_macro_f1(load_onnx_model(name, threads=1), data_dir)
    assert validation_macro_f1(load_onnx_model(tmp_path / "small.onnx", threads=1), data_dir) > exact - 0.003
