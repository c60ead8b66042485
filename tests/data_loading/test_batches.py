"""Batches: a function of seed, epoch and index; an error in one keeps its class and text, and names it."""

import inspect
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from delira_nca.data_loading import AbstractDataset, DataManager, RandomSampler
from delira_nca.data_loading.failures import BatchError, failure_of, place_of
from delira_nca.errors import ConfigError, DeliraNCAError, ShapeError


class CodedError(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{reason} ({code})")
        self.code = code


class WithItsOwnNewError(ValueError):
    def __new__(cls, first, second):
        return super().__new__(cls, first, second)


def make_error(kind):
    class LocalError(LookupError):
        pass

    return {
        "value": ValueError("broken 4711"),
        "key": KeyError("broken 4711"),
        "file": FileNotFoundError(2, "broken 4711", "a.png"),
        "coded": CodedError(4711, "broken"),
        "shape": ShapeError("broken 4711"),
        "local": LocalError("broken 4711"),
        "stop": StopIteration("broken 4711"),
        "unicode": UnicodeDecodeError("utf-8", b"abc", 0, 1, "broken 4711"),
        "new": WithItsOwnNewError("broken", 4711),
        "empty": RuntimeError(),
    }[kind]


class Raise:
    def __init__(self, kind):
        self.kind = kind

    def __call__(self, batch):
        if 4 in batch["x"]:
            raise make_error(self.kind)
        return batch


class BrokenDataset(AbstractDataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5:
            raise OSError("disc 4711 is gone")
        return {"x": index}


def caught(manager, kind=Exception):
    with manager, pytest.raises(kind) as info:
        list(manager.get_batchgen(epoch=3))
    return info.value


@pytest.mark.parametrize("n_process", [0, 1, 2])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("value", ValueError),
        ("key", KeyError),
        ("file", FileNotFoundError),
        ("coded", CodedError),
        ("shape", ShapeError),
        ("local", LookupError),
        ("stop", RuntimeError),
        ("unicode", UnicodeDecodeError),
        ("new", ValueError),
    ],
)
def test_error_keeps_its_class_and_text_and_names_batch_and_samples(kind, expected, n_process):
    error = caught(DataManager({"x": np.arange(8)}, 2, n_process, Raise(kind)), expected)
    assert isinstance(error, BatchError)
    assert isinstance(error, DeliraNCAError)
    assert (error.epoch, error.index, error.samples) == (3, 2, (4, 5))
    assert "broken" in str(error)
    assert "4711" in str(error)
    assert "in batch 2 of epoch 3 (samples 4, 5)" in str(error)
    assert ("built by worker process" in str(error)) == (n_process > 0)
    assert ("raise make_error" in error.worker_traceback) == (n_process > 0)


@pytest.mark.parametrize("n_process", [0, 1])
def test_error_has_the_original_as_its_cause_and_its_attributes(n_process):
    error = caught(DataManager({"x": np.arange(8)}, 2, n_process, Raise("file")))
    assert type(error.__cause__) is FileNotFoundError
    assert (error.__cause__.errno, error.__cause__.filename) == (2, "a.png")
    if n_process == 0:
        assert caught(DataManager({"x": np.arange(8)}, 2, 0, Raise("coded"))).code == 4711


@pytest.mark.parametrize("n_process", [0, 1])
def test_errors_of_a_dataset_and_of_the_result_of_a_transform_are_treated_alike(n_process):
    error = caught(DataManager(BrokenDataset(), 3, n_process), OSError)
    assert str(error).startswith("disc 4711 is gone\n  in batch 1 of epoch 3 (samples 3, 4, 5)")
    error = caught(DataManager({"x": np.arange(8)}, 2, n_process, lambda batch: None), ConfigError)
    assert "is its 'return' missing" in str(error)


def test_batches_before_the_error_are_delivered():
    with DataManager({"x": np.arange(8)}, 2, 2, Raise("value")) as manager:
        batches = iter(manager.get_batchgen())
        assert [next(batches)["x"].tolist(), next(batches)["x"].tolist()] == [[0, 1], [2, 3]]
        with pytest.raises(ValueError, match="4711"):
            next(batches)


def test_error_can_be_pickled_and_in_a_manager_inside_a_manager_names_both_places():
    error = caught(DataManager({"x": np.arange(8)}, 2, 0, Raise("value")))
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, ValueError)
    assert isinstance(copy, BatchError)
    assert str(copy) == str(error)
    assert copy.samples == (4, 5)
    outer = failure_of(error, (7, 0, [])).error()
    assert isinstance(outer, ValueError)
    assert "batch 2 of epoch 3" in str(outer)
    assert "batch 0 of epoch 7" in str(outer)


def test_many_samples_are_not_all_written_out():
    assert place_of(1, 0, np.arange(100)).endswith("13, 14, 15, ... 100 in all)")
    assert place_of(1, 0, [7]) == "batch 0 of epoch 1 (sample 7)"
    assert place_of(1, 0, []) == "batch 0 of epoch 1"


def test_entry_that_cannot_be_pickled_is_the_error_of_its_batch():
    def add_function(batch):
        functions = np.empty(1, object)
        functions[0] = lambda: None
        return {"big": np.zeros(100_000), "functions": functions}

    error = caught(DataManager({"x": np.arange(8)}, 2, 1, add_function))
    assert (error.index, error.samples) == (0, (0, 1))
    assert "pickle" in str(error)


NUM_BATCHES = 6
needs_forkserver = pytest.mark.skipif(sys.platform == "win32", reason="this system has no forkserver")


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


@pytest.mark.parametrize(
    ("n_process", "arguments"),
    [
        (1, {}),
        (4, {}),
        (2, {"prefetch": 1}),
        (2, {"prefetch": 5}),
        pytest.param(2, {"start_method": "spawn"}, marks=pytest.mark.slow),
        pytest.param(2, {"start_method": "forkserver"}, marks=needs_forkserver),
    ],
    ids=str,
)
def test_any_number_of_workers_prefetch_and_start_method_gives_the_same_bits(n_process, arguments, expected):
    assert contents(n_process, (1, 2, 3), **arguments) == expected


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


def test_one_batch_built_alone_is_the_one_of_the_epoch_and_all_batches_differ(expected):
    batch = make_manager(2).get_batchgen(epoch=3).build(4)
    assert batch["data"].tobytes() == {key: data for key, *_, data in expected[3][4]}["data"]
    everything = [batch for batches in expected.values() for batch in batches]
    assert len(everything) == len(set(everything)) == 3 * NUM_BATCHES


def test_workers_never_draw_the_same_numbers():
    data = {"data": np.zeros((64, 2)), "label": np.zeros(64)}
    with DataManager(data, 2, 4, draw_from_everything) as manager:
        drawn = [batch["data"].tobytes() for epoch in (1, 2) for batch in manager.get_batchgen(epoch=epoch)]
    assert len(set(drawn)) == 64


@pytest.mark.parametrize("n_process", [0, 2])
def test_generators_of_the_user_are_left_as_they_were(n_process, generators_stay_untouched):
    with make_manager(n_process) as manager:
        for _ in manager.get_batchgen():
            generators_stay_untouched()


def draw_from_torch(batch):
    import torch

    return {"x": torch.rand(2).numpy()}


def test_torch_that_is_loaded_by_a_transform_is_seeded_from_the_first_batch_on():
    script = f"""
import numpy as np
from delira_nca.data_loading import DataManager
{inspect.getsource(draw_from_torch)}
manager = DataManager({{"x": np.zeros(2)}}, 1, transforms=draw_from_torch)
print([batch["x"].tolist() for batch in manager.get_batchgen()])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    batches = DataManager({"x": np.zeros(2)}, 1, transforms=draw_from_torch).get_batchgen()
    assert done.stdout.strip() == str([batch["x"].tolist() for batch in batches])
