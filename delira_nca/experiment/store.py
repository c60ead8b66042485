"""Run folders: creation, search, listing and removal. Does not import torch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from delira_nca.errors import (
    CheckpointError,
    ConfigError,
    MissingFileError,
    RunLockedError,
    UnknownNameError,
    did_you_mean,
    require_choice,
)
from delira_nca.experiment.database import StatsDatabase
from delira_nca.experiment.plain_files import differences, read_plain
from delira_nca.experiment.stats import TrainingIterationStats, TrainingStats, ValidationScores
from delira_nca.io.files import make_folder, writable
from delira_nca.io.manifest import checkpoints_in
from delira_nca.io.paths import absolute
from delira_nca.io.resume import newest_run_files, plan_resume
from delira_nca.io.run_folder import require_folder_name
from delira_nca.io.run_lock import RunLock

__all__ = ["CONFIG_FILES", "STATS_FILE", "BestResult", "RunStore", "StoredRun"]

CONFIG_FILES = ("config.yaml", "config.json", "experiment.json")
STATS_FILE = "stats.sqlite"


@dataclass(frozen=True)
class BestResult:
    """Best validation of a run by one criterion.

    Attributes
    ----------
    criterion : str
        Name of the criterion.
    value : float
        Mean over the data sets, with the parameters for which it is the best.
    iteration : int
        Last iteration before the validation.
    parameters : object
        Parameters of the best value; see :class:`~delira_nca.experiment.stats.ValidationScores`.
    checkpoint : str or path, optional
        File of the validated weights, or None if it was not kept.
    """

    criterion: str
    value: float
    iteration: int
    parameters: Any
    checkpoint: Path | None


class StoredRun:
    """Folder of a run. Files are read on demand.

    The folder contains ``config.yaml`` or ``config.json``, ``checkpoints/``, ``stats.sqlite`` with the statistics, and
    ``best/`` with the weights of the best validations. Several processes of one machine can read and write the
    statistics concurrently; only one training at a time can write checkpoints.

    Parameters
    ----------
    folder : str or path
        Folder of the run.

    Examples
    --------
    >>> run = StoredRun(getfixture("tmp_path") / "dahlia")
    >>> run.add_training([TrainingIterationStats(0, 0.5), TrainingIterationStats(1, 0.25)])
    2
    >>> run.delete_after(1)
    (1, 0)
    >>> run.training_stats().iteration_stats
    [TrainingIterationStats(iteration=0, loss=0.5, time=nan, values={})]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = absolute(folder)
        self.database = StatsDatabase(self.folder / STATS_FILE)

    @property
    def name(self) -> str:
        """Name of the run, which is that of its folder."""
        return self.folder.name or self.folder.resolve().name

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints: ``checkpoints``, or the folder of the run if it contains them."""
        inside = self.folder / "checkpoints"
        return self.folder if not inside.is_dir() and checkpoints_in(self.folder) else inside

    def checkpoint(self, name: str = "best") -> Path:
        """File of a checkpoint.

        Parameters
        ----------
        name : str
            ``"best"`` for the best epoch, or the newest if there is none; ``"latest"``; or the name of a file.

        Raises
        ------
        MissingFileError
            If there is no such checkpoint. The message lists the existing ones.
        """
        found = checkpoints_in(self.checkpoints)
        if name == "best" and any(file.stem == "checkpoint_best" for file in found):
            best = [file for file in newest_run_files(self.checkpoints) if file.stem == "checkpoint_best"]
            if best:
                return max(best, key=lambda file: file.stat().st_mtime)
        if name in ("best", "latest"):
            if (latest := self.latest_checkpoint()) is None:
                raise MissingFileError(f"run {self.folder} contains no checkpoint yet")
            return latest
        file = self.checkpoints / name
        if file.parent != self.checkpoints or not file.is_file():
            there = ", ".join(file.name for file in found) or "none"
            raise MissingFileError(f"there is no checkpoint {name!r} in {self.checkpoints}; there: {there}")
        return file

    def weights(self, checkpoint: str = "best") -> dict[str, Any]:
        """State dict of the network.

        Parameters
        ----------
        checkpoint : str
            ``"best"`` for the weights of the best epoch, or of the last one without a score; ``"latest"`` for those of
            the last epoch; or the name of a file in :attr:`checkpoints`.

        Raises
        ------
        MissingFileError, CheckpointError
            If there is no such checkpoint, or none is intact.
        """
        from delira_nca.io.checkpoint import load_checkpoint

        state = load_checkpoint(self.checkpoint("latest" if checkpoint == "best" else checkpoint))
        return dict((checkpoint == "best" and state.get("best_weights")) or state["network"])

    def load_into(self, network: Any, checkpoint: str = "best") -> Any:
        """Load the weights into a network, and return it in evaluation mode.

        Parameters
        ----------
        network : torch.nn.Module
            Network, compiled or not.
        checkpoint : str
            See :meth:`weights`.

        Raises
        ------
        MissingFileError, CheckpointError
            If there is no intact checkpoint, or its weights do not fit the network.
        """
        from delira_nca.models.compiled import unwrapped

        network = unwrapped(network)
        try:
            network.load_state_dict(self.weights(checkpoint))
        except (KeyError, RuntimeError) as error:
            name = type(network).__name__
            raise CheckpointError(f"the run in {self.folder} does not fit a {name} of this config: {error}") from None
        return network.eval()

    @property
    def best_weights(self) -> Path:
        """Folder of the best weights by each criterion."""
        return self.folder / "best"

    @property
    def config(self) -> dict[str, Any]:
        """Config of the run as plain values; empty if it has none.

        Raises
        ------
        ConfigError
            If the file cannot be read.
        """
        for name in CONFIG_FILES:
            if (self.folder / name).is_file():
                return read_plain(self.folder / name)
        return {}

    def latest_checkpoint(self) -> Path | None:
        """Newest intact checkpoint, or None if there are no checkpoints.

        Raises
        ------
        CheckpointError
            If checkpoints exist, but none is readable.
        """
        return plan_resume("auto", self.checkpoints).path

    # Statistics -------------------------------------------------------------------------------------------------------

    def training_stats(self) -> TrainingStats:
        """Statistics of all training iterations, in their order."""
        return self.database.training_stats()

    def validation_scores(self) -> ValidationScores | None:
        """Scores of all validations, in their order, or None without validations."""
        return self.database.validation_scores()

    def add_training(self, records: Iterable[TrainingIterationStats]) -> int:
        """Add records atomically and return the number of new ones; see :meth:`StatsDatabase.add_training`."""
        return self.database.add_training(records)

    def add_validation(self, scores: ValidationScores) -> int:
        """Add scores atomically and return the number of new ones; see :meth:`StatsDatabase.add_validation`."""
        return self.database.add_validation(scores)

    def delete_after(self, iteration: int) -> tuple[int, int]:
        """Delete this and all later iterations; return the numbers of deleted records and validations."""
        return self.database.delete_after(iteration)

    def best(self, criterion: str, dataset: str | None = None) -> BestResult | None:
        """Best validation by a criterion.

        Parameters
        ----------
        criterion : str
            Name of the criterion.
        dataset : str, optional
            Name of the data set; the mean over all data sets by default.

        Returns
        -------
        BestResult or None
            The earliest of equal results, with its first parameters. A NaN is never the best; None if all are NaN.

        Raises
        ------
        UnknownNameError
            For a criterion or a data set that is not recorded.
        ConfigError
            If there are no validations.
        """
        scores = self.validation_scores()
        if scores is None:
            raise ConfigError(f"run {self.name!r} has no validation whose best could be found by {criterion!r}")
        higher = scores.evaluation_scores.higher_is_better(criterion)
        column = scores.criteria.index(criterion)
        if dataset is not None and dataset not in scores.datasets:
            raise UnknownNameError(f"unknown data set {dataset!r}. {did_you_mean(dataset, scores.datasets)}")
        chosen = range(len(scores.datasets)) if dataset is None else [scores.datasets.index(dataset)]
        best: tuple[float, int, int] | None = None
        for entry in scores.scores:
            for number in range(len(scores.parameters)):
                value = sum(entry.scores[d][number][column] for d in chosen) / len(chosen)
                if not math.isnan(value) and (best is None or (value > best[0] if higher else value < best[0])):
                    best = value, entry.iteration, number
        if best is None:
            return None
        value, iteration, number = best
        return BestResult(criterion, value, iteration, scores.parameters[number], self._kept(criterion, iteration))

    def _kept(self, criterion: str, iteration: int) -> Path | None:
        name = self.database.kept_weights().get((criterion, iteration))
        path = None if name is None else self.best_weights / name
        return path if path is not None and path.is_file() else None

    def __repr__(self) -> str:
        return f"StoredRun({str(self.folder)!r})"


class RunStore:
    """Folder of runs, each in a folder of its name.

    A run is a folder with a ``config.yaml``, a ``config.json`` or a ``stats.sqlite``; other folders are ignored.
    Several processes can use one store concurrently.

    Parameters
    ----------
    root : str or path
        Folder of the runs, which is created by the first run.

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
        """Create a run. Of two concurrent processes, only one creates it.

        Parameters
        ----------
        name : str
            Name of the run and its folder, a single word.
        config : object
            Config, which is written to ``config.json``: a mapping of plain values, a dataclass, or an object with
            ``to_dict``. Nothing is written if None.
        exist : str
            ``"error"`` to raise an error if the run exists; ``"resume"`` to open it if its config is the same.

        Raises
        ------
        ConfigError
            If the name is invalid, the config is not plain, or the folder exists and is not a run that can be resumed.
        """
        require_choice("exist", exist, ("error", "resume"))
        require_folder_name(name)
        plain = None if config is None else _as_plain(config)
        folder = self.root / name
        if not folder.exists() and self._make(folder, plain):
            return StoredRun(folder)
        if not _is_run(folder):
            raise ConfigError(f"{folder} is there already, and is not a run: take another name")
        if exist == "error":
            raise ConfigError(f"{folder} already holds a run: take another name, or exist='resume' to resume it")
        run = StoredRun(folder)
        if plain is not None:
            _require_same(run.config, plain, folder)
        return run

    def open(self, name: str) -> StoredRun:
        """Open a run.

        Raises
        ------
        MissingFileError
            If there is no run of this name. The message contains the nearest name.
        """
        if name not in self:
            raise MissingFileError(f"there is no run {name!r} in {self.root}. {did_you_mean(name, self.names())}")
        return StoredRun(self.root / name)

    def delete(self, name: str) -> None:
        """Remove a run and all of its files, atomically for other processes.

        Raises
        ------
        MissingFileError
            If there is no run of this name.
        RunLockedError
            If a process is training in its folder or a subfolder.
        ConfigError
            If its folder is a symbolic link.
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
        """Create the folder with its files atomically; return False if another process has created it."""
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
    """Config after a round trip through JSON."""
    if callable(getattr(config, "to_dict", None)):
        config = config.to_dict()
    elif dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        raise ConfigError(f"the config of a run is a mapping of plain values, not {config!r}")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(config), default=_as_number))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the config of a run holds something that is not a plain value: {error}") from error
    return plain


def _as_number(value: Any) -> Any:
    if isinstance(value, Integral | Real):  # NumPy numbers
        return int(value) if isinstance(value, Integral) else float(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _require_same(known: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    different = differences(_as_plain(known), new)
    if different:
        shown = "; ".join(f"{name} is {a!r} there, {b!r} here" for name, (a, b) in sorted(different.items())[:5])
        raise ConfigError(f"{folder} holds a run with another config, in {len(different)} places: {shown}")
