"""Which format a file is in: by its first bytes, else by its extension."""

from pathlib import Path
from typing import Final

FORMAT_OF_SUFFIX: Final = {
    ".hea": "WFDB",
    ".edf": "EDF",
    ".bdf": "EDF",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".csv": "text",
    ".tsv": "text",
    ".txt": "text",
    ".npy": "NumPy",
    ".npz": "NumPy",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}
"""Format by extension, in small letters."""

WFDB_PARTS: Final = frozenset({".hea", ".dat", ".atr"})
"""Extensions by which a WFDB record may be named, although the record is its header."""

READ_FORMATS: Final = "WFDB (.hea), EDF and BDF, DICOM, CSV/TSV/TXT, NPY/NPZ and Parquet"

_EDF_START: Final = b"0       "
_BDF_START: Final = b"\xffBIOSEMI"


def format_of(path: Path) -> str | None:
    """Return the format of an existing file, one of the values of `FORMAT_OF_SUFFIX`, or None."""
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return "DICOM"
    if start.startswith(_BDF_START):
        return "EDF"
    if start.startswith(b"PAR1"):
        return "Parquet"
    if start.startswith(b"\x93NUMPY"):
        return "NumPy"
    if start.startswith(_EDF_START) and len(start) == 132 and path.suffix.lower() not in FORMAT_OF_SUFFIX:
        return "EDF"
    return FORMAT_OF_SUFFIX.get(path.suffix.lower())


def header_of(path: Path) -> Path | None:
    """Return the header of the WFDB record that a path names, with or without the extension of one of its files."""
    if not path.name:
        return None
    candidates = [path.with_name(f"{path.name}.hea")]
    if path.suffix in WFDB_PARTS or path.is_file():
        candidates.append(path.with_suffix(".hea"))
    return next((header for header in candidates if header.is_file()), None)
