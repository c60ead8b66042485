"""JSON as users write it, with any editor."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from delira_nca.errors import ConfigError, MissingFileError

__all__ = ["parse_json", "without_doubles"]


def parse_json(content: bytes, path: str | os.PathLike[str]) -> Any:
    r"""Value of a JSON text in UTF-8 or, with a byte order mark, in UTF-16 or UTF-32.

    Parameters
    ----------
    content : bytes
    path : str or path-like
        File that it is from, for messages.

    Raises
    ------
    MissingFileError
        If it is not valid JSON, or in another encoding.
    ConfigError
        If a name stands twice in an object.

    Examples
    --------
    >>> parse_json(b'\xef\xbb\xbf{"a": 1}', "a.json")
    {'a': 1}
    """
    try:
        return json.loads(content, object_pairs_hook=without_doubles)
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from None
    except UnicodeDecodeError as error:
        raise MissingFileError(f"{os.fspath(path)} cannot be read: it is not in UTF-8 ({error})") from error
    except ValueError as error:
        raise MissingFileError(f"{os.fspath(path)} is not valid JSON: {error}") from error


def without_doubles(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Dict of pairs.

    Raises
    ------
    ConfigError
        If a name stands there twice, of which the first would be lost.
    """
    pairs = list(pairs)
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise ConfigError(f"{key!r} stands there twice")
    return dict(pairs)
