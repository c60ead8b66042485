"""Where a training hangs."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from delira_nca.training.callbacks import LambdaCallback, Watchdog
from delira_nca.training.callbacks.watchdog import EXIT_CODE, stacks


def hang_here(is_over, seconds):
    """Name that a stack must show: wait for something, but not for long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not is_over():
        time.sleep(0.01)


def _until(watchdog, number):
    """Hang until a watchdog has noticed."""
    hang_here(lambda: watchdog.num_hangs >= number, 30.0)


@pytest.fixture
def train(plain_trainer):
    """Trains with a watchdog that is given a hang in each iteration, as a rule until it notices."""

    def run(watchdog, hang=None, num_batches=1):
        hang = hang or (lambda trainer, iter_num: _until(watchdog, iter_num + 1))
        trainer = plain_trainer(callbacks=[watchdog, LambdaCallback(at_iter_begin=hang)])
        trainer.train(1, [{"data": [n]} for n in range(num_batches)])

    return run


def _watching():
    return [thread for thread in threading.enumerate() if thread.name == "watchdog"]


def test_a_hang_is_written_with_the_stack_of_every_thread(train, tmp_path, capsys):
    watchdog = Watchdog(0.2, folder=tmp_path / "run")
    other = threading.Thread(target=_until, args=(watchdog, 1), name="a worker")

    def hang(trainer, iter_num):
        if iter_num == 1:
            other.start()
            _until(watchdog, 1)
            time.sleep(0.6)

    train(watchdog, hang, num_batches=3)
    other.join()
    text = (tmp_path / "run" / "watchdog.txt").read_text()
    assert capsys.readouterr().err == text
    assert "nothing has ended for 0.2s; every thread stands here:" in text
    assert "Thread MainThread" in text
    assert "Thread a worker" in text
    assert "Thread watchdog" not in text
    assert "in test_a_hang_is_written_with_the_stack_of_every_thread" in text
    assert watchdog.num_hangs == 1  # once, however long it lasts
    assert not _watching()
    assert "in test_a_hang_is_written_with_the_stack_of_every_thread" in stacks()


def test_two_hangs_are_written_twice(train, tmp_path, capsys):
    watchdog = Watchdog(0.15, folder=tmp_path)
    train(watchdog, num_batches=2)
    assert watchdog.num_hangs == 2
    text = (tmp_path / "watchdog.txt").read_text()
    assert text.count("nothing has ended") == 2
    assert text.count("in hang_here") == 2
    assert capsys.readouterr().err == text


def test_iterations_that_are_slow_but_end_are_no_hang(train, tmp_path, capsys):
    watchdog = Watchdog(1.0, folder=tmp_path)
    train(watchdog, lambda trainer: time.sleep(0.15), num_batches=8)
    assert watchdog.num_hangs == 0
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == ""


def test_the_file_is_in_the_run_s_folder(plain_trainer, tmp_path, capsys):
    watchdog = Watchdog(0.1)
    trainer = plain_trainer(callbacks=[watchdog, LambdaCallback(at_iter_begin=lambda trainer: _until(watchdog, 1))])
    trainer.save_path = tmp_path
    trainer.train(1, [{"data": [0]}])
    assert "in hang_here" in (tmp_path / "watchdog.txt").read_text()


def test_without_a_folder_it_is_on_stderr_alone(train, capsys):
    train(Watchdog(0.1))
    assert "in hang_here" in capsys.readouterr().err


def test_each_of_several_trainers_has_its_own(train, tmp_path, capsys):
    watchdogs = [Watchdog(0.2, folder=tmp_path / "0"), Watchdog(60, folder=tmp_path / "1")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda own: train(own, lambda trainer: _until(watchdogs[0], 1)), watchdogs))
    assert [watchdog.num_hangs for watchdog in watchdogs] == [1, 0]
    assert (tmp_path / "0" / "watchdog.txt").exists()
    assert not (tmp_path / "1").exists()


def test_a_file_that_cannot_be_written_does_not_end_the_watch(train, tmp_path, capsys, caplog):
    (tmp_path / "file").write_text("")
    watchdog = Watchdog(0.1, folder=tmp_path / "file")
    train(watchdog, num_batches=2)
    assert watchdog.num_hangs == 2
    assert capsys.readouterr().err.count("in hang_here") == 2
    assert "could not write" in caplog.text


def test_a_training_that_fails_is_watched_no_longer(plain_trainer):
    with pytest.raises(KeyboardInterrupt):
        plain_trainer(callbacks=[Watchdog()]).train(1, [{"data": [0], "fails": KeyboardInterrupt()}])
    assert not _watching()


SCRIPT = """
import sys, time
from delira_nca.training.abstract_trainer import AbstractNetworkTrainer
from delira_nca.training.callbacks import Watchdog

class Hanging(AbstractNetworkTrainer):
    _setup = predict = None
    def _train_single_epoch(self, batchgen, epoch, *args):
        time.sleep(60)

try:
    Hanging(callbacks=[Watchdog("0.3s", action="exit", folder=sys.argv[1])]).train(1, [1])
finally:
    print("not reached")
"""


def test_it_may_end_the_process(tmp_path):
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == EXIT_CODE == 124
    assert time.monotonic() - begun < 45
    assert "not reached" not in done.stdout
    assert "in _train_single_epoch" in done.stderr
    assert (tmp_path / "watchdog.txt").read_text() == done.stderr
