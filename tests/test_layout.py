import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import delira_nca

ROOT = Path(__file__).parent.parent
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
    "workers",
    "io",
    "data_loading",
    "evaluation",
    "assembly",
    "logging",
    "training",
    "visualization",
    "export",
    "experiment",
    "segmentation",
    "ncalab",
    "environment",
    "cli",
    "__main__",
]
"""From the ground up: a room imports from itself and from those before it."""
FREE = {"_lazy", "_version"}
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
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


def test_a_room_imports_only_from_rooms_on_lower_floors():
    wrong = {}
    for path in FILES:
        room = room_of(path)
        if room not in FREE and room != ENTRANCE:
            assert room in ROOMS, f"{room} has no place in the house"
            wrong[name_of(path)] = imported_rooms(path.read_text(), name_of(path)) - set(ROOMS[: ROOMS.index(room) + 1])
    assert not {name: rooms for name, rooms in wrong.items() if rooms}


def test_contributors_are_told_of_every_room_in_its_order():
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## The rooms")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == ROOMS


@pytest.fixture(scope="module")
def draw_rooms():
    spec = importlib.util.spec_from_file_location("draw_rooms", ROOT / "docs" / "draw_rooms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_shows_every_room_above_those_that_it_imports_from(draw_rooms):
    picture = draw_rooms.PICTURE.read_text(encoding="utf-8")
    heights = {name: int(y) for name, y in re.findall(r'<g id="(\w+)"><rect class="box" x="\d+" y="(\d+)"', picture)}
    assert sorted(heights) == sorted(ROOMS)
    _, imports = draw_rooms.read_rooms()
    assert not [(room, other) for room in ROOMS for other in imports[room] if heights[room] >= heights[other]]


def test_the_picture_is_what_its_command_draws_but_for_the_lines_of_code(draw_rooms):
    def without_lines(picture):
        return re.sub(r'<(text class="lines".*?</text|rect class="size".*?/)>', "", picture)

    again = "run python docs/draw_rooms.py"
    assert without_lines(draw_rooms.draw()) == without_lines(draw_rooms.PICTURE.read_text(encoding="utf-8")), again


def circles(imports):
    """Modules of each circle in a mapping of modules to those that they import, of any length."""
    reached = {}

    def reach(name):
        found, open_ = set(), [name]
        while open_:
            for other in imports.get(open_.pop(), ()):
                if other not in found:
                    found.add(other)
                    open_.append(other)
        return found

    for name in imports:
        reached[name] = reach(name)
    return {frozenset(other for other in reached[name] if name in reached[other]) for name in imports} - {frozenset()}


def test_no_module_imports_itself_by_way_of_others():
    known = {name_of(path).removesuffix(".__init__"): path for path in FILES if path.name != "__init__.py"}
    imports = {
        name: {module for module in imported_modules(ast.parse(path.read_text()), name) if module in known}
        for name, path in known.items()
    }
    found = sorted(sorted(circle) for circle in circles(imports))
    assert not found, "\n".join(map(", ".join, found))


def test_the_check_of_circles_sees_them():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}) == {
        frozenset("bc"),
        frozenset("e"),
    }


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


def test_a_module_says_what_is_public_and_imports_names():
    for path in FILES:
        tree = ast.parse(path.read_text())
        stars = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
        assert not stars, path
        assert path.stem == path.stem.lower()
        targets = [t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if hasattr(t, "id")]
        targets += [node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)]
        assert "__all__" in targets or path.stem in SILENT, f"{path} has no __all__"


def test_what_is_public_is_there_once():
    for path in FILES:
        if path.stem not in SILENT and (HAS_TENSORFLOW or "tf" not in path.relative_to(PACKAGE).parts):
            module = __import__(name_of(path).removesuffix(".__init__"), fromlist=["__all__"])
            names = list(module.__all__)
            assert len(set(names)) == len(names), path
            assert not [name for name in names if not hasattr(module, name)], path


HEAVY = {"torch", "matplotlib", "tensorboardX", "batchgenerators", "sklearn", "scipy", "PIL", "pandas", "tensorflow"}


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
        "delira_nca.cli",
        "delira_nca.machine",
        "delira_nca.training",
        "delira_nca.training.abstract_trainer",
        "delira_nca.training.callbacks.stopping",
    ],
)
def test_what_needs_no_torch_imports_none(module):
    assert loaded_by(module) == set()


@pytest.mark.parametrize("module", ["delira_nca.models", "delira_nca.rollout", "delira_nca.evaluation"])
def test_models_import_nothing_heavy_but_torch(module):
    assert loaded_by(module) == {"torch"}


def test_only_the_modules_for_tensorflow_import_it():
    pattern = re.compile(r"^\s*(import|from) (tensorflow|keras)\b", re.MULTILINE)
    users = {path.relative_to(PACKAGE).parent.as_posix() for path in FILES if pattern.search(path.read_text())}
    assert users == {"models/tf", "training/tf"}
    names = [name_of(path).removesuffix(".__init__") for path in FILES if "tf" not in path.relative_to(PACKAGE).parts]
    others = [name for name in names if name.rpartition(".")[2] not in SILENT]
    script = f"""
import importlib, sys
for name in {others}:
    importlib.import_module(name)
print("tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("module", ["models.tf", "training.tf"])
def test_without_tensorflow_its_modules_name_the_command_that_installs_it(module):
    script = f"""
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from delira_nca.errors import MissingDependencyError
try:
    import delira_nca.{module}
except MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert "pip install 'delira_nca[tf]'" in done.stdout
