"""The command line: help with examples, exit statuses 0, 1 and 2, and errors of one line instead of tracebacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from ecgkan.cli import app

COMMANDS = ("demo", "data", "train", "evaluate", "compare", "classify", "explain", "ec57")


def ecgkan(*arguments: str, data_dir: Path | None = None) -> subprocess.CompletedProcess[str]:
    import os

    environment = {key: value for key, value in os.environ.items() if key != "ECGKAN_DATA"}
    if data_dir is not None:
        environment["ECGKAN_DATA"] = str(data_dir)
    command = [sys.executable, "-m", "ecgkan.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_help_lists_every_command() -> None:
    done = ecgkan("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f" {name} " in done.stdout
    assert "not a medical device" in " ".join(done.stdout.split())


def test_every_command_has_an_example() -> None:
    command = get_command(app)
    leaves = [
        *(command.commands[name] for name in COMMANDS if name != "data"),
        *command.commands["data"].commands.values(),
    ]
    for leaf in leaves:
        assert "ecgkan " in (leaf.help or ""), leaf.name


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "--model", "cnn_kan", "--out", "{tmp}/run"], 1, "no database mitdb"),
        (["train", "--model", "cnn_kan", "--recipe", "bset", "--out", "{tmp}/run"], 1, "no recipe 'bset'"),
        (["train", "--out", "{tmp}/run"], 2, "--model"),
        (["classify", "{tmp}/nothing"], 1, "no recording at"),
        (["evaluate", "{tmp}/nothing.pth", "--out", "{tmp}/out"], 1, "no checkpoint"),
        (["evaluate", "cnn_mlp", "--protocol", "other", "--out", "{tmp}/out"], 2, "random-split"),
        (["compare", "--protocol", "inter-patient", "--ship", "{tmp}"], 2, "random-split alone"),
        (["compare", "--protocol", "inter-patient", "--by-record"], 2, "random-split alone"),
        (
            ["train", "--model", "cnn_mlp", "--fold", "0", "--out", "{tmp}/run"],
            1,
            "folds belong to protocol inter-patient",
        ),
        (["data", "verify", "ptbdb"], 2, "mitdb"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_errors_are_told_without_a_traceback(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    done = ecgkan(*(argument.format(tmp=tmp_path) for argument in arguments), data_dir=tmp_path)
    assert done.returncode == status, done.stderr
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


def test_compare_reads_the_repositorys_results() -> None:
    root = Path(__file__).parents[1]
    done = ecgkan(
        "compare", "--results", str(root / "results" / "random-split"), "--runs", str(root / "no-runs"), "--json"
    )
    assert done.returncode == 0, done.stderr
    groups = json.loads(done.stdout)["groups"]
    assert groups["best/cnn_kan"]["macro F1"]["n"] == 5
