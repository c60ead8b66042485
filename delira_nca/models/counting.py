"""What a roll-out of a model costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from delira_nca.errors import ConfigError
from delira_nca.rollout import NotPlainError
from delira_nca.rollout.cost import RolloutCost, count_cost

if TYPE_CHECKING:
    from delira_nca.models.basic_nca import BasicNCAModel

__all__ = ["cost_of"]


def cost_of(
    model: BasicNCAModel, shape: Sequence[int], steps: int, *, batch_size: int, memory_budget: int
) -> RolloutCost:
    """Count parameters, operations and bytes of a roll-out; see :meth:`delira_nca.models.BasicNCAModel.cost`.

    Raises
    ------
    ConfigError
        If a number is out of range, or a part of the model cannot be written as numbers.
    """
    try:
        with torch.enable_grad():  # which weights are learned decides what is kept
            plain = model.plain()
    except NotPlainError as error:
        raise ConfigError(f"the cost of this {type(model).__name__} cannot be counted: {error}") from None
    learned: Any = model.perception.learned
    return count_cost(
        plain,
        shape,
        steps,
        cell=model,
        num_parameters=sum(p.numel() for p in model.parameters()),
        num_convolutions=1 + sum(map(len, learned)),
        batch_size=batch_size,
        memory_budget=memory_budget,
    )
