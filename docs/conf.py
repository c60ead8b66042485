"""Settings of the documentation."""

import re

from delira_nca import __version__

project = "delira_nca"
author = "The delira_nca developers"
copyright = "2026, the delira_nca developers"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"delira_nca {version}"


def escape_stars_of_shapes(app, what, name, obj, options, lines):
    """Escape the star of shapes such as ``(B, C, *spatial)``, with which reStructuredText would begin an emphasis."""
    lines[:] = [re.sub(r"(?<![\w`*])\*(?=(spatial|box|shape)\b)", r"\\*", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", escape_stars_of_shapes, priority=400)
