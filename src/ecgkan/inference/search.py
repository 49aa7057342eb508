"""Which recordings an archive holds: in folders of this machine, and in object storage."""

import posixpath
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ecgkan.data.finding import find_recordings
from ecgkan.errors import DataNotFoundError
from ecgkan.inference.archive import ArchiveRecording
from ecgkan.inference.stores import is_url, local_path, open_store, told_of_store

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_TOLD_BY_CONTENT: Final = (".hea", ".csv", ".tsv", ".txt")

_START_BYTES: Final = 1 << 16
"""As much as is read of a file to tell what it is; headers are smaller."""


def find_archive(paths: Iterable[str]) -> list[ArchiveRecording]:
    """Return the recordings in files, folders and glob patterns, local or URLs.

    What counts as a recording is told by `ecgkan.data.finding.find_recordings`, in object storage as here.

    Raises
    ------
    EcgkanError
        If a path is not there or holds no recording.
    """
    paths = list(paths)
    local = [local_path(path) for path in paths if not is_url(path)]
    found = [
        ArchiveRecording(str(recording.path.absolute()), _folder(recording.relative))
        for recording in (find_recordings(local) if local else [])
    ]
    for url in dict.fromkeys(path for path in paths if is_url(path)):
        with told_of_store(url):
            found += _find_remote(url)
    return list({recording.path: recording for recording in found}.values())


def _find_remote(url: str) -> Iterator[ArchiveRecording]:
    store, root = open_store(url)
    places = sorted(store.glob(root)) if any(sign in root for sign in "*?[") else [root]
    if not places:
        raise DataNotFoundError(f"nothing matches {url}; list the store to see what is there")
    for place in places:
        if store.isdir(place):
            yield from _find_below(store, place, url)
        elif store.isfile(place):
            yield ArchiveRecording(store.unstrip_protocol(place), "")
        elif store.isfile(f"{place}.hea"):
            yield ArchiveRecording(store.unstrip_protocol(f"{place}.hea"), "")
        else:
            raise DataNotFoundError(f"no recording and no folder at {url}; list the store to see what is there")


def _find_below(store: "AbstractFileSystem", root: str, url: str) -> list[ArchiveRecording]:
    """Look at a folder of a store by a copy of it that holds headers, and as much of texts as tells what they are."""
    with tempfile.TemporaryDirectory(prefix="ecgkan-") as temporary:
        mirror = Path(temporary).resolve()
        names = [posixpath.relpath(path, root) for path in store.find(root)]
        told_by_content = [name for name in names if _needs_content(name)]
        starts = store.cat_ranges([posixpath.join(root, name) for name in told_by_content], 0, _START_BYTES)
        contents = dict(zip(told_by_content, starts, strict=True))
        for name in names:
            file = mirror / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(contents.get(name, b""))
        try:
            found = find_recordings([mirror])
        except DataNotFoundError as error:
            raise DataNotFoundError(
                f"{url} holds no recordings; see `ecgkan classify --help` for what is read"
            ) from error
        return [
            ArchiveRecording(
                store.unstrip_protocol(posixpath.join(root, recording.path.resolve().relative_to(mirror).as_posix())),
                _folder(recording.relative),
            )
            for recording in found
        ]


def _needs_content(name: str) -> bool:
    extension = posixpath.splitext(name)[1].lower()
    return extension in _TOLD_BY_CONTENT or not extension or extension[1:].isdigit()


def _folder(relative: Path) -> str:
    return "" if relative == Path() else relative.as_posix()
