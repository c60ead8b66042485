import pytest
import torch

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.losses import hidden_penalty, overflow


def test_within_the_limit_overflow_is_0():
    state = torch.linspace(-1, 1, 64).reshape(1, 4, 4, 4).requires_grad_()
    loss = overflow(state)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(state.grad, torch.zeros_like(state))


@pytest.mark.parametrize("cells", [1, 7])
def test_each_cell_at_one_and_a_half_costs_a_half(cells):
    state = torch.zeros(2, 3, 4, 4)
    state.view(-1)[:cells] = 1.5
    assert overflow(state).item() == 0.5 * cells
    assert overflow(-state).item() == 0.5 * cells
    assert overflow(state, squared=True).item() == 0.25 * cells
    assert overflow(state, reduction="mean").item() == pytest.approx(0.5 * cells / 96)
    assert overflow(state, limit=1.25).item() == 0.25 * cells
    assert overflow(state, limit=2.0).item() == 0


@pytest.mark.parametrize("squared", [True, False])
def test_the_gradient_of_overflow_pushes_inward(squared):
    state = torch.tensor([1.5, -1.5, 0.5]).requires_grad_()
    overflow(state, squared=squared).backward()
    assert state.grad.tolist() == [1.0, -1.0, 0.0]


def test_bad_arguments_of_overflow_are_refused(refuses):
    refuses(UnknownNameError, "unknown reduction 'average'", overflow, torch.zeros(1), reduction="average")
    refuses(ConfigError, "limit must be a number above 0, not 0", overflow, torch.zeros(1), limit=0)


def test_hidden_penalty_is_the_mean_absolute_value(noise):
    hidden = noise(2, 3, 4, 4)
    assert hidden_penalty(hidden).item() == pytest.approx(hidden.abs().double().mean().item(), rel=1e-6)
    assert hidden_penalty(hidden[:, :0]).item() == 0
