"""Targets of any name, and networks with several outputs."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.errors import UnknownNameError
from delira_nca.experiment import Experiment
from delira_nca.losses import mse
from delira_nca.models import AbstractPyTorchNetwork
from delira_nca.training import PyTorchNetworkTrainer

KEYS = {"mask_loss": ("mask", "seg"), "size_loss": ("size", "volume"), "error": ("size", "volume")}


@dataclasses.dataclass
class Output:
    """What the network gives."""

    mask: torch.Tensor
    size: torch.Tensor


class Named(NamedTuple):
    """The same as a named tuple."""

    mask: torch.Tensor
    size: torch.Tensor


class TwoHeads(AbstractPyTorchNetwork):
    """A mask and a number of each image, as a dict, a list or a dataclass."""

    def __init__(self, kind="dict"):
        super().__init__(kind=kind)
        self.kind = kind
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.body, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(1, 1)

    def forward(self, x):
        mask = self.body(x)
        size = self.head(mask.mean((2, 3)))
        outputs = {"dict": {"mask": mask, "size": size}, "list": [mask, size], "tuple": Named(mask, size)}
        outputs["optional"] = {**outputs["dict"], "other": None, "scale": 2.0, "mean": mask.mean()}
        return outputs.get(self.kind, Output(mask, size))


def _data(length=7):
    images = np.random.default_rng(0).random((length, 1, 6, 6), dtype=np.float32)
    return {"data": images, "seg": images**2, "volume": images.mean((2, 3))}


def _batches(size, *names):
    data = {name: value for name, value in _data().items() if not names or name in names}
    return [{k: v[i : i + size] for k, v in data.items()} for i in range(0, 7, size)]


@pytest.fixture(params=["dict", "list", "dataclass", "tuple"])
def trainer(request):
    names = {"mask": "0", "size": "1"} if request.param == "list" else {}
    keys = {name: tuple(names.get(key, key) for key in wired) for name, wired in KEYS.items()}
    return PyTorchNetworkTrainer(
        TwoHeads(request.param),
        None,
        {"mask_loss": mse, "size_loss": mse},
        torch.optim.SGD,
        {"lr": 0.0},
        {"error": mse},
        metric_keys=keys,
    )


def test_they_are_trained_validated_and_predicted(trainer):
    trainer.train(1, _batches(3), _batches(2))
    predictions, labels, values = trainer.predict(_batches(3))
    row = trainer.history[0]
    assert values == pytest.approx({name: row[f"val_{name}"] for name in values}, rel=1e-5)
    assert sorted(values) == ["error", "loss", "mask_loss", "size_loss"]
    assert [p.shape for p in predictions.values()] == [(7, 1, 6, 6), (7, 1)]
    assert [sorted(batch) for batch in labels] == [["seg", "volume"]] * 3
    assert np.array_equal(np.concatenate([batch["volume"] for batch in labels]), _data()["volume"])


def test_what_has_no_target_is_left_out(trainer):
    predictions, labels, values = trainer.predict(_batches(4, "data", "volume"))
    assert sorted(values) == ["error", "size_loss"]
    assert [list(batch) for batch in labels] == [["volume"]] * 2
    predictions, labels, values = trainer.predict(_batches(4, "data"))
    assert (labels, values) == ([], {})
    assert next(iter(predictions.values())).shape == (7, 1, 6, 6)


def test_outputs_whose_shapes_differ_are_lists_of_batches():
    trainer = PyTorchNetworkTrainer(TwoHeads(), None, {"size": mse}, metric_keys={"size": ("size", "volume")})
    batches = [{"data": np.ones((2, 1, side, side), np.float32)} for side in (4, 5)]
    predictions = trainer.predict(batches)[0]
    assert [part.shape for part in predictions["mask"]] == [(2, 1, 4, 4), (2, 1, 5, 5)]
    assert predictions["size"].shape == (4, 1)


def test_parts_that_are_none_are_left_out_and_numbers_come_once_for_each_batch():
    trainer = PyTorchNetworkTrainer(TwoHeads("optional"), None, {"size": mse}, metric_keys={"size": ("size", "volume")})
    predictions = trainer.predict(_batches(3))[0]
    assert {name: part.shape for name, part in predictions.items()} == {
        "mask": (7, 1, 6, 6),
        "size": (7, 1),
        "scale": (3,),
        "mean": (3,),
    }


def test_a_prediction_that_is_a_named_tuple_holds_no_graph():
    network, batch = TwoHeads("tuple"), _batches(3)[0]
    data_dict = network.prepare_batch(batch, "cpu", "cpu")
    optimizers = {"default": torch.optim.SGD(network.parameters(), 0.1)}
    keys = {"size": ("size", "volume")}
    prediction = network.closure(network, data_dict, optimizers, {"size": mse}, {}, keys=keys)[2]
    assert [part.requires_grad for part in prediction] == [False, False]
    assert isinstance(prediction, Named)


@pytest.mark.parametrize("kind", ["dict", "tuple", "dataclass", "optional"])
def test_folds_are_tested_on_what_the_training_is_wired_to(kind, tmp_path):
    training = {"num_epochs": 1, "batch_size": 3, "criterions": {"error": mse}, "metric_keys": {"error": KEYS["error"]}}
    experiment = Experiment({"model": {"kind": kind}, "training": training}, TwoHeads, "t", tmp_path)
    result = experiment.kfold(
        _data(), {"error": mse, "seg": mse}, num_splits=2, val_split=None, metric_keys={"seg": ("mask", "seg")}
    )
    for fold in result.folds:
        volume = _data()["volume"][list(fold.indices)]
        assert fold.metrics["error"] == pytest.approx(((fold.predictions["size"] - volume) ** 2).mean(), rel=1e-5)
        seg = _data()["seg"][list(fold.indices)]
        assert fold.metrics["seg"] == pytest.approx(((fold.predictions["mask"] - seg) ** 2).mean(), rel=1e-5)


def test_a_metric_of_folds_without_its_target_is_refused_before_a_fold_is_trained(tmp_path):
    training = {"num_epochs": 1, "batch_size": 3, "criterions": {"error": mse}, "metric_keys": {"error": KEYS["error"]}}
    experiment = Experiment({"model": {}, "training": training}, TwoHeads, "t", tmp_path)
    with pytest.raises(UnknownNameError, match="'other' is wired to 'pred', which is not there"):
        experiment.kfold(_data(), {"other": mse}, num_splits=2, val_split=None)
    assert not (tmp_path / "t").exists()
