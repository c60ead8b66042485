"""One writer per folder, also after kills."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from delira_nca.errors import RunLockedError, UnwritableError
from delira_nca.io import RunLock, run_lock, sweep
from delira_nca.io.process import birth

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
needs_birth = pytest.mark.skipif(birth(os.getpid()) is None, reason="does not tell when a process began")

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
    assert list(folder.iterdir()) == [], list(folder.iterdir())
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


def write_lock(path, **changes):
    content = {"pid": os.getpid(), "host": run_lock.socket.gethostname(), "birth": birth(os.getpid())}
    content |= {"token": "abc", "time": "2026-01-01T00:00:00+00:00", **changes}
    path.write_text(json.dumps(content))


def test_a_folder_is_held_within_the_block_and_free_after_it(tmp_path):
    folder = tmp_path / "new" / "run"
    lock = RunLock(folder)
    assert not lock.is_held
    with lock as entered:
        assert entered is lock
        assert lock.is_held
        assert os.listdir(folder) == ["run.lock"]
        found = json.loads(lock.path.read_text())
        assert (found["pid"], found["host"]) == (os.getpid(), run_lock.socket.gethostname())
        assert found["birth"] == birth(os.getpid())
    assert not lock.is_held
    assert os.listdir(folder) == []
    with lock:
        assert lock.is_held


def test_it_is_released_after_an_error_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunLock(tmp_path):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_folder_that_a_living_process_holds_is_refused_until_it_ends(tmp_path, holder):
    with pytest.raises(RunLockedError) as raised:
        RunLock(tmp_path).__enter__()
    assert str(raised.value).startswith(
        f"{tmp_path} is held by process {holder.pid} on {run_lock.socket.gethostname()}"
    )
    assert os.listdir(tmp_path) == ["run.lock"]
    holder.communicate("go on\n")
    with RunLock(tmp_path):
        assert os.listdir(tmp_path) == ["run.lock"]


def test_a_folder_that_this_process_holds_is_refused(tmp_path):
    with RunLock(tmp_path) as lock:
        for again in (lock, RunLock(tmp_path)):
            with pytest.raises(RunLockedError, match="already"):
                again.__enter__()
        assert lock.is_held
        assert lock.path.exists()


@pytest.mark.skipif(os.name == "nt", reason="has no signals")
def test_what_a_killed_process_left_is_taken_over_though_nobody_has_waited_for_it(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    while os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT) is None:
        time.sleep(0.01)
    with RunLock(tmp_path) as lock:
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()
        assert os.listdir(tmp_path) == ["run.lock"]
    assert os.listdir(tmp_path) == []


@needs_fork
@pytest.mark.parametrize(("trials", "takers"), [(300, 2), (100, 5)])
def test_of_processes_that_take_over_at_the_same_moment_exactly_one_wins(tmp_path, trials, takers):
    assert run(RACE, tmp_path, trials, takers) == [str(trials), "1", "1"]


@needs_fork
def test_a_forked_child_neither_holds_nor_releases_the_lock(tmp_path):
    assert run(FORK, tmp_path) == ["7", "True", "True"]
    assert os.listdir(tmp_path) == []


@needs_birth
def test_a_lock_of_an_earlier_process_of_the_same_number_is_taken_over(tmp_path):
    for pid in (os.getpid(), os.getppid()):
        write_lock(tmp_path / "run.lock", pid=pid, birth="earlier:123")
        with RunLock(tmp_path) as lock:
            assert lock.is_held


def test_a_lock_that_does_not_tell_the_birth_of_a_living_process_is_refused(tmp_path):
    write_lock(tmp_path / "run.lock", pid=os.getppid(), birth=None)
    with pytest.raises(RunLockedError, match=f"held by process {os.getppid()}"):
        RunLock(tmp_path).__enter__()


def test_a_lock_of_another_machine_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "run.lock"
    write_lock(path, host="elsewhere", pid=2**22 + 1)
    with pytest.raises(RunLockedError) as raised:
        RunLock(tmp_path).__enter__()
    assert f"held by process {2**22 + 1} on elsewhere" in str(raised.value)
    assert str(raised.value).endswith(f"If that process is gone, remove {path}")
    assert os.listdir(tmp_path) == ["run.lock"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\xff\0", '{"pid": true}'])
def test_a_lock_that_says_nothing_is_respected_for_a_while_only(tmp_path, content):
    path = tmp_path / "run.lock"
    path.write_text(content)
    with pytest.raises(RunLockedError, match="does not say whose it is"):
        RunLock(tmp_path).__enter__()
    os.utime(path, (time.time() - 11,) * 2)
    with RunLock(tmp_path):
        assert os.listdir(tmp_path) == ["run.lock"]
    assert os.listdir(tmp_path) == []


def test_a_lock_with_a_token_that_is_a_path_is_not_followed(tmp_path):
    path = tmp_path / "run" / "run.lock"
    path.parent.mkdir()
    write_lock(path, pid=2**30, token="/../../x")
    os.utime(path, (time.time() - 11,) * 2)
    with RunLock(path.parent):
        assert os.listdir(path.parent) == ["run.lock"]
    assert os.listdir(tmp_path) == ["run"]


def test_a_process_that_was_killed_while_it_took_over_hinders_nobody(tmp_path):
    write_lock(tmp_path / "run.lock", pid=2**30, token="a")
    write_lock(tmp_path / "run.lock.a", pid=2**30, token="b")
    write_lock(tmp_path / "run.lock.a.b", pid=2**30, token="c")
    write_lock(tmp_path / "run.lock.of-a-lock-long-gone", pid=2**30, token="d")
    write_lock(tmp_path / f".run.lock.x.{2**30}.tmp")
    with RunLock(tmp_path):
        sweep(tmp_path)
        assert os.listdir(tmp_path) == ["run.lock"]


@pytest.mark.parametrize("released", [False, True])
def test_who_found_an_old_lock_does_not_take_the_one_that_replaced_it_meanwhile(tmp_path, monkeypatch, released):
    """The second of two is stopped just after it saw that the lock is old, until the first has taken over."""
    path = tmp_path / "run.lock"
    write_lock(path, pid=2**30, token="old")
    is_gone, first = run_lock._Holder.is_gone, RunLock(tmp_path)

    def meanwhile(self):
        monkeypatch.setattr(run_lock._Holder, "is_gone", is_gone)
        assert is_gone(self)
        first.__enter__()
        if released:
            first.__exit__(None, None, None)
        return True

    monkeypatch.setattr(run_lock._Holder, "is_gone", meanwhile)
    second = RunLock(tmp_path)
    if released:
        second.__enter__()
        assert (first.is_held, second.is_held) == (False, True)
    else:
        with pytest.raises(RunLockedError):
            second.__enter__()
        assert (first.is_held, second.is_held) == (True, False)
    assert os.listdir(tmp_path) == ["run.lock"]


def test_a_file_system_without_links_has_locks_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *paths: os.open(tmp_path, os.O_WRONLY))  # an OSError
    winners = []

    def take(lock):
        with contextlib.suppress(RunLockedError):
            winners.append(lock.__enter__())

    for _ in range(50):
        threads = [threading.Thread(target=take, args=(RunLock(tmp_path),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1
        assert os.listdir(tmp_path) == ["run.lock"]
        winners.pop().__exit__(None, None, None)
    assert os.listdir(tmp_path) == []


def test_a_lock_that_somebody_removed_and_another_took_is_not_released(tmp_path):
    with RunLock(tmp_path) as lock:
        lock.path.unlink()
        write_lock(lock.path, host="elsewhere")
    assert json.loads(lock.path.read_text())["host"] == "elsewhere"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableError, match="file' cannot be a folder"), RunLock(tmp_path / "file"):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(run_lock, "_write", refuse)
    with pytest.raises(UnwritableError, match=r"run\.lock': Read-only file system"), RunLock(tmp_path):
        pass
