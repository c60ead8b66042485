"""Processor and available memory of the machine. Does not import torch."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_memory", "cpu_features", "cpu_name", "total_memory", "usable_cores"]

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available_memory(*, swap: bool = False) -> int | None:
    """Return the number of bytes that this process can allocate before the system or its container is out of memory.

    Parameters
    ----------
    swap : bool
        Whether swap space is included.

    Returns
    -------
    int or None
        Minimum of the system's available memory and the remaining limits of this process's control groups; None if
        neither can be read. Reclaimable caches count as available.
    """
    memory = _table(_PROC / "meminfo")
    free_swap = memory.get("SwapFree", 0) if swap else 0
    found = _limits(swap=free_swap > 0)
    if "MemAvailable" in memory:
        found.append(1024 * (memory["MemAvailable"] + free_swap))
    return min(found, default=None)


def total_memory() -> int | None:
    """Return the memory of the machine in bytes, or None if it cannot be read."""
    total = _table(_PROC / "meminfo").get("MemTotal")
    return None if total is None else 1024 * total


def cpu_name() -> str:
    """Return the model name of the processor, or its architecture if the name cannot be read."""
    for line in _text(_PROC / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_features() -> frozenset[str] | None:
    """Return the processor's feature flags as the system spells them, such as ``avx512_bf16``; None if unknown."""
    for line in _text(_PROC / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86 and ARM
            return frozenset(value.split())
    return None


def usable_cores() -> int:
    """Return the number of cores that this process may use, limited by its affinity and its control groups.

    A quota of processor time that is not a whole number of cores is rounded down, to at least 1. Quotas are read at
    most once per second.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(int(time.monotonic()), _CGROUPS)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


@functools.lru_cache(maxsize=1)
def _cpu_quota(second: int, root: Path) -> float | None:
    """Smallest CPU quota of this process's control groups in cores.

    Each native roll-out asks for it, so it is cached. The arguments are only the key of the cache.
    """
    quotas = [_quota(group) if is_new else _quota_old(group) for group, is_new in _groups("cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(group: Path) -> float | None:
    """CPU quota of a control group in cores; None if there is no limit."""
    limit, _, period = _text(group / "cpu.max").strip().partition(" ")
    return int(limit) / int(period) if limit.isdigit() and period.isdigit() else None


def _quota_old(group: Path) -> float | None:
    limit, period = (_number(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))  # a quota of -1: no limit
    return None if limit is None or not period else limit / period


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of this process's control groups and of their parents, each with whether it is version 2."""
    for line in _text(_PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(",") and controllers != "":
            continue
        root = _CGROUPS / controller if controllers else _CGROUPS
        group = root / path.lstrip("/")
        while group == root or root in group.parents:  # limits of parents apply to their children; a container
            yield group, not controllers  # sees its own group as the root, regardless of the path
            group = group.parent


def _limits(*, swap: bool) -> list[int]:
    """Remaining bytes of the memory limit of each of this process's control groups, version 1 or 2."""
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
    """Bytes of the page cache, which the system reclaims when memory is short."""
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
    """Map names to numbers, for the lines that have both."""
    rows = (line.partition(separator) for line in _text(path).splitlines())
    return {name: int(value.split()[0]) for name, _, value in rows if value.split() and value.split()[0].isdigit()}
