"""Train the QRS detector on the training records (DS1), with noise added; DS2 is never read here."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ecgkan.data.mitdb import DS1, database_dir
from ecgkan.data.qrs import DECIMATION, DETECTOR_FS, lowpass
from ecgkan.data.recording import read_annotations, read_recording
from ecgkan.data.rpeaks import reference_rpeaks
from ecgkan.errors import OutputExistsError
from ecgkan.evaluation.ec57 import flutter_episodes
from ecgkan.models.qrs import QRSTrainingNetwork, to_onnx

STEPS: Final = 6000
SEED: Final = 2
BATCH: Final = 32
CROP_S: Final = 16.0
LEARNING_RATE: Final = 3e-3
BEAT_WEIGHT: Final = 3.0
"""Weight of the steps near a beat in the loss: there are fewer of them."""

STEP_FS: Final = DETECTOR_FS / DECIMATION
TARGET_STEPS: Final = 1.0
"""Standard deviation of the bump that marks a beat, in steps of 11 ms."""

NOISES: Final = ("bw", "ma")
"""Noise records of the noise stress database used in training; `em` is kept for testing."""

Array = NDArray[np.float32]


class Lead(NamedTuple):
    """One lead of a training record.

    Attributes
    ----------
    signal, other : ndarray
        `[n]` float32, mV, 360 Hz, low-pass filtered: the lead, and the record's other one.
    beats : ndarray
        `[m]` int64, samples of the reference beats.
    flutter : list of (int, int)
        Episodes without beat annotations.
    qrs_mv : float
        Median peak-to-peak amplitude of its QRS complexes.
    weight : float
        How often it is drawn: the second lead half as often as the first.
    """

    signal: Array
    other: Array
    beats: NDArray[np.int64]
    flutter: list[tuple[int, int]]
    qrs_mv: float
    weight: float


def read_leads(database: Path, records: Sequence[str]) -> list[Lead]:
    """Read both leads of training records with their reference beats."""
    leads = []
    for record in records:
        recording, reference = read_recording(database / record), read_annotations(database / record, "atr")
        beats = reference_rpeaks(reference)
        signals = [lowpass(np.nan_to_num(recording.signals[:, column])) for column in (0, 1)]
        for signal, other, weight in ((signals[0], signals[1], 1.0), (signals[1], signals[0], 0.5)):
            heights = [np.ptp(signal[max(0, beat - 18) : beat + 18]) for beat in beats]
            leads.append(Lead(signal, other, beats, flutter_episodes(reference), float(np.median(heights)), weight))
    return leads


def read_noise(database: Path) -> list[Array]:
    """Read both channels of the noise records: `[n]` float32 each, 360 Hz, low-pass filtered, mean zero."""
    channels = []
    for name in NOISES:
        recording = read_recording(database / name)
        for column in (0, 1):
            noise = lowpass(recording.signals[:, column])
            channels.append(noise - noise.mean())
    return channels


class NoisyCrops:
    """Draws training crops: a stretch of a lead, changed and disturbed as recordings elsewhere are.

    Parameters
    ----------
    leads, noise
        From `read_leads` and `read_noise`.
    seed : int
        What everything is drawn from.
    """

    def __init__(self, leads: Sequence[Lead], noise: Sequence[Array], seed: int) -> None:
        self.leads, self.noise = leads, noise
        self.rng = np.random.default_rng(seed)
        weights = np.array([lead.weight for lead in leads])
        self.shares = weights / weights.sum()
        self.steps = int(CROP_S * STEP_FS)

    def batch(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return leads `[size, 1, n]` in mV at 90 Hz, targets `[size, n]`, and which steps count `[size, n]`."""
        x, target, counts = zip(*[self.crop() for _ in range(size)], strict=True)
        return (
            torch.from_numpy(np.stack(x)).unsqueeze(1),
            torch.from_numpy(np.stack(target)),
            torch.from_numpy(np.stack(counts)),
        )

    def crop(self) -> tuple[Array, Array, Array]:
        """Return one crop, its target and which of its steps count, `[n]` float32 each."""
        rng, steps = self.rng, self.steps
        lead = self.leads[rng.choice(len(self.leads), p=self.shares)]
        stride = DECIMATION * (float(np.exp(rng.uniform(-0.25, 0.25))) if rng.random() < 0.7 else 1.0)
        start = rng.uniform(0, len(lead.signal) - steps * stride - 1)
        x = _read(lead.signal, start, stride, steps)
        if rng.random() < 0.4:  # as if the electrodes sat elsewhere: shapes that no record has
            x = x + np.float32(rng.uniform(-0.5, 0.5)) * _read(lead.other, start, stride, steps)
        low, high = np.searchsorted(lead.beats, [start - 40, start + steps * stride + 40])
        beats = (lead.beats[low:high] - start) / stride
        counts = np.ones(steps, np.float32)
        for first, last in lead.flutter:
            counts[_clipped((first - start) / stride, steps) : _clipped((last - start) / stride + 1, steps)] = 0
        if rng.random() < 0.2:
            x, beats = self._pause(x, beats)
        x = self._disturb(self._modulate(self._narrow(x)), lead.qrs_mv, beats)
        return x.astype(np.float32), _target(beats, steps), counts

    def _pause(self, x: Array, beats: NDArray[np.floating]) -> tuple[Array, NDArray[np.floating]]:
        """Take some beats in a row away, from QRS complex to T wave: P waves that nothing follows."""
        if len(beats) < 4:
            return x, beats
        first = int(self.rng.integers(1, len(beats) - 2))
        last = min(first + int(self.rng.integers(1, 6)), len(beats) - 1)
        for i in range(first, last):
            length = min(0.45 * STEP_FS, 0.6 * (beats[i + 1] - beats[i]))
            start, stop = _clipped(beats[i] - 0.07 * STEP_FS, len(x)), _clipped(beats[i] + length, len(x))
            if stop - start > 1:
                x[start:stop] = np.linspace(x[start], x[stop - 1], stop - start)
        return x, np.delete(beats, slice(first, last))

    def _narrow(self, x: Array) -> Array:
        """Take low and high frequencies away, as other recorders' filters do."""
        if self.rng.random() >= 0.3:
            return x
        frequencies = np.fft.rfftfreq(len(x), 1 / STEP_FS)
        low_hz, high_hz = self.rng.uniform(0.05, 2), self.rng.uniform(12, 40)
        gain = 1 / (1 + (frequencies / high_hz) ** 4) * frequencies**2 / (frequencies**2 + low_hz**2)
        return np.fft.irfft(np.fft.rfft(x) * gain, len(x)).astype(np.float32)

    def _modulate(self, x: Array) -> Array:
        """Let the amplitude drift, as with breathing and movement."""
        if self.rng.random() >= 0.3:
            return x
        gains = np.exp(self.rng.normal(0, 0.35, 6))
        times_s = np.arange(len(x), dtype=np.float32) / STEP_FS
        return np.asarray(x * np.interp(times_s, np.linspace(0, len(x) / STEP_FS, 6), gains).astype(np.float32))

    def _disturb(self, x: Array, qrs_mv: float, beats: NDArray[np.floating]) -> Array:
        rng, steps = self.rng, len(x)
        times_s = np.arange(steps, dtype=np.float32) / STEP_FS
        if rng.random() < 0.75:
            x = x + self._noise(steps, qrs_mv)
        if rng.random() < 0.25:  # white noise
            x = x + (qrs_mv * rng.uniform(0, 0.15) * rng.normal(size=steps)).astype(np.float32)
        if rng.random() < 0.2:  # breathing
            swing = rng.uniform(0, 2) * np.sin(2 * np.pi * rng.uniform(0.05, 0.6) * times_s + rng.uniform(0, 6))
            x = x + (qrs_mv * swing).astype(np.float32)
        if rng.random() < 0.06:  # a pacemaker's spikes
            ahead, height = rng.uniform(2, 9), qrs_mv * rng.uniform(0.2, 1.5) * rng.choice([-1, 1])
            for beat in beats:
                if 0 <= int(beat - ahead) < steps - 1:
                    x[int(beat - ahead)] += height
        if rng.random() < 0.3:
            x = -x
        x = x * np.float32(np.exp(rng.normal(0, 0.5)))
        if rng.random() < 0.05:  # a lead that drops out
            first = rng.integers(0, steps - 90)
            x[first : first + rng.integers(20, 200)] = x[first]
        return x

    def _noise(self, steps: int, qrs_mv: float) -> Array:
        """Draw recorded noise, made-up artefacts, coloured noise, or several, at -10 to 18 dB.

        Half the time in a part of the crop only.
        """
        rng = self.rng
        noise = np.zeros(steps, np.float32)
        kind = rng.random()
        if rng.random() < 0.3:
            coloured = self.coloured(steps)
            noise += coloured / (coloured.std() + 1e-6) * rng.uniform(0.3, 1.5)
        if kind < 0.45 or kind > 0.85:
            recorded = self.noise[int(rng.integers(len(self.noise)))]
            stride = DECIMATION * float(np.exp(rng.uniform(-0.4, 0.4)))
            first = rng.uniform(0, len(recorded) - steps * stride - 2)
            piece = recorded[(first + np.arange(steps) * stride).astype(np.int64)]
            noise += piece / (piece.std() + 1e-6)
        if kind >= 0.45:
            artefacts = self.artefacts(steps)
            noise += artefacts / (artefacts.std() + 1e-6) * rng.uniform(0.5, 1.5)
        noise /= noise.std() + 1e-6
        # The noise stress test's own definition: the signal's power is that of a sine of the QRS complexes' height.
        amplitude = np.sqrt(qrs_mv**2 / 8 / 10 ** (rng.uniform(-10, 18) / 10))
        if rng.random() < 0.5:
            here = np.arange(steps, dtype=np.float32)
            first, last = np.sort(rng.uniform(0, steps, 2))
            noise = noise / (1 + np.exp(-(here - first) / 15)) / (1 + np.exp((here - last) / 15))
        return np.asarray(amplitude * noise * rng.choice([-1, 1]), dtype=np.float32)

    def coloured(self, steps: int) -> Array:
        """Draw noise of a random band between 0.3 and 15 Hz, where QRS complexes have their power."""
        low_hz, high_hz = np.sort(np.exp(self.rng.uniform(np.log(0.3), np.log(15), 2)))
        frequencies = np.fft.rfftfreq(steps, 1 / STEP_FS)
        gain = 1 / (1 + (frequencies / high_hz) ** 4) * frequencies**2 / (frequencies**2 + low_hz**2)
        spectrum = np.fft.rfft(self.rng.normal(size=steps)) * gain
        return np.fft.irfft(spectrum, steps).astype(np.float32)

    def artefacts(self, steps: int) -> Array:
        """Draw bumps, swings and steps that decay, 15 to 600 ms wide: what a moved electrode does."""
        rng = self.rng
        times_s = np.arange(steps, dtype=np.float32) / STEP_FS
        artefacts = np.zeros(steps, np.float32)
        for _ in range(rng.poisson(rng.uniform(1, 14))):
            centre_s, width_s = rng.uniform(0, steps) / STEP_FS, np.exp(rng.uniform(np.log(0.015), np.log(0.6)))
            height, kind, u = rng.normal(), rng.integers(3), (times_s - centre_s) / width_s
            if kind == 0:
                shape = np.exp(-0.5 * u * u)
            elif kind == 1:
                shape = -u * np.exp(-0.5 * u * u) * 1.6
            else:
                shape = np.where(u > 0, np.exp(-np.abs(u) / rng.uniform(1, 8)), np.exp(-np.abs(u) * 3))
            artefacts += (height * shape).astype(np.float32)
        return artefacts


def train_detector(
    data_dir: Path | None = None,
    *,
    records: Sequence[str] = DS1,
    steps: int = STEPS,
    seed: int = SEED,
    report: Callable[[int, float, float], None] | None = None,
) -> QRSTrainingNetwork:
    """Train the detector and return its network, averaged over the last steps, in evaluation mode.

    Parameters
    ----------
    data_dir : path, optional
        Folder of the databases `mitdb` and `nstdb`.
    records : sequence of str
        Training records; DS1 by default.
    steps, seed : int
        Length of the training, and what it is drawn from.
    report : callable, optional
        Called every 100 steps with the step, the mean loss since, and the seconds passed.
    """
    torch.manual_seed(seed)
    network = QRSTrainingNetwork()
    leads = read_leads(database_dir("mitdb", data_dir), records)
    crops = NoisyCrops(leads, read_noise(database_dir("nstdb", data_dir)), seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.15)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.997), use_buffers=True)  # type: ignore[no-untyped-call]
    started, losses = time.monotonic(), []
    for step in range(1, steps + 1):
        x, target, counts = crops.batch(BATCH)
        loss = detection_loss(network(x), target, counts)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        losses.append(loss.item())
        if report and (step % 100 == 0 or step == steps):
            report(step, float(np.mean(losses)), time.monotonic() - started)
            losses.clear()
    return cast(QRSTrainingNetwork, averaged.module.eval())


def train_to_file(
    out: Path,
    data_dir: Path | None = None,
    *,
    seed: int = SEED,
    steps: int = STEPS,
    overwrite: bool = False,
    report: Callable[[int, float, float], None] | None = None,
) -> None:
    """Train the detector and write it as an ONNX file; see `train_detector`.

    Raises
    ------
    OutputExistsError
        If the file exists and `overwrite` is False; before anything is trained.
    """
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} exists and was left as it is; use --overwrite, or another file")
    network = train_detector(data_dir, seed=seed, steps=steps, report=report)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.stem}.{os.getpid()}.part.onnx")
    temporary.write_bytes(to_onnx(network))
    temporary.replace(out)


def detection_loss(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over the steps that count; all `[batch, n]`."""
    weight = torch.tensor(BEAT_WEIGHT, device=logits.device)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=weight)
    return (loss * counts).mean()


def _read(signal: Array, start: float, stride: float, steps: int) -> Array:
    """Read `steps` values from `start` on, `stride` samples apart, between samples by a straight line."""
    places = start + np.arange(steps) * stride
    whole = places.astype(np.int64)
    part = (places - whole).astype(np.float32)
    return np.asarray(signal[whole] * (1 - part) + signal[whole + 1] * part, dtype=np.float32)


def _target(beats: NDArray[np.floating], steps: int) -> Array:
    target = np.zeros(steps, np.float32)
    here = np.arange(steps, dtype=np.float32)
    for beat in beats:
        near = slice(_clipped(int(beat) - 6, steps), _clipped(int(beat) + 8, steps))
        bump = np.exp(-0.5 * ((here[near] - beat) / TARGET_STEPS) ** 2)
        target[near] = np.maximum(target[near], bump)
    return target


def _clipped(place: float, steps: int) -> int:
    return int(np.clip(place, 0, steps))
