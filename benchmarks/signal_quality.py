"""How much of a recording is marked as not readable: clean records, and records with noise added at known ratios.

    python benchmarks/signal_quality.py [clean] [added] [stress] [inverted] [alike]

`clean`: each record of DS1, of DS2 and of patients with a pacemaker as it is. `added`: DS1 records with baseline wander
(`bw`) and muscle noise (`ma`) of the noise stress database, and with made-up movement. The thresholds were chosen on
DS1, clean and with noise like these. `stress`: records 118e* and 119e*, which hold electrode motion noise and chose
nothing. `inverted`: every lead turned round. `alike`: how alike the beats of DS1 are, which excuses the detector's
doubt, and how many made-up artefacts that repeat are read. Needs the databases (ECGKAN_DATA).
"""

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ecgkan.data.blocks import read_blocks
from ecgkan.data.mitdb import DS1, DS2, PACED_RECORDS, database_dir
from ecgkan.data.quality import READABLE, _measure, _Seconds, assess_quality, is_inverted
from ecgkan.data.recording import Recording, read_annotations, read_recording
from ecgkan.data.rpeaks import BlockDetector, reference_rpeaks

SNRS = (24, 18, 12, 6, 0, -6)


def main() -> None:
    chosen = sys.argv[1:] or ["clean", "added", "stress", "inverted", "alike"]
    for name in chosen:
        {"clean": clean, "added": added, "stress": stress, "inverted": inverted, "alike": alike}[name]()


def clean() -> None:
    for title, records in (("DS1", DS1), ("DS2", DS2), ("paced", PACED_RECORDS)):
        shares: dict[str, float] = {}
        reasons: dict[str, float] = {}
        total = 0.0
        for record in records:
            marked, said, _ = look(_lead(record))
            shares[record] = 100 * marked.mean()
            total += marked.mean() / len(records)
            for reason, seconds in said.items():
                reasons[reason] = reasons.get(reason, 0.0) + seconds
        some = ", ".join(f"{record} {share:.2f} %" for record, share in shares.items() if share)
        named = ", ".join(f"{reason} {seconds:.0f} s" for reason, seconds in reasons.items())
        print(f"{title}: {100 * total:.3f} % marked ({some or 'none'}); {named or 'nothing'}", flush=True)


def added() -> None:
    """Ten minutes of each DS1 record, noise in minutes 3, 4, 7 and 8: marked with noise and without, percent."""
    print("| noise | " + " | ".join(f"{snr} dB" for snr in SNRS) + " |")
    print("|---|" + "---|" * len(SNRS))
    noises = {kind: read_recording(database_dir("nstdb") / kind).signals[:, 0] for kind in ("bw", "ma")}
    for kind, noise in (noises | {"movement": movement(650_000)}).items():
        cells = []
        for snr in SNRS:
            inside, outside = [], []
            for k, record in enumerate(DS1):
                recording = _lead(record)
                on = _noisy_minutes(recording.n_samples, first_s=120.0)[: 600 * 360]
                signal = recording.signals[: len(on), 0].copy()
                rpeaks = reference_rpeaks(read_annotations(database_dir("mitdb") / record, "atr"))
                gain = qrs_amplitude(signal, rpeaks) / noise_amplitude(noise) / np.sqrt(8) * 10 ** (-snr / 20)
                signal += np.where(on, gain * np.roll(noise, -k * 12_345)[: len(on)], 0.0)
                marked, _, _ = look(_recording(record, signal))
                inside.append(marked[on].mean())
                outside.append(marked[~on].mean())
            cells.append(f"{100 * np.mean(inside):.1f} / {100 * np.mean(outside):.1f} %")
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


def stress() -> None:
    print("| record | " + " | ".join(f"{snr} dB" for snr in SNRS) + " |")
    print("|---|" + "---|" * len(SNRS))
    for record in ("118", "119"):
        cells = []
        for snr in SNRS:
            name = f"{record}e{'_6' if snr < 0 else f'{snr:02d}'}"
            recording = read_recording(database_dir("nstdb") / name, channels=[0])
            marked, _, _ = look(recording)
            on = _noisy_minutes(recording.n_samples, first_s=300.0)
            cells.append(f"{100 * marked[on].mean():.1f} / {100 * marked[~on].mean():.1f} %")
        print(f"| {record}e | " + " | ".join(cells) + " |", flush=True)


def movement(n: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Make up `[n]` samples at 360 Hz of what electrodes do on one who moves in time: bouts of swings and jerks."""
    rng, steps, start = np.random.default_rng(seed), -(-n // 4), 0  # at 90 Hz
    noise, phases = np.zeros(steps), np.arange(64) / 64
    while start < steps:
        bout_stop, period = min(start + rng.uniform(5, 25) * 90, steps), np.exp(rng.uniform(np.log(40), np.log(117)))
        waves = [rng.normal() / k**0.7 * np.cos(2 * np.pi * (k * phases + rng.random())) for k in range(1, 6)]
        jerk = ((phases - rng.random() + 0.5) % 1 - 0.5) / rng.uniform(0.02, 0.12)
        swing, height = sum(waves) + 3 * rng.normal() * np.exp(-0.5 * jerk**2), rng.lognormal(0, 0.5)
        while start < bout_stop:  # each swing a little longer or shorter, higher or lower than the one before
            length = int(period * np.exp(rng.normal(0, 0.1)))
            values = height * rng.lognormal(0, 0.15) * np.interp(np.arange(length) / length, phases, swing, period=1)
            noise[start : start + length] = values[: steps - start]
            start += length
    movement: NDArray[np.float64] = np.interp(np.arange(n) / 4, np.arange(steps), gaussian_filter1d(noise, 1.5))
    return movement


def inverted() -> None:
    for title, records in (("DS1", DS1), ("DS2", DS2)):
        as_is, turned = [], []
        for record in records:
            recording = _lead(record)
            if look(recording)[2]:
                as_is.append(record)
            if look(_recording(record, -recording.signals[:, 0]))[2]:
                turned.append(record)
        print(f"{title}: as recorded {as_is or 'none'} look inverted, turned round {len(turned)}: {turned}", flush=True)


def alike() -> None:
    measured = [seconds for record in DS1 for seconds in _measured(_lead(record))]
    ends = {
        "shape": np.nanpercentile(np.concatenate([seconds.shape for seconds in measured]), 1),
        "recovery": np.nanpercentile(np.concatenate([seconds.recovery for seconds in measured]), 1),
        "stray": np.percentile(np.concatenate([seconds.stray for seconds in measured]), 99),
    }
    print("99 % of DS1:", ", ".join(f"{name} to {end:.3f}" for name, end in ends.items()), flush=True)
    marked, changed, recovery = [], list[str](), [0.0]
    for name, signal in repeating():
        (seconds,) = _measured(_recording(name, signal))
        doubted = seconds._replace(stray=np.ones_like(seconds.stray))  # which nothing excuses
        marked.append(look(_recording(name, signal))[0].mean() > 0.5)
        if np.count_nonzero((seconds.worst() >= READABLE) & (doubted.worst() < READABLE)) > 0.5 * len(seconds.stray):
            changed.append(name)
        if name.startswith(("pulse 0.1 ", "decay", "saw")):  # of one edge: no other is where a T wave would be
            recovery.append(np.nan_to_num(np.nanmedian(seconds.recovery)))
    print(
        f"{len(marked)} artefacts that repeat: {sum(marked)} marked, {len(changed)} with most doubt excused {changed}"
    )
    print(f"recovery of those of one edge, medians: to {max(recovery):.3f}")


def _measured(recording: Recording) -> Iterator[_Seconds]:
    detector = BlockDetector()
    for block in read_blocks(recording, 0):
        detected = detector.detect(block)
        yield _measure(block.at_360, block.positions_at_360(detected.seen), detected.likelihood)


def repeating() -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield names and signals `[43_200]` at 360 Hz, two minutes of what is no heart's and repeats, each with noise."""
    t = np.arange(43_200) / 360
    white = np.random.default_rng(1).normal(size=len(t))
    for noise in (0.005, 0.02, 0.05):
        for period in (1.0, 0.8, 0.6):
            phase = t % period
            for width in (0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
                for edge in (1, 4, 8):
                    pulse = gaussian_filter1d(1.0 * (phase < width), edge)
                    yield f"pulse {width} s / {period} s, edge {edge}, noise {noise}", pulse + noise * white
            for decay in (0.02, 0.05, 0.1, 0.2, 0.4):
                yield f"decay {decay} s / {period} s, noise {noise}", np.exp(-phase / decay) + noise * white
            yield f"saw {period} s, noise {noise}", phase / period + noise * white
        for hz in (0.5, 0.8, 1.0, 1.2, 1.5, 1.8, 2.0, 2.5):
            for edge in (1, 4, 8):
                square = gaussian_filter1d(0.5 * np.sign(np.sin(2 * np.pi * hz * t)), edge)
                yield f"square {hz} Hz, edge {edge}, noise {noise}", square + noise * white
        for hz in (0.7, 1.0, 1.5, 2.0):
            yield f"half sine {hz} Hz, noise {noise}", np.maximum(np.sin(2 * np.pi * hz * t), 0) + noise * white
        for hz in (50.0, 60.0):
            yield f"hum {hz:g} Hz, noise {noise}", 0.3 * np.sin(2 * np.pi * hz * t) + noise * white


def look(recording: Recording) -> tuple[NDArray[np.bool_], dict[str, float], bool]:
    """Return which samples `[n]` are marked, reason → seconds, and whether the lead looks inverted."""
    marked = np.zeros(recording.n_samples, dtype=bool)
    detector, reasons, votes = BlockDetector(), dict[str, float](), list[bool]()
    for block in read_blocks(recording, 0):
        quality = assess_quality(block, detector.detect(block))
        for start, stop, reason in quality.stretches:
            marked[start:stop] = True
            reasons[reason] = reasons.get(reason, 0.0) + (stop - start) / recording.fs
        if quality.inverted is not None:
            votes.append(quality.inverted)
    return marked, reasons, is_inverted(votes, "MLII")


def qrs_amplitude(signal: NDArray[np.float64], rpeaks: NDArray[np.int64]) -> float:
    """Mean peak-to-peak amplitude of the QRS complexes without the 5 % at either end, as WFDB's nst takes it."""
    whole = rpeaks[(rpeaks > 18) & (rpeaks < len(signal) - 36)]
    return _trimmed_mean(np.ptp(signal[whole[:, None] + np.arange(-18, 36)], axis=1))


def noise_amplitude(noise: NDArray[np.float64]) -> float:
    """Root mean square in windows of one second, trimmed alike."""
    seconds = noise[: len(noise) // 360 * 360].reshape(-1, 360)
    return _trimmed_mean(seconds.std(axis=1))


def _trimmed_mean(values: NDArray[np.float64]) -> float:
    cut = len(values) // 20
    return float(np.sort(values)[cut : len(values) - cut].mean())


def _noisy_minutes(n_samples: int, *, first_s: float) -> NDArray[np.bool_]:
    """Two minutes with noise, two without, and so on from `first_s`."""
    time_s = np.arange(n_samples) / 360 - first_s
    return (time_s >= 0) & (time_s % 240 < 120)


def _lead(record: str) -> Recording:
    recording = read_recording(database_dir("mitdb") / record)
    return _recording(record, recording.signals[:, recording.lead_index()])


def _recording(name: str, signal: NDArray[np.float64]) -> Recording:
    return Recording(name=name, signals=signal[:, None], fs=360.0, leads=("MLII",))


if __name__ == "__main__":
    main()
