"""Reading of files in package files (wheels, tarballs, Debian packages) without unpacking to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import IO, Any

from delira_nca.errors import MissingDependencyError, MissingFileError

__all__ = ["is_archive", "read_members"]

_ZIP = b"PK"
_DEBIAN = b"!<arch>\n"
_COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
}
_UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, tarfile.TarError)
_AR_HEADER = 60


def is_archive(path: Path) -> bool:
    """Whether a file has the signature of a wheel (zip), a tarball or a Debian package. Gzip files count as tarballs.

    Raises
    ------
    MissingFileError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(262)
    except OSError as error:
        raise MissingFileError(f"cannot read {str(path)!r}: {error.strerror}") from error
    return head.startswith((_ZIP, _DEBIAN, *_COMPRESSED)) or head[257:] == b"ustar"


def read_members(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """Read files from an archive.

    Members are found by the end of their path, without leading folders of the archive (``./``, ``package/``,
    ``name-1.0/``). If several match, the one with the longest common path is used.

    Parameters
    ----------
    path : Path
        Wheel or other zip, tarball, or Debian package.
    wanted : Collection[str]
        Paths inside it, with forward slashes.

    Returns
    -------
    Content by wanted path. Missing members are omitted.

    Raises
    ------
    MissingFileError
        If the archive is damaged.
    MissingDependencyError
        If this Python does not support the compression of a Debian package.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "some-1.0.whl"
    ...     with zipfile.ZipFile(file, "w") as archive:
    ...         archive.writestr("some/data/a.txt", b"content")
    ...     read_members(file, ["data/a.txt", "data/b.txt"])
    {'data/a.txt': b'content'}
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_DEBIAN))
            stream.seek(0)
            if head.startswith(_ZIP):
                return _read_zip(stream, wanted)
            if head == _DEBIAN:
                return _read_tar(_data_of_debian_package(stream, path), wanted)
            return _read_tar(stream, wanted)
    except (MissingDependencyError, MissingFileError):
        raise
    except (*_UNREADABLE, zipfile.BadZipFile) as error:
        raise MissingFileError(f"the package file {str(path)!r} is damaged ({error}); get it anew") from error


def _agreement(member: str, wanted: str) -> int:
    """Return the number of equal components at the end of two paths."""
    pairs = zip(reversed(PurePosixPath(member).parts), reversed(PurePosixPath(wanted).parts), strict=False)
    number = 0
    for have, want in pairs:
        if have != want:
            break
        number += 1
    return number


def _read_zip(stream: IO[bytes], wanted: Collection[str]) -> dict[str, bytes]:
    found = {}
    with zipfile.ZipFile(stream) as archive:
        for path in wanted:
            best = max(archive.namelist(), key=lambda member: _agreement(member, path), default="")
            if _agreement(best, path):
                found[path] = archive.read(best)
    return found


def _read_tar(stream: IO[bytes], wanted: Collection[str]) -> dict[str, bytes]:
    """Read a tarball in one pass without following links."""
    found: dict[str, bytes] = {}
    score = dict.fromkeys(wanted, 0)
    complete = {path: len(PurePosixPath(path).parts) for path in wanted}
    start = stream.read(6)
    stream.seek(-len(start), io.SEEK_CUR)
    # tarfile's own decompression accepts truncated tarballs
    opener = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), None)
    with tarfile.open(fileobj=stream if opener is None else opener(stream), mode="r:*") as archive:
        for member in archive:
            fits = [path for path in wanted if _agreement(member.name, path) > score[path]] if member.isfile() else []
            if not fits:
                continue
            content = archive.extractfile(member)
            data = content.read() if content is not None else b""
            if len(data) != member.size:
                raise EOFError(f"{member.name} ends too early")
            for path in fits:
                found[path], score[path] = data, _agreement(member.name, path)
            if score == complete:
                break
    return found


def _data_of_debian_package(stream: IO[bytes], path: Path) -> IO[bytes]:
    """Return the tarball of installed files from the ``ar`` archive of a Debian package."""
    stream.seek(len(_DEBIAN))
    while len(header := stream.read(_AR_HEADER)) == _AR_HEADER:
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if not name.startswith("data.tar"):
            stream.seek(size + size % 2, io.SEEK_CUR)
            continue
        if name.endswith(".zst") and sys.version_info < (3, 14):
            raise MissingDependencyError(
                f"{str(path)!r} is compressed by zstandard, which Python reads from 3.14 on. "
                f"Unpack it with 'dpkg-deb -x {path.name} FOLDER', and give the folder"
            )
        data = stream.read(size)
        if len(data) != size:
            raise EOFError(f"{name} ends too early")
        return io.BytesIO(data)
    raise EOFError("it has no data.tar")
