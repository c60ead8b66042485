"""Initial weights from another run."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from delira_nca.checks import is_whole, require_whole
from delira_nca.errors import (
    CheckpointError,
    ConfigError,
    MissingFileError,
    UnknownNameError,
    did_you_mean,
    refuse_unknown_keywords,
    require_choice,
)
from delira_nca.experiment.store import RunStore, StoredRun
from delira_nca.io.checkpoint import load_checkpoint
from delira_nca.io.manifest import Manifest, checkpoints_in, state_position
from delira_nca.io.paths import absolute
from delira_nca.io.resume import plan_resume
from delira_nca.models.compiled import unwrapped

__all__ = ["LoadReport", "StartConfig", "find_weights", "load_start"]

_Found = tuple[dict[str, Tensor], str]


def find_weights(run: str, checkpoint: str | int, root: str | os.PathLike[str]) -> _Found:
    """Read the weights of a run without executing code.

    Parameters
    ----------
    run, checkpoint : str and str or int
        See :class:`~delira_nca.experiment.start.StartConfig`.
    root : str or path
        Folder of runs in which ``run`` is a name.

    Returns
    -------
    tuple of (tensors by name, description of the source)

    Raises
    ------
    MissingFileError
        If there is no such run. The message lists the existing ones.
    CheckpointError
        If there is no such checkpoint, or it is damaged or contains no weights.
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
    """Weights of one file, which must match the requested checkpoint."""
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
    """Weights after ``number`` epochs or iterations."""
    there: dict[int, list[Path]] = {}
    for path in reversed(checkpoints_in(folder)):  # the best checkpoint is sorted after those of epochs
        if (position := _position(folder, path, kind)) is not None:
            there.setdefault(position, []).append(path)
    if number not in there:
        known = ", ".join(f"{n} ({', '.join(p.name for p in paths)})" for n, paths in sorted(there.items()))
        raise CheckpointError(f"there is no checkpoint after {kind} {number} in {folder}. After {kind}: {known or '-'}")
    path = there[number][0]
    return _weights_of(load_checkpoint(path), path)


def _position(folder: Path, path: Path, kind: str) -> int | None:
    """Epoch or iteration of a checkpoint, or None if it is unreadable or within an epoch."""
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
    """Best weights by a criterion, kept by a recorder or by the trainer."""
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
    """Weights of the best epoch, which every checkpoint of a run contains."""
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


_LOGGER = logging.getLogger("delira_nca")
_CHECKPOINTS = "'latest', 'best', 'best:<criterion>', 'iteration:<number>', or the number of an epoch"
_Shapes = tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True)
class StartConfig:
    """Initial weights of a run, described by plain values.

    Parameters
    ----------
    run : str
        Name of a run in the folder of runs, or the path of a run, a folder of checkpoints or a checkpoint.
    checkpoint : str or int
        ``"latest"``: newest intact checkpoint. ``"best"``: weights of the best epoch by the score of the run.
        ``"best:<criterion>"``: weights with the best value of a criterion. A number: weights after that number of
        epochs; ``"iteration:<number>"``: after that number of iterations.
    match : str
        ``"strict"`` to raise an error for any difference between the networks; ``"shape"`` to load only tensors with
        equal names and shapes.
    head_map : dict of int to int or dict of str to str, optional
        Rows of the head in the other run by rows of the head in this network, as numbers or labels; see the notes. If
        None, the head is loaded like any other part.
    head : str or tuple of str
        Names of the tensors of the head, or of modules that contain them.
    labels, source_labels : tuple of str
        Labels of the rows of the head in this network and in the other run, in order; only for a ``head_map`` of
        labels.

    Notes
    -----
    A row is an index into the first dimension of a tensor: the output channel of a convolution, and its bias. With a
    ``head_map``, tensors of the head may differ in the number of rows, even if ``match="strict"``; rows that are not in
    the map keep their weights. Negative numbers count from the end. A row may be copied to several rows.

    If classes are channels of the state (``num_output_channels``) instead of outputs of a head, copying rows is not
    sufficient: channels are also perceived by other cells, through columns of earlier layers. Add a head to such an
    automaton first.

    Examples
    --------
    >>> StartConfig("dahlia", "best:dice", head="rule.last", head_map={0: 2}).head
    ('rule.last',)
    >>> StartConfig("dahlia", "lattest")
    Traceback (most recent call last):
    delira_nca.errors.UnknownNameError: unknown checkpoint 'lattest'. ... Did you mean 'latest'?
    """

    run: str
    checkpoint: str | int = "latest"
    match: str = "strict"
    head_map: dict[int, int] | dict[str, str] | None = None
    head: str | tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    source_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "head", (self.head,) if isinstance(self.head, str) else tuple(self.head))
        set_(self, "labels", tuple(self.labels))
        set_(self, "source_labels", tuple(self.source_labels))
        if not isinstance(self.run, str | os.PathLike) or not str(self.run):
            raise ConfigError(f"run is the name or the path of a run, not {self.run!r}")
        set_(self, "run", str(self.run))
        _check_checkpoint(self.checkpoint)
        if not isinstance(self.checkpoint, str):
            set_(self, "checkpoint", int(self.checkpoint))
        require_choice("match", self.match, ("strict", "shape"))
        if self.head_map is None:
            if self.head or self.labels or self.source_labels:
                raise ConfigError("head, labels and source_labels say nothing without a head_map")
            return
        if not isinstance(self.head_map, Mapping) or not self.head_map:
            raise ConfigError(f"head_map maps rows of this head to rows of the other one, not {self.head_map!r}")
        if not self.head:
            raise ConfigError("head_map needs to know of which tensors the head consists: give head")
        if bool(self.labels) != bool(self.source_labels):
            raise ConfigError("labels need those of both heads: give labels and source_labels")
        if not self.labels:
            set_(self, "head_map", {_as_row(new): _as_row(old) for new, old in self.head_map.items()})
        for what, labels in (("labels", self.labels), ("source_labels", self.source_labels)):
            if len(set(labels)) != len(labels):
                raise ConfigError(f"{what} names one row each, but one is there twice: {labels!r}")
        self.rows()

    def rows(self) -> dict[int, int]:
        """``head_map`` with numbers; empty if None."""
        if self.head_map is None or not self.labels:
            return {int(new): int(old) for new, old in (self.head_map or {}).items()}
        for new, old in self.head_map.items():
            require_choice("label of this head", new, self.labels)
            require_choice("label of the other head", old, self.source_labels)
        return {self.labels.index(new): self.source_labels.index(old) for new, old in self.head_map.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for :meth:`from_dict`, which can be written to JSON and YAML."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StartConfig:
        """Create a config from the result of :meth:`to_dict`.

        Examples
        --------
        >>> StartConfig.from_dict({"run": "dahlia", "head": "rule.last", "head_map": {"0": 2}}).head_map
        {0: 2}
        """
        known = list(cls.__dataclass_fields__)
        refuse_unknown_keywords("start", [name for name in values if name not in known], known)
        if "run" not in values:
            raise ConfigError("start has no run: of whose weights?")
        return cls(**values)


@dataclass(frozen=True)
class LoadReport:
    """Report on the loaded weights of another run.

    Attributes
    ----------
    loaded : tuple of str
        Names of the loaded tensors.
    missing : tuple of str
        Names of tensors that only this network has, which are unchanged.
    unexpected : tuple of str
        Names of tensors that only the other run has.
    mismatched : tuple
        (name, shape in the other run, shape here) of tensors with another shape, which are unchanged.
    source : str
        Description of the weights and their file.
    mapped : tuple of str
        Names of tensors of the head with rows from the other run.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: _Shapes
    source: str
    mapped: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors taken from {self.source}"]
        if self.mapped:
            lines.append(f"  rows of the head: {', '.join(self.mapped)}")
        return "\n".join([*lines, *_differences(self)])


def load_start(network: nn.Module, config: StartConfig, root: str | os.PathLike[str]) -> LoadReport:
    """Load the weights of another run into a network. After an error, the network is unchanged.

    No code in the file is executed. Only weights are loaded, not optimizers, schedules, pools or counters.

    Parameters
    ----------
    network : nn.Module
        Network, the parameters and buffers of which are changed in place.
    config : StartConfig
        Description of the weights and how they must match.
    root : str or path
        Folder of runs in which ``config.run`` is a name.

    Returns
    -------
    LoadReport
        Report, which is also logged.

    Raises
    ------
    MissingFileError, CheckpointError
        If there is no such run or checkpoint, or the file is damaged.
    CheckpointError
        If the networks differ more than ``config.match`` allows, or no tensor fits.
    ConfigError, UnknownNameError
        If the head or its rows do not exist.

    Examples
    --------
    >>> from delira_nca.io import save_checkpoint
    >>> runs = getfixture("tmp_path")
    >>> state = {"epoch": 3, "network": nn.Linear(2, 3).state_dict()}
    >>> save_checkpoint(state, runs / "a" / "checkpoint_epoch_3.safetensors")
    >>> report = load_start(nn.Linear(2, 4), StartConfig("a"), runs)
    Traceback (most recent call last):
    delira_nca.errors.CheckpointError: this network is another than the weights after epoch 3 in ...:
      other shape: weight (3, 2) there, (4, 2) here
      other shape: bias (3,) there, (4,) here
    >>> network = nn.Linear(2, 4)
    >>> print(load_start(network, StartConfig("a", head=("weight", "bias"), head_map={-1: 0}), runs))
    0 tensors taken from the weights after epoch 3 in ...checkpoint_epoch_3.safetensors
      rows of the head: weight, bias
    """
    network = unwrapped(network)
    weights, source = find_weights(config.run, config.checkpoint, root)
    own = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    rows = config.rows()
    head = _head_names(config.head, own)
    new = {name: _with_rows(name, own[name], weights, rows, source) for name in head}
    report = _compare(own, weights, head, source)
    if config.match == "strict" and (report.missing or report.unexpected or report.mismatched):
        raise CheckpointError("\n".join([f"this network is another than {source}:", *_differences(report)]))
    if not report.loaded and not report.mapped:
        raise CheckpointError("\n".join([f"nothing in this network fits {source}:", *_differences(report)]))
    new |= {name: weights[name] for name in report.loaded}
    network.load_state_dict({**network.state_dict(), **new})
    _LOGGER.info("%s", report)
    return report


def _check_checkpoint(value: Any) -> None:
    if is_whole(value):
        require_whole("checkpoint", value, 0)
    elif not isinstance(value, str):
        raise ConfigError(f"checkpoint is {_CHECKPOINTS}, not {value!r}")
    elif not re.fullmatch(r"best:.+|iteration:\d+", value):
        require_choice("checkpoint", value, ("latest", "best", "best:<criterion>", "iteration:<number>"))


def _as_row(value: Any) -> int:
    """Convert a row to a number if possible; in JSON, keys are strings."""
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    if not is_whole(value):
        raise ConfigError(f"head_map maps numbers of rows, not {value!r}: for labels, give labels and source_labels")
    return int(value)


def _head_names(head: Sequence[str], own: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names of tensors in ``head``, or of modules in ``head``."""
    found: list[str] = []
    for given in head:
        names = [name for name in own if name == given or name.startswith(f"{given}.")]
        if not names:
            raise UnknownNameError(f"this network has no tensor or module {given!r}. {did_you_mean(given, own)}")
        found += [name for name in names if name not in found]
    return tuple(found)


def _with_rows(name: str, own: Tensor, weights: Mapping[str, Tensor], rows: Mapping[int, int], source: str) -> Tensor:
    """Copy of a tensor of the head with the mapped rows of the other network."""
    if name not in weights:
        raise CheckpointError(f"{source} have no {name!r} to copy rows of. {did_you_mean(name, weights)}")
    other, filled = weights[name], own.detach().clone()
    if own.ndim == 0 or own.shape[1:] != other.shape[1:]:
        raise CheckpointError(
            f"rows of {name} cannot be copied: they are of shape {tuple(other.shape[1:])} there, and of "
            f"{tuple(own.shape[1:])} here"
        )
    taken: dict[int, int] = {}
    for new, old in rows.items():
        for where, row, length in (("this head", new, len(own)), ("the other head", old, len(other))):
            if not -length <= row < length:
                raise ConfigError(f"{where} has no row {row}: {name} has {length} of them there")
        row = new % len(own)
        if row in taken:
            raise ConfigError(f"head_map names row {row} of {name} twice, as {taken[row]} and as {new}")
        taken[row] = new
        filled[row] = other[old]
    return filled


def _compare(own: Mapping[str, Tensor], other: Mapping[str, Tensor], head: Sequence[str], source: str) -> LoadReport:
    shared = [name for name in own if name in other and name not in head]
    fitting = [name for name in shared if own[name].shape == other[name].shape]
    return LoadReport(
        loaded=tuple(fitting),
        missing=tuple(name for name in own if name not in other),
        unexpected=tuple(name for name in other if name not in own),
        mismatched=tuple(
            (name, tuple(other[name].shape), tuple(own[name].shape)) for name in shared if name not in fitting
        ),
        source=source,
        mapped=tuple(head),
    )


def _differences(report: LoadReport) -> list[str]:
    lines = [f"  only in this network: {', '.join(report.missing)}"] if report.missing else []
    lines += [f"  only in the other one: {', '.join(report.unexpected)}"] if report.unexpected else []
    return lines + [f"  other shape: {name} {theirs} there, {ours} here" for name, theirs, ours in report.mismatched]
