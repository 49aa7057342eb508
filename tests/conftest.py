"""What several rooms' tests share: where the real database is, and a cache that is not the user's."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real databases; tests that need it are skipped, by name, where there is none."""
    root = os.environ.get("ECGKAN_DATA")
    if not root:
        pytest.skip("needs the real databases: set ECGKAN_DATA to the folder that holds mitdb/ and nstdb/")
    folder = Path(root).expanduser().resolve()
    # With ECGKAN_DATA set, a missing database is an error, not a reason to skip.
    assert (folder / "mitdb" / "RECORDS").is_file(), f"ECGKAN_DATA={root} holds no mitdb/RECORDS"
    return folder


@pytest.fixture(scope="session")
def mitdb_dir(data_dir: Path) -> Path:
    """The folder of the real MIT-BIH Arrhythmia Database."""
    return data_dir / "mitdb"
