import numpy as np
import pytest
import torch

from delira_nca.data_loading import (
    AbstractDataset,
    CachedDataset,
    ConcatDataset,
    DictDataset,
    IterableDataset,
    SubsetDataset,
    as_dataset,
    repeat,
)
from delira_nca.errors import ConfigError, ShapeError


class Counting(AbstractDataset):
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {"x": np.full((index % 2 + 1 if index > 5 else 1,), index), "y": index}


DATASETS = [
    DictDataset({"x": np.arange(10.0).reshape(10, 1), "y": np.arange(10)}),
    IterableDataset({"x": np.array([float(i)]), "y": i} for i in range(10)),
]


@pytest.mark.parametrize("dataset", DATASETS, ids=["dict", "iterable"])
def test_take_stacks_the_samples_in_the_given_order(dataset):
    batch = dataset.take([7, 2, 2])
    assert batch["x"].tolist() == [[7.0], [2.0], [2.0]]
    assert batch["y"].tolist() == [7, 2, 2]


@pytest.mark.parametrize("dataset", DATASETS, ids=["dict", "iterable"])
def test_subset_is_the_chosen_samples_and_not_the_first(dataset):
    subset = dataset.get_subset([7, 8, 9])
    assert len(subset) == 3
    assert [int(subset[i]["y"]) for i in range(3)] == [7, 8, 9]
    assert subset.take([2, 0])["y"].tolist() == [9, 7]


@pytest.mark.parametrize("dataset", DATASETS, ids=["dict", "iterable"])
def test_subset_of_a_subset_refers_to_the_samples_of_the_first_dataset(dataset):
    inner = dataset.get_subset([9, 7, 5, 3]).get_subset([3, 1])
    assert isinstance(inner, SubsetDataset)
    assert inner.dataset is dataset
    assert inner.take([0, 1])["y"].tolist() == [3, 7]


def test_subset_is_a_view():
    array = np.arange(10)
    subset = DictDataset({"x": array}).get_subset([4])
    array[4] = 99
    assert subset[0]["x"] == 99
    assert np.shares_memory(subset.dataset.arrays["x"], array)


def test_subset_does_not_follow_a_later_change_of_the_index_list():
    indices = np.array([1, 2])
    subset = DATASETS[0].get_subset(indices)
    indices[:] = 0
    assert subset.take([0, 1])["y"].tolist() == [1, 2]


def test_taken_batch_shares_no_memory_with_the_dataset():
    array = np.zeros((4, 2))
    batch = DictDataset({"x": array}).take([0, 1])
    batch["x"] += 1
    assert not array.any()


def test_length_is_the_length_of_the_arrays_not_the_number_of_keys():
    assert len(as_dataset({"a": np.zeros(7), "b": np.zeros(7)})) == 7


def test_broadcast_view_stays_a_view():
    wide = np.broadcast_to(np.arange(4.0), (1000, 4))
    dataset = DictDataset({"x": wide})
    assert np.shares_memory(dataset.arrays["x"], wide)
    assert dataset.arrays["x"].strides[0] == 0
    assert dataset.take([5, 999])["x"].tolist() == [[0, 1, 2, 3]] * 2


def test_memory_map_stays_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6).reshape(3, 2))
    dataset = DictDataset({"x": np.load(tmp_path / "x.npy", mmap_mode="r")})
    assert isinstance(dataset.arrays["x"], np.memmap)
    batch = dataset.take([2])["x"]
    assert not isinstance(batch, np.memmap)
    assert batch.tolist() == [[4, 5]]


def test_as_dataset_keeps_a_dataset_and_wraps_the_rest():
    assert as_dataset(DATASETS[0]) is DATASETS[0]
    assert isinstance(as_dataset({"x": [1, 2]}), DictDataset)
    assert isinstance(as_dataset(iter([{"x": 1}])), IterableDataset)
    assert as_dataset({"x": torch.arange(3)}).take([2])["x"].tolist() == [2]


@pytest.mark.parametrize("data", [np.zeros(3), 5, "text", None])
def test_as_dataset_refuses_what_has_no_names(data):
    with pytest.raises(ConfigError, match="a dict of arrays"):
        as_dataset(data)


def test_unequal_lengths_are_named():
    with pytest.raises(ShapeError, match="'data': 5, 'label': 4"):
        DictDataset({"data": np.zeros(5), "label": np.zeros(4)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "at least one array"),
        ({"x": []}, r"\['x'\] is 0"),
        ([], "at least one sample"),
        ({"x": 3.0}, "'x' is a single float64"),
        ({"x": [[1, 2], [3]]}, "'x' is not an array"),
        ({1: [1, 2]}, "strings, not 1"),
        ([{"x": 1}, {"y": 1}], r"sample 1 has the keys \['y'\], but sample 0 has \['x'\]"),
        ([{"x": 1}, 3], "sample 1 is a int"),
    ],
)
def test_data_that_make_no_dataset_are_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        as_dataset(data)


def test_shapes_that_differ_are_an_error_with_key_and_sample():
    with pytest.raises(ShapeError, match=r"'x'.*\(2,\) in sample 7, but \(1,\) in sample 1"):
        Counting(10).take([1, 7])


def test_keys_that_differ_are_an_error_with_the_sample():
    class Odd(Counting):
        def __getitem__(self, index):
            return {"x": 1} if index % 2 else {"y": 1}

    with pytest.raises(ConfigError, match=r"sample 5 has the keys \['x'\], but sample 2 has \['y'\]"):
        Odd(10).take([2, 5])


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], "non-empty"),
        ([[1]], "shape"),
        ([10], "index 10 is out of range: the 10 samples"),
        ([-1], "index -1 is out of range"),
        ([0.5], "float64"),
        (np.ones(10, dtype=bool), "np.flatnonzero"),
    ],
)
@pytest.mark.parametrize("method", ["take", "get_subset"])
def test_indices_that_do_not_fit_are_refused(method, indices, message):
    with pytest.raises(ConfigError, match=message):
        getattr(DATASETS[0], method)(indices)


def test_a_sample_is_repeated_a_number_of_times_of_any_integer_type():
    assert len(repeat({"x": np.ones(2)}, np.int64(3))) == 3
    for wrong in (np.int64(0), True, 2.0):
        with pytest.raises(ConfigError, match="times must be a whole number of at least 1"):
            repeat({"x": np.ones(2)}, wrong)


class Broken(Counting):
    """Samples of which one cannot be read, and one has a NaN."""

    def __getitem__(self, index):
        if index == 2:
            raise KeyError("x")
        return {"x": np.array([np.nan if index == 3 else index]), "y": index}


def test_every_dataset_checks_its_samples():
    arrays = DictDataset({"x": np.array([[0.0], [np.inf], [2.0]]), "y": np.arange(3)})
    nested = [arrays, arrays.get_subset([1, 2]), ConcatDataset([arrays, arrays]), CachedDataset(arrays)]
    for dataset in nested:
        with pytest.raises(ConfigError, match="1 of 1 values of 'x' are NaN or infinite"):
            dataset.check()
    arrays.get_subset([0, 2]).check()
    with pytest.raises(ConfigError) as raised:
        Broken(5).check()
    assert str(raised.value).splitlines() == [
        "2 of 5 samples cannot be used:",
        "sample 2: KeyError: 'x'",
        "sample 3: 1 of 1 values of 'x' are NaN or infinite",
    ]


def test_shapes_that_no_batch_can_hold_are_found_before_the_training():
    with pytest.raises(ConfigError, match=r"the shapes of 'x' differ: \(1,\) in sample 0; \(2,\) in sample 7"):
        Counting(8).check()
    Counting(8).check(same_shape=False)
