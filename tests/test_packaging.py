"""A wheel, installed anywhere, imports every module and grows a picture."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import delira_nca
from delira_nca.rollout.native_library import ENVIRONMENT_VARIABLE

ROOT = Path(__file__).parent.parent
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


def run(*command, cwd, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != ENVIRONMENT_VARIABLE} | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder with the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    wheels = tmp_path_factory.mktemp("wheels")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for file in (ROOT / "delira_nca").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            copy = source / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    run("-m", "pip", "wheel", *options, "-w", wheels, source, cwd=source)
    (wheel,) = wheels.glob("*.whl")
    run("-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", folder, wheel, cwd=folder)
    return folder


def test_wheel_holds_every_module(site, tmp_path):
    script = (
        "import delira_nca, pkgutil, importlib\n"
        "found = pkgutil.walk_packages(delira_nca.__path__, 'delira_nca.')\n"
        "names = [module.name for module in found if '__main__' not in module.name]\n"
        "from delira_nca.errors import MissingDependencyError\n"
        "for name in names:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except MissingDependencyError:\n"
        "        assert name in ('delira_nca.models.tf', 'delira_nca.training.tf')\n"
        "print(delira_nca.__file__, len(names))"
    )
    file, count = run("-c", script, cwd=tmp_path, PYTHONPATH=str(site)).split()
    assert Path(file).is_relative_to(site)
    ours = [f for f in (ROOT / "delira_nca").rglob("*.py") if f.name not in ("__init__.py", "__main__.py")]
    ours = [f for f in ours if HAS_TENSORFLOW or f.parent.name != "tf"]  # the package itself is found
    packages = [f for f in (ROOT / "delira_nca").rglob("__init__.py") if f.parent.name != "delira_nca"]
    assert int(count) == len(ours) + len(packages)
    assert (site / "delira_nca" / "py.typed").is_file()
    written = "from delira_nca.cli import main; main(['init', 'growing'])"
    assert run("-c", written, cwd=tmp_path, PYTHONPATH=str(site)).startswith("growing.yaml\n")
    templates = ROOT / "delira_nca" / "experiment" / "templates"
    assert {file.name for file in templates.iterdir()} == {
        file.name for file in (site / templates.relative_to(ROOT)).iterdir()
    }


def test_wheel_grows_a_picture_from_an_empty_folder(site, tmp_path):
    options = [
        "--size",
        "8",
        "--padding",
        "3",
        "--steps",
        "4",
        "8",
        "--epochs",
        "2",
        "--iterations",
        "2",
        "--pool-size",
        "16",
    ]
    printed = run("-m", "delira_nca", "grow", *options, cwd=tmp_path, PYTHONPATH=str(site))
    assert "log10 of the mean squared error 8 steps after the seed" in printed
    made = {file.name for file in (tmp_path / "runs" / "lizard").iterdir()}
    assert {
        "film.gif",
        "live.html",
        "preview.png",
        "curves.png",
        "metrics.jsonl",
        "events",
        "checkpoints",
        "config.yaml",
    } <= made


def test_wheel_has_the_command(site):
    (entry_points,) = site.glob("delira_nca-*.dist-info/entry_points.txt")
    assert "delira-nca = delira_nca.cli:main" in entry_points.read_text()


def test_version_is_that_of_the_changelog_and_the_citation():
    assert f"version: {delira_nca.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[0]
    assert newest == delira_nca.__version__


def test_the_pythons_that_are_named_are_those_of_the_workflow():
    (tested,) = re.findall(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "test.yml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    assert re.findall(r"[\d.]+", tested) == named
    assert f'requires-python = ">={named[0]}"' in project


def test_constraints_pin_versions_that_any_index_has():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pin = re.compile(r'[a-z0-9.-]+==[\w.]+( ; python_version >= "3\.\d+")?')
    assert not [line for line in lines if not pin.fullmatch(line)]
