"""The models that ship, by name: their files, and what is done to a signal before they see it. Needs no PyTorch."""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from ecgkan.data.beats import AFTER, BEAT_FS, BEFORE, NORMALIZATION_EPSILON
from ecgkan.data.context import (
    AVERAGED_BEATS,
    BASELINE_S,
    CONTEXT_FEATURES,
    LOWPASS_HZ,
    SHAPE_AFTER,
    SHAPE_BEFORE,
    SHAPE_FS,
)
from ecgkan.errors import DataNotFoundError

BEAT_NAMES: Final = ("cnn_mlp", "cnn_kan")
"""Models of single beats."""

PATIENT_NAMES: Final = ("patient_mlp", "patient_kan")
"""Models for new patients, which see beats in their context."""

SHIPPED_NAMES: Final = (*PATIENT_NAMES, *BEAT_NAMES)

PREPROCESSING: Final[dict[str, Any]] = {
    "fs": BEAT_FS,
    "before": BEFORE,
    "after": AFTER,
    "normalization": "z-score per beat, population standard deviation",
    "epsilon": NORMALIZATION_EPSILON,
    "lead": "MLII where there is one, else signal 0",
}

PATIENT_PREPROCESSING: Final[dict[str, Any]] = {
    "fs": SHAPE_FS,
    "before": SHAPE_BEFORE,
    "after": SHAPE_AFTER,
    "baseline_s": BASELINE_S,
    "lowpass_hz": LOWPASS_HZ,
    "averaged_beats": AVERAGED_BEATS,
    "context": list(CONTEXT_FEATURES),
    "lead": "MLII where there is one, else signal 0",
}


def expected_preprocessing(name: str) -> dict[str, Any]:
    """Return what this version does to a signal before a model of that name sees it."""
    return dict(PATIENT_PREPROCESSING if name in PATIENT_NAMES else PREPROCESSING)


def find_model_file(name_or_path: str | Path, suffix: Literal[".pth", ".onnx"]) -> Path:
    """Return the file of a shipped model's name in one of its two forms, or the path itself.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    """
    if str(name_or_path) in SHIPPED_NAMES:
        path = shipped_folder() / f"{name_or_path}{suffix}"
        if not path.is_file():
            raise DataNotFoundError(
                f"the shipped weights {path} are missing; reinstall ecgkan, or in a checkout make them from the .pth "
                f"beside it: ecgkan export --shipped {path.parent}"
            )
        return path
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise DataNotFoundError(
            f"no checkpoint {path}; expected a file, or the name of a shipped model ({', '.join(SHIPPED_NAMES)})"
        )
    return path


@cache
def shipped_folder() -> Path:
    """Return the folder of the shipped weights.

    Raises
    ------
    DataNotFoundError
        If there is none.
    """
    # A wheel carries checkpoints/ inside the package; a checkout (editable install) beside src/.
    package = Path(str(resources.files("ecgkan")))
    places = (package / "checkpoints", package.parents[1] / "checkpoints")
    for place in places:
        if (place / "cnn_mlp.pth").is_file():
            return place
    raise DataNotFoundError(f"the shipped checkpoints are missing (looked in {places[0]} and {places[1]}); reinstall")
