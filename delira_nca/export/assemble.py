"""One HTML file out of the readable files in ``live/``: the modules one after the other, nothing else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

__all__ = ["MODULES", "assemble", "script"]

MODULES = (
    "random",
    "tensors",
    "cell",
    "javascript_engine",
    "webgl_program",
    "webgl_engine",
    "engines",
    "world",
    "colours",
    "chart",
    "picture",
    "player",
    "dish",
    "controls",
    "weights",
    "app",
    "main",
)
"""Each imports only from those before it."""

_SCRIPTS_BESIDE = " 'self' file:"
"""What the policy of a page allows besides while it is trained: the script that holds newer weights."""

_IMPORT = re.compile(r"^import\s[^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|class|function)\b)", re.MULTILINE)


def assemble(page: Mapping[str, Any]) -> str:
    """HTML of a page from its data, which hold at least a title.

    A page of a training that still runs may load scripts that lie beside it; any other may load nothing.
    """
    data = json.dumps(page, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    filled = {
        "title": html.escape(page["title"]),
        "scripts": _SCRIPTS_BESIDE if page.get("training") else "",
        "style": _read("page.css"),
        "update": _read("update.glsl"),
        "life": _read("life.glsl"),
        "data": data,
        "script": script(MODULES),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], _read("page.html"))


def script(modules: tuple[str, ...]) -> str:
    """The modules as one, without the lines by which they import each other."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", _read(f"{module}.js"))) for module in modules)


def _read(name: str) -> str:
    return resources.files("delira_nca.export").joinpath("live").joinpath(name).read_text(encoding="utf-8")
