"""How often an iteration of training waits for the device, counted on the CPU by the operations that would wait."""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from delira_nca.models import make_seed
from delira_nca.rollout import using_backend
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import AbstractCallback, GradientNormalization, NaNGuard, PoolUpdate

WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"}
ON_THE_CPU = ("training/set_values.py", "models/precision.py")
"""Values that stay on a GPU until the epoch ends, and the optimizer, whose number of steps is on the CPU."""


class Count(TorchDispatchMode):
    """Places that wait for a value, by the innermost module of the package."""

    def __init__(self):
        super().__init__()
        self.places = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in WAITING:
            frames = [f"{f.filename}:{f.lineno}" for f in traceback.extract_stack() if "/delira_nca/" in f.filename]
            place = frames[-1].rpartition("/delira_nca/")[2]
            if not place.startswith((*ON_THE_CPU, "rollout/")):
                self.places.append(place)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_pool_and_guard_wait_once_in_an_iteration(make_trainer, batches, policy):
    counts = []

    class CountEach(AbstractCallback):
        def at_iter_begin(self, trainer, train):
            if train:
                counts.append(Count())
                counts[-1].__enter__()

        def at_iter_done(self, trainer):
            counts[-1].__exit__(None, None, None)

    pool = PoolUpdate(SamplePool(make_seed(8, (6, 6)), 6), num_damaged=1, explode_above=5.0)
    trainer = make_trainer(callbacks=[CountEach(), NaNGuard(policy), pool, GradientNormalization()])
    with using_backend("reference"):
        trainer.train(1, batches(3, 3, 3, 3))
    assert len(counts) == 4
    for count in counts[1:]:  # the first iteration also checks losses and the seed
        assert len(count.places) == 1, count.places
        assert count.places[0].startswith("training/callbacks/nan_guard.py")


def test_a_pool_moves_to_the_device_of_the_training_as_a_whole():
    pool = SamplePool(torch.ones(4, 5, 5), 6, slots={"label": torch.arange(6)})
    before = pool.sample(3, num_damaged=1)
    moved = SamplePool(torch.ones(4, 5, 5), 6, slots={"label": torch.arange(6)}).to("meta")
    assert {t.device.type for t in (moved.seed, moved.losses, moved.states, moved.slots["label"])} == {"meta"}
    assert pool.to("cpu") is pool
    assert before.states.shape == (3, 4, 5, 5)
