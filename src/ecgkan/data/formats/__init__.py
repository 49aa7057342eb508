"""File formats of recordings, one module each: a path → `OpenedSignals`."""
