"""Creation of run folders and of their ``environment.json``. Does not import torch."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from delira_nca._version import __version__
from delira_nca.errors import ConfigError, UnwritableError
from delira_nca.io.files import make_folder, replaced, writable
from delira_nca.io.paths import absolute
from delira_nca.io.process import is_alive, start_time
from delira_nca.io.run_lock import is_locked
from delira_nca.machine import cpu_name

__all__ = [
    "claim_folder",
    "is_abandoned",
    "kept_if_trained",
    "require_folder_name",
    "was_made_by_living_process",
    "write_environment",
]


def claim_folder(parent: str | os.PathLike[str], name: str) -> Path:
    """Create a new folder with the first free name of ``name``, ``name-2``, ``name-3``, ...

    Concurrent calls create different folders.

    Parameters
    ----------
    parent : str or path-like
        Parent folder. It is created if it does not exist.
    name : str
        Name of the folder, without a path.

    Raises
    ------
    ConfigError
        If the name is not valid for a folder.
    UnwritableError
        If a folder cannot be created.

    Examples
    --------
    >>> runs = getfixture("tmp_path")
    >>> [claim_folder(runs, "dahlia").name for _ in range(3)]
    ['dahlia', 'dahlia-2', 'dahlia-3']
    """
    require_folder_name(name)
    parent = make_folder(parent)
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            with writable(folder):
                folder.mkdir()
        except UnwritableError as error:
            if isinstance(error.__cause__, FileExistsError):
                continue
            raise
        return folder
    raise AssertionError("there is always a next number")


def require_folder_name(name: object, what: str = "a run is named by") -> None:
    """Raise an error unless a name is valid for a run folder.

    Raises
    ------
    ConfigError
        If the name is empty, contains a slash, begins with a dot, or is longer than 200 bytes. The limit leaves room
        for the names of temporary files.

    Examples
    --------
    >>> require_folder_name("a/b")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: a run is named by a word that can name a folder, not 'a/b'
    """
    if not isinstance(name, str) or not name or name.startswith(".") or set(name) & set("/\\\0"):
        raise ConfigError(f"{what} a word that can name a folder, not {name!r}")
    if (length := len(os.fsencode(name))) > 200:
        raise ConfigError(f"{what} a word of at most 200 bytes, not of {length}: '{name[:40]}...'")


def write_environment(folder: str | os.PathLike[str], **facts: Any) -> Path:
    """Write ``environment.json`` with versions, processor, platform, command line, host and time of this process.

    Environment variables are not written, since they can contain keys and passwords. An existing file is replaced.

    Parameters
    ----------
    folder : str or path-like
        Folder of the file.
    **facts : plain values
        Additional entries of the file, such as back end and instruction set.

    Returns
    -------
    Path
        Path of the file.

    Examples
    --------
    >>> path = write_environment(getfixture("tmp_path"))
    >>> sorted(json.loads(path.read_text()))
    ['command', 'host', 'pid', 'platform', 'processor', 'time', 'versions']
    """
    content = {
        "versions": {
            "delira_nca": __version__,
            "torch": _version_of("torch"),
            "numpy": _version_of("numpy"),
            "python": platform.python_version(),
        },
        "platform": platform.platform(),
        "processor": cpu_name(),
        "command": list(sys.orig_argv),
        "host": platform.node(),
        "pid": os.getpid(),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        **facts,
    }
    path = absolute(folder) / "environment.json"
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


@contextlib.contextmanager
def kept_if_trained(folder: Path, has_trained: Callable[[], bool], *, is_new: bool = True) -> Iterator[None]:
    """Remove the files that a run wrote inside the block if it fails before any training.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    has_trained : callable
        Function that returns whether the run has trained.
    is_new : bool
        Whether the folder was created for this run and is removed as well.
    """
    there = set(folder.iterdir())
    try:
        yield
    except BaseException:
        if not has_trained():
            with contextlib.suppress(OSError):
                for path in set(folder.iterdir()) - there:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                if is_new:
                    folder.rmdir()
        raise


def is_abandoned(folder: str | os.PathLike[str]) -> bool:
    """Whether the process that started a run in a folder has ended without writing a checkpoint."""
    checkpoints = absolute(folder) / "checkpoints"
    if not (checkpoints.parent / "environment.json").is_file() or was_made_by_living_process(folder):
        return False
    return not is_locked(checkpoints) and not any(checkpoints.glob("checkpoint*.safetensors"))


def was_made_by_living_process(folder: str | os.PathLike[str]) -> bool:
    """Whether the process that :func:`write_environment` recorded in a folder is running on this machine.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> was_made_by_living_process(folder)
    False
    >>> _ = write_environment(folder)
    >>> was_made_by_living_process(folder)
    True
    """
    path = absolute(folder) / "environment.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        host, pid = content["host"], int(content["pid"])
        began = start_time(pid)
        is_reused = began is not None and path.stat().st_mtime < began - 2.0
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return host == platform.node() and is_alive(pid) and not is_reused


def _version_of(package: str) -> str | None:
    """Version of the imported package, or else of the installed one."""
    loaded = getattr(sys.modules.get(package), "__version__", None)
    if loaded is not None:
        return str(loaded)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
