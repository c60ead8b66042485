"""Numbers that are not finite, each with every policy of the guard."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isfinite, nan
from typing import Any

from benchmarks.faults.case import Case, WrongError, folder, happens_now, require, trial_number

__all__ = ["CASES"]

KINDS = (
    "cells of a batch",
    "label of a batch",
    "loss",
    "gradient",
    "state",
    "score of a step",
    "score of a validation",
)
POLICIES = ("raise", "skip", "rollback")
BAD_EPOCH = 2


def meet_a_nan(kind: str, policy: str) -> None:
    """A NaN turns up in one step of the second epoch, or in its validation."""
    import torch

    from benchmarks.faults import training_run as runs
    from delira_nca.errors import NonFiniteError
    from delira_nca.losses import mse
    from delira_nca.training.callbacks import AbstractCallback, NaNGuard

    now = {"is_bad": False, "epoch": 0}
    is_validated = kind == "score of a validation"

    class First(AbstractCallback):
        """Knows where the NaN belongs, and puts it into the states."""

        def at_iter_begin(self, trainer: Any, *, train: bool, curr_epoch: int, iter_num: int, **event: Any) -> None:
            now["epoch"] = curr_epoch
            is_there = train != is_validated and (is_validated or iter_num == trial_number() % runs.ITERATIONS)
            now["is_bad"] = curr_epoch == BAD_EPOCH and is_there
            if now["is_bad"]:
                happens_now()

        def at_iter_end(self, trainer: Any, *, prediction: Any, **event: Any) -> None:
            if kind == "state" and now["is_bad"]:
                prediction.output_image[-1, 5, 0, 0] = nan

    class Last(AbstractCallback):
        """Puts a NaN into what the network gets, after the pool's states have gone in."""

        def at_iter_begin(self, trainer: Any, *, data_dict: Any, **event: Any) -> Any:
            name = {"cells of a batch": "data", "label of a batch": "label"}.get(kind)
            if name is None or not now["is_bad"]:
                return None
            values = torch.as_tensor(data_dict[name]).clone()
            values[-1, 0] = nan
            return {"data_dict": {**data_dict, name: values}}

        def at_training_begin(self, trainer: Any, **event: Any) -> None:
            weight = trainer.network.rule.last.weight
            if kind == "gradient":
                weight.register_hook(lambda gradient: gradient * nan if now["is_bad"] else gradient)

    def criterion(pred: Any, label: Any) -> Any:
        return mse(pred, label) * (nan if kind == "loss" and now["is_bad"] else 1.0)

    def score(pred: Any, label: Any) -> Any:
        if kind.startswith("score") and now["is_bad"]:
            return torch.tensor(nan)
        return torch.tensor(0.1 if now["epoch"] == BAD_EPOCH else float(now["epoch"]))

    path, guard = folder("run"), NaNGuard(policy, every=2)
    key = "score" if kind.startswith("score") else "mse"
    run: Any = None

    class Here(AbstractCallback):
        def at_training_begin(self, trainer: Any, **event: Any) -> None:
            nonlocal run
            run = trainer

    options = {"callbacks": [Here(), First(), guard], "late": [Last()], "last": 0, "is_validated": is_validated}
    functions = {"criterions": {"mse": criterion}, "metrics": {"score": score}, "score": key}
    try:
        runs.train(path, **options, **functions)
    except NonFiniteError as error:
        require(policy == "raise", f"raised {error!r}")
        require(f"epoch {BAD_EPOCH}" in str(error), f"the error does not say where: {error}")
        require(len(run.history) == BAD_EPOCH - 1, f"{len(run.history)} epochs are done")
    else:
        if policy == "raise":
            raise WrongError("nothing was raised")
        require(len(run.history) == runs.NUM_EPOCHS, f"{len(run.history)} epochs are done")
        is_metric = kind.startswith("score")
        require((guard.num_events > 0) != is_metric, f"{guard.num_events} events")
        expected = int(policy == "rollback" and not is_metric)
        require(guard.num_rollbacks == expected, f"{guard.num_rollbacks} rollbacks")
        if kind in ("label of a batch", "loss") or is_metric:
            name = "val_score" if is_validated else key
            require(not isfinite(run.history[BAD_EPOCH - 1][name]), f"the {name} of the epoch is finite")
            require(run.best.epoch != BAD_EPOCH, "the best epoch is one with a NaN")
    require(run.best.score is not None and isfinite(run.best.score), f"the best score is {run.best.score}")
    pool = next(c for c in run.callbacks if type(c).__name__ == "PoolUpdate").pool
    tensors = {**run.network.state_dict(), "pool": pool.states, **_moments(run)}
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    require(not bad, f"not finite: {bad}")
    runs.require_clean(path)


def _moments(trainer: Any) -> dict[str, Any]:
    return {
        f"{name} of weight {number}": tensor
        for optimizer in trainer.optimizers.values()
        for number, moments in enumerate(optimizer.state.values())
        for name, tensor in moments.items()
    }


def _cases() -> Iterator[Case]:
    for kind in KINDS:
        for policy in POLICIES:
            yield Case(
                f"NaN in the {kind}", f'NaNGuard("{policy}")', partial(meet_a_nan, kind, policy), of_20=3, limit=20.0
            )


CASES = list(_cases())
