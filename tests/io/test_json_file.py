"""JSON as users write it."""

import json

import pytest

from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.io.json_file import parse_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_unicode_encoding_is_read(encoding):
    value = {"name": "größe", "a": [1, 2.5, None]}
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(encoding), "a.json") == value


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b'{"a": 1,}', MissingFileError, "a.json is not valid JSON: .*line 1"),
        (b"", MissingFileError, "a.json is not valid JSON"),
        ('"ö"'.encode("latin-1"), MissingFileError, "a.json cannot be read: it is not in UTF-8"),
        (b'[{"a": 1, "b": 2, "a": 3}]', ConfigError, "a.json: 'a' stands there twice"),
    ],
)
def test_what_is_no_json_is_named(content, error, message):
    with pytest.raises(error, match=message):
        parse_json(content, "a.json")
