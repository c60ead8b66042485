"""Runs the tests marked ``processor`` as on every kind of processor; exits with 1 if one of them fails.

Once for each instruction set that this processor has, and once without the native library::

    python tests/processors.py
    python tests/processors.py avx2 none
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from delira_nca.machine import cpu_name
from delira_nca.rollout import native_library

ROOT = Path(__file__).parents[1]
KINDS = (*native_library.INSTRUCTION_SETS, "none")
PYTEST = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "-m", "processor and not slow"]


def marked():
    """Files with marked tests, and folders that are marked as a whole: to collect all others takes long."""
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        if file != Path(__file__) and "mark.processor" in file.read_text(encoding="utf-8"):
            yield file.parent if file.name == "conftest.py" else file


def run_tests(kind):
    """Outcome in a few words, and whether no test failed."""
    if kind not in (*native_library.available(), "none"):
        return "skipped: it was not built or is not in this processor", True
    begin = time.perf_counter()
    code = subprocess.run([*PYTEST, "--instruction-set", kind, *marked()], cwd=ROOT, check=False).returncode
    outcome = f"failed with exit code {code}" if code else "passed"
    return f"{outcome} in {time.perf_counter() - begin:.0f} s", code == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"instruction sets to run as, of {', '.join(KINDS)}")
    kinds = parser.parse_args().kinds or KINDS
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Known: {', '.join(KINDS)}")
    outcomes = {}
    for kind in kinds:
        print(f"== {kind}", flush=True)
        outcomes[kind] = run_tests(kind)
    print(f"\nOn {cpu_name()}:")
    for kind, (outcome, _) in outcomes.items():
        print(f"  {kind:12}  {outcome}")
    sys.exit(not all(passed for _, passed in outcomes.values()))


if __name__ == "__main__":
    main()
