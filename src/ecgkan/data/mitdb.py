"""The MIT-BIH Arrhythmia Database as the protocols see it: where it lies, its records, its patients.

Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Eng in Med and Biol 20(3):45-50 (2001).
"""

import os
from pathlib import Path

import platformdirs

from ecgkan.errors import DataNotFoundError

RECORDS = tuple(
    "100 101 102 103 104 105 106 107 108 109 111 112 113 114 115 116 117 118 119 121 122 123 124 "
    "200 201 202 203 205 207 208 209 210 212 213 214 215 217 219 220 221 222 223 228 230 231 232 233 234".split()
)
"""The 48 records in the order of the database's file RECORDS."""

PACED_RECORDS = ("102", "104", "107", "217")
"""Records of patients with a pacemaker; protocol `inter-patient` leaves them out, as EC57 does."""

DS1 = tuple("101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230".split())
"""Training records of de Chazal et al. 2004."""

DS2 = tuple("100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234".split())
"""Test records of de Chazal et al. 2004."""


def subject_of(record: str) -> str:
    """Return the subject a record belongs to: its own name, but 201 and 202 are one person."""
    return "201" if record == "202" else record


def data_root(data_dir: Path | None = None) -> Path:
    """Return the folder that holds `mitdb/` and `nstdb/`.

    `data_dir` if given, else the environment variable ECGKAN_DATA, else `data` in the user's cache folder.
    """
    if data_dir is not None:
        return data_dir.expanduser().resolve()
    from_environment = os.environ.get("ECGKAN_DATA")
    if from_environment:
        return Path(from_environment).expanduser().resolve()
    return Path(platformdirs.user_cache_dir("ecgkan")) / "data"


def database_dir(name: str, data_dir: Path | None = None) -> Path:
    """Return the folder of a database (`mitdb` or `nstdb`).

    Raises
    ------
    DataNotFoundError
        If there is no such folder; the message says how to get it.
    """
    folder = data_root(data_dir) / name
    if not folder.is_dir():
        raise DataNotFoundError(
            f"no database {name} at {folder}; run `ecgkan data fetch {name}`, or point --data-dir or the "
            f"environment variable ECGKAN_DATA at the folder that holds {name}/"
        )
    return folder
