"""Signal files of WFDB packed by hand, as signal(5) of the WFDB manual describes their bits."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BITS = {"80": 8, "310": 10, "311": 10, "212": 12, "16": 16, "61": 16, "160": 16, "24": 24, "32": 32}


def packed(fmt: str, samples: NDArray[np.integer]) -> bytes:
    """Return the bytes of samples in the order of the file."""
    flat = [int(value) for value in samples.reshape(-1)]
    match fmt:
        case "80":
            return bytes(value + 128 for value in flat)
        case "16":
            return struct.pack(f"<{len(flat)}h", *flat)
        case "61":
            return struct.pack(f">{len(flat)}h", *flat)
        case "160":
            return struct.pack(f"<{len(flat)}H", *(value + 32768 for value in flat))
        case "24":
            return b"".join((value & 0xFFFFFF).to_bytes(3, "little") for value in flat)
        case "32":
            return struct.pack(f"<{len(flat)}i", *flat)
        case "212":
            return b"".join(_pair_212(a & 0xFFF, b & 0xFFF) for a, b in _groups(flat, 2))
        case "310":
            return b"".join(_triple_310(a & 0x3FF, b & 0x3FF, c & 0x3FF) for a, b, c in _groups(flat, 3))
        case "311":
            return b"".join(
                struct.pack("<I", a & 0x3FF | (b & 0x3FF) << 10 | (c & 0x3FF) << 20) for a, b, c in _groups(flat, 3)
            )
    raise AssertionError(fmt)


def write_packed(
    folder: Path, fmt: str, digital: NDArray[np.integer], *, name: str = "r", fs: float = 250, gain: float = 100
) -> Path:
    """Write `[n_samples, n_leads]` as a record with leads ECG1, ECG2 ..., baseline 3, and return its header."""
    (folder / f"{name}.dat").write_bytes(packed(fmt, digital))
    lines = [f"{name} {digital.shape[1]} {fs:g} {len(digital)}"]
    lines += [f"{name}.dat {fmt} {gain:g}(3)/mV {BITS[fmt]} 0 0 0 0 ECG{i + 1}" for i in range(digital.shape[1])]
    header = folder / f"{name}.hea"
    header.write_text("\n".join(lines) + "\n")
    return header


def _groups(flat: list[int], size: int) -> list[list[int]]:
    padded = flat + [0] * (-len(flat) % size)
    return [padded[i : i + size] for i in range(0, len(padded), size)]


def _pair_212(a: int, b: int) -> bytes:
    return bytes([a & 0xFF, (a >> 8) | ((b >> 8) << 4), b & 0xFF])


def _triple_310(a: int, b: int, c: int) -> bytes:
    return struct.pack("<HH", a << 1 | (c & 0x1F) << 11, b << 1 | (c >> 5) << 11)
