"""Atomic replacement of files, removal of temporary files, and checks of disk space."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from delira_nca.errors import CheckpointError, UnwritableError
from delira_nca.io.paths import absolute
from delira_nca.io.process import is_alive, start_time

__all__ = ["make_folder", "replaced", "require_disk_space", "sweep", "sync", "writable"]

_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp", re.DOTALL)
_DAY = 24 * 60 * 60.0


@contextlib.contextmanager
def writable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Convert an ``OSError`` inside the block into an error that names the path.

    Raises
    ------
    UnwritableError
        With the path and the reason: missing permission, a file in place of a folder, a read-only or full disk.
    """
    try:
        yield
    except UnwritableError:
        raise
    except OSError as error:
        raise UnwritableError(f"cannot write {os.fspath(path)!r}: {error.strerror or error}") from error


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder and its parents if they do not exist, and return its absolute path.

    Raises
    ------
    UnwritableError
        If the folder cannot be created.

    Examples
    --------
    >>> file = getfixture("tmp_path") / "a.txt"
    >>> _ = file.write_text("a file")
    >>> make_folder(file)
    Traceback (most recent call last):
    delira_nca.errors.UnwritableError: '...a.txt' cannot be a folder: something else has its name, ...
    """
    path = absolute(path)
    with writable(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            message = f"{os.fspath(path)!r} cannot be a folder: something else has its name, or that of one above it"
            raise UnwritableError(message) from error
    return path


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Write a file atomically.

    The block writes to a temporary file, which replaces ``path`` if the block succeeds and is removed otherwise. The
    temporary file is in the folder of ``path``, which is created if it does not exist, so that the replacement is one
    operation of the file system: a kill at any moment leaves either the old or the new file.

    Parameters
    ----------
    path : str or path-like
        File to write.
    durable : bool
        Whether to wait until the file is on the disk, so that the same holds for a power cut.

    Yields
    ------
    Path
        Path of the temporary file.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> with replaced(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']
    """
    path = absolute(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}.tmp")
    try:
        # O_EXCL fails on an existing name, so that a symbolic link planted there is not followed
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # the error of a full disk has no file name
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder where the system supports it, to the disk."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Remove the temporary files of :func:`replaced` that killed processes have left in a folder.

    A temporary file is removed if its process has ended, if the process started after the file was written, or if the
    file is older than a day. Processes of other machines are not detected: if several machines share the folder, hold a
    :class:`~delira_nca.io.run_lock.RunLock` on it.

    Returns
    -------
    tuple of Path
        Removed files, sorted. Files that cannot be removed are skipped.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> for name in (".a.txt.0.tmp", f".b.txt.{os.getpid()}.tmp", "c.txt"):
    ...     _ = (folder / name).write_text("half")
    >>> [path.name for path in sweep(folder)]
    ['.a.txt.0.tmp']
    """
    folder = absolute(folder)
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found = _TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(OSError):  # another process removed it first, or it belongs to another user
            if found is not None and not path.is_dir() and _is_left(path, int(found[1])):
                path.unlink()
                removed.append(path)
    return tuple(removed)


def _is_left(path: Path, pid: int) -> bool:
    written = path.lstat().st_mtime
    if time.time() - written > _DAY or not is_alive(pid):
        return True
    began = start_time(pid)
    return began is not None and written < began - 2.0  # an earlier process with the same pid


def require_disk_space(folder: str | os.PathLike[str], num_bytes: int) -> None:
    """Raise an error if the disk has too little free space.

    Success is not a guarantee: other processes write as well, and a quota may be lower than the free space. If the free
    space is unknown, no error is raised.

    Parameters
    ----------
    folder : str or path-like
        Folder to write to. If it does not exist, its nearest existing parent is checked.
    num_bytes : int
        Number of bytes to write.

    Raises
    ------
    CheckpointError
        With the required and the free number of bytes.

    Examples
    --------
    >>> require_disk_space(getfixture("tmp_path"), 1)
    >>> require_disk_space(getfixture("tmp_path"), 10**18)
    Traceback (most recent call last):
    delira_nca.errors.CheckpointError: ... has ... bytes free, 1000000000000000000 are needed: free some, or ...
    """
    place = absolute(folder)
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        disk = shutil.disk_usage(place)
    except OSError:
        return
    if disk.total and num_bytes > disk.free:
        raise CheckpointError(
            f"the disk of {absolute(folder)} has {disk.free} bytes free, {num_bytes} are needed: free some, or save "
            "elsewhere"
        )
