"""Numbers of steps, and batches that are repeated."""

import itertools
import types

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from delira_nca.errors import ConfigError
from delira_nca.models import make_seed
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import AbstractCallback, BatchRepeat, PoolUpdate, StepCurriculum, StepSampler


def test_draws_are_uniform_from_low_to_high_minus_one():
    sampler = StepSampler(64, 96)
    drawn = [sampler.draw() for _ in range(10_000)]
    assert (min(drawn), max(drawn)) == (64, 95)
    assert chisquare(np.bincount(drawn)[64:]).pvalue > 1e-3


def test_a_seed_gives_a_sequence_and_a_state_continues_it():
    def draws(sampler, count):
        return [sampler.draw() for _ in range(count)]

    whole = draws(StepSampler(1, 1000, rng_seed=5), 8)
    first, second = StepSampler(1, 1000, rng_seed=5), StepSampler(1, 1000, rng_seed=5)
    begun = draws(first, 3)
    second.load_state_dict(first.state_dict())
    assert begun + draws(second, 5) == whole
    assert draws(StepSampler(1, 1000, rng_seed=6), 8) != whole


def test_the_network_trains_on_what_was_drawn_and_keeps_its_own(make_trainer, batches):
    seen = []
    trainer = make_trainer(callbacks=[StepSampler(2, 9)])
    forward = trainer.network.forward
    trainer.network.forward = lambda x, steps, **options: (seen.append(steps), forward(x, steps, **options))[1]
    trainer.train(2, batches(2, 2))
    expected = StepSampler(2, 9)
    assert seen == [expected.draw() for _ in range(4)]
    assert trainer.network.training_timesteps == (2, 5)


def test_two_who_say_how_many_steps_and_a_network_without_steps_are_refused(
    make_trainer, batches, linear_trainer, linear_network, linear_batches
):
    with pytest.raises(ConfigError, match="StepSampler and StepCurriculum both say"):
        make_trainer(callbacks=[StepSampler(2, 3), StepCurriculum((1, 2), (3, 5), epochs=3)]).train(1, batches(2))
    with pytest.raises(ConfigError, match="LinearNetwork has no training_timesteps"):
        linear_trainer(linear_network(), callbacks=[StepSampler(1, 2)]).train(1, linear_batches())


def test_range_stays_then_grows_then_stays():
    curriculum = StepCurriculum((10, 12), (20, 32), hold=2, epochs=7)
    ranges = [curriculum.steps(epoch) for epoch in range(1, 10)]
    assert ranges[:2] == [(10, 12)] * 2
    assert ranges[2] == (12, 16)
    assert ranges[6:] == [(20, 32)] * 3
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(ranges))


def test_network_gets_the_range_of_the_epoch():
    network = types.SimpleNamespace(training_timesteps=(1, 2))
    StepCurriculum((4, 8), (8, 16), epochs=3).at_epoch_begin(types.SimpleNamespace(network=network), curr_epoch=2)
    assert network.training_timesteps == (6, 12)


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
