"""Main function of background processes, which write the results of calls into slots of shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from delira_nca import seeding
from delira_nca.data_loading.background.faults import Failure
from delira_nca.data_loading.background.layout import Arrays, Flat, Layout, flatten
from delira_nca.data_loading.background.slots import Slots
from delira_nca.data_loading.child_process import settle_in
from delira_nca.errors import ConfigError

__all__ = ["Birth", "Done", "Failed", "Hello", "Job", "Ready", "Run", "Scout", "work"]

_LOOKS_EVERY = 0.5  # seconds between two checks whether the parent is alive
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """Function to call, with its constant arguments. A result depends on ``seed`` and the number of the call."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    seed: int
    fill: bool

    def make(self, call: int, layout: Layout | None, place: Arrays | None = None) -> Flat:
        """Compute the result of a call, and check it against the layout if there is one.

        Parameters
        ----------
        call : int
            Number of the call.
        layout : Layout or None
            Required layout of the result.
        place : Arrays or None
            Arrays into which a target with ``fill`` writes; None allocates new arrays.
        """
        import torch  # noqa: F401  torch must be loaded before its generator is seeded, not later in the target

        with seeding.isolated_rng(seeding.derive_seed(self.seed, "background", call)):
            if not self.fill:
                result = self.target(*self.args, **self.kwargs)
            else:
                if layout is None:
                    raise ConfigError("fill=True needs dtypes and shapes: they are the arrays to write into")
                place = layout.allocate() if place is None else place
                self.target(layout.arrange(place), layout.arrange(layout.shapes), *self.args, **self.kwargs)
                return Flat(layout.container, layout.keys, place)
        flat = flatten(result, call)
        return flat if layout is None else layout.fit(flat, call)


@dataclass(frozen=True)
class Scout:
    """Message to a worker: make this call and send the result through the pipe, as its layout is unknown."""

    call: int


@dataclass(frozen=True)
class Run:
    """Message to a worker: make this call and write the result into this slot."""

    call: int
    slot: int


@dataclass(frozen=True)
class Hello:
    """Message from a worker: it has started, or has failed to start."""

    failure: Failure | None = None


@dataclass(frozen=True)
class Ready:
    """Message from a worker: it is attached to the slots."""


@dataclass(frozen=True)
class Done:
    """Message from a worker: the result is in its slot (or in ``content``), with the duration of the call."""

    call: int
    container: str
    seconds: float
    content: Flat | None = None


@dataclass(frozen=True)
class Failed:
    """Message from a worker: the call raised an exception."""

    call: int
    failure: Failure


@dataclass(frozen=True)
class Birth:
    """Data for the start of a worker: the job (pickled unless it is forked) and its parent."""

    job: Job | bytes
    parent: int
    is_forked: bool
    is_tied: bool  # started by the parent's main thread, so that the system can end it together with that thread


def work(birth: Birth, tasks: Connection, watch: Connection) -> None:
    """Make calls until a message to stop arrives, or the parent has ended."""
    settle_in(has_torch=True)
    _tie_to_parent(birth)
    threading.Thread(target=_watch, args=(birth, watch, threading.get_ident()), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            job = birth.job if isinstance(birth.job, Job) else pickle.loads(birth.job)
        except BaseException as error:
            tasks.send(Hello(Failure.of(error)))
            return
        tasks.send(Hello())
        _serve(job, tasks)


def _serve(job: Job, tasks: Connection) -> None:
    slots: Slots | None = None
    while True:
        try:
            message = tasks.recv()
        except FileNotFoundError:  # the slots are deleted, so the results are not needed
            return
        if isinstance(message, Slots):
            slots = message
            tasks.send(Ready())
        elif isinstance(message, Run) and slots is not None:
            tasks.send(_answer(job, message.call, slots.layout, slots[message.slot]))
        elif isinstance(message, Scout):
            # below protocol 5, pickling changes the byte order of arrays
            tasks.send_bytes(pickle.dumps(_answer(job, message.call, None, None), protocol=5))
        else:
            return


def _answer(job: Job, call: int, layout: Layout | None, place: Arrays | None) -> Done | Failed:
    start = time.perf_counter()
    try:
        flat = job.make(call, layout, place)
        if place is None:
            return Done(call, flat.container, time.perf_counter() - start, flat)
        for target, array in zip(place, flat.arrays, strict=True):
            if target is not array:
                np.copyto(target, array, casting="no")
        return Done(call, flat.container, time.perf_counter() - start)
    except BaseException as error:
        return Failed(call, Failure.of(error))


def _tie_to_parent(birth: Birth) -> None:
    """Let the system end this process together with its parent, if supported."""
    if sys.platform == "linux" and birth.is_tied:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if birth.is_forked and os.getppid() != birth.parent:
        os._exit(1)


def _watch(birth: Birth, watch: Connection, main: int) -> None:
    """End this process when the parent has ended, in any state of the main thread; report its stack on request."""
    parent = multiprocessing.parent_process()
    ends: list[Any] = [watch, *([parent.sentinel] if parent is not None else [])]
    while True:
        ready = wait(ends, _LOOKS_EVERY)
        # A forked process holds the pipes of earlier processes open, so that these do not notice the parent's end.
        is_orphan = birth.is_forked and os.getppid() != birth.parent
        if is_orphan or any(end is not watch for end in ready):
            os._exit(1)
        if ready:
            try:
                watch.recv()
                watch.send("".join(traceback.format_stack(sys._current_frames().get(main))))
            except (EOFError, OSError):
                os._exit(1)
