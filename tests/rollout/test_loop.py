import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, Perception
from delira_nca.rollout import BACKENDS, fire_mask, rollout, trajectory, using_backend


@pytest.fixture(params=list(BACKENDS), autouse=True)
def backend(request):
    """Every way to compute a roll-out keeps the same contract."""
    if (reason := BACKENDS[request.param].unavailable()) is not None:
        pytest.skip(reason)
    with using_backend(request.param):
        yield


def automaton(windowed=True, **changes):
    arguments = {
        "num_image_channels": 4,
        "num_hidden_channels": 4,
        "immutable_image_channels": False,
        "perception": Perception("identity", "sobel", padding="zeros" if windowed else "circular"),
        "rule": MLPRule(12),
        "alive": AliveMask(),
        **changes,
    }
    return BasicNCAModel(**arguments)


@pytest.fixture(params=[True, False], ids=["windowed", "everywhere"])
def model(request, randomise):
    model = randomise(automaton(request.param, use_temporal_encoding=True))
    with torch.no_grad():
        model.rule.last.bias[3] = 0.2
    assert model.skips_dead_space is request.param
    return model


@pytest.fixture
def x(noise):
    """Life in the middle of 14 x 13 cells."""
    x = torch.zeros(2, 8, 14, 13)
    x[:, :, 6:8, 5:8] = noise(2, 8, 2, 3).abs()
    return x


# Start, masks, trajectories -----------------------------------------------------------------------------------------


def test_a_mask_function_may_let_all_fire_and_a_roll_out_goes_on_where_it_stopped(model, x, randomise):
    with torch.no_grad():
        whole = rollout(x, model, 10, seed=5)
        half = rollout(x, model, 4, seed=5)
        assert torch.equal(rollout(half, model, 6, start=4, seed=5), whole)
        assert not torch.equal(rollout(half, model, 6, start=3, seed=5), whole)
    with torch.no_grad():
        ones = torch.ones(3, 2, 1, 14, 13, dtype=torch.bool)
        assert torch.equal(rollout(x, model, 3, masks=lambda t: None), rollout(x, model, 3, masks=ones))


def test_the_time_is_told_from_start_on(randomise, x):
    model = randomise(automaton(fire_rate=1.0, use_temporal_encoding=True))
    with torch.no_grad():
        assert not torch.equal(rollout(x, model, 1, start=50), rollout(x, model, 1))


@pytest.mark.parametrize("start", [0, 3])
def test_masks_from_outside_equal_those_of_the_seed(model, x, start):
    masks = [fire_mask(9, t, 2, (14, 13), 0.5) for t in range(start, start + 5)]
    with torch.no_grad():
        expected = rollout(x, model, 5, start=start, seed=9)
        assert torch.equal(rollout(x, model, 5, start=start, masks=torch.stack(masks)), expected)
        assert torch.equal(rollout(x, model, 5, start=start, masks=lambda t: masks[t - start]), expected)
        assert not torch.equal(rollout(x, model, 5, start=start, seed=8), expected)


@pytest.mark.parametrize("segment", [None, 1, 2, 7])
@pytest.mark.parametrize("grad", [True, False])
def test_a_trajectory_holds_what_roll_outs_of_that_length_give(randomise, x, segment, grad):
    model = randomise(automaton(windowed=False))
    with torch.set_grad_enabled(grad):
        states = trajectory(x, model, 7, keep=[5, 0, 7, 2], seed=3, segment=segment)
        assert sorted(states) == [0, 2, 5, 7]
        for done, state in states.items():
            assert torch.equal(state, rollout(x, model, done, seed=3))
        assert sorted(trajectory(x, model, 3)) == [1, 2, 3]
        assert trajectory(x, model, 3, keep=[]) == {}


def test_a_trajectory_can_be_trained_on_at_every_step(randomise, x):
    model = randomise(automaton(windowed=False))
    gradients = []
    for options in ({"segment": 4}, {"segment": 2}, {}):
        model.zero_grad()
        states = trajectory(x, model, 4, keep=[1, 3], seed=1, **options)
        (states[1].square().mean() + states[3].square().mean()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for other in gradients[1:]:
        for a, b in zip(other, gradients[0], strict=True):
            assert (a - b).abs().max() <= 1e-6 * b.abs().max()


# What is refused ----------------------------------------------------------------------------------------------------


def test_numbers_out_of_range_and_states_without_space_are_refused(model, x, refuses):
    for steps in (-1, True, 2.0, 1.5, "3", None):
        for function in (rollout, trajectory):
            refuses(ConfigError, "steps must be a whole number of at least 0, not", function, x, model, steps)
    for name, number in (("start", -1), ("start", 0.5), ("segment", 0), ("segment", -3), ("segment", 2.0)):
        refuses(ConfigError, f"{name} must be a whole number", rollout, x, model, 2, **{name: number})
    for keep in ([4], [-1], [1, 9]):
        refuses(ConfigError, "choose from 0 to 3", trajectory, x, model, 3, keep=keep)
    refuses(ShapeError, "at least one spatial axis", rollout, torch.zeros(2, 8), model, 3)
