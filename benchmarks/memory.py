"""Peak memory and time of `ecgkan classify` on a 24-hour recording with three leads at 250 Hz.

    python benchmarks/memory.py [--hours 24] [--format 16|212] [--formats wfdb,csv,json,html]

The recording is made here, in a temporary folder: the embedded five minutes over and over, at other gains in the other
leads, with a gap of a quarter of an hour. The command runs in a process of its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgkan.data.embedded import embedded_recording
from ecgkan.data.resampling import resample

FS, GAIN, LIMIT_MIB = 250, 200, 700
LEADS = {"V1": -0.6, "MLII": 1.0, "V5": 0.8}
"""Lead → factor of the embedded signal."""


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="ecgkan-memory-") as folder:
        record = write_long_record(Path(folder), hours=arguments.hours, signal_format=arguments.format)
        size = record.with_suffix(".dat").stat().st_size / 2**20
        print(
            f"{arguments.hours:g} h, {len(LEADS)} leads, {FS} Hz, format {arguments.format}: {size:.0f} MiB of signal"
        )
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "ecgkan.cli", "classify", str(record), "--out", str(out)]
        seconds, peak_mib = run(command + (["--format", arguments.formats] if arguments.formats else []))
        for file in sorted(out.iterdir()):
            print(f"  {file.name}: {file.stat().st_size / 2**20:.1f} MiB")
    print(f"peak resident memory {peak_mib:.0f} MiB (limit {LIMIT_MIB}), {seconds:.0f} s")
    sys.exit(peak_mib > LIMIT_MIB)


def write_long_record(folder: Path, *, hours: float, signal_format: str) -> Path:
    """Write the WFDB record piece by piece, and return its path without extension."""
    minutes = resample(embedded_recording().signals[:, 0], 360.0, FS)
    piece = np.round(np.column_stack([factor * minutes for factor in LEADS.values()]) * GAIN).astype(np.int16)
    n_pieces = max(round(hours * 3600 * FS / len(piece)), 1)
    missing = np.full_like(piece, -2048 if signal_format == "212" else -32768)
    with (folder / "long.dat").open("wb") as stream:
        for k in range(n_pieces):
            stream.write(_encode(missing if 10 <= k < 13 else piece, signal_format))
    lines = [f"long {len(LEADS)} {FS} {n_pieces * len(piece)}"]
    lines += [f"long.dat {signal_format} {GAIN} 12 0 0 0 0 {lead}" for lead in LEADS]
    (folder / "long.hea").write_text("\n".join(lines) + "\n", encoding="ascii")
    return folder / "long"


def run(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds and its peak resident memory in MiB."""
    started = time.perf_counter()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"the command failed with status {child.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 2**10


def _encode(samples: NDArray[np.int16], signal_format: str) -> bytes:
    flat = samples.ravel()
    if signal_format == "16":
        return flat.astype("<i2").tobytes()
    first, second = flat[0::2].astype(np.int32) & 0xFFF, flat[1::2].astype(np.int32) & 0xFFF
    # Two 12-bit samples in three bytes: the middle one holds the high four bits of both.
    packed = np.column_stack([first & 0xFF, (first >> 8) | ((second >> 8) << 4), second & 0xFF])
    return packed.astype(np.uint8).tobytes()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--format", choices=["16", "212"], default="16")
    parser.add_argument("--formats", default="", help="what `ecgkan classify --format` takes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
