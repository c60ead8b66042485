"""Tasks on Ray: on this machine, or on a cluster."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from delira_nca.errors import ConfigError, MissingDependencyError
from delira_nca.experiment.launchers.attempt import Dumps, Job, attempt
from delira_nca.experiment.launchers.engine import EngineLauncher, require_count
from delira_nca.experiment.launchers.launcher import LaunchError, ProcessDiedError
from delira_nca.machine import usable_cores

__all__ = ["RayLauncher"]

_OBJECT_STORE = 128 * 2**20  # bytes: only arguments and results go through it
_DEATHS = ("WorkerCrashedError", "OutOfMemoryError", "NodeDiedError", "LocalRayletDiedError")
_SECONDS_TO_END = 10.0


class RayLauncher(EngineLauncher):
    """Run tasks on Ray.

    A connection to Ray that this process has is used, and stays. Else, with an address, or with the variable
    RAY_ADDRESS, a cluster is joined; without, Ray starts on this machine, and ends when the tasks are done.

    Parameters
    ----------
    num_workers : tasks at a time; by default as many as there is room for.
    threads : that torch uses in each task: Ray reserves as many processors.
    address : of a running cluster; ``"auto"`` for one that this machine is part of.
    num_gpus, memory, resources : what Ray reserves for each task: GPUs, of which 0.25 lets four tasks share one; bytes;
        and amounts of what one has named oneself.

    Raises
    ------
    MissingDependencyError
        If Ray is not installed.
    ConfigError, LaunchError
        For numbers that cannot work; by :meth:`run` if Ray starts here and this machine has not what each task needs,
        or if the cluster cannot be reached.
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
        if isinstance(num_gpus, bool) or not isinstance(num_gpus, int | float) or not num_gpus >= 0:
            raise ConfigError(f"num_gpus is a number of at least 0, not {num_gpus!r}")
        self.num_workers = None if num_workers is None else require_count("num_workers", num_workers)
        self.address = address
        self._needs: dict[str, Any] = {"num_cpus": self.threads, "num_gpus": num_gpus}
        if memory is not None:
            self._needs["memory"] = require_count("memory", memory)
        if resources:
            self._needs["resources"] = dict(resources)

    def _dumps(self) -> Dumps:
        dumps: Dumps = importlib.import_module("ray.cloudpickle").dumps
        return dumps

    @contextlib.contextmanager
    def _open(self, num_tasks: int) -> Iterator[_Tasks]:
        ray = importlib.import_module("ray")
        was_there = ray.is_initialized()
        if was_there and self.address is not None:
            raise ConfigError(f"this process is connected to Ray already: leave out the address {self.address!r}")
        try:
            if not was_there:
                self._connect(ray)
            tasks = _Tasks(ray, self._needs, self.num_workers or num_tasks)
            try:
                yield tasks
            finally:
                tasks.cancel()
        finally:
            if not was_there:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address:
            try:
                ray.init(address=address, logging_level="warning")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise LaunchError(f"cannot connect to Ray at {address!r}: {error}") from error
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        workers = self.num_workers or max(1, usable_cores() // self.threads)
        settings = {"num_cpus": workers * self.threads, "object_store_memory": _OBJECT_STORE}
        ray.init(address="local", include_dashboard=False, logging_level="warning", **settings)
        _require_room(ray.cluster_resources(), self._needs)


def _require_room(there: Mapping[str, float], needs: Mapping[str, Any]) -> None:
    """Refuse what this machine will never have; a cluster may grow."""
    named = {"num_cpus": "CPU", "num_gpus": "GPU"}
    flat = {named.get(name, name): need for name, need in needs.items() if name != "resources"}
    for name, need in {**flat, **needs.get("resources", {})}.items():
        if need > there.get(name, 0):
            raise ConfigError(f"each task needs {need} of {name!r}, and this machine has {there.get(name, 0):g}")


class _Tasks:
    """Jobs that wait, and those that Ray has."""

    def __init__(self, ray: Any, needs: Mapping[str, Any], num_workers: int) -> None:
        self._ray, self._num_workers = ray, num_workers
        self._deaths = tuple(getattr(ray.exceptions, name) for name in _DEATHS)
        self._attempt = ray.remote(max_retries=0, **needs)(attempt)
        self._waiting: deque[tuple[int, Job]] = deque()
        self._running: dict[Any, int] = {}

    def start(self, jobs: Mapping[int, Job]) -> None:
        self._waiting.extend(jobs.items())

    def wait(self) -> tuple[int, bytes | Exception]:
        while self._waiting and len(self._running) < self._num_workers:
            number, job = self._waiting.popleft()
            self._running[self._attempt.remote(job)] = number
        (done,), _ = self._ray.wait(list(self._running), num_returns=1)
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
        """Interrupt what still runs: a training saves what it has."""
        for task in self._running:
            self._ray.cancel(task)
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=_SECONDS_TO_END)
