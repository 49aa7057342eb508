"""Training the QRS detector: what a crop holds, and a few steps end to end."""

import numpy as np
import pytest
import torch

from ecgkan.data.mitdb import DS1, DS2
from ecgkan.data.qrs import beat_likelihood, load_network
from ecgkan.errors import OutputExistsError
from ecgkan.training.detector import (
    NOISES,
    TARGET_STEPS,
    Lead,
    NoisyCrops,
    detection_loss,
    read_leads,
    train_detector,
    train_to_file,
)


def lead_of_spikes(flutter: list[tuple[int, int]]) -> Lead:
    beats = np.arange(300, 359_000, 300)
    signal = np.zeros(360_000, np.float32)
    signal[beats] = 1.0
    return Lead(signal, signal, beats, flutter, qrs_mv=1.0, weight=1.0)


def crops(flutter: list[tuple[int, int]], seed: int = 0) -> NoisyCrops:
    noise = np.random.default_rng(9).normal(size=200_000).astype(np.float32)
    return NoisyCrops([lead_of_spikes(flutter)], [noise], seed)


def test_the_same_seed_draws_the_same_crops():
    first, second, other = crops([], 3).batch(4), crops([], 3).batch(4), crops([], 4).batch(4)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])


def test_a_crop_marks_its_beats_and_counts_everywhere_but_in_flutter():
    x, target, counts = crops([]).batch(16)
    assert x.shape == (16, 1, 1440) and target.shape == counts.shape == (16, 1440)
    assert bool(torch.isfinite(x).all())
    assert 0.97 < float(target.max()) <= 1.0
    marked = target.sum(dim=1) / (TARGET_STEPS * np.sqrt(2 * np.pi))  # the area of one bump
    assert float(marked.median()) == pytest.approx(16 / (300 / 360), rel=0.25)
    assert bool((counts == 1).all())
    assert not crops([(0, 360_000)]).batch(4)[2].any()


def test_steps_that_do_not_count_do_not_move_the_loss():
    logits, target = torch.zeros(1, 8), torch.zeros(1, 8)
    counts = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0, 0]])
    changed = logits.clone()
    changed[0, 4:] = 5.0
    assert detection_loss(logits, target, counts) == detection_loss(changed, target, counts)


def test_training_reads_ds1_and_never_the_noise_kept_for_testing(data_dir):
    assert not set(DS1) & set(DS2)
    assert "em" not in NOISES
    leads = read_leads(data_dir / "mitdb", ["207"])
    assert [lead.weight for lead in leads] == [1.0, 0.5]
    assert len(leads[0].flutter) == 6
    assert 0.3 < leads[0].qrs_mv < 5


def test_a_few_steps_write_weights_that_load(data_dir, tmp_path):
    out = tmp_path / "network.onnx"
    train_to_file(out, data_dir, steps=2)
    assert np.isfinite(beat_likelihood(np.zeros(360), network=load_network(out))).all()
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]
    with pytest.raises(OutputExistsError, match="overwrite"):
        train_to_file(out, data_dir, steps=2)


def test_the_same_seed_trains_the_same_weights(data_dir):
    first, second = (train_detector(data_dir, records=["101"], steps=2, seed=5).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
