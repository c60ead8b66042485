"""Data loaders and augmenters of batchgenerators as sources of a data manager."""

import numpy as np
import pytest
from batchgenerators.dataloading.data_loader import DataLoader, SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform

from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.errors import ConfigError


class Drawing(SlimDataLoaderBase):
    def __init__(self, data, batch_size):
        super().__init__(data, batch_size)
        self.generator, self.calls = np.random.default_rng(0), 0

    def generate_train_batch(self):
        self.calls += 1
        rows = np.random.randint(0, len(self._data), self.batch_size)
        noise = self.generator.normal(size=(self.batch_size, 1, 3, 3))
        keys = [f"case {row}" for row in rows]
        return {"data": self._data[rows] + noise, "keys": keys, "calls": self.calls, "boxes": [[1], [2, 3]]}


class Ordered(DataLoader):
    def __init__(self, data, batch_size, **arguments):
        super().__init__(data, batch_size, **arguments)
        self.indices = list(range(len(data)))

    def generate_train_batch(self):
        rows = self.get_indices()
        return {"data": self._data[rows], "row": np.array(rows)}


class Counting:
    batch_size = 2

    def __next__(self):
        return {"x": np.random.rand(2)}


def numbers(length=10):
    return np.arange(length * 9, dtype=float).reshape(length, 1, 3, 3)


def batches(manager, epochs=(1, 2)):
    with manager:
        return [batch for epoch in epochs for batch in manager.get_batchgen(epoch=epoch)]


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        assert all(a[key].dtype == b[key].dtype and a[key].tolist() == b[key].tolist() for key in a)


def test_batches_of_a_loader_do_not_depend_on_workers():
    runs = [batches(DataManager(Drawing(numbers(), 4), None, n, num_batches=5, seed=3)) for n in (0, 1, 2)]
    assert_same(runs[0], runs[1])
    assert_same(runs[0], runs[2])
    assert len({batch["data"].tobytes() for batch in runs[0]}) == 10
    alone = batches(DataManager(Drawing(numbers(), 4), num_batches=5, seed=3), epochs=(2,))
    assert_same(runs[0][5:], alone)
    assert batches(DataManager(Drawing(numbers(), 4), num_batches=1, seed=4))[0]["data"].tolist() != (
        runs[0][0]["data"].tolist()
    )


def test_what_is_no_array_becomes_one_and_the_loader_is_left_as_it_was():
    loader = Drawing(numbers(), 2)
    state = loader.generator.bit_generator.state
    batch = next(iter(DataManager(loader, num_batches=3).get_batchgen()))
    assert batch["keys"].dtype.kind == "U"
    assert batch["calls"].tolist() == 1
    assert batch["boxes"].tolist() == [[1], [2, 3]]
    assert (loader.calls, loader.generator.bit_generator.state) == (0, state)


def test_counts_of_a_loader_are_those_of_an_epoch():
    manager = DataManager(Drawing(numbers(), 4), num_batches=5)
    assert (manager.batch_size, manager.n_batches, manager.n_samples, len(manager.get_batchgen())) == (4, 5, 20, 5)
    assert manager.update_state_from_dict({"num_batches": 7}).n_batches == 7
    manager = DataManager(Drawing(numbers(), 2), num_batches=np.int64(3))
    assert (manager.n_batches, len(list(manager.get_batchgen()))) == (3, 3)


@pytest.mark.parametrize(("incomplete", "sizes"), [(True, [4, 4, 2]), (False, [4, 4])])
def test_loader_that_ends_goes_through_its_data_once_in_an_order_of_the_epoch(incomplete, sizes):
    loader = Ordered(numbers(), 4, return_incomplete=incomplete, num_threads_in_multithreaded=3)
    manager = DataManager(loader)
    assert (manager.n_batches, manager.n_samples) == (len(sizes), 10)
    epochs = [[batch["row"].tolist() for batch in manager.get_batchgen(epoch=epoch)] for epoch in (1, 2)]
    for epoch in epochs:
        rows = [row for batch in epoch for row in batch]
        assert [len(batch) for batch in epoch] == sizes
        assert len(set(rows)) == len(rows)
    assert epochs[0] != epochs[1]
    assert_same(batches(manager), batches(DataManager(loader, n_process_augmentation=2)))
    assert loader.indices == list(range(10))


def test_loader_that_does_not_shuffle_keeps_its_order():
    manager = DataManager(Ordered(numbers(), 5, shuffle=False))
    assert [batch["row"].tolist() for batch in manager.get_batchgen()] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize("kind", [MultiThreadedAugmenter, NonDetMultiThreadedAugmenter, SingleThreadedAugmenter])
def test_loader_and_transform_of_an_augmenter_are_used(kind):
    arguments = () if kind is SingleThreadedAugmenter else (2,)
    noise = GaussianNoiseTransform(noise_variance=(1, 1))
    augmenter = kind(Drawing(numbers(), 2), noise, *arguments)
    plain = DataManager(Drawing(numbers(), 2), num_batches=3, transforms=noise)
    runs = [batches(DataManager(augmenter, None, n, num_batches=3)) for n in (0, 2)]
    assert_same(runs[0], runs[1])
    assert_same(runs[0], batches(plain))
    more = batches(DataManager(augmenter, transforms=lambda batch: {"x": 0 * batch["data"]}, num_batches=3))
    assert not np.any(more[0]["x"])


def test_object_with_next_alone_is_a_loader_where_a_number_of_batches_is_given():
    runs = [batches(DataManager(Counting(), None, n, num_batches=3)) for n in (0, 1)]
    assert_same(*runs)
    assert len({batch["x"].tobytes() for batch in runs[0]}) == 6


def test_error_of_a_loader_names_the_batch():
    class Broken(Drawing):
        def generate_train_batch(self):
            raise ArithmeticError("broken 4711")

    with pytest.raises(ArithmeticError, match=r"broken 4711\n  in batch 0 of epoch 1"):
        batches(DataManager(Broken(numbers(), 2), num_batches=2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataManager(Drawing(numbers(), 2)), "without end: say how many make an epoch"),
        (lambda: DataManager(Ordered(numbers(), 2, infinite=True)), "without end"),
        (lambda: DataManager(Ordered(numbers(), 20)), "fewer samples than one batch"),
        (lambda: DataManager(Ordered(numbers(), 5), num_batches=3), "ends after 2 batches, num_batches is 3"),
        (lambda: DataManager(Drawing(numbers(), 2), 3, num_batches=2), "batch_size=3, but Drawing makes batches of 2"),
        (lambda: DataManager((i for i in "ab"), 2, num_batches=2), "a generator gives its batches in a row"),
        (lambda: DataManager({"x": numbers()}, 2, num_batches=2), "num_batches is for a data loader"),
        (lambda: DataManager({"x": numbers()}), "batch_size must be a whole number of at least 1, not None"),
        (
            lambda: DataManager(Drawing(numbers(), 2), sampler_cls=RandomSampler, num_batches=2),
            "decides itself which samples",
        ),
        (
            lambda: DataManager(Drawing(numbers(), 2), num_batches=0),
            "num_batches must be a whole number of at least 1, not 0",
        ),
        (lambda: DataManager(Drawing(numbers(), 2), num_batches=True), "num_batches must be a whole number"),
        (lambda: DataManager(Drawing(numbers(), 2), num_batches=2).get_subset([0]), "has no dataset"),
    ],
)
def test_what_a_loader_cannot_do_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
