"""Settings follow their schedules in a training, also in one that is resumed."""

import pytest
import torch

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import LambdaCallback, RolloutLoss, ScheduleCallback
from delira_nca.training.callbacks.schedule import find_path
from delira_nca.training.schedules import Schedule


@pytest.fixture
def make_trainer(image_trainer):
    def make(path=None, schedules=None, callbacks=(), **options):
        callbacks = [*callbacks, *([ScheduleCallback(schedules)] if schedules else [])]
        options = {"optimizer_cls": torch.optim.SGD, "optimizer_params": {"lr": 0.1}, **options}
        return image_trainer(path, callbacks=callbacks, **options)

    return make


SCHEDULES = {
    "optimizer.lr": Schedule.decay(0.5, every=3),
    "model.fire_rate": Schedule.linear(0.5, 1.0, 8),
    "model.training_timesteps": {"updates": [(4, (3, 5))]},
    "loss.overflow.weight": lambda step: 0.1 * step,
}


def overflow(state):
    return (state - state.clamp(-1, 1)).abs().mean()


def test_settings_have_the_values_of_the_step(make_trainer, image_batches):
    seen = []

    def look(trainer, global_iter_num):
        term = trainer.loss_terms["overflow"]
        network = trainer.network
        row = (trainer.optimizers["default"].param_groups[0]["lr"], network.fire_rate)
        seen.append((*row, network.training_timesteps, round(term.weight, 6)))

    trainer = make_trainer(
        schedules=SCHEDULES, callbacks=[RolloutLoss(overflow, name="overflow"), LambdaCallback(at_iter_done=look)]
    )
    trainer.train(2, image_batches(4))
    expected = [(0.1 * 0.5 ** (n // 3), 0.5 + n / 16, (3, 5) if n >= 4 else 3, round(0.1 * n, 6)) for n in range(8)]
    assert seen == [pytest.approx(row) if not isinstance(row[2], tuple) else row for row in expected]
    assert trainer.history[-1]["optimizer.lr"] == pytest.approx(0.1 * 0.25)
    assert trainer.history[-1]["model.fire_rate"] == pytest.approx(0.5 + 7 / 16)
    assert "model.training_timesteps" not in trainer.history[-1]


def test_a_resumed_training_is_the_one_that_was_not_stopped(make_trainer, image_batches, tmp_path):
    straight = make_trainer(tmp_path / "a", SCHEDULES, [RolloutLoss(overflow, name="overflow")])
    straight.train(4, image_batches(4))
    make_trainer(tmp_path / "b", SCHEDULES, [RolloutLoss(overflow, name="overflow")]).train(2, image_batches(4))
    resumed = make_trainer(tmp_path / "b", SCHEDULES, [RolloutLoss(overflow, name="overflow")])
    resumed.train(4, image_batches(4), resume="auto")
    assert resumed.history == straight.history
    for ours, theirs in zip(resumed.network.parameters(), straight.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("optimizer.lrr", "Did you mean 'lr'"),
        ("optimizers.main.lr", "there is no 'main'.*Known: 'default'"),
        ("model.fire_rat", "Did you mean 'fire_rate'"),
        ("model.forward", "is not an attribute of BasicNCAModel"),
        ("pool.num_damaged", "there is no 'pool'"),
        ("loss.overflow.weight", "there is no 'overflow'"),
        ("callbacks.Checkpoin.last", "there is no 'Checkpoin'"),
        ("lr", "has a path such as 'optimizer.lr'"),
        ("modle.fire_rate", "Did you mean 'model'"),
    ],
)
def test_a_path_to_nothing_fails_at_the_start_with_candidates(make_trainer, image_batches, path, text):
    trainer = make_trainer(schedules={path: Schedule.linear(0.0, 1.0, 5)})
    with pytest.raises(UnknownNameError, match=text):
        trainer.train(1, image_batches(1))
    assert trainer.global_iter_num == 0


def test_a_learning_rate_has_one_schedule(make_trainer, image_batches):
    trainer = make_trainer(
        schedules={"optimizer.lr": Schedule(dec=0.5)},
        lr_scheduler_cls=torch.optim.lr_scheduler.StepLR,
        lr_scheduler_params={"step_size": 1},
    )
    with pytest.raises(ConfigError, match="has a schedule and a scheduler of torch"):
        trainer.train(1, image_batches(1))


def test_paths_reach_nested_attributes_and_single_optimizers(make_trainer):
    trainer = make_trainer(callbacks=[ScheduleCallback({"model.fire_rate": Schedule.linear(0.5, 1.0, 5)})])
    find_path(trainer, "optimizers.default.momentum").set(0.5)
    assert trainer.optimizers["default"].param_groups[0]["momentum"] == 0.5
    growing = PyTorchNetworkTrainer(BasicNCAModel(**presets.growing()), None, {"mse": mse})
    assert find_path(growing, "model.alive.threshold").get() == growing.network.alive.threshold
    with pytest.raises(UnknownNameError, match="BasicNCAModel has no attribute 'perceptoin'"):
        find_path(trainer, "model.perceptoin.radius")
