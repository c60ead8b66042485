"""What a GPU has to do for a training step, counted without one: operations, and waiting for their results."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from delira_nca.models import BasicNCAModel, MixtureRule, presets
from delira_nca.rollout import rollout
from delira_nca.rollout.job import Job

CHANNELS, SIDE = 16, 16
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")


class Operations(TorchDispatchMode):
    """Counts operations by name, on whatever device."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class PlainLoop(nn.Module):
    """A growing automaton as one writes it by hand (Mordvintsev et al., 2020), in as few operations as it takes."""

    def __init__(self):
        super().__init__()
        difference = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        identity = torch.zeros(3, 3)
        identity[1, 1] = 1.0
        kernels = torch.stack([identity, difference, difference.T])
        self.register_buffer("kernels", kernels.repeat(CHANNELS, 1, 1).unsqueeze(1))
        self.hidden, self.last = nn.Conv2d(3 * CHANNELS, 128, 1), nn.Conv2d(128, CHANNELS, 1)

    def alive(self, x):
        return F.max_pool2d(x[:, 3:4], 3, 1, 1) > 0.1

    def forward(self, x, steps):
        for _ in range(steps):
            before = self.alive(x)
            update = self.last(torch.relu(self.hidden(F.conv2d(x, self.kernels, padding=1, groups=CHANNELS))))
            x = x + update * (torch.rand_like(x[:, :1]) < 0.5).float()
            x = x * (before & self.alive(x)).float()
        return x


def operations(run, device, steps):
    """Operations of a forward and a backward pass through so many steps."""
    x = torch.rand(2, CHANNELS, SIDE, SIDE, device=device)
    with Operations() as counted:
        run(x, steps).square().mean().backward()
    return counted.counts


def per_step(run, device="meta"):
    """Operations that a step adds."""
    return (operations(run, device, 20).total() - operations(run, device, 8).total()) / 12


@pytest.fixture
def ours():
    """Roll-out of a growing model on a device that is no CPU and has no values that could be looked at."""
    model = BasicNCAModel(**presets.growing()).to("meta")
    return lambda x, steps: rollout(x, model, steps, seed=1)


def test_a_training_step_off_the_cpu_has_no_more_operations_than_a_plain_loop(ours):
    plain = PlainLoop().to("meta")
    assert per_step(plain) == 32
    assert per_step(ours) <= 32


def test_the_masks_of_all_steps_are_drawn_in_one_call_and_no_result_is_waited_for(ours):
    few, many = operations(ours, "meta", 5), operations(ours, "meta", 12)
    for name in ("__rshift__", "bitwise_xor", "arange", "lt"):
        assert few[name] == many[name] > 0
    assert not [name for name in many if name.startswith(WAITS)]


def test_noise_and_draws_of_all_steps_are_made_in_one_call():
    made = {"update_noise": 0.1, "rule": MixtureRule(4, choice="categorical")}
    for name, value in made.items():
        model = BasicNCAModel(**{**presets.growing(), name: value}).to("meta")
        few, many = (operations(lambda x, steps, m=model: rollout(x, m, steps, seed=1), "meta", n) for n in (5, 12))
        for operation in ("__rshift__", "bitwise_xor", "arange"):
            assert few[operation] == many[operation] > 0, name


def test_masks_noise_and_draws_made_together_are_those_of_each_step(randomise, noise):
    model = randomise(
        BasicNCAModel(**{**presets.growing(), "update_noise": 0.5, "rule": MixtureRule(4, choice="categorical")})
    )
    job = Job(noise(3, CHANNELS, 5, 7), model, 9, (9,), start=4, seed=2**32 - 3, first_sample=5)
    steps = range(4, 13)
    for numbers in (job.noise, job.draws):
        assert torch.equal(numbers(steps), torch.stack([numbers(t) for t in steps]))
    for t, rest in zip(steps, job.rests(steps), strict=True):
        assert torch.equal(~rest, job.fires(t))
