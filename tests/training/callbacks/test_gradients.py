"""What is done to gradients of weights before a step, and to those of states on their way back."""

import pytest
import torch

from delira_nca.errors import CallbackError
from delira_nca.losses import mse
from delira_nca.rollout import rollout
from delira_nca.seeding import derive_seed
from delira_nca.training.callbacks import (
    GradientClipping,
    GradientNormalization,
    LambdaCallback,
    StateGradientNormalization,
)
from delira_nca.training.callbacks.optimization import GradientCallback


@pytest.fixture
def parameters():
    """Makes parameters with the given gradients."""

    def make(*gradients):
        made = [torch.nn.Parameter(torch.zeros(2)) for _ in gradients]
        for parameter, gradient in zip(made, gradients, strict=True):
            parameter.grad = None if gradient is None else torch.tensor(gradient)
        return made

    return make


def test_each_gradient_is_divided_by_its_own_norm(parameters):
    made = parameters([3.0, 4.0], [0.0, 0.5], [0.0, 0.0], None, [3e-9, 4e-9])
    GradientNormalization().before_step(None, made)
    norms = [5.0, 0.5, None, None, 5e-9]
    for parameter, norm in zip(made, norms, strict=True):
        if norm is not None:
            assert parameter.grad.norm().item() == pytest.approx(norm / (norm + 1e-8), rel=1e-5)
    assert made[0].grad.tolist() == pytest.approx([0.6, 0.8])
    assert made[2].grad.tolist() == [0.0, 0.0]
    assert made[3].grad is None


def test_gradients_together_are_clipped_to_a_norm(parameters):
    made = parameters([3.0, 0.0], None, [0.0, 4.0])
    GradientClipping(1.0).before_step(None, made)
    assert made[0].grad.tolist() == pytest.approx([0.6, 0.0], rel=1e-5)
    assert made[2].grad.tolist() == pytest.approx([0.0, 0.8], rel=1e-5)
    small = parameters([0.3, 0.4])
    GradientClipping(1.0).before_step(None, small)
    assert small[0].grad.tolist() == pytest.approx([0.3, 0.4])
    largest = parameters([3.0, 4.0])
    GradientClipping(2.0, norm_type=float("inf")).before_step(None, largest)
    assert largest[0].grad.tolist() == pytest.approx([1.5, 2.0], rel=1e-5)


@pytest.fixture
def train(linear_trainer, linear_network, linear_batches):
    """Trains the linear network by plain descent; gives the trainer, and how far each parameter has moved."""

    def run(*callbacks):
        network = linear_network()
        before = [p.detach().clone() for p in network.parameters()]
        trainer = linear_trainer(network, callbacks=callbacks, optimizer_params={"lr": 1.0})
        trainer.train(1, linear_batches(4))
        return trainer, [(p - old).norm().item() for old, p in zip(before, network.parameters(), strict=True)]

    return run


def test_a_step_is_taken_with_the_changed_gradient_in_the_order_of_registration(train):
    normalise, clip = GradientNormalization(), GradientClipping(0.5)
    assert train(normalise)[1] == pytest.approx([1.0, 1.0], rel=1e-4)
    assert train(normalise, clip)[1] == pytest.approx([0.5 / 2**0.5] * 2, rel=1e-4)
    assert train(clip, normalise)[1] == pytest.approx([1.0, 1.0], rel=1e-4)


def test_after_a_training_gradients_are_left_alone(train, linear_trainer, linear_network, linear_batches):
    trainer, _ = train(GradientNormalization())
    trainer.train(2, linear_batches(4))
    assert len(trainer.optimizers["default"]._optimizer_step_pre_hooks) == 0
    broken = LambdaCallback(at_epoch_begin=lambda trainer: 1 / 0)
    trainer = linear_trainer(linear_network(), callbacks=[GradientNormalization(), broken])
    with pytest.raises(CallbackError):
        trainer.train(1, linear_batches(4))
    assert len(trainer.optimizers["default"]._optimizer_step_pre_hooks) == 0


def test_a_step_without_any_gradient_is_left_alone(train):
    class Drop(GradientCallback):
        def before_step(self, trainer, parameters):
            for parameter in parameters:
                parameter.grad = None

    assert train(Drop(), GradientNormalization(), GradientClipping(1.0))[1] == [0.0, 0.0]


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


@pytest.fixture
def normalised(make_trainer, nca):
    """Trainer and gradients of a step whose gradients of states are normalised, and which changes no weight."""

    def train(data, factor=1.0, steps=3):
        trainer = make_trainer(
            nca(training_timesteps=steps),
            criterions={"mse": lambda pred, label: factor * mse(pred, label)},
            callbacks=[StateGradientNormalization()],
            optimizer_cls=torch.optim.SGD,
            optimizer_params={"lr": 0.0},
        )
        trainer.train(1, data)
        return trainer, [p.grad for p in trainer.network.parameters()]

    return train


def test_every_step_back_begins_with_a_gradient_of_length_1(normalised, batches):
    (batch,) = batches(3)
    trainer, found = normalised([batch], steps=4)
    for gradient, expected in zip(found, gradients_by_hand(trainer.network, batch, 4), strict=True):
        assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert "state gradients" not in trainer.history[0]
    assert trainer.loss_terms == {}


def test_the_size_of_the_loss_does_not_matter_and_a_zero_gradient_stays_zero(normalised, batches):
    found = [normalised(batches(3), factor)[1] for factor in (1.0, 1e4, 0.0)]
    for one, other, none in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)
        assert not none.any()
