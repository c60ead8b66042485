"""The trainer for networks in PyTorch: what it computes, and what it leaves alone."""

import random

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ScoreKeyError, UnknownKeywordError, UnknownNameError
from delira_nca.losses import mse
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.models.rule import MLPRule
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import LambdaCallback, LRSchedulerCallback


class DropoutRule(MLPRule):
    """A rule that drops a third of its input."""

    def forward(self, perception):
        return super().forward(torch.nn.functional.dropout(perception, 0.3, self.training))


# Randomness -----------------------------------------------------------------------------------------------------------


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


# What is measured -----------------------------------------------------------------------------------------------------


def _linear_trainer(network, **changes):
    arguments = {"criterions": {"mse": mse}, "optimizer_cls": torch.optim.SGD, "optimizer_params": {"lr": 0.0}}
    return PyTorchNetworkTrainer(network, None, **{**arguments, **changes})


def test_means_are_over_samples_and_criterions_are_computed_in_validation(linear_network, linear_batches):
    network, data = linear_network(), linear_batches(5, 1)
    trainer = _linear_trainer(network, metrics={"mae": lambda pred, label: (pred - label).abs().mean()})
    trainer.train(1, data, data)
    x, y = (np.concatenate([batch[key] for batch in data]).astype(np.float64) for key in ("data", "label"))
    weight, bias = (p.detach().double().numpy() for p in network.layer.parameters())
    error = x @ weight.T + bias - y
    (entry,) = trainer.history
    assert sorted(entry) == ["epoch", "loss", "mae", "mse", "val_loss", "val_mae", "val_mse"]
    for name, value in (("loss", np.square(error).mean()), ("mae", np.abs(error).mean())):
        assert entry[name] == pytest.approx(value, rel=1e-5)
        assert entry[f"val_{name}"] == pytest.approx(value, rel=1e-5)


def test_the_loss_is_the_sum_of_the_criterions(linear_network, linear_batches):
    trainer = _linear_trainer(linear_network(), criterions={"a": mse, "b": lambda p, y: 3 * mse(p, y)})
    trainer.train(1, linear_batches(4))
    (entry,) = trainer.history
    assert entry["b"] == pytest.approx(3 * entry["a"])
    assert entry["loss"] == pytest.approx(4 * entry["a"])


def test_one_step_of_sgd_is_the_gradient_step(linear_network, linear_batches):
    network, (batch,) = linear_network(), linear_batches(4)
    x, y = batch["data"].astype(np.float64), batch["label"].astype(np.float64)
    weight, bias = (p.detach().double().numpy() for p in network.layer.parameters())
    expected = weight - 0.5 * 2 * (x @ weight.T + bias - y).T @ x / 4
    _linear_trainer(network, optimizer_params={"lr": 0.5}).train(1, [batch])
    assert network.layer.weight.detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_criterions_and_metrics_are_wired_by_name(linear_network, linear_batches):
    data = [{**batch, "other": 2 * batch["label"]} for batch in linear_batches(4)]
    keys = {"mse": ("pred", "other"), "first": ("data",)}
    trainer = _linear_trainer(linear_network(), metrics={"first": lambda x: x[0, 0]}, metric_keys=keys)
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
    assert trainer.metrics_val == {k: v for k, v in trainer.history[-1].items() if k != "epoch"}


def test_an_automaton_learns(make_trainer, batches):
    data = batches(4)
    trainer = make_trainer()
    trainer.train(15, data * 2)
    assert trainer.history[-1]["loss"] < 0.8 * trainer.history[0]["loss"]


@pytest.mark.parametrize("which", ["training", "validation"])
def test_data_without_a_batch_are_told(make_trainer, batches, which):
    trainer, data = make_trainer(), batches(2)
    with pytest.raises(ConfigError, match=f"the {which} data gave no batch in epoch 1"):
        trainer.train(1, data if which == "validation" else [], [])


# The best network -----------------------------------------------------------------------------------------------------


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


def test_without_a_score_the_network_itself_is_returned(make_trainer, batches):
    trainer = make_trainer()
    assert trainer.train(1, batches(2)) is trainer.network


def test_a_training_without_a_score_forgets_the_best_of_the_one_before(make_trainer, batches):
    trainer = make_trainer()
    assert trainer.train(1, batches(2), val_score_key="loss", val_score_mode="lowest") is not trainer.network
    assert trainer.train(2, batches(2)) is trainer.network


def test_a_misspelt_score_is_refused_before_the_first_batch(make_trainer, batches):
    trainer = make_trainer(metrics={"dice": lambda pred, label: pred.mean()})
    before = trainer.network.rule.last.weight.clone()
    with pytest.raises(ScoreKeyError, match="Did you mean 'val_dice'"):
        trainer.train(1, batches(2), batches(2), val_score_key="dcie")
    assert torch.equal(trainer.network.rule.last.weight, before)
    assert trainer.score_names() == ["mse", "dice", "loss", "val_mse", "val_dice", "val_loss"]


# Arguments that cannot work -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"savefreq": 3}, UnknownKeywordError, r"no argument 'savefreq'.*Did you mean 'save_freq'"),
        ({"criterions": {"mse": 3}}, ConfigError, "criterion 'mse' .* 3 cannot be called"),
        ({"metrics": {"dice": "dice"}}, ConfigError, "metric 'dice'"),
        ({"optimizer_params": {"learning_rate": 1}}, ConfigError, "learning_rate"),
        ({"optimizer_cls": "Adam"}, ConfigError, "optimizer_cls"),
        ({"network": torch.nn.Linear(1, 1)}, ConfigError, "closure and prepare_batch, not Linear"),
        ({"network": "net"}, ConfigError, "not str"),
        ({"device": "gpu"}, ConfigError, "'gpu' is no device"),
        ({"device": "cuda:99"}, ConfigError, "cuda:99"),
        ({"gpu_ids": [99]}, ConfigError, "cuda:99"),
        ({"gpu_ids": [0, 1]}, ConfigError, "torchrun"),
        ({"gpu_ids": [0], "device": "cpu"}, ConfigError, "not both"),
        ({"save_freq": -1}, ConfigError, "save_freq"),
        ({"start_epoch": 0}, ConfigError, "start_epoch"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"fold": -1}, ConfigError, "fold"),
        ({"metric_keys": {"msee": ("pred",)}}, UnknownKeywordError, "Did you mean 'mse'"),
        ({"mixed_precision_kwargs": {"dtyp": "float16"}}, ConfigError, "Did you mean 'dtype'"),
        ({"callbacks": [LambdaCallback]}, AssertionError, "is no callback"),
    ],
)
def test_arguments_that_cannot_work_are_refused(nca, arguments, error, message):
    with pytest.raises(error, match=message):
        PyTorchNetworkTrainer(
            **{"network": nca(), "save_path": None, "criterions": {"mse": mse}, **arguments}
        )


def test_a_misspelt_argument_of_a_subclass_is_told_with_the_arguments_of_both(nca):
    class Mine(PyTorchNetworkTrainer):
        def __init__(self, *args, weight=1.0, **kwargs):
            super().__init__(*args, **kwargs)

    for misspelt, right in (("wieght", "weight"), ("savefreq", "save_freq")):
        with pytest.raises(UnknownKeywordError, match=f"Mine takes no argument .*Did you mean '{right}'"):
            Mine(nca(), None, {"mse": mse}, **{misspelt: 1})


def test_a_network_without_a_loss_needs_criterions(linear_network):
    with pytest.raises(ConfigError, match="nothing to minimise: LinearNetwork"):
        PyTorchNetworkTrainer(linear_network(), None)


def test_auto_takes_a_device_that_is_there(make_trainer):
    assert make_trainer(device="auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


# Routines of one's own ------------------------------------------------------------------------------------------------


class Adversaries(AbstractPyTorchNetwork):
    """Two parts with an optimizer each, one against the other."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.generator, self.critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)

    @staticmethod
    def closure(model, data_dict, optimizers, criterions, metrics, fold=0, batch_nr=0, **kwargs):
        with torch.set_grad_enabled(bool(optimizers)):
            fake = model.generator(data_dict["data"])
            critic_loss = model.critic(fake.detach()).mean() - model.critic(data_dict["label"]).mean()
            generator_loss = -model.critic(fake).mean()
        for name, loss in (("critic", critic_loss), ("generator", generator_loss)):
            if optimizers:
                optimizers[name].zero_grad()
                loss.backward(retain_graph=name == "critic")
        for optimizer in optimizers.values():
            optimizer.step()
        losses = {"critic": critic_loss.detach(), "generator": generator_loss.detach()}
        return {"batch_nr": float(batch_nr)}, {**losses, "loss": sum(losses.values())}, fake.detach()


def _one_for_each_part(network, cls, **params):
    return {part: cls(getattr(network, part).parameters(), **params) for part in ("generator", "critic")}


def test_a_closure_may_step_several_optimizers(tmp_path, assert_same):
    def make():
        return PyTorchNetworkTrainer(
            Adversaries(), None, {"none": mse}, torch.optim.Adam, {"lr": 0.1}, optim_fn=_one_for_each_part
        )

    rng = np.random.default_rng(0)
    data = [{key: rng.random((4, 2), dtype=np.float32) for key in ("data", "label")} for _ in range(2)]
    trainer = make()
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    trainer.train(2, data, data, val_score_key="val_critic")
    assert all(not torch.equal(before[name], p) for name, p in trainer.network.named_parameters())
    assert sorted(trainer.optimizers) == ["critic", "generator"]
    assert [entry["batch_nr"] for entry in trainer.history] == [0.5, 2.5]
    assert trainer.history[0]["val_batch_nr"] == 0.5
    trainer.save_state(tmp_path / "state.pt")
    resumed = make().update_state(tmp_path / "state.pt")
    for each in (trainer, resumed):
        each.train(3, data, data, val_score_key="val_critic")
    assert_same(trainer.state_dict(), resumed.state_dict())


def test_an_unknown_score_of_a_closure_of_one_s_own_is_told_after_the_first_epoch():
    trainer = PyTorchNetworkTrainer(Adversaries(), None, {"none": mse}, optim_fn=_one_for_each_part)
    data = [{key: np.ones((4, 2), dtype=np.float32) for key in ("data", "label")}]
    with pytest.raises(ScoreKeyError, match="Did you mean 'critic'"):
        trainer.train(2, data, val_score_key="critc")


def test_a_trainer_may_train_an_epoch_in_its_own_way(nca, batches):
    class Twice(PyTorchNetworkTrainer):
        def _train_single_epoch(self, batchgen, epoch):
            data = list(batchgen)
            first = super()._train_single_epoch(data, epoch)
            return {"first": first["loss"], **super()._train_single_epoch(data, epoch)}

    trainer = Twice(nca(), None, {"mse": mse})
    trainer.train(2, batches(2, 2), val_score_key="first", val_score_mode="lowest")
    assert trainer.global_iter_num == 8
    assert trainer.history[0]["first"] != trainer.history[0]["loss"]
    assert trainer.best.score in [entry["first"] for entry in trainer.history]


# Prediction -----------------------------------------------------------------------------------------------------------


def test_a_prediction_gives_all_samples_labels_and_means(make_trainer, batches):
    trainer, data = make_trainer(), batches(3, 2)
    predictions, labels, means = trainer.predict(data)
    assert isinstance(predictions, np.ndarray)
    assert predictions.shape == (5, 4, 6, 6)
    assert [len(label) for label in labels] == [3, 2]
    expected = np.square(predictions - np.concatenate([b["label"] for b in data]), dtype=np.float64).mean()
    assert means == {"mse": pytest.approx(expected, rel=1e-5), "loss": pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 9])
def test_regrouping_predicts_the_same_samples_in_order(linear_network, linear_batches, batch_size):
    trainer, data = _linear_trainer(linear_network()), linear_batches(3, 2)
    whole, regrouped = trainer.predict(data), trainer.predict(data, batch_size)
    assert regrouped[0] == pytest.approx(whole[0], abs=1e-6)
    assert np.array_equal(np.concatenate(regrouped[1]), np.concatenate(whole[1]))
    assert regrouped[2]["loss"] == pytest.approx(whole[2]["loss"], rel=1e-5)


def test_a_prediction_changes_neither_weights_nor_mode_and_makes_no_graph(make_trainer, batches, assert_same):
    modes = []

    def watch(pred, label):
        modes.append((trainer.network.training, torch.is_grad_enabled(), pred.requires_grad))
        return mse(pred, label)

    trainer = make_trainer(criterions={"mse": watch})
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    for training in (True, False):
        trainer.network.train(training)
        trainer.predict(batches(2))
        assert trainer.network.training is training
    assert modes == [(False, False, False)] * 2
    assert_same(dict(trainer.network.state_dict()), before)
    assert all(p.grad is None for p in trainer.network.parameters())


def test_the_mode_comes_back_after_an_error(make_trainer):
    trainer = make_trainer()
    trainer.network.train()
    with pytest.raises(ConfigError):
        trainer.predict([{"data": np.zeros((1, 7, 6, 6))}])
    assert trainer.network.training


def test_a_prediction_needs_no_labels_and_is_the_same_without_them(make_trainer, batches):
    trainer, data = make_trainer(), batches(3, 2)
    predictions, labels, means = trainer.predict([{"data": batch["data"]} for batch in data])
    assert (labels, means) == ([], {})
    assert np.array_equal(predictions, trainer.predict(data)[0])


def test_nothing_is_predicted_for_nothing(make_trainer):
    predictions, labels, means = make_trainer().predict([])
    assert (len(predictions), labels, means) == (0, [], {})


# Precision and schedulers ---------------------------------------------------------------------------------------------


def test_mixed_precision_trains_on_a_cpu_in_bfloat16(linear_network, linear_batches):
    seen = []

    def watch(pred, label):
        seen.append(pred.dtype)
        return mse(pred.float(), label)

    trainer = _linear_trainer(
        linear_network(), criterions={"mse": watch}, optimizer_params={"lr": 0.1}, mixed_precision=True
    )
    data = linear_batches(4, 4)
    trainer.train(5, data, data)
    assert set(seen) == {torch.bfloat16}
    assert trainer.history[-1]["loss"] < trainer.history[0]["loss"]
    assert trainer.network.layer.weight.dtype == torch.float32
    with_labels, without = trainer.predict(data)[0], trainer.predict([{"data": batch["data"]} for batch in data])[0]
    assert np.array_equal(with_labels, without)
    assert with_labels.dtype == np.float32


def test_mixed_precision_trains_an_automaton(make_trainer, batches):
    trainer = make_trainer(mixed_precision=True)
    trainer.train(2, batches(2), batches(2))
    assert all(np.isfinite(list(entry.values())).all() for entry in trainer.history)


def test_a_scheduler_of_torch_is_stepped_once_per_epoch(make_trainer, batches):
    rates = []
    watch = LambdaCallback(at_epoch_begin=lambda t: rates.append(t.optimizers["default"].param_groups[0]["lr"]))
    trainer = make_trainer(
        lr_scheduler_cls=torch.optim.lr_scheduler.StepLR,
        lr_scheduler_params={"step_size": 2, "gamma": 0.5},
        callbacks=[watch],
    )
    trainer.train(5, batches(2, 2))
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])
    assert [type(c).__name__ for c in trainer.callbacks] == ["LambdaCallback", "LRSchedulerCallback"]


def test_a_scheduler_may_be_a_callback_class(make_trainer, batches):
    class Halving(LRSchedulerCallback):
        def __init__(self, factor):
            super().__init__(torch.optim.lr_scheduler.ExponentialLR, {"gamma": factor}, every="iteration")

    trainer = make_trainer(lr_scheduler_cls=Halving, lr_scheduler_params={"factor": 0.5})
    trainer.train(1, batches(2, 2))
    assert trainer.optimizers["default"].param_groups[0]["lr"] == pytest.approx(0.0025)


def test_a_callback_may_change_what_is_minimised(make_trainer, batches):
    double = LambdaCallback(
        at_epoch_end=lambda trainer: {"criterions": {"mse": lambda p, y: 2 * mse(p, y)}, "metrics": {"plain": mse}}
    )
    trainer = make_trainer(callbacks=[double])
    trainer.train(2, batches(2))
    assert trainer.history[1]["loss"] == pytest.approx(2 * trainer.history[1]["plain"], rel=1e-5)


def test_describe_tells_what_is_trained(make_trainer, tmp_path):
    text = make_trainer(save_path=tmp_path, metrics={"dice": mse}, fold=3).describe()
    weights = 12 * 2 * 8 + 8 + 8 * 8 + 8
    assert text.startswith("PyTorchNetworkTrainer, fold 3, next epoch 1\n")
    assert f"BasicNCAModel, {weights} weights, on cpu" in text
    for words in ("default: Adam", "criterions         mse", "metrics            dice", "at_checkpoint      Checkpoint"):
        assert words in text


def test_the_first_epoch_may_have_another_number(make_trainer, batches):
    trainer = make_trainer(start_epoch=4)
    trainer.train(5, batches(2))
    assert [entry["epoch"] for entry in trainer.history] == [4, 5]
