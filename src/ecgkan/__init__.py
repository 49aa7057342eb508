"""ecgkan: heartbeats in ECG recordings, classified into the five AAMI classes."""

from typing import TYPE_CHECKING, Any

from ecgkan.aami import CLASSES

if TYPE_CHECKING:
    from ecgkan.data.beats import Beats, cut_beats
    from ecgkan.data.recording import Recording, read_annotations, read_recording
    from ecgkan.inference.annotation import BeatAnnotations
    from ecgkan.inference.classifier import classify
    from ecgkan.models.checkpoint import load_checkpoint, load_model
    from ecgkan.models.cnn import ECGCNN
    from ecgkan.models.cnn_kan import ECGCNNWithKAN

__version__ = "0.1.0"

_ROOMS = {
    "BeatAnnotations": "ecgkan.inference.annotation",
    "Beats": "ecgkan.data.beats",
    "ECGCNN": "ecgkan.models.cnn",
    "ECGCNNWithKAN": "ecgkan.models.cnn_kan",
    "Recording": "ecgkan.data.recording",
    "classify": "ecgkan.inference.classifier",
    "cut_beats": "ecgkan.data.beats",
    "load_checkpoint": "ecgkan.models.checkpoint",
    "load_model": "ecgkan.models.checkpoint",
    "read_annotations": "ecgkan.data.recording",
    "read_recording": "ecgkan.data.recording",
}

__all__ = [
    "CLASSES",
    "ECGCNN",
    "BeatAnnotations",
    "Beats",
    "ECGCNNWithKAN",
    "Recording",
    "__version__",
    "classify",
    "cut_beats",
    "load_checkpoint",
    "load_model",
    "read_annotations",
    "read_recording",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name from its room on first use, so that `import ecgkan` stays light (no torch)."""
    if name in _ROOMS:
        from importlib import import_module

        return getattr(import_module(_ROOMS[name]), name)
    raise AttributeError(f"module 'ecgkan' has no attribute {name!r}")
