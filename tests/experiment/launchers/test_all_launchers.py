"""What holds for every launcher: the same values, and a task that fails or dies takes no other one with it."""

import importlib.util
import pickle

import pytest

from delira_nca.errors import ConfigError, UnknownKeywordError
from delira_nca.experiment.launchers import (
    LAUNCHERS,
    Launcher,
    LaunchError,
    ProcessDiedError,
    SerialLauncher,
    launcher_by_name,
    values,
)

PACKAGES = {"ray": "ray", "submitit": "submitit"}
OPTIONS = {"pool": {"num_workers": 2}, "ray": {"num_workers": 2}, "submitit": {"cluster": "local", "num_workers": 2}}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in PACKAGES else ()) for name in sorted(LAUNCHERS)],
)
def launcher(request, tmp_path_factory):
    if request.param in PACKAGES:
        pytest.importorskip(PACKAGES[request.param], reason=f"{PACKAGES[request.param]} is not installed")
    options = dict(OPTIONS.get(request.param, {}))
    if request.param == "submitit":
        options["folder"] = tmp_path_factory.mktemp("jobs")
    return launcher_by_name(request.param, **options)


@pytest.fixture(scope="module")
def outcomes(launcher, tasks, tmp_path_factory):
    """What became of one of each kind, all in one run."""
    folder = str(tmp_path_factory.mktemp("notes"))
    given = {
        "trains": {"what": "train", "seed": 0},
        "divides": {"what": "divide", "number": 1, "by": 0},
    }
    if not isinstance(launcher, SerialLauncher):
        given |= {
            "dies once": {"what": "die", "folder": folder, "name": "once", "times": 1},
            "dies always": {"what": "die", "folder": folder, "name": "always", "times": 9},
        }
    found = dict(zip(given, launcher.run(tasks.do, given.values(), retries=1), strict=True))
    assert [each.task for each in found.values()] == list(given.values())
    return found


def test_the_values_are_those_of_a_plain_call_to_the_last_bit(outcomes, tasks):
    outcome = outcomes["trains"]
    assert outcome.value == {**outcome.value, "mse": tasks.train(seed=0)["mse"], "threads": 1}
    assert outcome.ok
    assert outcome.attempts == 1
    assert 0 < outcome.seconds < 100


def test_an_exception_comes_back_with_the_arguments_and_the_lines_that_it_came_from(outcomes):
    outcome = outcomes["divides"]
    assert not outcome.ok
    assert outcome.value is None
    assert isinstance(outcome.error, ZeroDivisionError)
    assert outcome.attempts == 1
    assert outcome.task == {"what": "divide", "number": 1, "by": 0}
    assert "return number / by" in str(outcome.error.__cause__)
    with pytest.raises(
        LaunchError, match=r"what='divide', number=1, by=0: ZeroDivisionError: division by zero"
    ) as info:
        values([outcomes["trains"], outcome])
    assert info.value.__cause__ is outcome.error
    assert info.value.failed == (outcome,)


def test_a_task_whose_process_died_is_begun_again_and_given_up_in_the_end(outcomes, launcher):
    if isinstance(launcher, SerialLauncher):
        pytest.skip("what kills a task kills the program")
    assert (outcomes["dies once"].value, outcomes["dies once"].attempts) == ("once", 2)
    assert isinstance(outcomes["dies always"].error, ProcessDiedError)
    assert outcomes["dies always"].attempts == 2


def test_what_cannot_be_imported_elsewhere_is_refused_before_anything_starts(launcher, tasks):
    with pytest.raises(ConfigError, match=r"<lambda> cannot be sent to other processes .* at the top of a module"):
        launcher.run(lambda number: number, [{"number": 1}])
    with pytest.raises(ConfigError, match=r"the task number=.*, by=2 cannot be sent .* a marker stays here"):
        launcher.run(tasks.divide, [{"number": tasks.Marker(), "by": 2}])
    assert launcher.run(tasks.divide, []) == []
    assert isinstance(launcher, Launcher)
    assert type(pickle.loads(pickle.dumps(launcher))) is type(launcher)


def test_arguments_that_do_not_fit_are_refused_before_anything_starts(launcher, tasks):
    fits = {"number": 1, "by": 2}
    with pytest.raises(UnknownKeywordError, match=r"divide takes no argument 'numbr'.* Did you mean 'number'\?"):
        launcher.run(tasks.divide, [fits, {"numbr": 1, "by": 2}])
    for function, given, options, message in (
        (tasks.divide, [{"number": 1}], {}, "divide cannot be called with number=1: missing a required argument: 'by'"),
        (tasks.divide, [3], {}, "a task is a mapping of keyword arguments, not 3"),
        ("divide", [], {}, "the function of a launcher must be callable, not 'divide'"),
        (tasks.divide, [], {"retries": -1}, "retries must be a whole number of at least 0, not -1"),
        (tasks.divide, [], {"retry_exceptions": "OSError"}, "is a class of exceptions, or a tuple of them, not 'OSErr"),
    ):
        with pytest.raises(ConfigError, match=message):
            launcher.run(function, given, **options)


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_missing_package_is_named_with_its_extra(name, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each: None if each == PACKAGES[name] else find(each))
    extra = {"ray": "ray", "submitit": "slurm"}[name]
    with pytest.raises(ImportError, match=rf"pip install 'delira_nca\[{extra}\]'"):
        launcher_by_name(name, **({"folder": tmp_path} if name == "submitit" else {}))
