import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from delira_nca.data_loading import (
    AbstractDataset,
    BaseCacheDataset,
    BaseExtendCacheDataset,
    BaseLazyDataset,
    CachedDataset,
    DataManager,
    SubsetDataset,
)
from delira_nca.errors import ConfigError, DeliraNCAError, MissingFileError, ShapeError, UnknownNameError


def load(path, scale=1):
    return {"x": scale * np.load(path), "label": int(path.stem)}


def load_rows(path):
    return [{"x": row} for row in np.load(path)]


@pytest.fixture
def folder(tmp_path):
    for number in (2, 0, 1, 3):
        np.save(tmp_path / f"{number}.npy", np.array([number, number + 10]))
    (tmp_path / ".hidden").write_text("")
    return tmp_path


@pytest.mark.parametrize("cls", [BaseLazyDataset, BaseCacheDataset])
def test_every_visible_file_is_a_sample_in_the_order_of_names_or_of_the_list(cls, folder):
    for name in ("Thumbs.db", "desktop.ini", "Desktop.ini", "THUMBS.DB", "._0.npy", ".DS_Store"):
        (folder / name).write_bytes(b"junk")
    dataset = cls(folder, load, scale=2)
    assert [path.name for path in dataset.paths] == ["0.npy", "1.npy", "2.npy", "3.npy"]
    assert dataset.take([3, 1])["x"].tolist() == [[6, 26], [2, 22]]
    assert dataset.column("label").tolist() == [0, 1, 2, 3]
    inner = dataset.get_subset([3, 2, 1]).get_subset([2, 0])
    assert isinstance(inner, SubsetDataset)
    assert inner.dataset is dataset
    assert inner.take([0, 1])["label"].tolist() == [1, 3]
    assert [sample["label"] for sample in cls([folder / "3.npy", folder / "1.npy"], load)] == [3, 1]
    again = pickle.loads(pickle.dumps(cls(folder, partial(load, scale=3))))
    assert again.take([1])["x"].tolist() == [[3, 33]]


def test_lazy_reads_at_each_access_and_cached_and_labels_once(folder):
    lazy, cached = BaseLazyDataset(folder, load), BaseCacheDataset(folder, load)
    kept = CachedDataset(lazy)
    np.save(folder / "1.npy", np.array([99, 99]))
    assert lazy[1]["x"].tolist() == [99, 99]
    assert cached[1]["x"].tolist() == kept[1]["x"].tolist() == [1, 11]
    assert (lazy.is_deterministic, cached.is_deterministic, kept.is_deterministic) == (False, True, True)
    calls = []

    def counted(path):
        calls.append(path)
        return load(path)

    dataset = BaseLazyDataset(folder, counted)
    assert not calls
    for _ in range(3):
        assert dataset.get_subset([2, 0]).column("label").tolist() == [2, 0]
    assert len(calls) == 4


def test_several_samples_of_a_file_know_where_they_come_from(folder):
    np.save(folder / "1.npy", np.empty((0,)))
    dataset = BaseExtendCacheDataset(folder, load_rows)
    assert dataset.column("x").tolist() == [0, 10, 2, 12, 3, 13]
    assert [path.stem for path in dataset.paths] == ["0", "0", "2", "2", "3", "3"]
    assert dataset.get_subset([5, 0]).get_subset([1]).take([0])["x"].tolist() == [0]


def fail_at_two(path, error):
    if path.stem == "2":
        raise error
    return load(path)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("odd content"), ValueError),
        (ConfigError("odd content"), ConfigError),
        (FileNotFoundError(2, "odd content"), MissingFileError),
        (PermissionError("odd content"), PermissionError),
        (IndexError("odd content"), DeliraNCAError),
        (KeyError("odd content"), DeliraNCAError),
        (UnicodeDecodeError("utf-8", b"a", 0, 1, "odd content"), DeliraNCAError),
    ],
)
def test_error_of_the_load_function_names_sample_and_file(folder, error, expected):
    dataset = BaseLazyDataset(folder, fail_at_two, error=error)
    with pytest.raises(expected, match=r"^sample 2 \('.*2.npy'\): .*odd content") as caught:
        dataset.get_subset([0, 2]).take([0, 1])
    assert caught.value.__cause__ is error
    with pytest.raises(expected, match="odd content"):
        list(dataset)
    with pytest.raises(expected, match="odd content"):
        BaseCacheDataset(folder, fail_at_two, error=error)


def test_shapes_that_differ_name_both_files(folder):
    np.save(folder / "2.npy", np.zeros(3))
    message = r"\(3,\) in sample 2 \('.*2.npy'\), but \(2,\) in sample 0 \('.*0.npy'\)"
    for dataset in (BaseLazyDataset(folder, load), BaseCacheDataset(folder, load)):
        with pytest.raises(ShapeError, match=message):
            dataset.take([0, 2])
        with pytest.raises(ShapeError, match=message):
            dataset.get_subset([2, 0]).take([1, 0])
    several = BaseExtendCacheDataset([1, 2], lambda width: [{"x": np.zeros(width)}] * 2)
    with pytest.raises(ShapeError, match=r"\(2,\) in sample 2 \(of '2'\), but \(1,\) in sample 0 \(of '1'\)"):
        several.take([0, 2])


def test_get_sample_from_index_is_the_sample_and_a_missing_entry_names_it(folder):
    class Squares(AbstractDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {"x": index**2}

    assert Squares().get_sample_from_index(2) == {"x": 4}
    assert BaseLazyDataset(folder, load).get_sample_from_index(-1)["label"] == 3
    with pytest.raises(UnknownNameError, match=r"sample 0 \('.*0.npy'\) has no entry 'lable'.*mean 'label'"):
        BaseLazyDataset(folder, load).column("lable")


@pytest.mark.parametrize("cls", [BaseLazyDataset, BaseCacheDataset, BaseExtendCacheDataset])
def test_what_makes_no_dataset_is_refused(cls, tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        cls(tmp_path / "nowhere", load)
    with pytest.raises(ConfigError, match="is empty"):
        cls(tmp_path, load)
    with pytest.raises(ConfigError, match="list is empty"):
        cls([], load)
    with pytest.raises(ConfigError, match="load_fn must be callable"):
        cls([1], "load")


def test_load_function_that_gives_the_wrong_kind_is_named():
    with pytest.raises(ConfigError, match=r"sample 0 \('a'\): load_fn must return a dict of arrays, not a list"):
        BaseCacheDataset(["a"], lambda path: [])
    with pytest.raises(ConfigError, match="a: load_fn must return an iterable of samples, not one sample"):
        BaseExtendCacheDataset(["a"], lambda path: {"x": 1})
    with pytest.raises(ConfigError, match="a: sample 1 of it is a int"):
        BaseExtendCacheDataset(["a"], lambda path: [{"x": 1}, 5])
    with pytest.raises(ConfigError, match=r"sample 1 \(of 'b'\) has the keys \['y'\]"):
        BaseExtendCacheDataset(["a", "b"], lambda path: [{"x" if path == "a" else "y": 1}])


def test_reading_into_a_cache_leaves_the_global_generators_alone(generators_stay_untouched):
    def load_randomly(path):
        return {"x": np.random.rand()}

    one, two = (BaseCacheDataset(["a", "b"], load_randomly) for _ in range(2))
    BaseExtendCacheDataset(["a"], lambda path: [load_randomly(path)])
    generators_stay_untouched()
    assert one.column("x").tolist() == two.column("x").tolist()
    assert len(set(one.column("x").tolist())) == 2


@pytest.mark.parametrize("n_process", [0, 2])
def test_files_are_read_by_workers_as_by_this_process(folder, n_process):
    with DataManager(BaseLazyDataset(folder, load), 3, n_process) as manager:
        batches = [batch["x"].tolist() for batch in manager.get_batchgen()]
    assert batches == [[[0, 10], [1, 11], [2, 12]], [[3, 13]]]


def load_any(path):
    return {"x": np.load(path["x"] if isinstance(path, dict) else path)}


@pytest.mark.parametrize("given", [".", "~", "sub/..", ["0.npy", "~/1.npy"], [Path("0.npy")], [{"x": "1.npy"}]])
def test_paths_are_those_of_the_moment_when_the_dataset_was_made(folder, monkeypatch, given):
    (folder / ".elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    dataset = BaseLazyDataset(given, load_any)
    expected = dataset.take(range(len(dataset)))["x"]
    monkeypatch.chdir(folder / ".elsewhere")
    assert np.array_equal(dataset.take(range(len(dataset)))["x"], expected)


def test_what_is_no_path_stays_as_it_is(folder, monkeypatch):
    monkeypatch.chdir(folder)
    given = ["case_7", "s3://bucket/0.npy", 3, ("0.npy", 2), {"id": 7}, "", "~nobody-here/0", "a\0b"]
    assert list(BaseLazyDataset(given, load).paths) == given
    assert BaseLazyDataset(["0.npy"], load).paths == (str(folder / "0.npy"),)
