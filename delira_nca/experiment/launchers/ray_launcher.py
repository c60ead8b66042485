"""Launcher that runs tasks on Ray, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from delira_nca.checks import require_number, require_whole
from delira_nca.errors import ConfigError, MissingDependencyError
from delira_nca.experiment.launchers.attempt import Dumps, attempt
from delira_nca.experiment.launchers.engine import EngineLauncher, Queue
from delira_nca.experiment.launchers.launcher import LaunchError, ProcessDiedError
from delira_nca.machine import usable_cores
from delira_nca.training.interruption import Interruption

__all__ = ["RayLauncher", "connection"]

_OBJECT_STORE = 128 * 2**20  # bytes; it stores only arguments and results


@contextlib.contextmanager
def connection(address: str | None, num_workers: int, needs: Mapping[str, Any]) -> Iterator[Any]:
    """Context manager of the connected Ray module; started or joined instances are left at its end.

    Parameters
    ----------
    address : str, optional
        Address of a cluster; None for RAY_ADDRESS, or to start Ray locally.
    num_workers : int
        Number of concurrent tasks of a local instance.
    needs : mapping
        Resources of each task, as for ``ray.remote``.

    Raises
    ------
    ConfigError
        If Ray is started locally and this machine lacks the resources of a task, or an address is given but the process
        is already connected.
    LaunchError
        If the cluster cannot be reached.
    """
    ray: Any = importlib.import_module("ray")
    if ray.is_initialized():
        if address is not None:
            raise ConfigError(f"this process is connected to Ray already: leave out the address {address!r}")
        yield ray
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        address = address or os.environ.get("RAY_ADDRESS")
        if address:
            _join(ray, address)
        else:
            _start(ray, num_workers, needs)
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # restore the handler: that of Ray crashes
        yield ray
    finally:
        ray.shutdown()


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise LaunchError(f"cannot connect to Ray at {address!r}: {error}") from error


def _start(ray: Any, num_workers: int, needs: Mapping[str, Any]) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings = {"num_cpus": num_workers * needs["num_cpus"], "object_store_memory": _OBJECT_STORE}
    ray.init(address="local", include_dashboard=False, logging_level="warning", **settings)
    _require_room(ray.cluster_resources(), needs)


def _require_room(there: Mapping[str, float], needs: Mapping[str, Any]) -> None:
    """Check that this machine has the resources of a task. A cluster is not checked, since it may grow."""
    named = {"num_cpus": "CPU", "num_gpus": "GPU"}
    flat = {named.get(name, name): need for name, need in needs.items() if name != "resources"}
    for name, need in {**flat, **needs.get("resources", {})}.items():
        if need > there.get(name, 0):
            raise ConfigError(f"each task needs {need} of {name!r}, and this machine has {there.get(name, 0):g}")


_DEATHS = ("WorkerCrashedError", "OutOfMemoryError", "NodeDiedError", "LocalRayletDiedError")
_SECONDS_TO_END = 10.0
_LOOKS_EVERY = 0.5  # seconds between two checks for an interruption


class RayLauncher(EngineLauncher):
    """Run tasks on Ray.

    An existing connection of this process is used and kept. Otherwise, a cluster is joined if an address or the
    variable RAY_ADDRESS is given, or Ray is started on this machine and stopped after the tasks.

    Parameters
    ----------
    num_workers : int, optional
        Number of concurrent tasks; by default limited only by resources.
    threads : int
        Number of threads of torch in each task, and of processors that Ray reserves.
    address : str, optional
        Address of a running cluster; ``"auto"`` for one that this machine is part of.
    num_gpus, memory, resources
        Resources that Ray reserves for each task: GPUs (0.25 lets four tasks share one), memory in bytes, and amounts
        of custom resources.

    Raises
    ------
    MissingDependencyError
        If Ray is not installed.
    ConfigError, LaunchError
        For numbers out of range; from :meth:`run`, if Ray is started locally and this machine lacks the resources of a
        task, or if the cluster cannot be reached.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        *,
        threads: int = 1,
        address: str | None = None,
        num_gpus: float = 0,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(threads)
        if importlib.util.find_spec("ray") is None:
            raise MissingDependencyError("this launcher needs Ray: pip install 'delira_nca[ray]'")
        require_number("num_gpus", num_gpus, 0)
        self.num_workers = None if num_workers is None else require_whole("num_workers", num_workers, 1)
        self.address = address
        self._needs: dict[str, Any] = {"num_cpus": self.threads, "num_gpus": float(num_gpus)}
        if memory is not None:
            self._needs["memory"] = require_whole("memory", memory, 1)
        if resources:
            self._needs["resources"] = dict(resources)

    def _dumps(self) -> Dumps:
        dumps: Dumps = importlib.import_module("ray.cloudpickle").dumps
        return dumps

    @contextlib.contextmanager
    def _open(self, num_tasks: int) -> Iterator[_Tasks]:
        workers = self.num_workers or max(1, usable_cores() // self.threads)
        with connection(self.address, workers, self._needs) as ray, Interruption(lambda name: None) as interruption:
            tasks = _Tasks(ray, self._needs, self.num_workers or num_tasks, interruption)
            try:
                yield tasks
            finally:
                tasks.cancel()


class _Tasks(Queue):
    """Waiting jobs, and jobs submitted to Ray."""

    def __init__(self, ray: Any, needs: Mapping[str, Any], num_workers: int, interruption: Interruption) -> None:
        self._ray, self._num_workers, self._interruption = ray, num_workers, interruption
        self._deaths = tuple(getattr(ray.exceptions, name) for name in _DEATHS)
        self._attempt = ray.remote(max_retries=0, **needs)(attempt)
        super().__init__()
        self._running: dict[Any, int] = {}

    def wait(self) -> tuple[int, bytes | Exception]:
        while self._waiting and len(self._running) < self._num_workers:
            number, job = self._waiting.popleft()
            self._running[self._attempt.remote(job)] = number
        ended: list[Any] = []
        while not ended:
            self._interruption.conclude()
            ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_LOOKS_EVERY)
        done = ended[0]
        number = self._running.pop(done)
        try:
            return number, bytes(self._ray.get(done))
        except self._deaths as error:
            return number, ProcessDiedError(f"Ray: {error}")
        except self._ray.exceptions.RayError as error:
            failure = LaunchError(f"Ray could not run the task: {error}")
            failure.__cause__ = error
            return number, failure

    def cancel(self) -> None:
        """Interrupt running tasks; trainings save their state."""
        for task in self._running:
            self._ray.cancel(task)
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=_SECONDS_TO_END)
