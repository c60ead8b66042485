"""The folder of all runs: made, found, listed, removed by name. Free of torch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError, MissingFileError, RunLockedError, did_you_mean, require_choice
from delira_nca.experiment.store.stored_run import CONFIG_FILES, STATS_FILE, StoredRun
from delira_nca.io.files import make_folder, writable
from delira_nca.io.paths import absolute
from delira_nca.io.run_folder import require_folder_name
from delira_nca.io.run_lock import RunLock

__all__ = ["RunStore"]


class RunStore:
    """The folder of all runs, each in a folder of its name.

    A run is a folder with a ``config.yaml``, a ``config.json`` or a ``stats.sqlite``; others are left alone. Several
    processes may use one store at once.

    Parameters
    ----------
    root : folder; made by the first run.

    Examples
    --------
    >>> store = RunStore(getfixture("tmp_path"))
    >>> store.create("dahlia", {"steps": [48, 64]}).config
    {'steps': [48, 64]}
    >>> store.names(), [run.name for run in store]
    (('dahlia',), ['dahlia'])
    >>> store.open("dalia")
    Traceback (most recent call last):
    delira_nca.errors.MissingFileError: there is no run 'dalia' in .... Known: 'dahlia'. Did you mean 'dahlia'?
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = absolute(root)

    def names(self) -> tuple[str, ...]:
        """Names of all runs, sorted."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        return tuple(sorted(f.name for f in folders if not f.name.startswith(".") and _is_run(f)))

    def __iter__(self) -> Iterator[StoredRun]:
        return (StoredRun(self.root / name) for name in self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _is_name(name) and _is_run(self.root / name)

    def create(self, name: str, config: Any = None, exist: str = "error") -> StoredRun:
        """Make a run. Of two processes that ask at the same moment, one makes it.

        Parameters
        ----------
        name : a word, which names the folder.
        config : what the run is asked to do, written to ``config.json``: a mapping of plain values, a dataclass, or
            anything with a ``to_dict``. None writes none.
        exist : ``"error"`` refuses a run that is there; ``"resume"`` takes it, if its config is the same.

        Raises
        ------
        ConfigError
            If the name is none, the config is not plain, a run is there that is not to be gone on with or has another
            config, or something else is in its place.
        """
        require_choice("exist", exist, ("error", "resume"))
        require_folder_name(name)
        plain = None if config is None else _as_plain(config)
        folder = self.root / name
        if not folder.exists() and self._make(folder, plain):
            return StoredRun(folder)
        if not _is_run(folder):
            raise ConfigError(f"{folder} is there already, and is no run: take another name")
        if exist == "error":
            raise ConfigError(f"{folder} already holds a run: take another name, or exist='resume' to go on with it")
        run = StoredRun(folder)
        if plain is not None:
            _require_same(run.config, plain, folder)
        return run

    def open(self, name: str) -> StoredRun:
        """Find a run.

        Raises
        ------
        MissingFileError
            If there is none of this name; with the nearest one.
        """
        if name not in self:
            raise MissingFileError(f"there is no run {name!r} in {self.root}. {did_you_mean(name, self.names())}")
        return StoredRun(self.root / name)

    def delete(self, name: str) -> None:
        """Remove a run and all of its files, in one step for those who look.

        Raises
        ------
        MissingFileError
            If there is none of this name.
        RunLockedError
            If a process trains in its folder, or in one inside of it.
        ConfigError
            If its folder is a link to somewhere else.
        """
        folder = self.open(name).folder
        if folder.is_symlink():
            raise ConfigError(f"{folder} is a link: remove it, and what it leads to, by hand")
        locked = {folder, *(path.parent for path in folder.rglob("run.lock"))}
        if (folder / "checkpoints").is_dir():
            locked.add(folder / "checkpoints")
        aside = folder.with_name(f".{name}.{uuid.uuid4().hex}.deleted")
        with contextlib.ExitStack() as stack:
            for place in sorted(locked):
                stack.enter_context(RunLock(place))
            try:
                folder.rename(aside)
            except FileNotFoundError as error:
                raise RunLockedError(f"another process has just removed {folder}") from error
        shutil.rmtree(aside)

    def _make(self, folder: Path, config: Mapping[str, Any] | None) -> bool:
        """Make the folder with its files in one step; False if another process was faster."""
        make_folder(self.root)
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
        with writable(self.root):
            temporary.mkdir()
        try:
            StoredRun(temporary).database.create()
            if config is not None:
                text = json.dumps(config, indent=2) + "\n"
                (temporary / "config.json").write_text(text, encoding="utf-8")
            temporary.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            return False
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return True


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).is_file() for name in (*CONFIG_FILES, STATS_FILE))


def _is_name(name: str) -> bool:
    try:
        require_folder_name(name)
    except ConfigError:
        return False
    return True


def _as_plain(config: Any) -> dict[str, Any]:
    """Config as JSON gives it back."""
    if callable(getattr(config, "to_dict", None)):
        config = config.to_dict()
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        raise ConfigError(f"the config of a run is a mapping of plain values, not {config!r}")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(config), default=_as_number))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the config of a run holds something that is no plain value: {error}") from error
    return plain


def _as_number(value: Any) -> Any:
    if isinstance(value, Integral | Real):  # of NumPy
        return int(value) if isinstance(value, Integral) else float(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _require_same(known: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    left, right = dict(_flat(_as_plain(known))), dict(_flat(new))
    different = sorted(name for name in left.keys() | right.keys() if repr(left.get(name)) != repr(right.get(name)))
    if different:
        shown = "; ".join(f"{n} is {left.get(n)!r} there, {right.get(n)!r} here" for n in different[:5])
        raise ConfigError(f"{folder} holds a run with another config, in {len(different)} places: {shown}")


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with its dotted place; a mapping or list that is empty stands for itself."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not parts or not value:
        yield place, value
        return
    for key, part in parts:
        yield from _flat(part, f"{place}.{key}" if place else str(key))
