"""Whether a run may go on under another config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from delira_nca.errors import ConfigError

if TYPE_CHECKING:
    from delira_nca.experiment.config.run_config import RunConfig

__all__ = ["differences", "require_same_run"]

_MAY_CHANGE = (
    "num_epochs",
    "num_iterations",
    "data.num_workers",
    "data.val_batch_size",
    "trainer.device",
    "trainer.save_freq",
    "trainer.save_iterations",
    "trainer.save_seconds",
    "trainer.keep",
    "trainer.save_best",
)
"""What a run may be gone on with otherwise: how long, where, and what is kept of it."""


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted names of what differs in two nests of plain values, and both values; an absent one is None.

    Examples
    --------
    >>> differences({"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 2, "c": [1, 2]}, "d": 3})
    {'a.b': (1, 2), 'd': (None, 3)}
    """
    ours_flat, theirs_flat = dict(_flat(ours)), dict(_flat(theirs))
    names = [*ours_flat, *(name for name in theirs_flat if name not in ours_flat)]
    pairs = {name: (ours_flat.get(name), theirs_flat.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat(values: Any, name: str = "") -> Any:
    entries = enumerate(values) if isinstance(values, list) else values.items() if isinstance(values, Mapping) else ()
    nested = [(f"{name}.{key}" if name else str(key), value) for key, value in entries]
    if not nested:
        yield name, values
    for key, value in nested:
        yield from _flat(value, key)


def require_same_run(there: RunConfig, here: RunConfig, folder: str | os.PathLike[str]) -> None:
    """Refuse to go on with a run under a config by which it would have become another.

    Raises
    ------
    ConfigError
        With every difference.
    """
    found = {
        name: pair for name, pair in differences(there.to_dict(), here.to_dict()).items() if name not in _MAY_CHANGE
    }
    if found:
        told = "; ".join(f"{name} was {then!r} and is {now!r}" for name, (then, now) in found.items())
        raise ConfigError(f"{folder} holds a run of another config: {told}. Give the run another name")
