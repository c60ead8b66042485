"""Manifest of a folder's checkpoints, with size, epoch and run of each. Does not import torch."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from delira_nca.errors import CheckpointError, ConfigError
from delira_nca.io.files import replaced
from delira_nca.io.paths import absolute

__all__ = ["Manifest", "ManifestEntry", "checkpoints_in", "require_name", "state_position"]

_PATTERNS = ("checkpoint*.safetensors", "checkpoint*.pt")
"""File name patterns of checkpoints; the second one is that of version 0.1."""
_FORMAT = 1
_LOGGER = logging.getLogger("delira_nca")


@dataclass(frozen=True)
class ManifestEntry:
    """Entry of a checkpoint.

    Attributes
    ----------
    name : str
        Name of the file, without a folder.
    size : int
        Bytes of the file.
    epoch, iteration : int or None
        Number of completed epochs and iterations; None for an unreadable file that was found in the folder.
    run_id : str or None
        Run that wrote the file; None if unknown.
    time : str
        Time at which the file was added, in ISO 8601.
    """

    name: str
    size: int
    epoch: int | None
    iteration: int | None
    run_id: str | None
    time: str

    @classmethod
    def from_dict(cls, values: Any) -> ManifestEntry:
        """Create an entry from values of a manifest."""
        try:
            entry = cls(**{key: value for key, value in values.items() if key != "sha256"})  # entry of version 0.1
        except (AttributeError, TypeError) as error:
            raise ConfigError(f"not an entry of a manifest: {values!r}") from error
        require_name(entry.name)
        texts = (entry.time, *(() if entry.run_id is None else (entry.run_id,)))
        numbers = (entry.size, *(number for number in (entry.epoch, entry.iteration) if number is not None))
        if not all(isinstance(t, str) for t in texts) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ConfigError(f"not an entry of a manifest: {values!r}")
        return entry


class Manifest:
    """File ``manifest.json`` in a folder of checkpoints.

    Each call reads the file, and each change replaces it atomically. Only one process may write at a time: hold a
    :class:`~delira_nca.io.run_lock.RunLock`. If the file is missing or damaged, it is rebuilt from the checkpoints of
    the folder. The runs of these checkpoints are then unknown, and the checkpoints are never removed.

    Parameters
    ----------
    folder : str or path-like
        Folder of the checkpoints.
    run_id : str
        Identifier of this run. A resumed run keeps it and can remove its earlier checkpoints.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "checkpoint_1.safetensors").write_bytes(b"...")
    >>> manifest = Manifest(folder, "a")
    >>> manifest.add(folder / "checkpoint_1.safetensors", epoch=1, iteration=0).size
    3
    >>> Manifest(folder, "b").remove("checkpoint_1.safetensors"), manifest.remove("checkpoint_1.safetensors")
    (False, True)
    """

    def __init__(self, folder: str | os.PathLike[str], run_id: str) -> None:
        if not isinstance(run_id, str) or not run_id:
            raise ConfigError(f"run_id is a word, not {run_id!r}")
        self.folder, self.run_id = absolute(folder), run_id
        self.path = self.folder / "manifest.json"

    def entries(self) -> tuple[ManifestEntry, ...]:
        """Return the entries with an existing file, the oldest first."""
        return tuple(e for e in self._read() if (self.folder / e.name).is_file())

    def mine(self) -> tuple[ManifestEntry, ...]:
        """Return the entries of this run."""
        return tuple(e for e in self.entries() if e.run_id == self.run_id)

    def add(self, path: str | os.PathLike[str], *, epoch: int, iteration: int = 0) -> ManifestEntry:
        """Add a checkpoint that this run has written. An existing entry of the same name is replaced.

        Parameters
        ----------
        path : str or path-like
            Path of the file in the folder, or its name.
        epoch, iteration : int
            Number of completed epochs and iterations.

        Returns
        -------
        ManifestEntry
            The new entry.

        Raises
        ------
        ConfigError
            If the file is in another folder, or a number is negative.
        CheckpointError
            If the file or the manifest cannot be read or written.
        """
        path = Path(path)
        if str(path.parent) != "." and path.parent.resolve() != self.folder.resolve():
            raise ConfigError(f"{path} does not lie in {self.folder}, of which this is the manifest")
        require_name(path.name)
        if not all(type(number) is int and number >= 0 for number in (epoch, iteration)):
            raise ConfigError(f"epoch and iteration are numbers from 0, not {epoch!r} and {iteration!r}")
        try:
            entry = _describe(self.folder / path.name, epoch, iteration, run_id=self.run_id)
        except OSError as error:
            raise CheckpointError(f"cannot list {self.folder / path.name}: {error}") from error
        self._write([*(e for e in self.entries() if e.name != entry.name), entry])
        return entry

    def remove(self, name: str) -> bool:
        """Delete a checkpoint if this run wrote it and its size is unchanged.

        Returns
        -------
        bool
            Whether the file was deleted.

        Raises
        ------
        ConfigError
            If the name is a path.
        CheckpointError
            If the file cannot be deleted or the manifest cannot be written.
        """
        require_name(name)
        entries = self._read()
        entry = next((e for e in entries if e.name == name and e.run_id == self.run_id), None)
        if entry is None:
            return False
        path, deleted = self.folder / name, False
        try:
            if path.is_file() and not path.is_symlink():
                if path.stat().st_size != entry.size:
                    return False
                path.unlink()
                deleted = True
        except OSError as error:
            raise CheckpointError(f"cannot delete {path}: {error}") from error
        self._write([e for e in entries if e is not entry])
        return deleted

    def _read(self) -> list[ManifestEntry]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or content.get("format") != _FORMAT:
                raise ConfigError(f"not of format {_FORMAT}")
            entries = [ManifestEntry.from_dict(values) for values in content["checkpoints"]]
            if len({e.name for e in entries}) != len(entries):
                raise ConfigError("a name is listed twice")
        except FileNotFoundError:
            return self._rebuilt()
        except (ValueError, KeyError, TypeError) as error:
            _LOGGER.warning("%s is damaged and was rebuilt from the files of the folder: %s", self.path, error)
            return self._rebuilt()
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: {error}") from error
        return entries

    def _rebuilt(self) -> list[ManifestEntry]:
        try:
            return [_describe(path, *_position(path), run_id=None) for path in checkpoints_in(self.folder)]
        except OSError as error:
            raise CheckpointError(f"cannot read {self.folder}: {error}") from error

    def _write(self, entries: Iterable[ManifestEntry]) -> None:
        content = {"format": _FORMAT, "checkpoints": [asdict(e) for e in entries]}
        try:
            with replaced(self.path, durable=True) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"cannot write {self.path}: {error}") from error


def checkpoints_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files of a folder with names of checkpoints, sorted by name.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("checkpoint_epoch_1.safetensors", "checkpoint_best.pt", "notes.txt"):
    ...     _ = (folder / name).write_text("")
    >>> [path.name for path in checkpoints_in(folder)]
    ['checkpoint_best.pt', 'checkpoint_epoch_1.safetensors']
    """
    found = {path for pattern in _PATTERNS for path in absolute(folder).glob(pattern) if path.is_file()}
    return sorted(found, key=lambda path: path.name)


def require_name(name: Any) -> None:
    """Raise an error unless a value is a file name without a path.

    Raises
    ------
    ConfigError
        If the value is empty, a path, or not a string.

    Examples
    --------
    >>> require_name("../checkpoint_1.safetensors")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: a checkpoint is listed by its name alone, not '../checkpoint_1.safetensors'
    """
    if not isinstance(name, str) or name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        raise ConfigError(f"a checkpoint is listed by its name alone, not {name!r}")


def state_position(state: Any) -> tuple[int, int]:
    """Return the epoch and iteration of a run's state; the iteration is 0 if the state has none.

    Raises
    ------
    CheckpointError
        If the state has no valid epoch.

    Examples
    --------
    >>> state_position({"epoch": 3, "weights": []})
    (3, 0)
    """
    position = state.get("epoch"), state.get("iteration", 0)
    if not all(type(number) is int and number >= 0 for number in position):
        raise CheckpointError(
            f"it is not the state of a run: its epoch is {position[0]!r}, its iteration {position[1]!r}"
        )
    return position


def _position(path: Path) -> tuple[int | None, int | None]:
    from delira_nca.io.checkpoint import load_checkpoint  # imports torch, which an intact manifest does not need

    try:
        return state_position(load_checkpoint(path))
    except CheckpointError:
        return None, None


def _describe(path: Path, epoch: int | None, iteration: int | None, *, run_id: str | None) -> ManifestEntry:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return ManifestEntry(path.name, path.stat().st_size, epoch, iteration, run_id, now)
