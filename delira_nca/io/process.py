"""Checks whether a process is alive and whether its pid was reused. Does not import torch."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

__all__ = ["birth", "is_alive", "start_time"]

_PROC = Path("/proc")


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is running; a zombie, which has ended but was not waited for, is not.

    Examples
    --------
    >>> is_alive(os.getpid()), is_alive(0)
    (True, False)
    """
    if not 0 < pid < 2**31:
        return False
    if sys.platform == "win32":
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        pass
    found = _stat(pid)
    return found is None or found[0] not in ("Z", "X", "x")


def birth(pid: int) -> str | None:
    """Return a string that distinguishes a process from a later one with the same pid; None if unknown.

    Examples
    --------
    >>> birth(os.getpid()) == birth(os.getpid())
    True
    """
    found = _stat(pid)
    if found is None:
        return None
    boot = ""
    with contextlib.suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{found[19]}"


def start_time(pid: int) -> float | None:
    """Return the start time of a process in seconds since 1970, accurate to one second; None if unknown.

    Examples
    --------
    >>> import time
    >>> begun = start_time(os.getpid())
    >>> begun is None or begun <= time.time() + 1
    True
    """
    found = _stat(pid)
    if found is None:
        return None
    try:
        lines = (_PROC / "stat").read_text().splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime"))
        return boot + int(found[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration, ValueError):
        return None


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat after the name, beginning with the state. The name may contain spaces and brackets."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields if len(fields) > 19 else None


def _is_alive_on_windows(pid: int) -> bool:
    """Windows variant of :func:`is_alive`: os.kill(pid, 0) would terminate the process there."""
    if sys.platform != "win32":
        return True
    import ctypes

    kernel = ctypes.windll.kernel32
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(kernel.GetLastError() == 5)  # ERROR_ACCESS_DENIED: the process exists
    code = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return not known or code.value == 259  # STILL_ACTIVE
