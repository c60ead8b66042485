"""Paths as users write them."""

from pathlib import Path

from delira_nca.io.paths import absolute


def test_home_is_expanded_and_links_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    assert absolute("~/a") == tmp_path / "a"
    assert absolute("../link/b") == absolute(Path("..") / "link" / "b") == tmp_path / "link" / "b"
    assert absolute(tmp_path / "c") == tmp_path / "c"
    monkeypatch.chdir("/")
    assert absolute("d") == Path("/d")
