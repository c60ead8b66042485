"""Who is called at which hook, with what, and whose state is whose."""

import pytest

from delira_nca.errors import CallbackError, CallbackTypeError, CheckpointError
from delira_nca.training.callbacks import AbstractCallback, EarlyStopping, LambdaCallback
from delira_nca.training.callbacks.abstract_callback import HOOKS
from delira_nca.training.dispatch import CallbackTable

EVENT = {"val_metrics": {"loss": 1.0}, "val_score_key": "loss", "curr_epoch": 3, "is_best": True}


class Duck:
    """A callback as delira's page allows it: two methods, no base class."""

    def __init__(self):
        self.seen = []

    def at_epoch_begin(self, trainer, **event):
        self.seen.append(("begin", sorted(event)))

    def at_epoch_end(self, trainer, curr_epoch):
        self.seen.append(("end", curr_epoch))


def _table(*callbacks):
    table = CallbackTable()
    for callback in callbacks:
        table.add(callback)
    return table


def test_only_overridden_hooks_are_dispatched():
    class One(AbstractCallback):
        def at_epoch_end(self, trainer, **event):
            return None

    class Two(One):
        pass

    table = _table(One(), AbstractCallback(), Two(), LambdaCallback(at_iter_end=print))
    assert {hook: table.names_at(hook) for hook in HOOKS if table.listens(hook)} == {
        "at_epoch_end": ["One", "Two"],
        "at_iter_end": ["LambdaCallback"],
    }


def test_a_hook_is_given_the_keywords_that_it_names():
    seen = []
    table = _table(
        LambdaCallback(at_epoch_end=lambda trainer: seen.append(trainer)),
        LambdaCallback(at_epoch_end=lambda trainer, curr_epoch, is_best: seen.append((curr_epoch, is_best))),
        LambdaCallback(at_epoch_end=lambda trainer, *, curr_epoch, own=7: seen.append((curr_epoch, own))),
        LambdaCallback(at_epoch_end=lambda trainer, curr_epoch, **event: seen.append(sorted(event))),
    )
    assert list(table.call("at_epoch_end", "the trainer", EVENT)) == []
    assert seen == ["the trainer", (3, True), (3, 7), ["is_best", "val_metrics", "val_score_key"]]


def test_what_is_returned_comes_with_the_name_of_who_returned_it():
    table = _table(Duck(), LambdaCallback(at_epoch_end=lambda trainer: {"stop_training": True}))
    assert list(table.call("at_epoch_end", None, EVENT)) == [("LambdaCallback", {"stop_training": True})]


class Asks(AbstractCallback):
    def at_epoch_end(self, trainer, *, cur_epoch):
        return None


class Half:
    def at_epoch_end(self, trainer):
        return None


@pytest.mark.parametrize(
    ("callback", "text"),
    [
        (Asks(), r"Asks\.at_epoch_end asks for 'cur_epoch'.*Did you mean 'curr_epoch'\?"),
        (LambdaCallback(at_epoch_end=lambda: None), r"LambdaCallback\.at_epoch_end .*trainer"),
        (Half(), "have both at_epoch_begin and at_epoch_end"),
    ],
)
def test_hooks_that_cannot_be_called_and_half_a_duck_are_refused(callback, text):
    table = _table()
    with pytest.raises((CallbackError, CallbackTypeError), match=text):
        table.add(callback)
    assert table.callbacks == []
    assert not table.listens("at_epoch_end")


def test_a_duck_is_called_at_the_hooks_that_it_has():
    duck = Duck()
    table = _table(duck)
    list(table.call("at_epoch_end", None, EVENT))
    list(table.call("at_epoch_begin", None, {**EVENT, "num_epochs": 5, "first_iter": 0}))
    assert duck.seen == [("end", 3), ("begin", sorted(HOOKS["at_epoch_begin"]))]
    assert [hook for hook in HOOKS if table.listens(hook)] == ["at_epoch_begin", "at_epoch_end"]


@pytest.mark.parametrize("thing", [AbstractCallback, Duck, EarlyStopping, None, 3, print, object()])
def test_what_is_no_callback_object_is_refused(thing):
    for kind in (CallbackTypeError, TypeError, AssertionError):
        with pytest.raises(kind, match="is not a callback"):
            _table(thing)


def test_the_package_s_own_errors_pass_as_they_are():
    error = CheckpointError("the disk is full")

    def fail(trainer):
        raise error

    with pytest.raises(CheckpointError) as raised:
        list(_table(LambdaCallback(at_epoch_end=fail)).call("at_epoch_end", None, EVENT))
    assert raised.value is error


def test_two_callbacks_of_a_class_keep_states_of_their_own_and_others_have_none():
    def make():
        return EarlyStopping("loss", patience=5), EarlyStopping("dice", patience=5, mode="max")

    (first, second), resumed = make(), make()
    first.step(0.25)
    second.step(0.75)
    second.step(0.5)
    state = _table(first, Duck(), second, LambdaCallback(at_epoch_end=print), AbstractCallback()).state_dict()
    assert state == {
        "EarlyStopping": {"best": 0.25, "epochs_waited": 0},
        "EarlyStopping#2": {"best": 0.75, "epochs_waited": 1},
    }
    _table(*resumed).load_state_dict(state)
    assert [(c.best, c.epochs_waited) for c in resumed] == [(0.25, 0), (0.75, 1)]


def test_states_and_callbacks_that_do_not_meet_are_told(caplog):
    stopping = EarlyStopping("loss")
    stopping.step(0.5)
    _table(stopping, AbstractCallback()).load_state_dict({"PoolUpdate": {"x": 1}})
    assert "state of callback PoolUpdate, which is not registered" in caplog.text
    assert "callback EarlyStopping has no state in the checkpoint and starts anew" in caplog.text
    assert "AbstractCallback" not in caplog.text
    assert stopping.best == 0.5


def test_where_one_state_does_not_fit_none_is_taken_up():
    first, second, other = EarlyStopping("loss"), EarlyStopping("dice"), {"best": 0.5, "epochs_waited": 3}
    first.step(0.25)
    with pytest.raises(CheckpointError, match="callback EarlyStopping#2 cannot take up its saved state"):
        _table(first, second).load_state_dict({"EarlyStopping": other, "EarlyStopping#2": {}})
    assert (first.best, first.epochs_waited, second.best) == (0.25, 0, None)
