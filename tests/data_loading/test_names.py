"""What the package shows, and what it costs to look."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import delira_nca
from delira_nca import data_loading

ROOT = Path(delira_nca.__file__).parent.parent


def test_each_public_name_is_the_one_of_its_module():
    tree = ast.parse(Path(data_loading.__file__).read_text())
    seen_by_checkers = {
        alias.name: node.module
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        for alias in node.names
    }
    assert sorted(seen_by_checkers) == sorted(data_loading.__all__) == dir(data_loading)
    for name, module in seen_by_checkers.items():
        assert getattr(data_loading, name) is getattr(importlib.import_module(module), name)


def test_datasets_splits_and_samplers_need_neither_torch_nor_sklearn_to_be_imported():
    script = """
import sys
from delira_nca.data_loading import (ConcatDataset, DictDataset, LoadSample, NNUNetDataset, PairedFolderDataset,
    PrevalenceRandomSampler, kfold)
print(*sorted({"torch", "sklearn", "PIL", "nibabel", "scipy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_snippets_of_the_page_on_data_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(
        str(ROOT / "docs" / "data.rst"),
        module_relative=False,
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert result.failed == 0
    assert result.attempted > 20
