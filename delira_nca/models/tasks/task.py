"""What the models of tasks have in common: arguments that the task decides, metrics by name, how losses are added."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError
from delira_nca.losses import direction, hidden_penalty
from delira_nca.models.basic_nca import BasicNCAModel
from delira_nca.models.prediction import Prediction

__all__ = ["Metrics", "TaskNCAModel", "check_classes", "check_weights"]


class Metrics(dict[str, Callable[[Tensor, Tensor], Tensor]]):
    """Metrics by name, for ``PyTorchNetworkTrainer(metrics=...)``; called, it measures a prediction with all of them.

    Examples
    --------
    >>> from delira_nca.losses import accuracy
    >>> metrics = Metrics(accuracy=accuracy)
    >>> metrics.direction("accuracy")
    'highest'
    """

    def __call__(self, pred: Prediction, label: Tensor) -> dict[str, float]:
        """Value of each metric for a prediction and its label."""
        return {name: float(metric(pred.pred, label)) for name, metric in self.items()}

    def direction(self, name: str) -> str:
        """Which way a metric is better: highest or lowest."""
        return direction(self[name])


class TaskNCAModel(BasicNCAModel):
    """An automaton for a task: with a loss of its own, metrics, and one of them that says how good it is.

    A subclass names its losses in ``loss_names``, its metrics in ``task_metrics``, and what it decides itself of the
    arguments of :class:`BasicNCAModel` in ``decides``; its constructor checks its arguments and calls :meth:`_set_up`.
    """

    lambda_hidden: float = 0.0
    """Weight of the mean absolute value of the hidden channels in the loss."""

    task_metrics: ClassVar[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {}
    """Name to function of prediction and label."""

    default_metric: str = ""
    """Name of the metric that decides where the caller names none."""

    decides: tuple[str, ...] = ()
    """Arguments of :class:`BasicNCAModel` that the task sets."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if TaskNCAModel in cls.__bases__ and "__init__" in vars(cls):
            init: Any = cls.__init__
            init.__signature__ = _with_inherited(inspect.signature(init), cls.decides)

    @property
    def metrics(self) -> Metrics:  # a method on NCALab's API page, a dict in its code: both
        """The task's metrics by name; ``model.metrics(prediction, label)`` measures them all."""
        return Metrics(self.task_metrics)

    @property
    def validation_mode(self) -> str:
        """Which way ``validation_metric`` is better: the trainer's ``val_score_mode``."""
        return self.metrics.direction(self._known_metric(self.validation_metric))

    @classmethod
    def _known_metric(cls, name: str | None) -> str:
        if name is None or name not in cls.task_metrics:
            raise ConfigError(
                f"{cls.__name__} has no metric {name!r} that could decide which epoch is best: choose one of "
                f"{sorted(cls.task_metrics)}"
            )
        return name

    @classmethod
    def _task(cls, arguments: dict[str, Any], **decided: Any) -> dict[str, Any]:
        """Arguments of the caller together with those that the task decides.

        Raises
        ------
        ConfigError
            If the caller gives one of these, or names a metric that is not there.
        """
        for name in decided:
            if name in arguments:
                raise ConfigError(f"{cls.__name__} sets {name} itself, to {decided[name]!r}: leave it out")
        metric = arguments.get("validation_metric") or cls.default_metric
        return {**arguments, **decided, "validation_metric": cls._known_metric(metric)}

    def _set_up(self, given: Mapping[str, Any], **decided: Any) -> None:
        """Make the automaton of a constructor's ``locals()`` and of what the task decides.

        What :class:`BasicNCAModel` takes is handed on to it; the rest are the task's own arguments, and are kept.

        Raises
        ------
        ConfigError
            As :meth:`_task`.
        """
        inherited = inspect.signature(BasicNCAModel).parameters.keys() - {"kwargs"}
        handed_on = {name: value for name, value in given.items() if name in inherited}
        own = given.keys() - inherited - {"self", "kwargs", "__class__"}
        super().__init__(**handed_on, **self._task(given["kwargs"], **decided))
        for name in own:
            setattr(self, name, given[name])
            self._init_kwargs[name] = given[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain description of the model, without weights and without what the task decides."""
        return {name: value for name, value in super().to_dict().items() if name not in self.decides}

    def _sum(self, prediction: Prediction, weighted: Mapping[str, tuple[float, Tensor]]) -> dict[str, Tensor]:
        """Losses with their weighted sum, and that of the hidden channels, as ``total``."""
        terms = {**weighted, "hidden": (self.lambda_hidden, hidden_penalty(prediction.hidden_channels))}
        total = torch.stack([weight * value for weight, value in terms.values() if weight]).sum()
        return {"total": total, **{name: value for name, (_, value) in terms.items()}}


def _with_inherited(own: inspect.Signature, decided: tuple[str, ...]) -> inspect.Signature:
    """Signature with the arguments of :class:`BasicNCAModel` in place of ``**kwargs``: what a config may give."""
    hidden = {*own.parameters, *decided}
    kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    if len(kept) == len(own.parameters):
        return own
    inherited = inspect.signature(BasicNCAModel.__init__, eval_str=True).parameters.values()
    more = [p.replace(kind=p.KEYWORD_ONLY) for p in inherited if p.name not in hidden and p.kind is not p.VAR_KEYWORD]
    return own.replace(parameters=[*kept, *more])


def check_classes(num_classes: int, class_names: Any = None) -> None:
    """Refuse what is no number of classes, or other names than one for each.

    Raises
    ------
    ConfigError
        With the number and what was expected.
    """
    require_whole("num_classes", num_classes, 2)
    if class_names is not None and len(class_names) != num_classes:
        raise ConfigError(f"{num_classes} classes have {num_classes} class_names, not {len(class_names)}")


def check_weights(**weights: float) -> None:
    """Refuse weights of losses that are negative, or all 0.

    Raises
    ------
    ConfigError
        With the name and the number.
    """
    for name, weight in weights.items():
        require_number(name, weight, 0)
    if not any(weight for name, weight in weights.items() if name != "lambda_hidden"):
        raise ConfigError(f"nothing would be learned: all of {', '.join(sorted(weights))} are 0")
