"""Trainings that are killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.faults.case import Case, WrongError, folder, happens_now, require, trial_number

__all__ = ["CASES"]

MOST_KILLS = 6


def kill_until_it_is_done(every: int, workers: int) -> None:
    """Kill a training at some moment, and whatever goes on from it, until one has reached the end."""
    from benchmarks.faults import training_run as runs

    moments = random.Random(trial_number())
    straight, killed = folder("straight"), folder("killed")
    options = {"every_iterations": every, "workers": workers, "num_epochs": runs.NUM_EPOCHS + 1}
    runs.train(folder("first"), 1)  # what is slow only once, such as imports, is done here and not in those killed
    begun = time.monotonic()
    runs.train(straight, **options)
    longest = 0.8 * (time.monotonic() - begun)
    num_kills, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL or not num_kills:
        if code == 0:  # it was faster than the kill
            shutil.rmtree(killed)
            killed.mkdir()
        pid = runs.forked(runs.train, killed, resume="auto", **options)
        if num_kills < MOST_KILLS:
            time.sleep(moments.uniform(0.0, longest))
            happens_now()
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        num_kills += code == -signal.SIGKILL
        require(code in (0, -signal.SIGKILL), f"after {num_kills} kills the training failed")
    runs.require_same(killed, straight)
    runs.require_clean(killed)


def kill_within_a_save(*, is_replaced: bool) -> None:
    """Kill what does nothing but save; what it had saved before, or was saving, must be there and whole."""
    import torch  # for both processes

    from benchmarks.faults import training_run as runs
    from delira_nca.io import load_checkpoint
    from delira_nca.io.files import sweep
    from delira_nca.io.resume import plan_resume

    path = folder("run")
    reading, writing = os.pipe()
    pid = runs.forked(save_for_ever, path, writing, is_replaced)
    os.read(reading, 1)
    time.sleep(random.Random(trial_number()).uniform(0.0, 0.3))
    happens_now()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(writing)
    num_saved = 1 + len(os.read(reading, 100_000))
    sweep(path)
    plan = plan_resume("auto", path)
    require(plan.path is not None, "there is no checkpoint")
    require(not plan.skipped, f"not every checkpoint is whole: {plan}")
    require(plan.epoch in (num_saved, num_saved + 1), f"epoch {plan.epoch} is found, {num_saved} was saved")
    state = load_checkpoint(plan.path)
    if not torch.equal(state["values"], torch.full_like(state["values"], plan.epoch)):
        raise WrongError(f"{plan.path} does not hold what was saved")
    runs.require_clean(path)


def save_for_ever(path: Path, done: int, is_replaced: bool) -> None:
    import torch

    from delira_nca.io import save_checkpoint
    from delira_nca.io.manifest import Manifest

    manifest = Manifest(path, "some run")
    epoch = 0
    while True:
        epoch += 1
        name = "checkpoint.safetensors" if is_replaced else f"checkpoint_epoch_{epoch}.safetensors"
        save_checkpoint({"epoch": epoch, "values": torch.full((500_000,), float(epoch))}, path / name)
        manifest.add(name, epoch=epoch)
        os.write(done, b"!")
        if not is_replaced and epoch > 2:
            manifest.remove(f"checkpoint_epoch_{epoch - 2}.safetensors")


def _cases() -> Iterator[Case]:
    for every, workers, number in ((1, 0, 40), (2, 0, 40), (3, 2, 20)):
        body = partial(kill_until_it_is_done, every, workers)
        times = "every iteration" if every == 1 else f"every {every} iterations"
        setting = f"saved {times}, {workers} workers"
        yield Case("SIGKILL at any moment, again and again: exact", setting, body, of_20=number, limit=40.0)
    for is_replaced, setting in ((True, "one file"), (False, "a file for each, the last two kept")):
        body = partial(kill_within_a_save, is_replaced=is_replaced)
        yield Case("SIGKILL while it does nothing but save", setting, body, of_20=100, limit=15.0)


CASES = list(_cases())
