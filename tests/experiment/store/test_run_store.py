"""Runs by name: made once, found, listed, removed, and the best of their scores."""

import json
import math
import os
import stat
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from delira_nca.errors import (
    CheckpointError,
    ConfigError,
    MissingFileError,
    RunLockedError,
    UnknownNameError,
    UnwritableError,
)
from delira_nca.experiment.stats import (
    Criterion,
    EvaluationScores,
    TrainingIterationStats,
    ValidationIterationScores,
    ValidationScores,
)
from delira_nca.experiment.store import RunStore, StoredRun
from delira_nca.io import RunLock, save_checkpoint


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def test_a_store_lists_its_runs_and_nothing_else(store, tmp_path):
    assert (store.names(), list(store)) == ((), [])
    for name in ("b", "a"):
        store.create(name)
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "file.txt").write_text("no run")
    (tmp_path / "runs" / ".c.0.tmp").mkdir()
    (tmp_path / "runs" / ".c.0.tmp" / "config.json").write_text("{}")
    grown = tmp_path / "runs" / "grown"
    grown.mkdir()
    (grown / "config.json").write_text('{"size": 8}')
    assert store.names() == ("a", "b", "grown")
    assert [run.name for run in store] == ["a", "b", "grown"]
    assert store.open("grown").config == {"size": 8}
    assert "a" in store
    assert "notes" not in store
    assert "../runs/a" not in store


def test_a_run_is_made_with_its_config_and_an_empty_database(store):
    run = store.create("dahlia", {"steps": (48, 64), "lr": 1e-3})
    assert run.folder == store.root / "dahlia"
    assert run.config == {"steps": [48, 64], "lr": 1e-3}
    assert sorted(path.name for path in run.folder.iterdir()) == ["config.json", "stats.sqlite"]
    assert os.listdir(store.root) == ["dahlia"]
    assert (run.training_stats().iteration_stats, run.validation_scores(), run.latest_checkpoint()) == ([], None, None)


def test_a_config_may_be_a_dataclass_have_to_dict_or_be_yaml(store):
    @dataclass
    class Plain:
        size: int = 8

    class Described:
        def to_dict(self):
            return {"size": 9}

    assert store.create("a", Plain()).config == {"size": 8}
    assert store.create("b", Described()).config == {"size": 9}
    run = store.create("c")
    assert run.config == {}
    (run.folder / "config.yaml").write_text("trainer:\n  lr: 1e-3\n")
    assert store.open("c").config == {"trainer": {"lr": 0.001}}


@pytest.mark.parametrize("config", [{"f": print}, {"x": {1, 2}}, [1], "a"])
def test_a_config_that_is_not_plain_is_refused_before_anything_is_made(store, config):
    with pytest.raises(ConfigError, match="the config of a run"):
        store.create("a", config)
    assert not store.root.exists()


def test_a_run_that_is_there_is_refused_or_gone_on_with(store):
    store.create("a", {"lr": 0.1, "seed": 0})
    with pytest.raises(ConfigError, match="already holds a run: take another name, or exist='resume'"):
        store.create("a")
    assert store.create("a", {"seed": 0, "lr": 0.1}, "resume").config == {"lr": 0.1, "seed": 0}
    assert store.create("a", exist="resume").folder == store.root / "a"
    with pytest.raises(ConfigError, match="in 2 places: lr is 0.1 there, 0.2 here; steps.1 is None there, 2 here"):
        store.create("a", {"lr": 0.2, "seed": 0, "steps": [None, 2]}, exist="resume")
    assert store.create("new", {"nan": math.nan}, exist="resume").name == "new"
    store.create("new", {"nan": math.nan}, exist="resume")
    with pytest.raises(UnknownNameError, match="unknown exist 'resum'.*Did you mean 'resume'"):
        store.create("a", exist="resum")


def test_what_is_no_run_is_not_taken_for_one(store):
    (store.root / "notes").mkdir(parents=True)
    (store.root / "notes" / "text").write_text("mine")
    with pytest.raises(ConfigError, match="is there already, and is not a run"):
        store.create("notes", exist="resume")
    with pytest.raises(MissingFileError, match="there is no run 'notes'"):
        store.open("notes")
    run = store.create("dahlia", {"lr": 0.1})
    with pytest.raises(MissingFileError, match="no run 'dalia' in .*runs. Known: 'dahlia'. Did you mean 'dahlia'?"):
        store.open("dalia")
    (run.folder / "config.json").write_text(json.dumps({"lr": 0.1})[:-3])
    with pytest.raises(ConfigError, match="config.json is not valid JSON"):
        _ = run.config
    alone = StoredRun(store.root / "alone")
    assert (alone.name, alone.config, repr(alone)) == ("alone", {}, f"StoredRun({str(store.root / 'alone')!r})")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", ".hidden", "a\0", 3, None, "x" * 300])
def test_a_run_is_named_by_a_word(store, name):
    message = "at most 200 bytes, not of 300" if name == "x" * 300 else "a run is named by a word"
    with pytest.raises(ConfigError, match=message):
        store.create(name)
    assert name not in store


RACE = """
import sys
from delira_nca.errors import ConfigError
from delira_nca.experiment.store import RunStore
store = RunStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
won = 0
for number in range(40):
    try:
        store.create(f"run-{number}", {"by": sys.argv[2]})
        won += 1
    except ConfigError as error:
        assert "already holds a run" in str(error), error
print(won)
"""


def test_of_two_processes_one_makes_the_run(store):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(store.root), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [int(process.communicate(timeout=60)[0]) for process in processes]
    by = [run.config["by"] for run in store]
    assert [by.count("0"), by.count("1")] == won
    assert (sum(won), sorted(os.listdir(store.root))) == (40, sorted(f"run-{n}" for n in range(40)))


# Removing -------------------------------------------------------------------------------------------------------------


def test_a_run_is_removed_with_all_of_its_files_and_a_link_is_not(store, tmp_path):
    run = store.create("a", {"lr": 0.1})
    save_checkpoint({"epoch": 1}, run.checkpoints / "checkpoint_epoch_1.safetensors")
    elsewhere = RunStore(tmp_path / "elsewhere").create("b")
    (store.root / "b").symlink_to(elsewhere.folder)
    store.delete("a")
    assert os.listdir(store.root) == ["b"]
    with pytest.raises(MissingFileError, match="no run 'a'"):
        store.delete("a")
    with pytest.raises(ConfigError, match="is a link"):
        store.delete("b")
    assert elsewhere.folder.is_dir()


@pytest.mark.parametrize("place", [".", "checkpoints", "fold_0/checkpoints"])
def test_a_run_that_a_process_works_on_is_not_removed(store, place):
    run = store.create("a")
    (run.folder / "checkpoints").mkdir()
    with RunLock(run.folder / place), pytest.raises(RunLockedError, match="held"):
        store.delete("a")
    assert run.folder.is_dir()
    store.delete("a")
    assert os.listdir(store.root) == []


# One run --------------------------------------------------------------------------------------------------------------


def test_the_latest_checkpoint_is_the_newest_whole_one(store):
    run = store.create("a")
    for epoch in (1, 2):
        save_checkpoint({"epoch": epoch}, run.checkpoints / f"checkpoint_epoch_{epoch}.safetensors")
    assert run.latest_checkpoint().name == "checkpoint_epoch_2.safetensors"
    (run.checkpoints / "checkpoint_epoch_2.safetensors").write_bytes(b"")
    assert run.latest_checkpoint().name == "checkpoint_epoch_1.safetensors"
    (run.checkpoints / "checkpoint_epoch_1.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint in .* can be read"):
        run.latest_checkpoint()


def with_scores(run, *rows):
    criteria = EvaluationScores([Criterion("dice", True, (0, 1)), Criterion("hausdorff", False)])
    scores = ValidationScores([{"threshold": 0.3}, {"threshold": 0.5}], ("x", "y"), criteria)
    for number, row in enumerate(rows):
        scores.add_iteration_scores(ValidationIterationScores(9 + 10 * number, row))
    run.database.add_validation(scores, weights={"dice": "weights_9.safetensors"})
    return run


def test_the_best_follows_the_direction_of_its_criterion_with_its_weights_while_they_are_there(store):
    first = [[[0.6, 4.0], [0.7, 5.0]], [[0.6, 4.0], [0.1, 5.0]]]
    second = [[[0.5, 9.0], [0.9, 2.0]], [[0.5, 9.0], [0.2, 8.0]]]
    run = with_scores(store.create("a"), first)
    dice = run.best("dice")
    assert (dice.value, dice.iteration, dice.parameters, dice.checkpoint) == (0.6, 9, {"threshold": 0.3}, None)
    save_checkpoint({"epoch": 1}, run.best_weights / "weights_9.safetensors")
    assert run.best("dice").checkpoint == run.folder / "best" / "weights_9.safetensors"
    run = with_scores(store.create("b"), first, second)
    dice, hausdorff = run.best("dice"), run.best("hausdorff", dataset="x")
    assert (dice.value, dice.iteration, dice.parameters) == (0.6, 9, {"threshold": 0.3})
    assert (hausdorff.value, hausdorff.iteration, hausdorff.parameters) == (2.0, 19, {"threshold": 0.5})


def test_the_best_is_the_earliest_of_equals_and_never_nan(store):
    nan, same = [[[math.nan, math.nan]] * 2] * 2, [[[0.5, 1.0]] * 2] * 2
    run = with_scores(store.create("a"), nan, same, same)
    assert (run.best("dice").iteration, run.best("dice").parameters) == (19, {"threshold": 0.3})
    assert with_scores(store.create("b"), nan).best("dice") is None


def test_the_best_of_what_is_not_recorded_is_refused(store):
    run = store.create("a")
    with pytest.raises(ConfigError, match="run 'a' has no validation"):
        run.best("dice")
    with_scores(run, [[[0.5, 1.0]] * 2] * 2)
    with pytest.raises(UnknownNameError, match="unknown criterion 'dcie'.*Did you mean 'dice'"):
        run.best("dcie")
    with pytest.raises(UnknownNameError, match="unknown data set 'z'"):
        run.best("dice", "z")


def test_a_store_of_runs_needs_neither_torch_nor_labelled_arrays():
    names = "{'torch', 'xarray', 'zarr'}"
    code = f"import sys, delira_nca.experiment.store; print(sorted({names} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.skipif(os.name == "nt", reason="there are no modes of files")
@pytest.mark.parametrize("mask", [0o002, 0o027])
def test_files_have_the_mode_that_the_umask_says(tmp_path, mask):
    former = os.umask(mask)
    try:
        run = RunStore(tmp_path / "runs").create("a", {"x": np.int64(1)})
        with run.database, RunLock(run.folder):
            run.add_training([TrainingIterationStats(0, 0.5)])
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in run.folder.iterdir()}
    finally:
        os.umask(former)
    assert {"config.json", "run.lock", "stats.sqlite", "stats.sqlite-wal"} <= modes.keys()
    assert set(modes.values()) == {0o666 & ~mask}
    assert run.config == {"x": 1}


@pytest.mark.parametrize("root", ["file", "file/more", "link"])
def test_a_root_that_cannot_be_a_folder_is_named(tmp_path, root):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnwritableError, match=f"{root.split('/')[0]}.* cannot be a folder"):
        RunStore(tmp_path / root).create("a")
