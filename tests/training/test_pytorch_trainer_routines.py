"""The trainer for networks in PyTorch: routines of one's own, prediction, precision and schedules."""

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ScoreKeyError
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import GradientClipping, LambdaCallback, LRSchedulerCallback


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


def test_a_prediction_gives_all_samples_labels_and_means(make_trainer, batches):
    trainer, data = make_trainer(), batches(3, 2)
    predictions, labels, means = trainer.predict(data)
    assert isinstance(predictions, np.ndarray)
    assert predictions.shape == (5, 4, 6, 6)
    assert [len(label) for label in labels] == [3, 2]
    expected = np.square(predictions - np.concatenate([b["label"] for b in data]), dtype=np.float64).mean()
    assert means == {"mse": pytest.approx(expected, rel=1e-5), "loss": pytest.approx(expected, rel=1e-5)}
    without, labels, means = trainer.predict([{"data": batch["data"]} for batch in data])
    assert (labels, means) == ([], {})
    assert np.array_equal(without, predictions)
    nothing, labels, means = trainer.predict([])
    assert (len(nothing), labels, means) == (0, [], {})


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 9])
def test_regrouping_predicts_the_same_samples_in_order(linear_network, linear_batches, batch_size, linear_trainer):
    trainer, data = linear_trainer(linear_network()), linear_batches(3, 2)
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
    for training in (False, True):
        trainer.network.train(training)
        trainer.predict(batches(2))
        assert trainer.network.training is training
    assert modes == [(False, False, False)] * 2
    with pytest.raises(ConfigError):
        trainer.predict([{"data": np.zeros((1, 7, 6, 6))}])
    assert trainer.network.training
    assert_same(dict(trainer.network.state_dict()), before)
    assert all(p.grad is None for p in trainer.network.parameters())


@pytest.mark.processor
@pytest.mark.usefixtures("any_processor")
def test_mixed_precision_trains_on_a_cpu_in_bfloat16(linear_network, linear_batches, linear_trainer):
    seen = []

    def watch(pred, label):
        seen.append(pred.dtype)
        return mse(pred.float(), label)

    trainer = linear_trainer(
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


@pytest.mark.usefixtures("any_processor")
def test_the_scaler_of_float16_is_resumed_and_callbacks_see_true_gradients(
    linear_network, linear_batches, tmp_path, assert_same, linear_trainer
):
    options = {"dtype": "float16", "scaler": {"init_scale": 8.0, "growth_interval": 3}}

    def make():
        return linear_trainer(
            linear_network(),
            criterions={"mse": lambda p, y: 50 * mse(p.float(), y)},
            optimizer_params={"lr": 0.1},
            mixed_precision=True,
            mixed_precision_kwargs=options,
            callbacks=[GradientClipping(0.5)],
        )

    straight, first, second = make(), make(), make()
    before = [p.detach().clone() for p in straight.network.parameters()]
    straight.train(1, linear_batches(4))
    moved = sum((p - old).square().sum().item() for p, old in zip(straight.network.parameters(), before, strict=True))
    assert moved**0.5 == pytest.approx(0.1 * 0.5, rel=1e-3)
    straight.train(6, linear_batches(4))
    first.train(4, linear_batches(4))
    first.save_state(tmp_path / "state.pt")
    second.update_state(tmp_path / "state.pt").train(6, linear_batches(4))
    assert first.precision.scaler.get_scale() == 16.0
    assert second.precision.scaler.get_scale() == 32.0
    assert_same(straight.state_dict(), second.state_dict())


def test_a_scheduler_of_torch_is_stepped_once_per_epoch(make_trainer, batches):
    rates = []
    watch = LambdaCallback(at_epoch_begin=lambda t: rates.append(t.optimizers["default"].param_groups[0]["lr"]))
    halving = {
        "lr_scheduler_cls": torch.optim.lr_scheduler.StepLR,
        "lr_scheduler_params": {"step_size": 2, "gamma": 0.5},
    }
    trainer = make_trainer(**halving, callbacks=[watch])
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


@pytest.mark.processor
@pytest.mark.usefixtures("any_processor")
def test_mixed_precision_trains_an_automaton(make_trainer, batches):
    trainer = make_trainer(mixed_precision=True)
    trainer.train(2, batches(2), batches(2))
    assert all(np.isfinite(list(entry.values())).all() for entry in trainer.history)


def test_describe_tells_what_is_trained(make_trainer, tmp_path):
    text = make_trainer(save_path=tmp_path, metrics={"dice": mse}, fold=3).describe()
    weights = 12 * 2 * 8 + 8 + 8 * 8 + 8
    assert text.startswith("PyTorchNetworkTrainer, fold 3, next epoch 1\n")
    assert f"BasicNCAModel, {weights} weights, on cpu" in text
    rows = ("default: Adam", "criterions         mse", "metrics            dice", "at_checkpoint      Checkpoint")
    assert all(row in text for row in rows), text


def test_the_first_epoch_may_have_another_number(make_trainer, batches):
    trainer = make_trainer(start_epoch=4)
    trainer.train(5, batches(2))
    assert [entry["epoch"] for entry in trainer.history] == [4, 5]


def test_gradients_that_an_own_step_accumulates_are_in_the_state(nca, batches, tmp_path, assert_same, stop_after):
    class Accumulates(BasicNCAModel):
        @staticmethod
        def closure(model, data_dict, optimizers, criterions, metrics, fold=0, batch_nr=0, *, seed=0, **kwargs):
            with torch.set_grad_enabled(bool(optimizers)):
                prediction, parts = model.forward_batch(data_dict, seed=seed, train=bool(optimizers))
                loss = mse(parts["pred"], data_dict["label"])
            if optimizers:
                (loss / 2).backward()
                if batch_nr % 2:
                    optimizers["default"].step()
                    optimizers["default"].zero_grad()
            return {}, {"loss": loss.detach()}, prediction.detach()

    def run(folder, stop=None):
        network = nca()
        network.__class__ = Accumulates
        options = {"optimizer_params": {"lr": 1e-2}, "callbacks": [stop_after(stop)]}
        trainer = PyTorchNetworkTrainer(network, folder, {"mse": mse}, torch.optim.Adam, **options)
        trainer.train(2, batches(2, 2, 2), resume="auto")
        return trainer

    whole = run(tmp_path / "whole").network.state_dict()
    for stop in (1, 2, 3, 4, 5):
        assert run(tmp_path / str(stop), stop).global_iter_num == stop
        assert_same(run(tmp_path / str(stop)).network.state_dict(), whole)


def test_a_network_that_is_not_finite_is_not_returned_in_silence(make_trainer, batches, caplog, logged):
    data = batches(2, 2)
    data[1]["label"][0, 0, 0, 0] = np.nan
    make_trainer().train(2, data)
    assert [record.levelname for record in logged()] == ["ERROR"]
    assert "the trained network is not finite: rule." in caplog.text
    assert "the values of epoch 1 were the first that were not finite. NaNGuard" in caplog.text


def test_the_best_network_from_before_is_returned(make_trainer, batches):
    good, bad = batches(2), batches(2)
    bad[0]["label"][0, 0, 0, 0] = np.nan
    epochs = iter([good, good, bad, bad])

    class Source:
        def get_batchgen(self, epoch):
            return next(epochs)

    network = make_trainer().train(4, Source(), good, "mse", "lowest")
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
