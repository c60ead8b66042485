"""A file is there whole, or as it was."""

import os

import pytest

from delira_nca.io import replaced


def test_a_block_that_ends_well_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    for text, durable in (("one", False), ("two", True)):
        with replaced(path, durable=durable) as temporary:
            assert temporary.parent == path.parent
            temporary.write_text(text)
        assert path.read_text() == text
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_a_block_that_fails_leaves_the_former_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("former")

    def fail():
        with replaced(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "former"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_until_the_block_ends_the_former_file_is_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("former")
    with replaced(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "former"
    assert path.read_text() == "new"


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("former")
    with pytest.raises(FileNotFoundError), replaced(path):
        pass
    assert path.read_text() == "former"


def test_a_path_may_be_a_string(tmp_path):
    with replaced(str(tmp_path / "a.txt")) as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a.txt").read_text() == "x"
