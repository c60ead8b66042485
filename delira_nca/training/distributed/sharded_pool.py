"""Sample pool distributed over the ranks of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from delira_nca.rollout.job import BatchPart
from delira_nca.training.distributed.group import Group
from delira_nca.training.pool import Damage, Draw, SamplePool, damage_last

__all__ = ["ShardedPool"]


class ShardedPool:
    """Sample pool of which each rank stores the states and values of a range of slots.

    It has the interface of :class:`~delira_nca.training.SamplePool`. Every rank has the losses of all slots, so that
    all ranks draw the same slots. :meth:`sample`, :meth:`commit` and :meth:`state_dict` are collective calls, with the
    part of a batch of each rank.

    Parameters
    ----------
    pool : SamplePool
        Pool to distribute. It keeps only the states of this rank.
    group : Group
        Process group of the training.
    """

    def __init__(self, pool: SamplePool, group: Group) -> None:
        self._pool, self._group = pool, group
        self._held = BatchPart.of(group.rank, group.size, len(pool)).own
        pool.keep(self._held)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while copying, _pool is not set yet
            raise AttributeError(name)
        return getattr(self._pool, name)

    def __len__(self) -> int:
        return len(self._pool)

    def __repr__(self) -> str:
        return repr(self._pool)

    def sample(
        self,
        batch_size: int,
        *,
        losses: Tensor | None = None,
        num_seeds: int = 1,
        num_damaged: int = 0,
        damage: Damage | str = "disc",
    ) -> Draw:
        """Draw the part of this rank of a batch; the arguments are those for the whole batch."""
        pool, own = self._pool, BatchPart.of(self._group.rank, self._group.size, batch_size).own
        pool.check_batch_size(batch_size, num_seeds, num_damaged)
        indices, ranked, rng = pool.choose(batch_size, losses)
        states = self._fetch(pool.states, indices)
        states[: max(num_seeds - own.start, 0)] = pool.seed
        damage_last(states, num_damaged, damage, rng, first=own.start, total=batch_size)
        return Draw(indices[own], states, ranked[own], {k: self._fetch(v, indices) for k, v in pool.slots.items()})

    def commit(
        self,
        indices: Tensor,
        states: Tensor,
        *,
        losses: Tensor | None = None,
        slots: Mapping[str, Tensor] | None = None,
        reseed: Tensor | None = None,
    ) -> None:
        """Write the states of this rank's part back to the ranks that store them."""
        pool = self._pool
        states, losses, slots = pool.checked(indices, states, losses, slots, reseed)
        ranked = torch.stack([indices.double(), losses.double().to(indices.device)], 1)  # both are exact in float64
        everywhere, known = self._group.gather_rows(ranked).unbind(1)
        everywhere = everywhere.long()
        for name, values in slots.items():
            self._store(pool.slots[name], everywhere, values)
        self._store(pool.states, everywhere, states)
        pool.losses[everywhere] = known.to(pool.losses)

    def state_dict(self) -> dict[str, Any]:
        """State of the whole pool in the main rank, and of the stored part in the others."""
        state = self._pool.state_dict()
        for part in (state["states"], state["slots"]):
            gathered = {k: self._group.gather_on_main(v.detach().cpu()) for k, v in part.items() if k != "shape"}
            part.update(gathered)
        return state

    def _fetch(self, table: Tensor, indices: Tensor) -> Tensor:
        """Fetch the rows of this rank's part of the drawn batch from the ranks that store them."""
        owners, workers = self._owners(indices), self._workers(len(indices))
        mine = (owners == self._group.rank).nonzero().squeeze(1)  # in the order of the receiving ranks
        rows = table[(indices[mine] - self._held.start).to(table.device)].cpu()
        wanted = owners[workers == self._group.rank]
        got = self._group.exchange(rows, self._counts(workers[mine]), self._counts(wanted))
        # rows arrive sorted by owner; the inverse permutation restores the order of the draw
        return got[torch.argsort(torch.argsort(wanted, stable=True), stable=True)].to(table.device)

    def _store(self, table: Tensor, indices: Tensor, rows: Tensor) -> None:
        """Send the rows of this rank's part to the ranks that store them."""
        owners, workers = self._owners(indices), self._workers(len(indices))
        theirs = owners[workers == self._group.rank]
        mine = (owners == self._group.rank).nonzero().squeeze(1)
        sent = rows.detach().cpu()[torch.argsort(theirs, stable=True)]
        got = self._group.exchange(sent, self._counts(theirs), self._counts(workers[mine]))
        table[(indices[mine] - self._held.start).to(table.device)] = got.to(table)

    def _owners(self, indices: Tensor) -> Tensor:
        return torch.bucketize(indices, self._sizes(len(self)).cumsum(0), right=True)

    def _workers(self, num_drawn: int) -> Tensor:
        return torch.repeat_interleave(torch.arange(self._group.size), self._sizes(num_drawn))

    def _sizes(self, total: int) -> Tensor:
        return torch.tensor([BatchPart.of(rank, self._group.size, total).size for rank in range(self._group.size)])

    def _counts(self, ranks: Tensor) -> list[int]:
        counts: list[int] = torch.bincount(ranks, minlength=self._group.size).tolist()
        return counts
