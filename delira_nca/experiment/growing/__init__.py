"""A picture grown from one cell, in one call."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.experiment.growing.config import QUALITIES, REGIMES, GrowConfig, Regime
    from delira_nca.experiment.growing.page import GrowthPage
    from delira_nca.experiment.growing.parts import bounded_states, event_log, growing_network, growth_preview, pairs
    from delira_nca.experiment.growing.run import GrowResult, grow, resume_growing

__all__ = [
    "QUALITIES",
    "REGIMES",
    "GrowConfig",
    "GrowResult",
    "GrowthPage",
    "Regime",
    "bounded_states",
    "event_log",
    "grow",
    "growing_network",
    "growth_preview",
    "pairs",
    "resume_growing",
]

_HOMES = {
    "QUALITIES": "config",
    "REGIMES": "config",
    "GrowConfig": "config",
    "Regime": "config",
    "GrowthPage": "page",
    **dict.fromkeys(("bounded_states", "event_log", "growing_network", "growth_preview", "pairs"), "parts"),
    "GrowResult": "run",
    "grow": "run",
    "resume_growing": "run",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
