"""Sphinx: the guides in this folder, the notebooks, and a reference that `generate.py` makes from the code."""

import re
import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import generate

project = "scaling"
author = "the maintainers"
release = version = installed("isoflop")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = f"scaling {release}"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # they are committed executed; a test executes them again
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True


def _as_rst(app, what, name, obj, options, lines):
    """Docstrings are plain prose with `code` and `name: text` lists: as reStructuredText, where N* opens no emphasis."""
    in_list = False
    for i, line in enumerate(lines):
        item = re.match(r"([a-z]\w*): (.*)", line)
        if item and (in_list or not lines[i - 1].strip()):
            line, in_list = f"- `{item[1]}`: {item[2]}", True
        elif in_list and line.startswith("    "):
            line = "  " + line.strip()
        else:
            in_list = False
        parts = re.split(r"(`[^`]+`)", line)
        lines[i] = "".join(
            f"`{part}`" if part.startswith("`") else re.sub(r"([*|_])(?=\W|$)", r"\\\1", part) for part in parts
        )


def setup(app):
    """Write the generated pages before Sphinx looks for sources."""
    generate.write(Path(__file__).parent)
    app.connect("autodoc-process-docstring", _as_rst)
