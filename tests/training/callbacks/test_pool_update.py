"""The pool in the loop, and fresh and mutated samples of self-classifying automata."""

import types

import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import make_seed
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import LambdaCallback, PoolMutation, PoolUpdate
from delira_nca.training.callbacks.pool_update import image_error, no_error


@pytest.fixture
def pool():
    """Pool of 6 states that say where they are from: slot n holds n + 2 everywhere, and a loss of n."""
    pool = SamplePool(torch.ones(8, 6, 6), 6)
    states = torch.arange(2.0, 8.0).view(6, 1, 1, 1).expand(6, 8, 6, 6)
    pool.commit(torch.arange(6), states, losses=torch.arange(6.0))
    return pool


@pytest.fixture
def watch():
    """Callback that keeps what each iteration was given and gave."""

    class Watch(LambdaCallback):
        def __init__(self):
            self.begun, self.ended = [], []
            super().__init__(
                at_iter_begin=lambda trainer, train, data_dict: self.begun.append((train, data_dict)),
                at_iter_end=lambda trainer, train, data_dict, prediction: self.ended.append(
                    (data_dict, prediction.output_image)
                ),
            )

    return Watch()


def test_the_batch_is_replaced_in_training_only(make_trainer, batches, pool, watch):
    data = batches(3)
    make_trainer(callbacks=[PoolUpdate(pool, num_seeds=0), watch]).train(1, data, data)
    (first, trained), (second, validated) = watch.begun
    assert (first, second) == (True, False)
    assert set(trained["data"][:, 0, 0, 0].tolist()) <= {2.0, 3.0, 4.0, 5.0, 6.0, 7.0}
    assert trained["label"] is data[0]["label"]
    assert validated is data[0]
    assert pool.num_draws == 1


def test_what_became_of_the_states_goes_back_to_where_they_were_drawn(make_trainer, batches, pool, watch):
    before, losses = pool.states.clone(), pool.losses.clone()
    update = PoolUpdate(pool)
    make_trainer(callbacks=[update, watch]).train(1, batches(3), batches(3))
    drawn = sorted(int(value) - 2 for value in watch.begun[0][1]["data"][1:, 0, 0, 0])
    changed = [n for n in range(6) if not torch.equal(pool.states[n], before[n])]
    assert len(changed) == 3
    assert set(drawn) < set(changed)
    data, states = watch.ended[0]
    assert sorted(pool.states[changed].flatten(1).sum(1).tolist()) == sorted(states.flatten(1).sum(1).tolist())
    assert sorted(pool.losses[changed].tolist()) == sorted(image_error(states, data).tolist())
    kept = [n for n in range(6) if n not in changed]
    assert torch.equal(pool.losses[kept], losses[kept])
    assert not pool.states.requires_grad


@pytest.mark.parametrize(("num_seeds", "num_damaged"), [(0, 0), (1, 0), (1, 2), (2, 1)])
def test_as_many_as_asked_for_begin_anew_or_are_damaged(make_trainer, batches, pool, watch, num_seeds, num_damaged):
    update = PoolUpdate(pool, num_seeds=num_seeds, num_damaged=num_damaged, damage="half")
    make_trainer(callbacks=[update, watch]).train(1, batches(4))
    states = watch.begun[0][1]["data"]
    assert [torch.equal(state, pool.seed) for state in states] == [n < num_seeds for n in range(4)]
    assert [bool((state == 0).any()) for state in states] == [n >= 4 - num_damaged for n in range(4)]


def test_slots_replace_the_entries_of_their_name(make_trainer, batches, watch):
    labels = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 4, 6, 6)
    pool = SamplePool(torch.ones(8, 6, 6), 5, slots={"label": labels})
    make_trainer(callbacks=[PoolUpdate(pool), watch]).train(1, batches(3))
    given = watch.begun[0][1]["label"]
    assert len(set(given[:, 0, 0, 0].tolist())) == 3
    data, states = watch.ended[0]
    assert torch.equal(data["label"], given)
    for value, loss in zip(given[:, 0, 0, 0].tolist(), image_error(states, data), strict=True):
        assert pool.losses[int(value)] == loss


def test_another_entry_may_hold_the_states_and_a_score_of_ones_own_ranks_them(make_trainer, batches, pool, watch):
    data = [{"data": batch["data"], "cells": batch["data"], "label": batch["label"]} for batch in batches(3)]
    update = PoolUpdate(pool, key="cells", num_seeds=0, score=lambda states, batch: torch.full((len(states),), 7.0))
    make_trainer(callbacks=[update, watch]).train(1, data)
    assert watch.begun[0][1]["data"] is data[0]["data"]
    assert float(watch.begun[0][1]["cells"].min()) >= 2.0
    assert int((pool.losses == 7).sum()) == 3
    shown = "PoolUpdate(SamplePool(capacity=6, state=(8, 6, 6), slots=[], draws=1), num_seeds=0, num_damaged=0)"
    assert repr(update) == shown


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ({"side": 6, "size": 7}, ConfigError, "batch of 7 cannot be drawn from a pool of 6"),
        ({"side": 5, "size": 2}, ShapeError, r"\(8, 6, 6\), the batch's 'data' \(8, 5, 5\)"),
    ],
)
def test_a_batch_that_does_not_fit_the_pool_is_refused_before_the_step(make_trainer, batches, pool, data, error, text):
    trainer = make_trainer(callbacks=[PoolUpdate(pool)])
    before = trainer.network.rule.last.weight.clone()
    with pytest.raises(error, match=text):
        trainer.train(1, batches(data["size"], side=data["side"]))
    assert torch.equal(trainer.network.rule.last.weight, before)
    assert trainer.global_iter_num == 0


def test_a_broken_iteration_writes_nothing_back(make_trainer, batches, pool):
    before = pool.states.clone()
    trainer = make_trainer(criterions={"mse": lambda pred, label: 1 / 0}, callbacks=[PoolUpdate(pool)])
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        trainer.train(1, batches(3))
    assert torch.equal(pool.states, before)


def test_a_state_that_went_nan_is_the_next_to_begin_anew(make_trainer, batches, pool):
    spoilt = pool.states[2].clone() * float("nan")
    pool.commit(torch.tensor([2]), spoilt[None], losses=image_error(spoilt[None], {"label": torch.zeros(1, 4, 6, 6)}))
    make_trainer(callbacks=[PoolUpdate(pool)]).train(1, batches(6))
    assert torch.isfinite(pool.states).all()


@pytest.fixture
def spoil():
    """Makes networks whose roll-outs end with some states replaced, by their place in the batch."""

    def make(network, **states):
        own = network.forward_batch

        def spoilt(data_dict, train=False, **kwargs):
            prediction, parts = own(data_dict, train=train, **kwargs)
            if train:
                after = prediction.output_image.detach().clone()
                for place, value in states.items():
                    after[int(place[1:])] = value
                prediction.output_image = after
            return prediction, parts

        network.forward_batch = spoilt
        return network

    return make


def _anew(pool):
    return sorted(n for n in range(len(pool)) if torch.equal(pool.states[n], pool.seed) and pool.losses[n] == INF)


NAN, INF = float("nan"), float("inf")
FAINT = torch.full((8, 6, 6), 5.0)
FAINT[3] = 0.1  # a cell lives above this


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_state_that_is_not_finite_never_goes_back(make_trainer, nca, batches, pool, spoil, watch, value):
    one = torch.ones(8, 6, 6)
    one[7, 5, 5] = value
    update = PoolUpdate(pool)
    make_trainer(spoil(nca(), _1=one, _2=value), callbacks=[update, watch]).train(1, batches(4))
    assert (update.num_exploded, update.num_dead) == (2, 0)
    drawn = watch.begun[0][1]["data"][:, 0, 0, 0] - 2
    assert _anew(pool) == sorted(int(n) for n in drawn[1:3])
    assert torch.isfinite(pool.states).all()


@pytest.mark.parametrize(("limit", "exploded"), [(None, 0), (1e4, 0), (99.0, 1), (9.0, 2)])
def test_a_state_above_the_limit_begins_anew(make_trainer, nca, batches, pool, spoil, limit, exploded):
    calm = {f"_{n}": 1.5 for n in (0, 3)}
    update = PoolUpdate(pool, explode_above=limit)
    make_trainer(spoil(nca(), _1=-100.0, _2=10.0, **calm), callbacks=[update]).train(1, batches(4))
    assert update.num_exploded == exploded
    assert update.num_dead == (0 if exploded else 1)  # an alpha of -100 lives nowhere
    assert len(_anew(pool)) == max(exploded, 1)


@pytest.mark.parametrize(("reseed_dead", "dead"), [(True, 2), (False, 0)])
def test_a_state_without_a_living_cell_begins_anew(make_trainer, nca, batches, pool, spoil, reseed_dead, dead):
    alive = FAINT.clone()
    alive[3, 0, 0] = 0.11
    update = PoolUpdate(pool, reseed_dead=reseed_dead)
    make_trainer(spoil(nca(), _1=0.0, _2=FAINT, _3=alive), callbacks=[update]).train(1, batches(4))
    assert (update.num_dead, update.num_exploded) == (dead, 0)
    assert len(_anew(pool)) == dead
    assert bool((pool.states == alive).flatten(1).all(1).any())
    assert bool((pool.states == 0).flatten(1).all(1).any()) == (not reseed_dead)


@pytest.mark.parametrize(("seed", "dead"), [(1.0, 1), (0.0, 0)])
def test_without_an_alive_mask_only_zeros_are_dead_but_none_if_the_seed_is_empty(
    make_trainer, nca, batches, spoil, seed, dead
):
    pool = SamplePool(torch.full((8, 6, 6), seed), 6)
    update = PoolUpdate(pool)
    make_trainer(spoil(nca(alive=None), _1=0.0, _2=FAINT), callbacks=[update]).train(1, batches(4))
    assert update.num_dead == dead
    assert torch.isfinite(pool.losses).sum() == 4 - dead


def test_what_begins_anew_is_told_and_counted_on_after_a_resume(make_trainer, nca, batches, pool, spoil, caplog):
    update = PoolUpdate(pool)
    trainer = make_trainer(spoil(nca(), _1=0.0, _2=NAN, _3=INF), callbacks=[update])
    caplog.set_level("INFO")
    trainer.train(2, batches(4, 4))
    assert [record.message for record in caplog.records if "anew" in record.message] == [
        f"in epoch {epoch}, 2 dead and 4 exploded states of the pool began anew" for epoch in (1, 2)
    ]
    state = update.state_dict()
    assert (state["num_dead"], state["num_exploded"]) == (4, 8)
    resumed = PoolUpdate(SamplePool(torch.ones(8, 6, 6), 6))
    resumed.load_state_dict(state)
    assert (resumed.num_dead, resumed.num_exploded) == (4, 8)
    del state["num_dead"], state["num_exploded"]  # as a release before wrote it
    resumed.load_state_dict(state)
    assert (resumed.num_dead, resumed.num_exploded) == (0, 0)


def test_a_healthy_run_is_the_same_whatever_would_begin_anew(make_trainer, batches, assert_same):
    states = []
    for kwargs in ({}, {"reseed_dead": False}, {"explode_above": 1e3}):
        pool = SamplePool(torch.ones(8, 6, 6), 6)
        update = PoolUpdate(pool, num_damaged=1, damage="half", **kwargs)
        trainer = make_trainer(callbacks=[update])
        trainer.train(3, batches(4, 4, 4))
        assert (update.num_dead, update.num_exploded) == (0, 0)
        states.append(trainer.state_dict())
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])


def test_the_error_of_an_image_is_that_of_its_first_channels():
    states = torch.zeros(2, 5, 3, 3)
    states[1, :2] = 2.0
    states[:, 2:] = 9.0
    assert image_error(states, {"label": torch.ones(2, 2, 3, 3)}).tolist() == [1.0, 1.0]
    assert image_error(states, {"label": torch.zeros(2, 2, 3, 3)}).tolist() == [0.0, 4.0]
    assert no_error(states, {}).tolist() == [0.0, 0.0]


def test_seeds_and_damage_come_every_so_many_iterations():
    seeds, damaged = [], []

    class Watched(SamplePool):
        def sample(self, batch_size, *, num_seeds, num_damaged, **options):
            seeds.append(num_seeds)
            damaged.append(num_damaged)
            return super().sample(batch_size, num_seeds=num_seeds, num_damaged=num_damaged, **options)

    pool = Watched(torch.ones(4, 5, 5), 8)
    update = PoolUpdate(pool, num_seeds=2, num_damaged=1, seed_every=3, damage_every=2)
    for number in range(7):
        batch = {"data": torch.ones(4, 4, 5, 5), "label": torch.ones(4, 4, 5, 5)}
        update.at_iter_begin(None, train=True, data_dict=batch, global_iter_num=number)
    assert seeds == [2, 0, 0, 2, 0, 0, 2]
    assert damaged == [1, 0, 1, 0, 1, 0, 1]


def test_a_pool_that_was_used_before_is_warned_of(make_trainer, batches, caplog):
    pool = SamplePool(torch.ones(8, 6, 6), 6)
    for count in (0, 2):
        caplog.clear()
        make_trainer(callbacks=[PoolUpdate(pool)]).train(1, batches(3, 3))
        assert (f"the pool was drawn from {count} times before this run" in caplog.text) == bool(count)


def test_noise_joins_living_cells_but_no_seed(make_trainer, nca):
    seed = make_seed(8, (6, 6))
    pool = SamplePool(seed, 4)
    grown = torch.zeros(4, 8, 6, 6)
    grown[:, :, 1:3, 1:3] = 1.0
    pool.commit(torch.arange(4), grown, losses=torch.arange(4.0))
    update, trainer = PoolUpdate(pool, noise=0.1), make_trainer(nca())
    batch = {"data": seed.repeat(3, 1, 1, 1), "label": torch.zeros(3, 4, 6, 6)}
    states = update.at_iter_begin(trainer, train=True, data_dict=batch)["data_dict"]["data"]
    assert torch.equal(states[0], seed)
    living = torch.zeros(6, 6, dtype=torch.bool)
    living[:4, :4] = True  # and the neighbours of living cells
    difference = states[1:] - grown[:2]
    assert (difference[:, :, ~living] == 0).all()
    assert 0.08 < float(difference[:, :, living].std()) < 0.12
    pool.num_draws -= 1
    again = update.at_iter_begin(trainer, train=True, data_dict=batch)["data_dict"]["data"]
    assert torch.equal(again, states)


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


def mutation(pool=None, **options):
    return PoolMutation(pool or pool_of(), num_image_channels=1, score=constant, **options)


def test_a_quarter_is_fresh_a_quarter_mutated_and_the_rest_goes_on():
    seen, new = drawn(mutation()), batch_of()["data"][0, 0]
    assert torch.equal(seen["data"][:2, 0], new.expand(2, -1, -1))
    assert seen["data"][:2, 1:].abs().sum() == 0
    assert seen["data"][2:6, 1, 0, 0].tolist() == [6.0, 5.0, 4.0, 3.0]  # worst first
    assert seen["label"].tolist() == [0, 1, 105, 104, 103, 102, 6, 7]
    assert mutation().at_iter_begin(None, train=False, data_dict=batch_of()) is None
    untrained = drawn(mutation(pool_of(trained=False)))
    assert torch.equal(untrained["data"][:, 0], batch_of()["data"][:, 0])
    assert untrained["label"].tolist() == list(range(8))


def test_a_mutated_state_keeps_what_lives_in_both_images_and_nothing_else():
    mutated, expected = drawn(mutation())["data"][6:], torch.zeros(SHAPE)
    assert torch.equal(mutated[:, 0], batch_of()["data"][6:, 0])
    expected[:2, :2] = 1
    assert torch.equal(mutated[0, 1], 2 * expected)
    assert torch.equal(mutated[1, 2], 1 * expected)


def test_states_and_labels_go_back_together():
    pool = pool_of()
    callback = mutation(pool)
    seen = drawn(callback)
    indices = callback._draw.indices
    end(callback, seen, seen["data"] + 1)
    assert torch.equal(pool.states[indices], seen["data"] + 1)
    assert torch.equal(pool.slots["label"][indices], seen["label"])
    assert pool.losses.tolist() == [0.5] * 8


def test_a_state_that_exploded_does_not_go_back():
    pool = pool_of()
    callback = mutation(pool, explode_above=50.0)
    seen = drawn(callback)
    seen["data"][3] = 99.0
    slot = int(callback._draw.indices[3])
    end(callback, seen, seen["data"])
    assert pool.losses[slot] == torch.inf
    assert callback.num_exploded == 1


@pytest.mark.parametrize(
    ("batch", "error", "text"),
    [
        ({"data": torch.zeros(8, 1, 5, 5), "label": torch.zeros(8)}, ShapeError, "the pool holds images"),
        ({"data": torch.zeros(8, 1, *SHAPE)}, ConfigError, "a slot 'label', the batch only"),
        ({"data": torch.zeros(8, 1, *SHAPE), "label": torch.zeros(8, 2)}, ShapeError, "'label' of the batch"),
    ],
)
def test_batches_that_do_not_fit_are_refused(batch, error, text):
    with pytest.raises(error, match=text):
        drawn(mutation(), batch)
