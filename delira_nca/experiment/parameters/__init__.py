"""Parameters of an experiment, and how objects stand in files."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.experiment.parameters.parameters import Parameters

__all__ = ["Parameters"]

_HOMES = {
    "Parameters": "parameters",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
