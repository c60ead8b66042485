"""Means of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["SampleMean"]


class SampleMean:
    """Mean over samples of values that are themselves means over batches.

    Parameters
    ----------
    state : from :meth:`state_dict`, to go on from.

    Notes
    -----
    Sums stay on a GPU until :meth:`result`, so that no iteration waits for one.

    Examples
    --------
    >>> mean = SampleMean()
    >>> mean.add({"loss": torch.tensor(1.0)}, num_samples=3)
    >>> mean.add({"loss": torch.tensor(5.0)}, num_samples=1)
    >>> mean.result()
    {'loss': 2.0}
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self._sums: dict[str, Any] = dict(state["sums"]) if state else {}
        self._counts: dict[str, int] = dict(state["counts"]) if state else {}

    def add(self, values: Mapping[str, Any], num_samples: int) -> None:
        """Take in the values of one batch."""
        for name, value in values.items():
            number = value.detach() if isinstance(value, torch.Tensor) else value
            number = number.double() if getattr(number, "is_cuda", False) else float(number)
            self._sums[name] = self._sums.get(name, 0.0) + number * num_samples
            self._counts[name] = self._counts.get(name, 0) + num_samples

    def result(self) -> dict[str, float]:
        """Means so far, by name."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts so far."""
        return {"sums": {name: float(total) for name, total in self._sums.items()}, "counts": dict(self._counts)}
