"""What can happen to a data manager."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch  # noqa: F401  (a worker would import it within its first batch, which takes seconds on a busy machine)

from benchmarks.faults.case import Case, happens_now, is_ready
from delira_nca.data_loading import AbstractDataset, DataManager

__all__ = ["CASES"]

NUM_BATCHES, BATCH_SIZE = 12, 2
TEXT = "broken 4711"


class Numbers(AbstractDataset):
    """Sample ``i`` is so many times the number ``i``; one of them may be broken."""

    is_deterministic = True

    def __init__(self, size: int = 100, broken: int = -1) -> None:
        self.size, self.broken = size, broken

    def __len__(self) -> int:
        return NUM_BATCHES * BATCH_SIZE

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == self.broken:
            happens_now()
            raise ValueError(TEXT)
        return {"x": np.full(self.size, index)}


class At:
    """Transform that does something in one batch."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self.number, self.action = number, action

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if batch["x"][0, 0] == self.number * BATCH_SIZE:
            happens_now()
            self.action()
        return batch


def fail() -> None:
    raise ValueError(TEXT)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(3600.0)


def slowly(batch: dict[str, Any]) -> dict[str, Any]:
    time.sleep(0.05)
    return batch


def train(transforms: Callable[..., Any] | None = None, *, data: Any = None, **options: Any) -> None:
    with DataManager(data or Numbers(), BATCH_SIZE, transforms=transforms, **options) as manager:
        for _ in manager.get_batchgen():
            pass


def send_a_lambda() -> None:
    happens_now()
    train(lambda batch: batch, n_process_augmentation=2, start_method="spawn")


@contextmanager
def batches(options: dict[str, Any], size: int = 100) -> Iterator[Any]:
    manager = DataManager(Numbers(size), BATCH_SIZE, transforms=slowly, **options)
    yield iter(manager.get_batchgen())


def raise_in_the_loop(options: dict[str, Any]) -> None:
    with batches(options) as batchgen:
        for _ in batchgen:
            happens_now()
            raise KeyError(TEXT)


def leave_the_loop(options: dict[str, Any]) -> None:
    with batches(options, size=4_000_000) as batchgen:
        for _ in batchgen:
            happens_now()
            break


def leave_the_program(options: dict[str, Any]) -> None:
    with batches(options, size=100_000) as batchgen:
        globals()["kept"] = batchgen
        next(batchgen)
        happens_now()


def wait_for_a_signal(options: dict[str, Any], transforms: Callable[..., Any]) -> None:
    manager = DataManager(Numbers(), BATCH_SIZE, transforms=transforms, timeout=0, **options)
    epoch = 0
    while True:
        epoch += 1
        for _ in manager.get_batchgen(epoch=epoch):
            is_ready()


def _cases() -> Iterator[Case]:
    here = {"0": {"n_process_augmentation": 0}}
    forked = {"2, fork": {"n_process_augmentation": 2, "start_method": "fork"}}
    spawned = {"2, spawn": {"n_process_augmentation": 2, "start_method": "spawn"}}
    middle, last = NUM_BATCHES // 2, NUM_BATCHES - 1
    wrong = {"error": "ValueError", "exit_code": 1}
    for where, number in {"first": 0, "middle": middle, "last": last}.items():
        texts = (TEXT, f"in batch {number} of epoch 1 (samples {2 * number}, {2 * number + 1})")
        for setting, options in {**here, **forked, **spawned}.items():
            body = partial(train, At(number, fail), **options)
            yield Case(f"transform raises in the {where} batch", setting, body, texts=texts, **wrong)
    for setting, options in {**here, **forked, **spawned}.items():
        body = partial(train, data=Numbers(broken=7), **options)
        yield Case("dataset raises", setting, body, texts=(TEXT, "in batch 3 of epoch 1 (samples 6, 7)"), **wrong)
    ended = {"error": "WorkerError", "exit_code": 1}
    for setting, options in {**forked, **spawned}.items():
        texts = ("was killed by SIGKILL at batch 6 of epoch 1 (samples 12, 13)", "probably out of memory")
        body = partial(train, At(middle, kill), **options)
        yield Case("worker is killed (SIGKILL)", setting, body, texts=texts, limit=2.0, **ended)
        texts = ("batch 6 of epoch 1 (samples 12, 13) was not ready within 5 seconds", "in hang", "time.sleep(3600.0)")
        body = partial(train, At(middle, hang), timeout=5, **options)
        late = {"error": "TimeoutError", "exit_code": 1, "least": 4.9, "limit": 7.0}
        yield Case("worker hangs, timeout=5", setting, body, texts=texts, **late)
        body = partial(raise_in_the_loop, options)
        yield Case("consumer raises in the loop", setting, body, error="KeyError", texts=(TEXT,), exit_code=1)
        yield Case("break after one batch of 64 MB", setting, partial(leave_the_loop, options))
        yield Case("interpreter exits with a live iterator", setting, partial(leave_the_program, options))
        for name, number in {"SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL}.items():
            sent = {"signal": number, "exit_code": -number}
            yield Case(f"parent gets {name}", setting, partial(wait_for_a_signal, options, slowly), **sent)
            hanging = partial(wait_for_a_signal, options, At(middle, hang))
            yield Case(f"parent gets {name} while a worker hangs", setting, hanging, **sent)
        interrupted = {"error": "KeyboardInterrupt", "exit_code": -signal.SIGINT, "signal": signal.SIGINT}
        body = partial(wait_for_a_signal, options, slowly)
        yield Case("Ctrl+C (SIGINT to all)", setting, body, to_group=True, **interrupted)
    texts = ("sends transforms to other processes, but <lambda> cannot be pickled",)
    yield Case("a lambda is the transform", "2, spawn", send_a_lambda, error="ConfigError", texts=texts, exit_code=1)


CASES = list(_cases())
