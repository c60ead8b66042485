"""Numbers of steps: uniform, the same for the same seed, and restorable."""

import numpy as np
import pytest
from scipy.stats import chisquare

from delira_nca.errors import ConfigError
from delira_nca.training.callbacks import StepCurriculum, StepSampler


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


def test_two_who_say_how_many_steps_are_refused(make_trainer, batches):
    with pytest.raises(ConfigError, match="StepSampler and StepCurriculum both say"):
        make_trainer(callbacks=[StepSampler(2, 3), StepCurriculum((1, 2), (3, 5), epochs=3)]).train(1, batches(2))


def test_a_network_without_steps_is_refused(linear_trainer, linear_network, linear_batches):
    with pytest.raises(ConfigError, match="LinearNetwork has no training_timesteps"):
        linear_trainer(linear_network(), callbacks=[StepSampler(1, 2)]).train(1, linear_batches())


@pytest.mark.parametrize(("low", "high"), [(4, 4), (5, 4), (-1, 3), (1.0, 3), (True, 3)])
def test_ranges_that_are_none_are_refused(low, high):
    with pytest.raises(ConfigError, match="(low|high) must be a whole number of at least"):
        StepSampler(low, high)
