"""What computes a model: PyTorch from its checkpoint, or ONNX Runtime from its exported form."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ecgkan.errors import DataError, DataNotFoundError
from ecgkan.models.shipped import SHIPPED_NAMES

if TYPE_CHECKING:
    from ecgkan.models.checkpoint import Checkpoint
    from ecgkan.models.onnx_model import OnnxModel

Backend = Literal["torch", "onnx"]

BACKENDS: Final = ("torch", "onnx")


def choose_backend(model: str | Path, backend: str | None) -> Backend:
    """Say what computes a model: what was asked for, else ONNX Runtime for all that has no checkpoint of its own.

    Parameters
    ----------
    model : str or path
        A shipped model, a checkpoint (.pth) or an exported model (.onnx).
    backend : str, optional
        `torch` or `onnx`; by default `onnx` for shipped and for exported models, `torch` for checkpoints.

    Raises
    ------
    DataError
        If there is no such backend, or it cannot read the file.
    """
    exported = Path(model).suffix == ".onnx"
    if backend not in (None, *BACKENDS):
        raise DataError(f"unknown backend {backend!r}; expected {' or '.join(BACKENDS)}")
    if backend == "torch" and exported:
        raise DataError(f"{model} is computed by ONNX Runtime; leave out the backend, or give its checkpoint (.pth)")
    if backend == "torch":
        return "torch"
    return "onnx" if backend == "onnx" or exported or str(model) in SHIPPED_NAMES else "torch"


def load_for(model: str | Path, backend: str | None = None, *, threads: int | None = None) -> "Checkpoint | OnnxModel":
    """Load a model for a backend; with `onnx` PyTorch is not imported.

    Parameters
    ----------
    model, backend
        See `choose_backend`. A checkpoint runs on ONNX Runtime if its exported form, of the same name, lies beside it.
    threads : int, optional
        Threads of ONNX Runtime; those of PyTorch are set for the whole process.

    Raises
    ------
    DataError, DataNotFoundError, CheckpointError
        See `choose_backend` and the loaders.
    """
    if choose_backend(model, backend) == "torch":
        from ecgkan.models.checkpoint import load_checkpoint

        return load_checkpoint(model)
    from ecgkan.models.onnx_model import load_onnx_model

    if str(model) in SHIPPED_NAMES:
        return load_onnx_model(model, threads=threads)
    exported = Path(model).expanduser().with_suffix(".onnx")
    if Path(model).expanduser().is_file() and not exported.is_file():
        raise DataNotFoundError(
            f"{model} has no exported form {exported.name} beside it; make it with `ecgkan export {model} --out "
            f"{exported}`, or leave out --backend onnx"
        )
    return load_onnx_model(exported if exported.is_file() else model, threads=threads)


def weights_sha256(model: "Checkpoint | OnnxModel") -> str:
    """Return the hash of a model's weights: that of the checkpoint, also for what was exported from it."""
    from ecgkan.models.onnx_model import OnnxModel

    return model.weights_sha256 if isinstance(model, OnnxModel) else model.sha256
