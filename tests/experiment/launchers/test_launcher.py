"""What is told of tasks, launchers by name, and one task after another in this process."""

import logging

import pytest
import torch

from delira_nca.errors import ConfigError, UnknownKeywordError, UnknownNameError
from delira_nca.experiment.launchers import (
    LaunchError,
    Outcome,
    ProcessPoolLauncher,
    SerialLauncher,
    SubmititLauncher,
    launcher_by_name,
    values,
)
from delira_nca.machine import usable_cores
from delira_nca.training.interruption import Terminated
from delira_nca.workers import WorkerError


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
