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
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError


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
def test_batches_and_subsets_are_the_chosen_samples_of_the_first_dataset(dataset):
    batch = dataset.take([7, 2, 2])
    assert batch["x"].tolist() == [[7.0], [2.0], [2.0]]
    assert batch["y"].tolist() == [7, 2, 2]
    subset = dataset.get_subset([7, 8, 9])
    assert len(subset) == 3
    assert [int(subset[i]["y"]) for i in range(3)] == [7, 8, 9]
    assert subset.take([2, 0])["y"].tolist() == [9, 7]
    inner = dataset.get_subset([9, 7, 5, 3]).get_subset([3, 1])
    assert isinstance(inner, SubsetDataset)
    assert inner.dataset is dataset
    assert inner.take([0, 1])["y"].tolist() == [3, 7]


def test_subset_is_a_view_with_indices_of_its_own_and_a_batch_shares_no_memory():
    array, indices = np.arange(10), np.array([4, 2])
    subset = DictDataset({"x": array}).get_subset(indices)
    indices[:] = 0
    array[4] = 99
    batch = subset.take([0, 1])
    assert [subset[0]["x"], *batch["x"]] == [99, 99, 2]
    assert np.shares_memory(subset.dataset.arrays["x"], array)
    batch["x"] += 1
    assert array[[4, 2]].tolist() == [99, 2]


def test_broadcast_view_stays_a_view_and_a_memory_map_on_disk(tmp_path):
    wide = np.broadcast_to(np.arange(4.0), (1000, 4))
    dataset = DictDataset({"x": wide})
    assert np.shares_memory(dataset.arrays["x"], wide)
    assert dataset.arrays["x"].strides[0] == 0
    assert dataset.take([5, 999])["x"].tolist() == [[0, 1, 2, 3]] * 2
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
    assert len(as_dataset({"a": np.zeros(7), "b": np.zeros(7)})) == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        *((data, "a dict of arrays") for data in (np.zeros(3), 5, "text", None)),
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
    with pytest.raises(ShapeError, match="'data': 5, 'label': 4"):
        DictDataset({"data": np.zeros(5), "label": np.zeros(4)})


def test_shapes_and_keys_that_differ_are_an_error_with_the_sample():
    class Odd(Counting):
        def __getitem__(self, index):
            return {"x": 1} if index % 2 else {"y": 1}

    with pytest.raises(ShapeError, match=r"'x'.*\(2,\) in sample 7, but \(1,\) in sample 1"):
        Counting(10).take([1, 7])
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
    with pytest.raises(ConfigError, match=r"the shapes of 'x' differ: \(1,\) in sample 0; \(2,\) in sample 7"):
        Counting(8).check()
    Counting(8).check(same_shape=False)


def make_parts():
    return [
        DictDataset({"x": np.arange(4.0).reshape(4, 1), "y": np.arange(4)}),
        IterableDataset({"x": np.array([float(i)]), "y": i} for i in range(4, 7)),
        DictDataset({"x": np.arange(10.0).reshape(10, 1), "y": np.arange(10)}).get_subset([9, 8, 7]),
    ]


EXPECTED = [0, 1, 2, 3, 4, 5, 6, 9, 8, 7]


def test_samples_follow_one_another_and_take_keeps_the_given_order_across_the_parts():
    both = ConcatDataset(*make_parts())
    assert len(both) == 10
    assert [int(sample["y"]) for sample in both] == EXPECTED
    assert int(both[-1]["y"]) == 7
    assert both.column("y").tolist() == EXPECTED
    for indices in ([0], [5, 0, 9, 4, 4, 7], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [2, 1]):
        batch = ConcatDataset(make_parts()).take(indices)
        assert batch["y"].tolist() == [EXPECTED[index] for index in indices]
        assert batch["x"].tolist() == [[EXPECTED[index]] for index in indices]


def test_subsets_and_concatenations_of_a_concatenation_are_the_chosen_samples():
    parts = make_parts()
    inner = ConcatDataset(parts).get_subset([9, 7, 5, 3, 1]).get_subset([4, 0, 2])
    assert inner.take([0, 1, 2])["y"].tolist() == [1, 7, 5]
    assert inner.column("y").tolist() == [1, 7, 5]
    nested = ConcatDataset(ConcatDataset(parts[:2]).get_subset([6, 0]), parts[2])
    assert nested.take(range(5))["y"].tolist() == [6, 0, 9, 8, 7]


def test_an_index_beyond_the_end_and_nothing_to_concatenate_are_errors():
    for index in (10, -11):
        with pytest.raises(IndexError, match=f"no sample {index}"):
            ConcatDataset(make_parts())[index]
    for nothing in ((), ([],)):
        with pytest.raises(ConfigError, match="at least one"):
            ConcatDataset(*nothing)


def test_keys_and_shapes_that_differ_name_the_datasets():
    with pytest.raises(ConfigError, match=r"dataset 1 .* keys \['z'\], but dataset 0 has \['x'\]"):
        ConcatDataset({"x": [1]}, {"z": [1]}).take([0, 1])
    with pytest.raises(
        ShapeError, match=r"'x'.*\(3,\) in dataset 2 .*\(sample 0\), .*\(2,\) in dataset 0 \(sample 1\)"
    ):
        ConcatDataset({"x": np.ones((2, 2))}, {"x": [1]}, {"x": np.ones((1, 3))}).take([3, 1])
    with pytest.raises(UnknownNameError, match="'labl'.*Did you mean 'label'"):
        ConcatDataset({"label": [1]}).column("labl")


def test_random_reading_of_one_part_makes_the_whole_random():
    class Random(AbstractDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return {"x": np.random.rand()}

    assert not ConcatDataset(Random(), {"x": [1.0]}).is_deterministic
    assert ConcatDataset({"x": [1.0]}).is_deterministic
    np.random.seed(1)
    expected = np.random.get_state()[1].copy()
    ConcatDataset(Random()).column("x")
    assert np.array_equal(np.random.get_state()[1], expected)
