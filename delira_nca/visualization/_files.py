"""Picture files: which there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from delira_nca.errors import UnknownNameError, did_you_mean

__all__ = ["suffix_of"]


def suffix_of(path: Path, known: Sequence[str]) -> str:
    """Suffix of the path in lower case, which says the format.

    Raises
    ------
    UnknownNameError
        If it is none of the known ones, which are listed.

    Examples
    --------
    >>> suffix_of(Path("runs/dahlia/film.GIF"), [".gif", ".png"])
    '.gif'
    """
    suffix = path.suffix.lower()
    if suffix not in known:
        raise UnknownNameError(f"cannot write '{path}': unknown suffix {suffix!r}. {did_you_mean(suffix, known)}")
    return suffix
