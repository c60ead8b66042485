"""Unsuitable data, functions and settings raise an error with their name, before any work is lost."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.data_loading import DataManager
from delira_nca.errors import ConfigError, DeliraNCAError, ShapeError, UnknownNameError
from delira_nca.experiment import Experiment
from delira_nca.logging import JSONLSink
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.ncalab import BasicNCATrainer
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import Checkpoint, LambdaCallback, MetricLogger

IMAGES = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)
DATA = {"data": IMAGES, "label": (IMAGES > 0.5).astype(np.float32)}
SETTINGS = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8}


def manager(data=DATA):
    return DataManager(data, 2)


class DeliraStyle(PyTorchNetworkTrainer):
    """A routine as in delira, which counts no steps and returns nothing."""

    def _train_single_epoch(self, batchgen, epoch):
        for number, batch in enumerate(batchgen):
            data = self.network.prepare_batch(batch, self.input_device, self.output_device)
            self.network.closure(self.network, data, self.optimizers, self.criterions, self.metrics, batch_nr=number)


def fail_in(epoch):
    def fail(trainer, curr_epoch):
        if curr_epoch == epoch:
            raise RuntimeError("the disk is gone")

    return LambdaCallback(at_epoch_begin=fail)


def test_a_routine_that_counts_no_steps_keeps_its_run_and_its_records(tmp_path):
    config = {"model": {**SETTINGS, "training_timesteps": 3, "inference_timesteps": 3}}
    config["training"] = {"criterions": {"mse": mse}, "num_epochs": 6, "batch_size": 2}
    experiment = Experiment(config, BasicNCAModel, "e", tmp_path, trainer_cls=DeliraStyle, callbacks=[fail_in(4)])
    with pytest.raises(DeliraNCAError, match="the disk is gone"):
        experiment.run(DATA)
    run = tmp_path / "e" / "run"
    assert [path.stem for path in run.rglob("checkpoint_epoch_3*")] == ["checkpoint_epoch_3"]
    experiment = Experiment(config, BasicNCAModel, "e", tmp_path, trainer_cls=DeliraStyle, callbacks=[fail_in(9)])
    experiment.resume(run, DATA)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]


def test_checkpoints_are_written_by_the_time_of_the_trainer_with_a_callback_of_ones_own(image_trainer, tmp_path):
    class Clock:
        now = 0.0

        def __call__(self):
            self.now += 1.0
            return self.now

    trainer = image_trainer(tmp_path, save_seconds=1.0, callbacks=[Checkpoint(last=0, clock=Clock())])
    seen = []
    trainer.register_callback(
        LambdaCallback(at_iter_begin=lambda trainer, **event: seen.extend(tmp_path.glob("*_iter_*")))
    )
    trainer.train(1, DataManager(DATA, 1))
    assert seen
    assert "every 1s" in trainer.describe()
    with pytest.raises(ConfigError, match=r"save_freq=0 writes no checkpoints, but save_seconds=0\.1"):
        image_trainer(tmp_path / "none", save_seconds=0.1, save_freq=0)


def test_an_epoch_in_which_an_own_validation_measures_nothing_is_not_the_best(image_trainer):
    class Sometimes(PyTorchNetworkTrainer):
        def _validate_single_epoch(self, batchgen, epoch):
            return {} if epoch % 2 else {"dice": epoch / 10}

    trainer = image_trainer(cls=Sometimes)
    trainer.train(5, manager(), manager(), "dice", "highest")
    assert (trainer.best.epoch, trainer.best.score) == (4, 0.4)


@pytest.mark.parametrize("change", ["channels", "label", "missing"])
def test_validation_data_that_do_not_fit_are_refused_before_the_first_step(image_trainer, change):
    other = {
        "channels": {**DATA, "data": IMAGES.repeat(2, 1)},
        "label": {**DATA, "label": DATA["label"].repeat(2, 1)},
        "missing": {"data": IMAGES},
    }[change]
    trainer = image_trainer()
    with pytest.raises((ShapeError, UnknownNameError), match="data|label"):
        trainer.train(2, manager(), manager(other))
    assert trainer.step == 0


@pytest.mark.parametrize(
    "source",
    [[(torch.rand(2, 1, 8, 8),) * 2], "d.npz", DATA, None, [{name: values[:0] for name, values in DATA.items()}]],
    ids=["tuples", "path", "dict", "none", "empty"],
)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_what_predict_cannot_take_is_named_and_a_data_manager_is_taken(image_trainer, source, batch_size):
    trainer = image_trainer()
    with pytest.raises(ConfigError, match="batch"):
        trainer.predict(source, batch_size)
    assert trainer.predict(manager(), batch_size)[0].shape == (4, 1, 8, 8)


class Restarting:
    """A loader that is an iterator and restarts for each loop, as those of batchgenerators."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        self.left = iter(self.batches)
        return self

    def __next__(self):
        return next(self.left)


def test_iterators_that_end_after_one_epoch_are_refused_and_those_that_restart_are_accepted(image_trainer):
    batches, trainer = [dict(batch) for batch in manager().get_batchgen()], image_trainer()
    with pytest.raises(ConfigError, match="datamgr_train is an iterator, which ends after one epoch"):
        trainer.train(2, iter(batches))
    trainer.train(1, iter(batches))
    trainer.train(3, Restarting(batches), Restarting(batches))
    assert trainer.step == 6


class Popping(AbstractPyTorchNetwork):
    """prepare_batch and closure of delira take entries out of their dicts."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, images):
        return self.layer(images)

    @staticmethod
    def prepare_batch(batch, input_device, output_device):
        prepared = {"data": torch.as_tensor(batch.pop("data")).to(input_device)}
        return {**prepared, **{name: torch.as_tensor(value).to(output_device) for name, value in batch.items()}}

    @staticmethod
    def closure(model, data_dict, optimizers, criterions, metrics, **options):
        pred = model(data_dict.pop("data"))
        losses = {name: function(pred, data_dict["label"]) for name, function in criterions.items()}
        if optimizers:
            optimizers["default"].zero_grad()
            losses["mse"].backward()
            optimizers["default"].step()
        return {}, {name: loss.detach() for name, loss in losses.items()}, [pred]


def test_networks_may_take_entries_out_of_their_batches(image_trainer):
    seen = []
    watch = LambdaCallback(at_iter_end=lambda trainer, data_dict, **event: seen.append(set(data_dict)))
    batches = [dict(batch) for batch in manager().get_batchgen()]
    image_trainer(network=Popping(), callbacks=[watch]).train(2, batches, batches)
    assert seen == [{"data", "label"}] * 8


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "metrics, losses and prediction, not None"),
        (({}, {}), "not 2 values"),
        (({}, [1.0], None), "losses as a dict"),
        (({"dice": np.ones(3)}, {"mse": 1.0}, None), r"'dice' of a batch has to be one number, not a ndarray of shape"),
        (({"dice": "x"}, {"mse": 1.0}, None), "'dice' of a batch has to be one number, not 'x'"),
    ],
)
def test_results_of_a_closure_that_cannot_be_used_are_named(image_trainer, returned, words):
    class Network(Popping):
        @staticmethod
        def closure(model, data_dict, optimizers, criterions, metrics, **options):
            return returned

    with pytest.raises(ConfigError, match=words):
        image_trainer(network=Network()).train(1, manager())


STEP = torch.optim.lr_scheduler.StepLR


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr_scheduler_params": {"gamma": 0.1}}, "lr_scheduler_params"),
        ({"optimizer_params": {"lr": float("inf")}}, "learning rate of optimizer 'default' is not finite"),
        ({"mixed_precision": True}, "mixed_precision"),
        ({"metric_keys": {"mse": None}}, "metric_keys"),
        *(({"device": device}, "device") for device in ("meta", "mps", 5.5)),
        ({"optimizer_cls": torch.optim.SparseAdam, "optimizer_params": {}}, "SparseAdam"),
        ({"optimizer_cls": torch.optim.Adam, "optimizer_params": {"capturable": True}}, "capturable"),
    ],
)
def test_settings_without_effect_or_that_cannot_work_are_refused(image_network, image_trainer, options, words):
    network = image_network().double() if "mixed_precision" in options else image_network()
    with pytest.raises(ConfigError, match=words):
        image_trainer(network=network, **options)


def test_settings_that_cannot_work_are_refused_before_the_first_step(image_network, image_trainer):
    never = image_trainer(lr_scheduler_cls=STEP, lr_scheduler_params={"step_size": 0})
    with pytest.raises(ConfigError, match="StepLR with .*fails: ZeroDivisionError"):
        never.train(2, manager())
    with pytest.raises(ConfigError, match="training_timesteps of at least 1, not 0"):
        image_trainer(network=image_network(training_timesteps=0)).train(1, manager())
    with pytest.raises(ConfigError, match="val_freq=5 is more than num_epochs=3"):
        image_trainer().train(3, manager(), manager(), "mse", "lowest", val_freq=5)


def test_a_scheduler_is_tried_on_a_copy_and_lazy_rules_are_initialised_with_the_model(image_network, image_trainer):
    network = image_network(rule=nn.LazyConv2d(4, 1))
    options = {"optimizer_cls": torch.optim.SGD, "optimizer_params": {"lr": torch.tensor(0.1)}}
    scheduler = {"lr_scheduler_cls": STEP, "lr_scheduler_params": {"step_size": 5}}
    trainer = image_trainer(network=network, **options, **scheduler)
    trainer.train(1, manager())
    assert float(trainer.optimizers["default"].param_groups[0]["lr"]) == pytest.approx(0.1)
    assert network.rule.weight.shape == (4, 15, 1, 1)


def test_batches_of_ncalab_may_be_lists_and_other_objects_are_refused(image_network):
    pairs = [{"data": IMAGES.tolist(), "label": DATA["label"].tolist()}]
    assert BasicNCATrainer(image_network(), None, max_epochs=1).train(pairs).current_epoch == 1
    with pytest.raises(ConfigError, match="'data' of a batch must be numbers"):
        BasicNCATrainer(image_network(), None, max_epochs=1).train([{"data": np.array([None]), "label": np.zeros(1)}])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (nn.Conv3d(15, 4, 1), "Conv3d takes 3 spatial dimensions, but the model has 2"),
        (nn.Linear(15, 4), "use a convolution of size 1"),
    ],
)
def test_rules_of_other_dimensions_are_refused(image_network, rule, words):
    with pytest.raises(ShapeError, match=words):
        image_network(rule=rule)


def test_validation_may_have_another_size_and_labels_without_channels(image_trainer):
    def loss(pred, label):
        return mse(pred[:, 0], label)

    whole = np.random.default_rng(1).random((2, 1, 12, 12), dtype=np.float32)
    crops = manager({"data": IMAGES, "label": IMAGES[:, 0]})
    trainer = image_trainer(criterions={"mse": loss})
    trainer.train(1, crops, manager({"data": whole, "label": whole[:, 0]}))
    assert len(trainer.history) == 1


def test_logits_of_a_teacher_in_the_batch_are_not_replaced(image_trainer):
    data = {**DATA, "logits": DATA["label"] + 7}
    trainer = image_trainer(metric_keys={"mse": ("pred", "logits")})
    trainer.train(1, manager(data))
    assert trainer.history[0]["mse"] > 30


def test_a_logger_is_not_used_up_by_a_training_that_does_not_start(image_trainer, tmp_path):
    logger = MetricLogger(JSONLSink(tmp_path / "log.jsonl"))

    def fail(trainer):
        raise RuntimeError("not yet")

    with pytest.raises(DeliraNCAError, match="not yet"):
        image_trainer(callbacks=[logger, LambdaCallback(at_training_begin=fail)]).train(1, manager())
    image_trainer(callbacks=[logger]).train(1, manager())
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
