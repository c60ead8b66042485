"""Metrics that are no mean over samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from delira_nca.errors import ConfigError
from delira_nca.training.distributed import find_context

__all__ = ["WholeBatch"]


class WholeBatch:
    """Measure something on a whole batch, wherever its samples are.

    A metric that is a mean over samples is put together from the parts of a batch. One that is not, such as a ratio of
    two sums, has to see all samples at once: with this around it, every process gathers the tensors that it is called
    with, and its value is that of a single process.

    Parameters
    ----------
    metric : called with (B, ...) tensors; what has no samples in front is handed on as it is.

    Raises
    ------
    ConfigError
        If it cannot be called.

    Notes
    -----
    For metrics only: what is gathered has no gradient.

    Examples
    --------
    >>> import torch
    >>> iou = WholeBatch(lambda pred, label: (pred & label).sum() / (pred | label).sum())
    >>> iou(torch.tensor([True, True]), torch.tensor([True, False])).item()
    0.5
    """

    def __init__(self, metric: Callable[..., Any]) -> None:
        if not callable(metric):
            raise ConfigError(f"a metric is called with tensors, but {metric!r} cannot be called")
        self.metric = metric

    def __call__(self, *args: Any) -> Any:
        """Value of the whole batch, in every process."""
        ranks = find_context()
        return self.metric(*[ranks.join_rows(arg) if isinstance(arg, Tensor) and arg.dim() else arg for arg in args])
