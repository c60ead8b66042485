"""The engine of worker processes, for batches, for background calls and for launchers.

A worker is a process with a connection to its parent. Its main thread computes tasks; a second thread receives
messages, reports the stack of a hanging task, and ends the process when the parent ends. Large arrays travel through
anonymous shared memory.
"""

from delira_nca.workers.failures import Failure, WorkerDiedError, WorkerError, WorkerTimeoutError, WorkerTraceback
from delira_nca.workers.group import WorkerGroup
from delira_nca.workers.process import (
    WorkerProcess,
    end_workers,
    require_importable_main,
    require_picklable,
    start_method_of,
)
from delira_nca.workers.shared_memory import SlotWriter

__all__ = [
    "Failure",
    "SlotWriter",
    "WorkerDiedError",
    "WorkerError",
    "WorkerGroup",
    "WorkerProcess",
    "WorkerTimeoutError",
    "WorkerTraceback",
    "end_workers",
    "require_importable_main",
    "require_picklable",
    "start_method_of",
]
