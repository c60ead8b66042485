"""The state of a run in memory."""

import pytest
import torch

from delira_nca.models import make_seed
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import (
    AbstractCallback,
    Checkpoint,
    EarlyStopping,
    LRSchedulerCallback,
    NaNGuard,
    PoolUpdate,
    TimeLimit,
    WeightAverage,
)
from delira_nca.training.callbacks.nan_guard import restore_snapshot, scale_learning_rates, take_snapshot


class Counter(AbstractCallback):
    """Counts iterations, and has nothing to say before the first."""

    def __init__(self):
        self.count = 0

    def at_iter_end(self, trainer):
        self.count += 1

    def state_dict(self):
        return {"count": self.count} if self.count else {}

    def load_state_dict(self, state):
        self.count = state["count"]


class Lasting(Counter):
    """Counts whatever comes back."""

    rolls_back = False


@pytest.fixture
def trainer(make_trainer, tmp_path):
    """Trainer with one callback of every kind, that has trained for an epoch when asked."""
    callbacks = [
        NaNGuard("rollback", every=2),
        PoolUpdate(SamplePool(make_seed(8, (6, 6)), 6)),
        WeightAverage(0.8),
        WeightAverage(None),
        EarlyStopping("loss", patience=9),
        LRSchedulerCallback(torch.optim.lr_scheduler.ExponentialLR, {"gamma": 0.5}),
        Checkpoint(tmp_path),
        TimeLimit("1h", clock=lambda: 0.0),
        Counter(),
        Lasting(),
    ]
    return make_trainer(callbacks=callbacks)


def test_what_was_learned_comes_back_and_what_has_happened_stays(trainer, batches, assert_same):
    trainer.train(1, batches(4, 4))
    snapshot = take_snapshot(trainer)
    kept = trainer.state_dict()
    learned, first = {k: v.clone() for k, v in kept["network"].items()}, take_snapshot(trainer)
    assert sorted(snapshot["callbacks"]) == ["Counter", "PoolUpdate", "WeightAverage", "WeightAverage#2"]
    trainer.train(2, batches(4, 4))
    happened = trainer.state_dict()
    assert not torch.equal(happened["network"]["rule.last.weight"], learned["rule.last.weight"])
    restore_snapshot(trainer, snapshot)
    assert_same(snapshot, first)  # training after it has not changed it
    after = trainer.state_dict()
    assert_same(after["network"], learned)
    assert_same(after["optimizers"]["default"]["state"], first["optimizers"]["default"])
    for key in ("WeightAverage", "WeightAverage#2", "Counter"):
        assert_same(after["callbacks"][key], first["callbacks"][key])
    for key in ("states", "losses", "slots"):
        assert_same(after["callbacks"]["PoolUpdate"][key], first["callbacks"]["PoolUpdate"][key])
    for key in ("num_draws", "num_dead", "num_exploded"):
        assert after["callbacks"]["PoolUpdate"][key] == happened["callbacks"]["PoolUpdate"][key]
    for key in ("EarlyStopping", "LRSchedulerCallback", "Checkpoint", "TimeLimit", "Lasting"):
        assert_same(after["callbacks"][key], happened["callbacks"][key])
    for key in ("history", "epoch", "global_iter_num", "best"):
        assert_same(after[key], happened[key])
    assert trainer.optimizers["default"].param_groups[0]["lr"] == pytest.approx(2.5e-3)
    trainer.train(3, batches(4, 4))
    assert_same(snapshot, first)


def test_a_snapshot_from_before_the_first_step_empties_the_moments(trainer, batches):
    snapshot = take_snapshot(trainer)
    trainer.train(1, batches(4, 4))
    assert trainer.optimizers["default"].state_dict()["state"]
    restore_snapshot(trainer, snapshot)
    assert trainer.optimizers["default"].state_dict()["state"] == {}
    counter = next(callback for callback in trainer.callbacks if type(callback) is Counter)
    assert counter.count == 2  # it had no state then, and keeps its own


def test_learning_rates_of_every_group_are_scaled(make_trainer):
    def groups(network, cls, **params):
        parts = [network.rule.hidden.parameters(), network.rule.last.parameters()]
        return cls([{"params": part, "lr": lr} for part, lr in zip(parts, (1e-2, 1e-3), strict=True)])

    trainer = make_trainer(optim_fn=groups)
    scale_learning_rates(trainer, 0.1)
    assert [group["lr"] for group in trainer.optimizers["default"].param_groups] == pytest.approx([1e-3, 1e-4])
