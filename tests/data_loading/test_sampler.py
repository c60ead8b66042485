import numpy as np
import pytest

from delira_nca.data_loading import AbstractSampler, RandomSampler, SequentialSampler
from delira_nca.errors import ConfigError
from delira_nca.seeding import generator


def test_sequential_sampler_yields_the_given_indices():
    assert list(SequentialSampler([5, 6, 7])) == [5, 6, 7]
    assert list(SequentialSampler(np.array([9, 3, 9]))) == [9, 3, 9]


def test_random_sampler_draws_every_given_index_once():
    drawn = list(RandomSampler(range(100, 150), generator=generator(1)))
    assert sorted(drawn) == list(range(100, 150))
    assert drawn != list(range(100, 150))
    assert all(type(index) is int for index in drawn)


def test_random_order_is_decided_by_the_generator():
    first, again, other = (list(RandomSampler(range(50), generator=generator(seed))) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_each_iteration_draws_anew():
    sampler = RandomSampler(range(50))
    assert list(sampler) != list(sampler)


def test_num_samples_without_replacement_are_distinct():
    sampler = RandomSampler(range(10, 20), num_samples=4)
    drawn = list(sampler)
    assert len(sampler) == len(drawn) == len(set(drawn)) == 4
    assert set(drawn) <= set(range(10, 20))


def test_with_replacement_more_can_be_drawn_than_there_are():
    sampler = RandomSampler([3, 8], replacement=True, num_samples=1000)
    drawn = list(sampler)
    assert len(sampler) == len(drawn) == 1000
    assert set(drawn) == {3, 8}
    assert 400 < drawn.count(3) < 600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 4}, "num_samples=4 is more than the 3 indices"),
        ({"num_samples": 0}, "at least 1, not 0"),
        ({"num_samples": 2.5}, "not 2.5"),
    ],
)
def test_wrong_number_of_samples_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RandomSampler([1, 2, 3], **arguments)


@pytest.mark.parametrize("indices", [[], [[1, 2]], [0.5], [True]])
def test_only_lists_of_integers_are_drawn_from(indices):
    with pytest.raises(ConfigError, match="list of integers"):
        SequentialSampler(indices)


def test_base_class_cannot_be_used():
    with pytest.raises(TypeError, match="abstract"):
        AbstractSampler([1])


def test_global_generators_stay_untouched():
    np.random.seed(3)
    expected = np.random.get_state()[1].copy()
    list(RandomSampler(range(9)))
    assert np.array_equal(np.random.get_state()[1], expected)
