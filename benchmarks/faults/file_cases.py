"""Checkpoints that cannot be written, and checkpoints that cannot be read."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.case import Case, WrongError, folder, happens_now, require, trial_number
from benchmarks.faults.disk import may_mount, private_disk

__all__ = ["CASES"]

NEWEST = "checkpoint_epoch_3.safetensors"
SEVERAL = 20  # places in a file


# What cannot be written -----------------------------------------------------------------------------------------------


def write_too_much(policy: str) -> None:
    """No file may be longer than a part of a checkpoint, for one epoch."""
    _fail_to_write(policy, folder("run"), _limit, "File too large")


def fill_the_disk(policy: str) -> None:
    """The disk, a small one in memory, has space for a part of a checkpoint, for one epoch."""
    path = folder("run")
    private_disk(path)
    _fail_to_write(policy, path, partial(_fill, path), "bytes free")


def _fail_to_write(policy: str, path: Path, hinder: Callable[[int], Any], cause: str) -> None:
    """Train an epoch in which no checkpoint can be written, and then go on."""
    from benchmarks.faults import training_run as runs
    from delira_nca.errors import CheckpointError

    straight = folder("straight")
    runs.train(straight, last=0)
    runs.train(path, 2, last=0)
    before = runs.contents(path)
    part = random.Random(trial_number()).uniform(0.1, 0.99)
    hindrance = hinder(int(part * len(before["checkpoint_epoch_2.safetensors"])))
    options = {"last": 0, "on_error": policy, "resume": "auto", "late": [hindrance]}
    happens_now()
    with runs.messages() as said:
        try:
            runs.train(path, **options)
            require(policy == "warn", "no error was raised")
        except CheckpointError as error:
            require(policy == "raise", f"raised: {error}")
            require(cause in str(error), f"the error does not say what is wrong: {error}")
    told = any(f"training continues without {NEWEST}" in text for text in said)
    require(told == (policy == "warn"), f"it said {said}")
    require(runs.contents(path) == before, "the checkpoints are not as they were")
    runs.require_clean(path)
    runs.train(path, last=0, resume="auto")
    runs.require_same(path, straight)
    runs.require_clean(path)


def _limit(longest: int) -> Any:
    """Callback that limits the size of files for the time of a training."""
    import resource

    from delira_nca.training.callbacks import LambdaCallback

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def begin(trainer: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (longest, hard))

    def end(trainer: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    return LambdaCallback(at_training_begin=begin, at_training_end=end)


def _fill(path: Path, left: int) -> Any:
    """Callback that leaves so many bytes free on the disk for the time of a training."""
    from delira_nca.training.callbacks import LambdaCallback

    filler = path / "filler"

    def begin(trainer: Any) -> None:
        filler.write_bytes(bytes(shutil.disk_usage(path).free - left))

    def end(trainer: Any) -> None:
        filler.unlink()

    return LambdaCallback(at_training_begin=begin, at_training_end=end)


# What cannot be read --------------------------------------------------------------------------------------------------


def go_on_from_the_one_before(damage: Callable[[Path], None]) -> None:
    """The newest file is damaged: the one before it is taken, and it is said why."""
    from benchmarks.faults import training_run as runs

    straight, path = folder("straight"), folder("run")
    runs.train(straight, 4, last=0)
    runs.train(path, 3, last=0)
    damage(path / NEWEST)
    happens_now()
    with runs.messages() as said:
        runs.train(path, 4, last=0, resume="auto")
    told = [text for text in said if text.startswith("resume after epoch") and f"not from {path / NEWEST}: " in text]
    require(told, f"it was not said that {NEWEST} is passed over: {said}")
    runs.require_same(path, straight)


def refuse_the_only_one(damage: Callable[[Path], None]) -> None:
    """All there is is damaged: there is one error, which says so, and nothing is done to the file."""
    from benchmarks.faults import training_run as runs
    from delira_nca.errors import CheckpointError

    path = folder("run")
    runs.train(path, 3, last=0)
    for other in path.glob("checkpoint*.safetensors"):
        if other.name != NEWEST:
            other.unlink()
    damage(path / NEWEST)
    before = runs.contents(path)
    happens_now()
    try:
        runs.train(path, 4, last=0, resume="auto")
    except CheckpointError as error:
        require(NEWEST in str(error), f"the error does not name the file: {error}")
        require(runs.contents(path) == before, "the file was changed")
    else:
        raise WrongError("the training began anew, and said nothing")


def go_on_from_an_older_format(path: Path, straight: Path) -> None:
    """Write the newest file as the first version did: without a seal. It is taken."""
    from benchmarks.faults import training_run as runs

    with runs.messages() as said:
        runs.train(path, 4, last=0, resume="auto")
    require(any(f"from {path / NEWEST}" in text for text in said), f"another file was taken: {said}")
    runs.require_same(path, straight)


def older_format() -> None:
    import torch

    from benchmarks.faults import training_run as runs
    from delira_nca.io import load_checkpoint

    straight, path = folder("straight"), folder("run")
    runs.train(straight, 4, last=0)
    runs.train(path, 3, last=0)
    (path / "checkpoint_best.safetensors").unlink()
    torch.save(load_checkpoint(path / NEWEST), path / NEWEST)
    happens_now()
    go_on_from_an_older_format(path, straight)


def newer_format(path: Path) -> None:
    from delira_nca.io import load_checkpoint, save_checkpoint

    save_checkpoint({**load_checkpoint(path), "format_version": 99}, path)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: max(1, len(content) * (trial_number() % SEVERAL) // SEVERAL)])


def flip(path: Path) -> None:
    """Change one bit; the places are spread over the whole file, and the last is its last byte."""
    content = bytearray(path.read_bytes())
    place = (len(content) - 1) * (trial_number() % SEVERAL) // (SEVERAL - 1)
    content[place] ^= 1 << trial_number() % 8
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    """A text, a list of tensors, or a file of another program's weights."""
    import torch

    kind = trial_number() % 3
    if kind == 0:
        path.write_text("this is no checkpoint\n" * 100)
    else:
        torch.save([torch.ones(2)] if kind == 1 else {"weights": torch.ones(2)}, path)


def _cases() -> Iterator[Case]:
    for policy in ("raise", "warn"):
        body = partial(write_too_much, policy)
        yield Case("files may not grow as long as a checkpoint", f'on_error="{policy}"', body, of_20=10, limit=20.0)
        if may_mount():
            yield Case("the disk is full", f'on_error="{policy}"', partial(fill_the_disk, policy), of_20=10, limit=20.0)
    damages = {"is cut short": cut, "has one bit changed": flip, "is empty": empty, "is not ours": foreign}
    for name, damage in damages.items():
        number = 20 if damage in (cut, flip) else 4
        body = partial(go_on_from_the_one_before, damage)
        yield Case(f"the newest checkpoint {name}", "others are there: exact", body, of_20=number, limit=20.0)
        body = partial(refuse_the_only_one, damage)
        yield Case(f"the newest checkpoint {name}", "there is no other", body, of_20=4, limit=20.0)
    yield Case("the newest checkpoint is of the first format", "it is taken: exact", older_format, of_20=4, limit=20.0)
    body = partial(refuse_the_only_one, newer_format)
    yield Case("the newest checkpoint is of a later format", "there is no other", body, of_20=4, limit=20.0)


CASES = list(_cases())
