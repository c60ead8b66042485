"""Paths as users write them, made absolute once."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["absolute"]


def absolute(path: str | os.PathLike[str]) -> Path:
    """Expand ``~`` and make a path absolute; links are not resolved.

    Objects that keep a path call it once, when they are made, so that a later change of the working directory has no
    effect.

    Parameters
    ----------
    path : str or path-like
        Relative to the working directory, or absolute.

    Returns
    -------
    Path

    Examples
    --------
    >>> absolute("runs/../data") == Path.cwd() / "data", absolute("~") == Path.home()
    (True, True)
    """
    return Path(os.path.abspath(os.path.expanduser(path)))
