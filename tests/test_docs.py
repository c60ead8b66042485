"""The documentation names every module, every hook and every error where a reader looks for it."""

import re
from pathlib import Path

import pytest

from delira_nca.training.callbacks.abstract_callback import HOOKS

ROOT = Path(__file__).parent.parent
NOT_SHOWN = {"delira_nca", "delira_nca._version", "delira_nca._lazy", "delira_nca.__main__"}


def modules():
    for file in sorted((ROOT / "delira_nca").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if file.name != "__init__.py" and name not in NOT_SHOWN and not file.name.startswith("_"):
            yield name


@pytest.mark.parametrize("module", list(modules()))
def test_module_is_in_the_reference(module):
    shown = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.rst"))
    assert re.search(rf"automodule:: {re.escape(module)}$", shown, flags=re.MULTILINE)


@pytest.mark.parametrize("hook", list(HOOKS))
def test_hook_page_tells_when_a_hook_runs_and_what_it_is_given(hook):
    page = (ROOT / "docs" / "hooks.rst").read_text()
    diagram, table = page.split("What a hook is given")
    assert hook in diagram
    assert f"``{hook}``" in table


def test_hook_page_names_every_keyword():
    page = (ROOT / "docs" / "hooks.rst").read_text()
    missing = {word for words in HOOKS.values() for word in words if f"``{word}``" not in page}
    assert not missing


def test_reference_names_no_module_that_is_gone():
    named = set()
    for page in (ROOT / "docs" / "api").glob("*.rst"):
        named |= set(re.findall(r"automodule:: (\S+)", page.read_text()))
    assert named == set(modules())
