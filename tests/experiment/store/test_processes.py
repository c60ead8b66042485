"""Several processes write the numbers of one run; some are killed."""

import os
import signal
import subprocess
import sys

import pytest

from delira_nca.experiment.database import StatsDatabase
from delira_nca.experiment.stats import TrainingIterationStats

APPEND = """
import sys
from delira_nca.experiment.stats import TrainingIterationStats
from delira_nca.experiment.database import StatsDatabase

path, first, step, count, chunk = sys.argv[1], *map(int, sys.argv[2:])
database = StatsDatabase(path)
print("ready", flush=True)
sys.stdin.readline()
for begin in range(first, step * count, step * chunk):
    numbers = range(begin, min(begin + step * chunk, step * count), step)
    database.add_training([TrainingIterationStats(i, 0.5 * i, 0.01, {"mse": float(i)}) for i in numbers])
    print(len(numbers), flush=True)
"""

needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="has no kill that cannot be caught")


def appender(path, first, step, count, chunk):
    command = [sys.executable, "-c", APPEND, str(path), *map(str, (first, step, count, chunk))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def start(*processes):
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def finish(process):
    process.stdin.close()
    process.stdout.close()
    return process.wait(timeout=60)


def test_two_processes_that_append_at_once_lose_nothing(tmp_path):
    path, count = tmp_path / "stats.sqlite", 400
    processes = [appender(path, first, 2, count, 5) for first in (0, 1)]  # the file is not there yet
    start(*processes)
    numbers = [sum(map(int, process.stdout)) for process in processes]
    assert [finish(process) for process in processes] == [0, 0]
    assert numbers == [count, count]
    read = StatsDatabase(path).training_stats().iteration_stats
    assert read == [TrainingIterationStats(i, 0.5 * i, 0.01, {"mse": float(i)}) for i in range(2 * count)]


@needs_sigkill
def test_a_kill_during_a_write_leaves_every_record_that_was_written(tmp_path):
    """Each trial goes on where the one before was killed, at another moment of its transaction."""
    path, chunk, done = tmp_path / "stats.sqlite", 40, 0
    for trial in range(5):
        process = appender(path, done, 1, 100_000, chunk)
        start(process)
        told = 0
        while told <= trial * 3:
            told += int(process.stdout.readline()) // chunk
        os.kill(process.pid, signal.SIGKILL)
        told += sum(int(line) // chunk for line in process.stdout)
        assert finish(process) == -signal.SIGKILL
        read = [stats.iteration for stats in StatsDatabase(path).training_stats().iteration_stats]
        assert read == list(range(len(read)))
        assert len(read) % chunk == 0  # a transaction is there whole
        assert done + told * chunk <= len(read) <= done + (told + 1) * chunk
        done = len(read)
    assert StatsDatabase(path).add_training([TrainingIterationStats(done, 0.0)]) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
def test_a_forked_process_does_not_touch_the_connection_of_its_parent(tmp_path):
    code = """
import os, sys
from delira_nca.experiment.stats import TrainingIterationStats
from delira_nca.experiment.database import StatsDatabase

with StatsDatabase(sys.argv[1]) as database:
    database.add_training([TrainingIterationStats(0, 0.5)])
    pid = os.fork()
    if pid == 0:
        database.add_training([TrainingIterationStats(1, 0.5)])
        database.__exit__(None, None, None)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    database.add_training([TrainingIterationStats(2, 0.5)])
    print([stats.iteration for stats in database.training_stats().iteration_stats])
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "stats.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[0, 1, 2]\n", "")
