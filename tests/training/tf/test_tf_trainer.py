"""The trainer for TensorFlow: the same weights as PyTorch, every kind of Keras model, and the same loop."""

import functools
import inspect
import logging

import numpy as np
import pytest
import torch

from delira_nca.data_loading import DataManager
from delira_nca.errors import CallbackTypeError, CheckpointError, ConfigError, ShapeError
from delira_nca.io.network import load_network
from delira_nca.losses import RMSE, mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import (
    EarlyStopping,
    LambdaCallback,
    NaNGuard,
    PoolUpdate,
    RaiseBatchSizeOnPlateau,
    ScheduleCallback,
    StepCurriculum,
)

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
keras = pytest.importorskip("keras")

from delira_nca.models.tf import AbstractTfNetwork, KerasNCA  # noqa: E402
from delira_nca.training.tf import TfNetworkTrainer, create_optims_default_tf  # noqa: E402

MSE = keras.losses.MeanSquaredError()


@pytest.fixture(autouse=True)
def seeds_of_weights():
    """Seed the weights of layers, which draw their seed when they are constructed, before any network is made."""
    keras.utils.set_random_seed(0)


def classifier(dropout=0.2):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(2),
        ]
    )


def half_planes(number=24, seed=0):
    """Pictures of which the left or the right half is bright, and which one it is."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, number)
    data = rng.uniform(0, 0.3, (number, 6, 6, 1)).astype(np.float32)
    for picture, side in zip(data, label, strict=True):
        picture[:, 3 * side : 3 * side + 3] += 0.7
    return [{"data": data[i : i + 8], "label": label[i : i + 8]} for i in range(0, number, 8)]


def make_classifier(folder=None, network=None, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"metrics": {"accuracy": keras.metrics.SparseCategoricalAccuracy()}, "seed": 3, **options}
    rate = {} if "lr_scheduler_cls" in options else {"learning_rate": 0.01}
    return TfNetworkTrainer(network or classifier(), folder, {"ce": loss}, keras.optimizers.Adam, rate, **options)


def growing_batches(number, size=4):
    rng = np.random.default_rng(0)
    seeds = np.repeat(make_seed(8, (10, 10))[None].numpy(), size, 0)
    return [{"data": seeds, "label": rng.uniform(size=(size, 4, 10, 10)).astype(np.float32)} for _ in range(number)]


def twins(**changes):
    torch.manual_seed(0)
    model = BasicNCAModel(**presets.growing(**{"num_hidden_channels": 4, "training_timesteps": (6, 12), **changes}))
    torch.nn.init.normal_(model.rule.last.weight, std=0.05)
    return model, KerasNCA(model)


@pytest.mark.parametrize("has_pool", [False, True], ids=["seeds", "pool"])
def test_ten_steps_of_adam_give_the_weights_of_the_trainer_for_pytorch(has_pool):
    def callbacks():
        return [PoolUpdate(SamplePool(make_seed(8, (10, 10)), 16), num_damaged=1, noise=0.02)] if has_pool else []

    model, twin = twins()
    # the two optimizers add epsilon before and after the correction of the bias: equal where it is negligible
    adam = torch.optim.Adam, {"lr": 1e-3, "eps": 1e-16}
    theirs = PyTorchNetworkTrainer(model, None, {"mse": mse}, *adam, callbacks=callbacks(), seed=5)
    adam = keras.optimizers.Adam, {"learning_rate": 1e-3, "epsilon": 1e-16}
    ours = TfNetworkTrainer(twin, None, {"mse": MSE}, *adam, callbacks=callbacks(), seed=5)
    before = twin.to_torch().state_dict()
    for trainer in (theirs, ours):
        trainer.train(1, growing_batches(10))
    assert ours.history[0]["loss"] == pytest.approx(theirs.history[0]["loss"], abs=1e-5)
    found = twin.to_torch().state_dict()
    for name, expected in model.state_dict().items():
        assert (found[name] - before[name]).abs().max() > 1e-3, name
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-4)


def test_a_classifier_of_keras_trains_validates_and_predicts():
    trainer = make_classifier()
    best = trainer.train(8, half_planes(), half_planes(16, seed=1), "accuracy")
    assert trainer.history[-1]["val_accuracy"] == 1.0
    assert trainer.history[-1]["ce"] < trainer.history[0]["ce"]
    assert set(trainer.history[0]) == {"epoch", "ce", "loss", "accuracy", "val_ce", "val_loss", "val_accuracy"}
    predictions, labels, means = trainer.predict(half_planes(16, seed=1), 3)
    assert predictions.shape == (16, 2)
    assert means["accuracy"] == 1.0
    assert np.concatenate(labels).shape == (16,)
    assert best is not trainer.network
    picture = half_planes(8)[0]["data"]
    assert np.array_equal(best(picture), trainer.best_network()(picture))
    assert trainer.predict([{"data": picture}])[2] == {}


def test_weights_of_the_best_epoch_are_returned_and_those_of_the_last_stay():
    trainer = make_classifier()
    seen = []
    keep = LambdaCallback(at_checkpoint=lambda trainer, is_best: seen.append((is_best, trainer._weights())))
    trainer.register_callback(keep)
    scores = iter([3.0, 1.0, 2.0])
    trainer._validate_single_epoch = lambda batches, epoch: {"ce": next(scores)}
    best = trainer.train(3, half_planes(), half_planes(), "val_ce", "lowest")
    assert [is_best for is_best, _ in seen] == [True, True, False]
    for name, array in trainer._weights().items():
        assert np.array_equal(array, seen[2][1][name])
    copied = make_classifier(network=best)._weights()
    for name, array in copied.items():
        assert np.array_equal(array, seen[1][1][name])


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_classifier_with_dropout_goes_on_exactly_after_every_step(stop, tmp_path, assert_same):
    options = {
        "lr_scheduler_cls": keras.optimizers.schedules.ExponentialDecay,
        "lr_scheduler_params": {"initial_learning_rate": 0.01, "decay_steps": 2, "decay_rate": 0.5},
    }
    straight = make_classifier(**options)
    straight.train(2, half_planes(), half_planes(16, seed=1))

    def end(trainer, global_iter_num):
        if global_iter_num + 1 == stop:
            trainer.stop("enough", now=True)

    make_classifier(tmp_path, callbacks=[LambdaCallback(at_iter_done=end)], **options).train(
        2, half_planes(), half_planes(16, seed=1)
    )
    resumed = make_classifier(tmp_path, **options)
    resumed.train(2, half_planes(), half_planes(16, seed=1), resume="auto")
    assert resumed.step == 6
    assert resumed.history == straight.history
    assert_same(resumed._framework_state(), straight._framework_state())


def test_a_checkpoint_of_an_automaton_is_a_model_in_pytorch(tmp_path):
    _, twin = twins()
    trainer = TfNetworkTrainer(twin, tmp_path, {"mse": MSE})
    trainer.train(1, growing_batches(2))
    loaded = load_network(tmp_path / "checkpoint_epoch_1.safetensors")
    for name, tensor in twin.to_torch().state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_checkpoints_of_another_network_or_framework_are_refused(tmp_path):
    model, twin = twins()
    trainer = TfNetworkTrainer(twin, None, {"mse": MSE})
    trainer.save_state(tmp_path / "tf.safetensors")
    with pytest.raises(CheckpointError, match="is of a training in tensorflow, not in torch"):
        PyTorchNetworkTrainer(model, None, {"mse": mse}).update_state(tmp_path / "tf.safetensors")
    with pytest.raises(CheckpointError, match="another network; .* arrays differ: 0.kernel"):
        make_classifier().update_state(tmp_path / "tf.safetensors")
    sgd = TfNetworkTrainer(twin, None, {"mse": MSE}, keras.optimizers.SGD)
    with pytest.raises(CheckpointError, match="optimizer 'default' has other variables"):
        sgd.update_state(tmp_path / "tf.safetensors")


def test_metrics_get_tensors_of_their_own_framework_and_are_those_of_the_whole_set():
    seen = {}

    def plain(pred, label):
        seen["plain"] = pred
        return tf.reduce_mean(tf.abs(pred - label))

    _, twin = twins(inference_timesteps=4)
    metrics = {"rmse": RMSE(), "mae": keras.metrics.MeanAbsoluteError(), "plain": plain, "torch_mse": mse}
    trainer = TfNetworkTrainer(twin, None, {"mse": MSE}, metrics=metrics)
    [batch] = growing_batches(1, 4)
    parts = [{k: v[:3] for k, v in batch.items()}, {k: v[3:] for k, v in batch.items()}]
    pred, _, means = trainer.predict(parts)
    assert tf.is_tensor(seen["plain"])
    expected = float(np.square(pred - batch["label"]).mean())
    assert means["rmse"] == pytest.approx(expected**0.5, rel=1e-5)
    assert means["torch_mse"] == pytest.approx(means["mse"]) == pytest.approx(expected, rel=1e-5)
    assert (
        means["mae"]
        == pytest.approx(means["plain"])
        == pytest.approx(float(np.abs(pred - batch["label"]).mean()), rel=1e-5)
    )


def test_numbers_of_the_model_that_a_callback_changes_have_an_effect():
    _, twin = twins(training_timesteps=3)
    steps, rates = [], []

    def watch(trainer, prediction):
        steps.append(prediction.steps)
        rates.append(trainer.network.fire_rate)

    callbacks = [
        StepCurriculum((1, 2), (5, 6), epochs=4),
        LambdaCallback(
            at_epoch_begin=lambda trainer, curr_epoch: setattr(trainer.network, "fire_rate", 1 / curr_epoch)
        ),
        LambdaCallback(at_iter_end=watch),
    ]
    trainer = TfNetworkTrainer(twin, None, {"mse": MSE}, callbacks=callbacks)
    trainer.train(4, growing_batches(1))
    assert steps[0] <= 2
    assert steps[-1] >= 4
    assert rates == [1, 1 / 2, 1 / 3, 1 / 4]
    assert len(trainer._steps) == 4


def test_a_plateau_lowers_the_learning_rate_of_keras():
    [batch] = growing_batches(1)
    _, twin = twins()
    manager = DataManager(batch, 4)
    plateau = RaiseBatchSizeOnPlateau(manager, 4, monitor_key="val_mse", mode="max", patience=0)
    trainer = TfNetworkTrainer(twin, None, {"mse": MSE}, optimizer_params={"learning_rate": 0.01}, callbacks=[plateau])
    trainer._validate_single_epoch = lambda batches, epoch: {"mse": 0.0}
    trainer.train(3, manager, manager)
    assert trainer.learning_rates()["default"] < 0.01
    fixed = make_classifier(
        lr_scheduler_cls=keras.optimizers.schedules.ExponentialDecay,
        lr_scheduler_params={"initial_learning_rate": 0.01, "decay_steps": 2, "decay_rate": 0.5},
    )
    with pytest.raises(ConfigError, match="learning rate of optimizer 'default' cannot be changed"):
        fixed.map_learning_rates(lambda rate: rate / 2)


class TwoOptimizers(AbstractTfNetwork):
    """Network with a training step of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = keras.layers.Dense(2), keras.layers.Dense(1)
        self.build((None, 3))

    def build(self, shape):
        self.first.build(shape)
        self.second.build((None, 2))
        self.built = True

    def call(self, x, training=None):
        return self.second(self.first(x))

    @staticmethod
    def closure(model, data_dict, optimizers, criterions, metrics, fold=0, batch_nr=0, **kwargs):
        with tf.GradientTape(persistent=True) as tape:
            noise = tf.random.normal(data_dict["data"].shape)
            pred = model(data_dict["data"] + noise)
            loss = criterions["mse"](data_dict["label"], pred)
        for layer in optimizers:
            variables = getattr(model, layer).trainable_variables
            optimizers[layer].apply(tape.gradient(loss, variables), variables)
        return {}, {"loss": loss}, pred


def test_a_closure_of_its_own_may_use_several_optimizers_and_goes_on_exactly(tmp_path, assert_same):
    def make():
        keras.utils.set_random_seed(0)
        network = TwoOptimizers()

        def optim_fn(model, optim_cls, **params):
            made = {name: optim_cls(**params) for name in ("first", "second")}
            for name, optimizer in made.items():
                optimizer.build(getattr(model, name).trainable_variables)
            return made

        return TfNetworkTrainer(network, tmp_path, {"mse": MSE}, optim_fn=optim_fn)

    batches = [{"data": np.ones((2, 3), np.float32), "label": np.zeros((2, 1), np.float32)}] * 2
    straight = make()
    straight.train(2, batches)
    resumed = make().update_state(tmp_path / "checkpoint_epoch_1.safetensors")
    resumed.train(2, batches)
    assert_same(resumed._framework_state(), straight._framework_state())
    assert straight.history[0]["loss"] != straight.history[1]["loss"]
    assert straight.predict([{"data": np.ones((2, 3), np.float32)}])[0].shape == (2, 1)
    plain = TfNetworkTrainer(classifier(), None, {"mse": MSE}, optim_fn=lambda cls: {"a": cls(), "b": cls()})
    with pytest.raises(ConfigError, match=r"uses one optimizer, not \['a', 'b'\]"):
        plain.train(1, half_planes())


def test_a_network_that_cannot_be_copied_gets_the_best_weights_itself(caplog):
    class Uncopied(TwoOptimizers):
        closure = staticmethod(AbstractTfNetwork.closure)

        def get_config(self):
            raise NotImplementedError("no config")

    trainer = TfNetworkTrainer(Uncopied(), None, {"mse": MSE})
    batches = [{"data": np.ones((2, 3), np.float32), "label": np.zeros((2, 1), np.float32)}]
    with caplog.at_level(logging.WARNING):
        assert trainer.train(1, batches, batches, "loss", "lowest") is trainer.network
    assert "cannot be copied (NotImplementedError: no config)" in caplog.text


BATCH = {"data": np.ones((4, 6, 6, 1), np.float32), "label": np.zeros(4, np.int64)}
DECAY = keras.optimizers.schedules.ExponentialDecay
WRONG = {
    "no model": (lambda: TfNetworkTrainer(torch.nn.Linear(1, 1), None, {"mse": MSE}), "network is a Keras model"),
    "no weights": (
        lambda: TfNetworkTrainer(keras.Sequential([keras.layers.Dense(1)]), None, {"mse": MSE}),
        "Sequential has no weights yet: give it an Input layer",
    ),
    "no loss": (lambda: TfNetworkTrainer(classifier(), None, {}), "there is nothing to minimise"),
    "a class as loss": (
        lambda: TfNetworkTrainer(classifier(), None, {"mse": keras.losses.MeanSquaredError}),
        "'mse' is the class MeanSquaredError: give an object of it",
    ),
    "a class as metric": (
        lambda: make_classifier(metrics={"a": keras.metrics.MeanAbsoluteError}),
        "'a' is the class MeanAbsoluteError: give an object of it",
    ),
    "optimizer of torch": (
        lambda: TfNetworkTrainer(classifier(), None, {"mse": MSE}, torch.optim.Adam),
        "optimizer_cls is a class of keras.optimizers",
    ),
    "parameter of torch": (
        lambda: TfNetworkTrainer(classifier(), None, {"mse": MSE}, keras.optimizers.Adam, {"lr": 1.0}),
        r"Adam cannot be made with optimizer_params \{'lr': 1.0\}",
    ),
    "misspelt": (lambda: make_classifier(save_frq=2), "Did you mean 'save_freq'"),
    "no GPU": (lambda: make_classifier(gpu_ids=[7]), "GPU 7 was asked for, and TensorFlow sees"),
    "two rates": (
        lambda: TfNetworkTrainer(
            classifier(), None, {"mse": MSE}, optimizer_params={"learning_rate": 1.0}, lr_scheduler_cls=DECAY
        ),
        "both set the learning rate",
    ),
    "schedule of torch": (
        lambda: make_classifier(lr_scheduler_cls=torch.optim.lr_scheduler.StepLR),
        "is a LearningRateSchedule of Keras or a callback",
    ),
    "no schedule": (
        lambda: make_classifier(lr_scheduler_params={"decay_steps": 1}),
        "have no effect without lr_scheduler_cls",
    ),
    "setting of torch": (
        lambda: make_classifier(callbacks=[ScheduleCallback({"optimizer.lr": {"dec": 0.5}})]).train(1, [BATCH]),
        "'optimizer.lr' is a setting of optimizers of PyTorch",
    ),
    "misspelt score": (lambda: make_classifier().train(1, [BATCH], [BATCH], "acuracy"), "Did you mean 'val_accuracy'"),
    "several numbers": (
        lambda: TfNetworkTrainer(classifier(), None, {"a": lambda pred, label: pred[:, 0]}).train(1, [BATCH]),
        r"criterion 'a' has to return one number, not a tensor of shape \(4,\)",
    ),
    "no gradient": (
        lambda: TfNetworkTrainer(classifier(), None, {"a": lambda pred, label: tf.constant(1.0)}).train(1, [BATCH]),
        "the loss of Sequential has no gradient",
    ),
    "a name that is not there": (
        lambda: make_classifier().train(1, [{"data": BATCH["data"], "lable": BATCH["label"]}]),
        "Did you mean 'lable'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused_by_name(case):
    action, message = WRONG[case]
    with pytest.raises((ConfigError, KeyError, ValueError), match=message):
        action()


def test_callbacks_that_need_pytorch_are_refused_by_name():
    with pytest.raises(CallbackTypeError, match="NaNGuard works on gradients or weights in PyTorch"):
        make_classifier(callbacks=[NaNGuard()])
    trainer = make_classifier(callbacks=[EarlyStopping("ce", patience=1)])
    with pytest.raises(CallbackTypeError, match="NaNGuard"):
        trainer.register_callback(NaNGuard())


def test_a_loss_that_fits_only_by_broadcasting_is_refused():
    batch = {"data": BATCH["data"], "label": np.zeros((2, 4), np.float32)}
    trainer = TfNetworkTrainer(classifier(), None, {"a": lambda pred, label: tf.reduce_mean(pred - label[:, :, None])})
    with pytest.raises((ShapeError, ConfigError), match=r"pred \(4, 2\), label \(2, 4\)"):
        trainer.train(1, [batch])


def test_arguments_are_those_of_delira_in_their_order():
    names = list(inspect.signature(TfNetworkTrainer).parameters)
    assert names[:14] == [
        *("network", "save_path", "losses", "optimizer_cls", "optimizer_params", "metrics", "lr_scheduler_cls"),
        *("lr_scheduler_params", "gpu_ids", "save_freq", "optim_fn", "fold", "callbacks", "start_epoch"),
    ]
    assert inspect.signature(TfNetworkTrainer).parameters["optim_fn"].default is create_optims_default_tf
    assert make_classifier().losses.keys() == {"ce"}


def test_a_process_of_torchrun_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="trains in one process"):
        make_classifier()


def test_the_description_names_what_computes():
    text = make_classifier().describe()
    assert "Sequential, " in text
    assert "on CPU:0" in text
    assert "tensorflow" in text


BEST = {"val_score_key": "loss", "val_score_mode": "lowest"}
SAMPLES = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
TARGETS = (SAMPLES @ np.array([[1.0], [2.0], [-1.0], [0.5]], np.float32)).astype(np.float32)
REGRESSION = [{"data": SAMPLES[i : i + 5], "label": TARGETS[i : i + 5]} for i in range(0, 20, 5)]


def regression(network, **options):
    options = {"optimizer_cls": keras.optimizers.SGD, "optimizer_params": {"learning_rate": 0.05}, **options}
    return TfNetworkTrainer(network, options.pop("save_path", None), {"mse": MSE}, **options)


def sequential(*layers):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.layers.Input((4,)), *layers])


def test_the_best_network_has_the_constants_that_follow_from_its_weights(tmp_path):
    def make(adapt):
        layer = keras.layers.Normalization()
        if adapt:
            layer.adapt(50 * SAMPLES + 300)
        else:
            layer.build((None, 4))
        return sequential(layer, keras.layers.Dense(1))

    batches = [{**batch, "data": 50 * batch["data"] + 300} for batch in REGRESSION]
    trainer = regression(make(True), save_path=tmp_path)
    best = trainer.train(5, batches, batches, **BEST)
    assert best is not trainer.network
    predicted = best(batches[0]["data"])
    assert np.allclose(predicted, trainer.network(batches[0]["data"]), atol=1e-4)
    resumed = regression(make(False), save_path=tmp_path)
    resumed.train(6, batches, resume="auto")
    assert resumed.history[-1]["mse"] <= trainer.history[-1]["mse"] * 1.01


class Scaled(keras.Model):
    """Model whose config does not contain its argument."""

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.dense = scale, keras.layers.Dense(1)

    def call(self, x, training=None):
        return self.dense(x) * self.scale


def test_a_copy_that_predicts_other_values_is_not_returned(caplog):
    network = Scaled(scale=5.0)
    network(SAMPLES)
    trainer = regression(network, optimizer_params={"learning_rate": 1e-3})
    scores = iter([1.0, 2.0, 3.0])
    trainer._validate_single_epoch = lambda batches, epoch: {"mse": 0.0, "loss": next(scores)}
    seen = []
    trainer.register_callback(LambdaCallback(at_epoch_end=lambda trainer: seen.append(trainer._weights())))
    best = trainer.train(2, REGRESSION, REGRESSION, **BEST)
    assert best is network
    assert "predicts other values" in caplog.text
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), seen[0].values(), strict=True))
    started = []
    trainer.register_callback(LambdaCallback(at_epoch_begin=lambda trainer: started.append(trainer._weights())))
    trainer.train(3, REGRESSION, REGRESSION, **BEST)
    assert all(np.array_equal(a, b) for a, b in zip(started[0].values(), seen[1].values(), strict=True))


def test_weights_of_the_last_epoch_are_saved_and_loaded_ones_stay(tmp_path):
    network = Scaled(scale=5.0)
    network(SAMPLES)
    trainer = regression(network, save_path=tmp_path, optimizer_params={"learning_rate": 1e-3})
    scores = iter([1.0, 2.0, 3.0, 4.0])
    trainer._validate_single_epoch = lambda batches, epoch: {"mse": 0.0, "loss": next(scores)}
    seen, begun = [], []
    trainer.register_callback(LambdaCallback(at_epoch_end=lambda trainer: seen.append(trainer._weights())))

    def ask(trainer):
        trainer.best_network()

    trainer.register_callback(LambdaCallback(at_iter_end=ask))
    trainer.train(2, REGRESSION, REGRESSION, **BEST)
    trainer.save_state(tmp_path / "later.safetensors")
    saved = trainer.load_state(tmp_path / "later.safetensors")["network"]
    assert all(np.array_equal(a, b) for a, b in zip(saved.values(), seen[1].values(), strict=True))
    trainer.register_callback(LambdaCallback(at_epoch_begin=lambda trainer: begun.append(trainer._weights())))
    trainer.train(2, REGRESSION, REGRESSION, **BEST, resume=tmp_path / "checkpoint_epoch_1.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(begun[0].values(), seen[0].values(), strict=True))
    plain = regression(network_of(seen[0]), optimizer_params={"learning_rate": 1e-3})
    plain.train(1, REGRESSION)
    for ours, theirs in zip(plain._weights().values(), seen[1].values(), strict=True):
        assert np.allclose(ours, theirs, atol=1e-6)


def network_of(arrays):
    network = Scaled(scale=5.0)
    network(SAMPLES)
    network.set_weights(list(arrays.values()))
    return network


def test_attributes_that_a_callback_changes_are_in_every_copy(tmp_path):
    _, twin = twins(training_timesteps=(4, 6), inference_timesteps=5)
    twin.inference_timesteps, twin.fire_rate = 9, 0.75
    trainer = TfNetworkTrainer(twin, tmp_path, {"mse": MSE}, callbacks=[StepCurriculum((2, 3), (7, 9), epochs=2)])
    batches = growing_batches(1)
    best = trainer.train(2, batches, batches, **BEST)
    loaded = load_network(tmp_path / "checkpoint_epoch_2.safetensors")
    for found in (best, twin.to_torch(), loaded, KerasNCA.from_config(twin.get_config())):
        assert (found.training_timesteps, found.inference_timesteps, found.fire_rate) == ((7, 9), 9, 0.75)


def test_frozen_layers_stay_frozen_in_every_copy():
    _, twin = twins()
    twin.cell_layers["rule.hidden.0"].trainable = False
    flags = {name: parameter.requires_grad for name, parameter in twin.to_torch().named_parameters()}
    assert flags == {
        "rule.hidden.0.weight": False, "rule.hidden.0.bias": False, "rule.last.weight": True, "rule.last.bias": True
    }  # fmt: skip
    assert not KerasNCA.from_config(twin.get_config()).cell_layers["rule.hidden.0"].trainable
    assert not KerasNCA(twin.to_torch()).cell_layers["rule.hidden.0"].trainable


def test_regularization_losses_are_minimised_and_shown():
    def train(strength):
        layer = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(strength))
        trainer = regression(sequential(layer), optimizer_params={"learning_rate": 0.01})
        trainer.train(30, REGRESSION, REGRESSION, "val_regularization", "lowest")
        return trainer.history[-1], float(np.square(layer.kernel.value.numpy()).sum())

    (row, size), (_, weak) = train(10.0), train(1e-6)
    assert size < 0.2 * weak
    assert row["loss"] == pytest.approx(row["mse"] + row["regularization"], rel=1e-4)
    assert row["val_regularization"] == pytest.approx(10 * size, rel=1e-3)


def test_layers_that_are_frozen_between_trainings_do_not_move():
    network = sequential(keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.Dense(1))
    trainer = regression(network)
    trainer.train(1, REGRESSION)
    for layer in network.layers[:2]:
        layer.trainable = False
    before = trainer._weights()
    trainer.train(2, REGRESSION)
    moved = [name for name, array in trainer._weights().items() if not np.array_equal(array, before[name])]
    assert moved == list(before)[-2:]
    network = sequential(keras.layers.Dense(3), keras.layers.Dense(1))
    network.layers[0].trainable = False
    trainer = regression(network)
    trainer.train(1, REGRESSION)
    network.layers[0].trainable = True
    with pytest.raises(ConfigError, match="which has become trainable: make a new trainer"):
        trainer.train(2, REGRESSION)


def test_a_loss_is_scaled_for_an_optimizer_that_divides_by_the_scale():
    plain, scaled = sequential(keras.layers.Dense(1)), sequential(keras.layers.Dense(1))
    regression(plain).train(3, REGRESSION)
    inner = keras.optimizers.SGD(0.05)
    wrapped = {"optimizer_cls": keras.optimizers.LossScaleOptimizer, "optimizer_params": {"inner_optimizer": inner}}
    regression(scaled, **wrapped).train(3, REGRESSION)
    for ours, theirs in zip(scaled.get_weights(), plain.get_weights(), strict=True):
        assert np.allclose(ours, theirs, atol=1e-4)
    half = sequential(keras.layers.Dense(1, dtype="mixed_float16"))
    with pytest.raises(
        ConfigError, match="layers compute in float16: optimizer 'default' must be a LossScaleOptimizer"
    ):
        regression(half)
    inner = keras.optimizers.SGD(0.05)
    trainer = regression(half, **{**wrapped, "optimizer_params": {"inner_optimizer": inner}})
    trainer.train(3, REGRESSION)
    assert trainer.history[-1]["mse"] < trainer.history[0]["mse"]


def test_a_metric_that_is_built_by_its_first_batch_goes_on_within_an_epoch(tmp_path):
    def make(*callbacks):
        metrics = {"r2": keras.metrics.R2Score()}
        return regression(sequential(keras.layers.Dense(1)), save_path=tmp_path, metrics=metrics, callbacks=callbacks)

    straight = regression(sequential(keras.layers.Dense(1)), metrics={"r2": keras.metrics.R2Score()})
    straight.train(2, REGRESSION)

    def end(trainer, global_iter_num):
        if global_iter_num == 5:
            trainer.stop("enough", now=True)

    make(LambdaCallback(at_iter_done=end)).train(2, REGRESSION)
    resumed = make()
    resumed.train(2, REGRESSION, resume="auto")
    assert resumed.history == straight.history


def test_the_order_of_arguments_is_that_of_the_function_that_is_called():
    orders = []

    def prediction_first(pred, label):
        orders.append((pred.shape[-1], label.shape[-1]))
        return tf.reduce_mean(pred) + 0 * tf.reduce_mean(tf.cast(label, tf.float32))

    def label_first(labels, logits):
        orders.append((logits.shape[-1], labels.shape[-1]))
        return tf.reduce_mean(logits) + 0 * tf.reduce_mean(tf.cast(labels, tf.float32))

    batches = [{"data": SAMPLES, "label": np.zeros((20, 1), np.int64)}]
    trainer = TfNetworkTrainer(sequential(keras.layers.Dense(3)), None, {"a": prediction_first, "b": label_first})
    trainer.train(1, batches)
    assert orders == [(3, 1)] * 2
    swapped = {"a": label_first, "b": prediction_first}
    trainer.register_callback(LambdaCallback(at_epoch_end=lambda trainer: {"criterions": swapped}))
    trainer.train(3, batches)
    assert orders == [(3, 1)] * 4


def test_a_name_of_an_output_and_of_the_batch_is_refused():
    inputs = keras.layers.Input((4,))
    network = keras.Model(inputs, {"a": keras.layers.Dense(1)(inputs)})
    trainer = TfNetworkTrainer(network, None, {"mse": MSE}, metric_keys={"mse": ("a", "a")})
    with pytest.raises(ConfigError, match="'a' is an output of the network and an entry of the batch"):
        trainer.train(1, [{"data": SAMPLES, "a": TARGETS}])


def test_several_inputs_are_given_by_their_names():
    inputs = [keras.layers.Input((2,), name=name) for name in ("left", "right")]
    network = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(inputs)))
    trainer = regression(network, optimizer_params={"learning_rate": 0.1})
    batch = {"left": SAMPLES[:, :2], "right": SAMPLES[:, 2:], "label": TARGETS.tolist()}
    trainer.train(20, [batch])
    assert trainer.history[-1]["mse"] < 0.2 * trainer.history[0]["mse"]
    assert trainer.predict([batch])[0].shape == (20, 1)
    trainer = regression(network)
    trainer.train(1, [{"data": {"left": SAMPLES[:, :2], "right": SAMPLES[:, 2:]}, "label": TARGETS}])
    assert np.isfinite(trainer.history[0]["mse"])


def test_sample_weights_and_wrapped_metrics_are_measured():
    weights = np.array([1.0] * 10 + [0.0] * 10, np.float32)
    trainer = regression(
        sequential(keras.layers.Dense(1)),
        metrics={
            "mae": keras.metrics.MeanAbsoluteError(),
            "plain": functools.partial(mse),
            "half": keras.metrics.MeanAbsoluteError(),
        },
        metric_keys={"half": ("label", "pred", "weight")},
    )
    pred, _, means = trainer.predict([{"data": SAMPLES, "label": TARGETS, "weight": weights}])
    assert means["half"] == pytest.approx(float(np.abs(pred - TARGETS)[:10].mean()), rel=1e-5)
    assert means["plain"] == pytest.approx(means["mse"], rel=1e-5)


class Stepping(keras.Sequential):
    """Model with a training step for ``fit``."""

    def train_step(self, data):
        raise NotImplementedError


NOT_SUPPORTED = {
    "train_step": (
        lambda: regression(Stepping([keras.layers.Input((4,)), keras.layers.Dense(1)])),
        "Stepping overrides train_step, which is not called",
    ),
    "averages that are not used": (
        lambda: regression(
            sequential(keras.layers.Dense(1)), optimizer_params={"use_ema": True, "ema_overwrite_frequency": None}
        ),
        "use_ema has no effect without ema_overwrite_frequency",
    ),
    "an optimizer of another network": (
        lambda: regression(
            sequential(keras.layers.Dense(1)), optim_fn=lambda cls, learning_rate: built(keras.optimizers.SGD())
        ),
        "optimizer 'default' has variables of another network",
    ),
    "a loss of torch": (
        lambda: TfNetworkTrainer(sequential(keras.layers.Dense(1)), None, {"a": mse}).train(1, REGRESSION),
        "criterion 'a' cannot be computed of",
    ),
    "a metric of several numbers": (
        lambda: regression(sequential(keras.layers.Dense(1)), metrics={"a": keras.metrics.mean_absolute_error}).train(
            1, REGRESSION
        ),
        "the value 'a' of a batch has to be one number",
    ),
    "a label that is broadcast": (
        lambda: regression(sequential(keras.layers.Dense(3))).train(1, REGRESSION),
        r"criterion 'mse' broadcasts its arguments: label \(5, 1\), pred \(5, 3\)",
    ),
    "one GPU without a list": (lambda: make_classifier(gpu_ids=0), "gpu_ids is a list of indices"),
    "half precision": (
        lambda: regression(sequential(keras.layers.Dense(1, dtype="bfloat16"))),
        "are of half precision: use a mixed policy",
    ),
}


def built(optimizer):
    optimizer.build(sequential(keras.layers.Dense(1)).trainable_variables)
    return optimizer


@pytest.mark.parametrize("case", NOT_SUPPORTED)
def test_what_keras_has_and_this_trainer_does_not_use_is_refused(case):
    action, message = NOT_SUPPORTED[case]
    with pytest.raises((ConfigError, ShapeError), match=message):
        action()


def test_arguments_of_keras_reach_the_model():
    class Network(AbstractTfNetwork):
        def __init__(self, width):
            super().__init__(name="bar", trainable=False, width=width)

    network = Network(3)
    assert (network.name, network.trainable, network.init_kwargs) == ("bar", False, {"width": 3})
    assert KerasNCA(twins()[0], name="foo").name == "foo"
    inputs = keras.layers.Input((4,))

    class Functional(AbstractTfNetwork):
        def __init__(self):
            super().__init__(inputs=inputs, outputs=keras.layers.Dense(1)(inputs))

    with pytest.raises(ConfigError, match="make the functional model an attribute"):
        Functional()
