import functools
import json
import os

import numpy as np
import pytest
from PIL import Image

from delira_nca.data_loading import DataManager, DictDataset, NNUNetDataset, RandomSampler, SequentialSampler
from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.experiment.experiment_settings import (
    as_manager,
    dataset_of,
    describe_data,
    held_out_settings,
    open_data,
)
from delira_nca.experiment.import_paths import decode

ARRAYS = {"data": np.arange(10.0), "label": np.arange(10)}


def order(manager):
    return [int(n) for batch in manager.get_batchgen() for n in batch["data"]]


def make_nothing():
    return make_nothing


def test_a_folder_in_the_layout_of_nnunet_is_data(tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.full((4, 4), 51, np.uint8)).save(tmp_path / "imagesTr" / "ann_0000.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "labelsTr" / "ann.png")
    described = {"channel_names": {"0": "grey"}, "labels": {"background": 0}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    found = open_data(tmp_path)
    assert isinstance(found, NNUNetDataset)
    assert found[0]["name"] == "ann"
    partial = functools.partial(NNUNetDataset, tmp_path, resize=2)
    again = open_data(decode(json.loads(json.dumps(describe_data(partial)))))
    assert again[0]["data"].shape == (1, 2, 2)
    assert describe_data(os.path.relpath(tmp_path)) == str(tmp_path)


def test_what_is_no_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MissingFileError, match="there are no data at .*: neither an .npz file nor a folder"):
        open_data(tmp_path)
    with pytest.raises(ConfigError, match="returned a function, which is not data"):
        open_data(make_nothing)
    with pytest.raises(ConfigError, match="folds are made of samples, and a list does not say"):
        dataset_of([1, 2])
    (tmp_path / "cut.npz").write_bytes(b"PK")
    np.savez(tmp_path / "objects.npz", data=np.array([None, {}], dtype=object))
    for name in ("cut.npz", "objects.npz"):
        with pytest.raises(MissingFileError, match=f"{name} cannot be read as .npz"):
            open_data(tmp_path / name)
    np.savez(tmp_path / "a.npz", **ARRAYS)
    assert len(open_data("~/a.npz")) == 10
    assert describe_data("~/a.npz") == str(tmp_path / "a.npz")


def test_a_manager_is_made_that_shuffles_for_training_only():
    dataset = DictDataset(ARRAYS)
    subset = dataset.get_subset([1, 2])
    assert [dataset_of(data) for data in (dataset, subset, DataManager(subset, 2))] == [dataset, subset, subset]
    train = as_manager(dataset, 3, 5, train=True)
    assert sorted(order(train)) == list(range(10))
    assert order(train) != list(range(10))
    assert order(train) == order(as_manager(dataset, 4, 5, train=True))
    assert order(as_manager(dataset, 3, 5, train=False)) == list(range(10))
    assert as_manager(dataset, 3, 0, train=False, settings={"batch_size": 5}).batch_size == 5
    with pytest.raises(ConfigError, match="the batch size is not known"):
        as_manager(dataset, None, 0, train=True)


def test_a_manager_of_the_user_is_copied_before_it_is_changed():
    given = DataManager(ARRAYS, 4, sampler_cls=RandomSampler)
    assert as_manager(given, None, 0, train=True) is given
    changed = as_manager(given, None, 0, train=False, settings=held_out_settings({"batch_size": 5}))
    assert order(changed) == list(range(10))
    assert (changed.batch_size, given.batch_size) == (5, 4)
    assert order(given) != list(range(10))

    class Batches:
        def get_batchgen(self, epoch=1):
            return []

    assert isinstance(as_manager(Batches(), None, 0, train=True), Batches)
    with pytest.raises(ConfigError, match=r"a Batches has no settings to change: \['batch_size'\]"):
        as_manager(Batches(), None, 0, train=True, settings={"batch_size": 3})


def test_held_out_samples_come_once_and_in_order():
    assert held_out_settings(None) == {"sampler_cls": SequentialSampler, "sampler_kwargs": {}, "drop_last": False}
    for name in ("sampler_cls", "sampler_kwargs", "drop_last"):
        with pytest.raises(ConfigError, match=f"'{name}' cannot be set for validation and test"):
            held_out_settings({name: None})
