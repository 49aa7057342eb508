"""Exported models, computed by ONNX Runtime: an ONNX file and what its metadata say. Needs no PyTorch."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import CheckpointError
from ecgkan.models.shipped import SHIPPED_NAMES, find_model_file

METADATA_VERSION: Final = 1
"""Of the metadata that `ecgkan.models.onnx_export.metadata` writes."""


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """An exported model, ready to be run.

    Attributes
    ----------
    name : str
        `cnn_mlp`, `cnn_kan`, `patient_mlp` or `patient_kan`.
    inputs : tuple of str
        Names of its inputs: `beats`, or `windows`, or `shapes` and `rhythm`.
    classes : tuple of str
        Class letters in index order.
    preprocessing : dict
        Sampling rate, window and normalization of the model's input.
    protocol : str
        Protocol it was trained by.
    temperature : float
        Divides the logits before the softmax.
    precision : str
        `float32` or `int8`.
    weights_sha256 : str
        Of the PyTorch checkpoint it was made from: the same weights, the same hash.
    version : str
        Version of ecgkan that made it.
    path : Path
        Where it was read from.
    """

    name: str
    inputs: tuple[str, ...]
    classes: tuple[str, ...]
    preprocessing: dict[str, Any]
    protocol: str
    temperature: float
    precision: str
    weights_sha256: str
    version: str
    path: Path
    _session: Any = field(repr=False)

    def logits(self, *inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map the model's inputs, of n beats, in the order of `inputs`, to logits `[n, 5]`."""
        given = dict(zip(self.inputs, inputs, strict=True))
        (logits,) = self._session.run(["logits"], given)
        return np.asarray(logits, dtype=np.float32)

    def probabilities(self, *inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map the model's inputs, of n beats, in the order of `inputs`, to calibrated probabilities `[n, 5]`."""
        (probabilities,) = self._session.run(["probabilities"], dict(zip(self.inputs, inputs, strict=True)))
        return np.asarray(probabilities, dtype=np.float32)


def load_onnx_model(name_or_path: str | Path, *, threads: int | None = None) -> OnnxModel:
    """Open an exported model.

    Parameters
    ----------
    name_or_path : str or path
        A shipped model, or a file that `ecgkan export` wrote.
    threads : int, optional
        Threads of ONNX Runtime; by default as many as there are cores that this process may use.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    CheckpointError
        If it is damaged, no such model, or was made from other weights than those of the same name beside it (.pth).
    """
    path = find_model_file(name_or_path, ".onnx")
    session = _open(path, threads)
    metadata = _read_metadata(path, session.get_modelmeta().custom_metadata_map)
    model = OnnxModel(
        name=metadata["model"],
        inputs=tuple(given.name for given in session.get_inputs()),
        classes=tuple(metadata["classes"]),
        preprocessing=metadata["preprocessing"],
        protocol=metadata["protocol"],
        temperature=float(metadata["temperature"]),
        precision=metadata["precision"],
        weights_sha256=metadata["weights_sha256"],
        version=metadata["ecgkan_version"],
        path=path,
        _session=session,
    )
    _check_source(model)
    return model


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open(path: Path, threads: int | None) -> Any:  # noqa: ANN401
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between batches the cores read and detect
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: expected a model in ONNX format, got {reason}; make it anew with `ecgkan export`"
        ) from error


_TEXTS: Final = ("model", "protocol", "weights_sha256", "ecgkan_version", "precision", "input")
_VALUES: Final = ("classes", "preprocessing", "temperature", "ecgkan_format")


def _read_metadata(path: Path, found: Mapping[str, str]) -> dict[str, Any]:
    missing = [key for key in (*_TEXTS, *_VALUES) if key not in found]
    if missing:
        raise CheckpointError(
            f"{path}: this ONNX file lacks the metadata {', '.join(missing)} of an ecgkan model; `ecgkan export` makes "
            "one of a checkpoint (.pth)"
        )
    try:
        metadata = {key: found[key] for key in _TEXTS} | {key: json.loads(found[key]) for key in _VALUES}
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{path}: its metadata are damaged ({error}); make it anew with `ecgkan export`"
        ) from error
    if metadata["ecgkan_format"] > METADATA_VERSION:
        raise CheckpointError(
            f"{path} has format {metadata['ecgkan_format']}, this version reads up to {METADATA_VERSION}; upgrade "
            "ecgkan"
        )
    if metadata["model"] not in SHIPPED_NAMES:
        raise CheckpointError(
            f"{path}: unknown model {metadata['model']!r}; expected one of {', '.join(SHIPPED_NAMES)}"
        )
    return metadata


def _check_source(model: OnnxModel) -> None:
    """Refuse a model that does not belong to the PyTorch weights of the same name beside it."""
    source = model.path.with_suffix(".pth")
    if not source.is_file():
        return
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != model.weights_sha256:
        raise CheckpointError(
            f"{model.path} was made from weights {model.weights_sha256[:12]}, but {source.name} beside it holds "
            f"weights {found[:12]}; make it anew: ecgkan export {source} --out {model.path} --overwrite"
        )
