"""One writer per folder: a lock that the system frees when its process ends. Free of torch."""

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
from types import TracebackType
from typing import Any

import filelock

from delira_nca.errors import RunLockedError
from delira_nca.io.files import make_folder, writable
from delira_nca.io.paths import absolute

__all__ = ["RunLock", "is_locked"]

_WAIT = 0.3
"""Seconds to wait for a lock: :func:`is_locked` holds it for a moment."""
_LEASE = 30.0
"""Seconds without a heartbeat after which a lease is free."""
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What file systems without locks answer."""
_LOGGER = logging.getLogger("delira_nca")


class RunLock:
    """Hold the folder of a run, so that no second process writes to it.

    The lock is one of the system (``flock``) on the file ``run.lock``: it is free as soon as its process has ended,
    however it ended and on whatever machine it ran. The file names the process and stays. A forked process does not
    hold the lock of its parent, and does not release it.

    Some network file systems have no locks. There the lock is a lease, the file ``run.lease``: the process that holds
    it touches the file every 10 seconds, and another process takes it after it has watched the file for 30 seconds
    without a change. Clocks are not compared. A process that was suspended for longer than that loses the lease;
    :attr:`is_held` is False then.

    Parameters
    ----------
    folder : str or path-like
        Folder of the run. It is made if it does not exist.

    Raises
    ------
    RunLockedError
        On entering, if another process holds the folder, or this one does already; with its number and machine.
    UnwritableError
        On entering, if the folder cannot be made or written.

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
        """Whether this process holds the folder through this object."""
        lock = self._lock
        is_lost = isinstance(lock, filelock.SoftFileLease) and lock.compromise is not None
        return lock is not None and lock.is_locked and not is_lost

    def __enter__(self) -> RunLock:
        if self.is_held:
            raise RunLockedError(f"this process (pid {os.getpid()}) holds {self.path.parent} already")
        make_folder(self.path.parent)
        with writable(self.path):
            if self.path.is_symlink():
                self.path.unlink()  # it is not a file of ours, and what it points to must not be written
            try:
                self._lock = _acquired(self.path)
            except filelock.Timeout:
                raise RunLockedError(_refusal(self.path)) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lock, self._lock = self._lock, None
        if lock is not None and lock.is_locked:
            lock.release()


def is_locked(folder: str | os.PathLike[str]) -> bool:
    """Whether a process holds the folder of a run. Nothing is written.

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
    except OSError:  # there are no locks, or the file is another user's
        with contextlib.suppress(OSError):
            return abs(time.time() - lease.stat().st_mtime) < 2 * _LEASE
        return False
    lock.release()
    return False


def _lease_of(path: os.PathLike[str]) -> Path:
    """File of a lease, of its own: the attempt to lock the first one has created it."""
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
    """Write into the lock file which process holds it."""
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
