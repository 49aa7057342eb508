"""The log of DS2 scorings, docs/ds2-scorings.jsonl: one line each time a model meets the test patients.

The first scoring of the first recipe is the one that counts; later ones carry their number. A scoring is refused unless
what it depends on is committed, so that the log's commit says which recipe it was.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError
from ecgkan.evaluation.evaluate import CodeVersion, code_version
from ecgkan.evaluation.inter_patient import five_class_dict, headline_dict
from ecgkan.evaluation.scoring_log import check_log


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_frozen(files: Sequence[Path]) -> None:
    """Check that files are committed as they are, before DS2 is scored by what they say.

    Parameters
    ----------
    files : sequence of Path
        The recipe; also the weights, where they are kept in version control.

    Raises
    ------
    DataError
        If one is missing, not tracked by git, or changed since its last commit.
    """
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing: DS2 is scored only by what is committed")
        status = _git(file.parent, "status", "--porcelain", "--ignored", "--", file.name)
        tracked = _git(file.parent, "ls-files", "--", file.name)
        if status != "" or not tracked:
            raise DataError(
                f"{file} is not committed as it is (git status: {(status or 'no repository').strip()}); DS2 is scored "
                "only by recipes that are frozen: commit it first"
            )


def append_ds2_scoring(
    log: Path,
    *,
    recipe: Path,
    model: str,
    seed: int,
    weights_sha256: str,
    confusion: NDArray[np.integer],
    leads: int = 1,
    frozen: Sequence[Path] = (),
    code: CodeVersion | None = None,
) -> dict[str, Any]:
    """Append the line of one scoring to the log and return it; what the log holds already is not touched.

    Parameters
    ----------
    log : Path
        The log; its folder must exist.
    recipe : Path
        The frozen recipe's file; its name without extension is the recipe's.
    model : str
        Name of the model.
    seed : int
        Of the training.
    weights_sha256 : str
        Of the checkpoint that was scored.
    confusion : ndarray
        `[5, 5]` on all of DS2.
    leads : int
        How many leads the model looked at.
    frozen : sequence of Path
        Further files that must be committed, such as weights that ship.
    code : CodeVersion, optional
        What scores; looked up by default. Looked up once for several scorings, it does not count the log's new lines as
        changes.

    Raises
    ------
    DataError
        See `check_frozen`.
    DataNotFoundError
        If the log's folder does not exist.
    """
    check_frozen([recipe, *frozen])
    check_log(log)
    earlier = read_ds2_log(log)
    entry = {
        "date_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": (code or code_version()).commit,
        "recipe": recipe.stem,
        "recipe_sha256": file_sha256(recipe),
        "scoring": 1 + sum((line["recipe"], line["seed"]) == (recipe.stem, seed) for line in earlier),
        "model": model,
        "seed": seed,
        "leads": leads,
        "weights_sha256": weights_sha256,
        "headline": headline_dict(confusion),
        "five_class": five_class_dict(confusion),
    }
    with log.open("a") as stream:
        stream.write(json.dumps(entry, allow_nan=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return entry


def read_ds2_log(log: Path) -> list[dict[str, Any]]:
    """Read all lines of the log; none if there is no log yet."""
    if not log.is_file():
        return []
    return [json.loads(line) for line in log.read_text().splitlines() if line.strip()]


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, None where it fails (no repository, no git)."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
