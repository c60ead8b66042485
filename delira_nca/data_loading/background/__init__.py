"""Background calls of functions that return arrays, with ordered results through shared memory."""

from delira_nca.data_loading.background.faults import (
    EmptyQueueError,
    TimeoutError,  # noqa: A004
)
from delira_nca.data_loading.background.proc import BackgroundProc
from delira_nca.data_loading.background.shared_mem import SharedMem
from delira_nca.data_loading.background.shared_queue import SharedQ
from delira_nca.workers import WorkerDiedError, WorkerError

__all__ = [
    "BackgroundProc",
    "EmptyQueueError",
    "SharedMem",
    "SharedQ",
    "TimeoutError",
    "WorkerDiedError",
    "WorkerError",
]
