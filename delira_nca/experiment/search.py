"""Sweeps over values of a config: grid search, random search and Optuna."""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, MissingDependencyError, refuse_unknown_keywords, require_choice
from delira_nca.experiment.comparison import Comparison, compare_runs
from delira_nca.experiment.config import RunConfig
from delira_nca.experiment.launchers import Launcher, SerialLauncher
from delira_nca.experiment.run import CONFIG, Run, run_from_config
from delira_nca.io.files import make_folder
from delira_nca.io.paths import absolute
from delira_nca.seeding import derive_seed
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.scores import find_score_key, higher_is_better

__all__ = ["Range", "grid", "random_search", "read_space", "sweep"]


@dataclass(frozen=True)
class Range:
    """Range of numbers from ``low`` to ``high``, inclusive.

    Parameters
    ----------
    low, high : float
        Finite bounds with ``low < high``.
    log : bool
        Whether the logarithm is uniformly distributed, which requires ``low > 0``.
    is_integer : bool
        Whether to draw whole numbers.
    """

    low: float
    high: float
    log: bool = False
    is_integer: bool = False

    def __post_init__(self) -> None:
        require_number("low of a range", self.low)
        require_number("high of a range", self.high)
        if not self.low < self.high:
            raise ConfigError(f"a range reaches from a number to a greater one, not from {self.low!r} to {self.high!r}")
        if self.log and self.low <= 0:
            raise ConfigError(f"a logarithmic range begins above 0, not at {self.low!r}")
        if self.is_integer and (self.low != int(self.low) or self.high != int(self.high)):
            raise ConfigError(f"a range of whole numbers has such ends, not {self.low!r} and {self.high!r}")

    def draw(self, source: np.random.Generator) -> float | int:
        """Draw a number."""
        if self.log:
            number = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
            number = min(max(number, self.low), self.high)
            return round(number) if self.is_integer else number
        if self.is_integer:
            return int(source.integers(int(self.low), int(self.high) + 1))
        return float(source.uniform(self.low, self.high))


Space = Mapping[str, Sequence[Any] | Range]


def read_space(values: Mapping[str, Any]) -> dict[str, list[Any] | Range]:
    """Convert plain values to a search space: a list of choices, or the arguments of a :class:`Range`, by dotted name.

    Examples
    --------
    >>> read_space({"seed": [0, 1], "trainer.lr": {"low": 1e-4, "high": 1e-2, "log": True}})
    {'seed': [0, 1], 'trainer.lr': Range(low=0.0001, high=0.01, log=True, is_integer=False)}
    """
    if not values:
        raise ConfigError("a sweep needs something to try: give values by dotted name, such as {'trainer.lr': [...]}")
    space: dict[str, list[Any] | Range] = {}
    for name, given in values.items():
        if isinstance(given, Range):
            space[name] = given
        elif isinstance(given, Mapping) and {"low", "high"} <= given.keys():
            known = ("low", "high", "log", "is_integer")
            refuse_unknown_keywords(f"the range of {name}", [key for key in given if key not in known], known)
            space[name] = Range(**given)
        elif isinstance(given, (list, tuple, range, np.ndarray)) and len(given):
            space[name] = [value.item() if isinstance(value, np.generic) else value for value in given]
        else:
            raise ConfigError(f"{name} tries a list of values, or a range {{'low': ..., 'high': ...}}, not {given!r}")
    return space


def grid(space: Space) -> list[dict[str, Any]]:
    """All combinations of the values; the last name varies fastest.

    Examples
    --------
    >>> grid({"seed": [0, 1], "trainer.lr": [0.1, 0.2]})[:2]
    [{'seed': 0, 'trainer.lr': 0.1}, {'seed': 0, 'trainer.lr': 0.2}]
    """
    for name, values in space.items():
        if isinstance(values, Range):
            raise ConfigError(f"a grid needs a list of values for {name}, not a range: list them, or search by chance")
    names, choices = list(space), [list(values) for values in space.values()]  # type: ignore[arg-type]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]


def random_search(space: Space, num_trials: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draw ``num_trials`` independent combinations.

    A combination depends only on the seed and its number, so that a longer search starts with the combinations of a
    shorter one.

    Examples
    --------
    >>> short, long = random_search({"lr": Range(0.0, 1.0)}, 2), random_search({"lr": Range(0.0, 1.0)}, 3)
    >>> long[:2] == short, all(0 <= trial["lr"] <= 1 for trial in long)
    (True, True)
    """
    require_whole("num_trials", num_trials, 1)
    trials = []
    for number in range(num_trials):
        source = np.random.default_rng(derive_seed(seed, "sweep", number))
        trials.append({name: _draw(values, source) for name, values in space.items()})
    return trials


def _draw(values: Sequence[Any] | Range, source: np.random.Generator) -> Any:
    return values.draw(source) if isinstance(values, Range) else values[int(source.integers(len(values)))]


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
    """Run a config with different values, and compare the results.

    The runs are ``<name>-000``, ``<name>-001``, ... A repeated call resumes the sweep: finished runs are kept, and
    interrupted ones are finished.

    Parameters
    ----------
    config : RunConfig
        Common config of all runs, which are compared by its ``task.score``.
    space : mapping
        Values to try, by dotted name: a list, a :class:`Range`, or a dict of its arguments.
    root : str or path
        Folder of all runs.
    method : str
        ``"grid"`` tries all combinations; ``"random"`` draws ``num_trials`` of them; ``"optuna"`` chooses
        ``num_trials`` sequentially with Optuna's TPE sampler, and stops a run early if its score is worse than the
        median of the others at the same epoch.
    num_trials : int, optional
        Number of trials for ``"random"`` and ``"optuna"``.
    seed : int
        Seed of the search.
    launcher : Launcher, optional
        Launcher of the runs; by default they run one after another in this process.

    Returns
    -------
    Comparison
        Comparison of all runs, including failed ones.

    Raises
    ------
    ConfigError
        Before the first run, for an unsuitable space, or values that the config rejects.
    MissingDependencyError
        If ``method`` is ``"optuna"``, which is not installed.
    """
    root = absolute(root)
    require_choice("method of a sweep", method, ("grid", "random", "optuna"))
    searched = read_space(space)
    if "name" in searched:
        raise ConfigError(f"a sweep names its runs {config.name}-000, ...: remove 'name' from the space")
    make_folder(root)
    if config.task["score"] is None:
        raise ConfigError("a sweep needs a score that decides which run is best: set task.score")
    if (num_trials is None) != (method == "grid"):
        raise ConfigError(f"num_trials says how many a search tries; method {method!r} and {num_trials!r} do not fit")
    config.replace({name: _example(values) for name, values in searched.items()}).require_effective()
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
    """Report the score of every epoch to Optuna, and stop the run if it is pruned."""

    def __init__(self, trial: Any, key: str) -> None:
        self.trial, self.key = trial, key

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Report earlier epochs of the run; a pruned run stays stopped."""
        for epoch in trainer.history:
            self._report(epoch, epoch["epoch"])
        if trainer.history and self.trial.should_prune():
            trainer.stop(_HOPELESS, now=True)

    def at_epoch_end(
        self, trainer: Trainer, *, val_metrics: Mapping[str, float], curr_epoch: int, **event: Any
    ) -> None:
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
