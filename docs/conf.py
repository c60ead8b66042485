"""Settings of the documentation."""

import re

from delira_nca import __version__

project = "delira_nca"
author = "The delira_nca developers"
copyright = "2026, the delira_nca developers"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser"]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
exclude_patterns = ["_build"]
suppress_warnings = ["ref.python"]  # attributes of several classes have one name

html_theme = "furo"
html_title = f"delira_nca {version}"


TYPE = re.compile(
    r"[({A-Z]|(np|torch)\.|(list|dict|tuple|mapping|path|int|float|str|bool|bytes|type|object|callable|iterable|sequence|"
    r"array|array_like|ndarray|None)\b(?! of the )"
)


def set_descriptions_apart(app, what, name, obj, options, lines):
    """Let ``name : what it is`` of our docstrings be a description, where numpydoc would take it for a type."""
    section, changed = "", []
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if line and set(following) == {"-"}:
            section = line
        entry = re.match(r"(\S[^:]*?) : (.+)", line)
        if section in ("Parameters", "Attributes") and entry and not TYPE.match(entry[2]):
            changed += [entry[1], f"    {entry[2]}"]
        else:
            changed.append(line)
    lines[:] = changed


def escape_stars_of_shapes(app, what, name, obj, options, lines):
    """Escape the star of shapes such as ``(B, C, *spatial)``, with which reStructuredText would begin an emphasis."""
    lines[:] = [re.sub(r"(?<![\w`*])\*(?=(spatial|finer|box|shape|kernel|padded)\b)", r"\\*", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", set_descriptions_apart, priority=300)
    app.connect("autodoc-process-docstring", escape_stars_of_shapes, priority=400)
