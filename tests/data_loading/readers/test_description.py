"""Forms of ``dataset.json``: those with one meaning are read, the others are refused by entry."""

import json

import pytest

from delira_nca.data_loading.readers.description import DatasetDescription
from delira_nca.errors import ConfigError, MissingFileError

PLAIN = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}, "file_ending": ".nii.gz"}
TEXT = json.dumps({**PLAIN, "name": "Münchén"}, ensure_ascii=False)


def described(folder, content):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "dataset.json").write_bytes(raw)
    return DatasetDescription(folder / "dataset.json")


def test_other_encodings_and_line_endings_are_read_and_what_is_no_description_is_named(tmp_path):
    for raw in (TEXT.encode("utf-16-be"), json.dumps(PLAIN, indent=1).replace("\n", "\r\n").encode()):
        assert described(tmp_path, raw).class_names() == {"background": 0, "x": 1}
    with pytest.raises(MissingFileError, match="dataset.json is not valid JSON"):
        described(tmp_path, TEXT[:-1].encode() + b",}")
    with pytest.raises(MissingFileError, match="must hold an object, not a list"):
        described(tmp_path, b"[1]")
    with pytest.raises(ConfigError, match="dataset.json: 'a' stands there twice"):
        described(tmp_path, b'{"labels": {"a": 0, "b": 1, "a": 2}}')
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "dataset.json").mkdir()
    with pytest.raises(MissingFileError, match=r"no file '.*dataset.json', which .*: Is a directory"):
        DatasetDescription(tmp_path / "dataset.json")


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "x": 1},
        {"background": "0", "x": "1"},
        {"background": 0.0, "x": 1.0},
        {"0": "background", "1": "x"},
        {"00": "background", "1": "x"},
    ],
)
def test_labels_with_one_meaning_are_read(tmp_path, labels):
    found = described(tmp_path, {**PLAIN, "labels": labels})
    assert found.class_names() == {"background": 0, "x": 1}
    assert all(type(value) is int for value in found.class_names().values())


def test_regions_are_lists_and_their_values_classes(tmp_path):
    found = described(tmp_path, {**PLAIN, "labels": {"background": 0, "whole": [1, "2"], "core": 2}})
    assert found.class_names() == {"background": 0, "whole": [1, 2], "core": 2}
    assert found.classes() == {0, 1, 2}


@pytest.mark.parametrize("value", [None, True, 1.5, -1, "one", [], [1, None], {"a": 1}])
def test_a_label_that_is_no_class_is_named(tmp_path, value):
    with pytest.raises(ConfigError, match="dataset.json': the class 'x' of labels must be a whole number"):
        described(tmp_path, {**PLAIN, "labels": {"background": 0, "x": value}}).class_names()


def test_labels_with_two_meanings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="may mean"):
        described(tmp_path, {**PLAIN, "labels": {"0": "1", "1": "0"}}).class_names()
    assert described(tmp_path, {**PLAIN, "labels": {"0": "0", "1": "1"}}).class_names() == {"0": 0, "1": 1}


@pytest.mark.parametrize(
    "names", [["CT"], {"CT": "0"}, {"1": "CT"}, {"0": "CT", "00": "MR"}, {"0": "a", "2": "b"}, {}, 3]
)
def test_channels_that_are_not_numbered_from_0_are_refused(tmp_path, names):
    with pytest.raises(ConfigError, match="dataset.json': channel_names must be"):
        described(tmp_path, {**PLAIN, "channel_names": names}).channel_names("channel_names", "modality")


def test_channels_come_in_the_order_of_their_numbers_and_a_missing_entry_is_suggested(tmp_path):
    names = {"10": "k", **{f"{n:04d}": "abcdefghij"[n] for n in range(9, -1, -1)}}
    assert described(tmp_path, {"modality": names}).channel_names("channel_names", "modality") == tuple("abcdefghijk")
    with pytest.raises(ConfigError, match="must have channel_names or modality.*Did you mean 'chanel_names'"):
        described(tmp_path, {"chanel_names": {"0": "CT"}}).channel_names("channel_names", "modality")


def test_a_file_ending_begins_with_a_dot_and_the_number_of_cases_is_the_one_that_is_told(tmp_path):
    for ending in ("nii.gz", None, 3):
        with pytest.raises(ConfigError, match="file_ending must begin with a dot"):
            described(tmp_path, {**PLAIN, "file_ending": ending}).file_ending()
    described(tmp_path, PLAIN).require_count("numTraining", 3)
    described(tmp_path, {**PLAIN, "numTraining": "3"}).require_count("numTraining", 3)
    with pytest.raises(ConfigError, match="numTraining is 4, but there are 3 cases"):
        described(tmp_path, {**PLAIN, "numTraining": 4}).require_count("numTraining", 3)
