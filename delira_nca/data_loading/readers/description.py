"""The file ``dataset.json`` of nnU-Net and of the Medical Segmentation Decathlon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delira_nca.data_loading.readers.cases import read_json
from delira_nca.errors import ConfigError, did_you_mean

__all__ = ["DatasetDescription"]


class DatasetDescription:
    """Entries of a ``dataset.json``, which are checked on access.

    Parameters
    ----------
    path : Path
        Path of the file.

    Raises
    ------
    MissingFileError
        If the file does not exist or is not a JSON object.
    ConfigError
        If an entry is missing or invalid; raised by every method.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, read_json(path)

    def channel_names(self, *keys: str) -> tuple[str, ...]:
        """Return the names of the channels by number; ``keys`` are the entry and its former names."""
        key, names = self._mapping(*keys)
        numbers = {_as_class(number): str(name) for number, name in names.items()}
        if set(numbers) != set(range(len(names))) or len(numbers) != len(names):
            raise self._wrong(f"{key} must be {{'0': name, '1': name, ...}}, numbered from 0, not {dict(names)!r}")
        return tuple(numbers[number] for number in range(len(names)))

    def class_names(self) -> dict[str, Any]:
        """Return the value of each class, or the values of each region, by name.

        Files of nnU-Net 1 and the Decathlon, which map values to names, are supported.
        """
        labels = self._mapping("labels")[1]
        if all(isinstance(value, str) for value in labels.values()) and None not in map(_as_class, labels):
            pairs = [(_as_class(value), _as_class(name)) for value, name in labels.items()]
            if all(name is not None for _, name in pairs) and any(value != name for value, name in pairs):
                raise self._wrong(f"labels may mean {{value: name}} or {{name: value}}: {dict(labels)!r}")
            labels = {name: value for value, name in labels.items()}
        found: dict[str, Any] = {}
        for name, value in labels.items():
            parts = [_as_class(part) for part in (value if isinstance(value, list) and value else [value])]
            if None in parts:
                raise self._wrong(f"the class {name!r} of labels must be a whole number of at least 0, not {value!r}")
            found[name] = parts if isinstance(value, list) else parts[0]
        return found

    def classes(self) -> set[int]:
        """Return the values of all classes."""
        entries = self.class_names().values()
        return {value for entry in entries for value in (entry if isinstance(entry, list) else [entry])}

    def file_ending(self) -> str:
        """Return ``file_ending``; ``".nii.gz"`` by default."""
        ending = self.content.get("file_ending", ".nii.gz")
        if not isinstance(ending, str) or not ending.startswith("."):
            raise self._wrong(f"file_ending must begin with a dot, as in '.nii.gz', not {ending!r}")
        return ending

    def require_count(self, key: str, count: int) -> None:
        """Check that the number of cases is that of an entry, if the entry exists."""
        told = self.content.get(key, count)
        if _as_class(told) != count:
            raise self._wrong(f"{key} is {told!r}, but there are {count} cases")

    def _mapping(self, *keys: str) -> tuple[str, Mapping[str, Any]]:
        key = next((key for key in keys if key in self.content), keys[0])
        if key not in self.content:
            raise self._wrong(f"it must have {' or '.join(keys)}. {did_you_mean(key, self.content)}")
        value = self.content[key]
        if not isinstance(value, Mapping) or not value:
            raise self._wrong(f"{key} must be an object with at least one entry, not {value!r}")
        return key, value

    def _wrong(self, text: str) -> ConfigError:
        return ConfigError(f"{os.fspath(self.path)!r}: {text}")


def _as_class(value: Any) -> int | None:
    """Convert an integer, text or float to an integer of at least 0; return None for other values."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if is_number and value >= 0 and value == value // 1 else None
