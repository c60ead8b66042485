"""The loop: the order of its hooks, callbacks that fail, what ends it, and which epoch is best."""

import subprocess
import sys

import pytest

from delira_nca.errors import CallbackError, ConfigError, ScoreKeyError, ScoreModeError, StateKeyError, UnknownNameError
from delira_nca.training import AbstractNetworkTrainer
from delira_nca.training.callbacks import LambdaCallback
from delira_nca.training.callbacks.abstract_callback import HOOKS

TWO = [{"data": [0]}, {"data": [1]}]

TORCH_FREE = """
import sys
sys.modules["torch"] = None
import io
import numpy as np
from delira_nca.training import AbstractNetworkTrainer
from delira_nca.training.callbacks import EarlyStopping, LambdaCallback, ProgressBar

class MeanTrainer(AbstractNetworkTrainer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._setup()
    def _setup(self):
        self.weight = 0.0
    def _train_single_epoch(self, batchgen, epoch):
        losses = []
        for batch in batchgen:
            losses.append(float(np.square(batch["data"] - self.weight).mean()))
            self.weight += 0.5 * float((batch["data"] - self.weight).mean())
        return {"loss": float(np.mean(losses))}
    def predict(self, batchgen, batch_size=None):
        return [self.weight for batch in batchgen]
    def best_network(self):
        return self.weight

ends = []
out = io.StringIO()
trainer = MeanTrainer(callbacks=[
    LambdaCallback(at_training_end=lambda trainer, exception: ends.append(exception)),
    EarlyStopping("loss", min_delta=0.1, patience=0), ProgressBar(stream=out),
])
weight = trainer.train(9, [{"data": np.full(2, 4.0)}], val_score_key="loss", val_score_mode="lowest")
assert [h["loss"] for h in trainer.history] == [4.0 ** (2 - n) for n in range(6)], trainer.history
assert trainer.best.epoch == 6 and weight == 3.9375 and ends == [None]
assert len(out.getvalue().splitlines()) == 6
assert not any(name.partition(".")[0] == "torch" for name, module in sys.modules.items() if module is not None)
print("done")
"""


def test_a_backend_without_torch_trains_stops_and_finds_its_best():
    done = subprocess.run([sys.executable, "-c", TORCH_FREE], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def _epoch(number, first_iteration):
    for train in (True, False):
        for iter_num in range(2):
            global_iter_num = first_iteration + (iter_num if train else 2)
            yield from ((hook, number, iter_num, global_iter_num, train) for hook in ("at_iter_begin", "at_iter_end"))
            if train:
                yield ("at_iter_done", number, iter_num, global_iter_num)


EXPECTED = [
    ("at_training_begin",),
    *(("at_epoch_begin", 1), *_epoch(1, 0), ("at_epoch_end", 1, False), ("at_checkpoint", 1, False)),
    *(("at_epoch_begin", 2), *_epoch(2, 2), ("at_epoch_end", 2, True), ("at_checkpoint", 2, True)),
    ("at_training_end",),
]
SHOWN = ("curr_epoch", "iter_num", "global_iter_num", "train", "is_best")


def _order(calls):
    return [(hook, *(event[key] for key in SHOWN if key in event)) for _, hook, event in calls]


def test_hooks_run_in_the_order_of_the_design(plain_trainer, recorder):
    calls = []
    nan = float("nan")
    trainer = plain_trainer(valid_metrics=[{"loss": nan}, {"loss": 1.0}], callbacks=[recorder(calls)])
    trainer.train(2, TWO, TWO, val_score_key="loss", val_score_mode="lowest")
    assert _order(calls) == EXPECTED


def test_hooks_are_given_the_keywords_that_are_documented(plain_trainer, recorder):
    calls = []
    trainer = plain_trainer(callbacks=[recorder(calls)])
    trainer.train(2, TWO, TWO, "loss", "lowest")
    assert all(event.keys() == HOOKS[hook] for _, hook, event in calls)
    events = {hook: event for _, hook, event in reversed(calls)}  # the first of each
    assert events["at_training_begin"] == {"num_epochs": 2}
    assert events["at_epoch_begin"] == {
        "val_metrics": {},
        "val_score_key": "loss",
        "curr_epoch": 1,
        "num_epochs": 2,
        "first_iter": 0,
    }
    assert events["at_epoch_end"]["val_metrics"] == {"loss": 1.0, "val_loss": 2.0}
    assert events["at_training_end"] == {"exception": None}
    second = [event for _, hook, event in calls if hook == "at_epoch_begin"][1]
    assert second["val_metrics"] == {"loss": 1.0, "val_loss": 2.0}


def test_callbacks_run_in_the_order_of_registration_and_all_see_the_epoch_before_the_checkpoint(
    plain_trainer, recorder
):
    calls = []
    trainer = plain_trainer(callbacks=[recorder(calls, "a"), recorder(calls, "b")])
    trainer.register_callback(recorder(calls, "c"))
    trainer.train(1, TWO[:1])
    order = [(hook, name) for name, hook, _ in calls]
    hooks = [hook for hook in HOOKS if hook != "at_exception"]
    assert order == [(hook, name) for hook in hooks for name in "abc"]


def _failing(hook, error):
    def fail(trainer):
        raise error

    return LambdaCallback(**{hook: fail})


@pytest.mark.parametrize("error", [ValueError("4711"), KeyboardInterrupt()])
def test_an_error_reaches_everyone_and_is_raised_as_it_was(plain_trainer, recorder, error):
    calls = []
    trainer = plain_trainer(callbacks=[recorder(calls, "a"), recorder(calls, "b")])
    with pytest.raises(type(error)) as raised:
        trainer.train(3, [TWO[0], {"fails": error}])
    assert raised.value is error
    ends = [(hook, name, event["exception"]) for name, hook, event in calls[-4:]]
    assert ends == [(hook, name, error) for hook in ("at_exception", "at_training_end") for name in "ab"]
    assert not any(hook in ("at_epoch_end", "at_checkpoint") for _, hook, _ in calls)
    assert trainer.history == []


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook not in ("at_exception", "at_training_end")])
def test_a_callback_that_fails_is_named_and_the_others_are_told(plain_trainer, recorder, hook):
    calls, cause = [], ZeroDivisionError("4711")
    trainer = plain_trainer(callbacks=[recorder(calls), _failing(hook, cause), recorder(calls, "b")])
    with pytest.raises(CallbackError, match=f"LambdaCallback failed in {hook}: ZeroDivisionError: 4711") as raised:
        trainer.train(2, TWO, TWO)
    assert raised.value.__cause__ is cause
    last = [(name, h, event["exception"]) for name, h, event in calls[-4:]]
    assert last == [(name, h, raised.value) for h in ("at_exception", "at_training_end") for name in "ab"]


def test_a_callback_that_fails_at_the_end_is_named_after_the_others_have_ended(plain_trainer, recorder, caplog):
    calls, cause = [], ZeroDivisionError("4711")
    trainer = plain_trainer(callbacks=[_failing("at_training_end", cause), recorder(calls)])
    with pytest.raises(CallbackError, match="LambdaCallback failed in at_training_end") as raised:
        trainer.train(1, TWO)
    assert raised.value.__cause__ is cause
    assert calls[-1] == ("a", "at_training_end", {"exception": None})
    assert "LambdaCallback failed in at_training_end" in caplog.text


@pytest.mark.parametrize("hook", ["at_exception", "at_training_end"])
def test_a_callback_that_fails_in_clearing_up_does_not_hide_the_error(plain_trainer, recorder, caplog, hook):
    calls = []
    trainer = plain_trainer(callbacks=[_failing(hook, ZeroDivisionError("4711")), recorder(calls)])
    with pytest.raises(ValueError, match="the real one"):
        trainer.train(1, [{"fails": ValueError("the real one")}])
    assert [h for _, h, _ in calls[-2:]] == ["at_exception", "at_training_end"]
    assert f"LambdaCallback failed in {hook}" in caplog.text


def _at(hook, returned):
    return LambdaCallback(**{hook: lambda trainer: returned})


def test_declared_state_keys_are_applied(plain_trainer):
    trainer = plain_trainer(callbacks=[_at("at_epoch_end", {"val_freq": 3, "extra": {"note": 1}, "stop_reason": "x"})])
    trainer.train(1, TWO)
    assert (trainer.val_freq, trainer.extra, trainer.stop_reason) == (3, {"note": 1}, "x")


def test_an_undeclared_state_key_is_refused_with_the_callback_and_the_nearest_key(plain_trainer):
    trainer = plain_trainer(callbacks=[_at("at_epoch_end", {"stop_trainig": True})])
    with pytest.raises(StateKeyError) as raised:
        trainer.train(1, TWO)
    assert "LambdaCallback returned from at_epoch_end 'stop_trainig'" in str(raised.value)
    assert "Did you mean 'stop_training'?" in str(raised.value)
    assert isinstance(raised.value, KeyError)
    assert not hasattr(trainer, "stop_trainig")


@pytest.mark.parametrize(
    ("hook", "key"),
    [
        *(("at_iter_end", key) for key in ("network", "fold", "save_path", "callbacks", "device")),
        *((hook, "data_dict") for hook in ("at_iter_end", "at_epoch_begin", "at_epoch_end")),
    ],
)
def test_neither_what_a_run_is_made_of_nor_a_batch_at_another_hook_can_be_returned(plain_trainer, hook, key):
    with pytest.raises(StateKeyError, match=key):
        plain_trainer(callbacks=[_at(hook, {key: {}})]).train(1, TWO)


@pytest.mark.parametrize("returned", [True, 3, ["stop_training"], "stop_training"])
def test_a_hook_that_returns_no_dict_is_refused(plain_trainer, returned):
    trainer = plain_trainer(callbacks=[_at("at_epoch_begin", returned)])
    with pytest.raises(CallbackError, match=r"LambdaCallback\.at_epoch_begin returned .*None or a dict"):
        trainer.train(1, TWO)


@pytest.mark.parametrize("returned", [None, {}])
def test_a_hook_that_returns_nothing_changes_nothing(plain_trainer, returned):
    trainer = plain_trainer(callbacks=[_at(hook, returned) for hook in HOOKS])
    trainer.train(1, TWO, TWO)
    assert [entry["epoch"] for entry in trainer.history] == [1]


def test_each_callback_sees_the_batch_that_the_one_before_has_made(plain_trainer, recorder):
    calls = []
    double = LambdaCallback(
        at_iter_begin=lambda trainer, data_dict: {"data_dict": {"data": [2 * x for x in data_dict["data"]]}}
    )
    trainer = plain_trainer(callbacks=[double, double, recorder(calls)])
    trainer.train(1, TWO)
    seen = [event["data_dict"]["data"] for _, hook, event in calls if hook in ("at_iter_begin", "at_iter_end")]
    assert seen == [[0], [0], [4], [4]]
    assert TWO[1] == {"data": [1]}


def test_update_state_changes_declared_keys_only_and_returns_the_trainer(plain_trainer):
    trainer = plain_trainer()
    assert trainer._update_state({"val_freq": 2}) is trainer
    assert trainer._update_state(None) is trainer
    assert trainer.val_freq == 2
    with pytest.raises(StateKeyError, match=r"'valfreq'.*Did you mean 'val_freq'"):
        trainer._update_state({"valfreq": 2, "val_freq": 5})
    assert trainer.val_freq == 2


@pytest.mark.parametrize(
    ("old", "new", "mode", "better"),
    [(None, 0.0, "highest", True), (0.1, 0.2, "lowest", False), (0.2, 0.2, "highest", False), (0.2, 0.1, "min", True)],
)
def test_is_better_val_scores(old, new, mode, better):
    assert AbstractNetworkTrainer._is_better_val_scores(old, new, mode) is better
    with pytest.raises(AssertionError, match="highest"):  # the error of delira
        AbstractNetworkTrainer._is_better_val_scores(old, new, "better")


def test_what_a_subclass_does_not_fill_in_says_so(plain_trainer):
    with pytest.raises(TypeError, match="abstract"):
        AbstractNetworkTrainer()
    trainer = plain_trainer()
    with pytest.raises(NotImplementedError, match="override save_state"):
        trainer.save_state("state")
    with pytest.raises(NotImplementedError, match="override load_state"):
        trainer.update_state("state")
    with pytest.raises(NotImplementedError, match="override _validate_single_epoch"):
        AbstractNetworkTrainer._validate_single_epoch(trainer, [], 1)


def test_describe_lists_hooks_in_order_with_those_who_listen(plain_trainer, recorder):
    trainer = plain_trainer(callbacks=[recorder([]), _at("at_epoch_end", None)], fold=2)
    first, *lines = trainer.describe().splitlines()
    assert first == "PlainTrainer, fold 2, next epoch 1"
    assert [line.split()[0] for line in lines] == list(HOOKS)
    assert next(line for line in lines if "at_epoch_end" in line).split(maxsplit=1)[1] == "Recorder, LambdaCallback"
    assert next(line for line in lines if "at_iter_end" in line).split(maxsplit=1)[1] == "Recorder"


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


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        *(({"num_epochs": number}, ConfigError, "num_epochs") for number in (0, -1, 2.0, "3", True, None)),
        *(({"val_freq": number}, ConfigError, "val_freq") for number in (0, -2, 1.5, True)),
        ({"datamgr_train": None}, ConfigError, "datamgr_train"),
        ({"datamgr_train": 5, "datamgr_valid": None}, ConfigError, "datamgr_train"),
        ({"datamgr_valid": 5}, ConfigError, "datamgr_valid"),
        *(({"val_score_mode": mode}, ScoreModeError, "highest") for mode in ("best", "Highest", "", None)),
        ({"on_interrupt": "retrun"}, UnknownNameError, "Did you mean 'return'"),
    ],
)
def test_arguments_that_cannot_work_are_refused_before_the_first_batch_and_not_kept(
    plain_trainer, recorder, arguments, error, text
):
    calls = []
    trainer = plain_trainer(callbacks=[recorder(calls)])
    defaults = {"num_epochs": 1, "datamgr_train": TWO, "datamgr_valid": TWO, "val_score_key": "loss"}
    with pytest.raises(error, match=text):
        trainer.train(**{**defaults, **arguments})
    assert calls == []
    trainer.train(**defaults)
    assert trainer.val_freq == 1


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


def test_an_unknown_score_is_refused_before_the_first_batch_with_all_names_and_the_nearest(plain_trainer, recorder):
    calls = []
    trainer = plain_trainer(callbacks=[recorder(calls)], names=["loss", "dice", "rmse"])
    text = r"'dcie'.*Known: 'val_dice', 'val_loss', 'val_rmse'\. Did you mean 'val_dice'\?"
    with pytest.raises(ScoreKeyError, match=text):
        trainer.train(1, TWO, TWO, val_score_key="dcie")
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
