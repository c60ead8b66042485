import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.rollout import fire_mask
from delira_nca.rollout.masks import cell_draws, fire_threshold, uniform24

WORD = 2**32 - 1


def pcg4d(*key: int) -> int:
    """Jarzynski and Olano (2020), in integers without a width; the last word."""
    x, y, z, w = ((k * 1664525 + 1013904223) & WORD for k in key)
    x = (x + y * w) & WORD
    y = (y + z * x) & WORD
    z = (z + x * y) & WORD
    w = (w + y * z) & WORD
    x, y, z, w = x ^ (x >> 16), y ^ (y >> 16), z ^ (z >> 16), w ^ (w >> 16)
    x = (x + y * w) & WORD
    y = (y + z * x) & WORD
    z = (z + x * y) & WORD
    return (w + y * z) & WORD


@pytest.mark.parametrize("seed", [0, 1, 123456789, 2**31, 2**32 - 1])
@pytest.mark.parametrize("step", [0, 1, 95, 2**20])
def test_hash_is_that_of_the_paper(seed, step):
    hashes = uniform24(seed, step, 5, 37)
    expected = [[pcg4d(seed, step, sample, cell) >> 8 for cell in range(37)] for sample in range(5)]
    assert hashes.tolist() == expected


def test_only_the_low_32_bits_of_a_seed_count():
    assert torch.equal(uniform24(2**32 + 5, 0, 2, 9), uniform24(5, 0, 2, 9))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_of_firing_cells_is_the_fire_rate(rate):
    cells = 4 * 128 * 128
    share = fire_mask(3, 0, 4, (128, 128), rate).double().mean().item()
    assert abs(share - rate) < 4 * np.sqrt(rate * (1 - rate) / cells)


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """In units of its standard deviation under independence."""
    a, b = a.double().flatten(), b.double().flatten()
    return abs(float(np.corrcoef(a, b)[0, 1])) * len(a) ** 0.5


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_neighbouring_cells_steps_samples_and_seeds_are_independent(rate):
    shape = (128, 128)
    mask = fire_mask(7, 10, 4, shape, rate)[:, 0]
    assert _correlation(mask[:, :, 1:], mask[:, :, :-1]) < 4
    assert _correlation(mask[:, 1:], mask[:, :-1]) < 4
    assert _correlation(mask[1:], mask[:-1]) < 4
    assert _correlation(mask, fire_mask(7, 11, 4, shape, rate)[:, 0]) < 4
    assert _correlation(mask, fire_mask(8, 10, 4, shape, rate)[:, 0]) < 4


def test_rate_one_needs_no_mask_and_rate_zero_fires_nowhere():
    assert fire_mask(0, 0, 2, (8, 8), 1.0) is None
    mask = fire_mask(0, 0, 2, (8, 8), 0.0)
    assert mask.shape == (2, 1, 8, 8)
    assert not mask.any()


@pytest.mark.parametrize("rate", [-0.01, 1.01, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate, refuses):
    refuses(ConfigError, "from 0 to 1", fire_mask, 0, 0, 1, (4,), rate)


def test_a_cell_fires_where_its_hash_is_below_the_rounded_threshold():
    assert [fire_threshold(rate) for rate in (0.0, 2**-24, 0.1, 0.5, 1.0)] == [0, 1, 1677722, 2**23, 2**24]
    value = int(uniform24(0, 0, 1, 3)[0, 1])
    assert not fire_mask(0, 0, 1, (3,), value / 2**24)[0, 0, 1]
    assert fire_mask(0, 0, 1, (3,), (value + 1) / 2**24)[0, 0, 1]


@pytest.mark.parametrize("shape", [(12,), (5, 7), (3, 4, 5)])
def test_a_sample_has_the_same_mask_in_every_batch(shape):
    large = fire_mask(1, 2, 6, shape, 0.5)
    assert large.shape == (6, 1, *shape)
    assert large.dtype == torch.bool
    for size in (1, 3):
        assert torch.equal(fire_mask(1, 2, size, shape, 0.5), large[:size])
    assert not torch.equal(large[0], large[1])


def test_draws_are_uniform_strangers_to_the_fire_masks_and_know_their_sample():
    drawn = cell_draws(3, 5, 4, 2, (40, 50))
    assert drawn.shape == (4, 2, 40, 50)
    assert 0 <= drawn.min() < 0.001
    assert 0.999 < drawn.max() < 1
    counts = torch.histc(drawn, 10, 0, 1)
    assert (counts / counts.sum() - 0.1).abs().max() < 0.01
    fires = fire_mask(3, 5, 4, (40, 50), 0.5).expand_as(drawn)
    assert abs(drawn[fires].mean() - drawn[~fires].mean()) < 0.02
    assert torch.equal(cell_draws(3, 5, 2, 2, (40, 50), first_sample=2), drawn[2:])
    assert not torch.equal(cell_draws(3, 6, 4, 2, (40, 50)), drawn)
