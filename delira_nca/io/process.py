"""Whether a process is alive, and whether it is still the same one. Free of torch."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

__all__ = ["birth", "is_alive", "start_time"]

_PROC = Path("/proc")


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs. One that has ended, and that nobody has waited for yet, does not.

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
    except OSError:  # it is another user's
        pass
    found = _stat(pid)
    return found is None or found[0] not in ("Z", "X", "x")


def birth(pid: int) -> str | None:
    """Something that tells a process from a later one of the same pid; None where the system does not tell.

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
    """Seconds since 1970 at which a process began, give or take one; None where the system does not tell.

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
    """Fields of /proc/<pid>/stat after the name, which may hold blanks and brackets itself: state first."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields if len(fields) > 19 else None


def _is_alive_on_windows(pid: int) -> bool:
    """There, os.kill(pid, 0) would end the process."""
    if sys.platform != "win32":
        return True
    import ctypes

    kernel = ctypes.windll.kernel32
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(kernel.GetLastError() == 5)  # ERROR_ACCESS_DENIED: it is there
    code = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return not known or code.value == 259  # STILL_ACTIVE
