"""What holds for the model of every task."""

import gc
import weakref

import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError, UnknownKeywordError
from delira_nca.io.network import load_network, save_network
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, TaskNCAModel
from delira_nca.models.tasks import __all__ as public
from delira_nca.training import PyTorchNetworkTrainer


def test_every_model_of_a_task_is_tested_here(models):
    tested = {type(make()).__name__ for make in models.values()}
    assert tested == {name for name in public if name.endswith("NCAModel")} - {"TaskNCAModel"}


def test_losses_have_the_names_that_are_announced_and_a_weighted_sum(make, batch_for, randomise):
    model = randomise(make(lambda_hidden=0.25))
    data, label = batch_for(model)
    losses = model.loss(model.predict(data, seed=1), label)
    assert tuple(losses) == model.loss_names
    assert losses["hidden"].item() == pytest.approx(model.predict(data, seed=1).hidden_channels.abs().mean().item())
    without = make(lambda_hidden=0.0)
    without.load_state_dict(model.state_dict())
    plain = without.loss(without.predict(data, seed=1), label)
    assert (losses["total"] - plain["total"]).item() == pytest.approx(0.25 * losses["hidden"].item(), rel=1e-4)


def test_metrics_are_functions_by_name_and_measure_a_prediction(make, batch_for, randomise):
    model = randomise(make())
    data, label = batch_for(model)
    prediction = model.predict(data, seed=1)
    measured = model.metrics(prediction, label)
    assert measured == {name: float(metric(prediction.pred, label)) for name, metric in model.metrics.items()}
    assert model.validation_metric in measured
    assert model.validation_mode in ("highest", "lowest")
    assert model.validate(data, label, seed=1)[0] == measured


def test_labels_with_and_without_an_axis_of_channels_are_the_same(make, batch_for, randomise):
    model = randomise(make())
    data, label = batch_for(model)
    if label.dim() == data.dim():
        pytest.skip("the label is a picture of four channels")
    prediction = model.predict(data, seed=1)
    losses, same = model.loss(prediction, label), model.loss(prediction, label.unsqueeze(1))
    assert {name: value.item() for name, value in losses.items()} == {n: v.item() for n, v in same.items()}
    assert model.metrics(prediction, label) == model.metrics(prediction, label.unsqueeze(1))


def test_a_batch_of_one_is_predicted_and_learned_from_and_a_label_of_another_shape_refused(make, batch_for):
    model = make()
    data, label = batch_for(model)
    with pytest.raises(ShapeError):
        model.loss(model.predict(data), label[:1])
    data, label = data[:1], label[:1]
    trainer = PyTorchNetworkTrainer(model, None, metrics=model.metrics)
    trainer.train(1, [{"data": data.numpy(), "label": label.numpy()}])
    assert torch.isfinite(torch.tensor(trainer.history[0]["loss"]))


def test_a_saved_model_predicts_the_same(make, batch_for, randomise, tmp_path):
    model = randomise(make(fire_rate=0.7, lambda_hidden=0.5, kernel_size=3, use_temporal_encoding=True))
    data, label = batch_for(model)
    save_network(model, tmp_path / "model.pt")
    loaded = load_network(tmp_path / "model.pt")
    assert type(loaded) is type(model)
    assert torch.equal(loaded.predict(data, seed=3).output_image, model.predict(data, seed=3).output_image)
    assert torch.equal(loaded.predict(data, seed=3).pred, model.predict(data, seed=3).pred)
    ours, theirs = (m.loss(m.predict(data, seed=3), label)["total"] for m in (model, loaded))
    assert torch.equal(ours, theirs)
    assert loaded.to_dict() == model.to_dict()
    assert loaded.fire_rate == 0.7


def test_what_the_task_decides_and_unknown_arguments_and_metrics_are_refused(make, refuses):
    refuses(ConfigError, r"sets num_output_channels itself, to \d+: leave it out", make, num_output_channels=2)
    refuses(UnknownKeywordError, "takes no argument 'fire_rat'.* Did you mean 'fire_rate'", make, fire_rat=0.5)
    with pytest.raises(ConfigError, match="has no metric 'dcie' that could decide which epoch is best: choose one of"):
        make(validation_metric="dcie")
    refuses(ConfigError, "lambda_hidden must be a number of at least 0, not -1", make, lambda_hidden=-1)


def test_another_metric_can_decide(models):
    model = models["classification"](validation_metric="accuracy_macro")
    assert model.validation_metric == "accuracy_macro"
    assert models["growing"]().validation_mode == "highest"
    assert models["growing"](validation_metric="mse").validation_mode == "lowest"


def test_validation_keeps_no_state_of_the_batches_before(models, noise, monkeypatch):
    model = models["binary"]()
    trainer = PyTorchNetworkTrainer(model, None, metrics=model.metrics)
    batch = {"data": noise(2, 1, 8, 8).numpy(), "label": noise(2, 8, 8).numpy() > 0}
    states, kept = [], []
    original = model._prediction

    def watched(steps, state):
        kept.append(sum(ref() is not None for ref in states))
        states.append(weakref.ref(state))
        return original(steps, state)

    monkeypatch.setattr(model, "_prediction", watched)
    trainer._validate_single_epoch([batch] * 10, 1)
    gc.collect()
    assert len(kept) == 10
    assert max(kept) <= 1
    assert not any(ref() is not None for ref in states)


def test_image_channels_of_a_task_stay_what_they_are_even_beside_nan(models, noise):
    model = models["binary"](filter_padding="zeros")
    with torch.no_grad():
        model.rule.last.weight.fill_(torch.nan)
    image = noise(2, 1, 8, 8)
    prediction = model.predict(image, steps=5)
    assert torch.equal(prediction.image_channels, image)
    assert prediction.hidden_channels.isnan().any()


@pytest.mark.parametrize("bias", [True, False])
def test_no_life_comes_from_nothing_for_any_weights(models, randomise, bias):
    from delira_nca.models import MLPRule

    model = randomise(models["growing"](use_alive_mask=True, rule=MLPRule(32, final_bias=bias)), scale=2.0)
    empty = torch.zeros(1, model.num_channels, 12, 12)
    assert torch.equal(model.predict(empty, steps=20).output_image, empty)
    model.fire_rate = 1.0
    seed = model.make_seed(12, 12)
    after = model.predict(seed, steps=1).output_image[0]
    far = torch.ones(12, 12, dtype=torch.bool)
    far[5:8, 5:8] = False
    assert torch.equal(after[:, far], torch.zeros_like(after[:, far]))


def test_a_task_model_is_an_automaton_like_any_other_and_no_loss_hides_a_metric(make):
    model = make()
    assert isinstance(model, TaskNCAModel)
    assert isinstance(model, BasicNCAModel)
    model.finetune()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained <= {name for name, _ in model.named_parameters() if name.startswith(("rule.last", "head"))}
    assert not set(model.loss_names) & set(model.metrics)
    trainer = PyTorchNetworkTrainer(model, None, metrics=model.metrics)
    assert f"val_{model.validation_metric}" in trainer._score_names(validated=True)


class Task(TaskNCAModel):
    """One of a user's own."""

    task_metrics = {"mse": mse}
    default_metric = "mse"
    decides = ("num_output_channels",)

    def __init__(self, device=None, num_image_channels=1, hidden_size=8, weight=0.5, *, names=None, **kwargs):
        self._set_up(locals(), num_output_channels=2)


def test_a_task_keeps_arguments_of_its_own_and_hands_on_the_others(refuses):
    model = Task(hidden_size=9, weight=0.25, names=["a", "b"], fire_rate=0.75)
    assert (model.weight, model.names) == (0.25, ["a", "b"])
    assert (model.rule.hidden_sizes, model.fire_rate, model.num_output_channels) == ((9,), 0.75, 2)
    described = model.to_dict()
    assert (described["weight"], described["names"], described["hidden_size"]) == (0.25, ["a", "b"], 9)
    assert "num_output_channels" not in described
    again = Task.from_dict(described)
    assert (again.to_dict(), again.weight) == (described, 0.25)
    refuses(ConfigError, "Task sets num_output_channels itself, to 2: leave it out", Task, num_output_channels=3)
    refuses(UnknownKeywordError, r"Task takes no argument 'weigth'.*Did you mean 'weight'", Task, weigth=1.0)
