"""A training that cannot fit is refused before its first step, and no other."""

import os
import re
import subprocess
import sys

import pytest
import torch

from delira_nca.errors import ConfigError, MemoryBudgetError, ShapeError
from delira_nca.models import BasicNCAModel, Model, PyramidNCA, presets
from delira_nca.models.rule import MLPRule
from delira_nca.rollout import BACKENDS, using_backend
from delira_nca.training import memory_check
from delira_nca.training.callbacks import LambdaCallback
from delira_nca.training.pytorch_trainer import PyTorchNetworkTrainer

pytestmark = pytest.mark.processor


@pytest.fixture
def memory(monkeypatch):
    """Sets how many bytes are available, one answer after the other, the last one again; counts the questions."""

    class Memory:
        asked = 0

        def set(self, *answers):
            def available(*, swap):
                self.asked += 1
                return answers[min(self.asked, len(answers)) - 1]

            self.asked = 0
            monkeypatch.setattr(memory_check, "available_memory", available)

    return Memory()


@pytest.fixture
def immortal(nca):
    """Makes automata of which every cell lives, so that it is certain what a roll-out keeps."""

    def make(**changes):
        return nca(**{"alive": None, "training_timesteps": (20, 41), **changes})

    return make


@pytest.fixture
def require_least(make_trainer, memory, batches):
    """Trains with a number of bytes, and is refused with one less."""

    def check(network, needed, text, data=None):
        memory.set(needed)
        trainer = make_trainer(network)
        trainer.train(1, data or batches(3))
        assert trainer.global_iter_num == 1
        memory.set(needed - 1)
        with pytest.raises(MemoryBudgetError, match=text):
            make_trainer(network).train(1, data or batches(3))

    return check


def least(network, size=3, steps=40, side=6, backend="sparse", **options):
    return network.cost((side, side), steps, batch_size=size, **options).memory[backend].training_least


@pytest.fixture(autouse=True)
def sparse():
    with using_backend("sparse"):
        yield


def test_what_does_not_fit_is_refused_with_the_numbers_and_the_way_out(make_trainer, immortal, batches, memory):
    network = immortal()
    needed = least(network)
    memory.set(needed - 1)
    trainer = make_trainer(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(MemoryBudgetError) as refused:
        trainer.train(1, batches(3))
    message = str(refused.value)
    assert message.startswith("training on 40 steps of a batch of 3 x (6, 6) needs at least ")
    assert f"{needed / 1024:.1f} KiB on back end 'sparse', and {(needed - 1) / 1024:.1f} KiB are available" in message
    assert "What would fit: a batch of 2, or 39 steps, or a memory_budget of " in message
    assert trainer.global_iter_num == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert isinstance(refused.value, ConfigError)
    assert isinstance(refused.value, MemoryError)


def test_every_way_out_is_one(make_trainer, immortal, batches, memory):
    network = immortal()
    left = least(network) * 9 // 10
    memory.set(left)
    with pytest.raises(MemoryBudgetError) as refused:
        make_trainer(network).train(1, batches(3))
    ways = str(refused.value).partition("What would fit: ")[2]
    found = re.match(r"a batch of (\d+), or (\d+) steps, or a memory_budget of (\d+)", ways)
    size, steps, budget = map(int, found.groups())
    assert least(network, size=size) <= left < least(network, size=size + 1)
    assert least(network, steps=steps) <= left < least(network, steps=steps + 1)
    assert least(network, memory_budget=budget) <= left
    make_trainer(immortal(training_timesteps=steps)).train(1, batches(3))
    make_trainer(immortal(memory_budget=budget)).train(1, batches(3))


@pytest.mark.skipif((why := BACKENDS["native"].unavailable()) is not None, reason=f"needs the native library: {why}")
def test_another_back_end_is_a_way_out_where_it_needs_less(make_trainer, immortal, batches, memory):
    network = immortal()
    assert least(network, backend="native") < least(network, backend="reference")
    memory.set(least(network, backend="native"))
    with using_backend("reference"), pytest.raises(MemoryBudgetError, match=r"set_backend\('native'\)"):
        make_trainer(network).train(1, batches(3))
    with using_backend("native"):
        make_trainer(network).train(1, batches(3))


def test_a_state_so_large_that_nothing_helps_asks_for_a_smaller_grid(make_trainer, nca, batches, memory):
    memory.set(10)
    with pytest.raises(MemoryBudgetError, match="What would fit: a smaller grid"):
        make_trainer(nca()).train(1, batches(1))


def test_where_cells_may_be_dead_only_what_is_certain_counts(nca, require_least):
    network = nca(training_timesteps=40)
    assert least(network) == 2 * 3 * 8 * 6 * 6 * 4  # the result and its gradient
    require_least(network, least(network), "needs at least")


def test_every_cell_that_lives_counts(immortal, require_least):
    network = immortal()
    require_least(network, least(network), "needs at least")


def test_it_is_asked_once_for_each_shape_and_number_of_steps(make_trainer, immortal, batches, memory):
    network = immortal()
    memory.set(2**40)
    trainer = make_trainer(network)
    trainer.train(2, batches(3, 3, 3), batches(2, 2))
    assert memory.asked == 1
    trainer.train(3, batches(3, 3, 1))
    assert memory.asked == 2
    network.training_timesteps = (10, 12)
    trainer.train(4, batches(1, 1))
    assert memory.asked == 3


def test_memory_that_is_only_held_for_reuse_is_given_back_before_a_training_is_refused(
    make_trainer, immortal, batches, memory
):
    memory.set(10, 2**40)
    make_trainer(immortal()).train(1, batches(3))
    assert memory.asked == 2


def test_a_larger_batch_in_the_middle_of_a_training_is_refused_too(make_trainer, immortal, batches, memory):
    network = immortal()
    memory.set(least(network, size=2))
    trainer = make_trainer(network)
    with pytest.raises(MemoryBudgetError, match="batch of 3"):
        trainer.train(1, batches(2, 2, 3))
    assert trainer.global_iter_num == 2


def pyramid_of(network, **options):
    return PyramidNCA(network, [2, 1], [40, 5], jitter=0.1, **options)


def images(size=3, side=16):
    return [{"data": torch.zeros(size, 4, side, side), "label": torch.zeros(size, 4, side, side)}]


def test_a_pyramid_is_checked_at_each_of_its_levels(make_trainer, immortal, memory, require_least):
    network = immortal(num_hidden_channels=4)
    coarse, fine = least(network, side=8, steps=44), least(network, side=16, steps=5)
    assert fine < coarse
    text = r"44 steps of a batch of 3 x \(8, 8\) needs at level 0 of the pyramid"
    require_least(pyramid_of(network), coarse, text, images())
    memory.set(fine - 1)
    with pytest.raises(MemoryBudgetError, match=r"What would fit: a batch of \d$") as refused:
        make_trainer(pyramid_of(network)).train(1, images())
    size = int(str(refused.value)[-1])
    assert least(network, size=size, side=8, steps=44) < fine <= least(network, size=size + 1, side=8, steps=44)


def test_a_pyramid_says_how_many_axes_an_image_has(make_trainer, immortal, memory):
    volumes = [{"data": torch.zeros(2, 4, 8, 8, 8), "label": torch.zeros(2, 4, 8, 8, 8)}]
    with pytest.raises(ShapeError, match=r"\(B, 4, 2 spatial axes\), not \(2, 4, 8, 8, 8\)"):
        make_trainer(pyramid_of(immortal(num_hidden_channels=4))).train(1, volumes)


def test_a_pyramid_on_patches_needs_memory_for_those(immortal, require_least):
    network = immortal(num_hidden_channels=4)
    require_least(pyramid_of(network, patch_size=8), least(network, side=8, steps=44), "at level 0", images())


def test_a_model_is_checked_for_its_architecture(immortal, require_least):
    network = immortal(num_hidden_channels=4)
    model = Model(network, torch.nn.Conv2d(8, 4, 1))
    require_least(model, least(network, side=16), r"40 steps of a batch of 3 x \(16, 16\)", images())


def test_neither_validation_nor_what_callbacks_leave_out_is_counted(make_trainer, immortal, batches, memory):
    first = LambdaCallback(
        at_iter_begin=lambda trainer, data_dict: {"data_dict": {key: values[:1] for key, values in data_dict.items()}}
    )
    network = immortal()
    memory.set(least(network, size=1))
    make_trainer(network).train(1, batches(1), batches(3))
    make_trainer(network, callbacks=[first]).train(1, batches(3))


def test_networks_that_do_not_know_their_cost_are_let_through(
    linear_trainer, linear_network, linear_batches, memory, immortal, batches
):
    class Accumulating(PyTorchNetworkTrainer):
        def _closure(self, data_dict, iter_num, *, train):
            return super()._closure(data_dict, iter_num, train=train)

    memory.set(10)
    linear_trainer(linear_network()).train(1, linear_batches())
    Accumulating(immortal(), None).train(1, batches(3))
    assert memory.asked == 0


class ByHalves(BasicNCAModel):
    """Rolls out a part of the batch only, so that the batch says nothing about memory."""

    def forward_batch(self, batch, *, seed=0, train=False):
        prediction, parts = super().forward_batch({"data": batch["data"][:1]}, seed=seed, train=train)
        return prediction, {name: part.expand(len(batch["data"]), *part.shape[1:]) for name, part in parts.items()}


class Shrinking(BasicNCAModel):
    def prepare_input(self, x):
        return x.clone()


class MyRule(torch.nn.Conv2d):
    pass


def small(cls, **changes):
    arguments = {"num_hidden_channels": 4, "rule": MLPRule(8), "training_timesteps": 4, "alive": None, **changes}
    return cls(**presets.growing(**arguments))


def hooked():
    network = small(BasicNCAModel)
    network.register_forward_pre_hook(lambda module, given: None)
    return network


class OneLevel(PyramidNCA):
    """Decides its roll-outs itself."""

    def _roll(self, image, steps, seed, kept=(), patches=None):
        return super()._roll(image, (1, 1), seed, kept, patches)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (lambda: small(ByHalves), {}),
        (lambda: small(Shrinking), {}),
        (lambda: small(BasicNCAModel, rule=MyRule(24, 8, 1)), {}),
        (hooked, {}),
        (lambda: OneLevel(small(BasicNCAModel), [2, 1], [40, 5]), {"data": images()}),
        (lambda: small(BasicNCAModel), {"mixed_precision": True}),  # the reference then keeps half as much
        (lambda: small(BasicNCAModel, training_timesteps=40), {"left": None}),
    ],
    ids=["forward_batch", "prepare_input", "rule", "hook", "levels", "mixed precision", "unknown memory"],
)
@pytest.mark.usefixtures("any_processor")
def test_what_is_not_known_to_be_too_much_is_let_through(network, options, make_trainer, batches, memory):
    memory.set(options.pop("left", 10))
    data = options.pop("data", batches(3))
    with using_backend("reference"):
        make_trainer(network(), **options).train(1, data)


class OwnRule(torch.nn.Module):
    """A rule that only the reference computes."""

    def __init__(self):
        super().__init__()
        self.last = torch.nn.Conv2d(24, 8, 1)

    def forward(self, perception):
        return self.last(perception).tanh()


def test_a_back_end_that_cannot_do_it_says_so_itself(make_trainer, batches, memory):
    memory.set(10)
    arguments = {"num_hidden_channels": 4, "training_timesteps": (2, 5), "inference_timesteps": 3}
    network = BasicNCAModel(**presets.growing(**arguments, rule=OwnRule()))
    with using_backend("native") if BACKENDS["native"].unavailable() is None else using_backend("sparse"):
        with pytest.raises(ConfigError, match="cannot do this roll-out") as refused:
            make_trainer(network).train(1, batches(3))
        assert not isinstance(refused.value, MemoryBudgetError)


LIMITED = """
import sys
import numpy as np
from delira_nca.errors import MemoryBudgetError
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, Model, PyramidNCA, presets
from delira_nca.training import PyTorchNetworkTrainer, memory_check

side = int(sys.argv[1])
memory_check.available_memory = lambda *, swap: 2**30
network = BasicNCAModel(**presets.growing(alive=None, training_timesteps=64, memory_budget=8 * 2**30))
state = np.broadcast_to(np.ones((), np.float32), (2, 16, side, side))
label = np.broadcast_to(np.zeros((), np.float32), (2, 4, side, side))
try:
    PyTorchNetworkTrainer(network, None).train(1, [{"data": state, "label": label}])
except MemoryBudgetError as error:
    print(error)
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peaks are read from Linux")
def test_a_training_that_would_take_two_gibibytes_is_refused_before_it_takes_any():
    done = subprocess.run([sys.executable, "-c", LIMITED, "768"], capture_output=True, text=True, check=True)
    message, peak = done.stdout.splitlines()
    assert "on 64 steps of a batch of 2 x (768, 768) needs at least " in message
    assert int(peak) < 1024
