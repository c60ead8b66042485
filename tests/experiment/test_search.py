"""Sweeps: every run a normal one, the best first, and what fails does not take the others with it."""

import numpy as np
import pytest

from delira_nca.errors import ConfigError
from delira_nca.experiment import Run, RunConfig, RunStore, sweep
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


@pytest.fixture
def config(values):
    return RunConfig.from_dict(values)


def test_a_grid_runs_every_combination_and_puts_the_best_first(config, tmp_path):
    found = sweep(config, {"trainer.lr": [1e-2, 0.0], "seed": [0, 1]}, tmp_path)
    assert RunStore(tmp_path).names() == ("flower-000", "flower-001", "flower-002", "flower-003")
    assert [run.values["trainer.lr"] for run in found.runs[:2]] == [1e-2, 1e-2]
    scores = [run.best_score for run in found.runs]
    assert scores == sorted(scores)
    assert found.best.best_score == min(scores)
    assert {(run.values["seed"], run.values["trainer.lr"]) for run in found.runs} == {
        (s, lr) for s in (0, 1) for lr in (1e-2, 0.0)
    }


def test_a_sweep_that_is_called_again_trains_nothing_twice(config, tmp_path):
    space = {"trainer.lr": [1e-2, 1e-3]}
    first = sweep(config, space, tmp_path)
    before = {run.name: (run.folder / "stats.sqlite").read_bytes() for run in first.runs}
    iterations = {run.name: Run.open(run.folder).stored.training_stats().trained_until() for run in first.runs}
    again = sweep(config, space, tmp_path)
    assert [run.best_score for run in again.runs] == [run.best_score for run in first.runs]
    assert {n: Run.open(tmp_path / n).stored.training_stats().trained_until() for n in before} == iterations


def test_a_run_that_fails_is_told_and_the_others_are_compared(config, tmp_path, caplog):
    found = sweep(config, {"data.num_splits": [0, 50]}, tmp_path)
    assert [(run.state, run.values["data.num_splits"]) for run in found.runs] == [("done", 0), ("ended", 50)]
    assert "run flower-001 failed" in caplog.text
    assert "num_splits=50" in caplog.text


def test_a_search_by_chance_tries_so_many(config, tmp_path):
    found = sweep(
        config, {"trainer.lr": {"low": 1e-4, "high": 1e-1, "log": True}}, tmp_path, method="random", num_trials=3
    )
    rates = {run.values["trainer.lr"] for run in found.runs}
    assert len(rates) == 3
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)


@pytest.mark.slow
def test_optuna_chooses_values_and_prunes(config, tmp_path):
    pytest.importorskip("optuna")
    longer = config.replace({"num_epochs": 4})
    found = sweep(longer, {"trainer.lr": Range(1e-5, 1e-1, log=True)}, tmp_path, method="optuna", num_trials=7)
    assert len(found.runs) == 7
    assert found.best.values["trainer.lr"] > 1e-3
    states = {run.state for run in found.runs}
    assert states == {"done", "stopped"}
    stopped = [run for run in found.runs if run.state == "stopped"]
    assert all(len(run.history) < 4 for run in stopped)
    trained = {run.name: Run.open(run.folder).stored.training_stats().trained_until() for run in found.runs}
    again = sweep(longer, {"trainer.lr": Range(1e-5, 1e-1, log=True)}, tmp_path, method="optuna", num_trials=7)
    assert {run.name: run.state for run in again.runs} == {run.name: run.state for run in found.runs}
    assert {n: Run.open(tmp_path / n).stored.training_stats().trained_until() for n in trained} == trained


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({"trainer.lrr": [1]}, {}, "no entry 'lrr'"),
        ({"seed": [1]}, {"method": "gird"}, "Did you mean 'grid'?"),
        ({"seed": [1]}, {"method": "random"}, "num_trials"),
        ({"seed": [1]}, {"num_trials": 3}, "num_trials"),
        ({"trainer.lr": Range(0.0, 3.0)}, {}, "not a range"),
        ({}, {}, "something to try"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(space, options, message, config, tmp_path):
    with pytest.raises(ConfigError, match=message):
        sweep(config, space, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_sweep_without_a_score_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match=r"set task\.score"):
        sweep(config.replace({"task.score": None}), {"seed": [1]}, tmp_path)
