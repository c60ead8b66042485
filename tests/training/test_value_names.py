"""Names under which losses and metrics are recorded."""

import pytest

from delira_nca.errors import ConfigError
from delira_nca.training.callbacks import AbstractCallback
from delira_nca.training.value_names import check_value_names


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


def test_other_names_are_taken():
    check_value_names({"loss": abs}, {"a/b": abs, "Dice Größe": abs, "lr_tail": abs}, ["head"])


def test_a_trainer_refuses_them_when_it_is_made(make_trainer):
    with pytest.raises(ConfigError, match="'mse' is the name of a criterion and of a metric"):
        make_trainer(metrics={"mse": abs})


def test_a_loss_term_with_the_name_of_a_metric_is_refused_before_the_first_batch(make_trainer, batches):
    from delira_nca.training.callbacks import RolloutLoss

    seen = []

    class Spy(AbstractCallback):
        def at_iter_begin(self, trainer):
            seen.append(1)

    term = RolloutLoss(lambda state: state.mean(), name="dice")
    with pytest.raises(ConfigError, match="there is a loss 'dice' already"):
        make_trainer(metrics={"dice": lambda p, q: p.mean()}, callbacks=[term, Spy()]).train(1, batches(2))
    assert seen == []
