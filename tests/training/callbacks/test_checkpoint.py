"""Which files a run leaves."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from delira_nca.errors import CheckpointError, ConfigError, ScoreKeyError
from delira_nca.io import Manifest, load_checkpoint
from delira_nca.training.callbacks import Checkpoint, EarlyStopping, LambdaCallback


@pytest.fixture
def run(make_trainer, batches, tmp_path):
    """Trains, with one score for each epoch, and gives the trainer."""

    def train(num_epochs, *callbacks, scores=(), folder=tmp_path, mode="highest", state=None, **kwargs):
        values = iter(scores)
        if scores:
            kwargs["metrics"] = {"score": lambda pred, label: torch.tensor(next(values))}
        trainer = make_trainer(save_path=folder, callbacks=callbacks, **kwargs)
        if state:
            trainer.update_state(state)
        trainer.train(num_epochs, batches(1), val_score_key="score" if scores else None, val_score_mode=mode)
        return trainer

    return train


def _files(folder):
    return sorted(
        path.name.removeprefix("checkpoint_").removesuffix(".safetensors") for path in folder.glob("checkpoint_*")
    )


def _epochs(*numbers):
    return sorted(f"epoch_{number}" for number in numbers)


@pytest.mark.parametrize(
    ("num_epochs", "kwargs", "save_freq", "epochs"),
    [
        (5, None, 1, (4, 5)),
        (5, {"last": 1}, 1, (5,)),
        (5, {"last": 0}, 1, (1, 2, 3, 4, 5)),
        (7, {}, 5, (5, 7)),
        (10, {}, 5, (5, 10)),
        (3, {}, 5, (3,)),
        (6, {"every": 2, "last": 0}, 1, (2, 4, 6)),
        (4, {}, 0, ()),
        (4, {"every": 0}, 1, ()),
        (4, {"every": 1}, 0, (3, 4)),
    ],
)
def test_files_for_a_number_of_epochs(run, tmp_path, num_epochs, kwargs, save_freq, epochs):
    run(num_epochs, *([] if kwargs is None else [Checkpoint(**kwargs)]), save_freq=save_freq)
    assert _files(tmp_path) == _epochs(*epochs)
    names = {path.name for path in tmp_path.glob("*.safetensors")}
    assert {entry.name for entry in Manifest(tmp_path, "any").entries()} == names
    assert all(load_checkpoint(tmp_path / f"checkpoint_epoch_{n}.safetensors")["epoch"] == n for n in epochs)


class Clock:
    """Shows the seconds that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now

    def ticks(self, seconds):
        """Callback that lets time pass in every iteration of training."""

        def tick(trainer, train):
            self.now += seconds if train else 0.0

        return LambdaCallback(at_iter_end=tick)


def test_epochs_that_end_before_the_time_is_up_are_not_saved_except_the_last(run, tmp_path):
    clock = Clock()
    written = []
    note = LambdaCallback(at_epoch_begin=lambda trainer: written.append(_files(tmp_path)))
    checkpoint = Checkpoint(every_seconds=30, clock=clock)
    run(9, checkpoint, clock.ticks(7.0), note)
    assert written[5] == ["epoch_5_iter_1"]  # the first whose end is 30 seconds after the beginning
    assert all(files == [] for files in written[:5])
    assert _files(tmp_path) == _epochs(9)


def test_an_epoch_that_is_longer_than_the_time_is_saved_within(make_trainer, batches, tmp_path):
    clock = Clock()
    written = []
    note = LambdaCallback(at_iter_begin=lambda trainer: written.append(_files(tmp_path)))
    callbacks = [Checkpoint(every_seconds="30s", clock=clock), clock.ticks(20.0), note]
    make_trainer(save_path=tmp_path, callbacks=callbacks).train(1, batches(2, 2, 2, 2, 2))
    assert written == [[], [], ["epoch_1_iter_2"], ["epoch_1_iter_2"], ["epoch_1_iter_4"]]
    assert _files(tmp_path) == _epochs(1)


def test_best_epochs_are_saved_whatever_the_time(run, tmp_path):
    run(4, Checkpoint(every_seconds="1h"), scores=[0.1, 0.9, 0.5, 0.4])
    assert _files(tmp_path) == ["best", *_epochs(4)]
    assert load_checkpoint(tmp_path / "checkpoint_best.safetensors")["epoch"] == 2


@pytest.mark.parametrize(("error", "raised"), [(KeyboardInterrupt, KeyboardInterrupt), (ValueError, RuntimeError)])
@pytest.mark.parametrize(("failed", "epochs"), [(1, ()), (4, (2,))])
def test_nothing_is_saved_after_an_exception(run, tmp_path, error, raised, failed, epochs):
    def fail(trainer, curr_epoch):
        if curr_epoch == failed:
            raise error

    with pytest.raises(raised):
        run(5, LambdaCallback(at_iter_end=fail), save_freq=2)
    assert _files(tmp_path) == _epochs(*epochs)


@pytest.mark.parametrize(
    ("scores", "mode", "best"),
    [([0.1, 0.9, 0.5, 0.4], "highest", 2), ([-3, -2, -1, -5], "highest", 3), ([0.1, 0.9, 0.5, 0.4], "lowest", 1)],
)
def test_the_best_epoch_is_kept_under_its_name(run, tmp_path, scores, mode, best):
    trainer = run(4, scores=scores, mode=mode)
    assert _files(tmp_path) == ["best", *_epochs(3, 4)]
    state = load_checkpoint(tmp_path / "checkpoint_best.safetensors")
    assert (state["epoch"], state["best"]["epoch"]) == (best, best)
    assert all(torch.equal(v, trainer._best_weights[k]) for k, v in state["network"].items())


@pytest.mark.parametrize(("scores", "kwargs"), [([float("nan")] * 2, {}), ([0.1, 0.2], {"best": False})])
def test_there_is_no_best_where_none_was_or_none_is_wanted(run, tmp_path, scores, kwargs):
    run(2, Checkpoint(**kwargs), scores=scores)
    assert _files(tmp_path) == _epochs(1, 2)


@pytest.mark.parametrize(
    ("mode", "top_k", "every", "epochs"),
    [("min", 1, None, (2, 6)), ("min", 2, None, (2, 4, 6)), ("max", 2, None, (3, 5, 6)), ("min", 2, 4, (2, 4, 6))],
)
def test_the_best_few_are_kept_besides(run, tmp_path, mode, top_k, every, epochs):
    scores = [float("nan"), 0.1, 0.8, 0.2, 0.9, 0.5]
    checkpoint = Checkpoint(last=1, best=False, top_k=top_k, monitor_key="score", mode=mode, every=every)
    run(6, checkpoint, scores=scores)
    assert _files(tmp_path) == _epochs(*epochs)
    assert checkpoint.saved == list(epochs)


def test_the_epoch_of_an_early_stop_is_saved(run, tmp_path):
    run(9, EarlyStopping("score"), scores=[0.1, 0.2, 0.3], save_freq=5)
    assert _files(tmp_path) == ["best", "epoch_2"]


@pytest.mark.parametrize("is_last", [True, False])
def test_callbacks_in_any_order_are_saved_as_they_are_after_the_epoch(run, tmp_path, is_last):
    callbacks = [EarlyStopping("mse", patience=9), Checkpoint()]
    trainer = run(2, *(callbacks if is_last else callbacks[::-1]))
    saved = load_checkpoint(tmp_path / "checkpoint_epoch_2.safetensors")["callbacks"]
    assert saved["EarlyStopping"]["best"] == min(entry["mse"] for entry in trainer.history)
    assert saved["Checkpoint"]["saved"] == [1, 2]


def test_foreign_files_are_left_alone(run, tmp_path):
    names = ["checkpoint_epoch_9.safetensors", "checkpoint_epoch_2.safetensors.bak", "notes.txt"]
    names.append(".checkpoint_epoch_1.safetensors.1.tmp")
    for name in names:
        (tmp_path / name).write_text("mine")
    run(5)
    assert all((tmp_path / name).read_text() == "mine" for name in names)


def test_a_resumed_run_prunes_its_own_files_and_leaves_those_of_another_folder(run, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    run(3, Checkpoint(last=2, top_k=1, monitor_key="score"), scores=[0.1, 0.2, 0.3], folder=first)
    kept = _files(first)
    assert kept == ["best", *_epochs(1, 2, 3)]
    state = first / "checkpoint_epoch_3.safetensors"
    run(6, Checkpoint(last=1, top_k=1, monitor_key="score"), scores=[0.4, 0.0, 0.2], folder=second, state=state)
    assert _files(first) == kept
    assert _files(second) == ["best", *_epochs(5, 6)]
    run(6, Checkpoint(last=1), scores=[0.4, 0.5, 0.6], folder=first, state=state)
    assert _files(first) == ["best", "epoch_6"]


def test_a_save_that_fails_ends_the_run_and_keeps_the_former_files(run, tmp_path, monkeypatch):
    sizes = []

    def full(folder, size):
        sizes.append(size)
        if len(sizes) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("delira_nca.io.checkpoint.require_disk_space", full)
    with pytest.raises(CheckpointError, match=r"checkpoint_epoch_3\.safetensors.*No space left"):
        run(5)
    assert _files(tmp_path) == _epochs(1, 2)
    assert load_checkpoint(tmp_path / "checkpoint_epoch_2.safetensors")["epoch"] == 2


def test_no_folder_and_an_unknown_score_are_refused_before_the_first_batch(run, tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        run(1, Checkpoint(), folder=None)
    with pytest.raises(ScoreKeyError, match="Did you mean 'mse'"):
        run(1, Checkpoint(top_k=1, monitor_key="msee"))
    assert run(2, folder=None).callbacks == ()
    assert _files(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "every epoch; kept: the 2 newest, the best"),
        ({"every": 3, "last": 0, "best": False}, "every 3 epochs; kept: all"),
        ({"every_seconds": "10m", "every_iterations": 5}, "every 10m and every 5 iterations; kept: the 2 newest"),
        ({"every_seconds": np.float32(2), "last": np.int64(3)}, "every 2s; kept: the 3 newest"),
        ({"top_k": 3, "monitor_key": "score"}, "kept: the 2 newest, the best, 3 by score"),
        ({"every": 0}, "none"),
    ],
)
def test_it_says_how_many_files_are_kept(options, words, tmp_path):
    assert words in Checkpoint(**options).describe(SimpleNamespace(save_path=tmp_path, save_freq=1))
