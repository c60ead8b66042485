"""Learning rates over a training are those that torch's own schedulers give."""

import pytest
import torch
from torch.optim import lr_scheduler

from delira_nca.errors import ConfigError, ScoreKeyError
from delira_nca.training.callbacks import LambdaCallback, LRSchedulerCallback
from delira_nca.training.callbacks.optimization import warn_of_vanishing_rate


def _down_and_up(optimizer):
    parts = [lr_scheduler.ExponentialLR(optimizer, 0.1), lr_scheduler.ConstantLR(optimizer)]
    return lr_scheduler.SequentialLR(optimizer, parts, [9])


CASES = [
    (lr_scheduler.StepLR, {"step_size": 2, "gamma": 0.5}, "epoch"),
    (lr_scheduler.ExponentialLR, {"gamma": 0.9}, "epoch"),
    (lr_scheduler.CosineAnnealingLR, {"T_max": 4}, "epoch"),
    (lr_scheduler.LambdaLR, {"lr_lambda": lambda n: 1 / (n + 1)}, "epoch"),
    (lr_scheduler.MultiStepLR, {"milestones": [3, 7], "gamma": 0.3}, "iteration"),
    (lr_scheduler.OneCycleLR, {"max_lr": 0.1, "total_steps": 12}, "iteration"),
    (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 3}, "iteration"),
]


def _rate(trainer):
    return trainer.optimizers["default"].param_groups[0]["lr"]


def _rates_of_torch(cls, params, number):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
    scheduler = cls(optimizer, **params)
    rates = []
    for _ in range(number):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.fixture
def rates(make_trainer, batches):
    """Rate at each iteration of a training of 5 epochs, two iterations each."""

    def run(*callbacks, num_epochs=5, **kwargs):
        seen = []
        watch = LambdaCallback(at_iter_begin=lambda t, train: seen.append(_rate(t)) if train else None)
        trainer = make_trainer(callbacks=[*callbacks, watch], **kwargs)
        trainer.train(num_epochs, batches(1, 1), batches(1))
        return seen

    return run


@pytest.mark.parametrize(("cls", "params", "every"), CASES, ids=[case[0].__name__ for case in CASES])
def test_rates_are_torch_s_own(rates, cls, params, every):
    seen = rates(LRSchedulerCallback(cls, params, every=every))
    if every == "iteration":
        assert seen == _rates_of_torch(cls, params, 10)
    else:
        assert seen == [rate for rate in _rates_of_torch(cls, params, 5) for _ in range(2)]


PLATEAU = lr_scheduler.ReduceLROnPlateau
OF_TRAINER = {"lr_scheduler_cls": PLATEAU, "lr_scheduler_params": {"patience": 0, "factor": 0.1, "cooldown": 5}}
OWN = LRSchedulerCallback(PLATEAU, {"patience": 1, "factor": 0.1}, monitor_key="score")


@pytest.mark.parametrize(
    ("given", "scores", "mode", "expected"),
    [
        ({"callbacks": [OWN]}, [1.0, 0.5, 0.6, 0.7, 0.4, 0.3], "lowest", [1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-3]),
        (OF_TRAINER, [1.0, 0.5, 0.75], "highest", [1e-2, 1e-3, 1e-3]),
        (OF_TRAINER, [1.0, 0.5, 0.75], "lowest", [1e-2, 1e-2, 1e-3]),
    ],
    ids=["of its own score", "of what decides, highest", "of what decides, lowest"],
)
def test_a_score_that_does_not_get_better_lowers_the_rate(make_trainer, batches, given, scores, mode, expected):
    left, rates = iter(scores), []
    watch = LambdaCallback(at_checkpoint=lambda trainer: rates.append(_rate(trainer)))
    trainer = make_trainer(
        metrics={"score": lambda pred, label: torch.tensor(next(left))},
        **{**given, "callbacks": [*given.get("callbacks", ()), watch]},
    )
    trainer.train(len(scores), batches(1), val_score_key="score", val_score_mode=mode)
    assert rates == pytest.approx(expected)


def test_a_score_is_followed_only_in_epochs_that_measure_it(make_trainer, batches):
    callback = LRSchedulerCallback(PLATEAU, {"patience": 9}, monitor_key="val_mse")
    make_trainer(callbacks=[callback]).train(5, batches(1), batches(1), val_freq=2)
    assert callback.state_dict()["default"]["last_epoch"] == 2


def test_every_optimizer_has_a_schedule_of_its_own(make_trainer, batches):
    def two(network, cls, lr):
        return {
            "slow": cls(network.rule.hidden.parameters(), lr=lr / 10),
            "fast": cls(network.rule.last.parameters(), lr=lr),
        }

    trainer = make_trainer(optim_fn=two, callbacks=[LRSchedulerCallback(lr_scheduler.ExponentialLR, {"gamma": 0.5})])
    trainer.train(2, batches(1))
    assert {name: o.param_groups[0]["lr"] for name, o in trainer.optimizers.items()} == pytest.approx(
        {"slow": 2.5e-4, "fast": 2.5e-3}
    )


def test_a_callback_that_is_used_again_follows_the_new_trainer_and_goes_on_in_a_second_training(make_trainer, batches):
    callback = LRSchedulerCallback(lr_scheduler.ExponentialLR, {"gamma": 0.5})
    for fold in (0, 1):
        trainer = make_trainer(callbacks=[callback], fold=fold)
        trainer.train(1, batches(1))
        trainer.train(3, batches(1))
        assert _rate(trainer) == pytest.approx(1e-2 / 8), fold


class Own:
    """A scheduler without a state."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        pass


@pytest.mark.parametrize(
    ("callback", "text"),
    [
        (LRSchedulerCallback(lr_scheduler.StepLR, {"stepsize": 2}), "do not fit StepLR"),
        (LRSchedulerCallback(lr_scheduler.StepLR), "do not fit StepLR"),
        (LRSchedulerCallback(lr_scheduler.OneCycleLR, {"max_lr": 1.0}), "do not fit OneCycleLR"),
        (LRSchedulerCallback(Own), "scheduler Own has no state_dict, without which no run resumes"),
        (LRSchedulerCallback(lr_scheduler.ReduceLROnPlateau), "monitor_key"),
        (LRSchedulerCallback(lr_scheduler.ReduceLROnPlateau, monitor_key="msee"), "Did you mean 'mse'"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused_before_the_first_batch(make_trainer, batches, callback, text):
    trainer = make_trainer(callbacks=[callback])
    with pytest.raises(ConfigError, match=text) as raised:
        trainer.train(1, batches(1))
    assert isinstance(raised.value, ScoreKeyError) == (callback.monitor_key == "msee")
    assert trainer.global_iter_num == 0


@pytest.mark.parametrize(
    ("make", "num_epochs", "warns"),
    [
        (lambda o: lr_scheduler.ExponentialLR(o, 0.9), 5000, True),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.99), 5000, True),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.9), 700, True),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.9), 200_000, True),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.99), 200, False),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.9999), 5000, False),
        (lambda o: lr_scheduler.ExponentialLR(o, 1.0), 5000, False),
        (lambda o: lr_scheduler.StepLR(o, 1, 0.1), 100, True),
        (lambda o: lr_scheduler.StepLR(o, 50, 0.1), 100, False),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5), 100, False),
        (lambda o: lr_scheduler.LambdaLR(o, lambda n: min(1.0, n / 100)), 200, False),
        (lambda o: lr_scheduler.LambdaLR(o, lambda n: min(1.0, n / 100)), 1, False),  # the only rate is 0
        (_down_and_up, 99, False),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o), 100, False),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.5), 3, False),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.5), None, False),
    ],
)
def test_a_rate_that_vanishes_early_is_a_warning_that_changes_nothing(make, num_epochs, warns, caplog):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    optimizer.step()
    scheduler = make(optimizer)

    def state():
        return optimizer.param_groups[0]["lr"], scheduler.state_dict().get("last_epoch")

    before = state()
    warn_of_vanishing_rate(scheduler, optimizer, num_epochs, "lr_gamma")
    assert state() == before
    assert caplog.text.count("lr_gamma: the learning rate falls") == len(caplog.records) == warns
