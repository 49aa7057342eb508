"""Exported models open with what their metadata say, and what is no such model is named. The shipped pairs agree."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ecgkan import load_checkpoint
from ecgkan.errors import CheckpointError, DataNotFoundError
from ecgkan.models.onnx_export import to_onnx
from ecgkan.models.onnx_model import load_onnx_model
from ecgkan.models.shipped import SHIPPED_NAMES, find_model_file, shipped_folder


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_both_shipped_forms_are_the_same_weights(name: str) -> None:
    checkpoint, model = load_checkpoint(name), load_onnx_model(name)
    assert model.weights_sha256 == checkpoint.sha256
    assert (model.name, model.protocol, model.temperature) == (name, checkpoint.protocol, checkpoint.temperature)
    anew, shipped = onnx.load_from_string(to_onnx(checkpoint)), onnx.load(find_model_file(name, ".onnx"))
    assert [node.op_type for node in anew.graph.node] == [node.op_type for node in shipped.graph.node]
    for one, other in zip(anew.graph.initializer, shipped.graph.initializer, strict=True):
        np.testing.assert_allclose(numpy_helper.to_array(one), numpy_helper.to_array(other), rtol=1e-6, atol=1e-9)


def copied(name: str, folder: Path) -> Path:
    for suffix in (".pth", ".onnx"):
        (folder / f"{name}{suffix}").write_bytes((shipped_folder() / f"{name}{suffix}").read_bytes())
    return folder / f"{name}.onnx"


def with_metadata(path: Path, **values: str | None) -> None:
    file = onnx.load(path)
    metadata = {entry.key: entry.value for entry in file.metadata_props} | values
    onnx.helper.set_model_props(file, {key: value for key, value in metadata.items() if value is not None})
    onnx.save(file, path)


def test_other_weights_beside_it_are_noticed(tmp_path: Path) -> None:
    path = copied("patient_mlp", tmp_path)
    load_onnx_model(path)
    path.with_suffix(".pth").write_bytes((shipped_folder() / "patient_kan.pth").read_bytes())
    with pytest.raises(
        CheckpointError, match=r"patient_mlp\.onnx was made from weights f.*beside it holds.*ecgkan export"
    ):
        load_onnx_model(path)
    path.with_suffix(".pth").unlink()
    assert load_onnx_model(path).name == "patient_mlp"


def test_what_is_no_exported_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(CheckpointError, match=r"text\.onnx: expected a model in ONNX format, got"):
        load_onnx_model(tmp_path / "text.onnx")
    with pytest.raises(DataNotFoundError, match=r"absent\.onnx"):
        load_onnx_model(tmp_path / "absent.onnx")
    from ecgkan.data.qrs import WEIGHTS

    with pytest.raises(CheckpointError, match=r"qrs_detector\.onnx: this ONNX file lacks the metadata model, protocol"):
        load_onnx_model(WEIGHTS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": None}, "lacks the metadata temperature"),
        ({"classes": "[N"}, "metadata are damaged"),
        ({"ecgkan_format": "2"}, "has format 2.*upgrade"),
        ({"model": "cnn_rnn"}, "unknown model 'cnn_rnn'.*expected one of"),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path: Path, values: dict, message: str) -> None:
    path = copied("patient_mlp", tmp_path)
    with_metadata(path, **values)
    with pytest.raises(CheckpointError, match=message):
        load_onnx_model(path)


def test_a_checkpoint_is_asked_for_where_pytorch_needs_one() -> None:
    with pytest.raises(CheckpointError, match=r"cnn_mlp\.onnx is a model for ONNX Runtime.*\.pth"):
        load_checkpoint(shipped_folder() / "cnn_mlp.onnx")


def test_a_missing_shipped_file_says_how_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ecgkan.models import shipped

    monkeypatch.setattr(shipped, "shipped_folder", lambda: tmp_path)
    with pytest.raises(DataNotFoundError, match=r"cnn_mlp\.onnx are missing.*ecgkan export --shipped"):
        shipped.find_model_file("cnn_mlp", ".onnx")


def test_the_pages_example_needs_onnx_runtime_alone(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example is not None
    path = tmp_path / "cnn_kan_raw.onnx"
    path.write_bytes(to_onnx(load_checkpoint("cnn_kan"), raw=True))
    script = example[1] + "\nimport sys; assert not {'torch', 'ecgkan'} & set(sys.modules); print(probabilities.shape)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "(8, 5)"
