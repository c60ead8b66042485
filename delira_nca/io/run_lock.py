"""Lock that allows one writing process per run folder. Does not import torch."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock

from delira_nca.errors import RunLockedError
from delira_nca.io.files import make_folder, writable
from delira_nca.io.paths import absolute

__all__ = ["RunLock", "is_locked"]

_WAIT = 0.3
"""Seconds to wait for a lock, since :func:`is_locked` in another process holds it briefly."""
_LEASE = 30.0
"""Seconds without a heartbeat after which a lease expires."""
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Error numbers of file systems without locks."""
_LOGGER = logging.getLogger("delira_nca")


class RunLock:
    """Lock the folder of a run against writing by other processes.

    The lock is an operating system lock (``flock``) on the file ``run.lock``. The system releases it when the process
    ends, in any way and on any machine. The file contains the pid and host of the process and is not deleted. A forked
    process neither holds nor releases the lock of its parent.

    On network file systems without locks, the lock is a lease, the file ``run.lease``. The holder touches the file
    every 10 seconds; another process takes the lease if the file has not changed for 30 seconds. Clocks are not
    compared. A process that is suspended for longer than that loses the lease, and :attr:`is_held` becomes False.

    Parameters
    ----------
    folder : str or path-like
        Folder of the run. It is created if it does not exist.

    Raises
    ------
    RunLockedError
        On entering, if another process or this one already holds the lock; with its pid and host.
    UnwritableError
        On entering, if the folder cannot be created or written.

    Examples
    --------
    >>> with RunLock(getfixture("tmp_path")) as lock:
    ...     lock.path.name, lock.is_held
    ('run.lock', True)
    >>> lock.is_held
    False
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = absolute(folder) / "run.lock"
        self._lock: filelock.BaseFileLock | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process holds the lock through this object."""
        lock = self._lock
        is_lost = isinstance(lock, filelock.SoftFileLease) and lock.compromise is not None
        return lock is not None and lock.is_locked and not is_lost

    def __enter__(self) -> RunLock:
        if self.is_held:
            raise RunLockedError(f"this process (pid {os.getpid()}) holds {self.path.parent} already")
        make_folder(self.path.parent)
        with writable(self.path):
            if self.path.is_symlink():
                self.path.unlink()  # not created by this package; its target must not be written
            try:
                self._lock = _acquired(self.path)
            except filelock.Timeout:
                raise RunLockedError(_refusal(self.path)) from None
        return self

    def __exit__(self, *error: object) -> None:
        lock, self._lock = self._lock, None
        if lock is not None and lock.is_locked:
            lock.release()


def is_locked(folder: str | os.PathLike[str]) -> bool:
    """Whether a process holds the lock of a run folder. Nothing is written.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> with RunLock(folder):
    ...     is_locked(folder)
    True
    >>> is_locked(folder)
    False
    """
    path = absolute(folder) / "run.lock"
    if path.is_symlink() or not path.is_file():
        return False
    lease = _lease_of(path)
    lock = _native(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return True
    except OSError:  # the file system has no locks, or the file belongs to another user
        with contextlib.suppress(OSError):
            return abs(time.time() - lease.stat().st_mtime) < 2 * _LEASE
        return False
    lock.release()
    return False


def _lease_of(path: os.PathLike[str]) -> Path:
    """Path of the lease file. It differs from the lock file, which the failed attempt to lock has created."""
    return Path(path).with_name("run.lease")


def _native(path: os.PathLike[str], **options: Any) -> filelock.BaseFileLock:
    return filelock.FileLock(path, fallback_to_soft=False, thread_local=False, **options)


def _acquired(path: os.PathLike[str]) -> filelock.BaseFileLock:
    lock = _native(path, on_acquired=_sign)
    try:
        lock.acquire(timeout=_WAIT)
        return lock
    except OSError as error:
        if isinstance(error, filelock.Timeout) or error.errno not in _NO_LOCKS:
            raise
    lease = filelock.SoftFileLease(
        _lease_of(path), lease_duration=_LEASE, on_compromise=_report_loss, thread_local=False
    )
    try:
        lease.acquire(timeout=_WAIT)
    except filelock.Timeout:
        _LOGGER.info("waiting up to %.0f s: whether the process that holds %s is alive", _LEASE, path)
        lease.acquire(timeout=1.5 * _LEASE)
    return lease


def _sign(descriptor: int) -> None:
    """Write pid, host and time of this process into the lock file."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    content = {"pid": os.getpid(), "host": socket.gethostname(), "time": now}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, (json.dumps(content) + "\n").encode())


def _report_loss(loss: filelock.LeaseCompromise) -> None:
    _LOGGER.error("this process has lost the folder of %s: %s", loss.lock_file, loss.reason)


def _refusal(path: os.PathLike[str]) -> str:
    folder = os.path.dirname(path)
    try:
        text = Path(path).read_text(encoding="utf-8") or _lease_of(path).read_text(encoding="utf-8")
        if text.startswith("filelock/"):  # a lease
            content = dict(line.split("=", 1) for line in text.splitlines()[1:])
        else:
            content = json.loads(text)
        since = f", since {content['time']}" if "time" in content else ""
        holder = f"process {int(content['pid'])} on {content['host']}{since}"
        is_here = int(content["pid"]) == os.getpid() and content["host"] == socket.gethostname()
    except (OSError, ValueError, LookupError, TypeError):
        return f"{folder} is held by another process: wait for its end, or take another folder"
    if is_here:
        return f"{folder} is held by {holder}: this process itself, which holds it already"
    return f"{folder} is held by {holder}: wait for its end, or take another folder"
