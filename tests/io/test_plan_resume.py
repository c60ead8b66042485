"""Where a run begins."""

import dataclasses
import os
from functools import partial

import pytest

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError
from delira_nca.io import Manifest, ResumePlan, load_checkpoint, plan_resume, save_checkpoint
from delira_nca.io.resume import newest_run_files


def save(folder, name, epoch, **state):
    path = folder / f"checkpoint_{name}.safetensors"
    save_checkpoint({"epoch": epoch, **state}, path)
    return path


def damage(path):
    path.write_bytes(path.read_bytes()[:-1])
    return path


@pytest.mark.parametrize("name", ["empty", "none"])
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_folder_without_checkpoints_starts(tmp_path, name, resume):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.pt").write_text("x")
    (tmp_path / "empty" / ".checkpoint_1.safetensors.1.tmp").write_text("x")
    plan = plan_resume(resume, tmp_path / name)
    assert plan == ResumePlan("start", None, 0, 0, ())
    assert str(plan) == "start from the beginning"
    assert os.listdir(tmp_path) == ["empty"]


def test_auto_takes_the_newest_by_epoch_and_iteration_and_not_by_name_or_time(tmp_path):
    for epoch in (10, 9, 2):
        save(tmp_path, f"epoch_{epoch}", epoch)
    plan = plan_resume("auto", tmp_path)
    assert plan == ResumePlan("resume", tmp_path / "checkpoint_epoch_10.safetensors", 10, 0)
    assert str(plan) == f"resume after epoch 10\n  from {tmp_path / 'checkpoint_epoch_10.safetensors'}"
    for name, iteration in (("a", 5), ("b", 30), ("c", 0)):
        save(tmp_path, name, 11, iteration=iteration)
    plan = plan_resume("auto", str(tmp_path))
    assert (plan.path, plan.epoch, plan.iteration) == (tmp_path / "checkpoint_b.safetensors", 11, 30)
    assert str(plan).startswith("resume after epoch 11, iteration 30\n")


def test_auto_falls_back_over_damaged_files_and_says_which(tmp_path):
    for epoch in range(1, 6):
        save(tmp_path, f"epoch_{epoch}", epoch)
    damage(tmp_path / "checkpoint_epoch_5.safetensors")
    (tmp_path / "checkpoint_epoch_4.safetensors").write_bytes(b"")
    plan = plan_resume("auto", tmp_path)
    assert (plan.action, plan.path.name, plan.epoch) == ("resume", "checkpoint_epoch_3.safetensors", 3)
    reasons = dict(plan.skipped)
    assert set(reasons) == {tmp_path / "checkpoint_epoch_5.safetensors", tmp_path / "checkpoint_epoch_4.safetensors"}
    assert reasons[tmp_path / "checkpoint_epoch_4.safetensors"] == "it is empty"
    assert reasons[tmp_path / "checkpoint_epoch_5.safetensors"].startswith("it is cut short at")
    assert f"\n  not from {tmp_path / 'checkpoint_epoch_4.safetensors'}: it is empty" in str(plan)


def test_with_a_manifest_only_the_newest_and_those_that_are_not_listed_are_read(tmp_path):
    def load(path):
        read.append(path.name)
        return load_checkpoint(path)

    read, manifest = [], Manifest(tmp_path, "a")
    for epoch in range(1, 6):
        manifest.add(save(tmp_path, f"epoch_{epoch}", epoch, iteration=7), epoch=epoch, iteration=7)
    content = bytearray((tmp_path / "checkpoint_epoch_5.safetensors").read_bytes())
    content[-60] ^= 1
    (tmp_path / "checkpoint_epoch_5.safetensors").write_bytes(content)
    plan = plan_resume("auto", tmp_path, load)
    assert (plan.path.name, plan.epoch, plan.iteration) == ("checkpoint_epoch_4.safetensors", 4, 7)
    assert read == ["checkpoint_epoch_5.safetensors", "checkpoint_epoch_4.safetensors"]
    assert "checksum differs" in plan.skipped[0][1]
    read.clear()
    save(tmp_path, "epoch_6", 6)  # a kill between the two leaves a file that is not listed
    assert plan_resume("auto", tmp_path, load).path.name == "checkpoint_epoch_6.safetensors"
    assert read == ["checkpoint_epoch_6.safetensors"]


def test_what_a_file_says_of_itself_counts_and_not_what_the_list_says_or_whether_it_is_damaged(tmp_path):
    manifest = Manifest(tmp_path, "a")
    manifest.add(save(tmp_path, "a", 2), epoch=9)
    manifest.add(save(tmp_path, "b", 3), epoch=3)
    for damaged in (False, True):
        if damaged:
            manifest.path.write_text("{")
        plan = plan_resume("auto", tmp_path)
        assert (plan.path.name, plan.epoch) == ("checkpoint_b.safetensors", 3), damaged


@pytest.mark.parametrize(
    ("newest", "best", "is_damaged", "expected"),
    [
        (5, 3, False, "epoch_5"),
        (5, 3, True, "best"),
        (5, 5, False, "epoch_5"),
        (5, 5, True, "best"),
        (2, 4, False, "best"),
    ],
)
def test_the_best_counts_where_nothing_newer_is_whole(tmp_path, newest, best, is_damaged, expected):
    path = save(tmp_path, f"epoch_{newest}", newest)
    save(tmp_path, "epoch_1", 1)
    save(tmp_path, "best", best)
    if is_damaged:
        damage(path)
    assert plan_resume("auto", tmp_path).path.name == f"checkpoint_{expected}.safetensors"


def test_a_folder_with_damaged_files_only_is_one_error_that_names_each(tmp_path):
    damage(save(tmp_path, "epoch_1", 1))
    (tmp_path / "checkpoint_epoch_2.safetensors").write_bytes(b"")
    save_checkpoint({"weights": 1}, tmp_path / "checkpoint_x.safetensors")
    for resume, folder in (("auto", tmp_path), (tmp_path, None)):
        with pytest.raises(CheckpointError) as raised:
            plan_resume(resume, folder)
        first, *lines = str(raised.value).splitlines()
        assert first.startswith(f"no checkpoint in {tmp_path} can be read")
        assert lines[0].startswith(f"  {tmp_path / 'checkpoint_epoch_1.safetensors'}: it is cut short at")
        assert lines[1] == f"  {tmp_path / 'checkpoint_epoch_2.safetensors'}: it is empty"
        assert lines[2].startswith(
            f"  {tmp_path / 'checkpoint_x.safetensors'}: it is not the state of a run: its epoch is None"
        )


@pytest.mark.parametrize("epoch", [-1, 2.0, True, "3", None])
def test_an_epoch_that_is_none_does_not_count(tmp_path, epoch):
    save(tmp_path, "odd", epoch)
    save(tmp_path, "good", 1)
    plan = plan_resume("auto", tmp_path)
    assert plan.path.name == "checkpoint_good.safetensors"
    assert f"its epoch is {epoch!r}" in plan.skipped[0][1]


def test_what_the_trainer_refuses_is_skipped_and_any_other_error_of_reading_is_not_hidden(tmp_path):
    for epoch in (1, 2):
        save(tmp_path, f"epoch_{epoch}", epoch)

    def load(path, error=CheckpointError):
        state = load_checkpoint(path)
        if state["epoch"] == 2:
            raise error(f"{path} has format 99")
        return state

    plan = plan_resume("auto", tmp_path, load)
    assert (plan.epoch, plan.skipped) == (1, ((tmp_path / "checkpoint_epoch_2.safetensors", "has format 99"),))
    with pytest.raises(MemoryError):
        plan_resume("auto", tmp_path, partial(load, error=MemoryError))


def test_never_starts_and_says_what_is_there_without_reading_it(tmp_path):
    path = damage(save(tmp_path, "epoch_1", 1))
    plan = plan_resume("never", tmp_path, load=None)
    assert plan == ResumePlan("start", skipped=((path, "resume='never'"),))
    assert str(plan) == f"start from the beginning\n  not from {path}: resume='never'"
    assert plan_resume("never", None) == ResumePlan("start")
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.action = "resume"


def test_a_file_is_taken_whatever_its_name_and_a_folder_gives_its_newest(tmp_path):
    path = tmp_path / "mine.bin"
    save_checkpoint({"epoch": 4, "iteration": 2}, path)
    save(tmp_path, "epoch_9", 9)
    for given in (path, str(path)):
        assert plan_resume(given, tmp_path) == ResumePlan("resume", path, 4, 2)
    (tmp_path / "a").mkdir()
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        plan_resume(tmp_path / "a", tmp_path / "b")
    path = save(tmp_path / "a", "epoch_2", 2)
    assert plan_resume(str(tmp_path / "a"), tmp_path / "b").path == path


def test_a_damaged_file_is_an_error_that_names_the_newest_good_one(tmp_path):
    path = damage(save(tmp_path, "epoch_3", 3))
    with pytest.raises(
        CheckpointError, match=r"cannot resume from .*_3\.safetensors: it is cut short at \d+ of \d+ bytes or more$"
    ):
        plan_resume(path, tmp_path)
    good = save(tmp_path, "epoch_2", 2)
    with pytest.raises(CheckpointError, match="it is cut short at") as raised:
        plan_resume(path, None)
    assert str(raised.value).endswith(f"The newest that can be read beside it is {good}, of epoch 2")


def test_a_path_that_is_not_there_is_told_with_the_nearest_name(tmp_path, monkeypatch):
    path = save(tmp_path, "epoch_12", 12)
    with pytest.raises(MissingFileError) as raised:
        plan_resume(tmp_path / "chekpoint_epoch_12.pt", tmp_path)
    assert str(raised.value).endswith(f"to resume from. Did you mean {str(path)!r}?")
    with pytest.raises(MissingFileError, match="there is no folder .*/nowhere either"):
        plan_resume(tmp_path / "nowhere" / "checkpoint_epoch_12.safetensors", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match="there is no atuo to resume from. Did you mean 'auto'?"):
        plan_resume("atuo", tmp_path)
    with pytest.raises(FileNotFoundError, match="to resume from$"):
        plan_resume("zzz", tmp_path)


def test_anything_else_is_refused_and_auto_needs_a_folder(tmp_path):
    for resume in (None, True, 3, ""):
        with pytest.raises(ConfigError, match="resume is 'never', 'auto', or the path"):
            plan_resume(resume, tmp_path)
    with pytest.raises(ConfigError, match="needs the folder"):
        plan_resume("auto", None)
    (tmp_path / "file").write_text("x")
    with pytest.raises(MissingFileError, match="is a file, not the folder"):
        plan_resume("auto", tmp_path / "file")


# Several runs in one folder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_manifest", [True, False])
def test_the_run_that_wrote_last_is_resumed_though_an_older_one_got_further(tmp_path, has_manifest):
    for number, (run, epoch) in enumerate([("a", 1), ("a", 9), ("b", 1), ("b", 2)]):
        path = save(tmp_path, f"epoch_{epoch}", epoch, run_id=run)
        os.utime(path, (1000.0 + number, 1000.0 + number))
        if has_manifest:
            Manifest(tmp_path, run).add(path, epoch=epoch)
    plan = plan_resume("auto", tmp_path)
    assert (plan.path, plan.epoch) == (tmp_path / "checkpoint_epoch_2.safetensors", 2)
    assert plan.skipped == ((tmp_path / "checkpoint_epoch_9.safetensors", "it is of another run, which wrote before"),)


def test_a_file_of_a_new_run_that_is_not_listed_yet_is_resumed(tmp_path):
    for epoch in (1, 9):
        Manifest(tmp_path, "a").add(save(tmp_path, f"epoch_{epoch}", epoch, run_id="a"), epoch=epoch)
    newest = save(tmp_path, "epoch_1_iter_3", 0, iteration=3, run_id="b")
    later = (tmp_path / "manifest.json").stat().st_mtime + 5
    os.utime(newest, (later, later))
    assert plan_resume("auto", tmp_path).path == newest


def test_an_older_run_does_not_stand_in_for_a_newer_one_that_is_damaged(tmp_path):
    save_runs(tmp_path)
    path = tmp_path / "checkpoint_new_1.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (content, b""):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="no checkpoint of the newest run in .* can be read") as error:
            plan_resume("auto", tmp_path)
        assert "checkpoint_old_3.safetensors: it is of another run" in str(error.value)
    assert plan_resume(tmp_path / "checkpoint_old_3.safetensors", tmp_path).epoch == 3


def save_runs(folder):
    """An older run with three epochs, and a newer one with one."""
    for run, epochs in (("old", 3), ("new", 1)):
        for epoch in range(1, epochs + 1):
            path = save(folder, f"{run}_{epoch}", epoch, run_id=run)
            os.utime(path, (1000 * (run == "new") + epoch,) * 2)
            Manifest(folder, run).add(path, epoch=epoch, iteration=0)


def test_a_damaged_manifest_does_not_bring_an_older_run_back(tmp_path):
    save_runs(tmp_path)
    assert [path.stem for path in newest_run_files(tmp_path)] == ["checkpoint_new_1"]
    (tmp_path / "manifest.json").write_text("{")
    assert plan_resume("auto", tmp_path).path.stem == "checkpoint_new_1"
