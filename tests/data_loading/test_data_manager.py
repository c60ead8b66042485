import ast
import doctest
import importlib
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import delira_nca
from delira_nca import data_loading
from delira_nca.data_loading import AbstractDataset, AbstractSampler, DataManager, RandomSampler
from delira_nca.errors import ConfigError, UnknownNameError


def make_data(length=10):
    return {"data": np.arange(length * 6, dtype=np.float32).reshape(length, 1, 2, 3), "label": np.arange(length)}


def add_noise(batch):
    noise = np.random.normal(size=batch["data"].shape) + random.random() + torch.rand(1).item()
    return {**batch, "data": batch["data"] + noise}


def labels(batches):
    return [batch["label"].tolist() for batch in batches]


@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_are_the_data_in_order_and_the_last_is_kept_or_dropped(drop_last):
    manager = DataManager(make_data(), 4, drop_last=drop_last)
    batchgen = manager.get_batchgen()
    batches = list(batchgen)
    assert labels(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]][: 2 if drop_last else 3]
    assert len(batchgen) == manager.n_batches == len(batches)
    assert np.array_equal(np.concatenate([b["data"] for b in batches]), make_data()["data"][: 8 if drop_last else 10])
    manager = DataManager(make_data(), 4, 2, add_noise, drop_last=drop_last)
    assert (manager.n_samples, manager.n_batches, manager.batch_size) == (10, len(batches), 4)
    assert (manager.n_process_augmentation, manager.transforms) == (2, add_noise)
    assert len(manager.dataset) == 10


def test_samplers_get_their_arguments_and_the_dataset_and_tell_their_length():
    manager = DataManager(make_data(), 4, sampler_cls=RandomSampler, num_samples=13, replacement=True)
    assert manager.n_samples == 10
    assert [len(batch["label"]) for batch in manager.get_batchgen()] == [4, 4, 4, 1]

    class OnlyOdd(AbstractSampler):
        @classmethod
        def from_dataset(cls, dataset, *, generator, key="label"):
            return cls(np.flatnonzero(dataset.take(range(len(dataset)))[key] % 2), generator=generator)

        def __iter__(self):
            return iter(self.indices.tolist())

    assert labels(DataManager(make_data(), 2, sampler_cls=OnlyOdd, key="label").get_batchgen()) == [[1, 3], [5, 7], [9]]

    class Short(RandomSampler):
        def __iter__(self):
            yield 1

    with pytest.raises(ConfigError, match="Short drew 1 samples, but its length says 10"):
        list(DataManager(make_data(), 2, sampler_cls=Short).get_batchgen())


def test_batch_is_bit_identical_for_any_number_of_workers(assert_same_batches):
    data = {
        "data": np.linspace(0, 1, 12 * 9000, dtype=np.float32).reshape(12, 9000),  # large: through shared memory
        "flipped": np.arange(12 * 20000).reshape(12, 20000)[:, ::-1],
        "name": np.array([f"sample {i}" for i in range(12)]),
        "odd": np.arange(12 * 10000, dtype=">i8").reshape(12, 10000),
    }
    runs = []
    for n_process in (0, 1, 2):
        with DataManager(data, 4, n_process, add_noise, RandomSampler, seed=5) as manager:
            runs.append([batch for epoch in (1, 2) for batch in manager.get_batchgen(epoch=epoch)])
    assert len(runs[0]) == 6
    assert_same_batches(runs[0], runs[1])
    assert_same_batches(runs[0], runs[2])


def test_workers_give_arrays_that_the_caller_owns():
    with DataManager({"x": np.zeros((4, 20000))}, 2, 1) as manager:
        batches = list(manager.get_batchgen())
    for batch in batches:
        batch["x"] += 1
        assert batch["x"].flags.owndata
    assert all(batch["x"].sum() == 40000 for batch in batches)


def test_same_batch_generator_and_a_pickled_manager_give_the_same_batches_again(assert_same_batches):
    manager = DataManager(make_data(), 4, 0, add_noise, RandomSampler, seed=9)
    batchgen = manager.get_batchgen()
    assert_same_batches(list(batchgen), list(batchgen))
    assert_same_batches(list(batchgen), list(pickle.loads(pickle.dumps(manager)).get_batchgen()))


def test_seed_decides_the_order_and_can_be_given_for_one_epoch():
    manager = DataManager(make_data(), 10, sampler_cls=RandomSampler, seed=3)
    other = DataManager(make_data(), 10, sampler_cls=RandomSampler, seed=4)
    assert labels(manager.get_batchgen()) != labels(other.get_batchgen())
    assert labels(manager.get_batchgen(seed=4)) == labels(other.get_batchgen())


def test_dataset_that_draws_is_reproducible_too():
    class Noise(AbstractDataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return {"x": np.random.rand()}

    manager = DataManager(Noise(), 3)
    subset = manager.get_subset([0, 1, 2])
    first = [batch["x"].tolist() for batch in manager.get_batchgen()]
    assert first == [batch["x"].tolist() for batch in manager.get_batchgen()]
    assert first[0] == next(iter(subset.get_batchgen()))["x"].tolist()


def test_get_subset_is_a_manager_of_these_samples_with_the_same_settings():
    manager = DataManager(make_data(), 2, 0, add_noise, drop_last=True, seed=7)
    subset = manager.get_subset([9, 4, 5]).get_subset([1, 0, 2])
    assert (subset.batch_size, subset.n_samples, subset.n_batches, subset.transforms) == (2, 3, 1, add_noise)
    assert labels(subset.get_batchgen()) == [[4, 9]]
    assert subset.dataset.dataset is manager.dataset
    with pytest.raises(ConfigError, match="batch_size=2 is larger than the 1 samples"):
        manager.get_subset([1])


def test_update_changes_known_settings_only_and_replaces_arguments_of_the_sampler():
    manager = DataManager(make_data(), 4)
    running = manager.get_batchgen()
    assert manager.update_state_from_dict({"batch_size": 5, "data": make_data(20), "drop_last": True}) is manager
    assert (manager.batch_size, manager.n_samples, manager.n_batches) == (5, 20, 4)
    assert labels(running) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    with pytest.raises(UnknownNameError, match="Did you mean 'batch_size'"):
        manager.update_state_from_dict({"drop_last": False, "batchsize": 2})
    with pytest.raises(ConfigError, match="batch_size must be"):
        manager.update_state_from_dict({"drop_last": False, "batch_size": 0})
    assert (manager.batch_size, manager.n_batches) == (5, 4)
    manager = DataManager(make_data(), 4, sampler_cls=RandomSampler, num_samples=4)
    assert manager.n_batches == 1
    assert manager.update_state_from_dict({"sampler_kwargs": {"num_samples": 8}}).n_batches == 2
    assert manager.update_state_from_dict({"sampler_kwargs": {}}).n_batches == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": 2.0}, "not 2.0"),
        ({"n_process_augmentation": -1}, "n_process_augmentation must be"),
        ({"prefetch": 0}, "prefetch must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"start_method": "fourk"}, "Did you mean 'fork'"),
        ({"seed": -1}, "seed"),
        ({"transforms": [add_noise]}, "transforms must be callable, not a list"),
        ({"sampler_cls": list}, "derived from AbstractSampler"),
        ({"batch_size": 11, "drop_last": True}, "batch_size=11 is larger than the 10 samples"),
        ({"batchsize": 4}, "unknown argument 'batchsize'.*Did you mean 'batch_size'"),
        ({"sampler_cls": RandomSampler, "num_sample": 4}, "Did you mean 'num_samples'"),
        ({"sampler_cls": RandomSampler, "num_samples": 11}, "more than the 10 indices"),
    ],
)
def test_wrong_settings_epochs_and_seeds_are_refused_before_the_work_starts(arguments, message):
    with pytest.raises(ConfigError, match=message):
        DataManager(make_data(), **{"batch_size": 4, **arguments})
    for of_batches in ({"epoch": -1}, {"epoch": 1.5}, {"seed": -1}):
        with pytest.raises(ConfigError, match="must be a whole number of at least 0"):
            DataManager(make_data(), 4).get_batchgen(**of_batches)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "not a NoneType .is its 'return' missing"),
        (np.zeros(3), "not a ndarray"),
        ({"data": [1, 2]}, "'data' is a list"),
        ({"data": torch.zeros(2)}, "'data' is a Tensor"),
        ({3: np.zeros(2)}, "entry 3"),
    ],
)
def test_transform_must_return_a_dict_of_arrays(result, message):
    with pytest.raises(ConfigError, match=message):
        list(DataManager(make_data(), 4, transforms=lambda batch: result).get_batchgen())


def test_transforms_of_batchgenerators_get_the_batch_as_keywords(assert_same_batches):
    from batchgenerators.transforms.abstract_transforms import Compose
    from batchgenerators.transforms.spatial_transforms import MirrorTransform

    data = np.arange(4 * 6, dtype=np.float32).reshape(4, 1, 2, 3)
    runs = []
    for n_process in (0, 1):
        with DataManager({"data": data}, 2, n_process, Compose([MirrorTransform(axes=(0, 1))])) as manager:
            runs.append([batch for epoch in range(1, 4) for batch in manager.get_batchgen(epoch=epoch)])
    assert_same_batches(*runs)
    mirrored = runs[0][0]["data"]
    assert np.array_equal(np.sort(mirrored.ravel()), np.arange(12))
    assert any(not np.array_equal(batch["data"], data[:2]) for batch in runs[0][::2])


def test_settings_may_be_numbers_of_numpy():
    one, two = np.int64(1), np.int32(2)
    plain = DataManager(make_data(), 2, 1, seed=1, prefetch=1, timeout=30)
    with plain, DataManager(make_data(), two, one, seed=one, prefetch=one, timeout=np.float32(30)) as manager:
        assert labels(manager.get_batchgen(epoch=two, start=one)) == labels(plain.get_batchgen(epoch=2, start=1))
    assert DataManager(make_data(), two, timeout=np.int64(5)).update_state_from_dict({"batch_size": two}).n_batches == 5
    for wrong in (True, np.float64("nan"), "5", np.bool_(True)):
        with pytest.raises(ConfigError, match="timeout must be a number of at least 0"):
            DataManager(make_data(), 2, timeout=wrong)


ROOT = Path(delira_nca.__file__).parent.parent


def test_each_public_name_is_the_one_of_its_module():
    tree = ast.parse(Path(data_loading.__file__).read_text())
    seen_by_checkers = {
        alias.name: node.module
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        for alias in node.names
    }
    assert sorted(seen_by_checkers) == sorted(data_loading.__all__) == dir(data_loading)
    for name, module in seen_by_checkers.items():
        assert getattr(data_loading, name) is getattr(importlib.import_module(module), name)


def test_nothing_of_the_room_needs_torch_or_an_optional_library_to_be_imported():
    script = """
import sys
import delira_nca.data_loading.sources
from delira_nca.data_loading import (ConcatDataset, DictDataset, LoadSample, NNUNetDataset, PairedFolderDataset,
    PrevalenceRandomSampler, kfold)
print(*sorted({"torch", "sklearn", "PIL", "nibabel", "scipy", "batchgenerators"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_snippets_of_the_page_on_data_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(
        str(ROOT / "docs" / "data.rst"),
        module_relative=False,
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert result.failed == 0
    assert result.attempted > 20
