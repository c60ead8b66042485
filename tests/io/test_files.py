"""A file is there whole, or as it was."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.io import replaced, sweep
from delira_nca.io.json_file import parse_json
from delira_nca.io.paths import absolute, working_in
from delira_nca.io.process import birth, is_alive, start_time


def test_a_block_that_ends_well_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path, former = tmp_path / "new" / "folder" / "a.txt", None
    for given, text, durable in ((path, "one", False), (str(path), "two", True)):
        with replaced(given, durable=durable) as temporary:
            assert temporary.parent == path.parent
            temporary.write_text(text)
            assert not former or path.read_text() == former
        assert path.read_text() == text
        former = text
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


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
@pytest.mark.parametrize("exists", [False, True])
def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path, monkeypatch, exists):
    monkeypatch.setattr("secrets.token_hex", lambda size: "0")
    target = tmp_path / "target"
    if exists:
        target.write_text("precious")
    (tmp_path / f".a.txt.0.{os.getpid()}.tmp").symlink_to(target)
    with pytest.raises(FileExistsError), replaced(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert target.exists() is exists
    assert not exists or target.read_text() == "precious"
    assert not (tmp_path / "a.txt").exists()


def write(folder, name, age=0.0):
    path = folder / name
    path.write_text("half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_temporary_file_that_is_old_or_of_a_process_that_is_gone_is_swept_and_nothing_else(tmp_path, dead):
    stray = write(tmp_path, f".checkpoint_1.safetensors.{dead}.tmp")
    alive = write(tmp_path, f".checkpoint_2.safetensors.{os.getpid()}.tmp")
    names = (
        f"checkpoint_1.safetensors.{dead}.tmp",
        f".checkpoint.safetensors.{dead}",
        ".checkpoint.safetensors.x.tmp",
        f".{dead}.tmp",
        "a.tmp",
    )
    others = [write(tmp_path, name) for name in names]
    (tmp_path / f".folder.{dead}.tmp").mkdir()
    old = write(tmp_path, f".a.{os.getpid()}.tmp", age=24 * 3600 + 60)
    assert set(sweep(tmp_path)) == {old, stray}
    assert not stray.exists()
    assert all(path.read_text() == "half" for path in (alive, *others))
    assert sweep(str(tmp_path)) == sweep(tmp_path / "none") == ()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there is known when a process began")
def test_a_temporary_file_of_an_earlier_process_of_the_same_number_is_swept(tmp_path):
    age = time.time() - start_time(os.getpid())
    write(tmp_path, f".new.{os.getpid()}.tmp", age=age - 1)
    earlier = write(tmp_path, f".old.{os.getpid()}.tmp", age=age + 60)
    assert sweep(tmp_path) == (earlier,)


def test_what_cannot_be_removed_stays_and_is_not_told_as_removed(tmp_path, dead, monkeypatch):
    stray = write(tmp_path, f".a.{dead}.tmp")

    def refuse(self):
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(type(stray), "unlink", refuse)
    assert sweep(tmp_path) == ()
    assert stray.exists()


def test_a_process_is_alive_until_it_has_ended_and_its_birth_tells_it_from_the_next(dead):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_alive(child.pid)
    assert start_time(child.pid) is None or abs(start_time(child.pid) - time.time()) < 60
    assert birth(child.pid) is None or birth(child.pid) != birth(os.getpid())
    child.kill()
    if sys.platform.startswith("linux"):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert (f"/proc/{child.pid}", is_alive(child.pid)) == (f"/proc/{child.pid}", False)  # not waited for yet
        assert os.path.exists(f"/proc/{child.pid}")
    child.communicate()
    assert not is_alive(child.pid)
    assert [is_alive(dead), birth(dead), start_time(dead)] == [False, None, None]
    assert [is_alive(pid) for pid in (0, -1, 2**31, 10**20)] == [False] * 4


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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_unicode_encoding_is_read(encoding):
    value = {"name": "größe", "a": [1, 2.5, None]}
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(encoding), "a.json") == value


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b'{"a": 1,}', MissingFileError, "a.json is not valid JSON: .*line 1"),
        (b"", MissingFileError, "a.json is not valid JSON"),
        ('"ö"'.encode("latin-1"), MissingFileError, "a.json cannot be read: it is not in UTF-8"),
        (b'[{"a": 1, "b": 2, "a": 3}]', ConfigError, "a.json: 'a' stands there twice"),
    ],
)
def test_what_is_no_json_is_named(content, error, message):
    with pytest.raises(error, match=message):
        parse_json(content, "a.json")
