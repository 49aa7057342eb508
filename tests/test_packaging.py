"""What a user installs: the wheel carries weights and checksums, and importing it is light."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_outside(installed_wheel: Path, script: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed_wheel)}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def test_the_wheel_works_outside_of_a_checkout(installed_wheel: Path, tmp_path: Path) -> None:
    script = (
        "import ecgkan; from ecgkan.models.checkpoint import load_checkpoint;"
        "print(ecgkan.__file__, load_checkpoint('cnn_mlp').path, load_checkpoint('cnn_kan').path)"
    )
    for path in run_outside(installed_wheel, script, tmp_path).split():
        assert Path(path).is_relative_to(installed_wheel)
    assert (installed_wheel / "ecgkan" / "checkpoints" / "cnn_kan.md").is_file()


def test_the_wheel_pins_the_databases_files(installed_wheel: Path, tmp_path: Path) -> None:
    script = "from ecgkan.data.databases import load_database; print(len(load_database('mitdb').files))"
    assert int(run_outside(installed_wheel, script, tmp_path)) >= 3 * 48


@pytest.mark.parametrize("script", ["import ecgkan", "import ecgkan.cli"])
def test_importing_is_light(script: str) -> None:
    heavy = "('torch', 'pandas', 'matplotlib', 'sklearn', 'scipy', 'wfdb', 'numpy', 'pytorch_lightning')"
    check = f"{script}; import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_told_once() -> None:
    import tomllib

    import ecgkan

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ecgkan.__version__
    assert f"version: {ecgkan.__version__}" in (ROOT / "CITATION.cff").read_text()
