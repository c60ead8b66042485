"""Choice of the checkpoint from which a run resumes. Does not import torch."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError
from delira_nca.io.manifest import Manifest, checkpoints_in, state_position
from delira_nca.io.paths import absolute

__all__ = ["ResumePlan", "newest_run_files", "plan_resume"]

_BEST = "checkpoint_best"
_NOT_WANTED = "resume='never'"
_OLDER_RUN = "it is of another run, which wrote before"
_Load = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class ResumePlan:
    """Starting point of a run. Its string is a short report.

    Attributes
    ----------
    action : {"start", "resume"}
        Whether the run starts from the beginning or resumes.
    path : Path or None
        Checkpoint to resume from; None to start.
    epoch, iteration : int
        Position that is stored in the checkpoint; 0 to start.
    skipped : tuple of (Path, str)
        Checkpoints that are not used, the newest first, each with the reason.
    """

    action: Literal["start", "resume"]
    path: Path | None = None
    epoch: int = 0
    iteration: int = 0
    skipped: tuple[tuple[Path, str], ...] = ()

    def __str__(self) -> str:
        if self.action == "resume":
            iteration = f", iteration {self.iteration}" if self.iteration else ""
            lines = [f"resume after epoch {self.epoch}{iteration}", f"  from {self.path}"]
            if self.path is not None and self.path.suffix == ".pt":
                lines.append("  which is in the format of version 0.1; new checkpoints are written as .safetensors")
        else:
            lines = ["start from the beginning"]
        return "\n".join([*lines, *(f"  not from {path}: {reason}" for path, reason in self.skipped)])


def plan_resume(
    resume: str | os.PathLike[str], folder: str | os.PathLike[str] | None, load: _Load | None = None
) -> ResumePlan:
    """Choose the starting point of a run. No file is changed.

    Parameters
    ----------
    resume : {"never", "auto"} or path-like
        ``"never"`` starts from the beginning. ``"auto"`` resumes from the newest valid checkpoint of the folder, and
        starts if there is no checkpoint. A path is a checkpoint, or a folder with checkpoints, of which the newest
        valid one is used. If several runs have written to the folder, the run that wrote last is resumed.
    folder : path-like or None
        Folder of this run's checkpoints; None if the run writes none.
    load : callable, optional
        Function that reads a checkpoint or raises CheckpointError;
        :func:`~delira_nca.io.checkpoint.load_checkpoint` by default.

    Returns
    -------
    ResumePlan
        The starting point.

    Raises
    ------
    CheckpointError
        If the given file cannot be read, if none of the checkpoints can be read, or if the given folder has none.
    MissingFileError
        If the path does not exist; with the closest existing name.
    ConfigError
        If ``resume`` is not one of these, or is ``"auto"`` without a folder.

    Examples
    --------
    >>> from delira_nca.io import save_checkpoint
    >>> folder = getfixture("tmp_path")
    >>> print(plan_resume("auto", folder))
    start from the beginning
    >>> for epoch in (1, 2):
    ...     save_checkpoint({"epoch": epoch}, folder / f"checkpoint_epoch_{epoch}.safetensors")
    >>> _ = (folder / "checkpoint_epoch_2.safetensors").write_bytes(b"")
    >>> print(plan_resume("auto", folder))
    resume after epoch 1
      from ...checkpoint_epoch_1.safetensors
      not from ...checkpoint_epoch_2.safetensors: it is empty
    """
    if not isinstance(resume, str | os.PathLike) or not str(resume):
        raise ConfigError(f"resume is 'never', 'auto', or the path of a checkpoint or of a folder, not {resume!r}")
    load = _load_checkpoint if load is None else load
    if resume == "never":
        there = () if folder is None else tuple((path, _NOT_WANTED) for path in _checkpoints(absolute(folder)))
        return ResumePlan("start", skipped=there)
    if resume == "auto":
        if folder is None:
            raise ConfigError("resume='auto' needs the folder of the checkpoints: this run has none")
        return _newest(absolute(folder), load) or ResumePlan("start")
    path = absolute(resume)
    if path.is_dir():
        if (plan := _newest(path, load)) is None:
            raise CheckpointError(
                f"there is no checkpoint in {path}: no file of it is a checkpoint*.safetensors or checkpoint*.pt"
            )
        return plan
    if not path.exists():
        raise MissingFileError(f"there is no {resume} to resume from{_nearest(path, resume)}")
    return _from_file(path, load)


def _from_file(path: Path, load: _Load) -> ResumePlan:
    try:
        epoch, iteration = state_position(load(path))
    except CheckpointError as error:
        message = f"cannot resume from {path}: {_reason(error, path)}"
        try:
            other = _newest(path.parent, load)
        except CheckpointError:
            other = None
        if other is not None:
            message += f". The newest that can be read beside it is {other.path}, of epoch {other.epoch}"
        raise CheckpointError(message) from error
    return ResumePlan("resume", path, epoch, iteration)


class _Survey:
    """Checkpoints of a folder: their positions and runs, from the manifest where it is right, else from the files."""

    def __init__(self, paths: Sequence[Path], folder: Path, load: _Load) -> None:
        self.paths, self._load = paths, load
        self.ranks: dict[Path, tuple[int, int]] = {}
        self.runs: dict[Path, str | None] = {}
        self.whole: set[Path] = set()
        self.damaged: dict[Path, str] = {}
        manifest = folder / "manifest.json"
        listed = {e.name: (i, e) for i, e in enumerate(Manifest(folder, "-").entries())} if manifest.is_file() else {}
        listed_at = manifest.stat().st_mtime if manifest.is_file() else -1.0
        written: dict[Path, tuple[float, float]] = {}
        for path in paths:
            place, entry = listed.get(path.name, (-1, None))
            self.runs[path] = None if entry is None else entry.run_id
            is_right = entry is not None and entry.run_id is not None and path.stat().st_size == entry.size
            if entry is not None and is_right and entry.epoch is not None:
                self.ranks[path] = (entry.epoch, entry.iteration or 0)
                written[path] = (listed_at, place)
            else:  # a file that was written just before a kill is not in the manifest yet
                self.read(path)
                written[path] = (path.stat().st_mtime, place)
        known = [path for path in paths if self.runs[path] is not None]
        newest = self.runs[max(known, key=lambda path: written[path])] if known else None
        self.older = [path for path in paths if self.runs[path] not in (None, newest)]

    def read(self, path: Path) -> None:
        """Read position and run from a file."""
        try:
            state = self._load(path)
            self.ranks[path], self.runs[path] = state_position(state), state.get("run_id")
            self.whole.add(path)
        except CheckpointError as error:
            self.damaged[path] = _reason(error, path)


def newest_run_files(folder: Path) -> list[Path]:
    """Return the intact checkpoints of the newest run in a folder, which may have those of older runs as well."""
    survey = _Survey(_checkpoints(folder), folder, _load_checkpoint)
    return [path for path in survey.paths if path not in survey.older and path not in survey.damaged]


def _newest(folder: Path, load: _Load) -> ResumePlan | None:
    """Plan to resume from the newest readable checkpoint of the newest run; None if the folder has no checkpoint."""
    paths = _checkpoints(folder)
    if not paths:
        return None
    survey = _Survey(paths, folder, load)
    older = {path: survey.damaged.get(path, _OLDER_RUN) for path in survey.older}
    while left := [path for path in paths if path not in survey.damaged and path not in older]:
        newest = max(left, key=lambda path: (*survey.ranks[path], path.stem != _BEST, path.name))
        if newest in survey.whole:
            skipped = {**survey.damaged, **older}.items()
            ordered = sorted(skipped, key=lambda item: (survey.ranks.get(item[0], (-1, -1)), item[0]), reverse=True)
            return ResumePlan("resume", newest, *survey.ranks[newest], skipped=tuple(ordered))
        survey.read(newest)  # the position in the file takes precedence over the manifest
    reasons = "\n".join(f"  {path}: {reason}" for path, reason in {**survey.damaged, **older}.items())
    which = "of the newest run " if older else ""
    raise CheckpointError(
        f"no checkpoint {which}in {folder} can be read. Start afresh with resume='never', in another folder\n{reasons}"
    )


def _checkpoints(folder: Path) -> list[Path]:
    if folder.exists() and not folder.is_dir():
        raise MissingFileError(f"{folder} is a file, not the folder of a run's checkpoints")
    return checkpoints_in(folder)


def _load_checkpoint(path: Path) -> Mapping[str, Any]:
    from delira_nca.io.checkpoint import load_checkpoint  # imports torch, which a plan to start does not need

    return load_checkpoint(path)


def _reason(error: CheckpointError, path: Path) -> str:
    """Message of an error without the file name, which the caller adds."""
    return str(error).removeprefix(f"{path} is not a readable checkpoint: ").removeprefix(f"{path} ")


def _nearest(path: Path, given: str | os.PathLike[str]) -> str:
    """End of an error message that suggests the closest entry of the same folder, or ``auto`` or ``never``."""
    names = ["auto", "never"] if os.fspath(given) == path.name else []
    if path.parent.is_dir():
        names += [
            entry.name for entry in path.parent.iterdir() if entry.is_dir() or entry.suffix in (".safetensors", ".pt")
        ]
    elif path.parent != path:
        return f": there is no folder {path.parent} either"
    close = difflib.get_close_matches(path.name, sorted(names), n=1, cutoff=0.5)
    if not close:
        return ""
    is_word = os.fspath(given) == path.name and close[0] in ("auto", "never")
    return f". Did you mean {close[0] if is_word else str(path.with_name(close[0]))!r}?"
