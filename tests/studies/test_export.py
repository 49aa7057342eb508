"""`ecgkan export`: files whole or not at all, over nothing that exists."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecgkan.cli import app
from ecgkan.errors import CheckpointError, DataError, DataNotFoundError, OutputExistsError
from ecgkan.models.cnn import ECGCNN
from ecgkan.models.onnx_model import load_onnx_model
from ecgkan.models.shipped import SHIPPED_NAMES, shipped_folder
from ecgkan.studies.export import export_shipped, export_to_file


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_shipped_model_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "models" / "mine.onnx"
    assert "mine.onnx: cnn_kan, float32, 1144 kB, weights" in run("cnn_kan", "--format", "onnx", "--out", out)
    assert [file.name for file in out.parent.iterdir()] == ["mine.onnx"]
    assert load_onnx_model(out).inputs == ("beats",)
    with pytest.raises(OutputExistsError, match=r"mine\.onnx exists"):
        export_to_file("cnn_kan", out)
    (written,) = json.loads(run("cnn_kan", "--raw", "--out", out, "--overwrite", "--json"))
    assert written["bytes"] == out.stat().st_size
    assert written["weights_sha256"] == load_onnx_model(out).weights_sha256
    assert load_onnx_model(out).inputs == ("windows",)


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--raw"):
        export_to_file("patient_kan", tmp_path / "mine.onnx", raw=True)
    with pytest.raises(DataNotFoundError, match="absent"):
        export_to_file(tmp_path / "absent.pth", tmp_path / "mine.onnx")
    with pytest.raises(DataError, match=r"mine\.pth: .*ends in \.onnx"):
        export_to_file("cnn_mlp", tmp_path / "mine.pth")
    assert list(tmp_path.iterdir()) == []


def test_all_that_ships_with_one_command(tmp_path: Path) -> None:
    for name in SHIPPED_NAMES:
        (tmp_path / f"{name}.pth").write_bytes((shipped_folder() / f"{name}.pth").read_bytes())
    run("--shipped", tmp_path)
    for name in SHIPPED_NAMES:
        shipped = (shipped_folder() / f"{name}.onnx").read_bytes()
        assert (tmp_path / f"{name}.onnx").read_bytes() == shipped, "made by another version: ecgkan export --shipped"
    with pytest.raises(OutputExistsError):
        export_shipped(tmp_path)
    run("--shipped", tmp_path, "--overwrite")


@pytest.mark.parametrize(
    "arguments",
    [[], ["cnn_kan"], ["--out", "a.onnx"], ["cnn_kan", "--shipped", "x"], ["--shipped", "x", "--raw"]],
)
def test_arguments_that_do_not_go_together(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["export", *arguments]).exit_code == 2


def test_foreign_weights_have_no_training_beats(tmp_path: Path) -> None:
    import torch

    torch.save({"model_state": ECGCNN().state_dict()}, tmp_path / "theirs.pth")
    with pytest.raises(CheckpointError, match=r"theirs\.pth does not say by which protocol.*--precision float32"):
        export_to_file(tmp_path / "theirs.pth", tmp_path / "theirs.onnx", precision="int8")
    export_to_file(tmp_path / "theirs.pth", tmp_path / "theirs.onnx")


def test_int8_of_a_model_for_new_patients(data_dir: Path, tmp_path: Path) -> None:
    export_to_file("patient_kan", tmp_path / "small.onnx", precision="int8", data_dir=data_dir)
    assert load_onnx_model(tmp_path / "small.onnx").precision == "int8"
