"""Paths as a user writes them."""

import os
from pathlib import Path

import pytest

from delira_nca.errors import ConfigError
from delira_nca.io.paths import absolute, working_in


@pytest.mark.parametrize("wrong", ["", None, 3, b"runs", "a\0b", "~no-such-user-here/runs"])
def test_what_is_no_path_is_refused_with_its_value(wrong):
    with pytest.raises(ConfigError) as raised:
        absolute(wrong)
    assert repr(wrong) in str(raised.value)


def test_the_former_working_directory_comes_back_after_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fails():
        with working_in("/"):
            assert os.getcwd() == "/"
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert os.getcwd() == str(tmp_path)


def test_home_is_expanded_a_relative_path_is_fixed_and_links_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    assert absolute("~/a/x") == absolute(Path("~/a/x")) == tmp_path / "a" / "x"
    assert absolute("../link/b") == absolute(Path("..") / "link" / "b") == tmp_path / "link" / "b"
    assert absolute(tmp_path / "c") == tmp_path / "c"
    path = absolute("runs/../m.jsonl")
    monkeypatch.chdir("/")
    assert absolute("d") == Path("/d")
    assert path == tmp_path / "real" / "m.jsonl"
