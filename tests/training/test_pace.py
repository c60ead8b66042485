import math

import pytest

from delira_nca.errors import ConfigError
from delira_nca.training.callbacks.reporting import Pace


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("took", "due"), [(0.0, 5.0), (0.05, 5.0), (0.2, 10.0)])
def test_a_job_is_due_after_a_while_that_its_own_time_lengthens(took, due):
    clock = Clock()
    pace = Pace(5.0, share=0.02, clock=clock)
    assert pace.is_due()
    with pace.job():
        clock.now += took
    clock.now = 100.0 + due - 0.01
    assert not pace.is_due()
    clock.now = 100.0 + due + 0.01
    assert pace.is_due()


def test_a_job_that_fails_is_not_due_at_once():
    clock = Clock()
    pace = Pace(5.0, clock=clock)
    with pytest.raises(KeyError), pace.job():
        raise KeyError
    assert not pace.is_due()


@pytest.mark.parametrize("every", [-1.0, math.inf, math.nan])
def test_the_interval_is_a_time(every):
    with pytest.raises(ConfigError, match="every must be"):
        Pace(every)


@pytest.mark.parametrize("share", [0.0, 1.5, math.nan])
def test_the_share_is_a_part_of_the_time(share):
    with pytest.raises(ConfigError, match="share must be"):
        Pace(1.0, share=share)
