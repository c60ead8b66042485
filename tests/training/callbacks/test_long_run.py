"""Weights by their roll-outs long after the horizon of training."""

import math

import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.losses import mse
from delira_nca.seeding import derive_seed
from delira_nca.training.callbacks import LongRunSelection


@pytest.fixture
def long_batch(batches):
    (batch,) = batches(2, seed=3)
    return {key: torch.from_numpy(value) for key, value in batch.items()}


def test_the_best_look_keeps_its_weights(make_trainer, batches, long_batch):
    selection = LongRunSelection(long_batch, factor=10, every=1)
    trainer = make_trainer(callbacks=[selection])
    trainer.train(4, batches(3))
    assert sorted(selection.losses) == [1, 2, 3, 4]
    assert selection.best_loss == min(selection.losses.values()) == selection.losses[selection.best_epoch]
    best = selection.network(trainer.network)
    prediction = best.predict(long_batch["data"], 40, seed=derive_seed(0, "long run"))
    assert float(mse(prediction.pred, long_batch["label"])) == pytest.approx(selection.best_loss)


def test_it_looks_every_so_many_epochs_and_at_the_last(make_trainer, batches, long_batch):
    selection = LongRunSelection(long_batch, factor=1, every=2)
    make_trainer(callbacks=[selection]).train(5, batches(3))
    assert sorted(selection.losses) == [2, 4, 5]


def test_looking_does_not_change_the_training(make_trainer, batches, long_batch, assert_same):
    ends = []
    for callbacks in ([], [LongRunSelection(long_batch, factor=2, every=1)]):
        trainer = make_trainer(callbacks=callbacks)
        trainer.train(2, batches(3))
        ends.append(dict(trainer.network.state_dict()))
    assert_same(*ends)


def test_a_loss_that_is_not_finite_is_never_the_best(make_trainer, batches, long_batch):
    selection = LongRunSelection(long_batch, factor=1, every=1)
    trainer = make_trainer(criterions={"mse": lambda pred, label: mse(pred, label) * math.nan}, callbacks=[selection])
    trainer.train(1, batches(2))
    assert math.isnan(selection.losses[1])
    assert selection.best_epoch is None
    with pytest.raises(ConfigError, match="there are no best weights"):
        selection.network(trainer.network)


def test_networks_without_steps_are_refused(linear_trainer, linear_network, linear_batches):
    trainer = linear_trainer(linear_network(), callbacks=[LongRunSelection({"data": torch.zeros(1, 3)})])
    with pytest.raises(ConfigError, match="LinearNetwork has no training_timesteps"):
        trainer.train(1, linear_batches())
