"""Folders of runs: one for each, and what made it."""

import json
import os
import platform
import subprocess
import sys
from datetime import datetime

import numpy as np
import pytest
import torch

import delira_nca
from delira_nca.errors import ConfigError
from delira_nca.io import claim_folder, write_environment
from delira_nca.io.run_folder import is_abandoned, kept_if_trained
from delira_nca.machine import cpu_name

CLAIM = """
import sys
from delira_nca.io import claim_folder
sys.stdin.readline()
print(*(claim_folder(sys.argv[1], "run").name for _ in range(100)))
"""


def test_each_run_gets_a_folder_of_its_own(tmp_path):
    (tmp_path / "run-3").mkdir()
    (tmp_path / "run-4").write_text("a file")
    made = [claim_folder(tmp_path / "new" / ".." / ".", "run") for _ in range(3)]
    assert [folder.name for folder in made] == ["run", "run-2", "run-5"]
    assert all(folder.is_dir() for folder in made)


def test_two_processes_at_the_same_moment_never_get_the_same_folder(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    names = [name for child in children for name in child.communicate(timeout=60)[0].split()]
    assert len(names) == 300
    assert set(names) == {"run", *(f"run-{number}" for number in range(2, 301))}


def test_a_name_that_is_a_path_and_a_parent_that_is_a_file_are_refused(tmp_path):
    for name in ("", ".", "..", "a/b", "../a", "a\\b", "a\0"):
        with pytest.raises(ConfigError, match="a run is named by a word"):
            claim_folder(tmp_path, name)
    assert os.listdir(tmp_path) == []
    (tmp_path / "runs").write_text("")
    for parent in (tmp_path / "runs", tmp_path / "runs" / "more"):
        with pytest.raises(ConfigError, match="something else has its name"):
            claim_folder(parent, "run")


def test_the_environment_says_what_made_a_run_and_no_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "only-for-me-4711")
    path = write_environment(tmp_path)
    text = path.read_text()
    found = json.loads(text)
    assert path == tmp_path / "environment.json"
    assert found["versions"] == {
        "delira_nca": delira_nca.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    assert found["command"] == list(sys.orig_argv)
    assert found["processor"] == cpu_name()
    assert (found["pid"], found["host"]) == (os.getpid(), platform.node())
    assert abs((datetime.fromisoformat(found["time"]) - datetime.now().astimezone()).total_seconds()) < 60
    assert "4711" not in text
    assert "SECRET_TOKEN" not in text


def test_versions_are_known_without_importing_what_is_heavy(tmp_path):
    script = (
        "import sys; from delira_nca.io import write_environment; write_environment(sys.argv[1]); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy"} & set(done.stdout.split())
    versions = json.loads((tmp_path / "environment.json").read_text())["versions"]
    assert versions["numpy"] == np.__version__
    assert versions["torch"].split("+")[0] == str(torch.__version__).split("+")[0]


def fail_in(folder, *, has_trained, is_new):
    with kept_if_trained(folder, lambda: has_trained, is_new=is_new):
        (folder / "checkpoints").mkdir()
        (folder / "config.json").write_text("")
        raise KeyError


def test_what_a_run_left_is_removed_if_it_fails_before_it_has_trained_and_kept_after(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    for is_new, name in ((False, "old"), (True, "new")):
        folder = tmp_path / name
        folder.mkdir()
        if not is_new:
            (folder / "mine.txt").write_text("")
        with pytest.raises(KeyError):
            fail_in(folder, has_trained=False, is_new=is_new)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine.txt", "mine.txt", "old"]
    with pytest.raises(KeyError):
        fail_in(tmp_path, has_trained=True, is_new=True)
    assert (tmp_path / "config.json").is_file()


def test_a_run_is_abandoned_if_its_process_ended_without_a_checkpoint(tmp_path, dead):
    assert not is_abandoned(tmp_path)
    path = write_environment(tmp_path)
    assert not is_abandoned(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": dead}))
    assert is_abandoned(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoint_epoch_1.safetensors").write_text("")
    assert not is_abandoned(tmp_path)
