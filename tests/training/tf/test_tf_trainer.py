"""The trainer for TensorFlow: the same weights as PyTorch, every kind of Keras model, and the same loop."""

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
