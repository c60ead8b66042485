"""A file that tells whether it is whole: size and checksum in the comment at the end of the archive torch writes."""

from __future__ import annotations

import hashlib
import os
import re
from typing import IO

__all__ = ["SEAL_BYTES", "CountingSink", "Damage", "SealingSink", "check_seal"]

_HEAD_BYTES = 64
_LENGTH = slice(50, 64)
"""Of the first entry's header, torch fills these bytes up with Z, so that the entry begins at a multiple of 64."""
_HEAD = re.compile(rb"PK\x03\x04.{42}FB\x0e\x00(\d{14})", re.DOTALL)
_SEAL = re.compile(rb"delira_nca checkpoint 1: (\d{14}) bytes before this, sha256 ([0-9a-f]{64})\n")
_END_BYTES = 22
"""Of the record that ends an archive; its last two say how long the comment is that follows."""
_END_MARK = b"PK\x05\x06"
_CHUNK = 1 << 20


def _seal(size: int, digest: str) -> bytes:
    return f"delira_nca checkpoint 1: {size:014d} bytes before this, sha256 {digest}\n".encode()


SEAL_BYTES = len(_seal(0, 64 * "0"))
"""By which a file grows when it is sealed."""


class Damage(Exception):  # noqa: N818  (it is caught, and told with the name of the file)
    """Why the bytes of a file cannot be used; the end of a sentence about it."""


class CountingSink:
    """A file to write to that keeps nothing but the number of bytes.

    Examples
    --------
    >>> sink = CountingSink()
    >>> sink.write(b"four"), sink.size
    (4, 4)
    """

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Count."""
        count = memoryview(data).nbytes
        self.size += count
        return count

    def flush(self) -> None:
        """Do nothing: torch asks for it."""


class SealingSink:
    """A file to write an archive to, which passes it on with its length at the front and a checksum at the end.

    The checksum is of the bytes as they were handed over, so that reading them back finds what a disk made of them.

    Parameters
    ----------
    file : to pass everything on to.
    total : bytes that the file will have, with the seal. It stands at the front, so that what is left of a file that
        was cut short says how much is missing.
    """

    def __init__(self, file: IO[bytes], total: int) -> None:
        self._file, self._total = file, total
        self._held = bytearray()
        self._size = 0
        self._hash = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Pass bytes on. An error waits for :meth:`finish`: torch's writer must not be left by one."""
        view = memoryview(data).cast("B")
        if self._error is None:
            try:
                self._take(view)
            except OSError as error:
                self._error = error
        return view.nbytes

    def flush(self) -> None:
        """Do nothing: torch asks for it, and :meth:`finish` does it."""

    def finish(self) -> None:
        """Write the seal.

        Raises
        ------
        OSError
            If this or a write before it failed.
        Damage
            If what was written is no archive, or not as long as was said.
        """
        if self._error is not None:
            raise self._error
        if self._held != b"\0\0" or self._size + 2 + SEAL_BYTES != self._total:
            raise Damage(f"torch wrote {self._size + len(self._held)} bytes that cannot be sealed")
        self._emit(memoryview(SEAL_BYTES.to_bytes(2, "little")))
        self._file.write(_seal(self._size, self._hash.hexdigest()))
        self._file.flush()

    def _take(self, view: memoryview) -> None:
        """Hold back the head until it is whole, and the last two bytes until all is written."""
        if self._size == 0:
            self._held += view
            if len(self._held) < _HEAD_BYTES:
                return
            head, self._held = self._held, bytearray()
            if head[46:50] == b"FB\x0e\x00" and head[_LENGTH] == b"Z" * 14:
                head[_LENGTH] = f"{self._total:014d}".encode()
            view = memoryview(head)
        if view.nbytes < 2:
            view = memoryview(bytes(self._held) + bytes(view))
        else:
            self._emit(memoryview(self._held))
        self._emit(view[:-2])
        self._held = bytearray(view[-2:])

    def _emit(self, view: memoryview) -> None:
        self._hash.update(view)
        self._file.write(view)
        self._size += view.nbytes


def check_seal(file: IO[bytes]) -> int:
    """Check that an archive is as it was written; without a seal, as far as that can be told.

    Parameters
    ----------
    file : open for reading, in binary.

    Returns
    -------
    int
        Bytes of the archive without the comment of its seal.

    Raises
    ------
    Damage
        If it is empty, no archive, cut short, or has other bytes than were written.

    Examples
    --------
    >>> import io
    >>> check_seal(io.BytesIO(b""))
    Traceback (most recent call last):
    delira_nca.io.seal.Damage: it is empty
    """
    actual = file.seek(0, os.SEEK_END)
    if actual == 0:
        raise Damage("it is empty")
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(max(0, actual - SEAL_BYTES))
    seal = _SEAL.fullmatch(file.read(SEAL_BYTES))
    if seal is not None and int(seal[1]) + SEAL_BYTES == actual:
        if _digest(file, actual - SEAL_BYTES) != seal[2].decode():
            raise Damage("its checksum differs: some of its bytes are not those that were written")
        return actual - SEAL_BYTES
    if (said := _HEAD.match(head)) is not None:
        total = int(said[1])
        if actual < total:
            raise Damage(f"it is cut short at {actual} of {total} bytes")
        raise Damage(f"its checksum cannot be read: {actual} bytes are there where {total} were written")
    if seal is not None:
        raise Damage(f"it is cut short or changed: {actual} bytes are there, not {int(seal[1]) + SEAL_BYTES}")
    _check_end(file, head, actual)
    return actual


def _check_end(file: IO[bytes], head: bytes, actual: int) -> None:
    """Without a seal: refuse what has not the beginning and the end of an archive."""
    beginning = b"PK\x03\x04"
    if not head.startswith(beginning[: len(head)]):
        raise Damage(f"it is no archive of torch: it begins with {head[:8]!r}")
    file.seek(max(0, actual - _END_BYTES))
    end = file.read(_END_BYTES)
    if not (end.startswith(_END_MARK) and end.endswith(b"\0\0")):
        raise Damage(f"it is cut short at {actual} bytes, or changed: the end of the archive is not where it should be")


def _digest(file: IO[bytes], size: int) -> str:
    result = hashlib.sha256()
    file.seek(0)
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        result.update(chunk)
        size -= len(chunk)
    return result.hexdigest()
