"""Whether a disk has space, asked before anything is written. Free of torch."""

from __future__ import annotations

import os
import shutil

from delira_nca.errors import CheckpointError
from delira_nca.io.paths import absolute

__all__ = ["require_disk_space"]


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
