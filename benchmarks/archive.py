"""Many recordings: throughput by workers, memory over time, and workers killed in the middle.

    python benchmarks/archive.py [--recordings 1000] [--json FILE] [--only workers|kills]

Makes recordings from the MIT-BIH Arrhythmia Database and the noise stress test database in a temporary folder: pieces
of 20 s to 2 min, at sampling rates from 128 to 1000 Hz, in several formats, under new names. Classifies them with
one worker on one core, with two on two, and again with a worker killed every few seconds (kill -9) under --workers
and under Ray; checks that each recording was done exactly once and in full, and that all runs found the same. Needs
the databases: set ECGKAN_DATA.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import wfdb
from numpy.typing import NDArray
from scipy.signal import resample_poly

from ecgkan.data.mitdb import RECORDS, data_root

FORMATS: Final = ("wfdb 16", "wfdb 16", "wfdb 212", "wfdb 212", "edf", "csv", "npz", "parquet")
RATES_HZ: Final = (128, 200, 250, 257, 360, 500, 1000)
LENGTH_S: Final = (20, 120)
KILL_EVERY_S: Final = 4.0
MOST_KILLS: Final = 10


def make_archive(folder: Path, count: int) -> None:
    """Write recordings cut from the real databases; the same ones each time."""
    rng = random.Random(2)
    sources = [data_root() / "mitdb" / record for record in RECORDS]
    sources += sorted(path.with_suffix("") for path in (data_root() / "nstdb").glob("11?e*.hea"))
    for i in range(count):
        source = sources[i % len(sources)]
        header = wfdb.rdheader(str(source))
        length = round(rng.uniform(*LENGTH_S) * header.fs)
        start = rng.randrange(0, header.sig_len - length)
        record = wfdb.rdrecord(str(source), sampfrom=start, sampto=start + length)
        fs = rng.choice(RATES_HZ)
        signals = resample_poly(record.p_signal, fs, 360, axis=0, padtype="line")
        place = folder / f"ward-{i % 7}" / f"week-{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        write_recording(place, f"p{i:04d}", rng.choice(FORMATS), signals, fs, record.sig_name)


def write_recording(
    folder: Path, name: str, kind: str, signals: NDArray[np.float64], fs: int, leads: list[str]
) -> None:
    """Write signals `[n, leads]` in mV in one of `FORMATS`."""
    if kind.startswith("wfdb"):
        fmt = [kind.split()[1]] * len(leads)
        units = ["mV"] * len(leads)
        wfdb.wrsamp(name, fs=fs, units=units, sig_name=leads, p_signal=signals, fmt=fmt, write_dir=str(folder))
    elif kind == "edf":
        write_edf(folder / f"{name}.edf", signals, fs, leads)
    elif kind == "npz":
        np.savez(folder / f"{name}.npz", signals=signals.astype(np.float32), fs=fs, leads=np.array(leads), units="mV")
    else:
        import pandas as pd

        columns = {"time": np.arange(len(signals)) / fs}
        columns |= {f"{lead} (mV)": signals[:, i].round(4) for i, lead in enumerate(leads)}
        table = pd.DataFrame(columns)
        if kind == "csv":
            table.to_csv(folder / f"{name}.csv", index=False)
        else:
            table.to_parquet(folder / f"{name}.parquet")


def write_edf(path: Path, signals: NDArray[np.float64], fs: int, leads: list[str]) -> None:
    """Write whole seconds as EDF."""
    import edfio

    whole = len(signals) // fs * fs
    edfio.Edf(
        [
            edfio.EdfSignal(signals[:whole, i], sampling_frequency=fs, label=lead, physical_dimension="mV")
            for i, lead in enumerate(leads)
        ]
    ).write(path)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they did."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process, MB; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def is_worker(pid: int, ray: bool) -> bool:
    """Whether a process classifies recordings: of Ray's many by name, of ours the children of the fork server."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if ray:
            return b"ray::_Worker" in command
        return b"forkserver" in command and b"forkserver" in Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return False


def run(archive: Path, out: Path, *arguments: str, cores: int = 2, killing: bool = False) -> dict[str, Any]:
    """Run `ecgkan classify` on some cores; watch memory, and kill a worker now and then if asked to; return figures."""
    command = [sys.executable, "-m", "ecgkan.cli", "classify", str(archive), "--out", str(out), "--json", *arguments]
    ray = "--ray" in arguments
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(everywhere)[:cores])  # inherited
        process = subprocess.Popen(command, stdout=said, stderr=errors, text=True)
        os.sched_setaffinity(0, everywhere)
        memory: list[float] = []
        killed: list[int] = []
        watcher = threading.Thread(target=watch, args=(process, memory, killed, ray, killing, out))
        watcher.start()
        process.wait()
        watcher.join()
        said.seek(0)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}\n{errors.read()[-3000:]}")
        report = json.load(said)
    seconds = time.monotonic() - begun
    check(archive, out, report)
    results: dict[str, Any] = {
        "recordings": len(report["recordings"]),
        "hours": sum(line["duration_s"] for line in report["recordings"]) / 3600,
        "seconds": seconds,
        "recordings_per_s": len(report["recordings"]) / seconds,
        "killed": len(killed),
    }
    settled = memory[len(memory) // 5 :] or [0.0]
    third = max(1, len(settled) // 3)
    results |= {
        "memory_mb_early": statistics.median(settled[:third]),
        "memory_mb_late": statistics.median(settled[-third:]),
        "memory_mb_peak": max(memory, default=0.0),
    }
    return results


def watch(
    process: "subprocess.Popen[str]", memory: list[float], killed: list[int], ray: bool, killing: bool, out: Path
) -> None:
    """Until the run ends, note the memory of its largest process, and kill workers that are at work."""
    rng, last, done = random.Random(0), time.monotonic(), 0
    while process.poll() is None:
        processes = [process.pid, *descendants(process.pid)]
        workers = [pid for pid in processes if is_worker(pid, ray)]
        memory.append(max((rss_mb(pid) for pid in workers or [process.pid]), default=0.0))
        due = time.monotonic() - last > KILL_EVERY_S and len(killed) < MOST_KILLS
        manifest = out / "manifest.jsonl"
        size = manifest.stat().st_size if manifest.exists() else 0
        if killing and due and workers and size > done:  # since the last death, there was work
            killed.append(rng.choice(workers))
            os.kill(killed[-1], signal.SIGKILL)
            last, done = time.monotonic(), size
        time.sleep(0.2)


def check(archive: Path, out: Path, report: dict[str, Any]) -> None:
    """Hold the results against the recordings: each once, each whole, and nothing else."""
    recordings = Counter(
        path.relative_to(archive).with_suffix("").as_posix() for path in archive.rglob("p*") if path.suffix != ".dat"
    )
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    require(Counter(line["relative"] for line in lines) == recordings, "the manifest has each recording once")
    require(report["counts"] == {"done": len(recordings), "skipped": 0, "failed": 0}, "none failed, none skipped")
    listed = {name: size for line in lines for name, size in line["outputs"].items()}
    found = {path.relative_to(out).as_posix(): path.stat().st_size for path in out.rglob("*") if path.is_file()}
    del found["manifest.jsonl"]
    require(found == listed, "what is there is what the manifest lists, in full")
    for line in lines:
        annotation = wfdb.rdann(str(out / line["relative"]), "ecgkan")
        beats = sum(symbol in "NSVFQ" for symbol in annotation.symbol)
        rows = (out / f"{line['relative']}.csv").read_text().count("\n") - 1
        require(
            beats == rows == line["beats"], f"{line['relative']}: annotations, table and manifest have as many beats"
        )


def require(condition: bool, what: str) -> None:
    """End the benchmark if something does not hold."""
    if not condition:
        raise SystemExit(f"does not hold: {what}")


def first_difference(first: Path, second: Path) -> str | None:
    """Name a table in which two runs found other beats or classes; the last digit of a probability may differ."""
    import pandas as pd

    for table in sorted(first.rglob("*.csv")):
        mine, other = (pd.read_csv(folder / table.relative_to(first)) for folder in (first, second))
        if list(mine["sample"]) != list(other["sample"]):
            return f"{table.name}: other beats"
        differing = mine["class"] != other["class"]
        if differing.any():
            return f"{table.name}: other classes\n{mine[differing]}\n{other[differing]}"
    return None


def print_table(runs: dict[str, dict[str, Any]]) -> None:
    """Print the figures as the documentation has them."""
    print("\n| run | seconds | per second | workers killed | memory of a worker, early → late (peak) | each once |")
    print("|---|---|---|---|---|---|")
    for name, figures in runs.items():
        memory = "{memory_mb_early:.0f} → {memory_mb_late:.0f} ({memory_mb_peak:.0f}) MB".format_map(figures)
        rate = f"{figures['recordings_per_s']:.1f}"
        print(f"| {name} | {figures['seconds']:.0f} | {rate} | {figures['killed']} | {memory} | yes |")


def main() -> None:
    """Make the archive, run, check, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recordings", type=int, default=1000)
    parser.add_argument("--formats", default="wfdb,csv,json", help="what is written of each recording")
    parser.add_argument("--only", choices=["workers", "kills"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    runs: dict[str, Callable[[Path, Path], dict[str, Any]]] = {}
    written = ("--format", arguments.formats)
    if arguments.only != "kills":
        runs["1 worker"] = lambda archive, out: run(archive, out, *written, cores=1)
        runs["2 workers"] = lambda archive, out: run(archive, out, "--workers", "2", *written)
    if arguments.only != "workers":
        two = ("--workers", "2")
        runs["2 workers, killed"] = lambda archive, out: run(archive, out, *two, *written, killing=True)
        runs["Ray, 2 workers, killed"] = lambda archive, out: run(
            archive, out, "--ray", "local", *two, *written, killing=True
        )
    with tempfile.TemporaryDirectory(prefix="ecgkan-archive-") as temporary:
        archive = Path(temporary) / "archive"
        begun = time.monotonic()
        make_archive(archive, arguments.recordings)
        print(f"{arguments.recordings} recordings made in {time.monotonic() - begun:.0f} s", flush=True)
        outs = []
        for name, measure in runs.items():
            outs.append(Path(temporary) / name.replace(" ", "-").replace(",", ""))
            figures = measure(archive, outs[-1])
            difference = first_difference(outs[0], outs[-1])
            require(difference is None, f"{name} gives what {next(iter(runs))} gave: {difference}")
            results[name] = figures | {"load": os.getloadavg()[0]}
            print(
                f"{name}: {figures['recordings']} recordings ({figures['hours']:.1f} h of ECG) in "
                f"{figures['seconds']:.0f} s, {figures['recordings_per_s']:.1f} per second, {figures['killed']} "
                f"workers killed; largest worker {figures['memory_mb_early']:.0f} MB early, "
                f"{figures['memory_mb_late']:.0f} MB late, {figures['memory_mb_peak']:.0f} MB peak; each recording "
                "once and whole",
                flush=True,
            )
    print_table({name: figures for name, figures in results.items() if isinstance(figures, dict)})
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
