"""Which score decides, and which way is better."""

import math

import pytest

from delira_nca.errors import ScoreKeyError, ScoreModeError
from delira_nca.training.scores import BestScore, find_score_key, higher_is_better, is_better

NAMES = ["loss", "dice", "val_loss", "val_dice"]


@pytest.mark.parametrize(("mode", "higher"), [("highest", True), ("max", True), ("lowest", False), ("min", False)])
def test_a_mode_has_two_names(mode, higher):
    assert higher_is_better(mode) is higher


def test_an_unknown_mode_is_an_error_of_either_kind():
    for kind in (ValueError, AssertionError, ScoreModeError):
        with pytest.raises(kind, match="Did you mean 'lowest'"):
            higher_is_better("lowes")


@pytest.mark.parametrize(
    ("old", "new", "mode", "min_delta", "better"),
    [
        (0.5, 0.6, "max", 0.05, True),
        (0.5, 0.54, "max", 0.05, False),
        (0.5, 0.375, "min", 0.125, False),
        (0.5, 0.25, "min", 0.125, True),
        (math.nan, 0.1, "max", 0.0, True),
        (0.1, math.nan, "min", 0.0, False),
        (None, math.nan, "max", 0.0, False),
        (None, -math.inf, "max", 0.0, True),
        (1.0, -math.inf, "min", 0.0, True),
    ],
)
def test_better_means_by_more_than_min_delta_and_never_nan(old, new, mode, min_delta, better):
    assert is_better(old, new, mode, min_delta) is better


@pytest.mark.parametrize(
    ("key", "names", "found"),
    [
        ("dice", NAMES, "val_dice"),
        ("val_dice", NAMES, "val_dice"),
        ("dice", ["loss", "dice"], "dice"),
        ("loss", iter(NAMES), "val_loss"),
    ],
)
def test_a_key_means_the_score_of_validation_where_there_is_one(key, names, found):
    assert find_score_key(key, names) == found


@pytest.mark.parametrize(
    ("key", "names", "message"),
    [
        ("dcie", ["loss", "dice"], "Known: 'dice', 'loss'. Did you mean 'dice'?"),
        ("val_dcie", NAMES, "Known: 'val_dice', 'val_loss'. Did you mean 'val_dice'?"),
        ("val_dice", ["loss", "dice"], "the score 'val_dice' that decides which epoch is best is not computed"),
        ("speed", ["speed", "val_loss"], "in training only"),
        ("x", [], "Known: none."),
    ],
)
def test_an_unknown_key_is_refused_with_what_is_known(key, names, message):
    with pytest.raises(ScoreKeyError) as raised:
        find_score_key(key, names)
    assert message in str(raised.value)


def test_the_best_goes_on_from_its_state():
    best = BestScore("dice", "highest")
    assert best.update(1, {"dice": 0.4})
    resumed = BestScore()
    resumed.load_state_dict(best.state_dict())
    assert not resumed.update(2, {"dice": 0.3})
    assert resumed.update(3, {"dice": 0.5})
    assert resumed.state_dict() == {"key": "dice", "mode": "highest", "score": 0.5, "epoch": 3}


def test_nothing_is_best_where_no_score_decides_or_nothing_was_validated():
    assert not BestScore().update(1, {"dice": 1.0})
    best = BestScore("dice")
    assert not best.update(1, {"other": 1.0}, validated=False)
    with pytest.raises(ScoreKeyError, match="'dice'"):
        best.update(2, {"other": 1.0})
