"""Functions whose numbered calls are made in background processes, and the way of their results."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from delira_nca import seeding
from delira_nca.checks import require_whole
from delira_nca.data_loading.background.faults import TimeoutError  # noqa: A004
from delira_nca.data_loading.background.layout import Flat, Layout, flatten
from delira_nca.errors import ConfigError, require_choice
from delira_nca.machine import available_memory
from delira_nca.workers import Failure, SlotWriter, WorkerGroup, WorkerTimeoutError, require_picklable, start_method_of

__all__ = ["BackgroundJob", "method_of"]

_HINT = "fewer processes, a smaller read_ahead or smaller results need less"
_WITHOUT_WORKERS = "n_proc=0"


@dataclass(frozen=True)
class BackgroundJob:
    """Function to call, with its constant arguments. A result depends on ``seed`` and the number of the call.

    It is also the handler of worker processes.
    """

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    seed: int
    fill: bool
    layout: Layout | None

    def __post_init__(self) -> None:
        if not callable(self.target):
            raise ConfigError(
                f"target must be a function, not a {type(self.target).__name__}: it is the first argument"
            )
        if not isinstance(self.args, (tuple, list)):
            raise ConfigError(
                f"target_args must be a tuple, not {self.args!r}; for one argument, write ({self.args!r},)"
            )
        if not isinstance(self.kwargs, Mapping):
            raise ConfigError(f"target_kwargs must be a dict, not {self.kwargs!r}")
        if self.fill and self.layout is None:
            raise ConfigError("fill=True needs dtypes and shapes: they are the arrays that the target writes into")
        require_whole("seed", self.seed, 0)
        object.__setattr__(self, "args", tuple(self.args))  # the caller may change its list or dict
        object.__setattr__(self, "kwargs", dict(self.kwargs))

    def make(self, call: int, slot: SlotWriter | None = None) -> Flat:
        """Compute the result of a call, and check it against the layout if there is one.

        Parameters
        ----------
        call : int
            Number of the call.
        slot : SlotWriter or None
            Memory for the arrays into which a target with ``fill`` writes; None for new arrays.
        """
        import torch  # noqa: F401  torch must be loaded before its generator is seeded, not later in the target

        with seeding.isolated_rng(seeding.derive_seed(self.seed, "background", call)):
            if self.fill and self.layout is not None:
                layout = self.layout
                arrays = (SlotWriter() if slot is None else slot).allocate(layout.specs)
                self.target(layout.arrange(arrays), layout.arrange(layout.shapes), *self.args, **self.kwargs)
                return Flat(layout.container, layout.keys, arrays)
            result = self.target(*self.args, **self.kwargs)
        flat = flatten(result, call)
        return flat if self.layout is None else self.layout.fit(flat, call)

    def make_here(self, call: int) -> Flat:
        """Compute the result of a call in this process, with arrays that belong to the caller."""
        flat = self.make(call)
        return flat._replace(arrays=[np.array(array, order="C") for array in flat.arrays])

    def __call__(self, call: int, slot: SlotWriter) -> bytes:
        """Compute the result of a call in a worker process."""
        try:
            flat = self.make(call, slot)
            # below protocol 5, pickling changes the byte order of arrays
            return pickle.dumps((flat.container, flat.keys, slot.write(flat.arrays)), protocol=5)
        except BaseException as error:
            return pickle.dumps(Failure.of(error))

    def start(self, method: str, num_workers: int, num_slots: int) -> WorkerGroup:
        """Start worker processes for the calls.

        Raises
        ------
        ConfigError
            If this process cannot have children, the job cannot be sent to them, or the memory is insufficient.
        """
        if multiprocessing.current_process().daemon:
            raise ConfigError(
                "this process is a worker of another pool and may start no processes of its own; use "
                f"{_WITHOUT_WORKERS}, or delira_nca.data_loading.show.debug_mode()"
            )
        for what, value in (("target", self.target), ("target_args", self.args), ("target_kwargs", self.kwargs)):
            require_picklable(value, what, method, _WITHOUT_WORKERS)
        self._require_memory(num_workers * num_slots)
        return WorkerGroup(
            self,
            num_workers,
            num_slots=num_slots,
            method=method,
            name="background worker",
            describe=_describe,
            hint=_HINT,
        )

    def _require_memory(self, count: int) -> None:
        free, size = available_memory(), 0 if self.layout is None else self.layout.num_bytes
        if free is not None and size * count > free:
            raise ConfigError(
                f"{count} results of {size / 2**20:.1f} MiB need {size * count / 2**20:.1f} MiB of memory, but only "
                f"{free / 2**20:.1f} MiB are available: {_HINT}"
            )

    @staticmethod
    def wait_for(group: WorkerGroup, call: int, seconds: float) -> None:
        """Wait for the result of a call; raise a `TimeoutError` if it is not available in time."""
        try:
            group.wait_for(call, seconds)
        except WorkerTimeoutError as error:
            raise TimeoutError(str(error)) from None

    def read(self, group: WorkerGroup, call: int, *, view: bool = False) -> Flat:
        """Return the result of a finished call.

        Parameters
        ----------
        group : WorkerGroup
            Group that made the call.
        call : int
            Number of the call.
        view : bool
            Whether to return views of shared memory instead of copies.

        Raises
        ------
        Exception
            The exception that the call raised.
        """
        answer, worker, _ = group.result(call)
        if isinstance(answer, Failure):
            raise answer.error(f"{worker}, {_describe(call)}")
        container, keys, entries = answer
        return Flat(container, keys, group.arrays(call, entries, copy=not view))


def _describe(call: int) -> str:
    return f"call {call}"


def method_of(start_method: str | None) -> str:
    """Return the start method of processes."""
    method = start_method_of(start_method)
    require_choice("start_method", method, ("fork", "spawn", "forkserver"))
    return method
