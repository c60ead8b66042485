"""Assembled losses: what they need, in an order of its own, and a training that uses them."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delira_nca.assembly import (
    Evaluator,
    PlotMaker,
    TrainingModules,
    assemble_for_training,
    build_loss_modules,
    determine_out_in_targ,
    generate_database_info,
    inp,
    l2_penalty,
    over_states,
    pred,
    target,
    term,
)
from delira_nca.data_loading import DataManager, DictDataset
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import RolloutLoss


def make_network():
    torch.manual_seed(0)
    channels = {"num_image_channels": 1, "num_hidden_channels": 4, "num_output_channels": 1}
    return BasicNCAModel(**channels, hidden_size=8, training_timesteps=3, inference_timesteps=3)


def make_data(length=10):
    source = np.random.default_rng(0)
    images = source.random((length, 1, 6, 6)).astype("f4")
    return {"data": images, "seg": (images > 0.5).astype("f4")}


def overflow(state):
    return (state - state.clamp(-2, 2)).abs().sum(1).mean()


def decay(network):
    return 1e-4 * sum(p.square().sum() for p in network.parameters() if p.requires_grad)


def segmentation(network):
    bce = term(F.binary_cross_entropy_with_logits, pred("output", network), target("seg"), name="bce")
    error = term(mse, term(torch.sigmoid, pred("output", network)), target("seg"))
    loss = bce + 0.5 * error + 1e-4 * l2_penalty(network) + 0.1 * over_states(RolloutLoss(overflow, name="overflow"))
    return loss, {"rmse": error**0.5, "all bce": bce}


def test_the_names_that_a_training_needs_are_sorted_by_kind():
    loss, losses = segmentation(make_network())
    modules, db_info = assemble_for_training(loss, losses)
    assert db_info == {"inputs": ["data"], "targets": ["seg"]}
    assert isinstance(modules, TrainingModules)
    assert modules._fields == ("model", "loss", "evaluator")
    outputs, inputs, targets = determine_out_in_targ(loss, term(mse, pred("b"), inp("image")), *losses.values())
    assert [entry.key for entry in outputs] == ["b", "output"]
    assert [entry.key for entry in inputs] == ["image"]
    assert [entry.key for entry in targets] == ["seg"]
    assert list(modules.loss.criterions()) == ["bce", "mse", "l2"]
    assert list(modules.loss.terms) == ["overflow"]


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 20), marks=pytest.mark.slow)], ids=["few", "many"])
def test_the_order_is_the_same_in_every_process(seeds):
    source = (
        "from delira_nca.assembly import *\n"
        "loss = sum((term(abs, pred(p), target(t)) for p, t in zip('yxzw', 'dbca')), 0.0)\n"
        "print(assemble_for_training(loss, [loss])[1], loss.needed_keys())"
    )
    for seed in seeds:
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        printed = subprocess.check_output([sys.executable, "-c", source], env=environment, text=True)
        expected = "{'inputs': ['data'], 'targets': ['a', 'b', 'c', 'd']} ('a', 'b', 'c', 'd', 'w', 'x', 'y', 'z')\n"
        assert printed == expected, seed


def test_a_training_with_an_assembled_loss_is_that_with_the_same_functions():
    data, histories, weights = make_data(), [], []
    for is_assembled in (True, False):
        network = make_network()
        if is_assembled:
            modules, _ = assemble_for_training(*segmentation(network))
            options = {"criterions": modules.loss}
        else:
            options = {
                "criterions": {
                    "bce": F.binary_cross_entropy_with_logits,
                    "mse": lambda logits, seg: 0.5 * mse(torch.sigmoid(logits), seg),
                    "l2": functools.partial(decay, network),
                },
                "metric_keys": {"bce": ("output", "seg"), "mse": ("output", "seg"), "l2": ()},
                "callbacks": [RolloutLoss(overflow, name="overflow", weight=0.1)],
            }
        trainer = PyTorchNetworkTrainer(network, None, optimizer_params={"lr": 1e-2}, **options)
        trainer.train(2, DataManager(data, 4), DataManager(data, 4))
        histories.append(trainer.history)
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(*histories, strict=True):
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-5)
        assert set(ours) - set(theirs) == {"val_rmse", "val_all bce"}


def test_validation_losses_of_a_training_are_those_of_the_set():
    network, data = make_network(), make_data()
    modules, _ = assemble_for_training(*segmentation(network))
    trainer = PyTorchNetworkTrainer(network, None, modules.loss)
    trainer.train(1, DataManager(data, 4), DataManager(data, 4))
    row = trainer.history[-1]
    was_training = network.training
    evaluated = modules.evaluator.evaluate(DataManager(data, 3).get_batchgen())
    assert evaluated == pytest.approx({name: row[f"val_{name}"] for name in ("rmse", "all bce")}, rel=1e-4)
    assert network.training == was_training
    assert modules.model is not None
    batch = network.prepare_batch({key: value[:2] for key, value in data.items()}, "cpu", "cpu")
    assert list(modules.model(batch)) == ["output"]


def test_an_evaluation_does_not_depend_on_the_batch_size():
    network, data = make_network(), make_data()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    evaluator = assemble_for_training(*segmentation(network))[0].evaluator
    values = [evaluator.evaluate(DataManager(data, size).get_batchgen(), seed=3) for size in (10, 4, 1)]
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    assert values[2] == pytest.approx(values[0], rel=1e-5)
    assert evaluator.evaluate(DataManager(data, 4).get_batchgen(), seed=4) != values[0]


def test_plots_are_drawn_of_the_set_and_a_failure_is_logged(tmp_path, caplog):
    def save(path, prediction, seg):
        path.write_text(f"{len(prediction)} {len(seg)}")

    def fail(path, prediction):
        raise ValueError("no canvas")

    maker = PlotMaker({"fit": (save, pred(), target()), "bad": (fail, pred())}, tmp_path / "plots", suffix=".txt")
    evaluator = Evaluator({"mse": term(mse)}, maker, network=nn.Identity())
    batches = [{"data": np.zeros((n, 1), "f4"), "label": np.zeros((n, 1), "f4")} for n in (2, 3)]
    assert evaluator.evaluate(batches, "valid", "epoch_1") == {"mse": 0.0}
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["epoch_1_valid_fit.txt"]
    assert (tmp_path / "plots" / "epoch_1_valid_fit.txt").read_text() == "5 5"
    assert "plot 'bad' could not be drawn" in caplog.text


def test_names_of_validation_losses_are_checked_and_an_evaluation_has_a_network_and_batches():
    node = term(mse, name="a")
    assert list(assemble_for_training(node, [node, node + 1], ["x", "y"])[0].evaluator.metrics) == ["x", "y"]
    assert list(assemble_for_training(node, [node, 2 * node])[0].evaluator.metrics) == ["a", "2 * a"]
    for losses, names, text in (
        ([node], ["x", "y"], "1 validation losses need as many validation_names, not 2"),
        ({"x": node}, ["x"], "a mapping has its names already"),
        ({1: node}, None, "nodes by name, not 1"),
        ([node, node], None, "names of validation losses differ"),
        ({"x": mse}, None, "nodes by name, not 'x'"),
    ):
        with pytest.raises(ConfigError, match=text):
            assemble_for_training(node, losses, names)
    with pytest.raises(ConfigError, match="there is no network to evaluate"):
        Evaluator({"mse": node}).evaluate([])
    with pytest.raises(ConfigError, match="no batches in the test set"):
        Evaluator({"mse": node}, network=nn.Identity()).evaluate([], "test")


def test_losses_that_train_nothing_or_more_than_one_network_are_refused():
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    for loss, message in (
        (term(torch.mean, target()), "has no prediction"),
        (term(mse, pred("a", first)) + term(mse, pred("b", second)), "several networks"),
        (term(mse, pred("a", first)) + term(mse, pred("a", second)), r"pred\('a'\) is of several networks"),
    ):
        with pytest.raises(ConfigError, match=message):
            assemble_for_training(loss, {})
    modules, _ = assemble_for_training(term(mse, pred("a")) + term(mse, pred("a", second)), {})
    assert modules.model.network is second
    with pytest.raises(UnknownNameError, match="is not among the outputs"):
        build_loss_modules(term(mse, pred("logits"), target()), {}, [pred("logit")], [inp()])


def test_data_are_checked_before_a_worker_starts():
    data = make_data()
    for given in (data, DictDataset(data), DataManager(data, 4, n_process_augmentation=2)):
        assert generate_database_info(["data"], [target("seg")], data=given) == {"inputs": ["data"], "targets": ["seg"]}
    assert generate_database_info(["image"], ["seg"], True, data=data) == {"inputs": [], "targets": ["seg"]}
    text = {**data, "seg": np.array(["a"] * 10)}
    for names, given, error, message in (
        ((["image"], ["sge", "seg"]), data, UnknownNameError, r"lack the input 'image' and the target 'sge'. .*"),
        ((["data"], ["seg"]), {**data, "seg": data["seg"][:3]}, ShapeError, "different numbers of samples"),
        ((["data"], ["seg"]), text, ConfigError, "'seg' of a batch must be an array of numbers"),
        (([3], []), None, ConfigError, "not 3"),
    ):
        with pytest.raises(error, match=message):
            generate_database_info(*names, data=given)
