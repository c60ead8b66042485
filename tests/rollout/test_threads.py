"""How the number of threads adapts, with passes whose speed is given."""

import torch

from delira_nca.rollout import threads
from delira_nca.rollout.threads import ThreadCount, max_threads


def numbers(count, speed_of, passes, most):
    """Number of threads of each of some passes, which last a tenth of a second."""
    taken = []
    for _ in range(passes):
        taken.append(count.choose(most))
        count.record(taken[-1], 0.1 * speed_of(taken[-1]), 0.1)
    return taken


def quiet(number):
    return 0.95 * number


def beside_two_busy_loops(number):
    """On two cores that are shared out by thread."""
    return {1: 0.6, 2: 1.0}[number]


def limited_to_one_core(number):
    """By the scheduler, and not by a quota that could be read."""
    return 1.0


def test_all_threads_work_on_a_quiet_machine_without_trials():
    assert set(numbers(ThreadCount(), quiet, 500, most=4)) == {4}


def test_all_threads_work_where_they_get_more_time_together_and_trials_become_rare():
    taken = numbers(ThreadCount(), beside_two_busy_loops, 2000, most=2)
    assert taken[:16] == [2] * 16
    assert 1 in taken
    assert taken[-1000:].count(1) < 30


def test_one_thread_works_where_two_get_no_more_time():
    taken = numbers(ThreadCount(), limited_to_one_core, 500, most=2)
    assert taken.index(1) == 16
    assert taken[100:].count(2) < 40


def test_threads_come_back_when_the_machine_becomes_quiet():
    count = ThreadCount()
    assert numbers(count, limited_to_one_core, 2000, most=8)[-1] == 1
    assert numbers(count, quiet, 400, most=8)[-1] == 8


def test_the_number_never_exceeds_what_is_allowed_now():
    count = ThreadCount()
    for most in (8, 3, 1, 5, 2):
        assert all(1 <= number <= most for number in numbers(count, limited_to_one_core, 60, most))


def test_passes_that_say_nothing_change_nothing():
    count = ThreadCount()
    for _ in range(100):
        assert count.choose(4) == 4
        count.record(4, 0.0, 0.1)  # no clock
        count.record(4, 0.0001, 0.001)  # too short
        count.record(2, 0.01, 0.1)  # of another number


def test_there_are_at_most_as_many_threads_as_torch_and_the_machine_allow(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for cores, expected in ((1, 1), (3, 3), (16, 4)):
        monkeypatch.setattr(threads, "usable_cores", lambda cores=cores: cores)
        assert max_threads() == expected
