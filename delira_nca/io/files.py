"""How a file is written so that it is there whole, or not at all. Free of torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["replaced", "sync"]


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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
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
