"""Runs on the disk: their folders, numbers and best weights."""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.experiment.store.database import StatsDatabase
    from delira_nca.experiment.store.recorder import StatsRecorder
    from delira_nca.experiment.store.run_store import RunStore
    from delira_nca.experiment.store.stored_run import BestResult, StoredRun

__all__ = ["BestResult", "RunStore", "StatsDatabase", "StatsRecorder", "StoredRun"]

_HOMES = {
    "BestResult": "stored_run",
    "RunStore": "run_store",
    "StatsDatabase": "database",
    "StatsRecorder": "recorder",
    "StoredRun": "stored_run",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
