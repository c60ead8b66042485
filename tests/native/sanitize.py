"""Runs the native roll-out under the sanitizers of the compiler; exits with 1 at the first finding.

``driver.cpp`` is built together with ``csrc`` for every CPU and for this one, and exercises every option through the
C interface:

- address, leak and undefined-behaviour sanitizer: random small roll-outs, with fresh memory filled with NaN and with
  zeros, which may not change a bit; large ones on 1 to 4 threads; and every allocation of a roll-out failing once;
- thread sanitizer: large roll-outs on 1 to 4 threads.

It needs g++ (or the compiler in CXX) on Linux, nothing of Python's or PyTorch's, and takes two minutes:
``python tests/native/sanitize.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = [HERE / "driver.cpp", HERE.parents[1] / "csrc" / "rollout.cpp"]
FLAGS = [
    "-std=c++17",
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-pthread",
    "-Wall",
]
MEMORY = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
BUILDS = {
    "memory, every CPU": MEMORY,
    "memory, this CPU": [*MEMORY, "-march=native"],
    "threads": ["-fsanitize=thread", "-march=native"],
}
ASAN = "detect_leaks=1:detect_stack_use_after_return=1:strict_init_order=1:max_malloc_fill_size=1073741824"
SETTINGS = {
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


class Finding(Exception):  # noqa: N818
    """A sanitizer, or the driver itself, has found something."""


def build(name: str, folder: Path) -> Path:
    """Driver of one build."""
    driver = folder / name.replace(", ", "_").replace(" ", "_")
    command = [os.environ.get("CXX", "g++"), *FLAGS, *BUILDS[name], *map(str, SOURCES), "-o", str(driver)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Finding(f"{' '.join(command)}\n{done.stderr}")
    return driver


def run(driver: Path, *arguments: str, fill: int = 255) -> str:
    """What the driver prints, which must end well."""
    asan = f"{ASAN}:malloc_fill_byte={fill}"
    command = [str(driver), *arguments]
    environment = {**os.environ, **SETTINGS, "ASAN_OPTIONS": asan}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if "unexpected memory mapping" in done.stderr and (setarch := shutil.which("setarch")):
        # an old thread sanitizer does not know how far a new kernel scatters memory
        command = [setarch, "--addr-no-randomize", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise Finding(
            f"{' '.join(command)} ended with {done.returncode} (ASAN_OPTIONS={asan})\n{done.stdout}{done.stderr}"
        )
    sys.stdout.write(f"{driver.name} {' '.join(arguments)}: {seconds:.0f} s, {' '.join(done.stdout.split())}\n")
    sys.stdout.flush()
    return done.stdout


def check_memory(driver: Path, small: int, large: int) -> None:
    """All that the driver does, twice: nothing may depend on what fresh memory holds."""
    if run(driver, "small", str(small)) != run(driver, "small", str(small), fill=0):
        raise Finding(f"{driver.name}: results depend on what memory is filled with")
    run(driver, "large", str(large))
    run(driver, "faults")


def main() -> None:
    """Build and run everything, two things at a time."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        portable, native, threads = pool.map(build, BUILDS, [Path(folder)] * len(BUILDS))
        checks = [
            pool.submit(check_memory, portable, 20, 2),
            pool.submit(check_memory, native, 60, 3),
            pool.submit(run, threads, "large", "2"),
        ]
        for check in checks:
            check.result()
    sys.stdout.write("nothing found\n")


if __name__ == "__main__":
    try:
        main()
    except Finding as finding:
        sys.exit(str(finding))
