"""A trainer without a backend, and a tiny automaton."""

import numpy as np
import pytest
import torch

from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, presets
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.models.rule import MLPRule
from delira_nca.training.abstract_trainer import AbstractNetworkTrainer
from delira_nca.training.callbacks import LambdaCallback
from delira_nca.training.callbacks.abstract_callback import HOOKS, AbstractCallback
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer


class PlainTrainer(AbstractNetworkTrainer):
    """Trains nothing: its metrics are those that it was given, one dict for each epoch."""

    def __init__(self, train_metrics=(), valid_metrics=(), fold=0, callbacks=(), names=None):
        super().__init__(fold, callbacks)
        self.train_metrics, self.valid_metrics, self.names = list(train_metrics), list(valid_metrics), names
        self._setup()

    def _setup(self):
        self.epochs_done = []

    def _iterate(self, batchgen, epoch, train):
        for iter_num, batch in enumerate(batchgen):
            event = {"iter_num": iter_num, "curr_epoch": epoch, "global_iter_num": self.global_iter_num, "train": train}
            seen = self._dispatch_iter_begin(batch, **event)
            if seen.get("fails"):
                raise seen["fails"]
            self._dispatch("at_iter_end", data_dict=seen, metrics={}, prediction=None, **event)
            if train:
                self._finish_iteration(iter_num, epoch)

    def _train_single_epoch(self, batchgen, epoch):
        self._iterate(batchgen, epoch, True)
        self.epochs_done.append(epoch)
        return self.train_metrics[epoch - 1] if self.train_metrics else {"loss": 1.0 / epoch}

    def _validate_single_epoch(self, batchgen, epoch):
        self._iterate(batchgen, epoch, False)
        return self.valid_metrics[epoch - 1] if self.valid_metrics else {"loss": 2.0 / epoch}

    def _score_names(self, *, validated):
        if self.names is None:
            return None
        return [*self.names, *(f"val_{name}" for name in self.names)] if validated else list(self.names)

    def predict(self, batchgen, batch_size=None):
        return list(batchgen)

    def best_network(self):
        return self.best.epoch


class LinearNetwork(AbstractPyTorchNetwork):
    """One layer, for what needs no automaton."""

    def __init__(self, num_inputs=3, num_outputs=1):
        super().__init__(num_inputs=num_inputs, num_outputs=num_outputs)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(num_inputs, num_outputs)

    def forward(self, x):
        return self.layer(x)


class Recorder(AbstractCallback):
    """Writes down every hook that runs, with its event."""

    def __init__(self, calls, name="a"):
        self.calls, self.name = calls, name


def _record(hook):
    def method(self, trainer, **event):
        self.calls.append((self.name, hook, event))

    return method


for _hook in HOOKS:
    setattr(Recorder, _hook, _record(_hook))


@pytest.fixture
def stop_after():
    """Makes callbacks that end a training after a number of iterations of the run."""

    def make(number):
        def stop(trainer, global_iter_num):
            if global_iter_num + 1 == number:
                trainer.stop("enough", now=True)

        return LambdaCallback(at_iter_done=stop)

    return make


@pytest.fixture
def plain_trainer():
    return PlainTrainer


@pytest.fixture
def recorder():
    return Recorder


@pytest.fixture
def linear_network():
    return LinearNetwork


@pytest.fixture
def nca():
    """Makes automata of 8 channels, alike for the same seed, whose last layer is not zero."""

    def make(seed=0, **changes):
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            arguments = {
                "num_hidden_channels": 4,
                "rule": MLPRule(8),
                "training_timesteps": (2, 5),
                "inference_timesteps": 3,
                **changes,
            }
            network = BasicNCAModel(**presets.growing(**arguments))
            torch.nn.init.normal_(network.rule.last.weight, std=0.05)
        return network

    return make


@pytest.fixture
def batches():
    """Makes batches of 8-channel states that live, and of labels for their 4 image channels."""

    def make(*sizes, seed=0, side=6):
        rng = np.random.default_rng(seed)
        made = []
        for size in sizes or (3, 3):
            data = rng.random((size, 8, side, side), dtype=np.float32)
            data[:, 3] = 1.0
            made.append({"data": data, "label": rng.random((size, 4, side, side), dtype=np.float32)})
        return made

    return make


@pytest.fixture
def make_trainer(nca):
    """Makes trainers of the tiny automaton; arguments as the trainer's."""

    def make(network=None, save_path=None, criterions=None, optimizer_cls=torch.optim.Adam, **changes):
        arguments = {"optimizer_params": {"lr": 1e-2}, **changes}
        return PyTorchNetworkTrainer(
            network or nca(), save_path, criterions or {"mse": mse}, optimizer_cls, **arguments
        )

    return make


@pytest.fixture
def linear_batches():
    """Makes batches for the linear network: the label is the sum of three numbers."""

    def make(*sizes, seed=0):
        rng = np.random.default_rng(seed)
        data = [rng.random((size, 3), dtype=np.float32) for size in sizes or (4, 4)]
        return [{"data": x, "label": x.sum(1, keepdims=True)} for x in data]

    return make


@pytest.fixture
def linear_trainer():
    """Makes trainers of the linear network that do not change it, unless they are told to; arguments by name."""

    def make(network, **changes):
        arguments = {"criterions": {"mse": mse}, "optimizer_cls": torch.optim.SGD, "optimizer_params": {"lr": 0.0}}
        return PyTorchNetworkTrainer(network, None, **{**arguments, **changes})

    return make


@pytest.fixture
def image_network():
    """Makes small automata of images with one channel, alike each time; arguments as the model's."""

    def make(**changes):
        settings = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 1, "hidden_size": 8}
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return BasicNCAModel(**{**settings, "training_timesteps": 3, "inference_timesteps": 3, **changes})

    return make


@pytest.fixture
def image_trainer(image_network):
    """Makes trainers of automata of images; arguments as the trainer's."""

    def make(save_path=None, network=None, criterions=None, cls=PyTorchNetworkTrainer, **options):
        criterions = {"mse": mse} if criterions is None else criterions
        options = {"optimizer_params": {"lr": 1e-2}, **options}
        return cls(image_network() if network is None else network, save_path, criterions, **options)

    return make


@pytest.fixture
def image_batches():
    """Makes a number of batches of images and of labels that are 1."""

    def make(count):
        source = torch.Generator().manual_seed(1)
        images = [torch.rand(2, 1, 4, 4, generator=source).numpy() for _ in range(count)]
        return [{"data": image, "label": np.ones_like(image)} for image in images]

    return make
