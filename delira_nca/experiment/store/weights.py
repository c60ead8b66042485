"""Find weights: of a run, after an epoch or an iteration, or the best."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError, did_you_mean
from delira_nca.experiment.store.run_store import RunStore
from delira_nca.experiment.store.stored_run import StoredRun
from delira_nca.io.checkpoint import load_checkpoint
from delira_nca.io.manifest import Manifest, checkpoints_in, state_position
from delira_nca.io.paths import absolute
from delira_nca.io.resume import plan_resume

__all__ = ["find_weights"]

_Found = tuple[dict[str, Tensor], str]


def find_weights(run: str, checkpoint: str | int, root: str | os.PathLike[str]) -> _Found:
    """Weights of a run, read without executing anything.

    Parameters
    ----------
    run, checkpoint : see :class:`~delira_nca.experiment.start.StartConfig`.
    root : folder of runs that ``run`` is a name in.

    Returns
    -------
    tuple of (tensors by name, which these are in words)

    Raises
    ------
    MissingFileError
        If there is no such run; with those that there are.
    CheckpointError
        If there is no such checkpoint, with those that there are; or it is damaged, or holds no weights.
    """
    place = _find_place(run, root)
    if place.is_file():
        return _out_of_file(place, checkpoint)
    folder = place / "checkpoints" if (place / "checkpoints").is_dir() else place
    if isinstance(checkpoint, int):
        return _after(folder, "epoch", checkpoint)
    kind, _, what = checkpoint.partition(":")
    if kind == "iteration":
        return _after(folder, kind, int(what))
    if what:
        return _best_by(what, StoredRun(place), folder)
    path = _latest(folder)
    return _best_of(load_checkpoint(path), path) if kind == "best" else _weights_of(load_checkpoint(path), path)


def _find_place(run: str, root: str | os.PathLike[str]) -> Path:
    for place in (absolute(root) / run, absolute(run)):
        if place.exists():
            return place
    known = did_you_mean(run, RunStore(root).names())
    raise MissingFileError(f"there is no run {run!r} in {absolute(root)}, and no file or folder {run!r}. {known}")


def _latest(folder: Path) -> Path:
    path = plan_resume("auto", folder).path
    if path is None:
        raise CheckpointError(f"there is no checkpoint in {folder}")
    return path


def _out_of_file(path: Path, checkpoint: str | int) -> _Found:
    """Weights of one file, which has to be what is asked for."""
    state = load_checkpoint(path)
    if checkpoint == "latest":
        return _weights_of(state, path)
    if checkpoint == "best":
        return _best_of(state, path)
    wanted: int
    there: Any
    if isinstance(checkpoint, int):
        wanted, there = checkpoint, state_position(state)[0]
    elif checkpoint.startswith("iteration:"):
        wanted, there = int(checkpoint.partition(":")[2]), state.get("global_iter_num")
    else:
        raise ConfigError(f"{path} is one checkpoint: take 'latest' or 'best' of it, not {checkpoint!r}")
    if there != wanted:
        raise CheckpointError(f"{path} was not written after {checkpoint!r}, but after {there!r}")
    return _weights_of(state, path)


def _after(folder: Path, kind: str, number: int) -> _Found:
    """Weights after so many epochs or iterations."""
    there: dict[int, list[Path]] = {}
    for path in reversed(checkpoints_in(folder)):  # the best one comes after those of epochs
        if (position := _position(folder, path, kind)) is not None:
            there.setdefault(position, []).append(path)
    if number not in there:
        known = ", ".join(f"{n} ({', '.join(p.name for p in paths)})" for n, paths in sorted(there.items()))
        raise CheckpointError(f"there is no checkpoint after {kind} {number} in {folder}. After {kind}: {known or '-'}")
    path = there[number][0]
    return _weights_of(load_checkpoint(path), path)


def _position(folder: Path, path: Path, kind: str) -> int | None:
    """Epoch or iteration that a checkpoint was written after; None if it cannot be read, or is within an epoch."""
    if kind == "epoch" and (folder / "manifest.json").is_file():
        listed = {entry.name: entry for entry in Manifest(folder, "-").entries()}.get(path.name)
        if listed is not None and listed.size == path.stat().st_size:
            return None if listed.iteration else listed.epoch
    try:
        state = load_checkpoint(path)
        epoch, iteration = state_position(state)
    except CheckpointError:
        return None
    if kind == "epoch":
        return None if iteration else epoch
    return state.get("global_iter_num")


def _best_by(criterion: str, run: StoredRun, folder: Path) -> _Found:
    """Weights that were best by a criterion: those that a recorder has kept, or those that decided in the trainer."""
    recorded = run.validation_scores()
    known = [] if recorded is None else recorded.criteria
    if criterion in known:
        best = run.best(criterion)
        if best is not None and best.checkpoint is not None:
            weights, source = _weights_of(load_checkpoint(best.checkpoint), best.checkpoint)
            return weights, f"{source}, the best {criterion} ({best.value:.6g})"
    path = plan_resume("auto", folder).path
    state: Mapping[str, Any] = {} if path is None else load_checkpoint(path)
    key = (state.get("best") or {}).get("key")
    if path is not None and key is not None and key.removeprefix("val_") == criterion.removeprefix("val_"):
        return _best_of(state, path)
    if criterion in known:
        raise CheckpointError(f"the weights that were best by {criterion!r} were not kept in {run.folder}")
    decides = "none" if key is None else repr(key)
    raise CheckpointError(
        f"{run.folder} has no best weights by {criterion!r}; its epochs were decided by {decides}. Recorded: "
        f"{did_you_mean(criterion, known)}"
    )


def _best_of(state: Mapping[str, Any], path: Path) -> _Found:
    """Weights of the best epoch, which every checkpoint of a run holds."""
    weights, best = state.get("best_weights"), state.get("best") or {}
    if not weights or best.get("score") is None:
        raise CheckpointError(f"no score has decided which epoch is the best in {path}: take 'latest'")
    return dict(
        weights
    ), f"the weights of epoch {best['epoch']} in {path}, the best {best['key']} ({best['score']:.6g})"


def _weights_of(state: Mapping[str, Any], path: Path) -> _Found:
    weights = state.get("network", state)
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if not tensors or (weights is state and len(tensors) < len(state)):
        raise CheckpointError(f"{path} holds no weights: neither 'network' nor tensors alone")
    epoch, iteration = state.get("epoch"), state.get("iteration")
    when = "" if epoch is None else f" after epoch {epoch}" + (f", iteration {iteration}" if iteration else "")
    return tensors, f"the weights{when} in {path}"
