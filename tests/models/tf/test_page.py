"""The page about TensorFlow: its code runs in its order."""

import re
from pathlib import Path

import pytest

import delira_nca
from delira_nca.export import to_html

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

PAGE = Path(delira_nca.__file__).parents[1] / "docs" / "tensorflow.rst"


def test_the_code_of_the_page_trains_models_and_converts_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", PAGE.read_text())
    script = "\n".join(line[3:] for block in blocks for line in block.splitlines())
    names = {"__name__": "script"}
    exec(compile(script, PAGE.name, "exec"), names)
    assert len(names["frames"]) == 64
    changed = (names["trained"].rule.last.weight - names["model"].rule.last.weight).abs().max().item()
    assert 0 < changed < 0.1
    assert names["trainer"].history[-1]["ce"] < names["trainer"].history[0]["ce"]
    assert names["best"](names["samples"]).shape == (64, 2)
    to_html(names["trained"], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000
