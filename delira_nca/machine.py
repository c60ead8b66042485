"""The machine that a process runs on: its processor, and the memory that it can still have. Free of torch."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_memory", "cpu_features", "cpu_name", "total_memory", "usable_cores"]

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available_memory(*, swap: bool = False) -> int | None:
    """Bytes that this process can still take before the system or its container runs out of memory.

    Parameters
    ----------
    swap : whether space on disk that the system may use as memory counts.

    Returns
    -------
    int or None
        The smaller of what the system and the control groups of this process say; None where neither can be read.
        Caches that are given back on demand count as available.
    """
    memory = _table(_PROC / "meminfo")
    free_swap = memory.get("SwapFree", 0) if swap else 0
    found = _limits(swap=free_swap > 0)
    if "MemAvailable" in memory:
        found.append(1024 * (memory["MemAvailable"] + free_swap))
    return min(found, default=None)


def total_memory() -> int | None:
    """Bytes of memory of the machine, or None where that cannot be read."""
    total = _table(_PROC / "meminfo").get("MemTotal")
    return None if total is None else 1024 * total


def cpu_name() -> str:
    """Name of the processor as its maker gives it; its kind where that cannot be read."""
    for line in _text(_PROC / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_features() -> frozenset[str] | None:
    """Names of the processor's features as the system spells them, ``avx512_bf16`` for one; None where not known."""
    for line in _text(_PROC / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86 and ARM
            return frozenset(value.split())
    return None


def usable_cores() -> int:
    """Cores that this process may use: those of its affinity, and of these as many as its control groups grant.

    A quota of processor time that is no whole number of cores is rounded down, to at least 1.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_quota(group) if is_new else _quota_old(group) for group, is_new in _groups("cpu")]
    return max(1, min([allowed, *(int(quota) for quota in quotas if quota is not None)]))


def _quota(group: Path) -> float | None:
    """Cores' worth of time that a control group may use; None where there is no limit."""
    limit, _, period = _text(group / "cpu.max").strip().partition(" ")
    return int(limit) / int(period) if limit.isdigit() and period.isdigit() else None


def _quota_old(group: Path) -> float | None:
    limit, period = (_number(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))  # a quota of -1: no limit
    return None if limit is None or not period else limit / period


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the control groups that this process is in, with all their parents; whether each is of version 2."""
    for line in _text(_PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(",") and controllers != "":
            continue
        root = _CGROUPS / controller if controllers else _CGROUPS
        group = root / path.lstrip("/")
        while group == root or root in group.parents:  # a limit of a parent holds for its children; a container sees
            yield group, not controllers  # its own group as the root, whatever the path says
            group = group.parent


def _limits(*, swap: bool) -> list[int]:
    """What is left of the limit of each control group that this process is in, of versions 1 and 2."""
    left = [(_left_of if is_new else _left_of_old)(group, swap) for group, is_new in _groups("memory")]
    return [max(number, 0) for number in left if number is not None]


def _left_of(group: Path, swap: bool) -> int | None:
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is None or used is None:
        return None
    left = limit - used + _reclaimable(group, "")
    if not swap:
        return left
    allowed, taken = _number(group / "memory.swap.max"), _number(group / "memory.swap.current")
    return None if allowed is None or taken is None else left + allowed - taken


def _left_of_old(group: Path, swap: bool) -> int | None:
    kind = "memsw." if swap else ""
    limit, used = (_number(group / f"memory.{kind}{what}_in_bytes") for what in ("limit", "usage"))
    return None if limit is None or used is None else limit - used + _reclaimable(group, "total_")


def _reclaimable(group: Path, prefix: str) -> int:
    """Bytes of files that were read or written, which are given up when memory is short."""
    table = _table(group / "memory.stat", separator=" ")
    return sum(table.get(f"{prefix}{name}", 0) for name in ("active_file", "inactive_file"))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _table(path: Path, separator: str = ":") -> dict[str, int]:
    """Name and number of each line that has both."""
    rows = (line.partition(separator) for line in _text(path).splitlines())
    return {name: int(value.split()[0]) for name, _, value in rows if value.split() and value.split()[0].isdigit()}
