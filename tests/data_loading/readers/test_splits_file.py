import json
import unicodedata

import numpy as np
import pytest

from delira_nca.data_loading import DictDataset, IterableDataset, NNUNetDataset, kfold_indices
from delira_nca.data_loading.readers.splits_file import names_of, read_splits, write_splits
from delira_nca.errors import ConfigError, MissingFileError, UnknownNameError

NAMES = ["ann", "bob", "eve", "ian", "joe", "kim"]


@pytest.fixture
def cases():
    return DictDataset({"x": np.arange(6), "name": NAMES})


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_written_is_read_as_it_was_also_below_the_home_folder(cases, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folds = kfold_indices(6, 3, random_seed=4)
    path = write_splits("~/folds/splits_final.json", cases, folds)
    assert path == tmp_path / "folds" / "splits_final.json"
    again = read_splits("~/folds/splits_final.json", cases)
    for (train, val), (train_again, val_again) in zip(folds, again, strict=True):
        assert np.array_equal(train, train_again)
        assert np.array_equal(val, val_again)
        assert train_again.dtype == np.int64
    assert set(json.loads(path.read_text())[0]) == {"train", "val"}
    assert [file.name for file in path.parent.iterdir()] == ["splits_final.json"]


def test_folds_of_nnunet_are_found_by_the_names_of_its_cases(tmp_path):
    from PIL import Image

    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for name in NAMES[:3]:
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "imagesTr" / f"{name}_0000.png")
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "labelsTr" / f"{name}.png")
    described = {"channel_names": {"0": "grey"}, "labels": {"background": 0}, "file_ending": ".png"}
    write(tmp_path / "dataset.json", described)
    path = write(tmp_path / "splits_final.json", [{"train": ["eve", "ann"], "val": ["bob"]}])
    [(train, val)] = read_splits(path, NNUNetDataset(tmp_path))
    assert (train.tolist(), val.tolist()) == ([0, 2], [1])


def test_a_subset_is_numbered_by_itself_also_in_a_file_of_another_editor(cases, tmp_path):
    path, content = tmp_path / "s.json", [{"train": ["kim"], "val": ["bob", "eve"]}]
    path.write_bytes(json.dumps(content, indent=1).replace("\n", "\r\n").encode("utf-16"))
    subset = cases.get_subset([5, 2, 1])
    [(train, val)] = read_splits(path, subset)
    assert subset.take(train)["name"].tolist() == ["kim"]
    assert subset.take(val)["name"].tolist() == ["eve", "bob"]


def test_samples_without_a_name_go_by_what_messages_call_them(tmp_path):
    class Named(IterableDataset):
        def name_of(self, index):
            return f"case_{index}"

    dataset = Named({"x": number} for number in range(3))
    assert names_of(dataset) == ("case_0", "case_1", "case_2")
    path = write_splits(tmp_path / "s.json", dataset, [([0, 1], [2])])
    assert json.loads(path.read_text()) == [{"train": ["case_0", "case_1"], "val": ["case_2"]}]


@pytest.mark.parametrize(
    ("fold", "error", "message"),
    [
        ({"train": ["ann"], "val": ["bop"]}, UnknownNameError, "fold 0 of .*: 'bop' in 'val' is none .* mean 'bob'"),
        ({"train": ["ann"], "val": ["zzz"]}, UnknownNameError, "none of the 6 cases$"),
        ({"train": ["ann", "bob", "ann"], "val": ["eve"]}, ConfigError, "fold 0 of .*: twice in 'train': 'ann'"),
        ({"train": ["ann", "bob"], "val": ["bob"]}, ConfigError, "in training and held out as well: 'bob'"),
        ({"train": ["ann"], "val": []}, ConfigError, "'val' must be a list of names, at least one"),
        ({"train": "ann", "val": ["bob"]}, ConfigError, "'train' must be a list of names"),
        ({"train": ["ann"], "valid": ["bob"]}, ConfigError, r"must have 'train' and 'val' .* not \['train', 'valid'\]"),
        (["ann"], ConfigError, "must have 'train' and 'val' and nothing else, not list"),
    ],
)
def test_a_fold_that_cannot_be_is_refused_with_its_number(cases, tmp_path, fold, error, message):
    path = write(tmp_path / "s.json", [fold])
    with pytest.raises(error, match=message):
        read_splits(path, cases)


def test_a_file_that_is_none_is_refused(cases, tmp_path):
    with pytest.raises(MissingFileError, match="there is no file .*nowhere"):
        read_splits(tmp_path / "nowhere.json", cases)
    with pytest.raises(MissingFileError, match="is not valid JSON"):
        read_splits(write(tmp_path / "s.json", "[{"), cases)
    for content in ([], {"train": [], "val": []}):
        with pytest.raises(ConfigError, match="must be a list of .*, one per fold"):
            read_splits(write(tmp_path / "s.json", content), cases)


def test_folds_that_leak_and_samples_without_a_single_name_are_not_written(cases, tmp_path):
    twins = DictDataset({"x": np.arange(3), "name": ["ann", "bob", "ann"]})
    with pytest.raises(ConfigError, match="several samples of the dataset are called 'ann'"):
        write_splits(tmp_path / "s.json", twins, [([0], [1])])
    with pytest.raises(ConfigError, match="several samples"):
        names_of(twins)
    with pytest.raises(ConfigError, match="fold 1: in training and held out as well: 'eve'"):
        write_splits(tmp_path / "s.json", cases, [([0, 1], [2]), ([0, 2], [2, 3])])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_with_other_characters_for_its_accents_is_refused_and_explained(tmp_path, forms):
    of_file, of_dataset = (unicodedata.normalize(form, "jürgen") for form in forms)
    dataset = DictDataset({"x": np.arange(2), "name": ["ann", of_dataset]})
    path = write(tmp_path / "s.json", [{"train": ["ann"], "val": [of_file]}])
    with pytest.raises(UnknownNameError, match=f"Did you mean '{of_dataset}'.*NFC against NFD"):
        read_splits(path, dataset)
