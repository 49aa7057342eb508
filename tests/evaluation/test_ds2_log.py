"""Only what is committed is scored on DS2, and each scoring carries its number."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ecgkan.errors import DataError, DataNotFoundError
from ecgkan.evaluation.ds2_log import append_ds2_scoring, check_frozen, file_sha256, read_ds2_log

CONFUSION = np.diag([90, 5, 4, 1, 0])


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init")
    (tmp_path / "mlp.json").write_text("{}\n")
    git(tmp_path, "add", "mlp.json")
    git(tmp_path, "commit", "-m", "freeze")
    return tmp_path


def score(folder: Path, seed: int = 0) -> dict[str, object]:
    return append_ds2_scoring(
        folder / "log.jsonl",
        recipe=folder / "mlp.json",
        model="cnn_mlp",
        seed=seed,
        weights_sha256="ab" * 32,
        confusion=CONFUSION,
    )


def test_a_scoring_is_one_line_with_hash_number_and_figures(repository: Path) -> None:
    entry = score(repository)
    (line,) = (repository / "log.jsonl").read_text().splitlines()
    assert json.loads(line) == entry
    assert entry["recipe"] == "mlp"
    assert entry["recipe_sha256"] == file_sha256(repository / "mlp.json")
    assert entry["scoring"] == 1
    assert entry["headline"] == {
        "beats": 99,
        "accuracy": 1.0,
        "macro_f1": 1.0,
        "classes": {letter: {"se": 1.0, "ppv": 1.0, "f1": 1.0} for letter in "NSV"},
    }


def test_later_scorings_carry_their_number_and_earlier_lines_stay(repository: Path) -> None:
    score(repository)
    before = (repository / "log.jsonl").read_bytes()
    assert score(repository, seed=1)["scoring"] == 1
    assert score(repository)["scoring"] == 2
    assert (repository / "log.jsonl").read_bytes().startswith(before)
    assert [line["scoring"] for line in read_ds2_log(repository / "log.jsonl")] == [1, 1, 2]


def test_a_changed_recipe_is_refused(repository: Path) -> None:
    (repository / "mlp.json").write_text('{"epochs": 3}\n')
    with pytest.raises(DataError, match="not committed as it is"):
        score(repository)
    assert read_ds2_log(repository / "log.jsonl") == []


def test_untracked_ignored_and_missing_files_are_refused(repository: Path) -> None:
    (repository / ".gitignore").write_text("ignored.pth\n")
    for name in ("new.json", "ignored.pth"):
        (repository / name).write_text("{}")
        with pytest.raises(DataError, match="not committed as it is"):
            check_frozen([repository / name])
    with pytest.raises(DataError, match="is missing"):
        check_frozen([repository / "nowhere.json"])


def test_outside_of_a_repository_nothing_is_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "mlp.json").write_text("{}")
    with pytest.raises(DataError, match="no repository"):
        check_frozen([tmp_path / "mlp.json"])


def test_the_logs_folder_must_exist(repository: Path) -> None:
    with pytest.raises(DataNotFoundError):
        append_ds2_scoring(
            repository / "nowhere" / "log.jsonl",
            recipe=repository / "mlp.json",
            model="cnn_mlp",
            seed=0,
            weights_sha256="",
            confusion=CONFUSION,
        )
