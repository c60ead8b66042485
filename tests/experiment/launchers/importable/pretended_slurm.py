"""The commands of Slurm, as far as submitit uses them, on this machine: each is a copy of this file.

The folder of the copies holds a file ``<job>.pid`` for each job, ``<job>.requeue`` for one that will run again, and
``<job>.state`` for one that is over.
"""

# ruff: noqa: T201
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(sys.argv[0]).parent


def sbatch(script):
    text = Path(script).read_text()
    Path(HERE / f"script-{len(list(HERE.glob('script-*')))}").write_text(text)
    found = re.search(r"--array=0-(\d+)", text)
    for index in range(int(found[1]) + 1) if found else [None]:
        job = str(os.getpid()) if index is None else f"{os.getpid()}_{index}"
        command = [sys.executable, sys.argv[0], "attend", script, job]
        subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(f"Submitted batch job {os.getpid()}")


def attend(script, job):
    """One job: from its start to its end, however often it goes back into the queue."""
    environment = {**os.environ, "SLURM_JOB_ID": job, "SLURM_PROCID": "0"}
    if "_" in job:
        environment["SLURM_ARRAY_JOB_ID"], environment["SLURM_ARRAY_TASK_ID"] = job.split("_")
    again = True
    while again:
        process = subprocess.Popen(["bash", script], env=environment)
        (HERE / f"{job}.pid").write_text(str(process.pid))
        code = process.wait()
        again = (HERE / f"{job}.requeue").exists()
        (HERE / f"{job}.requeue").unlink(missing_ok=True)
    (HERE / f"{job}.state").write_text("COMPLETED" if code == 0 else "OUT_OF_MEMORY")


def srun(*arguments):
    rest = list(arguments)
    while rest[0].startswith("-"):
        del rest[: 1 if rest[0] == "--unbuffered" else 2]
    os.execvp(rest[0], rest)


def sacct(*_):
    print("JobID|State|NodeList")
    for file in HERE.glob("*.pid"):
        state = file.with_suffix(".state")
        print(f"{file.stem}|{state.read_text() if state.exists() else 'RUNNING'}|here")


def scontrol(what, job):
    (HERE / f"{job}.{what}").touch()


def scancel(job):
    (HERE / f"{job}.cancelled").touch()
    os.kill(int((HERE / f"{job}.pid").read_text()), signal.SIGKILL)


if __name__ == "__main__":
    name, *arguments = Path(sys.argv[0]).name, *sys.argv[1:]
    if arguments[:1] == ["attend"]:
        name, *arguments = arguments
    globals()[name](*arguments)
