"""The base class of callbacks, and functions as a callback."""

import dataclasses

import pytest

from delira_nca.errors import CallbackError
from delira_nca.training.callbacks import AbstractCallback, LambdaCallback
from delira_nca.training.callbacks.abstract_callback import HOOKS, bind_run


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("at_epoch_ned", "at_epoch_end"), ("on_epoch_end", "at_epoch_end"), ("at_iter_start", "at_iter")],
)
def test_a_misspelt_hook_is_refused_when_the_class_is_made(name, nearest):
    with pytest.raises(CallbackError, match=rf"Mine\.{name} is not a hook\..*Did you mean '{nearest}"):
        type("Mine", (AbstractCallback,), {name: lambda self, trainer: None})


def test_attributes_and_methods_that_are_no_hooks_are_left_alone():
    mine = type("Mine", (AbstractCallback,), {"at_noon": 12, "once": lambda self: 1})
    assert (mine.at_noon, mine().once()) == (12, 1)


def test_every_hook_is_there_empty_and_documented():
    callback = AbstractCallback()
    for hook, keywords in HOOKS.items():
        assert getattr(callback, hook)(None, **dict.fromkeys(keywords)) is None
        assert getattr(AbstractCallback, hook).__doc__
    assert callback.state_dict() == {}
    callback.load_state_dict({})


def test_the_text_shows_plain_public_settings():
    class Mine(AbstractCallback):
        def __init__(self):
            self.a, self.b, self._c, self.d = 1, "x", 2, object()

    assert repr(Mine()) == "Mine(a=1, b='x')"


class Counts(AbstractCallback):
    def __init__(self):
        self.count = 0

    def state_dict(self):
        return {"count": self.count} if self.count else {}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_a_callback_that_cannot_take_its_first_state_back_is_named():
    callback = Counts()
    bind_run(callback, "a")
    callback.count = 3
    with pytest.raises(CallbackError, match="callback Counts cannot begin another run: .*KeyError: 'count'"):
        bind_run(callback, "b")


def test_a_frozen_callback_serves_several_runs():
    @dataclasses.dataclass(frozen=True)
    class Frozen(AbstractCallback):
        every: int = 3

    callback = Frozen()
    for run_id in "ab":
        bind_run(callback, run_id)
    assert callback == Frozen()


def test_an_object_that_cannot_hold_its_run_is_named():
    class Slots:
        __slots__ = ("count",)

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    with pytest.raises(CallbackError, match="callback Slots has a state, but no place to note the run"):
        bind_run(Slots(), "a")


def test_functions_run_at_their_hooks(plain_trainer):
    seen = []
    callback = LambdaCallback(
        at_training_begin=lambda trainer, num_epochs: seen.append(num_epochs),
        at_epoch_end=lambda trainer, curr_epoch, **event: seen.append((curr_epoch, sorted(event))),
    )
    plain_trainer(callbacks=[callback]).train(2, [{"data": [0]}])
    rest = ["is_best", "val_metrics", "val_score_key"]
    assert seen == [2, (1, rest), (2, rest)]
    assert repr(callback) == "LambdaCallback(at_epoch_end, at_training_begin)"


def test_a_name_that_is_no_hook_and_a_value_that_cannot_be_called_are_refused():
    with pytest.raises(CallbackError, match=r"'at_epoch_ned' is not a hook\..*Did you mean 'at_epoch_end'\?"):
        LambdaCallback(at_epoch_ned=print)
    with pytest.raises(CallbackError, match="at_epoch_end must be callable, not 3"):
        LambdaCallback(at_epoch_end=3)
