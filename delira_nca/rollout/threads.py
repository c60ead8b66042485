"""Choice of the number of threads of native roll-outs."""

from __future__ import annotations

import torch

from delira_nca.machine import usable_cores

__all__ = ["THREAD_COUNT", "ThreadCount", "max_threads"]

_TRIAL = 4
"""Passes per trial. On a busy machine, the speed of a single pass varies too much."""
_SOONEST, _LATEST = 16, 256
"""Smallest and largest number of passes between two trials. It doubles after each trial without a change."""
_SHORTEST = 2e-3
"""Minimum duration in seconds of a pass that is measured."""


def max_threads() -> int:
    """Return ``torch.get_num_threads()``, limited by the CPU affinity and control groups of this process."""
    return min(torch.get_num_threads(), usable_cores())


class ThreadCount:
    """Adapts the number of threads to get the most processor time per second under a changing load.

    Usually that is the largest number, as the system divides its processors among threads. If it divides them among
    processes or containers, or other programs have a higher priority, more threads get no more time and wait for each
    other. When the threads get less than 60 % of a processor each, half of them are therefore tried for a few passes
    from time to time; when fewer than allowed are used, twice as many. The number does not change any bit of a result.

    The speed of a pass is the processor time of its threads per second.
    """

    def __init__(self) -> None:
        self._number, self._speed = 0, 0.0  # 0: not chosen yet; speed averaged over about 8 passes, 0: not known yet
        self._tried, self._trial = 0, list[float]()  # number on trial, 0 for none, and its speeds
        self._passes, self._interval, self._num_trials = 0, _SOONEST, 0

    def choose(self, most: int) -> int:
        """Return the number of threads for the next pass, from 1 to ``most``."""
        if not 0 < self._number <= most:
            self._settle(most)
        if not self._tried and self._passes >= self._interval:
            self._begin_trial(most)
        return min(self._tried or self._number, most)

    def record(self, threads: int, cpu: float, wall: float) -> None:
        """Record a pass.

        Parameters
        ----------
        threads : int
            Number of threads.
        cpu : float
            Processor time of all threads in seconds; 0 if unknown.
        wall : float
            Duration of the pass in seconds.
        """
        if cpu <= 0 or wall < _SHORTEST:
            return
        speed = cpu / wall
        if threads == self._tried:
            self._trial.append(speed)
            if len(self._trial) >= _TRIAL:
                self._end_trial()
        elif threads == self._number:
            self._speed += (speed - self._speed) / (8 if self._speed else 1)
            self._passes += 1

    def _begin_trial(self, most: int) -> None:
        fewer = [self._number // 2] if self._number > 1 and self._speed < 0.6 * self._number else []
        more = [min(2 * self._number, most)] if self._number < most else []
        if numbers := fewer + more:
            self._tried = numbers[self._num_trials % len(numbers)]
        self._passes, self._trial, self._num_trials = 0, [], self._num_trials + 1

    def _end_trial(self) -> None:
        speed, factor = sum(self._trial) / len(self._trial), 1.1 if self._tried > self._number else 0.95
        if speed > factor * self._speed:  # at equal speed, fewer threads are better, as they wait less
            self._settle(self._tried, speed)
        else:
            self._tried, self._interval = 0, min(2 * self._interval, _LATEST)

    def _settle(self, number: int, speed: float = 0.0) -> None:
        self._number, self._speed, self._tried = number, speed, 0
        self._passes, self._interval, self._num_trials = 0, _SOONEST, 0


THREAD_COUNT = ThreadCount()
"""Thread count of this process."""
