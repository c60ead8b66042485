"""Names of losses and metrics, and the best score of a run. Does not import torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from delira_nca.errors import ConfigError, ScoreKeyError, ScoreModeError, did_you_mean

__all__ = [
    "BestScore",
    "check_measured_names",
    "check_value_names",
    "describe_metrics",
    "find_score_key",
    "higher_is_better",
    "is_better",
    "measured_score",
    "plain_values",
    "with_validation",
]

_HIGHER = {"highest": True, "max": True, "lowest": False, "min": False}


def higher_is_better(mode: str) -> bool:
    """Whether a higher score is better in a mode.

    Raises
    ------
    ScoreModeError
        If the mode is not one of highest, lowest (as in delira), max, min.
    """
    if mode not in _HIGHER:
        raise ScoreModeError(f"unknown score mode {mode!r}. {did_you_mean(mode, _HIGHER)}")
    return _HIGHER[mode]


def is_better(old: float | None, new: float, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a score is better than the best so far.

    Parameters
    ----------
    old : float, optional
        Best score so far, or None.
    new : float
        New score. A tie or a NaN is not better.
    mode : str
        Mode: highest or max, lowest or min.
    min_delta : float
        Improvement that must be exceeded.

    Examples
    --------
    >>> is_better(None, -3.0, "highest"), is_better(0.5, 0.5, "lowest"), is_better(None, float("nan"), "lowest")
    (True, False, False)
    """
    higher = higher_is_better(mode)
    if math.isnan(new):
        return False
    if old is None or math.isnan(old):
        return True
    return new > old + min_delta if higher else new < old - min_delta


def find_score_key(key: str, names: Iterable[str]) -> str:
    """Full name of the score of a key: that of validation if there is one.

    Parameters
    ----------
    key : str
        Key, such as ``"dice"`` or ``"val_dice"``.
    names : iterable of str
        Names of all scores; those of validation start with ``val_``.

    Raises
    ------
    ScoreKeyError
        If the score is not computed.

    Examples
    --------
    >>> find_score_key("dice", ["dice", "val_dice"])
    'val_dice'
    """
    names = list(names)
    validation = [name for name in names if name.startswith("val_")]
    for candidate in (f"val_{key}", key):
        if candidate in (validation or names):
            return candidate
    if key in names:
        raise ScoreKeyError(
            f"the score {key!r} that decides which epoch is best is measured in training only, and validation is on. "
            f"{did_you_mean(key, validation)}"
        )
    raise ScoreKeyError(
        f"the score {key!r} that decides which epoch is best is not computed. {did_you_mean(key, validation or names)}"
    )


def measured_score(
    key: str, metrics: Mapping[str, float], names: Iterable[str] | None, *, validates: bool = False
) -> tuple[str, float] | None:
    """Full name and value of a score of one epoch, or None if the epoch was not validated.

    Parameters
    ----------
    key : str
        Name of the score, see :func:`find_score_key`.
    metrics : mapping of str to float
        All values of the epoch.
    names : iterable of str, optional
        Names of all scores of the run, or None if they are unknown before the first epoch.
    validates : bool
        Whether the run validates some epochs.

    Raises
    ------
    ScoreKeyError
        If the score is not computed.

    Examples
    --------
    >>> measured_score("dice", {"loss": 1.0, "val_dice": 0.5}, None, validates=True)
    ('val_dice', 0.5)
    >>> measured_score("dice", {"loss": 1.0}, None, validates=True) is None
    True
    """
    if names is None:
        if validates and not any(name.startswith("val_") for name in metrics):
            return None
        names = metrics
    name = find_score_key(key, names)
    return (name, float(metrics[name])) if name in metrics else None


def describe_metrics(
    metrics: Mapping[str, float], keys: Iterable[str] | Mapping[str, str] | None = None, *, log10: bool = False
) -> list[str]:
    """Format the metrics of an epoch, one text for each.

    Parameters
    ----------
    metrics : mapping of str to float
        Values of the epoch by name.
    keys : iterable of str or mapping of str to str, optional
        Names to show, or a mapping of name to label; all by default. Missing metrics are skipped.
    log10 : bool
        Whether to show the decimal logarithm of positive values.

    Examples
    --------
    >>> describe_metrics({"loss": 0.12345, "dice": 2.0, "val_mse": 0.00195}, ("loss", "dice"))
    ['loss 0.123', 'dice 2']
    >>> describe_metrics({"val_mse": 0.00195}, {"val_mse": "log10 error"}, log10=True)
    ['log10 error -2.71']
    """
    labels = keys if isinstance(keys, Mapping) else {key: key for key in (metrics if keys is None else keys)}
    shown = {label: float(metrics[key]) for key, label in labels.items() if key in metrics}
    return [
        f"{label} {math.log10(value):.2f}" if log10 and 0 < value < math.inf else f"{label} {value:.3g}"
        for label, value in shown.items()
    ]


class BestScore:
    """Best score of a run, and its epoch.

    Parameters
    ----------
    key : str, optional
        Key of the score, see :func:`find_score_key`; None if no score selects the best epoch.
    mode : str
        Mode: highest or lowest.

    Examples
    --------
    >>> best = BestScore("loss", "lowest")
    >>> [best.update(epoch, {"loss": loss}) for epoch, loss in enumerate([2.0, 1.0, 1.5], start=1)]
    [True, True, False]
    >>> best.score, best.epoch
    (1.0, 2)
    """

    def __init__(self, key: str | None = None, mode: str = "highest") -> None:
        higher_is_better(mode)
        self.key, self.mode = key, mode
        self.score: float | None = None
        self.epoch: int | None = None

    def update(self, epoch: int, metrics: Mapping[str, float], *, validated: bool = True) -> bool:
        """Record the metrics of an epoch and return whether it is the best so far.

        Parameters
        ----------
        epoch : int
            Number of the epoch.
        metrics : mapping
            Metrics of the epoch by name.
        validated : bool
            Whether the epoch was validated, or the run has no validation. Otherwise it cannot be the best.

        Raises
        ------
        ScoreKeyError
            If the score is not among the metrics.
        """
        if self.key is None or not validated:
            return False
        score = float(metrics[find_score_key(self.key, metrics)])
        if not is_better(self.score, score, self.mode):
            return False
        self.score, self.epoch = score, epoch
        return True

    def state_dict(self) -> dict[str, Any]:
        """Key, mode, score and epoch."""
        return {"key": self.key, "mode": self.mode, "score": self.score, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self.key, self.mode = state["key"], state["mode"]
        self.score, self.epoch = state["score"], state["epoch"]


_RESERVED = {"epoch": "the number of the epoch", "step": "the number of iterations", "lr": "the learning rate"}
_PREFIXES = {
    "val_": "values of validation",
    "iter_": "values of single iterations",
    "train/": "values of training in TensorBoard",
    "val/": "values of validation in TensorBoard",
}


def check_value_names(
    criterions: Mapping[Any, Any], metrics: Mapping[Any, Any], optimizers: Iterable[str] = (), *, kind: str = "metric"
) -> None:
    """Check that the names of values are unique in the history and in the logs.

    Parameters
    ----------
    criterions, metrics : mapping of name to function
        Losses and metrics of a training.
    optimizers : iterable of str
        Names of the optimizers; their learning rates are recorded as ``lr_<name>``.
    kind : str
        Name of the metrics in messages.

    Raises
    ------
    ConfigError
        For a name that is not a text, is empty or reserved, or is used for both a criterion and a metric.

    Examples
    --------
    >>> check_value_names({"mse": abs}, {"epoch": abs})
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: metric 'epoch' has the name of the number of the epoch: choose another name
    """
    rates = {f"lr_{name}": f"the learning rate of optimizer {name!r}" for name in optimizers}
    for what, names in (("criterion", criterions), (kind, metrics)):
        for name in names:
            if not isinstance(name, str) or not name.strip():
                raise ConfigError(f"the name of a {what} is a text that is not empty, not {name!r}")
            meaning = {**_RESERVED, **rates}.get(name)
            if name == "loss" and (what == kind or len(criterions) > 1):
                meaning = "the sum of all criterions"
            _require_free_name(what, name, meaning, _PREFIXES)
    if shared := sorted(criterions.keys() & metrics.keys()):
        raise ConfigError(f"{shared[0]!r} is the name of a criterion and of a metric: choose two names")


def check_measured_names(names: Iterable[str], *, train: bool) -> None:
    """Check the names of the values that a training step has returned.

    Raises
    ------
    ConfigError
        For a reserved name; in training also for one with a reserved prefix.

    Examples
    --------
    >>> check_measured_names(["mse", "lr"], train=True)
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: value 'lr' has the name of the learning rate: choose another name
    """
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(f"the name of a value of the training is a text, not {name!r}")
        _require_free_name("value", name, _RESERVED.get(name), _PREFIXES if train else {})


def _require_free_name(what: str, name: str, meaning: str | None, prefixes: Mapping[str, str]) -> None:
    if meaning is not None:
        raise ConfigError(f"{what} {name!r} has the name of {meaning}: choose another name")
    for prefix, values in prefixes.items():
        if name.startswith(prefix):
            raise ConfigError(f"{what} {name!r} begins with {prefix!r}, which marks {values}: choose another name")


def plain_values(values: Any, routine: str) -> dict[str, float]:
    """Convert the values that a routine returned for an epoch to plain numbers, and skip those that are None.

    Examples
    --------
    >>> plain_values({"loss": 1, "dice": None}, "_train_single_epoch")
    {'loss': 1}
    >>> plain_values(0.5, "_train_single_epoch")
    Traceback (most recent call last):
    delira_nca.errors.ConfigError: _train_single_epoch has to return a dict of name to number, or None, not 0.5
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{routine} has to return a dict of name to number, or None, not {values!r}")
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if value is None:
            continue
        try:
            numbers[name] = value if type(value) in (bool, int, float) else float(value.item())
        except (AttributeError, TypeError, ValueError, RuntimeError):
            raise ConfigError(f"{routine} returned {value!r} as {name!r}: it has to be one number") from None
    return numbers


def with_validation(training: Mapping[str, float], validation: Mapping[str, float]) -> dict[str, float]:
    """Join the values of an epoch; those of validation get the prefix ``val_`` unless they have it.

    Examples
    --------
    >>> with_validation({"loss": 1.0}, {"val_loss": 2.0, "dice": 0.5})
    {'loss': 1.0, 'val_loss': 2.0, 'val_dice': 0.5}
    """
    joined = dict(training)
    for name, value in validation.items():
        name = f"val_{name.removeprefix('val_')}"
        if name in joined:
            raise ConfigError(f"two values of an epoch are called {name!r}: give one of them another name")
        joined[name] = value
    return joined
