import pickle
import unicodedata

import numpy as np
import pytest

from delira_nca.data_loading import BaseCacheDataset, LoadSample, LoadSampleLabel, norm_range, norm_zero_mean_unit_std
from delira_nca.errors import ConfigError, MissingFileError, ShapeError, UnknownNameError


@pytest.mark.parametrize(("mode", "expected"), [("0,1", [0, 0.25, 1]), ("-1,1", [-1, -0.5, 1])])
def test_range_is_reached_at_both_ends(mode, expected):
    for image in (np.array([4, 5, 8], np.uint8), np.array([-128, -64, 127], np.int8), np.array([1e30, 2e30, 5e30])):
        scaled = norm_range(mode)(image)
        assert scaled == pytest.approx(np.array(expected), abs=0.01)
        assert scaled.dtype == (np.float64 if image.dtype == np.float64 else np.float32)


def test_mean_is_zero_and_deviation_one_but_a_constant_image_gives_the_low_end_or_zero():
    scaled = norm_zero_mean_unit_std(np.random.default_rng(0).normal(1000, 3, (50, 50)))
    assert abs(scaled.mean()) < 1e-10
    assert scaled.std() == pytest.approx(1)
    for value in (0, 7, 0.1, -1e20):
        image = np.full((3, 3), value)
        assert (norm_range("0,1")(image) == 0).all()
        assert (norm_range("-1,1")(image) == -1).all()
        assert (norm_zero_mean_unit_std(image) == 0).all()


@pytest.mark.parametrize("norm", [norm_range("0,1"), norm_zero_mean_unit_std])
@pytest.mark.parametrize(
    ("image", "message"), [([1, np.nan], "NaN or infinite"), ([np.inf, 1], "NaN"), ([], "no values")]
)
def test_values_that_cannot_be_normalised_are_refused(norm, image, message):
    with pytest.raises(ConfigError, match=message):
        norm(np.array(image))


@pytest.fixture
def folder(tmp_path):
    for number in range(2):
        case = tmp_path / f"case{number}"
        case.mkdir()
        np.save(case / "t1.npy", np.array([[0.0, 10.0], [20.0, 40.0]]) + number)
        np.save(case / "t2.npy", np.full((2, 2), 3.0))
        np.save(case / "seg.npy", np.array([[0.0, 1.0], [2.0, 1.0]]))
        (case / "grade.txt").write_text(str(number + 5))
    return tmp_path


FILES = {"data": ["t1.npy", "t2.npy"], "seg": ["seg.npy"]}


def test_files_become_channels_with_type_and_range_of_their_entry(folder):
    load = LoadSample(FILES, np.load, {"data": "float32", "seg": "uint8"}, ["data"], norm_range("0,1"))
    sample = load(folder / "case1")
    assert sample["data"].dtype == np.float32
    assert sample["data"].tolist() == [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]]]
    assert sample["seg"].dtype == np.uint8
    assert sample["seg"].tolist() == [[[0, 1], [2, 1]]]
    one_file = LoadSample(FILES, np.load, normalize=["t1.npy"])(str(folder / "case0"))
    assert one_file["data"].tolist() == [[[-1, -0.5], [0, 1]], [[3, 3], [3, 3]]]


def test_files_may_lie_anywhere_and_the_loader_takes_arguments(folder):
    load = LoadSample({"data": "t1.npy"}, np.load, mmap_mode="r")
    assert load({"t1.npy": folder / "case0" / "t2.npy"})["data"].tolist() == [[[3, 3], [3, 3]]]
    with pytest.raises(UnknownNameError, match="no file 't1.npy'.*mean 't1.np'"):
        load({"t1.np": folder})


def test_it_is_the_load_function_of_a_dataset_and_can_be_pickled(folder):
    load = pickle.loads(pickle.dumps(LoadSample(FILES, np.load, normalize=["data"])))
    dataset = BaseCacheDataset(folder, load)
    assert dataset.take([0, 1])["data"].shape == (2, 2, 2, 2)
    assert (dataset[0]["data"] == dataset[1]["data"]).all()


def grade(path, offset=0):
    with open(path) as file:
        return {"label": int(file.read()) + offset}


def test_label_comes_from_its_own_function(folder):
    load = LoadSampleLabel(FILES, np.load, "grade.txt", grade, {"dtype": {"seg": "int64"}}, offset=100)
    dataset = BaseCacheDataset(folder, load)
    assert dataset.column("label").tolist() == [105, 106]
    assert dataset[0]["seg"].dtype == np.int64


def test_errors_name_the_file(folder):
    (folder / "case0" / "t2.npy").unlink()
    with pytest.raises(MissingFileError, match=r"sample 0 \('.*case0'\): entry 'data', file '.*t2.npy'"):
        BaseCacheDataset(folder, LoadSample(FILES, np.load))
    np.save(folder / "case1" / "t2.npy", np.zeros((3, 2)))
    with pytest.raises(ShapeError, match=r"'.*t2.npy' has the shape \(3, 2\), '.*t1.npy' has \(2, 2\)"):
        LoadSample(FILES, np.load)(folder / "case1")
    with pytest.raises(ConfigError, match=r"seg.npy': the value 0.5 does not fit uint8"):
        LoadSample({"seg": "seg.npy"}, lambda path: np.load(path) / 2, {"seg": "uint8"})(folder / "case1")
    with pytest.raises(ConfigError, match=r"seg.npy': an image to normalise has a value that is NaN"):
        LoadSample({"seg": "seg.npy"}, lambda path: np.load(path) * np.nan, normalize="seg")(folder / "case1")
    with pytest.raises(MissingFileError, match=r"the label, file '.*grade.md'"):
        LoadSampleLabel({"data": "t1.npy"}, np.load, "grade.md", grade)(folder / "case1")
    with pytest.raises(ConfigError, match="a dict, .* not a int: '.*grade.txt'"):
        LoadSampleLabel({"data": "t1.npy"}, np.load, "grade.txt", lambda path: 3)(folder / "case1")
    with pytest.raises(ConfigError, match=r"\['data'\] is in the sample and in its label"):
        LoadSampleLabel({"data": "t1.npy"}, np.load, "grade.txt", lambda path: {"data": 3})(folder / "case1")


def test_names_that_nothing_has_and_entries_without_files_are_refused_before_reading():
    for arguments, message in (
        ({"dtype": {"dat": "int8"}}, "unknown entry 'dat'.*mean 'data'"),
        ({"normalize": ["t1.np"]}, "'t1.np'.*mean 't1.npy'"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            LoadSample(FILES, np.load, **arguments)
    for files in ({}, {"data": []}):
        with pytest.raises(ConfigError, match="at least one file"):
            LoadSample(files, np.load)
    with pytest.raises(UnknownNameError, match="unknown range '1,0'"):
        norm_range("1,0")


def test_files_lie_below_the_home_folder_or_have_accents_composed_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "t1.npy", np.arange(3))
    load = LoadSample({"data": "t1.npy"}, np.load)
    assert load("~")["data"].tolist() == load({"t1.npy": "~/t1.npy"})["data"].tolist() == [[0, 1, 2]]
    np.save(tmp_path / unicodedata.normalize("NFD", "größe.npy"), np.arange(3))
    name = unicodedata.normalize("NFC", "größe.npy")
    assert LoadSample({"data": name}, np.load)(tmp_path)["data"].tolist() == [[0, 1, 2]]
