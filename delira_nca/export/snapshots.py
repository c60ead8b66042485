"""Weights of a few epochs, spread over a training of unknown length."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from delira_nca.checks import require_whole

__all__ = ["Snapshots"]

_MOST_CHARACTERS = 700_000  # of all snapshots together, so that a page stays below a megabyte
_DENSITY = 0.6  # exponent of the epoch in which snapshots are evenly spaced: below 1, early epochs are denser


class Snapshots:
    """Snapshots of epochs, of which the most redundant is dropped whenever there are too many.

    Parameters
    ----------
    most : int
        Number of snapshots that are kept. Fewer are where all would take more than 700 kB as JSON.

    Raises
    ------
    ConfigError
        If ``most`` is not an integer of at least 0.

    Examples
    --------
    >>> snapshots = Snapshots(6)
    >>> for epoch in range(1, 81):
    ...     snapshots.add({"epoch": epoch})
    >>> [kept["epoch"] for kept in snapshots.kept]
    [1, 7, 25, 39, 69, 80]
    """

    def __init__(self, most: int) -> None:
        require_whole("snapshots", most, 0)
        self.most = most
        self.kept: list[dict[str, Any]] = []

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Add a snapshot of the next epoch, plain values with an ``"epoch"``.

        One of the same or a later epoch, from before a run was resumed from an older checkpoint, is replaced.
        """
        most = min(self.most, _MOST_CHARACTERS // len(json.dumps(snapshot)))
        if most < 2:  # the first and the last make a slider
            self.kept = []
            return
        self.kept = [kept for kept in self.kept if kept["epoch"] < snapshot["epoch"]] + [dict(snapshot)]
        while len(self.kept) > most:
            del self.kept[self._most_redundant()]

    def _most_redundant(self) -> int:
        """Index of the snapshot, neither first nor last, that leaves the smallest gap."""
        places = [kept["epoch"] ** _DENSITY for kept in self.kept]
        return min(range(1, len(places) - 1), key=lambda k: places[k + 1] - places[k - 1])

    def state_dict(self) -> dict[str, Any]:
        """Snapshots that are kept."""
        return {"kept": list(self.kept)}

    def load_state_dict(self, state: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Take up a state."""
        self.kept = list(state["kept"])
