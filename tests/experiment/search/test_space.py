import numpy as np
import pytest

from delira_nca.errors import ConfigError
from delira_nca.experiment.search import Range, grid, random_search, read_space


def test_a_grid_has_every_combination_once_and_no_ranges():
    trials = grid({"a": [1, 2, 3], "b": ["x", "y"]})
    assert len(trials) == 6
    assert {(trial["a"], trial["b"]) for trial in trials} == {(a, b) for a in (1, 2, 3) for b in "xy"}
    with pytest.raises(ConfigError, match=r"trainer\.lr, not a range"):
        grid({"trainer.lr": Range(0.0, 1.0)})


def test_numbers_are_drawn_evenly_of_the_range_or_its_logarithm():
    space = {"plain": Range(2.0, 4.0), "log": Range(1e-4, 1.0, log=True), "whole": Range(1, 4, is_integer=True)}
    trials = random_search(space, 400)
    plain, log, whole = (np.array([trial[name] for trial in trials]) for name in space)
    assert abs(plain.mean() - 3.0) < 0.1
    assert plain.min() >= 2.0
    assert plain.max() <= 4.0
    assert abs(np.log10(log).mean() + 2.0) < 0.2
    assert set(whole.tolist()) == {1, 2, 3, 4}
    assert whole.dtype.kind == "i"


def test_a_search_depends_on_its_seed_and_a_longer_one_begins_as_a_shorter_one():
    space = {"lr": Range(0.0, 1.0), "kind": ["a", "b", "c"]}
    assert random_search(space, 5, seed=1) == random_search(space, 8, seed=1)[:5]
    assert random_search(space, 5, seed=1) != random_search(space, 5, seed=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Range(1.0, 1.0), "range"),
        (lambda: Range(0.0, 1.0, log=True), "range"),
        (lambda: Range(0.5, 2, is_integer=True), "range"),
        *((lambda num=num: random_search({"a": [1]}, num), "num_trials") for num in (0, 1.5, True)),
        *(
            (lambda space=space: read_space(space), None)
            for space in ({}, {"a": 3}, {"a": []}, {"a": {"low": 1}}, {"a": "abc"})
        ),
    ],
)
def test_a_search_of_nothing_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_values_may_be_arrays_and_ranges():
    space = read_space({"lr": np.linspace(0.0, 1.0, 3), "seed": range(2), "size": [np.int64(4)]})
    assert space == {"lr": [0.0, 0.5, 1.0], "seed": [0, 1], "size": [4]}
    assert {type(value) for values in space.values() for value in values} == {float, int}
    assert len(random_search(space, np.int64(2), np.int64(1))) == 2
