import numpy as np
import pytest

from delira_nca.data_loading import AbstractDataset, ConcatDataset, DictDataset, IterableDataset
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError


def make_parts():
    return [
        DictDataset({"x": np.arange(4.0).reshape(4, 1), "y": np.arange(4)}),
        IterableDataset({"x": np.array([float(i)]), "y": i} for i in range(4, 7)),
        DictDataset({"x": np.arange(10.0).reshape(10, 1), "y": np.arange(10)}).get_subset([9, 8, 7]),
    ]


EXPECTED = [0, 1, 2, 3, 4, 5, 6, 9, 8, 7]


def test_samples_follow_one_another():
    both = ConcatDataset(*make_parts())
    assert len(both) == 10
    assert [int(sample["y"]) for sample in both] == EXPECTED
    assert int(both[-1]["y"]) == 7
    assert both.column("y").tolist() == EXPECTED


@pytest.mark.parametrize("indices", [[0], [5, 0, 9, 4, 4, 7], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [2, 1]])
def test_take_keeps_the_given_order_across_the_parts(indices):
    batch = ConcatDataset(make_parts()).take(indices)
    assert batch["y"].tolist() == [EXPECTED[index] for index in indices]
    assert batch["x"].tolist() == [[EXPECTED[index]] for index in indices]


def test_subset_of_a_subset_of_a_concatenation_is_the_chosen_samples():
    inner = ConcatDataset(make_parts()).get_subset([9, 7, 5, 3, 1]).get_subset([4, 0, 2])
    assert inner.take([0, 1, 2])["y"].tolist() == [1, 7, 5]
    assert inner.column("y").tolist() == [1, 7, 5]


def test_concatenation_of_subsets_and_of_concatenations():
    parts = make_parts()
    nested = ConcatDataset(ConcatDataset(parts[:2]).get_subset([6, 0]), parts[2])
    assert nested.take(range(5))["y"].tolist() == [6, 0, 9, 8, 7]


@pytest.mark.parametrize("index", [10, -11])
def test_beyond_the_end_is_an_index_error(index):
    with pytest.raises(IndexError, match=f"no sample {index}"):
        ConcatDataset(make_parts())[index]


def test_nothing_to_concatenate_is_an_error():
    with pytest.raises(ConfigError, match="at least one"):
        ConcatDataset()
    with pytest.raises(ConfigError, match="at least one"):
        ConcatDataset([])


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
