"""When a score no longer gets better."""

import pytest

from delira_nca.errors import ScoreKeyError
from delira_nca.training.callbacks import EarlyStopping, LambdaCallback

NAN, INF = float("nan"), float("inf")


def _stops_at(scores, **kwargs):
    """Number of the epoch, from 1, in which it stops; None if it does not."""
    stopping = EarlyStopping("loss", **kwargs)
    return next((epoch for epoch, score in enumerate(scores, 1) if stopping.step(score)), None)


@pytest.mark.parametrize(
    ("scores", "arguments", "epoch"),
    [
        ([5, 4, 3, 2, 1], {}, None),
        ([1, 2, 3, 4, 5], {"mode": "max"}, None),
        ([1, 5, 6, 7, 8], {"patience": 2}, 3),
        ([1, 5, 6, 7, 8], {"patience": 2, "mode": "lowest"}, 3),
        ([1, 5, 6, 7, 8], {}, 2),
        ([1, 5, 6, 7, 8], {"patience": 1}, 2),
        ([1, 5, 6, 0.5, 7, 8, 9], {"patience": 3}, 7),
        ([8, 1, 2, 9, 8, 8], {"patience": 2, "mode": "highest"}, 3),
        ([1, 1, 1, 1], {"patience": 2}, 3),
        ([4, 3.5, 3, 2.5], {"min_delta": 0.5}, 2),
        ([4, 3.5, 3, 2.5], {"min_delta": 0.5, "patience": 2}, None),
        ([4, 3.4, 2.8, 2.2], {"min_delta": 0.5}, None),
        ([-3, -2, -1], {"mode": "max"}, None),
        ([1, 0.9, NAN, NAN, NAN, NAN], {"patience": 3}, 3),
        ([1, 0.9, NAN, NAN, NAN, NAN], {"patience": 3, "check_finite": False}, 5),
        ([1, NAN, 0.5, NAN, 0.25], {"patience": 2, "check_finite": False}, None),
        ([NAN, 0.5, 0.6], {"patience": 2, "check_finite": False}, None),
        ([INF], {}, 1),
        ([INF, 3, 2], {"check_finite": False}, None),
        ([NAN, 3, 2, 1], {}, 1),
        ([NAN, 3, 2, 1], {"patience": 3}, 1),
        ([NAN, 3, 2, 1], {"patience": 2, "check_finite": False}, None),
        ([3, NAN, 2, 1], {"patience": 3}, 2),
        ([3, NAN, 2, 1], {"patience": 2, "check_finite": False}, None),
        ([3, NAN, 4, 5, 1], {"patience": 2, "check_finite": False}, 3),
        ([3, 2, NAN, NAN, NAN, NAN, NAN], {"patience": 3, "check_finite": False, "mode": "min"}, 5),
        ([2, 3, NAN, NAN, NAN, NAN, NAN], {"patience": 3, "check_finite": False, "mode": "max"}, 5),
        ([-INF, 3, 2], {"mode": "max"}, 1),
    ],
)
def test_it_stops_in_the_right_epoch(scores, arguments, epoch):
    assert _stops_at(scores, **arguments) == epoch


def _train(trainer_cls, stopping, scores, **kwargs):
    trainer = trainer_cls(valid_metrics=[{"loss": score} for score in scores], callbacks=[stopping], **kwargs)
    trainer.train(len(scores), [{"data": [0]}], [{"data": [0]}])
    return trainer


def test_it_ends_the_training_with_a_reason(plain_trainer, caplog):
    caplog.set_level("INFO")
    stopping = EarlyStopping("loss", patience=2)
    trainer = _train(plain_trainer, stopping, [1, 5, 6, 7, 8])
    assert trainer.epochs_done == [1, 2, 3]
    assert trainer.stop_reason == "PATIENCE: val_loss has not got better than 1.0 for 2 epochs"
    assert f"early stopping in epoch 3: {trainer.stop_reason}" in caplog.text
    assert stopping.state_dict() == {"best": 1.0, "epochs_waited": 2}


@pytest.mark.parametrize(
    ("check_finite", "epochs", "reason"),
    [
        (True, [1, 2, 3], "NON_FINITE: val_loss is nan"),
        (False, [1, 2, 3, 4, 5], "PATIENCE: val_loss has not got better than 0.9 for 3 epochs"),
    ],
)
@pytest.mark.parametrize("key", ["loss", "val_loss"])
def test_the_reason_tells_a_nan_from_patience_that_is_over(plain_trainer, key, check_finite, epochs, reason):
    stopping = EarlyStopping(key, patience=3, check_finite=check_finite)
    trainer = _train(plain_trainer, stopping, [1, 0.9, NAN, NAN, NAN, NAN, NAN])
    assert (trainer.epochs_done, trainer.stop_reason) == (epochs, reason)


@pytest.mark.parametrize("stopping", [{"patience": 1}, {"patience": 1, "check_finite": False}, {"patience": 9}])
@pytest.mark.parametrize(
    ("scores", "best"), [([0.5, 0.9, NAN, NAN, NAN], 2), ([NAN, 0.4, 0.3, NAN, NAN], 2), ([0.4, NAN, 0.6, 0.5, 0.5], 3)]
)
def test_the_best_weights_come_back_whatever_ended_the_training(
    make_trainer, batches, assert_same, stopping, scores, best
):
    weights, left = {}, iter(scores)
    keep = LambdaCallback(
        at_epoch_end=lambda trainer, curr_epoch: weights.update(
            {curr_epoch: {k: v.clone() for k, v in trainer.network.state_dict().items()}}
        )
    )
    trainer = make_trainer(
        metrics={"dice": lambda pred, label: pred.new_tensor(next(left)) if not pred.requires_grad else pred.mean()},
        callbacks=[keep, EarlyStopping("dice", mode="max", **stopping)],
    )
    returned = trainer.train(5, batches(2), batches(2), val_score_key="dice")
    done = max(weights)
    finite = {n: score for n, score in enumerate(scores[:done], 1) if score == score}
    expected = max(finite, key=finite.get) if finite else done
    assert trainer.best.epoch == (expected if finite else None)
    assert expected == best or done < best
    assert_same(dict(returned.state_dict()), weights[expected])


@pytest.mark.parametrize("names", [["loss"], None], ids=["names known", "own routine"])
def test_an_epoch_without_validation_does_not_count_unless_there_is_none(plain_trainer, names):
    metrics, one = [{"loss": score} for score in (9, 1, 9, 2, 9, 3, 9, 4)], [{"data": [0]}]
    trainer = plain_trainer(valid_metrics=metrics, names=names, callbacks=[EarlyStopping("loss", patience=2)])
    trainer.train(8, one, one, val_freq=2)
    assert trainer.epochs_done == [1, 2, 3, 4, 5, 6]
    assert trainer.stop_reason.startswith("PATIENCE: val_loss has not got better than 1")
    trainer = plain_trainer(metrics[1:], names=names, callbacks=[EarlyStopping("loss")])
    trainer.train(3, one)
    assert trainer.epochs_done == [1, 2]


def test_an_unknown_score_is_refused_before_the_first_batch(plain_trainer, recorder):
    calls = []
    trainer = plain_trainer(names=["loss", "dice"], callbacks=[EarlyStopping("val_dcie"), recorder(calls)])
    with pytest.raises(ScoreKeyError, match=r"'val_dcie'.*Known: 'val_dice', 'val_loss'\. Did you mean 'val_dice'\?"):
        trainer.train(3, [{"data": [0]}], [{"data": [0]}])
    assert not any(hook == "at_epoch_begin" for _, hook, _ in calls)


def test_it_goes_on_counting_from_its_state():
    stopping = EarlyStopping("loss", patience=3)
    assert [stopping.step(score) for score in (1, 5, 6)] == [False] * 3
    resumed = EarlyStopping("loss", patience=3)
    resumed.load_state_dict(stopping.state_dict())
    assert resumed.step(7)
