"""What runs in a background process: one call after another, its results written into slots of shared memory."""

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

_LOOKS_EVERY = 0.5  # seconds between two looks whether the parent still lives
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """The function to call, with its constant arguments; a result is a function of ``seed`` and number of the call."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    seed: int
    fill: bool

    def make(self, call: int, layout: Layout | None, place: Arrays | None = None) -> Flat:
        """Result of a call, checked against the layout if there is one.

        Parameters
        ----------
        call : int
            Its number.
        layout : Layout or None
            What the result must look like.
        place : Arrays or None
            Where a target with ``fill`` writes to; ``None`` is new arrays.
        """
        import torch  # noqa: F401  torch's generator is seeded where torch is loaded: not too late, in the target

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
    """To a worker: make this call, and send the whole result, because nobody knows what it looks like."""

    call: int


@dataclass(frozen=True)
class Run:
    """To a worker: make this call, and put the result there."""

    call: int
    slot: int


@dataclass(frozen=True)
class Hello:
    """From a worker: it has begun; or why it cannot."""

    failure: Failure | None = None


@dataclass(frozen=True)
class Ready:
    """From a worker: it is attached to the slots."""


@dataclass(frozen=True)
class Done:
    """From a worker: the result lies in its slot (or is ``content``), and how long the call took."""

    call: int
    container: str
    seconds: float
    content: Flat | None = None


@dataclass(frozen=True)
class Failed:
    """From a worker: the call raised."""

    call: int
    failure: Failure


@dataclass(frozen=True)
class Birth:
    """What a worker must know: the job (pickled, if it is not forked) and who its parent is."""

    job: Job | bytes
    parent: int
    is_forked: bool
    is_tied: bool  # the parent's main thread started it, so that the system may end it together with that thread


def work(birth: Birth, tasks: Connection, watch: Connection) -> None:
    """Make calls until told to stop, or until the parent is gone."""
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
        except FileNotFoundError:  # the slots are gone already: so are those who wanted the results
            return
        if isinstance(message, Slots):
            slots = message
            tasks.send(Ready())
        elif isinstance(message, Run) and slots is not None:
            tasks.send(_answer(job, message.call, slots.layout, slots[message.slot]))
        elif isinstance(message, Scout):
            # Below protocol 5, arrays arrive with another order of bytes than they had.
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
    """Have the system end this process together with its parent, where it can."""
    if sys.platform == "linux" and birth.is_tied:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if birth.is_forked and os.getppid() != birth.parent:
        os._exit(1)


def _watch(birth: Birth, watch: Connection, main: int) -> None:
    """End this process when the parent is gone, whatever the main thread does; say where that is, when asked."""
    parent = multiprocessing.parent_process()
    ends: list[Any] = [watch, *([parent.sentinel] if parent is not None else [])]
    while True:
        ready = wait(ends, _LOOKS_EVERY)
        # A forked process holds the ends of pipes of those before it open, so that these notice nothing.
        is_orphan = birth.is_forked and os.getppid() != birth.parent
        if is_orphan or any(end is not watch for end in ready):
            os._exit(1)
        if ready:
            try:
                watch.recv()
                watch.send("".join(traceback.format_stack(sys._current_frames().get(main))))
            except (EOFError, OSError):
                os._exit(1)
