"""What ``train(resume=...)`` goes on from, and what it says of it."""

import itertools
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError, RunLockedError
from delira_nca.io import Manifest, RunLock, load_checkpoint
from delira_nca.io.checkpoint import save_checkpoint
from delira_nca.logging import CSVSink, JSONLSink
from delira_nca.losses import mse
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import Checkpoint, LambdaCallback, MetricLogger


@pytest.fixture
def run(make_trainer, batches, tmp_path):
    def train(num_epochs, folder=tmp_path / "run", *, callbacks=(), resume="auto", **options):
        trainer = make_trainer(save_path=folder, callbacks=callbacks, **options)
        trainer.train(num_epochs, [*batches(1), *batches(1)], resume=resume)
        return trainer

    return train


def weights(trainer):
    return torch.cat([value.flatten() for value in trainer.network.state_dict().values()])


def test_auto_begins_in_an_empty_folder_and_goes_on_in_another_process_s(run, tmp_path):
    straight = run(5, tmp_path / "straight")
    assert run(2).start_epoch == 3
    resumed = run(5)
    assert torch.equal(weights(resumed), weights(straight))
    assert [entry["epoch"] for entry in resumed.history] == [1, 2, 3, 4, 5]


def test_a_finished_run_is_extended_and_one_that_is_done_does_nothing(run):
    run(3)
    assert run(3).global_iter_num == run(3, callbacks=[LambdaCallback(at_iter_begin=_fail)]).global_iter_num
    assert run(4).start_epoch == 5


def _fail(trainer):
    raise AssertionError("there was nothing left to do")


def test_a_damaged_newest_file_is_told_and_the_one_before_it_taken(run, tmp_path, caplog):
    straight = run(4, tmp_path / "straight")
    run(3)
    newest = tmp_path / "run" / "checkpoint_epoch_3.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    with caplog.at_level(logging.INFO, "delira_nca"):
        resumed = run(4)
    assert torch.equal(weights(resumed), weights(straight))
    assert "resume after epoch 2" in caplog.text
    assert f"not from {newest}" in caplog.text


def test_a_kill_between_file_and_manifest_leaves_a_file_that_is_taken_but_none_if_all_are_damaged(run, tmp_path):
    run(2)
    (tmp_path / "run" / "manifest.json").unlink()
    assert run(3).start_epoch == 4
    for file in (tmp_path / "run").glob("*.safetensors"):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="empty"):
        run(4)


def test_resuming_into_another_folder_leaves_the_first_and_foreign_files_untouched(run, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    run(3, first)
    second.mkdir()
    foreign = second / "checkpoint_epoch_2.safetensors"
    foreign.write_bytes(b"somebody else's")
    before = {file.name: file.read_bytes() for file in first.iterdir()}
    run(6, second, resume=first)
    assert {file.name: file.read_bytes() for file in first.iterdir()} == before
    assert foreign.read_bytes() == b"somebody else's"
    names = [f"checkpoint_epoch_{epoch}.safetensors" for epoch in (2, 5, 6)]
    assert sorted(file.name for file in second.glob("*.safetensors")) == names


def test_files_within_an_epoch_are_removed_when_a_newer_one_is_there(run, tmp_path):
    def look(trainer):
        files = (tmp_path / "run").glob("*_iter_*.safetensors")
        seen.append(sorted(file.stem.removeprefix("checkpoint_") for file in files))

    seen = []
    run(2, callbacks=[Checkpoint(every_iterations=1), LambdaCallback(at_iter_done=look)])
    assert seen == [["epoch_1_iter_1"], ["epoch_1_iter_2"], ["epoch_2_iter_1"], ["epoch_2_iter_2"]]
    names = {entry.name for entry in Manifest(tmp_path / "run", "any").entries()}
    assert names == {"checkpoint_epoch_1.safetensors", "checkpoint_epoch_2.safetensors"}


def test_what_changed_since_the_checkpoint_is_told(run, caplog):
    run(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with caplog.at_level(logging.WARNING, "delira_nca"):
            run(2)
    finally:
        torch.set_num_threads(threads)
    assert f"may not continue bit for bit: threads: {threads} then, {threads + 1} now" in caplog.text


def test_never_begins_anew_and_says_that_there_was_something(run, caplog):
    run(2)
    with caplog.at_level(logging.INFO, "delira_nca"):
        assert run(1, resume="never").start_epoch == 2
    assert "resume='never'" in caplog.text


def test_what_cannot_be_resumed_from_is_an_error_before_the_first_batch(run, make_trainer, batches, tmp_path):
    with pytest.raises(MissingFileError, match="there is no"):
        run(1, resume=tmp_path / "nowhere.pt")
    with pytest.raises(ConfigError, match="needs the folder"):
        make_trainer(save_path=None).train(1, batches(1), resume="auto")


def test_a_second_process_on_the_folder_is_refused_with_who_holds_it(run, tmp_path):
    script = (
        "import sys, time; from delira_nca.io import RunLock\n"
        "with RunLock(sys.argv[1]):\n    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunLockedError, match=str(other.pid)):
            run(1)
    finally:
        other.kill()
        other.communicate()
    assert run(1).start_epoch == 2


def test_the_folder_is_held_while_a_training_runs_and_free_after_it(run, tmp_path):
    def look(trainer):
        with pytest.raises(RunLockedError, match=str(os.getpid())), RunLock(tmp_path / "run"):
            pass

    run(1, callbacks=[LambdaCallback(at_iter_begin=look)])
    with RunLock(tmp_path / "run"):
        pass


def test_a_save_that_fails_may_be_a_warning(run, tmp_path, caplog, monkeypatch):
    import delira_nca.training.network_trainer as module

    run(1)
    former = (tmp_path / "run" / "checkpoint_epoch_1.safetensors").read_bytes()
    monkeypatch.setattr(module, "save_checkpoint", _no_space)
    with caplog.at_level(logging.WARNING, "delira_nca"):
        trainer = run(3, callbacks=[Checkpoint(on_error="warn")])
    assert trainer.start_epoch == 4
    assert "training continues without checkpoint_epoch_2.safetensors: no space" in caplog.text
    assert (tmp_path / "run" / "checkpoint_epoch_1.safetensors").read_bytes() == former
    with pytest.raises(CheckpointError, match="no space"):
        run(3, callbacks=[Checkpoint(on_error="raise")])


def _no_space(*arguments):
    raise CheckpointError("no space")


def test_a_stop_ends_between_steps_and_the_run_goes_on_exactly(run, tmp_path, stop_after):
    straight = run(3, tmp_path / "straight")
    run(3, callbacks=[stop_after(3)])
    state = load_checkpoint(tmp_path / "run" / "checkpoint_epoch_2_iter_1.safetensors")
    assert (state["epoch"], state["iteration"], state["global_iter_num"]) == (1, 1, 3)
    assert torch.equal(weights(run(3)), weights(straight))


def test_an_epoch_is_logged_once_where_a_kill_came_before_its_checkpoint(run, tmp_path):
    def killed(trainer, curr_epoch):
        if curr_epoch == 2:
            raise KeyboardInterrupt

    def callbacks(*more, folder):
        sinks = JSONLSink(folder / "metrics.jsonl"), CSVSink(folder / "metrics.csv")
        return [MetricLogger(*sinks, every=1), *more, Checkpoint(every_iterations=1)]

    run(3, tmp_path / "straight", callbacks=callbacks(folder=tmp_path / "straight"))
    with pytest.raises(KeyboardInterrupt):
        run(3, callbacks=callbacks(LambdaCallback(at_checkpoint=killed), folder=tmp_path / "run"))
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 6
    run(3, callbacks=callbacks(folder=tmp_path / "run"))
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (tmp_path / "run" / name).read_text() == (tmp_path / "straight" / name).read_text()


@pytest.mark.parametrize("saved", ["where it stops", "every 2 steps"])
def test_a_routine_of_three_steps_a_batch_is_resumed_after_every_batch(tmp_path, nca, batches, assert_same, saved):
    in_a_row = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "custom_trainer.py"))["InARow"]
    data, num_epochs = batches(2, 2, 2, 2), 2

    def train(folder, stop=None):
        """Train until a batch of the second epoch is done, and see which batches are used."""
        used = []

        def look(trainer, iter_num, curr_epoch, global_iter_num):
            used.append((curr_epoch, iter_num, global_iter_num))
            return {"stop_now": True} if (curr_epoch, iter_num) == (2, stop) else None

        files = Checkpoint() if saved == "where it stops" else Checkpoint(every_iterations=2)
        callbacks = [LambdaCallback(at_iter_end=look), files]
        options = {"callbacks": callbacks, "num_rollouts": 3, "seed": 3}
        trainer = in_a_row(nca(), folder, {"mse": mse}, torch.optim.Adam, {"lr": 1e-2}, **options)
        trainer.train(num_epochs, data, resume="auto")
        return trainer, used

    whole, every = train(tmp_path / "whole")
    assert every == [(epoch, n // 3, 12 * (epoch - 1) + n) for epoch in (1, 2) for n in range(12)]
    assert [sorted(row) for row in whole.history] == [["epoch", "loss", "mse", "mse_1", "mse_2", "mse_3"]] * 2
    for stop in range(len(data)):
        folder = tmp_path / str(stop)
        first, done = train(folder, stop)
        assert done == every[: 12 + 3 * (stop + 1)]
        is_last = stop == len(data) - 1
        assert (first.batch_index, first.iteration) == ((0, 0) if is_last else (stop + 1, stop + 1))
        assert (first.step, first.global_iter_num) == (len(done), len(done))
        assert is_last or (folder / f"checkpoint_epoch_2_iter_{stop + 1}.safetensors").is_file()
        second, rest = train(folder)
        assert done + rest == every
        assert_same(second.network.state_dict(), whole.network.state_dict())
        assert_same(second.optimizers["default"].state_dict(), whole.optimizers["default"].state_dict())
        assert second.history == whole.history


@pytest.fixture
def train_as(nca, batches):
    """Trains an epoch of three batches with the routine of a class."""

    def train(cls, *callbacks, folder=None):
        options = {"optimizer_params": {"lr": 1e-2}, "callbacks": callbacks}
        trainer = cls(nca(), folder, {"mse": mse}, torch.optim.Adam, **options)
        trainer.train(1, batches(2, 2, 2))
        return trainer

    return train


def test_every_step_of_a_batch_is_told_and_the_last_one_when_the_batch_is_done(train_as):
    class TwoOfThree(PyTorchNetworkTrainer):
        def _train_single_epoch(self, batchgen, epoch):
            for number, batch in enumerate(itertools.islice(batchgen, 2)):  # which does not ask for the third
                for _ in range(2):
                    self._iterate(batch, number, epoch, train=True)

    told = []

    def look(trainer, iter_num, global_iter_num):
        told.append((iter_num, global_iter_num, trainer.batch_index, trainer.step, trainer.is_between_steps))

    train_as(TwoOfThree, LambdaCallback(at_iter_done=look))
    assert told == [(0, 0, 0, 1, False), (0, 1, 1, 2, True), (1, 2, 1, 3, False), (1, 3, 2, 4, True)]


def test_a_routine_that_takes_all_batches_before_its_first_step_is_not_saved_between_them(tmp_path, train_as):
    class AllAtOnce(PyTorchNetworkTrainer):
        def _train_single_epoch(self, batchgen, epoch):
            for number, batch in enumerate(list(batchgen)):
                self._iterate(batch, number, epoch, train=True)

    steps = []
    look = LambdaCallback(at_iter_done=lambda trainer: steps.append((trainer.step, trainer.is_between_steps)))
    trainer = train_as(AllAtOnce, look, Checkpoint(every_iterations=1), folder=tmp_path)
    assert steps == [(1, False), (2, False), (3, True)]
    assert [entry.name for entry in Manifest(tmp_path, trainer.run_id).mine()] == ["checkpoint_epoch_1.safetensors"]


def test_a_state_with_the_former_names_of_the_counters_is_taken_up(run, nca, tmp_path):
    state = run(2).state_dict()
    former = {key: value for key, value in state.items() if key not in ("batch_index", "step")}
    save_checkpoint({**former, "iteration": 1, "epoch": 1}, tmp_path / "former.safetensors")
    trainer = PyTorchNetworkTrainer(nca(), None, {"mse": mse}, torch.optim.Adam, {"lr": 1e-2})
    trainer.update_state(tmp_path / "former.safetensors")
    assert (trainer.start_epoch, trainer.batch_index, trainer.step) == (2, 1, state["step"])


def test_nothing_is_written_into_a_folder_that_another_process_has_taken(run, tmp_path, monkeypatch):
    monkeypatch.setattr(RunLock, "is_held", False)  # as of a lease that was lost while the machine was suspended
    with pytest.raises(RunLockedError, match="another process has taken the folder of this run"):
        run(1)
    assert not list((tmp_path / "run").glob("checkpoint*"))
