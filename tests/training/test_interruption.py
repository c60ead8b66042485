"""Signals that come in the middle of a training: real processes, real signals."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from delira_nca.io import load_checkpoint
from delira_nca.training.callbacks import LambdaCallback
from delira_nca.training.interruption import Interruption, Terminated, requeue_on_slurm

SCRIPT = Path(__file__).with_name("interrupted_run.py")


def start(folder, **options):
    """Process that trains, and tells every iteration that it has done."""
    command = [sys.executable, str(SCRIPT), str(folder), *(f"{name}={value}" for name, value in options.items())]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process, line):
    while (read := process.stdout.readline()).strip() != line:
        assert read, process.stderr.read()


def end(process):
    try:
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out.split("\n"), error


def run(folder, at, number, again=None, **options):
    """Exit code, lines and errors of a process that gets a signal in a step, and once more if it is to hang there."""
    process = start(folder, wait=at, **options)
    wait_for(process, f"inside {at}")
    process.send_signal(number)
    if again:
        wait_for(process, "still inside")
        process.send_signal(again)
    return end(process)


CTRL_C = signal.SIGINT


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGUSR1", marks=pytest.mark.slow)])
def test_a_request_to_end_saves_at_the_next_step_and_ends_with_143(name, tmp_path):
    code, out, error = run(tmp_path, 5, getattr(signal, name))
    assert code == 143, error
    assert out == ["done 5", f"exception Terminated: the training was ended by {name}", "end", "cleaned up", ""]
    state = load_checkpoint(tmp_path / "checkpoint_epoch_2_iter_2.safetensors")
    assert (state["epoch"], state["iteration"], state["global_iter_num"]) == (1, 2, 5)


def test_ctrl_c_finishes_the_step_saves_and_raises(tmp_path):
    code, out, error = run(tmp_path, 4, CTRL_C)
    assert code in (130, -CTRL_C)
    assert "KeyboardInterrupt" in error
    assert out == ["done 4", "exception KeyboardInterrupt: ", "end", "cleaned up", ""]
    assert load_checkpoint(tmp_path / "checkpoint_epoch_2_iter_1.safetensors")["global_iter_num"] == 4


@pytest.mark.slow
def test_ctrl_c_may_return_instead(tmp_path):
    code, out, error = run(tmp_path, 4, CTRL_C, on_interrupt="return")
    assert code == 0, error
    assert out == ["done 4", "end", "returned signal SIGINT", "cleaned up", ""]


@pytest.mark.slow
def test_a_second_ctrl_c_ends_within_the_step(tmp_path):
    code, out, _ = run(tmp_path, 4, CTRL_C, again=CTRL_C, hang="yes")
    assert code in (130, -CTRL_C)
    assert "done 4" not in out
    assert "exception KeyboardInterrupt: " in out
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["checkpoint_epoch_1.safetensors"]


@pytest.mark.slow
def test_the_job_is_requeued_after_its_state_is_saved(tmp_path):
    code, out, _ = run(tmp_path, 5, signal.SIGUSR1, requeue="yes")
    assert code == 143
    assert out[-4:-2] == ["end", "requeued with checkpoint_epoch_2_iter_2.safetensors"]


def test_handlers_are_back_after_the_training_and_a_program_s_own_are_left_alone(make_trainer, batches):
    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]

    def look(trainer):
        seen.append(signal.getsignal(signal.SIGTERM))
        os.kill(os.getpid(), signal.SIGUSR1)

    mine, seen = [], []
    former = signal.signal(signal.SIGUSR1, lambda *_: mine.append("SIGUSR1"))
    try:
        before, trainer = handlers(), make_trainer(callbacks=[LambdaCallback(at_iter_end=look)])
        trainer.train(1, batches(2))
        assert seen[0] not in before
        assert mine == ["SIGUSR1"] * trainer.global_iter_num
        assert handlers() == before
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_a_thread_that_may_set_no_handlers_trains_without_them(make_trainer, batches):
    trainer = make_trainer()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(trainer.train, 1, batches(2)).result()
    assert trainer.global_iter_num > 0


def test_termination_is_no_exception_that_handlers_of_errors_catch():
    assert not issubclass(Terminated, Exception)
    assert Terminated("SIGTERM").code == 143
    assert Interruption(print).received is None


def test_requeueing_calls_scontrol_with_the_job(tmp_path, monkeypatch):
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    requeue_on_slurm()
    assert not (tmp_path / "called").exists()
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    requeue_on_slurm()
    assert (tmp_path / "called").read_text() == "requeue 4711\n"
