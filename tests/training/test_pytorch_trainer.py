"""The trainer for networks in PyTorch: what it computes, and what it leaves alone."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from delira_nca.errors import CallbackTypeError, ConfigError, ScoreKeyError, UnknownKeywordError, UnknownNameError
from delira_nca.losses import mse
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.models.rule import MLPRule
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import AbstractCallback, LambdaCallback


class DropoutRule(MLPRule):
    """A rule that drops a third of its input."""

    def forward(self, perception):
        return super().forward(torch.nn.functional.dropout(perception, 0.3, self.training))


def test_the_same_seed_gives_the_same_bits_and_another_others(make_trainer, nca, batches, assert_same):
    def run(seed):
        torch.manual_seed(random.randrange(1000))
        trainer = make_trainer(nca(), seed=seed)
        trainer.train(2, batches(3, 2), batches(2, seed=1))
        return trainer.network.state_dict(), trainer.history

    (weights, history), (again, history_again), (other, _) = run(7), run(7), run(8)
    assert_same(dict(weights), dict(again))
    assert history == history_again
    assert any(not torch.equal(weights[name], other[name]) for name in weights)


def test_a_training_beside_another_thread_s_is_refused_and_disturbs_nothing(make_trainer, nca, batches, assert_same):
    refused = []

    def intrude(trainer, **event):
        with ThreadPoolExecutor(1) as pool:
            training = pool.submit(make_trainer(nca(rule=DropoutRule(8))).train, 1, batches(3))
            refused.append(training.exception())

    alone, beside = make_trainer(nca(rule=DropoutRule(8))), make_trainer(nca(rule=DropoutRule(8)))
    alone.train(2, batches(3, 2))
    beside.register_callback(LambdaCallback(at_iter_end=intrude))
    beside.train(2, batches(3, 2))
    assert [type(error) for error in refused] == [ConfigError] * 4
    assert f"beside the training of run {beside.run_id} in thread 'MainThread'" in str(refused[0])
    assert_same(dict(alone.network.state_dict()), dict(beside.network.state_dict()))


def test_a_training_leaves_the_user_s_generators_alone(make_trainer, nca, batches):
    trainer = make_trainer(nca(rule=DropoutRule(8), pad_noise=True))
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    trainer.train(2, batches(2), batches(2))
    trainer.predict(batches(2), 1)
    trainer.predict([{"data": batches(2)[0]["data"]}])
    assert random.getstate() == states[0]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[1], strict=True))
    assert torch.equal(torch.get_rng_state(), states[2])


def test_dropout_is_reproducible_and_resumed_exactly(make_trainer, nca, batches, assert_same, tmp_path):
    def trainer():
        return make_trainer(nca(rule=DropoutRule(8)))

    straight, first, second = trainer(), trainer(), trainer()
    straight.train(4, batches(2, 2))
    first.train(2, batches(2, 2))
    first.save_state(tmp_path / "state.pt")
    torch.manual_seed(4711)
    second.update_state(tmp_path / "state.pt").train(4, batches(2, 2))
    assert_same(straight.state_dict(), second.state_dict())
    plain = make_trainer(nca())
    plain.train(4, batches(2, 2))
    assert plain.history != straight.history


def test_steps_are_drawn_anew_in_every_iteration_from_low_to_below_high(make_trainer, nca, batches):
    def steps(seed):
        drawn = []
        keep = LambdaCallback(at_iter_end=lambda trainer, prediction, train: drawn.append((train, prediction.steps)))
        trainer = make_trainer(nca(training_timesteps=(2, 5), inference_timesteps=7), callbacks=[keep], seed=seed)
        trainer.train(2, batches(1) * 20, batches(1))
        return drawn

    first = steps(0)
    assert first[:20] != first[21:41]
    assert [n for train, n in first if not train] == [7, 7]
    assert {n for train, n in first if train} == {2, 3, 4}
    assert steps(0) == first
    assert steps(1) != first


def test_means_are_over_samples_and_criterions_are_computed_in_validation(
    linear_network, linear_batches, linear_trainer
):
    network, data = linear_network(), linear_batches(5, 1)
    trainer = linear_trainer(network, metrics={"mae": lambda pred, label: (pred - label).abs().mean()})
    trainer.train(1, data, data)
    x, y = (np.concatenate([batch[key] for batch in data]).astype(np.float64) for key in ("data", "label"))
    weight, bias = (p.detach().double().numpy() for p in network.layer.parameters())
    error = x @ weight.T + bias - y
    (entry,) = trainer.history
    assert sorted(entry) == ["epoch", "loss", "mae", "mse", "val_loss", "val_mae", "val_mse"]
    for name, value in (("loss", np.square(error).mean()), ("mae", np.abs(error).mean())):
        assert entry[name] == pytest.approx(value, rel=1e-5)
        assert entry[f"val_{name}"] == pytest.approx(value, rel=1e-5)


def test_one_step_of_sgd_is_the_gradient_step_of_the_sum_of_the_criterions(
    linear_network, linear_batches, linear_trainer
):
    network, (batch,) = linear_network(), linear_batches(4)
    x, y = batch["data"].astype(np.float64), batch["label"].astype(np.float64)
    weight, bias = (p.detach().double().numpy() for p in network.layer.parameters())
    expected = weight - 0.5 * 2 * (x @ weight.T + bias - y).T @ x / 4
    criterions = {"a": lambda p, y: 0.25 * mse(p, y), "b": lambda p, y: 0.75 * mse(p, y)}
    trainer = linear_trainer(network, criterions=criterions, optimizer_params={"lr": 0.5})
    trainer.train(1, [batch])
    assert network.layer.weight.detach().numpy() == pytest.approx(expected, rel=1e-5)
    (entry,) = trainer.history
    assert entry["b"] == pytest.approx(3 * entry["a"])
    assert entry["loss"] == pytest.approx(4 * entry["a"])


def test_criterions_and_metrics_are_wired_by_name(linear_network, linear_batches, linear_trainer):
    data = [{**batch, "other": 2 * batch["label"]} for batch in linear_batches(4)]
    keys = {"mse": ("pred", "other"), "first": ("data",)}
    trainer = linear_trainer(linear_network(), metrics={"first": lambda x: x[0, 0]}, metric_keys=keys)
    trainer.train(1, data)
    pred = trainer.predict(data)[0]
    assert trainer.history[0]["mse"] == pytest.approx(float(np.square(pred - data[0]["other"]).mean()), rel=1e-5)
    assert trainer.history[0]["first"] == data[0]["data"][0, 0]
    trainer.metric_keys["mse"] = ("pred", "othr")
    with pytest.raises(UnknownNameError, match=r"wired to 'othr'.*Did you mean 'other'"):
        trainer.train(2, data)


def test_an_automaton_without_criterions_minimises_its_own_loss(nca, batches):
    trainer = PyTorchNetworkTrainer(nca(), None)
    trainer.train(1, batches(2), batches(2), val_score_key="mse", val_score_mode="lowest")
    assert sorted(trainer.history[0]) == ["epoch", "loss", "mse", "val_loss", "val_mse"]


def test_the_history_is_plain_python(make_trainer, batches):
    trainer = make_trainer(metrics={"top": lambda pred, label: pred.max()})
    trainer.train(2, batches(2), batches(2))
    assert [entry["epoch"] for entry in trainer.history] == [1, 2]
    for entry in trainer.history:
        assert type(entry.pop("epoch")) is int
        assert {type(value) for value in entry.values()} == {float}
    assert trainer.metrics_val == trainer.history[-1]


@pytest.mark.processor
def test_an_automaton_learns(make_trainer, batches):
    data = batches(4)
    trainer = make_trainer()
    trainer.train(15, data * 2)
    assert trainer.history[-1]["loss"] < 0.9 * trainer.history[0]["loss"]


@pytest.mark.parametrize("which", ["training", "validation"])
def test_data_without_a_batch_are_told(make_trainer, batches, which):
    trainer, data = make_trainer(), batches(2)
    with pytest.raises(ConfigError, match=f"the {which} data gave no batch in epoch 1"):
        trainer.train(1, data if which == "validation" else [], [])


def test_the_best_epoch_s_weights_are_returned_and_the_last_ones_kept(make_trainer, batches, assert_same):
    weights = []
    keep = LambdaCallback(
        at_epoch_end=lambda trainer: weights.append({k: v.clone() for k, v in trainer.network.state_dict().items()})
    )
    scores = iter([0.5, 0.9, 0.1, 0.2])
    trainer = make_trainer(metrics={"score": lambda pred, label: torch.tensor(next(scores))}, callbacks=[keep])
    best = trainer.train(4, batches(2), val_score_key="score", val_score_mode="highest")
    assert trainer.best.epoch == 2
    assert best is not trainer.network
    assert_same(dict(best.state_dict()), weights[1])
    assert_same(dict(trainer.network.state_dict()), weights[3])
    assert not best.training


def test_a_training_without_a_score_returns_the_network_and_forgets_the_best_of_the_one_before(make_trainer, batches):
    trainer = make_trainer()
    assert trainer.train(1, batches(2)) is trainer.network
    assert trainer.train(2, batches(2), val_score_key="loss", val_score_mode="lowest") is not trainer.network
    assert trainer.train(3, batches(2)) is trainer.network


def test_a_misspelt_score_is_refused_before_the_first_batch(make_trainer, batches):
    trainer = make_trainer(metrics={"dice": lambda pred, label: pred.mean()})
    before = trainer.network.rule.last.weight.clone()
    with pytest.raises(ScoreKeyError, match="Did you mean 'val_dice'"):
        trainer.train(1, batches(2), batches(2), val_score_key="dcie")
    assert torch.equal(trainer.network.rule.last.weight, before)
    assert trainer.score_names() == ["mse", "dice", "loss", "val_mse", "val_dice", "val_loss"]


class Flat(AbstractPyTorchNetwork):
    def forward(self, x):
        return x


class Mine(PyTorchNetworkTrainer):
    def __init__(self, *args, weight=1.0, **kwargs):
        super().__init__(*args, **kwargs)


FUNCTIONS = "are functions by name, such as"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"savefreq": 3}, UnknownKeywordError, r"no argument 'savefreq'.*Did you mean 'save_freq'"),
        ({"cls": Mine, "savefreq": 3}, UnknownKeywordError, "Mine takes no argument .*Did you mean 'save_freq'"),
        ({"cls": Mine, "wieght": 3}, UnknownKeywordError, "Mine takes no argument .*Did you mean 'weight'"),
        ({"criterions": {"mse": 3}}, ConfigError, "criterion 'mse' .* 3 cannot be called"),
        ({"criterions": torch.nn.MSELoss()}, ConfigError, f"criterions {FUNCTIONS} .* not MSELoss"),
        ({"criterions": None, "network": Flat()}, ConfigError, "nothing to minimise: Flat"),
        ({"metrics": [mse]}, ConfigError, f"metrics {FUNCTIONS}"),
        ({"metrics": {"l1": torch.nn.L1Loss}}, ConfigError, "metric 'l1' is the class L1Loss: give an object of it"),
        ({"metrics": {"dice": "dice"}}, ConfigError, "metric 'dice'"),
        ({"metric_keys": {"mse": "pred"}}, ConfigError, "are the names of the arguments .* not {'mse': 'pred'}"),
        ({"metric_keys": {"msee": ("pred",)}}, UnknownKeywordError, "Did you mean 'mse'"),
        ({"callbacks": AbstractCallback()}, CallbackTypeError, "a list of callbacks, not AbstractCallback"),
        ({"callbacks": [LambdaCallback]}, AssertionError, "is not a callback"),
        ({"optimizer_params": {"learning_rate": 1}}, ConfigError, "learning_rate"),
        ({"optimizer_cls": "Adam"}, ConfigError, "optimizer_cls"),
        ({"network": torch.nn.Linear(1, 1)}, ConfigError, "closure and prepare_batch, not Linear"),
        ({"network": "net"}, ConfigError, "not str"),
        ({"device": "gpu"}, ConfigError, "'gpu' is not a torch device"),
        ({"device": "cuda:99"}, ConfigError, "cuda:99"),
        ({"gpu_ids": [99]}, ConfigError, "cuda:99"),
        ({"gpu_ids": [0, 1]}, ConfigError, "torchrun"),
        ({"gpu_ids": [0], "device": "cpu"}, ConfigError, "not both"),
        ({"save_freq": -1}, ConfigError, "save_freq"),
        ({"start_epoch": 0}, ConfigError, "start_epoch"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"fold": -1}, ConfigError, "fold"),
        ({"mixed_precision_kwargs": {"dtyp": "float16"}}, ConfigError, "Did you mean 'dtype'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(nca, arguments, error, message):
    given = {"network": nca(), "save_path": None, "criterions": {"mse": mse}, **arguments}
    with pytest.raises(error, match=message):
        given.pop("cls", PyTorchNetworkTrainer)(**given)
