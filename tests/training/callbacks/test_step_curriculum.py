"""Roll-outs that get longer: which range in which epoch."""

import itertools
import types

import pytest

from delira_nca.errors import ConfigError
from delira_nca.training.callbacks import StepCurriculum


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


@pytest.mark.parametrize(
    ("first", "last", "options"),
    [
        ((8, 4), (10, 12), {"epochs": 4}),
        ((4, 8), (12, 12), {"epochs": 4}),
        ((4, 8), (2, 12), {"epochs": 4}),
        ((4, 8), (8, 12), {"epochs": 1}),
        ((4, 8), (8, 12), {"epochs": 4, "hold": 4}),
    ],
)
def test_ranges_and_epochs_out_of_order_are_refused(first, last, options):
    with pytest.raises(ConfigError):
        StepCurriculum(first, last, **options)
