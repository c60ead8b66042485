"""What a trainer asks of a network, whatever it is written in. Free of torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from delira_nca.checks import plain_numbers

__all__ = ["AbstractNetwork"]


class AbstractNetwork(ABC):
    """A network that knows how to be trained on one batch.

    Parameters
    ----------
    **kwargs : what the network was made with; kept per instance as :attr:`init_kwargs` (a class attribute in delira,
        where the last network made decided for all).
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the constructor of every subclass take numpy scalars."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = plain_numbers(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self._init_kwargs = dict(kwargs)

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """Copy of what the network was made with."""
        return dict(self._init_kwargs)

    @staticmethod
    @abstractmethod
    def closure(
        model: Any,
        data_dict: Mapping[str, Any],
        optimizers: Mapping[str, Any],
        criterions: Mapping[str, Any],
        metrics: Mapping[str, Any],
        fold: int = 0,
        batch_nr: int = 0,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """Train, or without optimizers only evaluate, on one prepared batch.

        Returns
        -------
        tuple of (metric values, loss values, prediction)
            The losses hold their sum under ``"loss"``.
        """

    @staticmethod
    @abstractmethod
    def prepare_batch(batch: Mapping[str, Any], input_device: Any, output_device: Any) -> dict[str, Any]:
        """Turn arrays into what the closure works on, on the right devices."""
