"""One writer per folder: a lock that a killed process does not leave behind for good. Free of torch."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

from delira_nca.errors import RunLockedError
from delira_nca.io.files import make_folder, writable
from delira_nca.io.paths import absolute
from delira_nca.io.process import birth, is_alive

__all__ = ["RunLock", "is_locked"]

_UNREADABLE_SECONDS = 10.0
"""After which a lock file that says nothing is one whose writer was killed."""


@dataclass(frozen=True)
class _Holder:
    """Who holds a lock: what stands in the file."""

    pid: int
    host: str
    birth: str | None
    token: str
    time: str

    @classmethod
    def here(cls) -> _Holder:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), birth(os.getpid()), uuid.uuid4().hex, now)

    @classmethod
    def read(cls, path: Path) -> _Holder | None:
        """Of a lock file; None if it says nothing that can be read."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = cls(**content)
        except FileNotFoundError:
            raise
        except (ValueError, TypeError, OSError):
            return None
        kinds = (type(found.pid), type(found.host), type(found.token), type(found.time))
        fits = kinds == (int, str, str, str) and isinstance(found.birth, str | None) and found.token.isalnum()
        return found if fits else None

    def is_gone(self) -> bool:
        """Whether it is a process of this machine that has ended."""
        if self.host != socket.gethostname():
            return False
        if not is_alive(self.pid):
            return True
        now = birth(self.pid)
        return self.birth is not None and now is not None and now != self.birth


class RunLock:
    """Hold the folder of a run, so that no second process writes to it.

    The file ``run.lock`` names the process that holds it. What a killed process of this machine left is taken over; of
    two that try, one gets it. A process that was forked does not hold the lock of its parent, and does not release it.

    Whether the process of another machine is alive cannot be seen from here: its lock is refused until somebody
    removes the file. A container counts as a machine by its host name; two that share a name have to share their
    process numbers too.

    Parameters
    ----------
    folder : of the run; made if need be.

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
    >>> lock.path.exists()
    False
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = absolute(folder) / "run.lock"
        self._holder: _Holder | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process holds the folder through this object."""
        return self._holder is not None and self._holder.pid == os.getpid()

    def __enter__(self) -> RunLock:
        if self.is_held:
            raise RunLockedError(f"this process (pid {os.getpid()}) holds {self.path.parent} already")
        make_folder(self.path.parent)
        self._holder = holder = _Holder.here()
        try:
            with writable(self.path):
                _acquire(self.path, holder)
        except BaseException:  # an interrupt too, which may come after the file is there
            self._holder = None
            _release(self.path, holder)
            raise
        _tidy(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        holder, held = self._holder, self.is_held
        self._holder = None
        if held and holder is not None:
            _release(self.path, holder)


def is_locked(folder: str | os.PathLike[str]) -> bool:
    """Whether a process that lives, or may live, holds the folder of a run.

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
    try:
        found = _Holder.read(path)
    except FileNotFoundError:
        return False
    return found is None or not found.is_gone()


def _acquire(path: Path, holder: _Holder) -> None:
    """Put the lock file there, if nobody is in its place who lives.

    A lock that is left is replaced only by who holds the lock on replacing just that one, named by its token. So of
    two processes that find it, the second finds the first one's lock afterwards, and does not take it for the old one.
    """
    while not _create(path, holder):
        try:
            found = _Holder.read(path)
            if found is None:
                _require_old(path)
            elif not found.is_gone():
                raise RunLockedError(_refusal(path, found))
            token = "unreadable" if found is None else found.token
            take_over = path.with_name(f"{path.name}.{token}")
            _acquire(take_over, holder)
            try:
                if _Holder.read(path) == found:
                    if found is None:
                        _require_old(path)
                    _put(path, holder)
                    return
            finally:
                _release(take_over, holder)
        except FileNotFoundError:  # it was released meanwhile
            continue


def _release(path: Path, holder: _Holder) -> None:
    with contextlib.suppress(FileNotFoundError):
        if _Holder.read(path) == holder:
            path.unlink()


def _tidy(path: Path) -> None:
    """Remove what processes that were killed while they took over left behind; the lock it was about is no more."""
    for left in path.parent.glob(f"{path.name}.*"):
        with contextlib.suppress(OSError):
            if (found := _Holder.read(left)) is not None and found.is_gone():
                left.unlink()


def _create(path: Path, holder: _Holder) -> bool:
    """Make the lock file with its content in one step; False if one is there."""
    temporary = _write(path, holder)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the file is there first, and says who it is of a moment later
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(temporary.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _put(path: Path, holder: _Holder) -> None:
    os.replace(_write(path, holder), path)


def _write(path: Path, holder: _Holder) -> Path:
    """Write a file of the kind that :func:`delira_nca.io.files.sweep` removes if this process is killed."""
    temporary = path.with_name(f".{path.name}.{holder.token}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(holder)) + "\n", encoding="utf-8")
    return temporary


def _require_old(path: Path) -> None:
    """Refuse, but not for ever, a lock that does not say whose it is: it may be on its way to do so."""
    if time.time() - path.stat().st_mtime < _UNREADABLE_SECONDS:
        raise RunLockedError(
            f"{path} does not say whose it is: another process begins here just now, or was killed doing so. Try again "
            f"in {_UNREADABLE_SECONDS:.0f} seconds"
        )


def _refusal(path: Path, found: _Holder) -> str:
    whose = f"{path.parent} is held by process {found.pid} on {found.host}, since {found.time}"
    if found.host != socket.gethostname():
        return f"{whose}: another machine, which cannot be asked from here. If that process is gone, remove {path}"
    if found.pid == os.getpid():
        return f"{whose}: this process itself, which holds it already"
    return f"{whose}: wait for its end, or take another folder"
