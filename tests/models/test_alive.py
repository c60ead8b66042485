import pytest
import torch

from delira_nca.models import AliveMask


def state(value, shape, where, channel=3):
    x = torch.zeros(1, 5, *shape)
    x[(0, channel, *where)] = value
    return x


@pytest.mark.parametrize(("alpha", "cells"), [(0.1, 0), (0.11, 9), (-1.0, 0), (float("nan"), 0)])
def test_strictly_above_the_threshold_is_alive(alpha, cells):
    assert AliveMask()(state(alpha, (7, 7), (3, 3))).sum() == cells


@pytest.mark.parametrize(
    ("shape", "where", "cells"), [((7,), (3,), 3), ((7, 6), (3, 3), 9), ((5, 6, 7), (2, 2, 2), 27), ((7, 6), (0, 5), 4)]
)
def test_the_neighbours_of_life_live(shape, where, cells):
    mask = AliveMask()(state(1.0, shape, where))
    assert mask.shape == (1, 1, *shape)
    assert mask.dtype == torch.bool
    assert mask.sum() == cells
    assert mask[(0, 0, *where)]


def test_channel_and_threshold_can_be_chosen_and_dead_space_beyond_the_border_is_nothing():
    assert AliveMask(channel=1)(state(1.0, (7, 7), (3, 3))).sum() == 0
    assert AliveMask(channel=1)(state(1.0, (7, 7), (3, 3), channel=1)).sum() == 9
    assert AliveMask(threshold=0.5)(state(0.5, (7, 7), (3, 3))).sum() == 0
    assert AliveMask(threshold=-0.5)(torch.zeros(1, 4, 3, 3)).all()
    x = torch.full((1, 4, 3, 3), -1.0)
    assert not AliveMask(threshold=-0.5)(x).any()


def test_life_has_no_gradient():
    x = state(1.0, (5, 5), (2, 2)).requires_grad_()
    assert not AliveMask()(x).requires_grad
