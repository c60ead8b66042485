"""A script in delira's style: its own network, closure, trainer, data manager and experiment."""

import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.data_loading import BaseDataManager, RandomSampler
from delira_nca.errors import ShapeError
from delira_nca.experiment import BaseExperiment, Parameters, PyTorchExperiment
from delira_nca.models import AbstractPyTorchNetwork
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import AbstractCallback

CALLS = []


class Classifier(AbstractPyTorchNetwork):
    """Sums pixels; its closure knows nothing of what this package adds to delira's."""

    def __init__(self, in_channels=1, n_outputs=1):
        super().__init__(in_channels=in_channels, n_outputs=n_outputs)
        self.module = nn.Conv2d(in_channels, n_outputs, 8)

    def forward(self, x):
        return [self.module(x).flatten(1)]

    @staticmethod
    def closure(model, data_dict, optimizers, criterions, metrics, fold=0, batch_nr=0):
        CALLS.append((fold, batch_nr))
        loss_vals, metric_vals, total = {}, {}, 0
        with torch.set_grad_enabled(bool(optimizers)):
            preds = model(data_dict["data"])
            for key, criterion in criterions.items():
                loss = criterion(preds[0], data_dict["label"])
                loss_vals[key] = loss.item()
                total = total + loss
            with torch.no_grad():
                for key, metric in metrics.items():
                    metric_vals[key] = metric(preds[0], data_dict["label"]).item()
        if optimizers:
            optimizers["default"].zero_grad()
            total.backward()
            optimizers["default"].step()
        else:
            metric_vals = {f"val_{key}": value for key, value in metric_vals.items()}
            loss_vals = {f"val_{key}": value for key, value in loss_vals.items()}
        return metric_vals, loss_vals, [pred.detach() for pred in preds]

    @staticmethod
    def prepare_batch(batch, input_device, output_device):
        return {
            "data": torch.from_numpy(batch["data"]).to(input_device, torch.float),
            "label": torch.from_numpy(batch["label"]).to(output_device, torch.float),
        }


class Trainer(PyTorchNetworkTrainer):
    """Overrides hooks with fewer arguments, and an epoch that returns nothing."""

    ended = 0

    def _at_training_begin(self):
        super()._at_training_begin()

    def _at_training_end(self):
        self.ended += 1
        return super()._at_training_end()

    def _train_single_epoch(self, batchgen, epoch):
        super()._train_single_epoch(batchgen, epoch)


@pytest.fixture
def data():
    images = np.random.default_rng(0).random((12, 1, 8, 8))
    return {"data": images, "label": images.mean((1, 2, 3))[:, None]}


@pytest.fixture
def trainer(tmp_path):
    CALLS.clear()
    return Trainer(
        Classifier(), tmp_path, {"mse": nn.MSELoss()}, torch.optim.SGD, {"lr": 1e-3}, {"mae": nn.L1Loss()}, fold="2"
    )


def test_a_training_of_an_own_network_runs_to_its_end(trainer, data):
    manager = BaseDataManager(data, 4, 0, transforms=None, sampler_cls=RandomSampler)
    network = trainer.train(3, manager, BaseDataManager(data, 6), "mse", "lowest")
    assert isinstance(network, Classifier)
    assert [sorted(row) for row in trainer.history] == [["epoch", "mae", "mse", "val_mae", "val_mse"]] * 3
    assert trainer.history[-1]["val_mse"] < trainer.history[0]["val_mse"]
    assert trainer.best.score == min(row["val_mse"] for row in trainer.history)
    assert (trainer.fold, trainer.ended) == (2, 1)
    assert CALLS[:5] == [(2, 0), (2, 1), (2, 2), (2, 0), (2, 1)]  # three batches, then two of validation


def test_predictions_in_a_list_come_back_as_an_array(trainer, data):
    manager = BaseDataManager(data, 5)
    predictions, labels, means = trainer.predict(manager.get_batchgen(), batchsize=4)
    assert predictions.shape == (12, 1)
    assert [len(label) for label in labels] == [4, 4, 4]
    assert means["mse"] == pytest.approx(((predictions - data["label"]) ** 2).mean(), rel=1e-5)


def test_the_end_of_a_training_that_failed_is_told_to_callbacks(trainer, data):
    errors = []

    class Fails(AbstractCallback):
        def at_epoch_end(self, trainer):
            raise RuntimeError("mine")

        def at_training_end(self, trainer, exception):
            errors.append(str(exception))

    trainer.register_callback(Fails())
    with pytest.raises(RuntimeError, match="mine"):
        trainer.train(1, BaseDataManager(data, 4))
    assert len(errors) == 1
    assert "mine" in errors[0]


def test_an_experiment_trains_tests_and_cross_validates_it(data, tmp_path):
    assert BaseExperiment is PyTorchExperiment
    params = Parameters(
        fixed_params={
            "model": {"in_channels": 1, "n_outputs": 1},
            "training": {
                "num_epochs": 2,
                "batch_size": 4,
                "optimizer_cls": torch.optim.Adam,
                "optimizer_params": {"lr": 1e-3},
                "criterions": {"mse": nn.MSELoss()},
            },
        }
    )
    experiment = PyTorchExperiment(params, Classifier, "own", tmp_path, "mse")
    network = experiment.run(BaseDataManager(data, 4), BaseDataManager(data, 4))
    predictions, metrics = experiment.test(network, BaseDataManager(data, 3), {"mae": nn.L1Loss()})
    assert predictions.shape == (12, 1)
    assert metrics["mae"] == pytest.approx(np.abs(predictions - data["label"]).mean(), rel=1e-5)
    folds = experiment.kfold(BaseDataManager(data, 4), {"mae": nn.L1Loss()}, num_epochs=1, num_splits=2, val_split=None)
    assert len(folds.folds) == 2


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_criterion_that_broadcasts_in_an_own_closure_is_refused(trainer, data):
    data["label"] = data["label"][:, 0]
    with pytest.raises(ShapeError, match=r"criterion 'mse' broadcasts its arguments: pred \(4, 1\), label \(4,\)"):
        trainer.train(1, BaseDataManager(data, 4))
