"""What ecgkan raises: one base class, and children that also are the built-in error they refine."""


class EcgkanError(Exception):
    """Base of every error that ecgkan raises on purpose; the command line prints its message and exits with 1."""


class DataError(EcgkanError, ValueError):
    """A file or an array holds something that cannot be used."""


class DataNotFoundError(EcgkanError, FileNotFoundError):
    """A recording, an annotation file or a database is not where it was looked for."""


class FetchError(EcgkanError, OSError):
    """A database could not be fetched or verified."""


class CheckpointError(EcgkanError, ValueError):
    """A checkpoint cannot be read, is not one of ours, or does not fit its model."""


class OutputExistsError(EcgkanError, FileExistsError):
    """Something that exists would be overwritten; say so explicitly to overwrite it."""


class MissingExtraError(EcgkanError, ImportError):
    """An optional dependency is needed; the message says which extra brings it."""
