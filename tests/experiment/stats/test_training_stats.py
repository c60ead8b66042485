import math
import pickle
import sys

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, MissingDependencyError, UnknownNameError
from delira_nca.experiment.stats import TrainingIterationStats, TrainingStats


def stats_of(*iterations):
    return TrainingStats([TrainingIterationStats(i, i / 10) for i in iterations])


def iterations_of(stats):
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
    assert iterations_of(stats) == [0, 3, 9]
    assert stats.trained_until() == 10
    stats.add_iteration_stats(TrainingIterationStats(5, 1.0), on_conflict="rewind")
    stats.add_iteration_stats(TrainingIterationStats(12, 1.0), on_conflict="rewind")
    assert iterations_of(stats) == [0, 3, 5, 12]


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
    assert iterations_of(stats) == [*range(iteration + 1)]
    assert stats.iteration_stats[-1].loss == 9.0
    stats.add_iteration_stats(TrainingIterationStats(iteration + 1, 8.0))
    assert stats.trained_until() == iteration + 2


@pytest.mark.parametrize(
    ("iteration", "left"), [(0, []), (1, [0]), (3, [0]), (4, [0, 3]), (9, [0, 3]), (10, [0, 3, 9])]
)
def test_delete_after_keeps_the_iterations_below(iteration, left):
    stats = stats_of(0, 3, 9)
    stats.delete_after(iteration)
    assert iterations_of(stats) == left
    assert stats.trained_until() <= iteration
    stats.delete_after(99)
    assert iterations_of(stats) == left
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
