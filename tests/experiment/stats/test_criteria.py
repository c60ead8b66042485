import math
import pickle

import numpy as np
import pytest

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.experiment.stats import Criterion, EvaluationScores

DICE, DISTANCE = Criterion("dice", True, (0, 1)), Criterion("hausdorff", False, (0, math.inf), store_best=False)


def test_a_criterion_knows_its_direction_its_bounds_and_whether_its_best_is_kept():
    assert (DICE.higher_is_better, DICE.bounds, DICE.store_best) == (True, (0.0, 1.0), True)
    assert Criterion("loss", higher_is_better=False).bounds == (-math.inf, math.inf)
    with pytest.raises(AttributeError):
        DICE.name = "loss"
    assert Criterion("dice", np.bool_(True)) == Criterion("dice", True)


def test_an_evaluation_answers_for_each_of_its_criteria():
    scores = EvaluationScores([DICE, DISTANCE])
    assert scores.criteria == ["dice", "hausdorff"]
    assert [scores.higher_is_better(c) for c in scores.criteria] == [True, False]
    assert [scores.bounds(c) for c in scores.criteria] == [(0.0, 1.0), (0.0, math.inf)]
    assert [scores.store_best(c) for c in scores.criteria] == [True, False]
    for ask in (scores.higher_is_better, scores.bounds, scores.store_best):
        with pytest.raises(UnknownNameError, match="unknown criterion 'dcie'.*Did you mean 'dice'"):
            ask("dcie")
    assert pickle.loads(pickle.dumps(scores)) == scores
    assert hash(EvaluationScores([DICE, DISTANCE])) == hash(scores)
    for other in (EvaluationScores([DISTANCE, DICE]), EvaluationScores([DICE]), [DICE, DISTANCE]):
        assert scores != other
    assert "hausdorff" in repr(scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", True), "name of a criterion is a text of at least one character, not ''"),
        ((3, True), "not 3"),
        (("dice", "max"), "higher_is_better of 'dice' must be of type bool, not str"),
        (("dice", None), "must be of type bool, not NoneType"),
        (("dice", True, (1, 0)), r"low < high, not \(1.0, 0.0\)"),
        (("dice", True, (0, math.nan)), "low < high"),
        (("dice", True, (0,)), "pair"),
        (("dice", True, 1.0), "pair"),
        (("dice", True, "01"), "pair"),
        (("dice", True, (0, 1), 1), "store_best of 'dice' must be of type bool, not int"),
    ],
)
def test_a_criterion_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Criterion(*arguments)


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ([], "at least one criterion"),
        (["dice"], "criterion must be of type Criterion, not str"),
        ([DICE, DICE], "name of its own"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(criteria, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationScores(criteria)
