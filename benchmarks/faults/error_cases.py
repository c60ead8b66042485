"""Trainings in which something raises: a callback, the closure, the validation, or a worker."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.case import FOLDER, Case, WrongError, folder, happens_now, require, trial_number

__all__ = ["CASES"]

TEXT = "broken 4711"
HOOKS = (
    "at_training_begin",
    "at_epoch_begin",
    "at_iter_begin",
    "at_iter_end",
    "at_iter_done",
    "at_epoch_end",
    "at_checkpoint",
    "at_training_end",
    "at_exception",
)
WORKER_LIMIT = 5.0  # seconds from a worker's fault to the error
TIMEOUT = 2.0


def fail() -> None:
    happens_now()
    raise ValueError(TEXT)


def raise_in_a_hook(hook: str, workers: int) -> None:
    """A callback raises in a hook, in the third epoch."""
    from delira_nca.errors import CallbackError
    from delira_nca.training.callbacks import AbstractCallback

    calls = []

    def method(self: Any, trainer: Any, **event: Any) -> None:
        calls.append(hook)
        if len(calls) == 1 + (trial_number() % 3 if hook.startswith("at_iter") else 0):
            fail()

    raising = type("Raising", (AbstractCallback,), {hook: method})()
    if hook == "at_exception":  # which another error has to lead to
        error, said = _train_until_it_fails(workers, callbacks=[raising], criterion=_failing(is_in_validation=False))
        require(_is_of_the_criterion(error), f"the error that was first has become {error!r}")
        require(any("Raising failed in at_exception" in text for text in said), f"it was not told: {said}")
        return
    error, _ = _train_until_it_fails(workers, callbacks=[raising], is_over=hook == "at_training_end")
    require(isinstance(error, CallbackError), f"raised {error!r}")
    require(f"callback Raising failed in {hook}: ValueError: {TEXT}" in str(error), f"raised {error!r}")
    require(isinstance(error.__cause__, ValueError), f"its cause is {error.__cause__!r}")


def raise_in_the_closure(workers: int, *, is_in_validation: bool) -> None:
    error, _ = _train_until_it_fails(workers, criterion=_failing(is_in_validation=is_in_validation))
    require(_is_of_the_criterion(error), f"raised {error!r}")


def _is_of_the_criterion(error: BaseException | None) -> bool:
    """Whether an error is that of the criterion, or in the first batch one that names the criterion."""
    from delira_nca.errors import ConfigError

    if isinstance(error, ConfigError):
        return "criterion 'mse'" in str(error) and _is_of_the_criterion(error.__cause__)
    return type(error) is ValueError and TEXT in str(error)


def _failing(*, is_in_validation: bool) -> Callable[..., Any]:
    """Criterion that raises, in one of the steps of the training, or in the validation."""
    import torch

    from delira_nca.losses import mse

    calls = []

    def criterion(pred: Any, label: Any) -> Any:
        if torch.is_grad_enabled() != is_in_validation:
            calls.append(0)
            if len(calls) == 1 + (0 if is_in_validation else trial_number() % 3):
                fail()
        return mse(pred, label)

    return criterion


def _train_until_it_fails(
    workers: int, *, callbacks: Any = (), criterion: Any = None, is_over: bool = False
) -> tuple[BaseException, list[str]]:
    """Train two epochs, fail in the third, and go on; the error, and what was said."""
    from benchmarks.faults import training_run as runs
    from delira_nca.training.callbacks import LambdaCallback

    straight, path = folder("straight"), folder("run")
    runs.train(straight, last=0)
    runs.train(path, 2, last=0)
    before, seen = runs.contents(path), []
    witness = LambdaCallback(
        at_exception=lambda trainer, exception: seen.append(exception),
        at_training_end=lambda trainer: seen.append("end"),
    )
    changes = {} if criterion is None else {"criterions": {"mse": criterion}}
    options = {"last": 0, "workers": workers, "callbacks": callbacks, "late": [witness], **changes}
    with runs.messages() as said:
        try:
            runs.train(path, resume="auto", **options)
        except Exception as error:
            raised = error
        else:
            raise WrongError("nothing was raised")
    children = multiprocessing.active_children()
    require(not children, f"processes left: {children}")
    require(seen == (["end"] if is_over else [raised, "end"]), f"hooks at the end: {seen}")
    after = runs.contents(path)
    if is_over:  # everything was saved before the callback failed
        before, after = {name: before[name] for name in before if "epoch" in name}, {n: after.get(n) for n in before}
        after.pop("checkpoint_best.safetensors")
    require(before == after, "the checkpoints are not as they were")
    runs.require_clean(path)
    runs.train(path, last=0, resume="auto")
    runs.require_same(path, straight)
    return raised, said


class _Watched:
    """Data manager that knows which of its epochs are closed."""

    def __init__(self, manager: Any) -> None:
        self.manager, self.closed = manager, []

    def get_batchgen(self, epoch: int = 1, start: int = 0) -> Iterator[Any]:
        try:
            yield from self.manager.get_batchgen(epoch=epoch, start=start)
        finally:
            self.closed.append(epoch)


def close_the_batches(*, is_in_validation: bool) -> None:
    """The batches are closed when callbacks hear of an error, not when somebody has forgotten it."""
    from benchmarks.faults import training_run as runs
    from delira_nca.training.callbacks import LambdaCallback

    seen = []
    with runs.managers(2) as (first, second):
        watched = _Watched(second if is_in_validation else first)
        witness = LambdaCallback(at_exception=lambda trainer: seen.append(list(watched.closed)))
        criterion = _failing(is_in_validation=is_in_validation)
        run = runs.trainer(folder("run"), criterions={"mse": criterion}, late=[witness])
        try:
            run.train(1, *((first, watched) if is_in_validation else (watched, second)))
        except Exception as error:
            require(_is_of_the_criterion(error), f"raised {error!r}")
            # the first batch of the validation is also read before the first epoch
            require(seen == [[1, 1] if is_in_validation else [1]], f"closed in at_exception: {seen}")
        else:
            raise WrongError("nothing was raised")


# Workers --------------------------------------------------------------------------------------------------------------


class Once:
    """Transform that does something in one batch of one worker, once in all processes."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self.number, self.action, self.calls = number, action, 0
        self.flag = f"{os.environ[FOLDER]}/done"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        if self.calls > self.number:
            try:
                os.close(os.open(self.flag, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return batch
            happens_now()
            self.action()
        return batch


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(3600.0)


def lose_a_worker(action: Callable[[], None], kind: str, texts: tuple[str, ...]) -> None:
    """Something happens in a worker: the error says what and where, and the run goes on from its last step."""
    from benchmarks.faults import training_run as runs

    straight, path = folder("straight"), folder("run")
    runs.train(straight, every_iterations=1)
    transform = Once(trial_number() % 4, action)
    options = {"every_iterations": 1, "workers": 2}
    try:
        runs.train(path, transform=transform, timeout=TIMEOUT, **options)
    except Exception as error:
        seconds = time.monotonic() - json.loads((Path(os.environ[FOLDER]) / "fault.json").read_text())["time"]
        require(kind in [c.__name__ for c in type(error).__mro__], f"raised {error!r}")
        for text in (*texts, "of epoch "):
            require(text in str(error), f"{text!r} is not in {str(error)!r}")
    else:
        raise WrongError("nothing was raised")
    require(seconds < WORKER_LIMIT, f"the error came after {seconds:.1f} s")
    require(not multiprocessing.active_children(), "processes are left")
    runs.require_clean(path)
    runs.train(path, resume="auto", **options)
    runs.require_same(path, straight)
    runs.require_clean(path)


def _cases() -> Iterator[Case]:
    for hook in HOOKS:
        body = partial(raise_in_a_hook, hook, 2)
        yield Case(f"a callback raises in {hook}", "2 workers, then exact", body, of_20=3, limit=20.0)
    for is_in_validation, name in ((False, "the closure raises in a step"), (True, "the closure raises in validation")):
        body = partial(raise_in_the_closure, 2, is_in_validation=is_in_validation)
        yield Case(name, "2 workers, then exact", body, of_20=3, limit=20.0)
        body = partial(close_the_batches, is_in_validation=is_in_validation)
        where = "of validation" if is_in_validation else "of training"
        yield Case(f"the closure raises, batches {where} are closed", "2 workers", body, of_20=3, limit=20.0)
    faults = {
        "is killed (SIGKILL)": (kill, "WorkerError", ("was killed by SIGKILL",)),
        "raises": (fail, "ValueError", (TEXT,)),
        f"hangs, timeout={TIMEOUT:g}": (hang, "TimeoutError", (f"was not ready within {TIMEOUT:g} seconds", "in hang")),
    }
    for name, arguments in faults.items():
        yield Case(f"a worker {name}", "2 workers, then exact", partial(lose_a_worker, *arguments), limit=20.0)


CASES = list(_cases())
