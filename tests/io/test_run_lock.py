"""One writer per folder, also after kills."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import filelock
import pytest

from delira_nca.errors import RunLockedError, UnwritableError
from delira_nca.io import RunLock, run_lock
from delira_nca.io.run_lock import is_locked

LEASE = "filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken=0\nduration=1.5\nstart=1\n"
needs_leases = pytest.mark.skipif(os.name == "nt", reason="has locks everywhere")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")

HOLD = """
import sys
from delira_nca.io import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""

RACE = """
import os, signal, sys, time
from pathlib import Path
from delira_nca.errors import RunLockedError
from delira_nca.io import RunLock

folder, trials, takers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid

def leave():
    RunLock(folder).__enter__()
    os.kill(os.getpid(), signal.SIGKILL)

winners = []
for trial in range(trials):
    os.waitpid(child(leave), 0)
    assert [p.name for p in folder.iterdir()] == ["run.lock"], list(folder.iterdir())
    go_read, go_write = os.pipe()
    end_read, end_write = os.pipe()
    won_read, won_write = os.pipe()

    def take():
        os.close(go_write), os.close(end_write)
        os.read(go_read, 1)
        try:
            with RunLock(folder):
                os.write(won_write, b"1")
                os.read(end_read, 1)
        except RunLockedError:
            os.write(won_write, b"0")

    pids = [child(take) for _ in range(takers)]
    os.close(go_write)
    answers = b""
    while len(answers) < takers:
        answers += os.read(won_read, takers)
    os.close(end_write)
    for pid in pids:
        os.waitpid(pid, 0)
    for end in (go_read, end_read, won_read, won_write):
        os.close(end)
    winners.append(answers.count(b"1"))
print(winners.count(1), max(winners), min(winners))
"""

FORK = """
import os, sys
from delira_nca.errors import RunLockedError
from delira_nca.io import RunLock
with RunLock(sys.argv[1]) as lock:
    pid = os.fork()
    if pid == 0:
        assert not lock.is_held
        lock.__exit__(None, None, None)
        try:
            RunLock(sys.argv[1]).__enter__()
        except RunLockedError as error:
            assert str(os.getppid()) in str(error)
            sys.exit(7)
        sys.exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), lock.path.exists(), lock.is_held)
"""


def run(script, *args):
    done = subprocess.run([sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.communicate()


@pytest.fixture
def no_kernel_locks(monkeypatch):
    """A file system that has no locks, as some network file systems are, and leases that are short."""
    monkeypatch.setattr("filelock._native._unix.lock_fd_nonblocking", refuse)
    monkeypatch.setattr(run_lock, "_LEASE", 1.5)


def refuse(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_folder_is_held_within_the_block_and_free_after_it_and_after_an_error(tmp_path):
    folder = tmp_path / "new" / "run"
    lock = RunLock(folder)
    assert not lock.is_held
    assert not is_locked(folder)
    with lock as entered:
        assert entered is lock
        assert lock.is_held
        assert is_locked(folder)
        assert os.listdir(folder) == ["run.lock"]
        found = json.loads(lock.path.read_text())
        assert (found["pid"], found["host"]) == (os.getpid(), socket.gethostname())
    assert not lock.is_held
    assert not is_locked(folder)
    with pytest.raises(KeyboardInterrupt), lock:
        raise KeyboardInterrupt
    assert not lock.is_held
    assert not is_locked(folder)


def test_a_folder_that_a_living_process_holds_is_refused_until_it_ends(tmp_path, holder):
    with pytest.raises(RunLockedError) as raised:
        RunLock(tmp_path).__enter__()
    assert str(raised.value).startswith(f"{tmp_path} is held by process {holder.pid} on {socket.gethostname()}")
    assert is_locked(tmp_path)
    holder.communicate("go on\n")
    with RunLock(tmp_path):
        assert os.listdir(tmp_path) == ["run.lock"]


def test_a_folder_that_this_process_holds_is_refused(tmp_path):
    with RunLock(tmp_path) as lock:
        for again in (lock, RunLock(tmp_path)):
            with pytest.raises(RunLockedError, match="already"):
                again.__enter__()
        assert lock.is_held


@pytest.mark.skipif(os.name == "nt", reason="has no signals")
def test_what_a_killed_process_left_is_taken_over_before_it_is_reaped(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    while os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT) is None:
        time.sleep(0.01)
    with RunLock(tmp_path) as lock:
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()


@needs_fork
@pytest.mark.parametrize(("trials", "takers"), [pytest.param(30, 2, marks=pytest.mark.slow), (10, 5)])
def test_of_processes_that_take_over_at_the_same_moment_exactly_one_wins(tmp_path, trials, takers):
    assert run(RACE, tmp_path, trials, takers) == [str(trials), "1", "1"]


@needs_fork
def test_a_forked_child_neither_holds_nor_releases_the_lock(tmp_path):
    assert run(FORK, tmp_path) == ["7", "True", "True"]


def test_a_file_that_a_process_of_any_machine_left_at_any_time_is_taken_over(tmp_path):
    path = tmp_path / "run.lock"
    for host in (socket.gethostname(), "elsewhere"):
        for age in (0, 10**6, -(10**6)):
            path.write_text(json.dumps({"pid": os.getpid(), "host": host, "time": "2026-01-01T00:00:00+00:00"}))
            os.utime(path, (time.time() - age,) * 2)
            assert not is_locked(tmp_path)
            with RunLock(tmp_path) as lock:
                assert lock.is_held, (host, age)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\xff\0", '{"pid": "x"}', "filelock/2\npid=x"])
def test_a_holder_that_does_not_say_who_it_is_is_respected(tmp_path, content):
    with RunLock(tmp_path) as lock:
        lock.path.write_text(content)
        with pytest.raises(RunLockedError, match="is held by another process"):
            RunLock(tmp_path).__enter__()


@pytest.mark.parametrize("exists", [False, True])
def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path, exists):
    target = tmp_path / "target"
    if exists:
        target.write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.lock").symlink_to(target)
    assert not is_locked(folder)
    with RunLock(folder) as lock:
        assert lock.is_held
    assert target.exists() is exists
    assert not exists or target.read_text() == "precious"


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableError, match="file' cannot be a folder"), RunLock(tmp_path / "file"):
        pass

    def refuse_to_open(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse_to_open)
    with pytest.raises(UnwritableError, match=r"run\.lock': Read-only file system"), RunLock(tmp_path):
        pass


# File systems without locks -------------------------------------------------------------------------------------------


@needs_leases
def test_without_locks_a_folder_is_leased_and_refused_as_long_as_its_holder_lives(tmp_path, no_kernel_locks):
    with RunLock(tmp_path) as lock:
        assert lock.is_held
        assert is_locked(tmp_path)
        with pytest.raises(RunLockedError, match=f"held by process {os.getpid()} on"):
            RunLock(tmp_path).__enter__()
        assert lock.is_held
    assert not is_locked(tmp_path)


@needs_leases
def test_a_lease_of_another_machine_without_a_heartbeat_is_taken_whatever_the_clocks_say(tmp_path, no_kernel_locks):
    def take(age):
        path = tmp_path / str(age) / "run.lease"
        path.parent.mkdir()
        path.write_text(LEASE)
        os.utime(path, (time.time() + age,) * 2)
        with RunLock(path.parent) as lock:
            return lock.is_held

    with ThreadPoolExecutor() as pool:  # each waits until the lease has expired
        assert list(pool.map(take, (0, 10**6, -(10**6)))) == [True] * 3


@needs_leases
def test_a_lease_that_another_process_has_taken_is_not_held_any_more(tmp_path, no_kernel_locks, caplog):
    with RunLock(tmp_path) as lock:
        lease = tmp_path / "run.lease"
        lease.unlink()
        lease.write_text(LEASE)
        deadline = time.monotonic() + 10
        while lock.is_held and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not lock.is_held
    assert f"this process has lost the folder of {lease}" in caplog.text
    assert "host=elsewhere" in lease.read_text()
