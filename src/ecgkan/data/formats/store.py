"""A compact copy of a recording on disk, for formats that cannot be read from the middle."""

import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecgkan.errors import DataError

_BYTES = 4


class SampleStore:
    """Samples in mV as float32 in a temporary file without a name: written once in order, read in any part.

    Float32 holds an ECG to a 16-millionth of its amplitude; plain reads, not a memory map, keep what has been read
    out of the process's resident memory.
    """

    def __init__(self, n_leads: int) -> None:
        self.n_leads = n_leads
        self.n_samples = 0
        self._file = tempfile.TemporaryFile(prefix="ecgkan-")  # noqa: SIM115

    def append(self, samples: NDArray[np.floating]) -> None:
        """Append `[n, n_leads]`.

        Raises
        ------
        DataError
            If the disk for temporary files is full.
        """
        self._write(np.ascontiguousarray(samples, dtype="<f4").tobytes())
        self.n_samples += len(samples)

    def append_missing(self, n: int) -> None:
        """Append `n` samples that are missing in every lead."""
        for start in range(0, n, 1 << 20):
            self.append(np.full((min(n - start, 1 << 20), self.n_leads), np.nan, dtype="<f4"))

    def read(self, start: int, stop: int, columns: Sequence[int]) -> NDArray[np.float64]:
        """Return samples `[start, stop)` of some leads, `[stop - start, len(columns)]` float64."""
        row = self.n_leads * _BYTES
        self._file.seek(start * row)
        block = np.frombuffer(self._file.read((stop - start) * row), dtype="<f4").reshape(-1, self.n_leads)
        return block[:, list(columns)].astype(np.float64)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise DataError(
                f"cannot keep a compact copy of the recording in {tempfile.gettempdir()}: {error.strerror or error}; "
                "make room there or set TMPDIR to a folder with room"
            ) from error
