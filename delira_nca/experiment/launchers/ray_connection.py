"""Connection to Ray: an existing one, a cluster, or a local instance."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from delira_nca.errors import ConfigError
from delira_nca.experiment.launchers.launcher import LaunchError

__all__ = ["connection"]

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
