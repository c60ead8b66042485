"""What the replaceable parts of a cell have in common: a model builds a copy of them, and can describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from delira_nca.checks import plain_numbers

__all__ = ["Part"]


class Part(nn.Module):
    """A perception, a rule or a conditioning whose layers are made when a model knows its numbers of channels.

    One part may describe many models: each builds a copy of its own, by the part's ``build``. A description of the
    model holds :meth:`to_dict`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the constructor of every subclass take numpy scalars."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = plain_numbers(cls.__init__)  # type: ignore[method-assign]

    def to_dict(self) -> dict[str, Any]:
        """Plain description, for :meth:`from_dict`."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Part:
        """Part from what :meth:`to_dict` gave, to be built by its model."""
        return cls(**config)
