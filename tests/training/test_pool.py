"""The sample pool: draws, holes, and states packed without their empty cells."""

import numpy as np
import pytest
import torch

from delira_nca.errors import CheckpointError, ConfigError, ShapeError, UnknownNameError
from delira_nca.training import SamplePool
from delira_nca.training.pool import DAMAGES, apply_damage, disc, half, pack_states, rectangle, unpack_states

LOSSES = torch.tensor([0.5, 0.1, 0.9, 0.3, 0.2, 0.8, 0.4, 0.7])


@pytest.fixture
def seed():
    return torch.full((3, 6, 6), 2.0)


@pytest.fixture
def pool(seed):
    """Pool of 8 in which slot n holds n + 10 everywhere, so that each state says where it is from."""
    pool = SamplePool(seed, 8)
    states = torch.arange(10.0, 18.0).view(8, 1, 1, 1).expand(8, 3, 6, 6)
    pool.commit(torch.arange(8), states, losses=LOSSES)
    return pool


def test_a_fresh_pool_holds_the_seed_and_no_losses(seed):
    pool = SamplePool(seed, 5)
    assert pool.states.shape == (5, 3, 6, 6)
    assert all(torch.equal(state, seed) for state in pool.states)
    assert torch.isinf(pool.losses).all()
    assert len(pool) == 5
    assert repr(pool) == "SamplePool(capacity=5, state=(3, 6, 6), slots=[], draws=0)"
    assert torch.equal(pool.sample(1).states, seed[None])


def test_the_pool_replaces_the_worst_sample_by_the_seed(pool, seed):
    drawn = pool.sample(batch_size=4, losses=LOSSES.flip(0))
    assert torch.equal(drawn.states[drawn.losses.argmax()], seed)
    assert len(set(drawn.indices.tolist())) == 4


def test_all_are_drawn_once_worst_first(pool, seed):
    draw = pool.sample(8)
    assert draw.indices.tolist() == LOSSES.argsort(descending=True).tolist()
    assert draw.losses.tolist() == LOSSES.sort(descending=True).values.tolist()
    assert torch.equal(draw.states[0], seed)
    assert draw.states[1:, 0, 0, 0].tolist() == [index + 10 for index in draw.indices[1:].tolist()]


def test_a_draw_is_without_replacement_and_reaches_every_slot(pool):
    drawn = [pool.sample(5).indices.tolist() for _ in range(40)]
    assert all(len(set(indices)) == 5 for indices in drawn)
    assert {index for indices in drawn for index in indices} == set(range(8))
    assert drawn[0] != drawn[1]


def test_a_draw_is_a_copy(pool):
    before = pool.states.clone()
    pool.sample(8, num_damaged=3).states.zero_()
    assert torch.equal(pool.states, before)


@pytest.mark.parametrize(("num_seeds", "replaced"), [(0, 0), (1, 1), (3, 3), (8, 8)])
def test_as_many_of_the_worst_as_asked_for_begin_anew(pool, seed, num_seeds, replaced):
    states = pool.sample(8, num_seeds=num_seeds).states
    assert [torch.equal(state, seed) for state in states] == [True] * replaced + [False] * (8 - replaced)


@pytest.mark.parametrize("damage", ["disc", "half", "rectangle"])
def test_only_the_lowest_losses_are_damaged(pool, damage):
    draw = pool.sample(8, num_damaged=3, damage=damage)
    holes = draw.states == 0
    assert [bool(hole.any()) for hole in holes] == [False] * 5 + [True] * 3
    assert draw.losses[5:].tolist() == LOSSES.sort(descending=True).values[5:].tolist()
    for state, hole, index in zip(draw.states[5:], holes[5:], draw.indices[5:].tolist(), strict=True):
        assert all(torch.equal(channel, hole[0]) for channel in hole)
        assert bool((state[~hole] == index + 10).all())


def test_no_replaced_sample_is_ever_damaged(pool, seed):
    draw = pool.sample(4, num_seeds=2, num_damaged=2)
    assert all(torch.equal(state, seed) for state in draw.states[:2])
    assert all(bool((state == 0).any()) for state in draw.states[2:])


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ((9,), ("9", "8")),
        ((0,), ("0", "8")),
        ((4, 3, 2), ("3", "2", "4")),
        ((4, -1, 2), ("-1", "2", "4")),
        ((4, 0, -2), ("0", "-2", "4")),
    ],
)
def test_a_draw_that_cannot_be_is_refused_with_its_numbers_and_changes_nothing(pool, arguments, numbers):
    batch_size, *counts = arguments
    with pytest.raises(ConfigError) as raised:
        pool.sample(batch_size, **dict(zip(("num_seeds", "num_damaged"), counts, strict=False)))
    assert all(number in str(raised.value) for number in numbers)
    assert isinstance(raised.value, ValueError)
    assert pool.num_draws == 0


SEED, INDICES = torch.full((3, 6, 6), 2.0), torch.arange(2)
LABELS = {"label": torch.zeros(8)}


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        *((lambda pool, n=n: SamplePool(SEED, n), ConfigError, "capacity") for n in (0, -3, 2.5, True)),
        (lambda pool: SamplePool(torch.ones(3), 4), ShapeError, r"\(3,\)"),
        (lambda pool: SamplePool(SEED, 4, slots=LABELS), ShapeError, "'label' has 8 entries for a pool of 4"),
        (lambda pool: pool.commit(INDICES, torch.zeros(3, 3, 6, 6)), ShapeError, r"\(2, 3, 6, 6\), not \(3, 3, 6, 6\)"),
        (lambda pool: pool.sample(4, losses=torch.zeros(4)), ShapeError, r"\(8,\), not \(4,\)"),
        (lambda pool: pool.commit(INDICES, SEED.repeat(2, 1, 1, 1), slots=LABELS), ConfigError, "no slot 'label'"),
        (
            lambda pool: SamplePool(SEED, 9).load_state_dict(pool.state_dict()),
            CheckpointError,
            r"\(8, 3.*\(9, 3, 6, 6\)",
        ),
        (lambda pool: SamplePool(SEED, 8, slots=LABELS).load_state_dict(pool.state_dict()), CheckpointError, "label"),
        (lambda pool: apply_damage(SEED, "disk", None), UnknownNameError, "unknown damage 'disk'.*Did you mean 'disc'"),
    ],
)
def test_what_does_not_fit_is_refused(pool, act, error, text):
    with pytest.raises(error, match=text):
        act(pool)


def test_commit_writes_exactly_the_drawn_rows(pool):
    states, losses = pool.states.clone(), pool.losses.clone()
    draw = pool.sample(3)
    pool.commit(draw.indices, torch.full((3, 3, 6, 6), 7.0), losses=torch.tensor([0.01, 0.02, 0.03]))
    others = [index for index in range(8) if index not in draw.indices]
    assert bool((pool.states[draw.indices] == 7).all())
    assert torch.equal(pool.states[others], states[others])
    assert pool.losses[draw.indices].tolist() == torch.tensor([0.01, 0.02, 0.03]).tolist()
    assert torch.equal(pool.losses[others], losses[others])


@pytest.mark.parametrize("losses", [None, torch.tensor([torch.nan, torch.nan])])
def test_losses_that_are_nan_or_unknown_rank_worst_and_no_graph_is_kept(pool, seed, losses):
    pool.commit(torch.tensor([1, 4]), torch.ones(2, 3, 6, 6, requires_grad=True) * 3, losses=losses)
    assert not pool.states.requires_grad
    draw = pool.sample(8, num_damaged=2)
    assert draw.indices[:2].sort().values.tolist() == [1, 4]
    assert torch.equal(draw.states[0], seed)
    assert torch.isfinite(draw.losses[2:]).all()


def test_slots_stay_aligned_with_states(seed):
    pool = SamplePool(seed, 6, slots={"label": torch.arange(6), "goal": torch.arange(12.0).view(6, 2)})
    draw = pool.sample(4)
    assert draw.slots["label"].tolist() == draw.indices.tolist()
    assert draw.slots["goal"][:, 0].tolist() == [2.0 * index for index in draw.indices.tolist()]
    pool.commit(draw.indices, draw.states, slots={"label": draw.slots["label"] + 100})
    expected = [index + 100 if index in draw.indices else index for index in range(6)]
    assert pool.slots["label"].tolist() == expected
    assert pool.slots["goal"].tolist() == torch.arange(12.0).view(6, 2).tolist()


def test_what_is_drawn_is_a_function_of_the_seed_of_the_pool(seed):
    def draws(rng_seed):
        pool = SamplePool(seed, 32, rng_seed=rng_seed)
        return [pool.sample(4).indices.tolist() for _ in range(3)]

    assert draws(0) == draws(0)
    assert draws(0) != draws(1)


def test_a_pool_goes_on_from_its_state(pool, seed, assert_same):
    for _ in range(3):
        draw = pool.sample(3, num_damaged=1)
        pool.commit(draw.indices, draw.states + 1, losses=draw.losses / 2)
    resumed = SamplePool(seed, 8, rng_seed=99)
    resumed.load_state_dict(pool.state_dict())
    for _ in range(3):
        draws = [p.sample(4, num_damaged=1) for p in (pool, resumed)]
        assert_same(*(vars(draw) for draw in draws))
        for p, draw in zip((pool, resumed), draws, strict=True):
            p.commit(draw.indices, draw.states * 2, losses=draw.losses)
    assert_same(pool.state_dict(), resumed.state_dict())
    before = pool.states.clone()  # not shared
    resumed.commit(torch.arange(8), torch.zeros(8, 3, 6, 6))
    assert torch.equal(pool.states, before)


def test_states_that_are_lost_are_replaced_by_the_seed_when_they_are_written_and_keep_their_slots():
    pool = SamplePool(torch.ones(4, 5, 5), 5, slots={"label": torch.arange(5.0)})
    states = torch.full((4, 4, 5, 5), 2.0)
    states[1] = torch.nan
    lost, losses = torch.tensor([False, True, False, True]), torch.tensor([0.125, torch.nan, 0.5, 0.25])
    pool.commit(torch.tensor([0, 2, 3, 4]), states, losses=losses, reseed=lost)
    assert pool.states[:, 0, 0, 0].tolist() == [2.0, 1.0, 1.0, 2.0, 1.0]
    assert pool.losses.tolist() == [0.125, torch.inf, torch.inf, 0.5, torch.inf]
    assert pool.slots["label"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert set(pool.sample(5).indices[:3].tolist()) == {1, 2, 4}


SHAPES = [(32,), (24, 32), (16, 12, 20)]
SEEDS = range(20)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_inside_a_hole_every_channel_is_zero_and_outside_nothing_changes(name, shape):
    state = torch.rand(5, *shape) + 1.0
    before = state.clone()
    for seed in SEEDS:
        damaged = apply_damage(state, name, np.random.default_rng(seed))
        hole = DAMAGES[name](np.random.default_rng(seed), shape)
        assert hole.shape == shape
        assert not bool(hole.all())
        assert torch.equal(damaged == 0, hole.expand(5, *shape))
        assert torch.equal(damaged[:, ~hole], before[:, ~hole])
    assert torch.equal(state, before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_most_holes_hold_cells(name, shape):
    sizes = [int(DAMAGES[name](np.random.default_rng(seed), shape).sum()) for seed in SEEDS]
    assert sum(size > 0 for size in sizes) >= 15  # a small disc may lie between the cells of a coarse grid


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_a_hole_is_a_function_of_its_generator(name):
    masks = [DAMAGES[name](np.random.default_rng(seed), (24, 24)) for seed in (0, 0, 1, 2, 3, 4)]
    assert torch.equal(masks[0], masks[1])
    assert any(not torch.equal(masks[0], other) for other in masks[2:])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_disc_has_the_radius_and_the_place_of_the_paper(shape):
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape), indexing="ij")
    positions = torch.stack([axis.flatten() for axis in axes], 1)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        centre, radius = rng.uniform(-0.5, 0.5, len(shape)), rng.uniform(0.1, 0.4)
        distance = (positions.double() - torch.as_tensor(centre)).norm(dim=1)
        hole = disc(np.random.default_rng(seed), shape).flatten()
        assert bool((distance[hole] < radius + 1e-6).all())
        assert bool((distance[~hole] > radius - 1e-6).all())
        assert bool((positions[hole].abs() < 0.9).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_half_is_one_side_of_one_axis(shape):
    seen = set()
    for seed in SEEDS:
        hole = half(np.random.default_rng(seed), shape)
        assert int(hole.sum()) * 2 == hole.numel()
        corners = hole[(0,) * len(shape)].item(), hole[(-1,) * len(shape)].item()
        assert sorted(corners) == [False, True]
        seen.add(corners)
    assert len(seen) == 2


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rectangle_is_a_full_box_of_an_eighth_to_a_half(shape):
    for seed in SEEDS:
        hole = rectangle(np.random.default_rng(seed), shape)
        where = hole.nonzero()
        sides = (where.max(0).values - where.min(0).values + 1).tolist()
        assert int(hole.sum()) == int(np.prod(sides))
        assert all(size // 8 <= side <= size // 2 for side, size in zip(sides, shape, strict=True))


def test_a_function_is_a_shape_too_and_a_hole_erases_what_is_not_a_number():
    def first_cell(rng, shape):
        hole = torch.zeros(*shape, dtype=torch.bool)
        hole[0] = True
        return hole

    state = torch.tensor([[torch.nan, 1.0, 1.0], [torch.nan, 1.0, 1.0]])
    assert apply_damage(state, first_cell, np.random.default_rng(0)).tolist() == [[0, 1, 1], [0, 1, 1]]
    assert int((apply_damage(torch.full((2, 8), torch.nan), "half", np.random.default_rng(0)) == 0).sum()) == 8


@pytest.mark.parametrize("shape", [(3, 16, 5, 7), (2, 4, 9), (1, 5, 2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_round_trip_is_exact(shape, dtype):
    states = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    states[torch.rand(shape[0], 1, *shape[2:], generator=torch.Generator().manual_seed(1)).expand(shape) < 0.7] = 0
    packed = pack_states(states)
    assert torch.equal(unpack_states(packed), states)
    assert len(packed["values"]) == int((states != 0).any(1).sum()) < states[:, 0].numel()


def test_sign_of_a_zero_and_nan_survive_and_nothing_alive_packs_to_nothing():
    states = torch.zeros(4, 2, 2, 2)
    packed = pack_states(states)
    assert packed["values"].shape == (0, 2)
    assert torch.equal(unpack_states(packed), states)
    states[0, 0, 0, 0], states[0, 1, 1, 1] = -0.0, torch.nan
    back = unpack_states(pack_states(states))
    assert torch.equal(back.view(torch.int32), states.view(torch.int32))
