"""Criteria, and the statistics of trainings and validations."""

import math
import pickle
import sys

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, MissingDependencyError, ShapeError, UnknownNameError
from delira_nca.experiment.stats import (
    Criterion,
    EvaluationScores,
    SyncPlan,
    TrainingIterationStats,
    TrainingStats,
    ValidationIterationScores,
    ValidationScores,
)

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


def stats_of(*iterations):
    return TrainingStats([TrainingIterationStats(i, i / 10) for i in iterations])


def trained_iterations(stats):
    return [entry.iteration for entry in stats.iteration_stats]


# One iteration --------------------------------------------------------------------------------------------------------


def test_an_entry_has_a_time_if_given_named_values_of_its_own_and_can_be_pickled():
    entry = TrainingIterationStats(0, 0.1)
    assert (entry.iteration, entry.loss, entry.values) == (0, 0.1, {})
    assert math.isnan(entry.time)
    assert entry == TrainingIterationStats(0, 0.1)
    assert TrainingIterationStats(1, 0.2, 3.0).time == 3.0
    values = {"dice": torch.tensor(0.5), "overflow": 1}
    entry = TrainingIterationStats(0, 1.5, values=values)
    values["dice"] = 7
    assert entry.values == {"dice": 0.5, "overflow": 1.0}
    entry = TrainingIterationStats(2, math.nan, 0.5, {"dice": math.inf})
    with pytest.raises(AttributeError):
        entry.loss = 0.0
    assert hash(entry) == hash(TrainingIterationStats(2, float("nan"), 0.5))
    assert pickle.loads(pickle.dumps(entry)) == entry


@pytest.mark.parametrize("loss", [np.float32(0.5), np.ones((1, 1)) / 2, torch.tensor(0.5), torch.tensor([0.5])])
def test_one_number_of_numpy_or_torch_is_a_float(loss):
    entry = TrainingIterationStats(np.int64(3), loss, torch.tensor(2))
    assert (entry.iteration, entry.loss, entry.time) == (3, 0.5, 2.0)
    assert [type(v) for v in (entry.iteration, entry.loss, entry.time)] == [int, float, float]


@pytest.mark.parametrize("iteration", [-1, 0.0, 2.5, math.nan, math.inf, True, "1", None, 2**63, torch.ones(2)])
def test_an_iteration_is_a_whole_number_of_at_least_0(iteration):
    with pytest.raises(ConfigError, match="an iteration must be a whole number from 0 to 9223372036854775807, not"):
        TrainingIterationStats(iteration, 0.1)


@pytest.mark.parametrize("value", [torch.ones(2), np.ones((2, 1)), torch.ones(0), "0.5", None, 1j, [0.5], 10**400])
def test_what_is_not_one_number_is_refused(value):
    with pytest.raises(ConfigError, match="the loss of iteration 4 is"):
        TrainingIterationStats(4, value)
    with pytest.raises(ConfigError, match="the time of iteration 4 is"):
        TrainingIterationStats(4, 0.0, value)
    with pytest.raises(ConfigError, match="'dice' is"):
        TrainingIterationStats(4, 0.0, values={"dice": value})


def test_values_have_names_that_are_not_taken():
    taken = [({name: 1.0}, f"'{name}' has a place of its own") for name in ("loss", "time", "iterations")]
    unnamed = [({name: 1.0}, "name of a value is a text") for name in ("", 3)]
    wrong = [
        ([1.0], "values are numbers by name"),
        ({"a": torch.ones(2, 3)}, r"number, not a Tensor of shape \(2, 3\)"),
    ]
    for values, message in (*taken, *unnamed, *wrong):
        with pytest.raises(ConfigError, match=message):
            TrainingIterationStats(0, 0.0, values=values)


# All iterations -------------------------------------------------------------------------------------------------------


def test_until_is_the_first_iteration_not_done_and_gaps_are_allowed():
    assert TrainingStats().trained_until() == 0
    assert TrainingStats().iteration_stats == []
    assert TrainingStats().to_xarray().shape == (0,)
    assert dict(TrainingStats().to_dataset().sizes) == {"iterations": 0}
    stats = stats_of(0, 3, 9)
    assert trained_iterations(stats) == [0, 3, 9]
    assert stats.trained_until() == 10
    stats.add_iteration_stats(TrainingIterationStats(5, 1.0), on_conflict="rewind")
    stats.add_iteration_stats(TrainingIterationStats(12, 1.0), on_conflict="rewind")
    assert trained_iterations(stats) == [0, 3, 5, 12]


def test_two_trainings_share_no_list():
    first, second = TrainingStats(), TrainingStats()
    given = list(stats_of(0, 1).iteration_stats)
    third = TrainingStats(given)
    first.add_iteration_stats(TrainingIterationStats(0, 1.0))
    third.delete_after(0)
    assert (len(first.iteration_stats), len(second.iteration_stats), len(given)) == (1, 0, 2)


def test_an_iteration_that_was_done_and_other_things_are_refused_and_nothing_is_lost():
    stats = stats_of(*range(8))
    for iteration in (5, 7, 0):
        with pytest.raises(ConfigError, match=f"iteration {iteration} cannot follow iteration 7; on_conflict='rewind'"):
            stats.add_iteration_stats(TrainingIterationStats(iteration, 9.0))
    with pytest.raises(UnknownNameError, match="unknown on_conflict 'rewnd'.*Did you mean 'rewind'"):
        stats.add_iteration_stats(TrainingIterationStats(8, 0.0), on_conflict="rewnd")
    with pytest.raises(ConfigError, match="must be of type TrainingIterationStats, not float"):
        stats.add_iteration_stats(0.5)
    assert stats == stats_of(*range(8))
    with pytest.raises(ConfigError, match="iteration 1 cannot follow iteration 1"):
        stats_of(0, 1, 1)


@pytest.mark.parametrize("iteration", range(8))
def test_a_rewind_loses_no_iteration_before_the_one_that_is_done_again(iteration):
    stats = stats_of(*range(8))
    stats.add_iteration_stats(TrainingIterationStats(iteration, 9.0), on_conflict="rewind")
    assert trained_iterations(stats) == [*range(iteration + 1)]
    assert stats.iteration_stats[-1].loss == 9.0
    stats.add_iteration_stats(TrainingIterationStats(iteration + 1, 8.0))
    assert stats.trained_until() == iteration + 2


@pytest.mark.parametrize(
    ("iteration", "left"), [(0, []), (1, [0]), (3, [0]), (4, [0, 3]), (9, [0, 3]), (10, [0, 3, 9])]
)
def test_delete_after_keeps_the_iterations_below(iteration, left):
    stats = stats_of(0, 3, 9)
    stats.delete_after(iteration)
    assert trained_iterations(stats) == left
    assert stats.trained_until() <= iteration
    stats.delete_after(99)
    assert trained_iterations(stats) == left
    with pytest.raises(ConfigError, match="not -1"):
        stats.delete_after(-1)


def test_the_array_of_losses_is_the_one_of_the_page():
    array = stats_of(0, 1, 2).to_xarray()
    assert array.dims == ("iterations",)
    assert array.values.tolist() == [0.0, 0.1, 0.2]
    assert array.iterations.values.tolist() == [0, 1, 2]
    assert (array.dtype, array.iterations.dtype, array.name) == (np.float64, np.int64, None)
    assert stats_of(0, 3, 9).to_xarray().sel(iterations=3).item() == 0.3


def test_the_data_set_drops_nothing():
    stats = TrainingStats(
        [
            TrainingIterationStats(0, 3.0, 0.1, {"a": 1.0}),
            TrainingIterationStats(1, 2.0, values={"b": 5.0, "a": 2.0}),
            TrainingIterationStats(4, 1.0, 0.3),
        ]
    )
    found = stats.to_dataset()
    assert list(found.data_vars) == ["loss", "time", "a", "b"] == ["loss", "time", *stats.value_names()]
    nan = math.nan
    expected = {"loss": [3.0, 2.0, 1.0], "time": [0.1, nan, 0.3], "a": [1.0, 2.0, nan], "b": [nan, 5.0, nan]}
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name].values, values)
        assert found[name].dims == ("iterations",)


def test_statistics_are_kept_without_xarray_and_arrays_say_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    stats = stats_of(0, 1)
    assert stats.trained_until() == 2
    for ask in (stats.to_xarray, stats.to_dataset):
        with pytest.raises(MissingDependencyError, match=r"xarray is needed .*pip install 'delira_nca\[stats\]'"):
            ask()


CRITERIA = EvaluationScores([Criterion("dice", True, (0, 1)), Criterion("hausdorff", False, (0, math.inf))])
PARAMETERS = [{"threshold": 0.3, "steps": 32}, {"threshold": 0.5, "steps": 64}, {"threshold": 0.7, "steps": 64}]


def row(iteration, value=0.5, shape=(2, 3, 2)):
    return ValidationIterationScores(iteration, np.full(shape, value))


def table(*iterations, parameters=PARAMETERS, datasets=("liver", "spleen"), criteria=CRITERIA):
    shape = (len(datasets), len(parameters), len(criteria.criteria))
    return ValidationScores(parameters, datasets, criteria, [row(i, i / 100, shape) for i in iterations])


def iterations_of(scores):
    return [entry.iteration for entry in scores.scores]


# Entries --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [list, np.array, torch.tensor, lambda s: [[torch.tensor(s[0][0])]]])
def test_scores_of_any_kind_become_lists_of_floats(make):
    entry = ValidationIterationScores(np.int32(7), make([[[0.5, 2.0]]]))
    assert (entry.iteration, entry.scores) == (7, [[[0.5, 2.0]]])
    assert all(type(value) is float for value in entry.scores[0][0])


def test_entries_are_equal_also_where_they_are_nan_and_can_be_pickled():
    entry = ValidationIterationScores(0, [[[float("nan"), math.inf]]])
    assert entry == ValidationIterationScores(0, np.array([[[np.nan, np.inf]]]))
    assert pickle.loads(pickle.dumps(entry)) == entry
    with pytest.raises(AttributeError):
        entry.scores = []
    for iteration in (-1, 1.0, True, "0"):
        with pytest.raises(ConfigError, match="an iteration must be a whole number from 0 to 9223372036854775807"):
            ValidationIterationScores(iteration, [[[0.5]]])


@pytest.mark.parametrize("scores", [0.5, [0.5], [[0.5]], np.ones((2, 3)), "abc", {"dice": 1}, None])
def test_scores_are_nested_three_deep(scores):
    with pytest.raises(
        ShapeError, match=r"scores\[dataset\]\[parameter\]\[criterion\], and scores.* of iteration 3 is"
    ):
        ValidationIterationScores(3, scores)


@pytest.mark.parametrize("score", [torch.ones(2), [0.5], None, "0.5"])
def test_a_score_is_one_number_and_the_message_says_where_it_is_not(score):
    with pytest.raises(ConfigError, match=r"scores\[0\]\[1\]\[0\] of iteration 3 is one number, not"):
        ValidationIterationScores(3, [[[0.5], [score]]])


# The table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis", "length", "found"),
    [
        ((1, 3, 2), "datasets", 2, 1),
        ((3, 3, 2), "datasets", 2, 3),
        ((2, 2, 2), "parameters", 3, 2),
        ((2, 3, 1), "criteria", 2, 1),
        ((2, 3, 0), "criteria", 2, 0),
    ],
)
def test_the_shape_is_checked_when_scores_are_added_or_compared(shape, axis, length, found):
    scores = table(0)
    message = rf"axis '{axis}' .* length {length}, .*iteration 5 has {found} .*\(2, 3, 2\)"
    with pytest.raises(ShapeError, match=message):
        scores.add_iteration_scores(row(5, shape=shape))
    with pytest.raises(ShapeError, match=message):
        scores.compare([row(5, shape=shape)])
    ragged = ValidationIterationScores(0, [[[1, 2], [1, 2], [1, 2]], [[1, 2], [1], [1, 2]]])
    with pytest.raises(ShapeError, match=r"axis 'criteria' .* scores\[1\]\[1\] of iteration 0 has 1"):
        table().add_iteration_scores(ragged)
    assert iterations_of(scores) == [0]


def test_duplicates_and_disorder_are_refused():
    scores = table(10, 20)
    for iteration in (20, 10, 15, 0):
        message = rf"iteration {iteration} cannot follow .* 20: delete_after\({iteration}\)"
        with pytest.raises(ConfigError, match=message):
            scores.add_iteration_scores(row(iteration))
    with pytest.raises(ConfigError, match="must be of type ValidationIterationScores, not"):
        scores.add_iteration_scores(np.ones((2, 3, 2)))
    assert scores == table(10, 20)
    with pytest.raises(ConfigError, match="cannot follow"):
        ValidationScores(PARAMETERS, ["liver", "spleen"], CRITERIA, [row(2), row(1)])


def test_until_is_half_open():
    scores = table(10, 20, 30)
    assert (scores.validated_until(), table().validated_until()) == (31, 0)
    for iteration, left in ((31, [10, 20, 30]), (30, [10, 20]), (11, [10]), (10, [])):
        scores.delete_after(iteration)
        assert iterations_of(scores) == left
        assert scores.validated_until() <= iteration
    scores.add_iteration_scores(row(10))
    assert iterations_of(scores) == [10]
    with pytest.raises(ConfigError, match="not 1.5"):
        scores.delete_after(1.5)


def test_tables_share_no_list():
    first = table(0, 1)
    second = ValidationScores(first.parameters, first.datasets, first.evaluation_scores, first.scores)
    second.delete_after(0)
    second.parameters[0]["threshold"] = 9.0
    assert (iterations_of(first), first.parameters[0]["threshold"]) == ([0, 1], 0.3)


def test_subscores_have_the_same_header_and_other_rows():
    scores = table(10, 20, 30)
    chosen = scores.subscores(scores.scores[::2])
    assert iterations_of(chosen) == [10, 30]
    assert chosen == table(10, 30)
    assert scores.subscores([]) == table()
    with pytest.raises(ConfigError, match=r"is not among the scores, which are of the iterations \[10, 20, 30\]"):
        scores.subscores([row(10, 0.9)])


def test_criteria_and_parameter_names():
    assert table().criteria == ["dice", "hausdorff"]
    assert table().parameter_names == ["threshold", "steps"]
    assert table(parameters=[{"a": 1}, {"b": 2, "a": 3}]).parameter_names == ["a", "b"]
    assert table(parameters=[127, "otsu"]).parameter_names == ["id"]
    assert table(parameters=[]).parameter_names == []
    assert table(parameters=[{}]).parameter_names == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": [{"a": 1}, {"a": 1}]}, "comes twice"),
        ({"parameters": [1, "1"]}, "comes twice"),
        ({"parameters": [1, {"a": 1}]}, "all mappings or all identifiers"),
        ({"parameters": [0.5]}, "mapping of plain values or an identifier, not 0.5"),
        ({"parameters": [True]}, "identifier, not True"),
        ({"parameters": [{"a": [1]}]}, "parameter 'a' is a number, a text, True, False or None"),
        ({"parameters": [{"a": math.nan}]}, "parameter 'a'"),
        ({"parameters": [{"a": torch.tensor(1)}]}, "parameter 'a'"),
        ({"parameters": [{1: 2}]}, "name of a parameter is a text"),
        ({"parameters": [{"criteria": 2}]}, "'criteria' is a dimension"),
        ({"parameters": {"a": 1}}, "parameters are several, in a list"),
        ({"datasets": "liver"}, "datasets are several, in a list"),
        ({"datasets": ["a", "a"]}, "name of its own"),
        ({"datasets": [3]}, "name of a data set is a text"),
        ({"evaluation_scores": ["dice"]}, "must be of type EvaluationScores, not"),
    ],
)
def test_a_header_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ValidationScores(**{"parameters": PARAMETERS, "datasets": ["a"], "evaluation_scores": CRITERIA, **changes})


# What brings stored scores up to date ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "existing", "plan"),
    [
        ([10, 20], [], (False, 0)),
        ([], [], (False, 0)),
        ([10, 20], [10], (False, 11)),
        ([20], [10], (False, 11)),
        ([10, 20], [10, 20], (False, 21)),
        ([10, 20], [10, 20, 30], (True, 0)),
        ([], [10], (True, 0)),
    ],
)
def test_local_scores_take_priority(local, existing, plan):
    found = table(*local).compare(table(*existing).scores)
    assert found == plan
    replace, from_iteration = found
    assert (found.replace, found.from_iteration) == (replace, from_iteration)
    assert isinstance(found, SyncPlan)


def test_what_the_plan_says_makes_the_stored_scores_equal():
    rng = np.random.default_rng(0)
    for _ in range(200):
        local = table(*np.flatnonzero(rng.random(6) < 0.5))
        stored = table(*iterations_of(local)[: rng.integers(7)], *range(6, 6 + rng.integers(2))).scores
        if stored and rng.random() < 0.3:
            stored[0] = row(stored[0].iteration, 0.9)
        replace, from_iteration = local.compare(stored)
        stored = [] if replace else stored
        stored += [entry for entry in local.scores if entry.iteration >= from_iteration]
        assert stored == local.scores
    assert table(10, 20).compare([row(10, 0.9)]) == (True, 0)
    of_nan = table()
    of_nan.add_iteration_scores(row(10, math.nan))
    assert of_nan.compare([row(10, float("nan"))]) == (False, 11)


# Arrays ---------------------------------------------------------------------------------------------------------------


def test_the_array_has_a_dimension_for_each_axis_and_coordinates():
    scores = table(parameters=[{"threshold": 0.5, "steps": 64, "open": True, "mode": "a"}, {"threshold": 1}])
    scores.add_iteration_scores(ValidationIterationScores(4, np.arange(8.0).reshape(2, 2, 2)))
    array = scores.to_xarray()
    assert array.dims == ("iterations", "datasets", "parameters", "criteria")
    assert array.values.tolist() == [scores.scores[0].scores]
    assert array.sel(iterations=4, datasets="spleen", criteria="dice").values.tolist() == [4.0, 6.0]
    assert array.parameters.values.tolist() == ["threshold=0.5, steps=64, open=True, mode=a", "threshold=1"]
    assert array.threshold.values.tolist() == [0.5, 1.0]
    assert array.open.values.tolist() == ["True", ""]
    assert array.mode.values.tolist() == ["a", ""]
    np.testing.assert_array_equal(array.steps.values, ["64", ""])
    parameters = [{"n": 1, "x": 1, "on": True, "big": 2**70}, {"n": 2, "x": math.inf, "on": False}]
    array = table(parameters=parameters).to_xarray()
    assert [array[name].dtype.kind for name in ("n", "x", "on", "big")] == ["i", "f", "b", "O"]
    assert array.big.values.tolist() == [str(2**70), ""]


@pytest.mark.parametrize("changes", [{}, {"parameters": []}, {"datasets": []}, {"parameters": ["a"]}])
def test_an_array_of_nothing_has_its_shape(changes):
    scores = table(**changes)
    array = scores.to_xarray()
    assert array.shape == (0, len(scores.datasets), len(scores.parameters), 2)
    assert array.iterations.dtype == np.int64
    index, value = scores.get_best(array, "iterations")
    assert index.shape == value.shape == array.shape[1:]
    assert np.isnan(index.values.astype(float)).all()
    assert np.isnan(value.values).all()


# The best -------------------------------------------------------------------------------------------------------------


def scored(dice, hausdorff, iterations=None):
    """Table of one data set and one parameter."""
    scores = ValidationScores(["only"], ["liver"], CRITERIA)
    for iteration, pair in zip(iterations or range(len(dice)), zip(dice, hausdorff, strict=True), strict=True):
        scores.add_iteration_scores(ValidationIterationScores(iteration, [[list(pair)]]))
    return scores, scores.to_xarray().sel(datasets="liver", parameters="only")


def test_each_criterion_is_best_in_its_own_direction_also_if_it_has_been_selected():
    scores, data = scored([0.5, 0.9, 0.7], [9.0, 4.0, 1.0], [10, 20, 30])
    index, value = scores.get_best(data, "iterations")
    assert index.dims == value.dims == ("criteria",)
    assert index.dtype == np.int64
    flipped = scores.get_best(data.isel(criteria=[1, 0]), "iterations")
    assert [part.values.tolist() for part in flipped] == [[30, 20], [1.0, 0.9]]
    for criterion, best in (("dice", (20, 0.9)), ("hausdorff", (30, 1.0))):
        assert (index.sel(criteria=criterion).item(), value.sel(criteria=criterion).item()) == best
        alone = scores.get_best(data.sel(criteria=criterion), "iterations")
        assert [part.shape for part in alone] == [(), ()]
        assert tuple(part.item() for part in alone) == best
        kept = scores.get_best(data.sel(criteria=[criterion]), "iterations")
        assert [part.values.tolist() for part in kept] == [[best[0]], [best[1]]]


def test_of_equals_the_lowest_iteration_or_the_first_name_is_best():
    scores, data = scored([0.1, 0.9, 0.9], [5.0, 2.0, 2.0], [10, 20, 30])
    assert scores.get_best(data, "iterations")[0].values.tolist() == [20, 20]
    assert scores.get_best(data.isel(iterations=[2, 1, 0]), "iterations")[0].values.tolist() == [20, 20]
    whole = table(10)
    assert set(whole.get_best(whole.to_xarray(), "parameters")[0].values.flat) == {"threshold=0.3, steps=32"}
    assert set(whole.get_best(whole.to_xarray(), "datasets")[0].values.flat) == {"liver"}


def test_nan_never_is_the_best_but_where_all_is_nan():
    nan, inf = math.nan, math.inf
    scores, data = scored([nan, -inf, nan], [nan, nan, inf], [10, 20, 30])
    index, value = scores.get_best(data, "iterations")
    assert index.values.tolist() == [20, 30]
    assert value.values.tolist() == [-inf, inf]
    scores, data = scored([nan, nan], [3.0, 2.0], [10, 20])
    index, value = scores.get_best(data, "iterations")
    np.testing.assert_array_equal(index.values, [nan, 20.0])
    np.testing.assert_array_equal(value.values, [nan, 2.0])
    alone = scores.get_best(data.sel(criteria="dice"), "iterations")
    assert all(math.isnan(part.item()) for part in alone)


def test_the_best_of_a_whole_table_equals_a_search_by_hand():
    rng = np.random.default_rng(0)
    scores = table()
    for iteration in (2, 5, 9, 11):
        values = rng.integers(0, 4, (2, 3, 2)).astype(float)
        values[rng.random(values.shape) < 0.3] = math.nan
        scores.add_iteration_scores(ValidationIterationScores(iteration, values))
    data = scores.to_xarray()
    for dim in ("iterations", "datasets", "parameters"):
        index, value = scores.get_best(data, dim)
        assert index.dims == value.dims == tuple(name for name in data.dims if name != dim)
        for place in np.ndindex(index.shape):
            where = dict(zip(index.dims, place, strict=True))
            line = data.isel(where)
            better = max if scores.evaluation_scores.higher_is_better(line.criteria.item()) else min
            known = [v for v in line.values.tolist() if not math.isnan(v)]
            expected = better(known, default=math.nan)
            np.testing.assert_equal(value.isel(where).item(), expected)
            first = next((c for c, v in zip(line[dim].values, line.values, strict=True) if v == expected), math.nan)
            np.testing.assert_equal(index.isel(where).item(), first)


def test_the_best_of_means_over_data_sets_keeps_its_coordinates():
    scores = table(10, 20)
    index, value = scores.get_best(scores.to_xarray().mean("datasets"), "iterations")
    assert index.dims == ("parameters", "criteria")
    assert index.threshold.values.tolist() == [0.3, 0.5, 0.7]
    assert index.sel(criteria="dice").values.tolist() == [20] * 3
    assert value.sel(criteria="hausdorff").values.tolist() == [0.1] * 3
    unnamed = scores.get_best(scores.to_xarray().drop_vars("iterations"), "iterations")[0]
    assert unnamed.sel(criteria="dice").values.tolist() == [[1] * 3] * 2


def test_what_the_best_cannot_be_found_in_is_refused():
    scores, data = scored([0.5], [9.0])
    moving = data.isel(criteria=0).drop_vars("criteria").assign_coords(criteria=("iterations", ["dice"]))
    for given, dim, error, message in (
        (data.drop_vars("criteria"), "iterations", ConfigError, "coordinate 'criteria', not in one with"),
        (data.values, "iterations", ConfigError, "coordinate 'criteria'"),
        (data, "criteria", ConfigError, "different criteria cannot be compared"),
        (data, "iteration", UnknownNameError, "unknown dimension 'iteration' .*Did you mean 'iterations'"),
        (data.assign_coords(criteria=["dice", "auc"]), "iterations", UnknownNameError, "unknown criterion 'auc'"),
        (moving, "iterations", ConfigError, "the criteria change along 'iterations'"),
    ):
        with pytest.raises(error, match=message):
            scores.get_best(given, dim)
