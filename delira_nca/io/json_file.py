"""Parser of JSON files that users write."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from delira_nca.errors import ConfigError, MissingFileError

__all__ = ["parse_json", "without_doubles"]


def parse_json(content: bytes, path: str | os.PathLike[str]) -> Any:
    r"""Parse a JSON text in UTF-8 or, with a byte order mark, in UTF-16 or UTF-32.

    Parameters
    ----------
    content : bytes
        Content of the file.
    path : str or path-like
        Path of the file, for error messages.

    Raises
    ------
    MissingFileError
        If the text is not valid JSON or has another encoding.
    ConfigError
        If an object has a duplicate name.

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
    """Return a dict of the pairs; raise a `ConfigError` for a duplicate name, whose first value would be lost."""
    pairs = list(pairs)
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise ConfigError(f"{key!r} stands there twice")
    return dict(pairs)
