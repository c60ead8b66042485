"""Repeated samples: beside one another, in training only, ahead of a pool."""

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.models import make_seed
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import AbstractCallback, BatchRepeat, PoolUpdate


class Sizes(AbstractCallback):
    def __init__(self):
        self.seen = []

    def at_iter_end(self, trainer, train, data_dict, prediction):
        self.seen.append((train, len(data_dict["data"]), len(prediction.output_image)))
        self.last = data_dict, prediction


def test_training_batches_are_repeated_and_those_of_validation_are_not(make_trainer, batches):
    sizes = Sizes()
    make_trainer(callbacks=[BatchRepeat(3), sizes]).train(1, batches(2), batches(4))
    assert sizes.seen == [(True, 6, 6), (False, 4, 4)]


def test_copies_lie_side_by_side_and_have_other_fire_masks(make_trainer, batches):
    sizes = Sizes()
    make_trainer(callbacks=[BatchRepeat(2), sizes]).train(1, batches(3))
    data_dict, prediction = sizes.last
    for entry in data_dict.values():
        assert torch.equal(entry[0::2], entry[1::2])
    assert not torch.equal(prediction.output_image[0::2], prediction.output_image[1::2])


def test_what_has_no_value_for_each_sample_stays():
    batch = {"data": torch.arange(2), "scale": np.float32(2), "shape": (1, 2, 3), "name": ("a", "b")}
    repeated = BatchRepeat(2).at_iter_begin(None, train=True, data_dict=batch)["data_dict"]
    assert repeated["data"].tolist() == [0, 0, 1, 1]
    assert (repeated["scale"], repeated["shape"], repeated["name"]) == (2, (1, 2, 3), ("a", "a", "b", "b"))


def test_a_pool_behind_it_draws_so_many_states_and_one_ahead_is_refused(make_trainer, batches):
    pools = [SamplePool(make_seed(8, (6, 6)), 16) for _ in range(2)]
    make_trainer(callbacks=[BatchRepeat(4), PoolUpdate(pools[0])]).train(1, batches(3))
    assert int(pools[0].losses.isfinite().sum()) == 12
    with pytest.raises(ConfigError, match="BatchRepeat is registered before the pool"):
        make_trainer(callbacks=[PoolUpdate(pools[1]), BatchRepeat(4)]).train(1, batches(3))


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_numbers_of_copies_below_one_are_refused(n):
    with pytest.raises(ConfigError, match="n must be a whole number of at least 1"):
        BatchRepeat(n)
