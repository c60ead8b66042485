"""Holes in states of any dimension."""

import numpy as np
import pytest
import torch

from delira_nca.errors import UnknownNameError
from delira_nca.training.pool import DAMAGES, apply_damage, disc, half, rectangle

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


def test_a_hole_erases_what_is_not_a_number():
    state = torch.full((2, 8), torch.nan)
    damaged = apply_damage(state, "half", np.random.default_rng(0))
    assert int((damaged == 0).sum()) == 8


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


def test_a_function_is_a_shape_too():
    def first_cell(rng, shape):
        hole = torch.zeros(*shape, dtype=torch.bool)
        hole[0] = True
        return hole

    damaged = apply_damage(torch.ones(2, 3), first_cell, np.random.default_rng(0))
    assert damaged.tolist() == [[0, 1, 1], [0, 1, 1]]


def test_an_unknown_shape_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown damage 'disk'.*Did you mean 'disc'\?"):
        apply_damage(torch.ones(2, 3, 3), "disk", np.random.default_rng(0))
