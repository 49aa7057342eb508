"""What the README says is true: its Python blocks run, its commands exist, its figures are those of the results."""

import json
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from ecgkan.data.protocols import SHARED_PATIENTS_NOTE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def ecgkan(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "ecgkan.cli", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def after_the_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    ecgkan("demo", folder=folder)
    return folder


def test_python_blocks_run_in_order(after_the_demo: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 2
    (after_the_demo / "results").mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=after_the_demo, check=True, capture_output=True)
    assert (after_the_demo / "results" / "embedded.ecgkan").is_file()


def test_the_demos_recording_can_be_classified(after_the_demo: Path) -> None:
    assert "ecgkan classify demo/recording/embedded --out results" in README
    text = ecgkan("classify", "demo/recording/embedded", "--out", "classified", folder=after_the_demo)
    assert "MLII" in text
    assert (after_the_demo / "classified" / "embedded.csv").is_file()


def test_commands_and_options_exist(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("ecgkan ")]
    assert len(commands) >= 6
    for command in commands:
        name = command[:2] if command[0] == "data" else command[:1]
        help_text = ecgkan(*name, "--help", folder=tmp_path)
        for option in (word for word in command if word.startswith("--")):
            assert option in help_text, f"{' '.join(name)} has no {option}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"setup", "demo", "test", "lint", "bench", "reproduce"} <= targets
    assert set(re.findall(r"^make ([a-z]+)", README, flags=re.MULTILINE)) <= targets


def table_of(section: str) -> dict[str, dict[str, str]]:
    """Read a section's table: row → column → cell."""
    text = README.split(f"### {section}")[1].split("###")[0].split("\n## ")[0]
    lines = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line] for line in lines]
    header = [
        cell.strip() for cell in next(line for line in text.splitlines() if line.startswith("| | ")).split("|")[2:-1]
    ]
    return {row[0]: dict(zip(header, row[1:], strict=True)) for row in rows if len(row) == len(header) + 1}


def test_the_table_of_known_patients_is_the_shipped_models(model_titles: dict[str, str]) -> None:
    document = json.loads((ROOT / "results" / "random-split" / "shipped.json").read_text())
    shown = table_of("Known patients")
    for entry in document["models"]:
        column = f"{model_titles[entry['model']]}, ours"
        for key, title in (("accuracy", "accuracy"), ("macro_f1", "macro F1"), ("macro_auc", "macro AUC")):
            assert shown[title][column] == f"{entry['metrics'][key]['value']:.4f}"
        for letter, figures in entry["classes"].items():
            assert shown[f"F1 {letter}"][column] == f"{figures['f1']['value']:.4f}"


def test_the_table_of_new_patients_is_that_of_all_seeds(model_titles: dict[str, str]) -> None:
    shown = table_of("New patients")
    for model in ("patient_mlp", "patient_kan"):
        files = sorted((ROOT / "results" / "patients").glob(f"patient-1-{model}-[0-9].json"))
        runs = [json.loads(file.read_text())["ds2"] for file in files]
        assert len(runs) == 5
        figures = {
            "accuracy": [run["headline"]["accuracy"] for run in runs],
            "macro F1 (N S V)": [run["headline"]["macro_f1"] for run in runs],
            **{f"F1 {c}": [run["headline"]["classes"][c]["f1"] for run in runs] for c in "NSV"},
            "F1 S without record 232": [run["headline_without_232"]["classes"]["S"]["f1"] for run in runs],
        }
        for title, values in figures.items():
            told = f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}"
            assert shown[title][model_titles[model]] == told, title


@pytest.fixture
def model_titles() -> dict[str, str]:
    from ecgkan.evaluation.evaluate import MODEL_TITLES

    return dict(MODEL_TITLES)


def test_the_honest_line_and_the_licence_of_the_data_are_there() -> None:
    flat = " ".join(README.split())
    assert SHARED_PATIENTS_NOTE.rstrip(".") in flat
    assert "not a medical device" in flat
    assert "ODC-By" in flat


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
