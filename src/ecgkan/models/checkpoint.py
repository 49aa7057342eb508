"""Checkpoints: weights together with everything needed to use them.

A checkpoint is a plain `torch.save` dictionary of tensors, numbers, strings, lists and dictionaries; it is read with
`weights_only=True`, so a file from a stranger can carry no code. Its key `model_state` is
the model's state dict, as in the published reference.
"""

import hashlib
import os
import pickle
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from ecgkan.aami import CLASSES
from ecgkan.errors import CheckpointError
from ecgkan.models.cnn import ECGCNN, BeatClassifier
from ecgkan.models.cnn_kan import ECGCNNWithKAN
from ecgkan.models.patient import PatientClassifier, PatientKAN, PatientMLP
from ecgkan.models.shipped import expected_preprocessing, find_model_file

FORMAT_VERSION: Final = 1

MODELS: Final[dict[str, type[BeatClassifier]]] = {"cnn_mlp": ECGCNN, "cnn_kan": ECGCNNWithKAN}
"""Model of single beats → class; the shipped checkpoints bear the same names."""

PATIENT_MODELS: Final[dict[str, type[PatientMLP] | type[PatientKAN]]] = {
    "patient_mlp": PatientMLP,
    "patient_kan": PatientKAN,
}
"""Model for new patients → class."""

ALL_MODELS: Final[dict[str, type[BeatClassifier] | type[PatientMLP] | type[PatientKAN]]] = {**PATIENT_MODELS, **MODELS}
"""Every model that ships, the default first."""

Classifier = BeatClassifier | PatientClassifier
"""Either kind of model."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A loaded model and what is known of it.

    Attributes
    ----------
    name : str
        `cnn_mlp`, `cnn_kan`, `patient_mlp` or `patient_kan`.
    model : BeatClassifier or PatientClassifier
        In eval mode, on the CPU.
    classes : tuple of str
        Class letters in index order.
    preprocessing : dict
        Sampling rate, window and normalization of the model's input.
    protocol : str
        Protocol it was trained by, such as `random-split`; "unknown" for foreign weights.
    temperature : float
        Divides the logits before the softmax, so that probabilities are calibrated; 1 if not fitted.
    training : dict
        Recipe, seed, selected epoch, validation figures and history, as far as known.
    arguments : dict
        Keyword arguments the model was built with beyond the number of classes.
    sha256 : str
        Of the file.
    path : Path
        Where it was read from.
    """

    name: str
    model: Classifier
    classes: tuple[str, ...]
    preprocessing: dict[str, Any]
    protocol: str
    temperature: float
    training: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    path: Path = Path()

    @property
    def beat_model(self) -> BeatClassifier:
        """The model, if it is one of single beats.

        Raises
        ------
        CheckpointError
            If it is one for new patients, which looks at more than a beat.
        """
        if isinstance(self.model, PatientClassifier):
            raise CheckpointError(
                f"{self.path}: {self.name} looks at beats in their context, here single beats are asked for; use "
                f"{' or '.join(MODELS)}, or `ecgkan classify` for recordings"
            )
        return self.model


def load_model(name_or_path: str | Path) -> Classifier:
    """Return a trained model in eval mode.

    Parameters
    ----------
    name_or_path : str or path
        A shipped model (`patient_kan`, `patient_mlp`, `cnn_kan`, `cnn_mlp`) or a checkpoint file.

    Returns
    -------
    BeatClassifier or PatientClassifier
        The first takes z-scored windows `[batch, 1, 256]`, the second a beat's context
        (`ecgkan.data.context.BeatContext`); both return logits `[batch, 5]`, class order N S V F Q.

    Raises
    ------
    DataNotFoundError, CheckpointError
        See `load_checkpoint`.
    """
    return load_checkpoint(name_or_path).model


def load_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Read a checkpoint: ours, or a bare `{"model_state": ...}` such as the published reference's.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    CheckpointError
        If it is damaged, carries pickled code, or its weights fit neither model.
    """
    path = find_model_file(name_or_path, ".pth")
    contents = _read(path)
    state = contents["model_state"]
    name = contents.get("name") or _guess_model(state, path)
    if name not in ALL_MODELS:
        raise CheckpointError(f"{path}: unknown model {name!r}; expected one of {', '.join(ALL_MODELS)}")
    model = _build(name, contents.get("arguments", {}), state, path)
    return Checkpoint(
        name=name,
        model=model,
        classes=tuple(contents.get("classes", CLASSES)),
        preprocessing=dict(contents.get("preprocessing", expected_preprocessing(name))),
        protocol=str(contents.get("protocol", "unknown")),
        temperature=float(contents.get("temperature", 1.0)),
        training=dict(contents.get("training", {})),
        arguments=dict(contents.get("arguments", {})),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        path=path,
    )


def save_checkpoint(
    path: Path,
    *,
    name: str,
    model: Classifier,
    protocol: str,
    temperature: float,
    training: dict[str, Any],
    arguments: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint under a temporary name, then rename it to `path`.

    Parameters
    ----------
    arguments : dict, optional
        Keyword arguments the model was built with beyond the number of classes.
    training : dict
        Plain numbers, strings, lists and dictionaries only.
    """
    contents = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "arguments": arguments or {},
        "model_state": {key: value.detach().cpu().clone() for key, value in model.state_dict().items()},
        "classes": list(CLASSES),
        "preprocessing": expected_preprocessing(name),
        "protocol": protocol,
        "temperature": float(temperature),
        "training": training,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            torch.save(contents, stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".onnx":
        raise CheckpointError(
            f"{path} is a model for ONNX Runtime, here its PyTorch weights are needed: give the checkpoint it was made "
            "from (.pth)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats; what matters is raised
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was not loaded: it holds pickled objects beyond tensors and plain values, which could run code "
            "when opened; ask its author for a checkpoint that loads with torch.load(..., weights_only=True)"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError, OSError and others on damaged files
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}); it may be damaged or cut short: "
            "fetch it again"
        ) from error
    if not isinstance(contents, dict) or not isinstance(contents.get("model_state"), dict):
        raise CheckpointError(f"{path} holds no dictionary with the key 'model_state'; expected an ecgkan checkpoint")
    if contents.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {contents['format_version']}, this version reads up to {FORMAT_VERSION}; "
            "upgrade ecgkan"
        )
    return contents


def _guess_model(state: dict[str, Any], path: Path) -> str:
    if "encoder.profile" in state:
        return "patient_kan" if any(key.startswith("kan_head.") for key in state) else "patient_mlp"
    if any(key.startswith("kan_head.") for key in state):
        return "cnn_kan"
    if any(key.startswith("classifier.") for key in state):
        return "cnn_mlp"
    raise CheckpointError(f"{path}: its weights belong to neither model (no keys kan_head.* or classifier.*)")


def _build(name: str, arguments: dict[str, Any], state: dict[str, Any], path: Path) -> Classifier:
    try:
        model = ALL_MODELS[name](num_classes=len(CLASSES), **arguments)
        model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its weights do not fit {ALL_MODELS[name].__name__}: {error}") from error
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise CheckpointError(f"{path}: its weights hold NaN or infinite values; training diverged or the file is bad")
    return model.eval()
