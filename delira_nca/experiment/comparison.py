"""Comparison of the results of several runs as a table and a plot."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.experiment.plain_files import as_table, differences, read_plain
from delira_nca.experiment.result import RESULT
from delira_nca.experiment.run import config_of
from delira_nca.experiment.store import CONFIG_FILES, RunStore, StoredRun
from delira_nca.io.paths import absolute
from delira_nca.io.run_lock import is_locked
from delira_nca.logging import read_jsonl
from delira_nca.training.scores import higher_is_better

__all__ = ["Comparison", "RunSummary", "compare_runs", "summarise"]


@dataclass(frozen=True)
class RunSummary:
    """Summary of one run in a comparison.

    Attributes
    ----------
    name, folder : str and str or path
        Name and folder of the run.
    state : str
        ``"done"``, ``"running"``, ``"stopped"`` (early, by a callback) or ``"ended"`` (killed or failed).
    values : dict
        Values of the config that differ between the compared runs, by dotted name.
    best_score, best_epoch : float and int, optional
        Best score and its epoch; None if there is no score yet.
    scores : dict of str to float
        Scores of the last epoch.
    history : list of dict of str to float
        One dict per epoch, with ``"epoch"``.
    """

    name: str
    folder: Path
    state: str
    values: dict[str, Any]
    best_score: float | None
    best_epoch: int | None
    scores: dict[str, float]
    history: list[dict[str, float]] = field(repr=False)


@dataclass(frozen=True)
class Comparison:
    """Several runs, sorted from best to worst; runs without a score are last.

    Attributes
    ----------
    runs : tuple of RunSummary
        Summaries of the runs.
    score : str, optional
        Name of the score by which runs are sorted.
    """

    runs: tuple[RunSummary, ...]
    score: str | None

    @property
    def best(self) -> RunSummary:
        """Summary of the best run.

        Raises
        ------
        ConfigError
            If no run has a score.
        """
        if not self.runs or self.runs[0].best_score is None:
            raise ConfigError("no run of the comparison has a score")
        return self.runs[0]

    def _decisive(self) -> str | None:
        """Name of the score in the history: that of validation if there is one."""
        validated = f"val_{str(self.score).removeprefix('val_')}"
        return validated if any(validated in epoch for run in self.runs for epoch in run.history) else self.score

    def rows(self) -> list[dict[str, Any]]:
        """One flat dict of plain values per run."""
        return [
            {
                "run": run.name,
                "state": run.state,
                **run.values,
                self.score or "score": run.best_score,
                "epoch": run.best_epoch,
            }
            for run in self.runs
        ]

    def __str__(self) -> str:
        rows = self.rows()
        names = list(dict.fromkeys(name for row in rows for name in row))
        varied = list(self.runs[0].values)
        by_depth = sorted(varied, key=lambda name: name.count("."))  # what stands at the top of a config says most
        hidden = by_depth[_COLUMNS:]
        names = [name for name in names if name not in hidden]
        cells = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
        more = f"\n{len(hidden)} more values of the configs differ, among them {hidden[0]}" if hidden else ""
        return as_table(cells) + more

    def save_plot(self, path: str | os.PathLike[str], key: str | None = None) -> Path:
        """Plot a score of every run over its epochs.

        Parameters
        ----------
        path : str or path
            Path of the image file.
        key : str, optional
            Name of the score; by default that of the comparison, of validation if there is one.

        Raises
        ------
        ConfigError
            If no run has the score.
        MissingDependencyError
            If matplotlib is not installed.
        """
        from delira_nca.visualization import save_overlay

        key = key or self._decisive()
        points = {run.name: [(e["epoch"], e[key]) for e in run.history if key in e] for run in self.runs}
        lines = {name: ([x for x, _ in of], [y for _, y in of]) for name, of in points.items() if of}
        if not lines:
            raise ConfigError(f"no run has the score {key!r}")
        save_overlay(lines, path, xlabel="epoch", ylabel=str(key))
        return absolute(path)


_COLUMNS = 6
"""Number of differing values that a table shows; runs of different kinds differ in many more."""


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def summarise(folder: str | os.PathLike[str]) -> RunSummary:
    """Summary of one run, created from a config or by a command."""
    folder = absolute(folder)
    result = json.loads((folder / RESULT).read_text(encoding="utf-8")) if (folder / RESULT).is_file() else {}
    metrics = folder / "metrics.jsonl"
    history = [e for e in (read_jsonl(metrics) if metrics.is_file() else []) if "epoch" in e]
    if is_locked(StoredRun(folder).checkpoints):
        state = "running"
    elif result:
        state = "stopped" if result.get("stop_reason") else "done"
    else:
        state = "ended"
    return RunSummary(
        name=folder.name,
        folder=folder,
        state=state,
        values={},
        best_score=result.get("best_score"),
        best_epoch=result.get("best_epoch"),
        scores={k: v for k, v in (history[-1] if history else {}).items() if k not in ("epoch", "step", "time")},
        history=history,
    )


def compare_runs(
    root: str | os.PathLike[str],
    names: Sequence[str] | None = None,
    *,
    failed: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Compare runs of a store by the score of the first run.

    Parameters
    ----------
    root : str or path
        Folder of all runs.
    names : sequence of str, optional
        Names of the runs; all by default.
    failed : mapping of str to mapping, optional
        Configs, by name, of runs among them that failed before the training and have no folder.

    Raises
    ------
    MissingFileError
        If a run does not exist, or there are no runs.
    ConfigError
        If the scores of the runs differ.
    """
    store = RunStore(root)
    runs_there = (run.relative_to(store.root).as_posix() for run in find_runs(store.root))
    chosen = list(runs_there if names is None else names)
    if not chosen:
        raise MissingFileError(f"there is no run in {store.root}")
    lost = failed or {}
    folders = [store.root / name if name in lost else _folder_of(store, name) for name in chosen]
    configs = [lost[name] if name in lost else read_plain(config_of(store.root / name)) for name in chosen]
    scores = {_decides(config) for config in configs}
    if len(scores) > 1:
        raise ConfigError(f"the runs are decided by different scores: {sorted(map(str, scores))}")
    score, mode = scores.pop()
    varied = sorted({n for c in configs for n in differences(configs[0], c) if n != "name"})
    runs = [
        replace(summarise(folder), values={name: _value_of(config, name) for name in varied})
        for folder, config in zip(folders, configs, strict=True)
    ]
    sign = -1.0 if higher_is_better(mode) else 1.0
    runs.sort(key=lambda run: (run.best_score is None, sign * (run.best_score or 0.0), run.name))
    return Comparison(tuple(runs), score)


def find_runs(root: str | os.PathLike[str]) -> list[Path]:
    """Sorted folders of all runs in a folder and in its experiments.

    Examples
    --------
    >>> root = getfixture("tmp_path")
    >>> for place in ("flower", "digits/run", "digits/kfold/fold_0"):
    ...     (root / place).mkdir(parents=True)
    ...     _ = (root / place / "config.yaml").write_text("name: x")
    >>> [run.relative_to(root).as_posix() for run in find_runs(root)]
    ['digits/kfold/fold_0', 'digits/run', 'flower']
    """
    root = absolute(root)
    found = {
        file.parent for name in CONFIG_FILES for depth in ("*", "*/*", "*/*/*") for file in root.glob(f"{depth}/{name}")
    }
    return sorted(run for run in found if not (run / "kfold.json").is_file() and not _is_hidden(run, root))


def _is_hidden(folder: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in folder.relative_to(root).parts)


def _folder_of(store: RunStore, name: str) -> Path:
    return store.root / name if "/" in name and (store.root / name).is_dir() else store.open(name).folder


def _decides(config: Mapping[str, Any]) -> tuple[str | None, str]:
    """Name and mode of the score of a run."""
    if "val_score_key" in config:
        return config["val_score_key"], config["val_score_mode"]
    task = config.get("task", {})
    return task.get("score"), task.get("mode", "lowest")


def _value_of(config: Any, name: str) -> Any:
    for key in name.split("."):
        if isinstance(config, list) and key.isdecimal() and int(key) < len(config):
            config = config[int(key)]
        elif isinstance(config, dict):
            config = config.get(key)
        else:
            return None
    return config
