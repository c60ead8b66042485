"""A connection to Ray for the time of a run: one that is there, a cluster that is joined, or Ray started here."""

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

_OBJECT_STORE = 128 * 2**20  # bytes: only arguments and results go through it


@contextlib.contextmanager
def connection(address: str | None, num_workers: int, needs: Mapping[str, Any]) -> Iterator[Any]:
    """The module of Ray, connected; what was started or joined is left when the block ends.

    Parameters
    ----------
    address : str, optional
        Of a cluster; None for RAY_ADDRESS, or to start Ray here.
    num_workers : int
        Tasks at a time, where it starts here.
    needs : mapping
        What each task takes, in the words of ``ray.remote``.

    Raises
    ------
    ConfigError
        If Ray starts here and this machine has not what a task needs, or an address is given to a process that is
        connected.
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
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which ends in a crash
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
    """Refuse what this machine will never have; a cluster may grow."""
    named = {"num_cpus": "CPU", "num_gpus": "GPU"}
    flat = {named.get(name, name): need for name, need in needs.items() if name != "resources"}
    for name, need in {**flat, **needs.get("resources", {})}.items():
        if need > there.get(name, 0):
            raise ConfigError(f"each task needs {need} of {name!r}, and this machine has {there.get(name, 0):g}")
