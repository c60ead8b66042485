"""A training of three iterations an epoch that tells what it does: ``interrupted_run.py folder name=value ...``."""

import signal
import sys
import time
from pathlib import Path

import torch

from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, presets
from delira_nca.models.rule import MLPRule
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import AbstractCallback


def say(text):
    print(text, flush=True)  # noqa: T201


class Telling(AbstractCallback):
    """Prints every step; waits for a signal within one of them, and, if asked to, hangs there."""

    def __init__(self, wait, hang):
        self.wait, self.hang = wait, hang

    def at_iter_end(self, trainer, *, train, global_iter_num, **event):
        say(f"inside {global_iter_num + 1}")
        if global_iter_num + 1 == self.wait:
            while not trainer.stop_now:
                time.sleep(0.001)
            if self.hang:
                say("still inside")
                time.sleep(60)

    def at_iter_done(self, trainer, *, global_iter_num, **event):
        say(f"done {global_iter_num + 1}")

    def at_exception(self, trainer, *, exception):
        say(f"exception {type(exception).__name__}: {exception}")

    def at_training_end(self, trainer, **event):
        say("end")


def main(folder, **options):
    """Train for as long as nobody says anything."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    network = BasicNCAModel(**presets.growing(num_hidden_channels=2, rule=MLPRule(4), training_timesteps=2))
    telling = Telling(int(options.pop("wait")), options.pop("hang", None))
    trainer = PyTorchNetworkTrainer(network, folder, {"mse": mse}, callbacks=[telling])
    if options.pop("requeue", None):
        trainer.on_requeue = lambda: say(f"requeued with {max(path.name for path in Path(folder).glob('*iter*'))}")
    batch = {"data": torch.ones(1, 6, 4, 4), "label": torch.zeros(1, 4, 4, 4)}
    try:
        trainer.train(10_000, [batch] * 3, **options)
        say(f"returned {trainer.stop_reason}")
    finally:
        say("cleaned up")


if __name__ == "__main__":
    main(sys.argv[1], **dict(argument.split("=") for argument in sys.argv[2:]))
