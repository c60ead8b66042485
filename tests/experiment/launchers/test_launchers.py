"""What holds for every launcher, and tasks in this process."""

import importlib.util
import logging
import pickle

import pytest
import torch

from delira_nca.errors import ConfigError, UnknownKeywordError, UnknownNameError
from delira_nca.experiment.launchers import (
    LAUNCHERS,
    Launcher,
    LaunchError,
    Outcome,
    ProcessDiedError,
    ProcessPoolLauncher,
    SerialLauncher,
    SubmititLauncher,
    launcher_by_name,
    values,
)
from delira_nca.machine import usable_cores
from delira_nca.training.interruption import Terminated
from delira_nca.workers import WorkerError

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


def failed(task, error):
    return Outcome(task, None, error, 1, 0.1)


def test_every_task_that_failed_is_named_with_its_arguments():
    outcomes = [
        failed({"seed": 1}, ValueError("no room")),
        Outcome({"seed": 2}, 3, None, 1, 0.1),
        failed({"seed": 3, "name": "x" * 1000}, OSError("no disk")),
    ]
    with pytest.raises(LaunchError) as info:
        values(outcomes)
    first, second, third = str(info.value).splitlines()
    assert first == "2 of 3 tasks failed:"
    assert second == "  seed=1: ValueError: no room"
    assert third.startswith("  seed=3, name='xxx")
    assert third.endswith("xxx': OSError: no disk")
    assert len(third) < 200
    assert [outcome.task["seed"] for outcome in info.value.failed] == [1, 3]


def test_an_exception_or_a_result_that_cannot_travel_is_told_in_words_and_a_task_that_exits_has_failed(tasks):
    (outcome,) = SerialLauncher().run(tasks.raise_odd, [{}])
    assert isinstance(outcome.error, WorkerError)
    assert str(outcome.error) == "OddError: one"
    assert 'raise OddError("one", "two")' in str(outcome.error.__cause__)
    (outcome,) = SerialLauncher().run(tasks.return_a_marker, [{}])
    assert isinstance(outcome.error, ConfigError)
    marker = "the result, of type Marker, cannot be sent back (a marker stays here): return plain values"
    assert str(outcome.error) == marker
    (outcome,) = SerialLauncher().run(tasks.leave, [{"code": 2}])
    assert str(outcome.error) == "SystemExit: 2"


def terminate():
    raise Terminated("SIGTERM")


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(("function", "error"), [(terminate, Terminated), (interrupt, KeyboardInterrupt)])
def test_what_ends_the_program_ends_the_run(function, error):
    with pytest.raises(error):
        SerialLauncher().run(function, [{}])


def test_an_exception_is_final_unless_its_class_is_named(tasks, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (outcome,) = SerialLauncher().run(tasks.fail_once, [{"folder": str(tmp_path / "a")}])
    assert (type(outcome.error), outcome.attempts) == (ConnectionError, 1)
    (outcome,) = SerialLauncher().run(tasks.fail_once, [{"folder": str(tmp_path / "b")}], retry_exceptions=OSError)
    assert (outcome.value, outcome.attempts) == ("done", 2)
    (outcome,) = SerialLauncher().run(
        tasks.divide, [{"number": 1, "by": 0}], retries=3, retry_exceptions=ArithmeticError
    )
    assert (type(outcome.error), outcome.attempts) == (ZeroDivisionError, 4)


def test_threads_are_as_before_afterwards(tasks):
    before = torch.get_num_threads()
    (outcome,) = SerialLauncher(threads=before + 1).run(tasks.train, [{"seed": 0}])
    assert outcome.value["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_each_task_leaves_a_line_in_the_log(tasks, caplog):
    caplog.set_level(logging.INFO, "delira_nca")
    SerialLauncher().run(tasks.divide, [{"number": 1, "by": 2}, {"number": 1, "by": 0}])
    done, error = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert done == ("INFO", "1 of 2 tasks done: number=1, by=2, in 0.0 s")
    assert error == (
        "ERROR",
        "2 of 2 tasks done, this one failed: number=1, by=0: ZeroDivisionError: division by zero",
    )


def test_launchers_have_names():
    assert isinstance(launcher_by_name("serial", threads=2), SerialLauncher)
    assert launcher_by_name("serial", threads=2).threads == 2
    with pytest.raises(
        UnknownNameError, match=r"unknown launcher 'slurm'\. Known: 'pool', 'ray', 'serial', 'submitit'"
    ):
        launcher_by_name("slurm")
    with pytest.raises(UnknownKeywordError, match=r"takes no argument 'num_worker'.* Did you mean 'num_workers'\?"):
        launcher_by_name("pool", num_worker=2)
    with pytest.raises(ConfigError, match="SubmititLauncher: missing a required argument: 'folder'"):
        launcher_by_name("submitit")
    assert SubmititLauncher.__name__ == "SubmititLauncher"


@pytest.mark.parametrize("name", ["num_workers", "threads"])
def test_workers_and_their_threads_fill_the_machine_and_numbers_that_cannot_work_are_refused(name):
    assert ProcessPoolLauncher().num_workers == usable_cores()
    assert ProcessPoolLauncher(threads=2 * usable_cores()).num_workers == 1
    assert ProcessPoolLauncher(7, threads=2).num_workers == 7
    for value in (0, -1, 1.5, True, "2"):
        with pytest.raises(ConfigError, match=rf"{name} must be a whole number of at least 1, not {value!r}"):
            ProcessPoolLauncher(**{name: value})
