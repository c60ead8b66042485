"""The numbers of a run in one file: what is written is read, once, in order, whoever else writes or is killed."""

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from delira_nca.errors import ConfigError, MissingFileError, RunLockedError, StoreError
from delira_nca.experiment.database import SCHEMA_VERSION, StatsDatabase
from delira_nca.experiment.stats import (
    Criterion,
    EvaluationScores,
    TrainingIterationStats,
    ValidationIterationScores,
    ValidationScores,
)


@pytest.fixture
def database(tmp_path):
    return StatsDatabase(tmp_path / "run" / "stats.sqlite")


def record(iteration, loss=0.5, **values):
    return TrainingIterationStats(iteration, loss, 0.01, values)


def iterations_of(database):
    return [stats.iteration for stats in database.training_stats().iteration_stats]


DICE = Criterion("dice", True, (0, 1))


def scores_of(*rows, criteria=(DICE,), datasets=("liver",), parameters=({},)):
    return ValidationScores(
        parameters, datasets, EvaluationScores(criteria), [ValidationIterationScores(i, table) for i, table in rows]
    )


def test_what_is_recorded_is_read_nan_and_infinities_too(database):
    given = [
        TrainingIterationStats(0, 0.1 + 0.2, 1e-9, {"mse": math.inf, "überlauf": -math.inf}),
        TrainingIterationStats(1, math.nan, values={"mse": math.nan, "tiny": 5e-324}),
        TrainingIterationStats(2**63 - 1, 0.0, 3.0),
    ]
    assert database.add_training(given) == 3
    assert database.training_stats().iteration_stats == given
    assert database.trained_until() == 2**63


def test_a_database_that_nobody_wrote_is_empty_and_is_not_made_by_reading(database):
    assert database.training_stats().iteration_stats == []
    assert database.validation_scores() is None
    assert (database.trained_until(), database.validated_until(), database.kept_weights()) == (0, 0, {})
    assert not database.path.parent.exists()


def test_a_record_is_never_there_twice_and_records_may_come_in_any_order(database):
    given = [record(i, mse=i) for i in range(2, 1300)]
    assert (database.add_training(given), database.add_training(given)) == (1298, 0)
    assert database.add_training([record(1301), record(1299, mse=1299), record(1300), record(1300), record(0)]) == 3
    assert database.add_training([record(1)]) == 1
    assert iterations_of(database) == list(range(1302))


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (TrainingIterationStats(2, 0.75, 0.01, {"mse": 2.0}), "loss=0.5, not 0.75"),
        (TrainingIterationStats(2, 0.5, 0.02, {"mse": 2.0}), "time=0.01, not 0.02"),
        (TrainingIterationStats(2, 0.5, 0.01, {"mse": math.nan}), "mse=2.0, not nan"),
        (TrainingIterationStats(2, 0.5, 0.01), "mse=2.0, not None"),
        (TrainingIterationStats(2, 0.5, 0.01, {"mse": 2.0, "dice": 1.0}), "dice=None, not 1.0"),
    ],
)
def test_another_record_of_the_same_iteration_is_refused_with_all_that_came_with_it(database, other, difference):
    database.add_training([record(i, mse=i) for i in range(4)])
    with pytest.raises(ConfigError, match=f"iteration 2 is recorded already, with {difference}: delete_after"):
        database.add_training([record(4), other])
    assert iterations_of(database) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="iteration 5 is recorded already"):
        database.add_training([record(5, 0.5), record(5, 0.25)])
    assert iterations_of(database) == [0, 1, 2, 3]


def test_deleting_keeps_the_iterations_below(database):
    database.add_training([record(i, mse=i) for i in range(5)])
    database.add_validation(scores_of((1, [[[0.1]]]), (3, [[[0.3]]])), weights={"dice": "weights_3.safetensors"})
    assert database.delete_after(3) == (2, 1)
    assert iterations_of(database) == [0, 1, 2]
    assert [s.iteration for s in database.validation_scores().scores] == [1]
    assert database.kept_weights() == {}
    assert database.delete_after(3) == (0, 0)
    database.add_training([TrainingIterationStats(3, 9.0)])
    assert database.training_stats().iteration_stats[3] == TrainingIterationStats(3, 9.0)  # no value is left over
    database.add_validation(scores_of((3, [[[0.3]]])))
    assert database.delete_after(4, validation=3) == (0, 1)
    for bad in (-1, 2.0, True, None):
        with pytest.raises(ConfigError, match="iteration must be a whole number of at least 0"):
            database.delete_after(bad)


def test_only_records_are_recorded(database):
    with pytest.raises(ConfigError, match="must be of type TrainingIterationStats, not tuple"):
        database.add_training([(0, 0.5)])
    with pytest.raises(ConfigError, match="must be of type ValidationScores, not list"):
        database.add_validation([0.5])
    with pytest.raises(ConfigError, match="busy_seconds must be a number above 0, not 0"):
        StatsDatabase(database.path, busy_seconds=0)
    assert not database.path.exists()
    with pytest.raises(ConfigError, match="at least one data set"):
        database.add_validation(scores_of(datasets=()))


# Validation -----------------------------------------------------------------------------------------------------------

CRITERIA = (Criterion("dice", True, (0, 1)), Criterion("hausdorff", False, (0, math.inf), store_best=False))


def full_scores(*rows):
    parameters = [{"threshold": 0.5, "steps": 64, "name": None}, {"threshold": 0.25}]
    return scores_of(*rows, criteria=CRITERIA, datasets=("liver", "spleen"), parameters=parameters)


def test_scores_are_read_with_their_parameters_datasets_and_directions(database):
    table = [[[0.5, math.inf], [math.nan, 2.0]], [[0.25, 1.0], [0.125, -math.inf]]]
    given = full_scores((9, table), (19, table))
    assert database.add_validation(given) == 2
    read = database.validation_scores()
    assert read == given
    assert read.evaluation_scores.bounds("hausdorff") == (0.0, math.inf)
    assert read.evaluation_scores.store_best("hausdorff") is False
    assert database.validated_until() == 20
    assert database.add_validation(given) == 0
    other = [[[0.5, 1.5], [math.nan, 2.0]], table[1]]
    with pytest.raises(ConfigError, match="validation of iteration 9 is recorded already, with other scores"):
        database.add_validation(full_scores((9, other), (10, table)))
    assert database.validation_scores() == given


def test_parameters_may_be_identifiers(database):
    given = scores_of((0, [[[0.5], [0.75]]]), parameters=[127, "otsu"])
    database.add_validation(given)
    assert database.validation_scores().parameters == [127, "otsu"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"datasets": ("spleen",)}, "another datasets: \\['liver'\\] there, \\['spleen'\\] here"),
        ({"parameters": ({"threshold": 0.5},)}, "another parameters"),
        ({"criteria": (Criterion("dice", False, (0, 1)),)}, "another criterion 'dice'"),
    ],
)
def test_scores_of_something_else_are_refused(database, other, message):
    database.add_validation(scores_of((0, [[[0.5]]])))
    with pytest.raises(ConfigError, match=message):
        database.add_validation(scores_of((1, [[[0.5]]]), **other))
    database.delete_after(0)
    assert database.add_validation(scores_of((1, [[[0.5]]]), **other)) == 1  # nothing is there any more


def test_a_criterion_may_join_and_earlier_validations_have_nan_for_it(database):
    dice, mse, loss = (Criterion(name, name == "dice") for name in ("dice", "mse", "loss"))
    database.add_validation(scores_of((0, [[[0.5, 4.0]]]), criteria=(dice, mse)))
    database.add_validation(scores_of((1, [[[3.0, 0.25]]]), criteria=(mse, loss)))
    assert database.add_validation(scores_of((1, [[[0.25, 3.0]]]), criteria=(loss, mse))) == 0
    read = database.validation_scores()
    assert read.criteria == ["dice", "mse", "loss"]
    assert [row.scores for row in read.scores] == [[[[0.5, 4.0, math.nan]]], [[[math.nan, 3.0, 0.25]]]]


def test_of_each_criterion_the_files_of_its_two_newest_records_are_remembered(database):
    for i in range(4):
        kept = {"dice": f"weights_{i}.safetensors"} | ({"loss": "weights_0.safetensors"} if i == 0 else {})
        database.add_validation(scores_of((i, [[[i / 4]]])), weights=kept)
    assert database.kept_weights() == {
        ("dice", 2): "weights_2.safetensors",
        ("dice", 3): "weights_3.safetensors",
        ("loss", 0): "weights_0.safetensors",
    }


# The file -------------------------------------------------------------------------------------------------------------


def test_the_file_has_a_version_a_log_and_its_directions_in_plain_tables(database):
    database.add_training([record(0, mse=0.25)])
    database.add_validation(scores_of((0, [[[0.5]]])))
    values = (
        "SELECT iteration, loss, value_name.name, value FROM training JOIN training_value USING (iteration) "
        "JOIN value_name ON value_name.id = training_value.name"
    )
    with contextlib.closing(sqlite3.connect(database.path)) as connection:
        for query, found in (
            ("PRAGMA user_version", (SCHEMA_VERSION,)),
            ("PRAGMA journal_mode", ("wal",)),
            ("SELECT name, higher_is_better FROM criterion", ("dice", 1)),
            (values, (0, 0.5, "mse", 0.25)),
        ):
            assert connection.execute(query).fetchall() == [found], query


def test_a_later_version_is_refused(database):
    database.create()
    with contextlib.closing(sqlite3.connect(database.path)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(ConfigError, match=f"tables of version {SCHEMA_VERSION + 1}, .* knows them up to"):
        database.training_stats()
    with pytest.raises(ConfigError, match="tables of version"):
        database.add_training([record(0)])


def test_files_of_somebody_else_are_left_alone(database):
    database.path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(database.path)) as connection:
        connection.execute("CREATE TABLE training (iteration)")
        connection.commit()
    before = database.path.read_bytes()
    for call in (database.training_stats, lambda: database.add_training([record(0)])):
        with pytest.raises(MissingFileError, match="is a database, but not the statistics of a run"):
            call()
    assert database.path.read_bytes() == before
    database.path.write_text("not a database " * 100)
    with pytest.raises(MissingFileError, match="stats.sqlite is not the statistics of a run, or damaged"):
        database.training_stats()
    database.path.unlink()
    database.path.mkdir()
    with pytest.raises(StoreError, match="cannot write .*stats.sqlite"):
        database.add_training([record(0)])


def test_an_empty_file_is_an_empty_database(database):
    database.path.parent.mkdir()
    database.path.touch()
    assert database.training_stats().iteration_stats == []
    database.add_training([record(0)])
    assert iterations_of(database) == [0]


def test_a_reader_is_not_kept_waiting_and_sees_what_was_there(database):
    database.add_training([record(0)])
    with database._file.writing() as connection:
        connection.execute("INSERT INTO training VALUES (1, 0.5, 0.5)")
        assert iterations_of(StatsDatabase(database.path, busy_seconds=0.1)) == [0]
    assert iterations_of(database) == [0, 1]


def test_a_writer_waits_its_turn_and_says_so_if_it_never_comes(database):
    database.create()
    with database._file.writing():
        impatient = StatsDatabase(database.path, busy_seconds=0.05)
        with pytest.raises(RunLockedError, match=r"cannot write .*: another process has kept it for 0.05 seconds"):
            impatient.add_training([record(0)])
    assert impatient.add_training([record(0)]) == 1


def test_a_database_that_is_held_open_serves_other_threads_too_and_an_error_leaves_nothing(database):
    with database:
        database.add_training([record(0)])
        thread = threading.Thread(target=database.add_training, args=([record(1)],))
        thread.start()
        thread.join()
        assert iterations_of(database) == [0, 1]
        with pytest.raises(ConfigError, match="held open already"):
            database.__enter__()
        with contextlib.suppress(ZeroDivisionError), database._file.writing() as connection:
            connection.execute("INSERT INTO training VALUES (2, 0.5, 0.5)")
            raise ZeroDivisionError
        assert iterations_of(database) == [0, 1]
    assert sorted(p.name for p in database.path.parent.iterdir()) == ["stats.sqlite"]


def test_what_cannot_be_written_to_is_read_where_no_log_is_open(database, monkeypatch):
    database.add_training([record(0)])
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert iterations_of(database) == [0]
    assert [p.name for p in database.path.parent.iterdir()] == ["stats.sqlite"]


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
