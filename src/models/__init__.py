"""The reference's module paths: `from src.models.cnn import ECGCNN` works from a checkout."""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("ecgkan") is None:  # a checkout that was not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
