import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import delira_nca

PACKAGE = Path(delira_nca.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = [
    "errors",
    "checks",
    "console",
    "seeding",
    "losses",
    "machine",
    "rollout",
    "models",
    "io",
    "data_loading",
    "evaluation",
    "assembly",
    "logging",
    "training",
    "visualization",
    "export",
    "experiment",
    "environment",
    "cli",
    "__main__",
]
"""From the ground up: a room imports from itself and from those before it."""
FREE = {"_lazy", "_version"}
SILENT = {"__main__", "_version"}
"""A script, and a line that setuptools reads without importing it."""
ENTRANCE = "__init__"
"""Of the package itself: it may show what is in any room."""


def name_of(path):
    return ".".join(("delira_nca", *path.relative_to(PACKAGE).with_suffix("").parts))


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(tree, module):
    """Absolute names of what a module imports anywhere in it, of functions and of type checks too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source == "delira_nca":
                yield from (f"{source}.{alias.name}" for alias in node.names)
            else:
                yield source


def imported_rooms(source, module):
    names = (name.split(".") for name in imported_modules(ast.parse(source), module))
    return {name[1] for name in names if name[0] == "delira_nca" and len(name) > 1} - FREE - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_from_rooms_on_lower_floors(path):
    room = room_of(path)
    if room in FREE or room == ENTRANCE:
        return
    assert room in ROOMS, f"{room} has no place in the house"
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    assert imported_rooms(path.read_text(), name_of(path)) <= allowed


def test_the_check_of_the_floors_sees_every_kind_of_import():
    source = """
import delira_nca.a.x, os
from delira_nca import b
from delira_nca.c.y import z
def f():
    from ..d import q
    if TYPE_CHECKING:
        from .. import e
from delira_nca._lazy import lazy_names
from . import local
"""
    assert imported_rooms(source, "delira_nca.models.here") == {"a", "b", "c", "d", "e", "models"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_says_what_is_public_and_imports_names(path):
    source = path.read_text()
    tree = ast.parse(source)
    stars = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    assert not stars
    assert path.stem == path.stem.lower()
    if path.stem in SILENT:
        return
    targets = [t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if hasattr(t, "id")]
    targets += [node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert "__all__" in targets


@pytest.mark.parametrize("path", [p for p in FILES if p.stem not in SILENT], ids=name_of)
def test_what_is_public_is_there_once(path):
    module = __import__(name_of(path).removesuffix(".__init__"), fromlist=["__all__"])
    names = list(module.__all__)
    assert len(set(names)) == len(names)
    for name in names:
        assert hasattr(module, name)


def test_no_modules_of_the_training_import_one_another_in_a_circle():
    names = {name_of(path).removesuffix(".__init__"): path for path in FILES}
    graph = {}
    for name, path in names.items():
        if name.startswith("delira_nca.training"):
            graph[name] = {found for found in imported_modules(ast.parse(path.read_text()), name) if found in names}
    graphlib.TopologicalSorter(graph).prepare()  # raises a CycleError


HEAVY = {"torch", "matplotlib", "tensorboardX", "batchgenerators", "sklearn", "scipy", "PIL", "pandas"}


def loaded_by(module):
    script = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split()) & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        "delira_nca",
        "delira_nca.errors",
        "delira_nca.machine",
        "delira_nca.training",
        "delira_nca.training.abstract_trainer",
        "delira_nca.training.callbacks.stopping",
    ],
)
def test_what_needs_no_torch_imports_none(module):
    assert loaded_by(module) == set()


@pytest.mark.parametrize("module", ["delira_nca.models", "delira_nca.rollout"])
def test_models_import_nothing_heavy_but_torch(module):
    assert loaded_by(module) == {"torch"}
