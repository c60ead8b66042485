"""The one protocol that everything that records numbers follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

__all__ = ["MetricSink"]


@runtime_checkable
class MetricSink(Protocol):
    """A place where the numbers, pictures and the config of a run go.

    A sink opens nothing before its first write, is written through at every call (what was recorded survives
    a kill of the process), can be pickled and deep-copied at any time, and may be written to after
    ``close()``.

    Examples
    --------
    A sink of one's own needs no base class:

    >>> class Printer:
    ...     def scalars(self, values, step):
    ...         print(step, dict(values))
    ...     def images(self, name, image, step): ...
    ...     def config(self, values): ...
    ...     def truncate(self, step, epochs=None): ...
    ...     def close(self): ...
    >>> isinstance(Printer(), MetricSink)
    True
    """

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers of one step.

        Parameters
        ----------
        values : name -> anything that ``float()`` takes, so also a tensor or an array of one element.
        step : epoch or iteration, at least 0. Steps need not be consecutive, nor ascending.
        """

    def images(self, name: str, image: npt.ArrayLike, step: int) -> None:
        """Record one picture.

        Parameters
        ----------
        name : what is shown; may have groups, as in ``"val/worst"``.
        image : (H, W, 3) uint8 array or tensor.
        step : epoch or iteration, at least 0.
        """

    def config(self, values: Mapping[str, Any]) -> None:
        """Record what the run was asked to do; what JSON does not know is written as its ``str()``."""

    def truncate(self, step: int, epochs: int | None = None) -> None:
        """Forget scalars and pictures of later steps than ``step``, before a resumed run records them anew.

        ``truncate(-1)`` forgets them all. The config stays. Where a run goes on within an epoch, ``epochs`` are done:
        records of an ``"epoch"`` beyond that are forgotten, too.
        """

    def close(self) -> None:
        """Let go of open files. Calling it twice is fine; a later write opens them again."""
