"""Which score decides, which way is better, and under which names values are recorded."""

import math

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ScoreKeyError, ScoreModeError
from delira_nca.training.callbacks import RolloutLoss
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer
from delira_nca.training.scores import (
    BestScore,
    check_value_names,
    find_score_key,
    higher_is_better,
    is_better,
    plain_values,
    with_validation,
)

NAMES = ["loss", "dice", "val_loss", "val_dice"]


def test_a_mode_has_two_names_and_another_one_is_an_error_of_either_kind():
    modes = {"highest": True, "max": True, "lowest": False, "min": False}
    assert {mode: higher_is_better(mode) for mode in modes} == modes
    for kind in (ValueError, AssertionError, ScoreModeError):
        with pytest.raises(kind, match="Did you mean 'lowest'"):
            higher_is_better("lowes")


@pytest.mark.parametrize(
    ("old", "new", "mode", "min_delta", "better"),
    [
        (0.5, 0.6, "max", 0.05, True),
        (0.5, 0.54, "max", 0.05, False),
        (0.5, 0.375, "min", 0.125, False),
        (0.5, 0.25, "min", 0.125, True),
        (math.nan, 0.1, "max", 0.0, True),
        (0.1, math.nan, "min", 0.0, False),
        (None, math.nan, "max", 0.0, False),
        (None, -math.inf, "max", 0.0, True),
        (1.0, -math.inf, "min", 0.0, True),
    ],
)
def test_better_means_by_more_than_min_delta_and_never_nan(old, new, mode, min_delta, better):
    assert is_better(old, new, mode, min_delta) is better


@pytest.mark.parametrize(
    ("key", "names", "found"),
    [
        ("dice", NAMES, "val_dice"),
        ("val_dice", NAMES, "val_dice"),
        ("dice", ["loss", "dice"], "dice"),
        ("loss", iter(NAMES), "val_loss"),
    ],
)
def test_a_key_means_the_score_of_validation_where_there_is_one(key, names, found):
    assert find_score_key(key, names) == found


@pytest.mark.parametrize(
    ("key", "names", "message"),
    [
        ("dcie", ["loss", "dice"], "Known: 'dice', 'loss'. Did you mean 'dice'?"),
        ("val_dcie", NAMES, "Known: 'val_dice', 'val_loss'. Did you mean 'val_dice'?"),
        ("val_dice", ["loss", "dice"], "the score 'val_dice' that decides which epoch is best is not computed"),
        ("speed", ["speed", "val_loss"], "in training only"),
        ("x", [], "Known: none."),
    ],
)
def test_an_unknown_key_is_refused_with_what_is_known(key, names, message):
    with pytest.raises(ScoreKeyError) as raised:
        find_score_key(key, names)
    assert message in str(raised.value)


def test_the_best_goes_on_from_its_state():
    best = BestScore("dice", "highest")
    assert best.update(1, {"dice": 0.4})
    resumed = BestScore()
    resumed.load_state_dict(best.state_dict())
    assert not resumed.update(2, {"dice": 0.3})
    assert resumed.update(3, {"dice": 0.5})
    assert resumed.state_dict() == {"key": "dice", "mode": "highest", "score": 0.5, "epoch": 3}


def test_nothing_is_best_where_no_score_decides_or_nothing_was_validated():
    assert not BestScore().update(1, {"dice": 1.0})
    best = BestScore("dice")
    assert not best.update(1, {"other": 1.0}, validated=False)
    with pytest.raises(ScoreKeyError, match="'dice'"):
        best.update(2, {"other": 1.0})


@pytest.mark.parametrize(
    ("criterions", "metrics", "words"),
    [
        ({"loss": abs, "reg": abs}, {}, "criterion 'loss' has the name of the sum of all criterions"),
        ({"mse": abs}, {"loss": abs}, "metric 'loss' has the name of the sum"),
        ({"mse": abs}, {"mse": abs}, "'mse' is the name of a criterion and of a metric"),
        ({"epoch": abs}, {}, "criterion 'epoch' has the name of the number of the epoch"),
        ({"mse": abs}, {"step": abs}, "metric 'step' has the name of the number of iterations"),
        ({"mse": abs}, {"lr": abs}, "metric 'lr' has the name of the learning rate"),
        ({"mse": abs}, {"lr_head": abs}, "metric 'lr_head' has the name of the learning rate of optimizer 'head'"),
        ({"val_mse": abs}, {}, "criterion 'val_mse' begins with 'val_', which marks values of validation"),
        ({"mse": abs}, {"iter_x": abs}, "metric 'iter_x' begins with 'iter_'"),
        ({"mse": abs}, {"": abs}, "the name of a metric is a text that is not empty, not ''"),
        ({1: abs}, {}, "the name of a criterion is a text that is not empty, not 1"),
    ],
)
def test_a_name_that_would_mix_two_numbers_is_refused(criterions, metrics, words):
    with pytest.raises(ConfigError, match=words):
        check_value_names(criterions, metrics, ["head"])
    check_value_names({"loss": abs}, {"a/b": abs, "Dice Größe": abs, "lr_tail": abs}, ["head"])


@pytest.mark.parametrize("criterions", [{"mse": abs}, None], ids=["criterion", "loss of the network"])
def test_a_trainer_refuses_them_when_it_is_made(nca, criterions):
    with pytest.raises(ConfigError, match="'mse' is the name of a criterion and of a metric"):
        PyTorchNetworkTrainer(nca(), None, criterions, metrics={"mse": abs})


def test_a_closure_that_gives_a_loss_and_a_metric_one_name_is_refused(make_trainer, linear_network, linear_batches):
    class Own(linear_network):
        @staticmethod
        def closure(model, data_dict, optimizers, criterions, metrics, **kwargs):
            loss = model(data_dict["data"]).mean()
            return {"a": 5.0}, {"a": loss.detach(), "loss": loss.detach()}, None

    trainer = make_trainer(Own(), criterions={"mse": abs})
    with pytest.raises(ConfigError, match="closure returns 'a' as a loss and as a metric"):
        trainer.train(1, linear_batches())


@pytest.mark.parametrize("values", [[1.0], 0.5, {"loss": "x"}, {"loss": torch.zeros(2)}, {"loss": [1.0]}])
def test_values_of_a_routine_become_plain_numbers_and_others_are_refused(values, plain_trainer):
    found = plain_values({"a": np.float32(0.5), "b": torch.tensor([2.0]), "n": 3, "none": None}, "routine")
    assert found == {"a": 0.5, "b": 2.0, "n": 3}
    assert [type(value) for value in found.values()] == [float, float, int]
    trainer = plain_trainer()
    trainer._train_single_epoch = lambda batches, epoch: values
    with pytest.raises(ConfigError, match="_train_single_epoch (has to return a dict|returned .* as 'loss')"):
        trainer.train(1, [{"data": [0]}])


@pytest.mark.parametrize(
    ("training", "validation"), [({"val_loss": 1.0}, {"loss": 2.0}), ({}, {"dice": 1.0, "val_dice": 2.0})]
)
def test_two_values_of_one_name_in_an_epoch_are_refused(training, validation):
    with pytest.raises(ConfigError, match="two values of an epoch are called 'val_"):
        with_validation(training, validation)


def test_a_loss_term_with_the_name_of_a_metric_is_refused_before_the_first_batch(make_trainer, batches):
    term = RolloutLoss(lambda state: state.mean(), name="dice")
    trainer = make_trainer(metrics={"dice": lambda p, q: p.mean()}, callbacks=[term])
    with pytest.raises(ConfigError, match="there is a loss 'dice' already"):
        trainer.train(1, batches(2))
    assert trainer.step == 0
