"""Recordings classified by ONNX Runtime: as by PyTorch, without PyTorch, and the same whatever is read at a time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.synthetic import synthetic_ecg, write_record

from ecgkan import Recording, classify, load_checkpoint, load_model
from ecgkan.data.embedded import embedded_recording
from ecgkan.errors import CheckpointError, DataError, DataNotFoundError
from ecgkan.inference.backends import choose_backend, load_for
from ecgkan.inference.record import ClassifyOptions
from ecgkan.models.onnx_export import to_onnx
from ecgkan.models.onnx_model import OnnxModel, load_onnx_model
from ecgkan.models.shipped import SHIPPED_NAMES

NO_TORCH = """
import sys
from ecgkan.inference.record import ClassifyOptions, classify_to_folder
classified = classify_to_folder(sys.argv[1], sys.argv[2], ClassifyOptions(model=sys.argv[3]))
assert len(classified.annotations) > 20
loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "pytorch_lightning", "onnx"})
print(loaded)
"""


@pytest.mark.parametrize("name", ["cnn_kan", "patient_kan"])
def test_shipped_models_run_without_pytorch(tmp_path: Path, name: str) -> None:
    record = write_record(tmp_path, "rec", 360, {"MLII": synthetic_ecg(360)[0]})
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, str(record), str(tmp_path / "out"), name],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_command_classifies_without_pytorch(tmp_path: Path) -> None:
    record = write_record(tmp_path, "rec", 360, {"MLII": synthetic_ecg(360)[0]})
    script = (
        "import sys; from ecgkan.cli import app\n"
        f"app(['classify', {str(record)!r}, '--out', {str(tmp_path / 'out')!r}, '--json'], standalone_mode=False)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    text, _, loaded = done.stdout.strip().rpartition("\n")
    assert loaded == "False"
    assert json.loads(text)["model"] == "patient_kan"


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_backends_agree(name: str) -> None:
    recording = embedded_recording()
    by_onnx, by_torch = (classify(recording, name, backend=backend) for backend in ("onnx", "torch"))
    np.testing.assert_array_equal(by_onnx.samples, by_torch.samples)
    np.testing.assert_array_equal(by_onnx.classes, by_torch.classes)
    np.testing.assert_allclose(by_onnx.probabilities, by_torch.probabilities, atol=1e-4)
    assert by_onnx.weights_sha256 == by_torch.weights_sha256 != ""
    assert by_onnx.model == by_torch.model == name
    np.testing.assert_array_equal(classify(recording, name).probabilities, by_onnx.probabilities)


@pytest.mark.parametrize("name", ["cnn_kan", "patient_kan"])
def test_backends_agree_on_a_real_record(mitdb_dir: Path, name: str) -> None:
    by_onnx, by_torch = (classify(mitdb_dir / "119", name, backend=backend) for backend in ("onnx", "torch"))
    np.testing.assert_array_equal(by_onnx.classes, by_torch.classes)
    np.testing.assert_allclose(by_onnx.probabilities, by_torch.probabilities, atol=1e-4)


@pytest.mark.parametrize("name", ["cnn_kan", "patient_kan"])
def test_nothing_depends_on_how_much_is_read_at_a_time(name: str) -> None:
    signal, rpeaks = synthetic_ecg(250.0, 400.0)
    recording = Recording("rec", signal[:, None], 250.0, ("MLII",))
    model = load_onnx_model(name)
    whole = classify(recording, model, chunk_s=10_000.0)
    assert len(whole) > 0.9 * len(rpeaks)
    for chunk_s in (50.0, 130.0):
        part = classify(recording, model, chunk_s=chunk_s)
        np.testing.assert_array_equal(part.samples, whole.samples)
        np.testing.assert_array_equal(part.probabilities, whole.probabilities)


def test_two_leads_by_onnx_runtime() -> None:
    signal, _ = synthetic_ecg(360.0)
    recording = Recording("rec", np.column_stack([signal, -0.5 * signal]), 360.0, ("MLII", "V1"))
    by_onnx, by_torch = (
        classify(recording, "patient_kan", backend=backend, second_lead="auto") for backend in ("onnx", "torch")
    )
    assert by_onnx.second_lead == "V1"
    np.testing.assert_allclose(by_onnx.probabilities, by_torch.probabilities, atol=1e-4)


def test_no_beats_by_onnx_runtime() -> None:
    recording = Recording("rec", synthetic_ecg(360.0)[0][:, None], 360.0, ("MLII",))
    for name in ("cnn_mlp", "patient_mlp"):
        assert classify(recording, name, rpeaks=np.zeros(0, np.int64)).probabilities.shape == (0, 5)


@pytest.mark.parametrize(
    ("model", "asked", "chosen"),
    [
        ("cnn_kan", None, "onnx"),
        ("cnn_kan", "torch", "torch"),
        ("runs/cnn_kan.pth", None, "torch"),
        ("runs/cnn_kan.pth", "onnx", "onnx"),
        ("runs/cnn_kan.onnx", None, "onnx"),
    ],
)
def test_what_computes_a_model(model: str, asked: str | None, chosen: str) -> None:
    assert choose_backend(model, asked) == chosen


def test_backends_that_cannot_be(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="unknown backend 'jax'; expected torch or onnx"):
        ClassifyOptions(backend="jax")
    with pytest.raises(DataError, match=r"cnn_kan\.onnx is computed by ONNX Runtime"):
        choose_backend("cnn_kan.onnx", "torch")
    recording = embedded_recording()
    with pytest.raises(DataError, match="a loaded Checkpoint does not run on backend 'onnx'"):
        classify(recording, load_checkpoint(checkpoints["cnn_mlp"]), backend="onnx")
    with pytest.raises(DataError, match="a loaded OnnxModel does not run on backend 'torch'"):
        classify(recording, load_onnx_model("cnn_mlp"), backend="torch")
    with pytest.raises(DataError, match="a loaded ECGCNN does not run on backend 'onnx'"):
        classify(recording, load_model(checkpoints["cnn_mlp"]), backend="onnx")


def test_a_checkpoint_runs_on_onnx_runtime_once_it_is_exported(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(checkpoints["cnn_kan"].read_bytes())
    with pytest.raises(DataNotFoundError, match=r"mine\.pth has no exported form mine\.onnx beside it.*ecgkan export"):
        load_for(path, "onnx")
    with pytest.raises(DataNotFoundError, match=r"no checkpoint .*absent\.pth"):
        load_for(tmp_path / "absent.pth", "onnx")
    (tmp_path / "mine.onnx").write_bytes(to_onnx(load_checkpoint(path)))
    model = load_for(path, "onnx")
    assert isinstance(model, OnnxModel)
    recording = embedded_recording()
    expected = classify(recording, path)
    for given in (model, tmp_path / "mine.onnx"):
        found = classify(recording, given)
        np.testing.assert_array_equal(found.classes, expected.classes)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
        assert found.weights_sha256 == expected.weights_sha256


def test_a_model_of_raw_windows_is_none_for_recordings(tmp_path: Path) -> None:
    path = tmp_path / "raw.onnx"
    path.write_bytes(to_onnx(load_checkpoint("cnn_mlp"), raw=True))
    with pytest.raises(CheckpointError, match=r"raw\.onnx takes windows; .*without --raw"):
        classify(embedded_recording(), path)
