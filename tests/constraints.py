"""Write constraints.txt anew: ``make constraints``. The newest releases that fit together, with the pin of torch kept.

The packages are those of an empty environment with every tool of a contributor. Run the suite before you commit them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FILE = ROOT / "constraints.txt"
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
HEADER = """\
# What the suite was green with, for every tool of a contributor; `make constraints` writes this file.
# A marker leaves out the Pythons that a release, or one that needs it, is not for: there, pip takes what fits.
# torch is pinned without "+cpu": any build of it will do. Without a GPU, install that of PyTorch's CPU index first.
"""


def resolve(fixed: Requirement) -> dict[str, dict[str, Any]]:
    """Metadata of each package that pip would install into an empty environment, by name."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*command, str(fixed), "-e", ".[dev,docs]"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)["install"]
    packages = [each["metadata"] for each in found if "dir_info" not in each["download_info"]]
    return {canonicalize_name(each["name"]): each for each in packages}


def oldest(package: dict[str, Any]) -> str:
    """Oldest of our Pythons that a release is for."""
    supported = SpecifierSet(package.get("requires_python", ""))
    return next(python for python in PYTHONS if f"{python}.99" in supported)


def pins(packages: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Line of each package. Where a release has no older Python, what it needs is not pinned there either."""
    since = {name: oldest(package) for name, package in packages.items()}
    own = dict(since)
    for name, package in packages.items():
        for need in map(Requirement, package.get("requires_dist", [])):
            needed = canonicalize_name(need.name)
            if needed in since and (need.marker is None or need.marker.evaluate({"extra": ""})):
                since[needed] = max(since[needed], own[name], key=PYTHONS.index)
    for name in sorted(packages):
        marker = "" if since[name] == PYTHONS[0] else f' ; python_version >= "{since[name]}"'
        yield f"{name}=={packages[name]['version'].partition('+')[0]}{marker}\n"


if __name__ == "__main__":
    (torch,) = (line for line in FILE.read_text().splitlines() if line.startswith("torch=="))
    FILE.write_text(HEADER + "".join(pins(resolve(Requirement(torch)))))
