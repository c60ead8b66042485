"""The list of checkpoints, and what a run may delete."""

import json
import logging
import os
from datetime import datetime

import pytest

from delira_nca.errors import CheckpointError, ConfigError
from delira_nca.io import Manifest, ManifestEntry, save_checkpoint


def checkpoint(folder, epoch, **state):
    path = folder / f"checkpoint_epoch_{epoch}.safetensors"
    save_checkpoint({"epoch": epoch, **state}, path)
    return path


@pytest.fixture
def manifest(tmp_path):
    return Manifest(tmp_path, "a")


@pytest.fixture
def listed(tmp_path, manifest):
    """The file of a checkpoint that the manifest lists."""
    path = checkpoint(tmp_path, 1)
    manifest.add(path, epoch=1)
    return path


def names(entries):
    return [entry.name for entry in entries]


def test_an_entry_says_what_the_file_is_and_who_wrote_it(tmp_path):
    path = checkpoint(tmp_path, 3)
    manifest = Manifest(tmp_path, "run a")
    assert manifest.entries() == (
        ManifestEntry(path.name, path.stat().st_size, 3, 0, None, manifest.entries()[0].time),
    )
    entry = manifest.add(path, epoch=3, iteration=40)
    assert entry == ManifestEntry(path.name, path.stat().st_size, 3, 40, "run a", entry.time)
    assert abs((datetime.fromisoformat(entry.time) - datetime.now().astimezone()).total_seconds()) < 60
    assert manifest.entries() == manifest.mine() == Manifest(tmp_path, "run a").mine() == (entry,)
    assert sorted(os.listdir(tmp_path)) == [path.name, "manifest.json"]


def test_a_manifest_of_version_0_1_is_read(tmp_path):
    path = checkpoint(tmp_path, 3)
    entry = Manifest(tmp_path, "run a").add(path, epoch=3)
    content = json.loads((tmp_path / "manifest.json").read_text())
    content["checkpoints"][0]["sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert Manifest(tmp_path, "run a").mine() == (entry,)


def test_runs_in_one_folder_delete_their_own_files_only(tmp_path):
    first, second = Manifest(tmp_path, "first"), Manifest(tmp_path, "second")
    first.add(checkpoint(tmp_path, 1), epoch=1)
    second.add(checkpoint(tmp_path, 2).name, epoch=2)
    first.add(str(checkpoint(tmp_path, 3)), epoch=3)
    found = checkpoint(tmp_path, 4)
    all_names = [f"checkpoint_epoch_{n}.safetensors" for n in (1, 2, 3, 4, 5)]
    assert names(first.mine()) == [all_names[0], all_names[2]]
    assert names(second.mine()) == [all_names[1]]
    assert [second.remove(name) for name in all_names] == [False, True, False, False, False]
    assert names(second.entries()) == names(first.mine()) == [all_names[0], all_names[2]]
    assert found.exists()
    assert second.mine() == ()


def test_who_writes_a_file_anew_owns_it_from_then_on(tmp_path, manifest, listed):
    second = Manifest(tmp_path, "second")
    second.add(checkpoint(tmp_path, 1, more=1), epoch=1)
    assert not manifest.remove(listed.name)
    assert second.remove(listed.name)


def test_a_file_of_another_size_is_not_deleted_and_a_link_is_not_followed(tmp_path, manifest, listed):
    content, other = listed.read_bytes(), tmp_path / "other.pt"
    listed.write_bytes(content + b"x")
    assert not manifest.remove(listed.name)
    assert listed.exists()
    listed.unlink()
    other.write_bytes(content)
    listed.symlink_to(other)
    assert not manifest.remove(listed.name)
    assert other.exists()


def test_a_file_that_somebody_deleted_is_no_longer_listed(manifest, listed):
    listed.unlink()
    assert manifest.entries() == ()
    assert not manifest.remove(listed.name)
    assert json.loads(manifest.path.read_text())["checkpoints"] == []


@pytest.mark.parametrize("name", ["", ".", "..", "../x.pt", "a/b.pt", "/etc/passwd", "a\\b.pt", "a\0.pt", None, 3])
def test_a_name_that_is_a_path_is_refused(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "x.pt").write_text("x")
    with pytest.raises(ConfigError, match="a checkpoint is listed by its name alone"):
        Manifest(folder, "a").remove(name)
    assert (tmp_path / "x.pt").exists()


def test_a_file_that_lies_elsewhere_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    path = checkpoint(tmp_path, 1)
    for given in (path, tmp_path / "a" / ".." / path.name):
        with pytest.raises(ConfigError, match="does not lie in"):
            Manifest(tmp_path / "a", "a").add(given, epoch=1)


def test_numbers_and_names_of_runs_that_are_none_are_refused(tmp_path, manifest):
    for numbers in ({"epoch": -1}, {"epoch": 1.0}, {"epoch": True}, {"epoch": 1, "iteration": None}):
        with pytest.raises(ConfigError, match="epoch and iteration are numbers from 0"):
            manifest.add(checkpoint(tmp_path, 1), **numbers)
    for run_id in ("", None, 3):
        with pytest.raises(ConfigError, match="run_id is a word"):
            Manifest(tmp_path, run_id)


def test_a_file_that_is_missing_or_a_disk_that_is_full_is_told(manifest, listed, monkeypatch):
    with pytest.raises(CheckpointError, match="cannot list"):
        manifest.add("checkpoint_2.safetensors", epoch=1)
    before = manifest.path.read_text()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(CheckpointError, match=r"cannot write .*manifest\.json: .*No space left"):
        manifest.add(listed, epoch=2)
    assert manifest.path.read_text() == before


ENTRY = {"name": "checkpoint_epoch_1.safetensors", "size": 1, "epoch": 1, "iteration": 0, "run_id": "a", "time": ""}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "\0",
        '{"format": 99, "checkpoints": []}',
        '{"format": 1}',
        '{"format": 1, "checkpoints": 3}',
        '{"format": 1, "checkpoints": [3]}',
        *(
            json.dumps({"format": 1, "checkpoints": [{**ENTRY, **change}]})
            for change in ({"name": "../x.pt"}, {"size": -1}, {"size": "1"}, {"run_id": 3}, {"epoch": 1.5}, {"more": 1})
        ),
        json.dumps({"format": 1, "checkpoints": [ENTRY, ENTRY]}),
        None,
    ],
)
def test_a_missing_or_damaged_manifest_is_made_anew_and_nothing_in_it_is_deleted(tmp_path, manifest, caplog, content):
    path = checkpoint(tmp_path, 7, iteration=30)
    bad = tmp_path / "checkpoint_bad.safetensors"
    bad.write_bytes(b"not one")
    (tmp_path / "other.pt").write_bytes(b"not counted")
    (tmp_path / "checkpoint_folder.safetensors").mkdir()
    if content is not None:
        manifest.path.write_text(content)
    with caplog.at_level(logging.WARNING, logger="delira_nca"):
        entries = {entry.name: entry for entry in manifest.entries()}
    assert ("is damaged and was rebuilt" in caplog.text) is (content is not None)
    assert set(entries) == {path.name, bad.name}
    assert entries[path.name].size == path.stat().st_size
    known = [(entry.epoch, entry.iteration, entry.run_id) for entry in (entries[path.name], entries[bad.name])]
    assert known == [(7, 30, None), (None, None, None)]
    assert not manifest.remove(path.name)
    mine = manifest.add(checkpoint(tmp_path, 8), epoch=8)
    caplog.clear()
    assert manifest.mine() == (mine,)
    assert set(names(manifest.entries())) == {path.name, bad.name, mine.name}
    assert not caplog.text
    assert path.exists()
