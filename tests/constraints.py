"""Write constraints.txt anew: ``make constraints``. The newest releases that fit together, with the pin of torch kept.

The packages are those of an empty environment with every tool of a contributor. Run the suite before you commit them.
"""

import json
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FILE = ROOT / "constraints.txt"
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
HEADER = """\
# What the suite was green with, for every tool of a contributor; `make constraints` writes this file.
# A pin without a release for an older Python has a marker: there, pip takes what fits.
# torch is pinned without "+cpu": any build of it will do. Without a GPU, install that of PyTorch's CPU index first.
"""


def pins() -> dict[str, Requirement]:
    """Requirements of the present file, by name."""
    lines = (line.partition("#")[0].strip() for line in FILE.read_text().splitlines())
    return {each.name: each for each in map(Requirement, filter(None, lines))}


def resolve(fixed: Requirement) -> dict[str, tuple[str, str]]:
    """Version and supported Pythons of each package that pip would install into an empty environment."""
    command = [
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
        "--report",
        "-",
        str(fixed),
        "-e",
        ".[dev,docs]",
    ]
    done = subprocess.run([sys.executable, "-m", "pip", *command], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)["install"]
    packages = [each["metadata"] for each in found if "dir_info" not in each["download_info"]]
    return {canonicalize_name(each["name"]): (each["version"], each.get("requires_python", "")) for each in packages}


def pin(name: str, version: str, requires_python: str) -> str:
    """Line of a package, with a marker if its release is not for all our Pythons."""
    supported = list(SpecifierSet(requires_python).filter(f"{python}.99" for python in PYTHONS))
    marker = "" if len(supported) == len(PYTHONS) else f' ; python_version >= "{supported[0].removesuffix(".99")}"'
    return f"{name}=={version.partition('+')[0]}{marker}"


if __name__ == "__main__":
    packages = resolve(pins()["torch"])
    FILE.write_text(HEADER + "".join(f"{pin(name, *packages[name])}\n" for name in sorted(packages)))
