"""Random patches of images of any size."""

import numpy as np
import pytest

from delira_nca.data_loading import DataManager
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.data_loading.patches import PatchDataset
from delira_nca.errors import ConfigError


class Images(AbstractDataset):
    """Images of several sizes whose values are their flat indices, with one cell of class 2 and more of class 1."""

    is_deterministic = True

    def __len__(self):
        return 3

    def __getitem__(self, index):
        shape = (10 + 4 * index, 30)
        data = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
        label = np.zeros((1, *shape), np.int64)
        label[0, -3:, :4] = 1
        label[0, 0, 29] = 2
        return {"data": data, "label": label}


def test_patches_are_parts_of_their_image_with_their_mask():
    patches = PatchDataset(Images(), (6, 8), num_patches=90, foreground=0.5)
    assert len(patches) == 90
    np.random.seed(0)
    for number in range(90):
        sample, whole = patches[number], Images()[number % 3]
        assert sample["data"].shape == sample["label"].shape == (1, 6, 8)
        row, column = np.unravel_index(int(sample["data"][0, 0, 0]), whole["data"].shape[1:])
        assert np.array_equal(sample["data"], whole["data"][:, row : row + 6, column : column + 8])
        assert np.array_equal(sample["label"], whole["label"][:, row : row + 6, column : column + 8])


def test_classes_are_as_frequent_as_asked_for():
    np.random.seed(0)
    patches = PatchDataset(Images(), 5, num_patches=600, foreground=1.0)
    found = [set(np.unique(patches[n]["label"])) - {0} for n in range(600)]
    assert all(found)
    shares = [np.mean([value in each for each in found]) for value in (1, 2)]
    assert shares == pytest.approx([0.5, 0.5], abs=0.07)
    without = PatchDataset(Images(), 5, num_patches=600, foreground=0.0)
    assert np.mean([bool(without[n]["label"].any()) for n in range(600)]) < 0.3


def test_an_image_smaller_than_the_patch_is_padded():
    sample = PatchDataset(Images(), (16, 8), num_patches=1)[0]
    assert sample["data"].shape == (1, 16, 8)
    assert np.array_equal(sample["data"][0, 10:], np.repeat(sample["data"][0, 9:10], 6, 0))
    assert not sample["label"][0, 10:].any()


def test_a_manager_draws_the_same_patches_again_and_others_in_the_next_epoch():
    def contents(epoch, workers=0):
        with DataManager(PatchDataset(Images(), 6, num_patches=8), 4, workers, seed=1) as manager:
            return np.concatenate([batch["data"] for batch in manager.get_batchgen(epoch=epoch)])

    assert np.array_equal(contents(1), contents(1, workers=2))
    assert not np.array_equal(contents(1), contents(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size"),
        ({"size": (4, -1)}, "size"),
        ({"num_patches": 0}, "num_patches"),
        ({"foreground": 1.5}, "foreground"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        PatchDataset(Images(), **{"size": 4, "num_patches": 3, **options})


def test_patches_of_another_number_of_axes_are_refused():
    with pytest.raises(ConfigError, match=r"patches of \(4, 4, 4\) cells cannot be cut"):
        PatchDataset(Images(), (4, 4, 4), num_patches=1)[0]
    with pytest.raises(IndexError):
        PatchDataset(Images(), 4, num_patches=1)[1]
