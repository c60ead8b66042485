"""What is done to gradients before a step."""

import pytest
import torch

from delira_nca.errors import CallbackError, ConfigError
from delira_nca.losses import mse
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import GradientClipping, GradientNormalization, LambdaCallback
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


@pytest.mark.parametrize(("cls", "value"), [(GradientNormalization, 0), (GradientClipping, 0), (GradientClipping, -1)])
def test_a_limit_that_is_none_is_refused(cls, value):
    with pytest.raises(ConfigError, match="must be a number above 0, not"):
        cls(value)


def _trainer(network, callbacks, lr=1.0, **changes):
    arguments = {"criterions": {"mse": mse}, "optimizer_cls": torch.optim.SGD, "optimizer_params": {"lr": lr}}
    return PyTorchNetworkTrainer(network, None, **{**arguments, **changes}, callbacks=callbacks)


def test_a_step_is_taken_with_the_changed_gradient(linear_network, linear_batches):
    network = linear_network()
    before = [p.detach().clone() for p in network.parameters()]
    _trainer(network, [GradientNormalization()]).train(1, linear_batches(4))
    for old, parameter in zip(before, network.parameters(), strict=True):
        assert (parameter - old).norm().item() == pytest.approx(1.0, rel=1e-4)


def test_several_change_it_in_the_order_of_registration(linear_network, linear_batches):
    lengths = []
    for callbacks in (
        [GradientNormalization(), GradientClipping(0.5)],
        [GradientClipping(0.5), GradientNormalization()],
    ):
        network = linear_network()
        before = network.layer.bias.detach().clone()
        _trainer(network, callbacks).train(1, linear_batches(4))
        lengths.append(abs((network.layer.bias - before).item()))
    assert lengths == pytest.approx([0.5 / 2**0.5, 1.0], rel=1e-4)


def test_after_a_training_gradients_are_left_alone(linear_network, linear_batches):
    trainer = _trainer(linear_network(), [GradientNormalization()])
    for num_epochs in (1, 2):
        trainer.train(num_epochs, linear_batches(4))
        assert len(trainer.optimizers["default"]._optimizer_step_pre_hooks) == 0
    broken = LambdaCallback(at_epoch_begin=lambda trainer: 1 / 0)
    trainer = _trainer(linear_network(), [GradientNormalization(), broken])
    with pytest.raises(CallbackError):
        trainer.train(1, linear_batches(4))
    assert len(trainer.optimizers["default"]._optimizer_step_pre_hooks) == 0


def test_a_step_without_any_gradient_is_left_alone(linear_network, linear_batches):
    network = linear_network()
    before = [p.detach().clone() for p in network.parameters()]

    class Drop(GradientCallback):
        def before_step(self, trainer, parameters):
            for parameter in parameters:
                parameter.grad = None

    _trainer(network, [Drop(), GradientNormalization(), GradientClipping(1.0)]).train(1, linear_batches(4))
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
