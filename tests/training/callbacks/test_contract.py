"""What holds for every callback of the package: found by introspection, so that a new one cannot be forgotten."""

import copy
import importlib
import inspect
import io
import pickle
import pkgutil

import pytest
import torch

import delira_nca.training.callbacks as package
from delira_nca.data_loading import DataManager
from delira_nca.errors import CallbackError, CallbackTypeError, ConfigError
from delira_nca.logging import JSONLSink
from delira_nca.models import make_seed
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import AbstractCallback
from delira_nca.training.callbacks.abstract_callback import HOOKS


def _found():
    for module in pkgutil.iter_modules(package.__path__):
        for cls in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            own = inspect.isclass(cls) and issubclass(cls, AbstractCallback) and cls.__module__.endswith(module.name)
            abstract = own and any(getattr(value, "__isabstractmethod__", False) for value in vars(cls).values())
            if own and not abstract:
                yield cls


CLASSES = sorted(_found(), key=lambda cls: cls.__name__)

ARGUMENTS = {
    "Checkpoint": lambda folder: ((folder,), {"top_k": 1, "monitor_key": "loss"}),
    "Console": lambda folder: (("file",), {"folder": folder}),
    "EarlyStopping": lambda folder: (("loss",), {"patience": 3}),
    "LRSchedulerCallback": lambda folder: ((torch.optim.lr_scheduler.StepLR, {"step_size": 1}), {}),
    "LongRunSelection": lambda folder: (({"data": torch.ones(1, 8, 6, 6), "label": torch.ones(1, 4, 6, 6)},), {}),
    "LambdaCallback": lambda folder: ((), {"at_epoch_end": print_nothing}),
    "MetricLogger": lambda folder: ((JSONLSink(folder / "log.jsonl"),), {"every": 1}),
    "PoolMutation": lambda folder: (
        (SamplePool(torch.zeros(8, 6, 6), 6, slots={"label": torch.zeros(6, 4, 6, 6)}),),
        {"num_image_channels": 4},
    ),
    "PoolUpdate": lambda folder: ((SamplePool(make_seed(8, (6, 6)), 6),), {}),
    "PatienceController": lambda folder: ((make_manager(), 8), {"monitor_key": "loss"}),
    "RaiseBatchSizeOnPlateau": lambda folder: ((make_manager(), 8), {"monitor_key": "loss"}),
    "RolloutLoss": lambda folder: ((mean_square,), {"name": "size"}),
    "ScheduleCallback": lambda folder: (({"model.fire_rate": {"dec": 0.9}},), {}),
    "StepCurriculum": lambda folder: (((1, 2), (3, 5)), {"epochs": 3}),
    "StepSampler": lambda folder: ((2, 5), {}),
    "ProgressBar": lambda folder: ((), {"stream": io.StringIO()}),
    "ValidationSets": lambda folder: (({"other": make_manager()},), {}),
    "TimeLimit": lambda folder: (("1h",), {"clock": stopped_clock}),
    "Watchdog": lambda folder: ((), {"folder": folder}),
}


OF_ONE_RUN = {"MetricLogger"}
"""Callbacks whose records are those of one run."""


def make_manager():
    """Data that fit the network of these tests."""
    return DataManager({"data": torch.zeros(4, 8, 6, 6).numpy(), "label": torch.zeros(4, 4, 6, 6).numpy()}, 2)


def print_nothing(trainer):
    """Take part in a pickle, which a lambda cannot."""


def mean_square(state):
    """Loss of a state, which a pickle can name."""
    return state.square().mean()


def stopped_clock():
    """Time that does not pass, so that two runs take the same."""
    return 0.0


def _make(cls, folder):
    args, kwargs = ARGUMENTS.get(cls.__name__, lambda folder: ((), {}))(folder)
    return cls(*args, **kwargs)


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def callback_cls(request):
    return request.param


@pytest.fixture
def trained(callback_cls, make_trainer, batches, tmp_path):
    """Callback after two epochs, and its trainer."""
    callback = _make(callback_cls, tmp_path)
    trainer = make_trainer(callbacks=[callback])
    trainer.train(2, batches(3, 3), batches(2))
    return callback, trainer


def test_what_is_public_is_what_is_there():
    assert [cls.__name__ for cls in CLASSES] == package.__all__
    assert all(getattr(package, cls.__name__) is cls for cls in CLASSES)
    assert dir(package) == package.__all__
    with pytest.raises(AttributeError, match="no attribute 'Checkpiont'"):
        package.Checkpiont  # noqa: B018


def test_it_and_its_hooks_are_documented_its_text_is_short_and_it_leaves_nothing_behind(callback_cls, trained):
    assert len(callback_cls.__doc__.strip()) > 20
    for name, method in vars(callback_cls).items():
        if callable(method) and not name.startswith("_"):
            assert method.__doc__, name
    callback, trainer = trained
    assert repr(callback).startswith(f"{callback_cls.__name__}(")
    assert len(repr(callback)) < 300
    assert "\n" not in repr(callback)
    for optimizer in trainer.optimizers.values():
        assert len(optimizer._optimizer_step_pre_hooks) == len(optimizer._optimizer_step_post_hooks) == 0
    assert all(not module._forward_hooks for module in trainer.network.modules())


def test_it_has_no_hook_but_those_that_there_are(callback_cls, trained):
    hooks = [name for name in dir(callback_cls) if name.startswith(("at_", "on_"))]
    assert sorted(hooks) == sorted(HOOKS)
    _, trainer = trained
    listens = [hook for hook in HOOKS if callback_cls.__name__ in trainer._callbacks.names_at(hook)]
    assert listens or callback_cls is AbstractCallback


def test_its_state_survives_a_checkpoint_and_can_be_taken_back(
    callback_cls, trained, make_trainer, batches, tmp_path, assert_same
):
    callback, trainer = trained
    trainer.save_state(tmp_path / "state.pt")
    fresh, other = _make(callback_cls, tmp_path), _make(callback_cls, tmp_path)
    before = copy.deepcopy(other.state_dict())
    other.load_state_dict(callback.state_dict())
    other.load_state_dict(before)
    assert_same(other.state_dict(), before)
    resumed = make_trainer(callbacks=[fresh]).update_state(tmp_path / "state.pt")
    assert_same(fresh.state_dict(), callback.state_dict())
    for each in (trainer, resumed):
        each.train(3, batches(3, 3), batches(2))
    assert_same(fresh.state_dict(), callback.state_dict())
    assert_same(resumed.state_dict(), trainer.state_dict())


def test_its_state_belongs_to_one_run(callback_cls, trained, make_trainer, nca, batches, tmp_path, assert_same):
    reused, fresh = trained[0], _make(callback_cls, tmp_path)
    trainers = [make_trainer(nca(1), callbacks=[callback]) for callback in (reused, fresh)]
    trainers[1].run_id = trainers[0].run_id
    data = batches(2, 4, seed=1), batches(3, seed=1)
    if callback_cls.__name__ in OF_ONE_RUN:
        with pytest.raises(ConfigError, match="make one for each run"):
            trainers[0].train(2, *data)
        trained[1].train(3, batches(3))
        assert len(trained[1].history) == 3
        return
    for trainer in trainers:
        trainer.train(2, *data)
    assert_same(trainers[0].state_dict(), trainers[1].state_dict())
    if reused.state_dict():
        with pytest.raises(CallbackError, match=f"{callback_cls.__name__} has served another run"):
            trained[1].train(3, batches(3))
    else:
        trained[1].train(3, batches(3))
        assert len(trained[1].history) == 3


def test_a_copy_of_it_has_its_state(callback_cls, trained, tmp_path, assert_same):
    callback, _ = trained
    for copied in (lambda original: pickle.loads(pickle.dumps(original)), copy.deepcopy):
        assert repr(copied(_make(callback_cls, tmp_path))) == repr(_make(callback_cls, tmp_path))
        again = copied(callback)
        assert repr(again) == repr(callback)
        assert_same(again.state_dict(), callback.state_dict())


def test_it_serves_tensorflow_or_is_refused_by_name(callback_cls, batches, tmp_path, assert_same):
    keras = pytest.importorskip("keras", reason="TensorFlow is not installed")
    from delira_nca.models import presets
    from delira_nca.models.tf import KerasNCA
    from delira_nca.training.tf import TfNetworkTrainer

    def make_tf_trainer(callback):
        network = KerasNCA(**presets.growing(num_hidden_channels=4, training_timesteps=(2, 4), inference_timesteps=2))
        losses = {"mse": keras.losses.MeanSquaredError()}
        return TfNetworkTrainer(network, None, losses, callbacks=[callback], seed=3)

    callback = _make(callback_cls, tmp_path)
    if callback_cls.needs_torch:
        with pytest.raises(
            CallbackTypeError, match=f"{callback_cls.__name__} works on gradients or weights in PyTorch"
        ):
            make_tf_trainer(callback)
        return
    trainer = make_tf_trainer(callback)
    trainer.train(2, batches(3, 3), batches(2))
    trainer.save_state(tmp_path / "state.pt")
    fresh = _make(callback_cls, tmp_path)
    resumed = make_tf_trainer(fresh).update_state(tmp_path / "state.pt")
    assert_same(fresh.state_dict(), callback.state_dict())
    for each in (trainer, resumed):
        each.train(3, batches(3, 3), batches(2))
    assert_same(resumed.state_dict(), trainer.state_dict())
