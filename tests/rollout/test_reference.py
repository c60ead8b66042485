import itertools

import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.models import AliveMask, BasicNCAModel, LearnedFilters, MLPRule, Perception, make_seed
from delira_nca.rollout import fire_mask, rollout, step


def automaton(channels=6, fixed=0, perception=("identity", "sobel"), padding="zeros", alive=None, **changes):
    arguments = {
        "num_image_channels": fixed,
        "num_hidden_channels": channels - fixed,
        "perception": Perception(*perception, padding=padding),
        "rule": MLPRule(16),
        "alive": alive,
        **changes,
    }
    return BasicNCAModel(**arguments)


# What one step does -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_a_fresh_automaton_changes_nothing(noise, padding):
    model = automaton(padding=padding, alive=AliveMask())
    x = noise(2, 6, 9, 8)
    x[:, 3] = 1.0
    fire = fire_mask(0, 0, 2, (9, 8), 0.5)
    assert torch.equal(step(model, x, 0, fire), x)
    assert torch.equal(step(automaton(padding=padding), x, 0, None), x)


def test_a_cell_lives_by_its_neighbours_and_dies_without():
    model = automaton(alive=AliveMask())
    x = torch.zeros(1, 6, 9, 9)
    x[0, 4, 1, 1] = 1.0  # hidden, but no life near
    x[0, 3:, 6, 6] = 1.0
    x[0, 4, 7, 7] = 0.5  # no life of its own, but of a neighbour
    expected = x.clone()
    expected[0, 4, 1, 1] = 0.0
    assert torch.equal(step(model, x, 0, None), expected)


@pytest.mark.parametrize("alive", [AliveMask(), AliveMask(after=False)])
def test_there_is_no_life_out_of_nothing(randomise, alive):
    model = randomise(automaton(alive=alive), 1.0)
    assert model.rule.last.bias.abs().min() > 0
    x = torch.zeros(2, 6, 8, 8)
    assert torch.equal(rollout(x, model, 50, seed=3), x)


def test_asking_only_after_lets_a_dead_cell_come_alive_by_itself(randomise):
    model = randomise(automaton(alive=AliveMask(before=False)), 1.0)
    with torch.no_grad():
        model.rule.last.bias[3] = 100.0
    assert step(model, torch.zeros(1, 6, 8, 8), 0, None).abs().sum() > 0


@pytest.mark.parametrize("perception", [("identity", "sobel"), ("identity", "laplacian"), ("learned",)])
def test_translation_commutes_bit_for_bit_where_the_grid_is_a_torus(randomise, noise, perception):
    model = randomise(automaton(perception=perception, padding="circular", fire_rate=1.0))
    x = noise(2, 6, 16, 16)
    moved = rollout(x.roll((3, 5), (2, 3)), model, 2).roll((-3, -5), (2, 3))
    assert torch.equal(moved, rollout(x, model, 2))


def test_translation_does_not_commute_with_a_border_of_zeros(randomise, noise):
    model = randomise(automaton(padding="zeros", fire_rate=1.0))
    x = noise(2, 6, 16, 16)
    moved = rollout(x.roll((3, 5), (2, 3)), model, 2).roll((-3, -5), (2, 3))
    assert (moved - rollout(x, model, 2)).abs().max() > 0.1


@pytest.mark.parametrize(
    ("perception", "steps"),
    [
        (("identity", "sobel"), 3),
        (("identity",), 3),
        (("identity", LearnedFilters(2, kernel_size=5)), 2),
        (("laplacian", LearnedFilters(1, kernel_size=7)), 1),
    ],
)
def test_a_disturbance_travels_one_radius_per_step(randomise, noise, perception, steps):
    model = randomise(automaton(perception=perception, fire_rate=1.0))
    x = noise(1, 6, 19, 19)
    disturbed = x.clone()
    disturbed[:, :, 9, 9] += 1.0
    changed = (rollout(x, model, steps) != rollout(disturbed, model, steps)).any(1)[0]
    index = torch.arange(19)
    distance = torch.maximum((index - 9).abs()[:, None], (index - 9).abs()[None])
    assert torch.equal(changed, distance <= steps * model.radius)


def test_fire_rate_one_knows_no_seed_and_draws_nothing(randomise, noise):
    model = randomise(automaton(fire_rate=1.0))
    x = noise(2, 6, 8, 8)
    before = torch.get_rng_state()
    first = model(x, 5).output_image
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, rollout(x, model, 5, seed=1))
    assert torch.equal(first, rollout(x, model, 5, seed=2))
    assert torch.equal(model.predict(x, 5, seed=1).output_image, model.predict(x, 5, seed=2).output_image)


def bias_only(fire_rate):
    model = automaton(fire_rate=fire_rate)
    with torch.no_grad():
        model.rule.last.bias.fill_(1.0)
    return model


def test_cells_update_with_the_fire_rate_and_in_all_their_channels(noise):
    x = torch.zeros(4, 6, 64, 64)
    changed = rollout(x, bias_only(0.5), 1, seed=11) != 0
    assert abs(changed.double().mean().item() - 0.5) < 0.02
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    x = noise(2, 6, 16, 16)
    assert torch.equal(rollout(x, bias_only(0.0), 5), x)
    share = (rollout(x, bias_only(0.9), 1) != x).double().mean().item()
    assert abs(share - 0.9) < 0.05


def test_fixed_channels_stay_bit_for_bit_and_have_no_rows(randomise, noise):
    model = randomise(automaton(fixed=1, alive=AliveMask(channel=2)))
    assert model.rule.last.out_channels == 5
    assert model.rule.last.weight.shape == (5, 16, 1, 1)
    x = noise(2, 6, 12, 12)
    x[0, 0, 0, 0], x[0, 0, 11, 3] = -0.0, 1e-40
    x[1, 3, 5, 5] = float("nan")
    out = rollout(x, model, 20, seed=2).detach()
    assert out[:, :1].numpy().tobytes() == x[:, :1].numpy().tobytes()
    assert not torch.equal(out[0, 1:], x[0, 1:])


def test_a_nan_in_a_cell_that_dies_or_does_not_fire_goes_nowhere():
    class Poison(nn.Module):
        def forward(self, perception):
            return torch.full_like(perception, float("nan"))

    model = automaton(perception=("identity",), rule=Poison(), alive=AliveMask())
    x = torch.zeros(1, 6, 9, 9)
    x[0, 3:, 2, 2] = 1.0
    resting = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    assert torch.equal(step(model, x, 0, resting), x)
    resting[..., 7, 7] = True  # fires, but is dead
    assert torch.equal(step(model, x, 0, resting), x)
    x[0, 4, 7, 7] = float("nan")  # dead by itself
    assert torch.equal(step(model, x, 0, ~resting & False), torch.where(x.isnan(), 0.0, x))


@pytest.mark.parametrize("alive", [None, AliveMask()])
def test_a_volume_one_cell_deep_behaves_like_a_picture(randomise, noise, alive):
    flat = randomise(automaton(perception=("identity", LearnedFilters(2)), alive=alive))
    deep = automaton(perception=("identity", LearnedFilters(2)), alive=alive, dims=3)
    with torch.no_grad():
        for weight, other in zip(deep.parameters(), flat.parameters(), strict=True):
            weight.zero_()
            if weight.shape[2:] == (3, 3, 3):
                weight[:, :, 1] = other
            else:
                weight.copy_(other.view(weight.shape))
    x = noise(2, 6, 10, 9)
    assert torch.equal(fire_mask(1, 0, 2, (1, 10, 9), 0.5).squeeze(2), fire_mask(1, 0, 2, (10, 9), 0.5))
    expected = rollout(x, flat, 4, seed=1)
    found = rollout(x.unsqueeze(2), deep, 4, seed=1).squeeze(2)
    assert (found - expected).abs().max() <= 1e-6


def test_a_seed_grows_alike_on_every_grid_that_it_does_not_fill(randomise):
    model = randomise(automaton(channels=8, alive=AliveMask(), fire_rate=1.0))
    with torch.no_grad():
        model.rule.last.bias[3] = 0.3
        small = rollout(make_seed(8, (32, 32))[None], model, 12)
        large = rollout(make_seed(8, (64, 64))[None], model, 12)
    assert (small[0, 3] > 0.1).sum() > 100
    assert (large[:, :, 16:48, 16:48] - small).abs().max() <= 1e-6 * small.abs().max()
    assert torch.count_nonzero(large) == torch.count_nonzero(large[:, :, 16:48, 16:48])


# The same rule in numpy, in float64 and other words -----------------------------------------------------------------

PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
SOBEL_X = np.outer([1, 2, 1], [-1, 0, 1]) / 8
LAPLACIAN = np.array([[1, 2, 1], [2, -12, 2], [1, 2, 1]], dtype=float)


def correlate(x, kernel, padding):
    """Depth-wise cross-correlation of (B, C, H, W) with one (n, n) kernel, or with one for each channel."""
    size, (height, width) = kernel.shape[-1], x.shape[2:]
    r = size // 2
    padded = np.pad(x, ((0, 0), (0, 0), (r, r), (r, r)), mode=PAD_MODES[padding])
    out = np.zeros_like(x)
    for i, j in itertools.product(range(size), repeat=2):
        factor = kernel[..., i, j]
        factor = factor.reshape(1, -1, 1, 1) if factor.ndim else factor
        out += factor * padded[:, :, i : i + height, j : j + width]
    return out


def alive_in_numpy(x, channel, threshold):
    height, width = x.shape[2:]
    padded = np.pad(x[:, channel], ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return (np.max(shifted, axis=0) > threshold)[:, None]


def step_in_numpy(x, fire, weights, kernels, padding, alive):
    seen = np.concatenate([x, *(correlate(x, kernel, padding) for kernel in kernels)], 1)
    inner = np.einsum("op,bphw->bohw", weights["hidden.0.weight"][..., 0, 0], seen)
    inner = np.maximum(inner + weights["hidden.0.bias"].reshape(1, -1, 1, 1), 0)
    dx = np.einsum("op,bphw->bohw", weights["last.weight"][..., 0, 0], inner) + weights["last.bias"].reshape(
        1, -1, 1, 1
    )
    new = x + dx * fire
    lives = np.ones_like(fire)
    if alive is not None and alive.before:
        lives = lives & alive_in_numpy(x, alive.channel, alive.threshold)
    if alive is not None and alive.after:
        lives = lives & alive_in_numpy(new, alive.channel, alive.threshold)
    return new * lives


@pytest.mark.parametrize("padding", list(PAD_MODES))
@pytest.mark.parametrize(
    "alive", [None, AliveMask(before=False), AliveMask(threshold=0.2)], ids=["all live", "after", "before and after"]
)
@pytest.mark.parametrize("perception", ["sobel", "laplacian", "learned 3", "learned 5"])
def test_the_rule_agrees_with_a_second_statement_of_it(randomise, noise, padding, alive, perception):
    filters = {
        "sobel": "sobel",
        "laplacian": "laplacian",
        "learned 3": LearnedFilters(2),
        "learned 5": LearnedFilters(1, kernel_size=5),
    }[perception]
    model = randomise(automaton(perception=("identity", filters), padding=padding, alive=alive), 0.15)
    learned = [p.detach().double().numpy()[:, 0] for p in model.perception.parameters()]
    kernels = {"sobel": [SOBEL_X, SOBEL_X.T], "laplacian": [LAPLACIAN]}.get(perception, learned)
    weights = {name: p.detach().double().numpy() for name, p in model.rule.named_parameters()}
    x = noise(2, 6, 9, 11) * 0.3
    masks = noise(5, 2, 1, 9, 11, seed=1) > 0
    expected = x.double().numpy()
    for t in range(5):
        expected = step_in_numpy(expected, masks[t].numpy(), weights, kernels, padding, alive)
    found = rollout(x, model, 5, masks=masks).detach().double().numpy()
    assert 0.1 < np.abs(expected).max() < 1e3
    assert np.abs(found - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())
