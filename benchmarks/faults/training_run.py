"""The run that faults happen to: a small automaton that learns to grow, with everything on that has a state."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.faults.case import WrongError
from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.io import load_checkpoint
from delira_nca.logging import JSONLSink
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.models.rule import MLPRule
from delira_nca.rollout import set_backend
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import (
    Checkpoint,
    EarlyStopping,
    GradientNormalization,
    LambdaCallback,
    MetricLogger,
    PoolUpdate,
    WeightAverage,
)

__all__ = [
    "ITERATIONS",
    "NUM_EPOCHS",
    "contents",
    "forked",
    "managers",
    "messages",
    "require_clean",
    "require_same",
    "stop_after",
    "train",
    "trainer",
]

NUM_EPOCHS, ITERATIONS, BATCH_SIZE = 3, 3, 2
SIDE = 8
Transform = Callable[[dict[str, Any]], dict[str, Any]]


def trainer(folder: Path, *, callbacks: Any = (), late: Any = (), **changes: Any) -> PyTorchNetworkTrainer:
    """Trainer with a pool, an average, a schedule, early stopping, a log and checkpoints.

    Parameters
    ----------
    folder : of the run.
    callbacks, late : registered before and after all others.
    **changes : of the Checkpoint callback, or of the trainer.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = presets.growing(num_hidden_channels=4, rule=MLPRule(8), training_timesteps=(3, 6), inference_timesteps=4)
    network = BasicNCAModel(**model)
    torch.nn.init.normal_(network.rule.last.weight, std=0.05)
    pool = SamplePool(make_seed(8, (SIDE, SIDE)), 7, slots={"label": _labels(7)}, rng_seed=5)
    known = ("every_iterations", "last", "on_error")
    checkpoint = Checkpoint(**{name: changes.pop(name) for name in known if name in changes})
    arguments = {
        "criterions": {"mse": mse},
        "optimizer_params": {"lr": 1e-2},
        "lr_scheduler_cls": torch.optim.lr_scheduler.StepLR,
        "lr_scheduler_params": {"step_size": 1, "gamma": 0.7},
        "seed": 3,
        "callbacks": [
            *callbacks,
            GradientNormalization(),
            PoolUpdate(pool, num_damaged=1, damage="rectangle"),
            WeightAverage(0.8),
            EarlyStopping("mse", patience=50, check_finite=False),
            MetricLogger(JSONLSink(folder / "metrics.jsonl"), every=1),
            checkpoint,
            *late,
        ],
    }
    return PyTorchNetworkTrainer(network, folder, **{**arguments, **changes})


def _labels(number: int) -> torch.Tensor:
    return torch.rand(number, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@contextmanager
def managers(workers: int = 0, transform: Transform | None = None, timeout: float = 60.0) -> Iterator[Any]:
    """Shuffled training data of three batches, and validation data of one."""
    num = ITERATIONS * BATCH_SIZE
    seed = make_seed(8, (SIDE, SIDE))[None].numpy()
    data = {"data": np.repeat(seed, num, 0), "label": _labels(num).numpy()}
    options = {"sampler_cls": RandomSampler, "transforms": transform, "timeout": timeout}
    with DataManager(data, BATCH_SIZE, workers, seed=11, **options) as first, DataManager(data, num, seed=11) as second:
        yield first, second


def train(
    folder: Path,
    num_epochs: int = NUM_EPOCHS,
    *,
    workers: int = 0,
    transform: Transform | None = None,
    timeout: float = 60.0,
    backend: str = "auto",
    resume: str | Path = "never",
    on_interrupt: str = "raise",
    score: str = "mse",
    is_validated: bool = True,
    **changes: Any,
) -> PyTorchNetworkTrainer:
    """Train until an epoch is done, and write the state at the end to ``state.pt``."""
    set_backend(backend)
    run = trainer(folder, **changes)
    with managers(workers, transform, timeout) as (first, second):
        valid = second if is_validated else None
        run.train(num_epochs, first, valid, score, "lowest", resume=resume, on_interrupt=on_interrupt)
    run.save_state(folder / "state.pt")
    return run


def stop_after(number: int) -> LambdaCallback:
    """Callback that ends the training when so many iterations of the run are done."""

    def stop(trainer: Any, global_iter_num: int) -> None:
        if global_iter_num + 1 == number:
            trainer.stop("enough", now=True)

    return LambdaCallback(at_iter_done=stop)


def forked(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Number of a new process that calls a function; it ends with status 1 if that raises."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function(*args, **kwargs)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid


# What is looked at afterwards -----------------------------------------------------------------------------------------


def require_same(folder: Path, expected: Path) -> None:
    """Refuse two runs that have not ended with the same state and the same log; who they are may differ."""
    found = list(_differences(load_checkpoint(expected / "state.pt"), load_checkpoint(folder / "state.pt"), "state"))
    if (expected / "metrics.jsonl").read_text() != (folder / "metrics.jsonl").read_text():
        found.append("metrics.jsonl")
    if found:
        raise WrongError(f"{len(found)} entries are not as in the straight run: {', '.join(found[:5])}")


def _differences(ours: Any, theirs: Any, where: str) -> Iterator[str]:
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
            yield where
    elif isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        if ours.dtype != theirs.dtype or not np.array_equal(ours, theirs):
            yield where
    elif isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted((ours.keys() | theirs.keys()) - {"run_id"}, key=str):
            yield from _differences(ours.get(key, "nothing"), theirs.get(key, "nothing"), f"{where}[{key!r}]")
    elif isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)) and len(ours) == len(theirs):
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(a, b, f"{where}[{number}]")
    elif type(ours) is not type(theirs) or not (ours == theirs or (ours != ours and theirs != theirs)):
        yield f"{where} ({ours!r}, {theirs!r})"


def require_clean(folder: Path) -> None:
    """Refuse a folder with temporary files, or with checkpoints that cannot be read."""
    stray = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    if stray:
        raise WrongError(f"files left: {sorted(stray)}")
    for path in folder.glob("checkpoint*.safetensors"):
        load_checkpoint(path)


def contents(folder: Path) -> dict[str, bytes]:
    """Of every checkpoint in a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("checkpoint*.safetensors"))}


@contextmanager
def messages() -> Iterator[list[str]]:
    """What the package says meanwhile."""
    said: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("delira_nca")
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    former = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(former)


def main(folder: str, *options: str) -> None:
    """Train in a folder, as a program: ``python -m benchmarks.faults.training_run folder name=value ...``."""
    given = dict(option.split("=", 1) for option in options)
    callbacks = [stop_after(int(given.pop("stop")))] if "stop" in given else []
    workers = int(given.pop("workers", "0"))
    train(Path(folder), workers=workers, callbacks=callbacks, **given)


if __name__ == "__main__":
    main(*sys.argv[1:])
