"""Exporting trained models for ONNX Runtime: one to a file, or all that ship beside their checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.beat_table import MARGIN
from ecgkan.data.beats import AFTER, BEFORE
from ecgkan.data.context_table import load_training_context
from ecgkan.data.protocols import load_split
from ecgkan.errors import CheckpointError, DataError
from ecgkan.inference.writing import refuse_existing, replacing
from ecgkan.models.checkpoint import Checkpoint, load_checkpoint
from ecgkan.models.onnx_export import to_onnx
from ecgkan.models.onnx_quantization import to_int8
from ecgkan.models.patient import PatientClassifier
from ecgkan.models.shipped import SHIPPED_NAMES

Precision = Literal["float32", "int8"]

CALIBRATION_BEATS: Final = 2048
"""Training beats over which int8's ranges are taken."""

CALIBRATION_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported model: the file that was written, and what it was made from.

    Attributes
    ----------
    path : Path
        The ONNX file.
    model : str
        Name of the model.
    precision : str
        `float32` or `int8`.
    weights_sha256 : str
        Of the checkpoint.
    size : int
        Bytes.
    """

    path: Path
    model: str
    precision: str
    weights_sha256: str
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "path": str(self.path),
            "model": self.model,
            "precision": self.precision,
            "weights_sha256": self.weights_sha256,
            "bytes": self.size,
        }


def export_to_file(
    name_or_path: str | Path,
    out: Path,
    *,
    precision: Precision = "float32",
    raw: bool = False,
    data_dir: Path | None = None,
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write a trained model as an ONNX file: whole, or not at all.

    Parameters
    ----------
    name_or_path : str or path
        A shipped model or a checkpoint file.
    out : Path
        File to write, `.onnx`.
    precision : {"float32", "int8"}
        int8 needs the databases: ranges are taken over training beats of the model's protocol.
    raw : bool
        Take windows in millivolts; see `ecgkan.models.onnx_export.to_onnx`.
    data_dir : Path, optional
        Folder that holds `mitdb/`.
    overwrite : bool
        Replace what is there.
    announce : callable, optional
        Told what is being done.

    Raises
    ------
    DataError
        If `out` does not end in `.onnx`.
    OutputExistsError
        If it exists and `overwrite` is False.
    DataNotFoundError, CheckpointError
        If the checkpoint, or the database for int8, is missing or unusable.
    """
    if out.suffix != ".onnx":
        raise DataError(
            f"{out}: an exported model is a file that ends in .onnx, got {out.suffix or 'no ending'}; rename it"
        )
    refuse_existing([out], overwrite=overwrite)
    checkpoint = load_checkpoint(name_or_path)
    announce(f"exporting {checkpoint.name}")
    model = to_onnx(checkpoint, raw=raw)
    if precision == "int8":
        announce(f"quantizing {checkpoint.name} on training beats")
        model = to_int8(model, calibration_beats(checkpoint, data_dir, raw=raw))
    with replacing(out, overwrite=overwrite) as temporary:
        temporary.write_bytes(model)
    return Exported(out, checkpoint.name, precision, checkpoint.sha256, len(model))


def export_shipped(
    folder: Path, *, overwrite: bool = False, announce: Callable[[str], None] = lambda _: None
) -> list[Exported]:
    """Write each shipped model's exported form beside its checkpoint in `folder`: `cnn_mlp.pth` → `cnn_mlp.onnx` ...

    Raises
    ------
    OutputExistsError
        If one of the files exists and `overwrite` is False; nothing is written then.
    DataNotFoundError, CheckpointError
        If one of the checkpoints is missing or unusable.
    """
    checkpoints = [folder / f"{name}.pth" for name in SHIPPED_NAMES]
    files = [path.with_suffix(".onnx") for path in checkpoints]
    refuse_existing(files, overwrite=overwrite)
    return [
        export_to_file(checkpoint, file, overwrite=overwrite, announce=announce)
        for checkpoint, file in zip(checkpoints, files, strict=True)
    ]


def calibration_beats(
    checkpoint: Checkpoint, data_dir: Path | None = None, *, raw: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Draw training beats of a model's own protocol, as its exported form takes them: input name → `[n, ...]`.

    Raises
    ------
    CheckpointError
        If the protocol is not known, as of foreign weights.
    """
    rng = np.random.default_rng(CALIBRATION_SEED)
    if isinstance(checkpoint.model, PatientClassifier):
        context = load_training_context(data_dir).model_input()
        drawn = np.sort(rng.choice(len(context), CALIBRATION_BEATS, replace=False))
        return {"shapes": context.shapes[drawn], "rhythm": context.rhythm[drawn]}
    if checkpoint.protocol == "unknown":
        raise CheckpointError(
            f"{checkpoint.path} does not say by which protocol it was trained, so its training beats are not known; "
            "export it with --precision float32"
        )
    split = load_split(checkpoint.protocol, data_dir)
    drawn = np.sort(rng.choice(split.train, CALIBRATION_BEATS, replace=False))
    if raw:
        return {"windows": split.table.windows[drawn, MARGIN : MARGIN + BEFORE + AFTER]}
    return {"beats": split.table.model_input(drawn)}
