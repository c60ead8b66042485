"""Many runs of one config with some values set otherwise, each a normal run of the store."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from delira_nca.checks import require_whole
from delira_nca.errors import ConfigError, MissingDependencyError, require_choice
from delira_nca.experiment.comparison import Comparison, compare_runs
from delira_nca.experiment.config import RunConfig
from delira_nca.experiment.launchers import Launcher, SerialLauncher
from delira_nca.experiment.run import CONFIG, Run, run_from_config
from delira_nca.experiment.search.space import Range, Space, grid, random_search, read_space
from delira_nca.io.paths import absolute
from delira_nca.training.callbacks.abstract_callback import AbstractCallback
from delira_nca.training.scores import find_score_key, higher_is_better

__all__ = ["sweep"]

_LOGGER = logging.getLogger("delira_nca")


def sweep(
    config: RunConfig,
    space: Mapping[str, Any],
    root: str | os.PathLike[str] = "runs",
    *,
    method: str = "grid",
    num_trials: int | None = None,
    seed: int = 0,
    launcher: Launcher | None = None,
) -> Comparison:
    """Run a config with many values, and compare what became of it.

    The runs are ``<name>-000``, ``<name>-001``, ... A sweep that is called again goes on: runs that are done stay as
    they are, and those that were ended are finished.

    Parameters
    ----------
    config : what all runs share; its ``task.score`` decides which is best.
    space : values to try by dotted name: a list, or a :class:`Range` (also as its arguments in a dict).
    root : folder of all runs.
    method : ``"grid"`` tries every combination; ``"random"`` draws ``num_trials`` of them; ``"optuna"`` lets Optuna's
        TPE sampler choose ``num_trials``, one after the other, and ends runs early whose score is worse than the median
        of the others at the same epoch.
    num_trials : how many, for the methods that search.
    seed : of the search.
    launcher : runs them; one after the other in this process by default.

    Returns
    -------
    Comparison
        Of all runs, those that failed included.

    Raises
    ------
    ConfigError
        Before anything is run: for a space that cannot be searched, or values that the config refuses.
    MissingDependencyError
        If ``method`` is ``"optuna"``, and it is not installed.
    """
    root = absolute(root)
    require_choice("method of a sweep", method, ("grid", "random", "optuna"))
    searched = read_space(space)
    if config.task["score"] is None:
        raise ConfigError("a sweep needs a score that decides which run is best: set task.score")
    if (num_trials is None) != (method == "grid"):
        raise ConfigError(f"num_trials says how many a search tries; method {method!r} and {num_trials!r} do not fit")
    config.replace({name: _example(values) for name, values in searched.items()})
    if method == "optuna":
        names = _search_with_optuna(config, searched, root, int(num_trials or 0), seed, launcher)
        return compare_runs(root, names)
    trials = grid(searched) if method == "grid" else random_search(searched, int(num_trials or 0), seed)
    configs = [config.replace({**trial, "name": _name(config, number)}) for number, trial in enumerate(trials)]
    shared = {"root": str(root), "directory": str(config.directory)}
    tasks = [{"config": each.to_dict(), **shared} for each in configs]
    for outcome in (launcher or SerialLauncher()).run(run_from_config, tasks):
        if outcome.error is not None:
            _LOGGER.error("run %s failed: %s", outcome.task["config"]["name"], outcome.error)
    failed = {each.name: each.to_dict() for each in configs if not (root / each.name / CONFIG).is_file()}
    return compare_runs(root, [each.name for each in configs], failed=failed)


def _name(config: RunConfig, number: int) -> str:
    return f"{config.name}-{number:03d}"


def _example(values: list[Any] | Range) -> Any:
    if not isinstance(values, Range):
        return values[0]
    return int(values.low) if values.is_integer else float(values.low)


# Optuna ---------------------------------------------------------------------------------------------------------------


_HOPELESS = "its score is worse than that of the other runs of the sweep"


class _Pruning(AbstractCallback):
    """Tell Optuna the score of every epoch, and stop a run that it has no hope for."""

    def __init__(self, trial: Any, key: str) -> None:
        self.trial, self.key = trial, key

    def at_training_begin(self, trainer: Any, **event: Any) -> None:
        """Tell the epochs that the run has done before; one that had been stopped stays so."""
        for epoch in trainer.history:
            self._report(epoch, epoch["epoch"])
        if trainer.history and self.trial.should_prune():
            trainer.stop(_HOPELESS, now=True)

    def at_epoch_end(self, trainer: Any, *, val_metrics: Mapping[str, float], curr_epoch: int, **event: Any) -> None:
        self._report(val_metrics, curr_epoch)
        if self.trial.should_prune():
            trainer.stop(_HOPELESS)

    def _report(self, metrics: Mapping[str, float], epoch: int) -> None:
        key = find_score_key(self.key, metrics)
        if key in metrics:
            self.trial.report(float(metrics[key]), epoch)


def _search_with_optuna(
    config: RunConfig, space: Space, root: str | os.PathLike[str], num_trials: int, seed: int, launcher: Launcher | None
) -> list[str]:
    if launcher is not None:
        raise ConfigError("Optuna chooses a run after the ones before it: it takes no launcher")
    require_whole("num_trials", num_trials, 1)
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError("the search needs optuna: pip install 'delira_nca[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if higher_is_better(config.task["mode"]) else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    names = []
    for number in range(num_trials):
        trial = study.ask()
        changes = {name: _suggest(trial, name, values) for name, values in space.items()}
        run = Run.create(config.replace({**changes, "name": _name(config, number)}), root, resume="auto")
        names.append(run.config.name)
        result = run.train(callbacks=[_Pruning(trial, config.task["score"])])
        if result.stop_reason:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, result.best_score)
    return names


def _suggest(trial: Any, name: str, values: Any) -> Any:
    if not isinstance(values, Range):
        return trial.suggest_categorical(name, values)
    if values.is_integer:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)
