"""Files that are there whole or not at all, and the space that they need."""

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
    """Turn an error of the system within the block into one that names the path that was to be written.

    Raises
    ------
    UnwritableError
        With the path and the reason: no permission, a file in the place of a folder, a read-only or full disk.
    """
    try:
        yield
    except UnwritableError:
        raise
    except OSError as error:
        raise UnwritableError(f"cannot write {os.fspath(path)!r}: {error.strerror or error}") from error


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, and those above it, unless it is there.

    Raises
    ------
    UnwritableError
        If it cannot be made.

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
    """Path of a temporary file that replaces ``path`` if the block ends well, and is removed if not.

    The temporary file lies in the folder of ``path``, which is made if need be, so that the replacement is one
    operation of the file system: a kill at any moment leaves the former file or the new one.

    Parameters
    ----------
    path : of the file to write.
    durable : whether to wait until the disk has it, so that a power cut leaves one of the two as well.

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
        # made here, and only if it is new: a link that somebody has put in its place is not followed
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk does not say which file it refused
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or, where the system can, the entries of a folder."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Remove the temporary files of :func:`replaced` that a killed process has left in a folder.

    A file is one of these if its process is gone, began after the file was written, or wrote it more than a day ago.
    Processes of other machines are not seen: where several share the folder, hold a
    :class:`~delira_nca.io.run_lock.RunLock` on it.

    Returns
    -------
    tuple of paths, sorted
        What was removed. What cannot be removed stays, and is not in it.

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
        with contextlib.suppress(OSError):  # another process was faster, or the file is somebody else's
            if found is not None and not path.is_dir() and _is_left(path, int(found[1])):
                path.unlink()
                removed.append(path)
    return tuple(removed)


def _is_left(path: Path, pid: int) -> bool:
    written = path.lstat().st_mtime
    if time.time() - written > _DAY or not is_alive(pid):
        return True
    began = start_time(pid)
    return began is not None and written < began - 2.0  # of that pid, but of an earlier process


def require_disk_space(folder: str | os.PathLike[str], num_bytes: int) -> None:
    """Refuse to begin to write what the disk has no space for.

    Nothing is promised by passing: others write too, and a quota may be lower than the free space. Where the system
    does not know how much is free, everything passes.

    Parameters
    ----------
    folder : to write to. If it is not there yet, the nearest folder above it is asked.
    num_bytes : to write.

    Raises
    ------
    CheckpointError
        With what is needed and what is free.

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
