"""Averages of the weights, against averages computed by hand."""

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.losses import mse
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import LambdaCallback, WeightAverage
from delira_nca.training.callbacks.optimization import validated_network


def _train(network, callbacks, data, num_epochs=3, valid=None, **kwargs):
    trainer = PyTorchNetworkTrainer(
        network, None, {"mse": mse}, torch.optim.SGD, {"lr": 0.1}, callbacks=callbacks, **kwargs
    )
    best = trainer.train(num_epochs, data, valid, val_score_key="mse", val_score_mode="lowest")
    return trainer, best


def _weight(network):
    return network.layer.weight.detach().double().numpy().copy()


@pytest.mark.parametrize(
    ("decay", "every", "start_epoch"),
    [(0.9, "iteration", 1), (0.5, "epoch", 1), (0.5, "iteration", 2), (None, "iteration", 1), (None, "epoch", 2)],
)
def test_the_average_is_the_one_computed_by_hand(linear_network, linear_batches, decay, every, start_epoch):
    network, seen = linear_network(), []

    def keep(trainer, curr_epoch, train=True):
        if train and curr_epoch >= start_epoch:
            seen.append(_weight(network))

    average = WeightAverage(decay, every=every, start_epoch=start_epoch)
    hook = "at_iter_end" if every == "iteration" else "at_epoch_end"
    _train(network, [average, LambdaCallback(**{hook: keep})], linear_batches(4, 4))
    expected = seen[0]
    for number, weight in enumerate(seen[1:], 2):
        expected = (
            (1 - 1 / number) * expected + weight / number if decay is None else decay * expected + (1 - decay) * weight
        )
    if decay is None:
        assert expected == pytest.approx(np.mean(seen, 0), rel=1e-9)
    assert _weight(average.network) == pytest.approx(expected, rel=1e-5)
    assert len(seen) == {("iteration", 1): 6, ("epoch", 1): 3, ("iteration", 2): 4, ("epoch", 2): 2}[every, start_epoch]


@pytest.mark.parametrize("validate", [True, False])
def test_validation_sees_the_average_and_training_goes_on_with_its_own(linear_network, linear_batches, validate):
    data, (valid,) = linear_batches(4, 4), linear_batches(5, seed=1)
    alone = linear_network()
    _train(alone, [], data, valid=[valid, valid])
    network, losses, weights = linear_network(), [], []
    average = WeightAverage(0.9, validate=validate)

    def compute(trainer):
        net = average.network if validate else network
        pred = valid["data"] @ _weight(net).T + net.layer.bias.detach().numpy()
        losses.append(float(np.square(pred - valid["label"]).mean()))
        weights.append({k: v.clone() for k, v in net.state_dict().items()})

    trainer, best = _train(network, [average, LambdaCallback(at_epoch_end=compute)], data, valid=[valid, valid])
    assert [entry["val_mse"] for entry in trainer.history] == pytest.approx(losses, rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), alone.parameters(), strict=True))
    chosen = weights[trainer.best.epoch - 1]
    assert all(torch.equal(tensor, chosen[name]) for name, tensor in best.state_dict().items())


def test_before_anything_was_taken_in_there_is_no_average_and_validation_sees_the_network_s_own_weights(
    linear_network, linear_batches
):
    data, average = linear_batches(4), WeightAverage(0.5, start_epoch=3)
    with pytest.raises(ConfigError, match="no average before"):
        average.network  # noqa: B018
    assert average.state_dict() == {}
    alone, _ = _train(linear_network(), [], data, 2, data)
    late, _ = _train(linear_network(), [average], data, 2, data)
    assert late.history == alone.history


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_network_has_its_own_weights_after_an_error_in_validation(linear_network, linear_batches, error):
    network, data, weights = linear_network(), linear_batches(4), []

    def fail(trainer, train):
        if not train:
            raise error
        weights.append(_weight(network))

    averages = [WeightAverage(0.0001, every="epoch"), WeightAverage(0.9)]
    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        _train(network, [*averages, LambdaCallback(at_iter_end=fail)], data, 2, data)
    assert np.array_equal(_weight(network), weights[-1])


def test_the_network_that_is_validated_is_the_average_where_there_is_one(make_trainer, batches):
    averages = [WeightAverage(0.5), WeightAverage(0.5, validate=False), WeightAverage(0.5, start_epoch=2), None]
    for number, average in enumerate(averages):
        trainer = make_trainer(callbacks=[average] if average else [])
        trainer.train(1, batches(2), batches(1))
        assert validated_network(trainer) is (average.network if number == 0 else trainer.network), average
