"""The documentation names every module, every hook and every error where a reader looks for it."""

import ast
import importlib
import re
from pathlib import Path

from delira_nca.training.callbacks.abstract_callback import HOOKS

ROOT = Path(__file__).parent.parent
NOT_SHOWN = {"delira_nca", "delira_nca._version", "delira_nca._lazy", "delira_nca.__main__"}


def modules():
    for file in sorted((ROOT / "delira_nca").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if file.name != "__init__.py" and name not in NOT_SHOWN and not file.name.startswith("_"):
            yield name


def test_every_module_is_in_the_reference_once_and_no_other():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.rst"))
    named = re.findall(r"automodule:: (\S+)$", pages, flags=re.MULTILINE)
    assert sorted(named) == sorted(modules())


def documented(docstring):
    """Names in the section "Parameters" of a docstring, or None."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    if section is None:
        return None
    entries = [line.split(" : ")[0] for line in section[1].splitlines() if line and not line[0].isspace()]
    return {name.strip().lstrip("*") for entry in entries for name in entry.split(",")}


def test_a_docstring_describes_every_parameter_and_no_other():
    wrong = []
    for file in sorted((ROOT / "delira_nca").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)) or node.name.startswith("_"):
                continue
            methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
            function = methods.get("__init__") if isinstance(node, ast.ClassDef) else node
            names = documented(ast.get_docstring(node) or "")
            if names is None or function is None:
                continue
            taken = function.args
            required = {each.arg for each in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)} - {"self", "cls"}
            allowed = required | {each.arg for each in (taken.vararg, taken.kwarg) if each}
            allowed |= {"cls"} & {each.arg for each in taken.args}
            if not required <= names <= allowed:
                wrong.append(f"{file.relative_to(ROOT)}: {node.name}: {sorted(names ^ required)}")
    assert not wrong, "\n".join(wrong)


def test_hook_page_tells_when_a_hook_runs_and_what_it_is_given():
    diagram, table = (ROOT / "docs" / "hooks.rst").read_text().split("What a hook is given")
    assert not [hook for hook in HOOKS if hook not in diagram or f"``{hook}``" not in table]


def test_hook_page_names_every_keyword():
    page = (ROOT / "docs" / "hooks.rst").read_text()
    missing = {word for words in HOOKS.values() for word in words if f"``{word}``" not in page}
    assert not missing


def rows_of_names():
    page = (ROOT / "docs" / "names.rst").read_text()
    return re.findall(r"^   \* - ``(\w+)``\n     - ``([\w.]+)``\n     - \S", page, flags=re.MULTILINE)


def test_every_name_of_the_page_of_names_can_be_imported_and_is_tested():
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    rows = rows_of_names()
    assert len(rows) == 28
    for name, path in rows:
        module, _, last = path.rpartition(".")
        assert last == name
        assert callable(getattr(importlib.import_module(module), name))
        assert re.search(rf"\b{name}\b[(),]", tests), f"{name} is not used by a test"


def test_the_methods_on_the_pages_of_the_originals_are_there():
    methods = {
        "Trainer": "debug_getcnnbatch predict_and_write preview_slice preview_slice_from_traindata run test_model",
        "TracingTrainer": "debug_getcnnbatch run save_batch test_model",
        "TracingTrainerRNN": "run test_model",
        "ExperimentConfig": "check_config levenshtein make_dir read_user_config",
        "HistoryTracker": "load plot register_debug_output_names save update_debug_outputs update_history "
        "update_regression update_timeline",
        "Schedule": "bind_variable update",
        "BackgroundProc": "get reset shutdown",
        "SharedQ": "get startproc",
    }
    homes = dict(rows_of_names())
    for name, listed in methods.items():
        module, _, last = homes[name].rpartition(".")
        cls = getattr(importlib.import_module(module), last)
        assert not [method for method in listed.split() if not callable(getattr(cls, method, None))]
