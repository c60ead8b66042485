"""Functions as a callback."""

import pytest

from delira_nca.errors import CallbackError
from delira_nca.training.callbacks import LambdaCallback


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


def test_a_name_that_is_no_hook_is_refused_with_the_nearest():
    with pytest.raises(CallbackError, match=r"'at_epoch_ned' is not a hook\..*Did you mean 'at_epoch_end'\?"):
        LambdaCallback(at_epoch_ned=print)


def test_a_value_that_cannot_be_called_is_refused():
    with pytest.raises(CallbackError, match="at_epoch_end must be callable, not 3"):
        LambdaCallback(at_epoch_end=3)
