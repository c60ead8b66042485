"""What the tests of launchers run: functions that other processes can import."""

import os
import signal
import time
from pathlib import Path

import torch

from delira_nca.data_loading import DataManager, repeat
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import LambdaCallback


class OddError(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, first, second):
        super().__init__(first)
        self.second = second


class Marker:
    """A value that cannot be pickled."""

    def __reduce__(self):
        raise TypeError("a marker stays here")


def do(what, **arguments):
    """Any of the functions below, so that one launcher can show what becomes of all of them."""
    return globals()[what](**arguments)


def note(folder, name):
    """Leave a file with the number of this process; return how many there were before."""
    calls = len(list(Path(folder).glob(f"{name}-*")))
    Path(folder, f"{name}-{calls}").write_text(str(os.getpid()))
    return calls


def train(seed, folder=None, epochs=2, iterations=2, pause=0.0, dies_in=None, number=int(signal.SIGKILL)):
    """Train a little, from the checkpoints in the folder on; the first time, get a signal within an epoch."""
    calls = 0 if folder is None else note(folder, "begun")
    if folder is not None:
        found = sorted(path.name for path in Path(folder).glob("checkpoints/*.safetensors"))
        Path(folder, f"found-{calls}").write_text(" ".join(found))

    def at_iter_end(trainer, curr_epoch, iter_num, **_):
        time.sleep(pause)
        if folder is not None:
            Path(folder, "stepped").touch()
        if (curr_epoch, iter_num, calls) == (dies_in, 0, 0):
            os.kill(os.getpid(), number)

    with isolated_rng(seed):
        network = BasicNCAModel(**presets.growing(training_timesteps=(4, 6), inference_timesteps=4))
    pair = {"data": make_seed(network.num_channels, (8, 8)), "label": torch.ones(4, 8, 8)}
    trainer = PyTorchNetworkTrainer(
        network,
        None if folder is None else Path(folder, "checkpoints"),
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 2e-3},
        callbacks=[LambdaCallback(at_iter_end=at_iter_end)],
        seed=seed,
    )
    with DataManager(repeat(pair, 2 * iterations), 2) as data:
        trainer.train(epochs, data, resume="never" if folder is None else "auto")
    return {"mse": [epoch["mse"] for epoch in trainer.history], "threads": torch.get_num_threads()}


def divide(number, by):
    return number / by


def raise_odd():
    raise OddError("one", "two")


def leave(code):
    raise SystemExit(code)


def return_a_marker():
    return Marker()


def fail_once(folder):
    if note(folder, "failed") == 0:
        raise ConnectionError("the network is away")
    return "done"


def die(folder, name, times, number=int(signal.SIGKILL)):
    """Be killed as often as asked."""
    if note(folder, name) < times:
        os.kill(os.getpid(), number)
        time.sleep(30)
    return name


def quit_at_once(code):
    os._exit(code)


def be_slow(folder, name, seconds):
    note(folder, name)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    return name
