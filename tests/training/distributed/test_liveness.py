import time

import pytest

from delira_nca.errors import DistributedError
from delira_nca.training.distributed.group import Liveness


class Store(dict):
    """A meeting point in memory."""

    def set(self, name, value):
        self[name] = value.encode()

    def check(self, names):
        return all(name in self for name in names)

    def get(self, name):
        return self[name]


def wait_for(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


@pytest.fixture
def begin():
    """Makes signs of life of one process, and ends them."""
    made = []

    def make(store, rank=0, size=2, timeout=0.5):
        made.append(Liveness(store, rank, size, timeout))
        return made[-1]

    yield make
    for one in made:
        one.leave()


def test_who_beats_is_not_lost(begin):
    store = Store()
    first, second = begin(store, 0), begin(store, 1)
    time.sleep(1.5)
    assert first.failure is None
    assert second.failure is None
    first.check()


def test_who_falls_silent_is_lost_and_all_are_told_why(begin):
    store = Store()
    first, second, third = (begin(store, rank, 3) for rank in range(3))
    second._ended.set()  # as if it were killed
    assert wait_for(lambda: first.failure and third.failure)
    reason = "rank 1 has given no sign of life for 0.5 seconds"
    assert first.failure == third.failure == reason
    with pytest.raises(DistributedError, match=f"rank 2 has lost another process of this training: {reason}.*resume"):
        third.check()
    first.wait_for_reason(0)


def test_who_leaves_in_good_order_is_not_missed(begin):
    store = Store()
    first, second = begin(store, 0), begin(store, 1)
    second.leave()
    time.sleep(1.0)
    assert first.failure is None


def test_the_first_failure_that_is_told_counts(begin):
    store = Store()
    first, second = begin(store, 0), begin(store, 1)
    second.publish("rank 1 failed: ValueError: on purpose")
    first.publish("rank 0 failed too")
    assert first.wait_for_reason(10) == "rank 1 failed: ValueError: on purpose"


def test_a_meeting_point_that_is_gone_matters_in_a_training_only(begin):
    class Gone(Store):
        def set(self, name, value):
            raise OSError("no route to host")

    outside, inside = begin(Gone()), begin(Gone())
    inside.watch(True)
    assert wait_for(lambda: inside.failure)
    assert "no route to host" in inside.failure
    assert outside.failure is None
    inside.wait_for_reason(0)
