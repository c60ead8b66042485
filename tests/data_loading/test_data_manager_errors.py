"""An error in a batch keeps its class and its text, and says which batch it was, whoever built it."""

import pickle

import numpy as np
import pytest

from delira_nca.data_loading import AbstractDataset, DataManager
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
def test_error_of_a_dataset_is_treated_alike(n_process):
    error = caught(DataManager(BrokenDataset(), 3, n_process), OSError)
    assert str(error).startswith("disc 4711 is gone\n  in batch 1 of epoch 3 (samples 3, 4, 5)")


def test_batches_before_the_error_are_delivered():
    with DataManager({"x": np.arange(8)}, 2, 2, Raise("value")) as manager:
        batches = iter(manager.get_batchgen())
        assert [next(batches)["x"].tolist(), next(batches)["x"].tolist()] == [[0, 1], [2, 3]]
        with pytest.raises(ValueError, match="4711"):
            next(batches)


def test_error_can_be_pickled():
    error = caught(DataManager({"x": np.arange(8)}, 2, 0, Raise("value")))
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, ValueError)
    assert isinstance(copy, BatchError)
    assert str(copy) == str(error)
    assert copy.samples == (4, 5)


def test_error_of_a_manager_inside_a_manager_names_both_places():
    inner = caught(DataManager({"x": np.arange(8)}, 2, 0, Raise("value")))
    outer = failure_of(inner, (7, 0, [])).error()
    assert isinstance(outer, ValueError)
    assert "batch 2 of epoch 3" in str(outer)
    assert "batch 0 of epoch 7" in str(outer)


def test_many_samples_are_not_all_written_out():
    assert place_of(1, 0, np.arange(100)).endswith("13, 14, 15, ... 100 in all)")
    assert place_of(1, 0, [7]) == "batch 0 of epoch 1 (sample 7)"
    assert place_of(1, 0, []) == "batch 0 of epoch 1"


@pytest.mark.parametrize("n_process", [0, 1])
def test_wrong_result_of_a_transform_stays_a_config_error(n_process):
    error = caught(DataManager({"x": np.arange(8)}, 2, n_process, lambda batch: None), ConfigError)
    assert "is its 'return' missing" in str(error)


def test_entry_that_cannot_be_pickled_is_the_error_of_its_batch():
    def add_function(batch):
        functions = np.empty(1, object)
        functions[0] = lambda: None
        return {"big": np.zeros(100_000), "functions": functions}

    error = caught(DataManager({"x": np.arange(8)}, 2, 1, add_function))
    assert (error.index, error.samples) == (0, (0, 1))
    assert "pickle" in str(error)
