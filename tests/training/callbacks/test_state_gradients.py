"""Gradients of states on their way back."""

import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.losses import mse
from delira_nca.rollout import rollout
from delira_nca.seeding import derive_seed
from delira_nca.training.callbacks import StateGradientNormalization


def gradients_by_hand(network, batch, steps):
    """The way back, one step after the other, with a gradient of norm 1 in each sample."""
    seed = derive_seed(0, "rollout", "train", 0)
    states = [torch.from_numpy(batch["data"])]
    with torch.no_grad():
        for step in range(steps):
            states.append(rollout(states[-1], network, 1, start=step, seed=seed))
    end = states[-1].detach().requires_grad_()
    (towards,) = torch.autograd.grad(mse(end[:, :4], torch.from_numpy(batch["label"])), end)
    sums = [torch.zeros_like(p) for p in network.parameters()]
    for step in reversed(range(steps)):
        towards = towards / towards.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        begin = states[step].detach().requires_grad_()
        after = rollout(begin, network, 1, start=step, seed=seed)
        towards, *of_weights = torch.autograd.grad(after, [begin, *network.parameters()], towards)
        sums = [total + part for total, part in zip(sums, of_weights, strict=True)]
    return sums


def test_every_step_back_begins_with_a_gradient_of_length_1(make_trainer, batches, nca):
    network = nca(training_timesteps=4)
    (batch,) = batches(3)
    expected = gradients_by_hand(network, batch, 4)
    trainer = make_trainer(
        network, callbacks=[StateGradientNormalization()], optimizer_cls=torch.optim.SGD, optimizer_params={"lr": 0.0}
    )
    trainer.train(1, [batch])
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    assert "state gradients" not in trainer.history[0]
    assert trainer.loss_terms == {}


def test_the_size_of_the_loss_does_not_matter_and_a_zero_gradient_stays_zero(make_trainer, batches, nca):
    found = []
    for factor in (1.0, 1e4, 0.0):
        network = nca(training_timesteps=3)
        trainer = make_trainer(
            network,
            criterions={"mse": lambda pred, label, factor=factor: factor * mse(pred, label)},
            callbacks=[StateGradientNormalization()],
            optimizer_cls=torch.optim.SGD,
            optimizer_params={"lr": 0.0},
        )
        trainer.train(1, batches(3))
        found.append([p.grad for p in network.parameters()])
    for one, other, none in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)
        assert not none.any()


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan")])
def test_what_is_divided_by_is_above_0(eps):
    with pytest.raises(ConfigError, match="eps must be a number above 0"):
        StateGradientNormalization(eps)
