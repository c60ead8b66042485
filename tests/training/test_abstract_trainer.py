"""The loop: the order of its hooks, callbacks that fail, and what they may change."""

import subprocess
import sys

import pytest

from delira_nca.errors import CallbackError, StateKeyError
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

    def fail(trainer):
        raise cause

    trainer = plain_trainer(callbacks=[recorder(calls), LambdaCallback(**{hook: fail}), recorder(calls, "b")])
    with pytest.raises(CallbackError, match=f"LambdaCallback failed in {hook}: ZeroDivisionError: 4711") as raised:
        trainer.train(2, TWO, TWO)
    assert raised.value.__cause__ is cause
    last = [(name, h, event["exception"]) for name, h, event in calls[-4:]]
    assert last == [(name, h, raised.value) for h in ("at_exception", "at_training_end") for name in "ab"]


def test_a_callback_that_fails_at_the_end_is_named_after_the_others_have_ended(plain_trainer, recorder, caplog):
    calls, cause = [], ZeroDivisionError("4711")

    def fail(trainer):
        raise cause

    trainer = plain_trainer(callbacks=[LambdaCallback(at_training_end=fail), recorder(calls)])
    with pytest.raises(CallbackError, match="LambdaCallback failed in at_training_end") as raised:
        trainer.train(1, TWO)
    assert raised.value.__cause__ is cause
    assert calls[-1] == ("a", "at_training_end", {"exception": None})
    assert "LambdaCallback failed in at_training_end" in caplog.text


@pytest.mark.parametrize("hook", ["at_exception", "at_training_end"])
def test_a_callback_that_fails_in_clearing_up_does_not_hide_the_error(plain_trainer, recorder, caplog, hook):
    calls, error = [], ValueError("the real one")

    def fail(trainer):
        raise ZeroDivisionError("4711")

    trainer = plain_trainer(callbacks=[LambdaCallback(**{hook: fail}), recorder(calls)])
    with pytest.raises(ValueError, match="the real one"):
        trainer.train(1, [{"fails": error}])
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


@pytest.mark.parametrize("key", ["network", "fold", "save_path", "callbacks", "device"])
def test_what_a_run_is_made_of_cannot_be_returned(plain_trainer, key):
    trainer = plain_trainer(callbacks=[_at("at_iter_end", {key: 1})])
    with pytest.raises(StateKeyError, match=key):
        trainer.train(1, TWO)


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


@pytest.mark.parametrize("hook", ["at_iter_end", "at_epoch_begin", "at_epoch_end"])
def test_a_batch_can_be_replaced_only_before_its_iteration(plain_trainer, hook):
    trainer = plain_trainer(callbacks=[_at(hook, {"data_dict": {}})])
    with pytest.raises(StateKeyError, match="data_dict"):
        trainer.train(1, TWO)


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


def test_is_better_val_scores_refuses_another_mode_as_delira_did():
    with pytest.raises(AssertionError, match="highest"):
        AbstractNetworkTrainer._is_better_val_scores(0.1, 0.2, "better")


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
