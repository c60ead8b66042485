"""Values of expressions over whole sets of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delira_nca.assembly.nodes import Algebra, Constant, Entry, Node, Penalty, StateTerm, Term
from delira_nca.errors import ConfigError, require_choice
from delira_nca.losses import mse
from delira_nca.losses.metric import Metric, as_metric

__all__ = ["MODES", "SetMetric"]

MODES = ("auto", "streaming", "whole")
_MEANS: tuple[Callable[..., Any], ...] = (
    mse,
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
)
"""Functions whose value of a batch is the mean over its cells."""
_MEAN_MODULES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss)


class SetMetric(Metric):
    """Value of an expression over all samples of a set, independent of the batch size.

    Parameters
    ----------
    node : Node
        Expression.
    mode : {"auto", "streaming", "whole"}
        ``"streaming"`` keeps sums, counts and the states of metric objects: each term must be a metric object, a mean
        loss of torch, or declared with ``per_sample=True``, and have predictions and targets as arguments. ``"whole"``
        keeps all needed tensors in the memory of the CPU, and evaluates the expression once; it is exact for any
        function. ``"auto"`` streams if the terms allow it.

    Raises
    ------
    ConfigError
        If the expression has terms over states, or cannot be streamed.

    Notes
    -----
    hippynn evaluates losses on whole sets, too. Means over batches differ: the RMSE of a set is not the mean of the
    RMSE of its batches.

    Examples
    --------
    >>> from delira_nca.assembly.nodes import pred, target, term
    >>> metric = SetMetric(term(mse, pred(), target()) ** 0.5)
    >>> metric.mode
    'streaming'
    >>> metric.update(torch.tensor([3.0]), torch.tensor([0.0]))  # label and pred, in alphabetic order of the names
    >>> metric.update(torch.tensor([4.0, 5.0]), torch.tensor([0.0, 5.0]))
    >>> round(float(metric.compute()), 4)  # the root of 25 / 3
    2.8868
    """

    validation_only = True
    """A trainer evaluates it on the validation set only."""

    def __init__(self, node: Node, mode: str = "auto") -> None:
        require_choice("mode of an evaluator", mode, MODES)
        if terms := [part for part in node.walk() if isinstance(part, StateTerm)]:
            raise ConfigError(f"{terms[0]!r} is a term over states within the roll-out, which exist only in training")
        self.node, self.keys = node, node.needed_keys()
        self._terms = [part for part in node.walk() if isinstance(part, Term)]
        obstacle = next((reason for part in self._terms if (reason := _obstacle(part))), None)
        if mode == "streaming" and obstacle:
            raise ConfigError(f"{node!r} cannot be streamed: {obstacle}; set mode='whole'")
        self.mode = "whole" if mode == "whole" or obstacle else "streaming"
        self.reset()

    def update(self, *tensors: Tensor) -> None:
        """Add a batch: the tensors of ``keys`` in their order."""
        named = dict(zip(self.keys, tensors, strict=True))
        if self.mode == "whole":
            for key, tensor in named.items():
                self.held.setdefault(key, []).append(tensor.detach().cpu() if isinstance(tensor, Tensor) else tensor)
            return
        count = max((len(t) for t in tensors if isinstance(t, Tensor) and t.dim()), default=1)
        for number, part in enumerate(self._terms):
            metric = self._metrics[number]
            if metric is None:
                self.sums[number] += float(part.value(named)) * count
                self.counts[number] += count
            else:
                metric.update(*(argument.value(named) for argument in part.arguments))

    def compute(self) -> Any:
        """Return the value over all samples since the last reset."""
        if self.mode == "whole":
            return self.node.value({key: _joined(parts) for key, parts in self.held.items()})
        results = {
            id(part): self.sums[number] / self.counts[number] if metric is None else metric.compute()
            for number, (part, metric) in enumerate(zip(self._terms, self._metrics, strict=True))
            if metric is not None or self.counts[number]
        }
        return _evaluated(self.node, results)

    def reset(self) -> None:
        """Remove all samples."""
        self.held: dict[str, list[Any]] = {}
        self.sums, self.counts = [0.0] * len(self._terms), [0] * len(self._terms)
        self._metrics = [as_metric(part.function) for part in self._terms]


def _obstacle(part: Term) -> str | None:
    """Return why the value of a term cannot be accumulated over batches, or None."""
    if not all(isinstance(argument, (Entry, Constant)) for argument in part.arguments):
        return f"{part!r} is a function of other terms"
    function = part.function
    is_mean = function in _MEANS or (isinstance(function, _MEAN_MODULES) and function.reduction == "mean")
    if part.per_sample or is_mean or as_metric(function) is not None:
        return None
    return f"the value of {part!r} over a set is not known to be the mean over its samples (per_sample=True says so)"


def _evaluated(node: Node, results: dict[int, Any]) -> Any:
    """Evaluate an expression whose terms have been computed."""
    if id(node) in results:
        return results[id(node)]
    if isinstance(node, (Constant, Penalty)):
        return node.value({})
    if isinstance(node, Algebra):
        return node.combine(_evaluated(node.left, results), _evaluated(node.right, results))
    raise ConfigError(f"{node!r} has no value: no sample was added")


def _joined(parts: list[Any]) -> Any:
    return torch.cat(parts) if all(isinstance(part, Tensor) and part.dim() for part in parts) else parts[-1]
