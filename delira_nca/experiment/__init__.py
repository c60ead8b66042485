"""Runs with a name: described, trained, gone on with, compared, many at once, on one machine or on a cluster.

Names load on use: what reads and lists runs needs no torch.
"""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.experiment.comparison import Comparison, RunSummary, compare_runs, summarise
    from delira_nca.experiment.config import RunConfig
    from delira_nca.experiment.export_run import export_html
    from delira_nca.experiment.grow_config import REGIMES, GrowConfig, Regime
    from delira_nca.experiment.growing import GrowResult, grow, resume_growing
    from delira_nca.experiment.run import Run, RunResult, run_from_config
    from delira_nca.experiment.space import Range, grid, random_search
    from delira_nca.experiment.start import LoadReport, StartConfig, load_start
    from delira_nca.experiment.store import RunStore, StatsRecorder, StoredRun
    from delira_nca.experiment.sweeps import sweep

__all__ = [
    "REGIMES",
    "Comparison",
    "GrowConfig",
    "GrowResult",
    "LoadReport",
    "Range",
    "Regime",
    "Run",
    "RunConfig",
    "RunResult",
    "RunStore",
    "RunSummary",
    "StartConfig",
    "StatsRecorder",
    "StoredRun",
    "compare_runs",
    "export_html",
    "grid",
    "grow",
    "load_start",
    "random_search",
    "resume_growing",
    "run_from_config",
    "summarise",
    "sweep",
]

_HOMES = {
    "comparison": ("Comparison", "RunSummary", "compare_runs", "summarise"),
    "config": ("RunConfig",),
    "export_run": ("export_html",),
    "growing": ("GrowResult", "grow", "resume_growing"),
    "grow_config": ("REGIMES", "GrowConfig", "Regime"),
    "run": ("Run", "RunResult", "run_from_config"),
    "space": ("Range", "grid", "random_search"),
    "start": ("LoadReport", "StartConfig", "load_start"),
    "store": ("RunStore", "StatsRecorder", "StoredRun"),
    "sweeps": ("sweep",),
}

__getattr__, __dir__ = lazy_names(__name__, {name: home for home, names in _HOMES.items() for name in names})
