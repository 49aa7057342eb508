"""Checkpoints with random weights: what these tests check does not depend on how good a model is."""

from pathlib import Path

import pytest
import torch

from ecgkan.data.beats import cut_beats
from ecgkan.data.embedded import embedded_recording
from ecgkan.data.rpeaks import detect_rpeaks
from ecgkan.models.checkpoint import MODELS, save_checkpoint
from ecgkan.models.cnn import BeatClassifier


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Model name → checkpoint file, with temperatures that are not 1."""
    folder = tmp_path_factory.mktemp("checkpoints")
    files = {}
    for name, temperature in (("cnn_mlp", 1.7), ("cnn_kan", 0.8)):
        files[name] = folder / f"{name}.pth"
        model = _model_that_tells_beats_apart(name)
        save_checkpoint(
            files[name], name=name, model=model, protocol="random-split", temperature=temperature, training={}
        )
    return files


def _model_that_tells_beats_apart(name: str) -> BeatClassifier:
    """Random weights; the running statistics of real beats, without which every beat gets nearly the same answer."""
    signal = embedded_recording().signals[:, 0]
    beats = torch.from_numpy(cut_beats(signal, detect_rpeaks(signal, 360.0)[:64], edges="pad").model_input())
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        model = MODELS[name](num_classes=5)
        for _ in range(12):
            model(beats)
    return model.eval()
