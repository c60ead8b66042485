"""Export of trained automata. Names are imported on first use."""

from delira_nca._lazy import lazy_names

_HOMES = {"LivePage": "live_page", "to_html": "html"}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
