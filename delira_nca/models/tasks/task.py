"""Base class of the models of tasks, with fixed arguments, named metrics and weighted losses."""

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


class Metrics(dict[str, Callable[[Tensor, Tensor], Tensor | float]]):
    """Dict of metrics by name, for ``PyTorchNetworkTrainer(metrics=...)``. Calling it computes all of them.

    Examples
    --------
    >>> from delira_nca.losses import accuracy
    >>> metrics = Metrics(accuracy=accuracy)
    >>> metrics.direction("accuracy")
    'highest'
    """

    def __call__(self, pred: Prediction, label: Tensor) -> dict[str, float]:
        """Return the value of each metric for a prediction and its label."""
        return {name: float(metric(pred.pred, label)) for name, metric in self.items()}

    def direction(self, name: str) -> str:
        """Return which value of a metric is best, ``"highest"`` or ``"lowest"``."""
        return direction(self[name])


class TaskNCAModel(BasicNCAModel):
    """Base class of automata for a task, with a loss, metrics and a validation metric.

    A subclass sets ``loss_names``, ``task_metrics`` and ``decides``, the arguments of :class:`BasicNCAModel` that it
    fixes. Its constructor checks its arguments and calls :meth:`_set_up`.
    """

    lambda_hidden: float = 0.0
    """Weight of the mean absolute value of the hidden channels in the loss."""

    task_metrics: ClassVar[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {}
    """Functions of prediction and label, by name."""

    default_metric: str = ""
    """Name of the default validation metric."""

    decides: tuple[str, ...] = ()
    """Arguments of :class:`BasicNCAModel` that the task sets."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if TaskNCAModel in cls.__bases__ and "__init__" in vars(cls):
            init: Any = cls.__init__
            init.__signature__ = _with_inherited(inspect.signature(init), cls.decides)

    @property
    def metrics(self) -> Metrics:  # a method on NCALab's API page, a dict in its code; Metrics is both
        """Metrics of the task by name; ``model.metrics(prediction, label)`` computes them all."""
        return Metrics(self.task_metrics)

    @property
    def validation_mode(self) -> str:
        """Which value of ``validation_metric`` is best, for ``val_score_mode`` of the trainer."""
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
        """Merge the arguments of the caller with those that the task sets."""
        for name in decided:
            if name in arguments:
                raise ConfigError(f"{cls.__name__} sets {name} itself, to {decided[name]!r}: leave it out")
        metric = arguments.get("validation_metric") or cls.default_metric
        return {**arguments, **decided, "validation_metric": cls._known_metric(metric)}

    def _set_up(self, given: Mapping[str, Any], **decided: Any) -> None:
        """Initialise the automaton from the ``locals()`` of a constructor and the arguments that the task sets.

        Arguments of :class:`BasicNCAModel` are passed to it; the others are those of the task and are stored as
        attributes.
        """
        inherited = inspect.signature(BasicNCAModel).parameters.keys() - {"kwargs"}
        handed_on = {name: value for name, value in given.items() if name in inherited}
        own = given.keys() - inherited - {"self", "kwargs", "__class__"}
        super().__init__(**handed_on, **self._task(given["kwargs"], **decided))
        for name in own:
            setattr(self, name, given[name])
            self._init_kwargs[name] = given[name]

    def to_dict(self) -> dict[str, Any]:
        """Return a plain description of the model, without weights and the arguments that the task sets."""
        return {name: value for name, value in super().to_dict().items() if name not in self.decides}

    def _sum(self, prediction: Prediction, weighted: Mapping[str, tuple[float, Tensor]]) -> dict[str, Tensor]:
        """Return the losses, with ``total``, their weighted sum including the penalty of the hidden channels."""
        terms = {**weighted, "hidden": (self.lambda_hidden, hidden_penalty(prediction.hidden_channels))}
        total = torch.stack([weight * value for weight, value in terms.values() if weight]).sum()
        return {"total": total, **{name: value for name, (_, value) in terms.items()}}


def _with_inherited(own: inspect.Signature, decided: tuple[str, ...]) -> inspect.Signature:
    """Replace ``**kwargs`` by the arguments of :class:`BasicNCAModel`, so that configurations can set them."""
    hidden = {*own.parameters, *decided}
    kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    if len(kept) == len(own.parameters):
        return own
    inherited = inspect.signature(BasicNCAModel.__init__, eval_str=True).parameters.values()
    more = [p.replace(kind=p.KEYWORD_ONLY) for p in inherited if p.name not in hidden and p.kind is not p.VAR_KEYWORD]
    return own.replace(parameters=[*kept, *more])


def check_classes(num_classes: int, class_names: Any = None) -> None:
    """Check the number of classes and the number of their names.

    Raises
    ------
    ConfigError
        If one is invalid.
    """
    require_whole("num_classes", num_classes, 2)
    if class_names is not None and len(class_names) != num_classes:
        raise ConfigError(f"{num_classes} classes have {num_classes} class_names, not {len(class_names)}")


def check_weights(**weights: float) -> None:
    """Check that weights of losses are not negative and not all 0.

    Raises
    ------
    ConfigError
        If they are. The message gives names and values.
    """
    for name, weight in weights.items():
        require_number(name, weight, 0)
    if not any(weight for name, weight in weights.items() if name != "lambda_hidden"):
        raise ConfigError(f"nothing would be learned: all of {', '.join(sorted(weights))} are 0")
