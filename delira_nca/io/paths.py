"""Conversion of paths that a user gives. Does not import torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from delira_nca.errors import ConfigError

__all__ = ["absolute", "shown", "working_in"]


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path, with ``~`` expanded.

    Call it once, where a path enters the package: a later change of the working directory does not affect the result.

    Parameters
    ----------
    path : str or Path
        Path, absolute or relative to the working directory; ``~`` and ``~user`` are home folders.

    Raises
    ------
    ConfigError
        If the value is not a path, is empty, contains a null character, or has an unknown ``~user``.

    Examples
    --------
    >>> absolute("runs") == Path.cwd() / "runs", absolute("~/runs") == Path.home() / "runs"
    (True, True)
    >>> absolute("")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: expected a path, got ''
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(f"expected a path, got {path!r}")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ConfigError(f"no home folder is known for {text!r}; write './{text}' for a file of that name")
    return Path(os.path.abspath(expanded))


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for display, relative if it is inside the working directory.

    Examples
    --------
    >>> shown(os.path.join(os.getcwd(), "runs", "flower")), shown("/elsewhere")
    ('runs/flower', '/elsewhere')
    """
    path = os.fspath(path)
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the working directory was removed, or the path is on another drive
        return path
    return path if relative.startswith(os.pardir) else relative


@contextlib.contextmanager
def working_in(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Change the working directory of the process inside the block, and restore it afterwards.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> with working_in(folder):
    ...     absolute("a.txt") == folder / "a.txt"
    True
    """
    try:
        former = os.getcwd()
    except FileNotFoundError:  # the working directory was removed
        former = None
    if former == os.fspath(directory):
        yield
        return
    os.chdir(directory)
    try:
        yield
    finally:
        if former is not None:
            os.chdir(former)
