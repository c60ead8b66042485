"""Base class of the replaceable parts of a model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from delira_nca.checks import plain_numbers

__all__ = ["Part"]


class Part(nn.Module):
    """Base class of perceptions, rules and conditionings. A model builds their layers for its channels.

    The same part can be passed to several models: each copies it and calls ``build`` of the copy. The description of a
    model contains the result of :meth:`to_dict`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the constructor of every subclass accept NumPy scalars."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = plain_numbers(cls.__init__)  # type: ignore[method-assign]

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the constructor as plain values, from attributes of the same names."""
        values = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Part:
        """Make an unbuilt part from the result of :meth:`to_dict`."""
        return cls(**config)
