import gc
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, Perception
from delira_nca.rollout import fire_mask, rollout, trajectory

STEPS = 12


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


def run(model, x, steps=STEPS, **options):
    """Result, and the gradients of the input and of every weight."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    out = rollout(x, model, steps, **options)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]


def assert_all_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


# Segments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment", [1, 3, 4, 6, 7])
def test_checkpointed_gradients_are_bit_equal(model, x, segment):
    plain = run(model, x, seed=7, segment=STEPS)
    assert plain[1].abs().max() > 0
    assert_all_equal(run(model, x, seed=7, segment=segment), plain)


def test_a_small_budget_chooses_segments_with_equal_gradients(randomise, x):
    model = randomise(automaton(windowed=False))
    assert_all_equal(run(model, x, seed=7, memory_budget=1), run(model, x, seed=7, segment=STEPS))
    assert_all_equal(run(model, x, seed=7), run(model, x, seed=7, segment=STEPS))


class PeakMemory(TorchDispatchMode):
    """Largest number of bytes that tensors made inside of the block hold at one time, backward passes included."""

    def __init__(self):
        super().__init__()
        self.live, self.peak = {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.live:
                    self.live[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.live.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return result


def peak(model, x, steps, **options):
    gc.collect()
    with PeakMemory() as memory:
        rollout(x, model, steps, **options).sum().backward()
    return memory.peak


def test_segments_need_less_memory(randomise, noise):
    model, steps = randomise(automaton(windowed=False)), 64
    x = noise(2, 8, 12, 12)
    plain = peak(model, x, steps, segment=steps)
    assert plain > steps * x.nbytes  # the measure sees what is stored
    assert peak(model, x, steps, segment=8) < 0.3 * plain
    assert peak(model, x, steps, memory_budget=x.nbytes) < 0.3 * plain
    assert peak(model, x, steps) > 0.9 * plain  # the default budget is large


def test_nothing_is_kept_without_gradients(randomise, noise):
    model = randomise(automaton(windowed=False))
    x = noise(2, 8, 12, 12)
    with torch.no_grad():
        out = rollout(x, model, 8, seed=1, segment=2)
    assert not out.requires_grad
    assert torch.equal(out, rollout(x, model, 8, seed=1).detach())


# Start, masks, trajectories -----------------------------------------------------------------------------------------


def test_a_roll_out_goes_on_where_it_stopped(model, x):
    with torch.no_grad():
        whole = rollout(x, model, 10, seed=5)
        half = rollout(x, model, 4, seed=5)
        assert torch.equal(rollout(half, model, 6, start=4, seed=5), whole)
        assert not torch.equal(rollout(half, model, 6, start=3, seed=5), whole)


def test_the_time_is_told_from_start_on(randomise, x):
    model = randomise(automaton(fire_rate=1.0, use_temporal_encoding=True))
    with torch.no_grad():
        assert not torch.equal(rollout(x, model, 1, start=50), rollout(x, model, 1))


def test_no_step_is_the_state_itself(model, x):
    assert torch.equal(rollout(x, model, 0), x)
    assert torch.equal(rollout(x, model, 0, segment=3), x)
    assert trajectory(x, model, 0) == {}


@pytest.mark.parametrize("start", [0, 3])
def test_masks_from_outside_equal_those_of_the_seed(model, x, start):
    masks = [fire_mask(9, t, 2, (14, 13), 0.5) for t in range(start, start + 5)]
    with torch.no_grad():
        expected = rollout(x, model, 5, start=start, seed=9)
        assert torch.equal(rollout(x, model, 5, start=start, masks=torch.stack(masks)), expected)
        assert torch.equal(rollout(x, model, 5, start=start, masks=lambda t: masks[t - start]), expected)
        assert not torch.equal(rollout(x, model, 5, start=start, seed=8), expected)


def test_a_mask_function_may_let_all_fire(model, x, randomise):
    with torch.no_grad():
        ones = torch.ones(3, 2, 1, 14, 13, dtype=torch.bool)
        assert torch.equal(rollout(x, model, 3, masks=lambda t: None), rollout(x, model, 3, masks=ones))


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
    for options in ({"segment": 4}, {"segment": 2}, {"memory_budget": 1}, {}):
        model.zero_grad()
        states = trajectory(x, model, 4, keep=[1, 3], seed=1, **options)
        (states[1].square().mean() + states[3].square().mean()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for other in gradients[1:]:
        for a, b in zip(other, gradients[0], strict=True):
            assert (a - b).abs().max() <= 1e-6 * b.abs().max()


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [-1, True, 2.0, "3"])
def test_steps_that_are_no_number_of_steps_are_refused(model, x, steps):
    for function in (rollout, trajectory):
        with pytest.raises(ConfigError, match="steps is a whole number of at least 0, not"):
            function(x, model, steps)


@pytest.mark.parametrize("options", [{"start": -1}, {"start": 0.5}, {"segment": 0}, {"segment": -3}, {"segment": 2.0}])
def test_numbers_out_of_range_are_refused(model, x, options):
    name = next(iter(options))
    with pytest.raises(ConfigError, match=f"{name} is a whole number"):
        rollout(x, model, 2, **options)


@pytest.mark.parametrize("keep", [[4], [-1], [1, 9]])
def test_a_step_outside_of_the_roll_out_cannot_be_kept(model, x, keep):
    with pytest.raises(ConfigError, match="choose from 0 to 3"):
        trajectory(x, model, 3, keep=keep)


@pytest.mark.parametrize(
    "masks",
    [
        torch.ones(2, 2, 1, 14, 13, dtype=torch.bool),  # two of three steps
        torch.ones(3, 2, 8, 14, 13, dtype=torch.bool),  # one for each channel
        torch.ones(3, 1, 1, 14, 13, dtype=torch.bool),
        torch.ones(3, 2, 1, 13, 14, dtype=torch.bool),
        torch.ones(3, 2, 1, 14, 13),
        torch.tensor(True),
    ],
)
def test_masks_that_do_not_fit_are_refused(model, x, masks):
    with pytest.raises(ShapeError, match=r"bool tensor of shape \(3, 2, 1, 14, 13\), not torch"):
        rollout(x, model, 3, masks=masks)


@pytest.mark.parametrize("mask", [torch.ones(2, 8, 14, 13, dtype=torch.bool), torch.ones(2, 1, 14, 13)])
def test_a_mask_function_that_returns_something_else_is_refused(model, x, mask):
    with pytest.raises(ShapeError, match=r"mask of step 0 is a bool tensor of shape \(2, 1, 14, 13\), not torch"):
        rollout(x, model, 3, masks=lambda t: mask)


def test_a_state_without_space_is_refused(model):
    with pytest.raises(ShapeError, match="at least one spatial axis"):
        rollout(torch.zeros(2, 8), model, 3)
