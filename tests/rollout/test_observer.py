"""Looking into a roll-out changes nothing in it."""

import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.models import BasicNCAModel, presets
from delira_nca.rollout import observing, rollout, trajectory


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = BasicNCAModel(**presets.growing(num_hidden_channels=4))
    torch.nn.init.normal_(model.rule.last.weight, std=0.1)
    return model


def test_watched_states_are_those_of_the_trajectory_and_the_end_stays(model):
    x = torch.rand(2, 8, 7, 7)
    plain = rollout(x, model, 6, seed=3)
    with observing(lambda steps: [2, steps - 1]) as observer:
        watched = rollout(x, model, 6, seed=3)
    assert torch.equal(watched, plain)
    (seen,) = observer.rollouts
    assert (seen.steps, sorted(seen.states)) == (6, [0, 2, 5, 6])
    states = trajectory(x, model, 6, keep=[0, 2, 5, 6], seed=3)
    assert all(torch.equal(seen.states[n], states[n]) for n in states)


def test_gradients_flow_from_watched_states(model):
    x = torch.rand(2, 8, 7, 7)
    gradients = []
    for watch in (True, False):
        model.zero_grad()
        if watch:
            with observing(lambda steps: [2]) as observer:
                rollout(x, model, 4, seed=1)
            observer.rollouts[0].states[2].square().mean().backward()
        else:
            rollout(x, model, 2, seed=1).square().mean().backward()
        gradients.append(model.rule.last.weight.grad.clone())
    assert gradients[0].abs().max() > 0
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-8)


def test_a_roll_out_goes_on_from_linked_states(model):
    x = torch.rand(2, 8, 7, 7, requires_grad=True)
    plain = rollout(x, model, 5, seed=1)
    (expected,) = torch.autograd.grad(plain.square().sum(), x)
    with observing(lambda steps: [1, 3], linked=True) as observer:
        end = rollout(x, model, 5, seed=1)
    assert torch.equal(end, plain)
    states = observer.rollouts[0].states
    assert sorted(states) == [0, 1, 3, 5]
    found, *of_states = torch.autograd.grad(end.square().sum(), [x, states[1], states[3]], retain_graph=True)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert all(gradient.abs().max() > 0 for gradient in of_states)
    states[3].register_hook(torch.zeros_like)
    (cut,) = torch.autograd.grad(end.square().sum(), x)
    assert not cut.any()


@pytest.mark.parametrize("as_function", [False, True])
def test_linked_parts_fire_by_the_masks_that_were_given(model, as_function):
    x = torch.rand(2, 8, 7, 7)
    given = torch.rand(5, 2, 1, 7, 7, generator=torch.Generator().manual_seed(1)) < 0.5
    masks = (lambda t: given[t - 3]) if as_function else given
    plain = rollout(x, model, 5, start=3, masks=masks)
    with observing(lambda steps: range(1, steps), linked=True):
        linked = rollout(x, model, 5, start=3, masks=masks)
    assert torch.equal(linked, plain)


def test_every_roll_out_is_seen_and_none_outside_of_the_block_and_one_of_no_steps_is_its_beginning(model):
    x = torch.rand(1, 8, 5, 5)
    with observing(lambda steps: [], linked=True) as observer:
        assert rollout(x, model, 0) is x
    assert list(observer.rollouts[0].states) == [0]
    with observing(lambda steps: []) as observer:
        rollout(x, model, 2)
        rollout(x, model, 0)
    rollout(x, model, 3)
    assert [(seen.steps, sorted(seen.states)) for seen in observer.rollouts] == [(2, [0, 2]), (0, [0])]


def test_a_step_outside_of_the_roll_out_is_refused(model):
    with (
        pytest.raises(ConfigError, match=r"cannot look at the states after \[9\] of 2 steps"),
        observing(lambda steps: [9]),
    ):
        rollout(torch.rand(1, 8, 5, 5), model, 2)
