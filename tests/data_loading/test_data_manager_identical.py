"""What is in a batch is a function of seed, epoch and index, and of nothing else."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from delira_nca.data_loading import DataManager, RandomSampler

NUM_BATCHES = 6


def draw_from_everything(batch):
    noise = np.random.normal(size=batch["data"].shape) + random.random() + torch.rand(1).item()
    return {"data": (batch["data"] + noise).astype(np.float32), "label": batch["label"]}


def make_manager(n_process=0, **arguments):
    data = {"data": np.linspace(0, 1, 24 * 9000, dtype=np.float32).reshape(24, 9000), "label": np.arange(24)}
    return DataManager(data, 4, n_process, draw_from_everything, RandomSampler, seed=11, **arguments)


def contents(n_process, epochs, **arguments):
    """Bytes of every batch, by epoch."""
    with make_manager(n_process, **arguments) as manager:
        return {
            epoch: [tuple((key, a.dtype, a.shape, a.tobytes()) for key, a in b.items()) for b in batches]
            for epoch, batches in ((epoch, manager.get_batchgen(epoch=epoch)) for epoch in epochs)
        }


@pytest.fixture(scope="module")
def expected():
    return contents(0, (1, 2, 3))


@pytest.mark.parametrize("n_process", [1, 2, 4])
def test_any_number_of_workers_gives_the_same_bits(n_process, expected):
    assert contents(n_process, (1, 2, 3)) == expected


@pytest.mark.parametrize("prefetch", [1, 5])
def test_prefetch_changes_nothing(prefetch, expected):
    assert contents(2, (1, 2, 3), prefetch=prefetch) == expected


@pytest.mark.parametrize("start_method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_start_method_changes_nothing(start_method, expected):
    if sys.platform == "win32" and start_method == "forkserver":
        pytest.skip("this system has no forkserver")
    assert contents(2, (1, 2), start_method=start_method) == {epoch: expected[epoch] for epoch in (1, 2)}


@pytest.mark.parametrize("n_process", [0, 2])
def test_epoch_two_alone_is_epoch_two_after_epoch_one(n_process, expected):
    assert contents(n_process, (2,)) == {2: expected[2]}


@pytest.mark.parametrize("n_process", [0, 2])
def test_epoch_that_was_left_and_begun_again_is_the_same(n_process, expected):
    with make_manager(n_process) as manager:
        for left_after in (1, 3):
            for number, _ in enumerate(manager.get_batchgen(epoch=2), start=1):
                if number == left_after:
                    break
        again = [batch["data"].tobytes() for batch in manager.get_batchgen(epoch=2)]
    assert again == [{key: data for key, *_, data in batch}["data"] for batch in expected[2]]


def test_one_batch_built_alone_is_the_one_of_the_epoch(expected):
    batch = make_manager(2).get_batchgen(epoch=3).build(4)
    assert batch["data"].tobytes() == {key: data for key, *_, data in expected[3][4]}["data"]


def test_all_batches_of_all_epochs_differ(expected):
    everything = [batch for batches in expected.values() for batch in batches]
    assert len(everything) == len(set(everything)) == 3 * NUM_BATCHES


def test_workers_never_draw_the_same_numbers():
    data = {"data": np.zeros((64, 2)), "label": np.zeros(64)}
    with DataManager(data, 2, 4, draw_from_everything) as manager:
        drawn = [batch["data"].tobytes() for epoch in (1, 2) for batch in manager.get_batchgen(epoch=epoch)]
    assert len(set(drawn)) == 64


@pytest.mark.parametrize("n_process", [0, 2])
def test_generators_of_the_user_are_left_as_they_were(n_process):
    np.random.seed(3)
    np.random.normal()  # the second number of the pair is kept for the next call
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
    for _ in make_manager(n_process).get_batchgen():
        assert (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()) == before


def test_torch_that_is_loaded_by_a_transform_is_seeded_from_the_first_batch_on():
    code = """
import sys
import numpy as np
from delira_nca.data_loading import DataManager

def draw(batch):
    import torch
    return {"x": torch.rand(2).numpy()}

print([batch["x"].tolist() for batch in DataManager({"x": np.zeros(2)}, 1, transforms=draw).get_batchgen()])
"""
    runs = {subprocess.check_output([sys.executable, "-c", code], timeout=60) for _ in range(2)}
    assert len(runs) == 1
