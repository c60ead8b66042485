"""The folder of a run: made so that no two runs get the same one, and saying what made it. Free of torch."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import platform
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from delira_nca._version import __version__
from delira_nca.errors import ConfigError
from delira_nca.io.files import replaced
from delira_nca.machine import cpu_name

__all__ = ["claim_folder", "write_environment"]


def claim_folder(parent: str | os.PathLike[str], name: str) -> Path:
    """Make a new folder: the first of ``name``, ``name-2``, ``name-3``, ... that is not there yet.

    Two processes that ask at the same moment get two folders.

    Parameters
    ----------
    parent : folder to make it in, which is made if need be.
    name : of the folder, one without a path.

    Raises
    ------
    ConfigError
        If the name is empty or a path, or ``parent`` cannot be a folder.

    Examples
    --------
    >>> runs = getfixture("tmp_path")
    >>> [claim_folder(runs, "dahlia").name for _ in range(3)]
    ['dahlia', 'dahlia-2', 'dahlia-3']
    """
    if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
        raise ConfigError(f"a run is named by a word, not {name!r}")
    parent = Path(parent)
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{parent} cannot be the folder of runs: something else has its name") from error
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there is always a next number")


def write_environment(folder: str | os.PathLike[str], **facts: Any) -> Path:
    """Write ``environment.json``: versions, processor, platform, command line, host and time of this process.

    Environment variables are not written, since they hold keys and passwords. A former file is replaced.

    Parameters
    ----------
    folder : path
        Folder of the file.
    **facts : plain values
        More entries of the file, such as back end and instruction set.

    Returns
    -------
    Path
        Of the file.

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
    path = Path(folder) / "environment.json"
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def _version_of(package: str) -> str | None:
    """Of what is imported, else of what is installed."""
    loaded = getattr(sys.modules.get(package), "__version__", None)
    if loaded is not None:
        return str(loaded)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
