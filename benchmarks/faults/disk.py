"""A small disk in memory that only one process sees, and that is gone with it. Linux only."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import tempfile
from pathlib import Path

__all__ = ["may_mount", "private_disk"]

_NEW_MOUNTS, _NEW_USER, _PRIVATE = 0x00020000, 0x10000000, 0x4000 | 1 << 18


def private_disk(folder: Path, num_bytes: int = 8 << 20) -> None:
    """Mount a disk of this size at a folder, for this process and its children; needs a process of one thread.

    Raises
    ------
    OSError
        Where the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    _require(libc.unshare(_NEW_MOUNTS if user == 0 else _NEW_MOUNTS | _NEW_USER))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _require(libc.mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None))
    options = f"size={num_bytes},mode=777".encode()
    _require(libc.mount(b"none", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), options))


def _require(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@functools.cache
def may_mount() -> bool:
    """Whether this system lets us have a disk of our own."""
    if sys.platform != "linux":
        return False
    with tempfile.TemporaryDirectory() as name:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                private_disk(Path(name))
                code = 0
            except OSError:
                pass
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
