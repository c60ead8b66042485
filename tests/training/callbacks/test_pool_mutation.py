"""Fresh and mutated samples of self-classifying automata: which states, which images, which labels."""

import types

import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import PoolMutation

SHAPE = (4, 4)


def pool_of(capacity=8, trained=True):
    pool = SamplePool(torch.zeros(3, *SHAPE), capacity, slots={"label": torch.zeros(capacity, dtype=torch.long)})
    if trained:
        states = torch.ones(capacity, 3, *SHAPE) * torch.arange(1.0, capacity + 1)[:, None, None, None]
        states[:, 0] = 0
        states[:, 0, :, :2] = 1  # the old image: its left half
        pool.commit(torch.arange(capacity), states, losses=torch.arange(capacity) / 10.0, slots=None)
        pool.slots["label"] = torch.arange(100, 100 + capacity)
    return pool


def batch_of(size=8):
    images = torch.zeros(size, 1, *SHAPE)
    images[:, :, :2] = 1  # the new image: its upper half
    return {"data": images, "label": torch.arange(size)}


def drawn(callback, batch=None):
    return callback.at_iter_begin(None, train=True, data_dict=batch or batch_of())["data_dict"]


def end(callback, data_dict, states):
    prediction = types.SimpleNamespace(output_image=states)
    callback.at_iter_end(types.SimpleNamespace(network=None), train=True, data_dict=data_dict, prediction=prediction)


def constant(states, batch):
    return torch.full((len(states),), 0.5)


def test_a_quarter_is_fresh_a_quarter_mutated_and_the_rest_goes_on():
    callback = PoolMutation(pool_of(), num_image_channels=1, score=constant)
    seen = drawn(callback)
    new = batch_of()["data"][0, 0]
    assert torch.equal(seen["data"][:2, 0], new.expand(2, -1, -1))
    assert seen["data"][:2, 1:].abs().sum() == 0
    assert seen["data"][2:6, 1, 0, 0].tolist() == [6.0, 5.0, 4.0, 3.0]  # worst first
    assert seen["label"].tolist() == [0, 1, 105, 104, 103, 102, 6, 7]


def test_a_mutated_state_keeps_what_lives_in_both_images_and_nothing_else():
    callback = PoolMutation(pool_of(), num_image_channels=1, score=constant)
    mutated = drawn(callback)["data"][6:]
    assert torch.equal(mutated[:, 0], batch_of()["data"][6:, 0])
    expected = torch.zeros(SHAPE)
    expected[:2, :2] = 1
    assert torch.equal(mutated[0, 1], 2 * expected)
    assert torch.equal(mutated[1, 2], 1 * expected)


def test_states_and_labels_go_back_together():
    pool = pool_of()
    callback = PoolMutation(pool, num_image_channels=1, score=constant)
    seen = drawn(callback)
    indices = callback._draw.indices
    end(callback, seen, seen["data"] + 1)
    assert torch.equal(pool.states[indices], seen["data"] + 1)
    assert torch.equal(pool.slots["label"][indices], seen["label"])
    assert pool.losses.tolist() == [0.5] * 8


def test_a_state_that_never_trained_begins_with_an_image_of_the_batch():
    seen = drawn(PoolMutation(pool_of(trained=False), num_image_channels=1, score=constant))
    assert torch.equal(seen["data"][:, 0], batch_of()["data"][:, 0])
    assert seen["label"].tolist() == list(range(8))


def test_a_state_that_exploded_does_not_go_back():
    pool = pool_of()
    callback = PoolMutation(pool, num_image_channels=1, score=constant, explode_above=50.0)
    seen = drawn(callback)
    seen["data"][3] = 99.0
    slot = int(callback._draw.indices[3])
    callback.at_iter_end(
        types.SimpleNamespace(network=None),
        train=True,
        data_dict=seen,
        prediction=types.SimpleNamespace(output_image=seen["data"]),
    )
    assert pool.losses[slot] == torch.inf
    assert callback.num_exploded == 1


def test_validation_is_left_alone():
    callback = PoolMutation(pool_of(), num_image_channels=1)
    assert callback.at_iter_begin(None, train=False, data_dict=batch_of()) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fresh": 0.7, "mutated": 0.7}, "together at most 1"),
        ({"fresh": -0.1}, "parts of a batch"),
        ({"num_image_channels": 3}, "num_image_channels must be a whole number from 1 to 2, not 3"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        PoolMutation(pool_of(), **{"num_image_channels": 1, **options})


def test_pools_and_batches_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="the pool has no slots"):
        PoolMutation(SamplePool(torch.zeros(3, *SHAPE), 4), num_image_channels=1)
    callback = PoolMutation(pool_of(), num_image_channels=1)
    with pytest.raises(ShapeError, match="the pool holds images"):
        drawn(callback, {"data": torch.zeros(8, 1, 5, 5), "label": torch.zeros(8)})
    with pytest.raises(ConfigError, match="a slot 'label', the batch only"):
        drawn(callback, {"data": torch.zeros(8, 1, *SHAPE)})
    with pytest.raises(ShapeError, match="'label' of the batch"):
        drawn(callback, {"data": torch.zeros(8, 1, *SHAPE), "label": torch.zeros(8, 2)})
