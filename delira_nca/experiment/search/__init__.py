"""Many runs of one config with some values set otherwise."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.experiment.search.space import Range, grid, random_search, read_space
    from delira_nca.experiment.search.sweeping import sweep

__all__ = ["Range", "grid", "random_search", "read_space", "sweep"]

_HOMES = {
    "Range": "space",
    "grid": "space",
    "random_search": "space",
    "read_space": "space",
    "sweep": "sweeping",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
