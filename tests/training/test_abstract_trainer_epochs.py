"""The loop: what ends it, which arguments it refuses, and which epoch is best."""

import pytest

from delira_nca.errors import ConfigError, ScoreKeyError, ScoreModeError
from delira_nca.training.callbacks import LambdaCallback

TWO = [{"data": [0]}, {"data": [1]}]


def _at(hook, returned):
    return LambdaCallback(**{hook: lambda trainer: returned})


@pytest.mark.parametrize(
    "hook", ["at_training_begin", "at_epoch_begin", "at_iter_begin", "at_iter_end", "at_epoch_end"]
)
def test_stop_training_ends_after_the_epoch_and_keeps_the_reason(plain_trainer, recorder, hook):
    calls = []
    stop = _at(hook, {"stop_training": True, "stop_reason": "enough"})
    trainer = plain_trainer(callbacks=[stop, recorder(calls)])
    trainer.train(5, TWO, TWO)
    assert trainer.epochs_done == [1]
    assert trainer.stop_reason == "enough"
    assert len([hook for _, hook, _ in calls if hook == "at_iter_end"]) == 4
    assert [hook for _, hook, _ in calls[-3:]] == ["at_epoch_end", "at_checkpoint", "at_training_end"]


def test_stop_can_be_called_and_is_forgotten_by_the_next_training(plain_trainer):
    trainer = plain_trainer(callbacks=[LambdaCallback(at_iter_end=lambda trainer: trainer.stop("by hand"))])
    trainer.train(5, TWO)
    assert (trainer.epochs_done, trainer.stop_reason) == ([1], "by hand")
    trainer._callbacks = plain_trainer()._callbacks
    trainer.train(3, TWO)
    assert (trainer.epochs_done, trainer.stop_reason, trainer.stop_training) == ([1, 2, 3], None, False)


def test_num_epochs_counts_from_the_first_epoch_of_the_run(plain_trainer):
    trainer = plain_trainer()
    trainer.train(3, TWO)
    trainer.train(6, TWO)
    trainer.train(6, TWO)
    assert trainer.epochs_done == [1, 2, 3, 4, 5, 6]
    assert [entry["epoch"] for entry in trainer.history] == [1, 2, 3, 4, 5, 6]
    assert (trainer.start_epoch, trainer.global_iter_num) == (7, 12)


def test_a_data_manager_is_asked_for_the_epoch_and_one_that_knows_none_is_not(plain_trainer):
    class Manager:
        asked = []

        def get_batchgen(self, seed=1, epoch=1):
            self.asked.append(epoch)
            return TWO

    class OldManager:
        def get_batchgen(self, seed=1):
            return TWO

    trainer = plain_trainer()
    trainer.train(2, Manager(), OldManager())
    assert Manager.asked == [1, 2]
    assert trainer.history[1] == {"epoch": 2, "loss": 0.5, "val_loss": 1.0}


@pytest.mark.parametrize("num_epochs", [0, -1, 2.0, "3", True, None])
def test_a_number_of_epochs_that_is_none_is_refused(plain_trainer, num_epochs):
    with pytest.raises(ConfigError, match="num_epochs"):
        plain_trainer().train(num_epochs, TWO)


@pytest.mark.parametrize("val_freq", [0, -2, 1.5, True])
def test_a_val_freq_that_is_none_is_refused_and_not_kept(plain_trainer, val_freq):
    trainer = plain_trainer()
    with pytest.raises(ConfigError, match="val_freq"):
        trainer.train(1, TWO, TWO, val_freq=val_freq)
    trainer.train(1, TWO, TWO)
    assert trainer.val_freq == 1


@pytest.mark.parametrize(("train", "valid", "name"), [(None, TWO, "train"), (5, None, "train"), (TWO, 5, "valid")])
def test_data_that_are_none_are_refused(plain_trainer, train, valid, name):
    with pytest.raises(ConfigError, match=f"datamgr_{name}"):
        plain_trainer().train(1, train, valid)


@pytest.mark.parametrize(
    ("fold", "error"), [(-1, ConfigError), ("first", TypeError), (1.0, TypeError), (True, TypeError)]
)
def test_a_fold_that_is_none_is_refused_at_once_and_later(plain_trainer, fold, error):
    with pytest.raises(error, match="fold"):
        plain_trainer(fold=fold)
    trainer = plain_trainer(fold=2)
    with pytest.raises(error, match="fold"):
        trainer.fold = fold
    assert trainer.fold == 2


@pytest.mark.parametrize("mode", ["best", "Highest", "", None])
def test_a_direction_that_is_none_is_refused_before_the_first_batch(plain_trainer, recorder, mode):
    calls = []
    trainer = plain_trainer(callbacks=[recorder(calls)])
    with pytest.raises(ScoreModeError, match="highest"):
        trainer.train(1, TWO, val_score_key="loss", val_score_mode=mode)
    assert calls == []


def test_an_unknown_score_is_refused_before_the_first_batch_with_all_names_and_the_nearest(plain_trainer, recorder):
    calls = []
    trainer = plain_trainer(callbacks=[recorder(calls)], names=["loss", "dice", "rmse"])
    with pytest.raises(ScoreKeyError) as raised:
        trainer.train(1, TWO, TWO, val_score_key="dcie")
    message = str(raised.value)
    assert all(f"'val_{name}'" in message for name in ("loss", "dice", "rmse"))
    assert "'dcie'" in message
    assert "Did you mean 'val_dice'?" in message
    with pytest.raises(ScoreKeyError, match="Did you mean 'dice'"):
        trainer.train(1, TWO, val_score_key="dcie")
    assert calls == []


def test_a_score_of_training_alone_cannot_decide_where_there_is_validation(plain_trainer):
    trainer = plain_trainer(train_metrics=[{"speed": 1.0}], valid_metrics=[{"loss": 1.0}])
    with pytest.raises(ScoreKeyError, match="'speed' .* is measured in training only"):
        trainer.train(1, TWO, TWO, val_score_key="speed")


def _best(trainer_cls, scores, mode, **kwargs):
    trainer = trainer_cls(train_metrics=[{"mae": score} for score in scores])
    trainer.train(len(scores), TWO, val_score_key="mae", val_score_mode=mode, **kwargs)
    return trainer.best.epoch, trainer.best.score


@pytest.mark.parametrize(
    ("scores", "mode", "expected"),
    [
        ([0.1, 0.3, 0.2], "highest", (2, 0.3)),
        ([0.1, 0.3, 0.05], "lowest", (3, 0.05)),
        ([-3.0, -1.0, -2.0], "highest", (2, -1.0)),
        ([5.0, 3.0, 4.0], "lowest", (2, 3.0)),
        ([float("nan"), 0.1, float("nan")], "highest", (2, 0.1)),
        ([float("nan"), float("nan")], "lowest", (None, None)),
        ([0.5, 0.5, 0.5], "highest", (1, 0.5)),
        ([0.5, 0.5], "lowest", (1, 0.5)),
    ],
)
def test_the_best_epoch(plain_trainer, scores, mode, expected):
    assert _best(plain_trainer, scores, mode) == expected


def test_the_score_of_validation_decides_not_that_of_training(plain_trainer):
    trainer = plain_trainer([{"mae": m} for m in (0.1, 0.9)], [{"mae": m} for m in (0.8, 0.2)])
    trainer.train(2, TWO, TWO, val_score_key="mae", val_score_mode="lowest")
    assert (trainer.best.epoch, trainer.best.score) == (2, 0.2)


def test_an_epoch_without_validation_is_never_the_best(plain_trainer, recorder):
    calls = []
    trainer = plain_trainer([{"mae": 0.0}] * 4, [{"mae": m} for m in (0, 0.8, 0, 0.9)], callbacks=[recorder(calls)])
    trainer.train(4, TWO, TWO, val_score_key="mae", val_score_mode="lowest", val_freq=2)
    assert [event["is_best"] for _, hook, event in calls if hook == "at_epoch_end"] == [False, True, False, False]
    assert (trainer.best.epoch, trainer.best.score) == (2, 0.8)
    assert [sorted(entry) for entry in trainer.history[:2]] == [["epoch", "mae"], ["epoch", "mae", "val_mae"]]


def test_training_decides_where_there_is_no_validation_and_that_is_said(plain_trainer, caplog):
    assert _best(plain_trainer, [0.3, 0.2], "lowest") == (2, 0.2)
    assert "no validation data: 'mae' of training decides" in caplog.text


def test_another_score_lets_the_best_start_anew(plain_trainer, caplog):
    trainer = plain_trainer([{"a": x, "b": x} for x in (0.1, 0.9, 0.5)])
    trainer.train(2, TWO, val_score_key="a", val_score_mode="lowest")
    trainer.train(3, TWO, val_score_key="b", val_score_mode="highest")
    assert (trainer.best.epoch, trainer.best.score) == (3, 0.5)
    assert "another score decides from now on ('b')" in caplog.text


def test_a_batch_that_is_none_does_not_end_the_epoch(plain_trainer):
    seen = []
    trainer = plain_trainer()
    trainer._train_single_epoch = lambda batches, epoch: seen.extend(batches) or {"loss": 1.0}
    trainer.train(1, [{"data": [0]}, None, {"data": [1]}])
    assert seen == [{"data": [0]}, None, {"data": [1]}]
