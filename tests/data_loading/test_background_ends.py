"""However the program ends: no process and no shared memory is left. Each end is that of a program of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import delira_nca
from delira_nca.io.process import is_alive

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

ROOT = Path(delira_nca.__file__).parent.parent
PROGRAM = """
import multiprocessing, os, signal, sys, time
import numpy as np
import torch  # once, and not in each of the processes
from delira_nca.data_loading.background import BackgroundProc, SharedQ

def draw(seconds=0.0):
    time.sleep(seconds)
    return np.random.rand(256, 1024)

def main(kind, method):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    given = {"dtypes": np.float64, "shapes": (256, 1024)}
    if kind == "queue":
        background = SharedQ(start_method=method)
        for seconds in (0.0, 0.0, 600.0):
            background.startproc(*given.values(), draw, (seconds,))
    else:
        given = {} if kind == "inferred" else given
        background = BackgroundProc(draw, **given, n_proc=2, start_method=method)
    background.get()
    if kind == "hanging":
        background.shutdown()
        background = BackgroundProc(draw, **given, n_proc=2, start_method=method, target_args=(600.0,))
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    print("there", flush=True)
    sys.stdin.readline()
    end = sys.stdin.readline().strip()
    if end == "raise":
        raise ValueError("the program has an error")
    if end == "wait":
        print("waits", flush=True)
        time.sleep(60)
    if end == "kill group":
        os.killpg(0, signal.SIGKILL)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def shared_memory():
    """Named segments of shared memory, of which background processes make none."""
    folder = Path("/dev/shm")
    return sorted(path.name for path in folder.glob("psm_*")) if folder.is_dir() else []


def waits_for(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def start(tmp_path):
    programs = []
    before = shared_memory()

    def run(kind="given", method="fork"):
        script = tmp_path / "program.py"
        script.write_text(PROGRAM)
        with (tmp_path / "stderr").open("w") as stderr:
            program = subprocess.Popen(
                [sys.executable, "-W", "ignore::DeprecationWarning", script, kind, method],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        programs.append(program)
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert program.stdout.readline() == "there\n", (tmp_path / "stderr").read_text()
        assert pids
        assert all(is_alive(pid) for pid in pids)
        assert shared_memory() == before
        return program, pids

    yield run
    for program in programs:
        if program.poll() is None:
            program.kill()
        program.stdin.close()
        program.stdout.close()
        program.wait()


def end_by(program, how):
    if how in ("return", "raise", "kill group"):
        print(f"\n{how}", file=program.stdin, flush=True)
        return
    print("\nwait", file=program.stdin, flush=True)
    assert program.stdout.readline() == "waits\n"
    if how == "Ctrl+C":
        os.killpg(program.pid, signal.SIGINT)
    else:
        program.send_signal(getattr(signal, how))


CODES = {"return": 0, "raise": 1, "Ctrl+C": -signal.SIGINT, "SIGTERM": -signal.SIGTERM, "SIGKILL": -signal.SIGKILL}
CODES["kill group"] = -signal.SIGKILL
CASES = [(how, kind, "fork") for how in CODES for kind in ("given", "hanging", "queue")]
CASES += [("SIGKILL", "inferred", "fork"), ("return", "inferred", "fork")]
CASES += [("SIGKILL", "hanging", "spawn"), ("return", "given", "spawn"), ("SIGTERM", "given", "forkserver")]
QUICK = {("raise", "queue", "fork"), ("Ctrl+C", "given", "fork"), ("SIGKILL", "hanging", "fork")}
CASES = [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize(("how", "kind", "method"), CASES)
def test_nothing_is_left(how, kind, method, start, tmp_path):
    program, pids = start(kind, method)
    end_by(program, how)
    assert program.wait(20) == CODES[how]
    assert waits_for(lambda: not any(is_alive(pid) for pid in pids))
    said = (tmp_path / "stderr").read_text()
    assert "leaked" not in said
    assert "Exception ignored" not in said
    if how == "raise":
        assert said.count("Traceback") == 1
        assert "the program has an error" in said
    elif how == "Ctrl+C":
        assert said.count("Traceback") == 1
        assert "KeyboardInterrupt" in said
    else:
        assert not said


SEQUENCES = """
import sys
import numpy as np
import torch
from delira_nca.data_loading.background import BackgroundProc, SharedQ

def draw(size):
    return {"numpy": np.random.rand(size), "torch": torch.rand(size).numpy()}

if __name__ == "__main__":
    method = sys.argv[1]
    for n_proc in (0, 2):
        with BackgroundProc(draw, n_proc=n_proc, target_args=(2,), start_method=method, timeout=60) as background:
            print([{key: value.tolist() for key, value in background.get().items()} for _ in range(4)])
    with SharedQ(start_method=method) as queue:
        for _ in range(2):
            queue.startproc({"numpy": "f8", "torch": "f4"}, {"numpy": (2,), "torch": (2,)}, draw, (2,))
        for _ in range(2):
            queue.get(timeout=60)
"""


def run_program(tmp_path, source, *arguments):
    script = tmp_path / "program.py"
    script.write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(method, marks=pytest.mark.slow) for method in ("spawn", "forkserver"))]
)
def test_every_way_to_start_processes_gives_the_same_sequence(method, tmp_path):
    done = run_program(tmp_path, SEQUENCES, method)
    assert done.stderr == ""
    here, there = done.stdout.splitlines()
    assert here == there
    assert len(set(here.split("}"))) == 5


NO_GUARD = """
import numpy as np
from delira_nca.data_loading.background import BackgroundProc
BackgroundProc(np.zeros, target_args=(2,), start_method="spawn")
"""


def test_scripts_without_their_guard_and_functions_of_a_console_are_refused_with_the_cure(tmp_path):
    for program, cure in (
        (NO_GUARD, 'must stand under `if __name__ == "__main__":`'),
        (
            FROM_A_CONSOLE,
            "ConfigError: target cannot be sent to other processes: 'draw' is defined in a notebook",
        ),
    ):
        done = run_program(tmp_path, program)
        assert done.returncode == 1
        assert cure in done.stderr


FROM_A_CONSOLE = """
import sys
exec('''
import numpy as np
from delira_nca.data_loading.background import BackgroundProc
def draw():
    return np.zeros(2)
''')
del sys.modules["__main__"].__file__  # as in a console or a notebook
BackgroundProc(draw, start_method="spawn")
"""


def test_the_example_of_the_documentation_runs(tmp_path):
    page = ROOT / "docs" / "background.rst"
    if not page.exists():
        pytest.skip("the documentation is not installed")
    block = page.read_text().split(".. code-block:: python\n\n")[1].split("\n\nprints")[0]
    done = run_program(tmp_path, "\n".join(line[3:] for line in block.splitlines()))
    assert done.stderr == ""
    assert done.stdout == "(4, 8, 8) 3\n" * 5
