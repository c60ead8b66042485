"""Objects that serve several trainings, and states beside the network, as users' scripts have them."""

import copy
import functools
import logging

import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.data_loading import DataManager, repeat
from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.experiment import StatsRecorder, StoredRun
from delira_nca.logging import JSONLSink, TensorboardXSink
from delira_nca.losses import mse, rmse
from delira_nca.losses.metric import RMSE, as_metric
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.ncalab import BasicNCATrainer, Pool
from delira_nca.ncalab import EarlyStopping as NCALabStopping
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import (
    EarlyStopping,
    LambdaCallback,
    LongRunSelection,
    MetricLogger,
    PoolUpdate,
    RolloutLoss,
    ScheduleCallback,
    ValidationSets,
)


def make_data(count=6):
    images = np.random.default_rng(0).random((count, 1, 8, 8), dtype=np.float32)
    return {"data": images, "label": (images > 0.5).astype(np.float32)}


def manager(count=6):
    return DataManager(make_data(count), 2)


def test_two_trainings_from_one_checkpoint_do_not_share_the_state_of_a_callback(image_trainer, tmp_path):
    image_trainer(tmp_path / "start").train(1, manager())
    stopping, lengths = EarlyStopping("mse", patience=2, min_delta=0.05), []
    for fold in (1, 2):
        trainer = image_trainer(tmp_path / str(fold), callbacks=[stopping])
        trainer.update_state(tmp_path / "start" / "checkpoint_epoch_1.safetensors")
        trainer.train(8, manager(), manager())
        lengths.append(len(trainer.history))
    assert lengths[0] == lengths[1] < 8


def test_early_stopping_and_pool_of_ncalab_serve_each_training_alone(image_network):
    class Loader(list):
        pass

    pairs = Loader([(torch.from_numpy(make_data()["data"]), torch.from_numpy(make_data()["label"]))])

    def epochs_with(stopping):
        trainer = BasicNCATrainer(image_network(), None, max_epochs=6, lr=1e-9)
        return trainer.train(pairs, pairs, earlystopping=stopping).current_epoch

    stopping = NCALabStopping(2)
    assert epochs_with(stopping) == epochs_with(stopping) == epochs_with(NCALabStopping(2)) < 6

    seed, target = make_seed(16, (8, 8)), torch.zeros(4, 8, 8)
    same = [(seed.expand(2, -1, -1, -1), target.expand(2, -1, -1, -1))]

    def losses_with(pool):
        torch.manual_seed(0)
        network = BasicNCAModel(**presets.growing(training_timesteps=3, inference_timesteps=3))
        trainer = BasicNCATrainer(network, None, max_epochs=3, pool=pool)
        return trainer.train(same).loss

    pool = Pool(1, capacity=8)
    assert losses_with(pool) == losses_with(pool) == losses_with(Pool(1, capacity=8))


def size_of_states(states):
    return states.square().mean()


def test_a_schedule_of_a_callback_begins_each_training_with_the_initial_value(image_trainer):
    def losses_of(callbacks):
        trainer = image_trainer(callbacks=callbacks)
        trainer.train(3, manager(4))
        return [row["size"] for row in trainer.history]

    def make_callbacks():
        path = "callbacks.RolloutLoss:size.weight"
        return [RolloutLoss(size_of_states, name="size"), ScheduleCallback({path: {"updates": [(4, 0.0)]}})]

    callbacks = make_callbacks()
    first, second = losses_of(callbacks), losses_of(callbacks)
    assert first == second == losses_of(make_callbacks())
    assert first[2] == 0.0 < first[0]
    assert callbacks[0].weight == 1.0


def test_records_of_one_run_are_not_removed_by_another(image_trainer, tmp_path):
    recorder, logger = StatsRecorder(StoredRun(tmp_path / "run")), MetricLogger(JSONLSink(tmp_path / "log.jsonl"))
    image_trainer(callbacks=[recorder, logger]).train(3, manager(4))
    for callback in (recorder, logger):
        with pytest.raises(ConfigError, match="make one for each run"):
            image_trainer(callbacks=[callback]).train(1, manager(4))
    assert len(StoredRun(tmp_path / "run").training_stats().iteration_stats) == 6
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3


ADDS_LR = LambdaCallback(at_epoch_begin=lambda trainer, **event: {"metrics": {"lr": mse}})


@pytest.mark.parametrize(
    ("callback", "text"),
    [
        *(
            (RolloutLoss(size_of_states, name=name), name)
            for name in ("lr", "epoch", "step", "val_mse", "iter_x", "train/mse")
        ),
        (ADDS_LR, "metric 'lr' has the name of the learning rate"),
    ],
)
def test_reserved_names_of_losses_and_metrics_of_callbacks_are_refused_before_the_first_step(
    image_trainer, callback, text
):
    trainer = image_trainer(callbacks=[callback])
    with pytest.raises(ConfigError, match=text):
        trainer.train(1, manager())
    assert trainer.step == 0


@pytest.mark.parametrize("name", ["lr", "epoch", "val_mse", 5])
def test_reserved_names_of_values_of_a_closure_are_refused_in_the_first_step(image_trainer, name):
    class Network(BasicNCAModel):
        @staticmethod
        def closure(model, data_dict, optimizers, criterions, metrics, **options):
            loss = next(model.parameters()).square().mean()
            loss.backward()
            optimizers["default"].step()
            return {name: 1.0}, {"mse": loss.detach()}, None

    network = Network(num_image_channels=1, num_hidden_channels=3, num_output_channels=1, training_timesteps=3)
    trainer = image_trainer(network=network)
    with pytest.raises(ConfigError, match=str(name)):
        trainer.train(1, manager())
    assert trainer.step == 0


def test_names_of_validation_sets_that_meet_those_of_metrics_are_refused(image_trainer, tmp_path):
    trainer = image_trainer(metrics={"b_mse": rmse}, callbacks=[ValidationSets({"b": manager()})])
    with pytest.raises(ConfigError, match="are called 'b_mse': rename a set"):
        trainer.train(1, manager(), manager())
    for name in ("train/mse", "val/mse"):
        with pytest.raises(ConfigError, match="in TensorBoard"):
            image_trainer(metrics={name: rmse}, callbacks=[MetricLogger(TensorboardXSink(tmp_path))])


class Percent:
    """A metric that contains another, and counts kinds."""

    def __init__(self):
        self.inner, self.kinds = RMSE(), set()

    def update(self, pred, label):
        self.inner.update(pred, label)
        self.kinds.add(round(float(pred.sum()), 3))

    def compute(self):
        return 100 * self.inner.compute() + 1000 * len(self.kinds)

    def reset(self):
        self.inner.reset()
        self.kinds = set()


def test_states_of_nested_metrics_and_sets_continue_within_an_epoch(image_trainer, tmp_path, stop_after):
    def train(folder, *callbacks):
        trainer = image_trainer(tmp_path / folder, metrics={"percent": Percent()}, seed=1, callbacks=callbacks)
        trainer.train(1, DataManager(make_data(12), 2), resume="auto")
        return trainer

    straight = train("straight")
    assert train("stopped", stop_after(3)).history == []
    assert train("stopped").history[0]["percent"] == straight.history[0]["percent"] > 6000
    assert isinstance(as_metric(functools.partial(functools.partial(rmse))), RMSE)


class Weighted(nn.Module):
    """A criterion with a weight that is learned, as in Kendall et al. (2018)."""

    def __init__(self):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))

    def forward(self, pred, label):
        return torch.exp(-self.log_variance) * mse(pred, label) + self.log_variance


def of_both(criterion):
    def make(network, optimizer_cls, **params):
        return {"default": torch.optim.Adam([*network.parameters(), *criterion.parameters()], lr=0.1)}

    return make


def test_criterions_that_learn_are_resumed(image_trainer, tmp_path):
    def train(path, epochs):
        criterion = Weighted()
        trainer = image_trainer(path, criterions={"u": criterion}, optim_fn=of_both(criterion))
        trainer.train(epochs, manager(), resume="auto")
        return trainer, criterion

    straight, first = train(tmp_path / "straight", 4)
    train(tmp_path / "stopped", 2)
    resumed, second = train(tmp_path / "stopped", 4)
    assert resumed.history == straight.history
    assert torch.equal(first.log_variance, second.log_variance)
    assert float(first.log_variance.detach()) != 0.0


def test_optimized_weights_that_no_checkpoint_contains_are_warned_of(image_trainer, tmp_path, caplog):
    image_trainer(tmp_path)
    assert not caplog.text
    image_trainer(tmp_path, optim_fn=of_both(Weighted()))
    assert "changes 1 tensors that belong neither to the network nor to a criterion" in caplog.text


class EveryThird(torch.optim.SGD):
    """An optimizer that accumulates gradients over three calls."""

    calls = 0

    def zero_grad(self, set_to_none=True):
        if self.calls % 3 == 0:
            super().zero_grad(set_to_none)

    def step(self, closure=None):
        self.calls += 1
        return super().step(closure) if self.calls % 3 == 0 else None


@pytest.mark.parametrize(("optimizer", "waits"), [(EveryThird, True), (torch.optim.SGD, False)])
def test_gradients_that_an_optimizer_accumulates_are_in_the_checkpoint(image_trainer, tmp_path, optimizer, waits):
    trainer = image_trainer(tmp_path, optimizer_cls=optimizer)
    trainer.train(1, manager(4))  # two steps
    names = {name for name, _ in trainer.network.named_parameters()}
    assert set(trainer.state_dict()["gradients"]) == (names if waits else set())


class WithExtraState(AbstractPyTorchNetwork):
    def __init__(self, layer=None):
        super().__init__()
        self.layer, self.calls = layer or nn.Conv2d(1, 1, 1), 0

    def forward(self, images):
        self.calls += self.training
        return self.layer(images)

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


@pytest.mark.parametrize("layer", [None, nn.LazyConv2d(1, 1)], ids=["extra state", "lazy layer"])
@pytest.mark.parametrize("score", ["mse", None])
def test_extra_states_and_lazy_layers_are_trained_and_resumed(image_trainer, layer, score, tmp_path):
    for epochs in (2, 4):
        network = WithExtraState(copy.deepcopy(layer))
        trainer = image_trainer(tmp_path, network=network)
        best = trainer.train(epochs, manager(), manager(), score, "lowest", resume="auto")
    assert len(trainer.history) == 4
    assert network.calls == 12
    assert best.calls in (3, 6, 9, 12)


def test_pools_rank_by_the_target_of_the_criterion_and_refuse_batches_without_one(image_trainer):
    seed, target = make_seed(16, (8, 8)), torch.zeros(4, 8, 8)
    data = DataManager(repeat({"data": seed, "picture": target}, 4), 4)
    pool = PoolUpdate(SamplePool(seed, 8))

    def train(name, function, *keys):
        network = BasicNCAModel(**presets.growing(training_timesteps=2, inference_timesteps=2))
        trainer = image_trainer(None, network, {name: function}, metric_keys={name: keys}, callbacks=[pool])
        trainer.train(2, data)
        return trainer

    assert len(train("mse", mse, "pred", "picture").history) == 2
    with pytest.raises(UnknownNameError, match=r"only \['data', 'picture'\]: give score a function"):
        train("own", lambda pred: pred.square().mean(), "pred")


@pytest.mark.parametrize("key", ["label", "picture"])
def test_a_long_run_without_its_target_is_refused_before_the_first_epoch(image_trainer, key):
    seed = make_seed(16, (8, 8))
    network = BasicNCAModel(**presets.growing(training_timesteps=2, inference_timesteps=2))
    selection = LongRunSelection({"data": seed[None]}, factor=2)
    trainer = image_trainer(network=network, metric_keys={"mse": ("pred", key)}, callbacks=[selection])
    with pytest.raises(UnknownNameError, match=key):
        trainer.train(10, DataManager(repeat({"data": seed, key: torch.zeros(4, 8, 8)}, 4), 4))
    assert not trainer.history


def test_deleted_records_are_a_warning(image_trainer, tmp_path, caplog):
    run = StoredRun(tmp_path / "stats")
    image_trainer(tmp_path / "run", callbacks=[StatsRecorder(run)]).train(2, manager())
    with caplog.at_level(logging.WARNING, "delira_nca"):
        resumed = image_trainer(tmp_path / "run", callbacks=[StatsRecorder(run)])
        resumed.train(2, manager(), resume=str(tmp_path / "run" / "checkpoint_epoch_1.safetensors"))
    assert "3 iterations and 0 validations will be done again" in caplog.text
