"""The settings of the documentation: `sphinx-build -W -n docs build/docs`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

_project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
project = str(_project["name"])
project_copyright = "The pytest-jumpstarter authors"
release = version = str(_project["version"])

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_search_scorer = str(Path(__file__).parent / "_ext" / "scorer.js")

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

smartquotes = False  # two dashes begin an option
default_role = "code"  # docstrings write names in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autoclass_content = "class"
napoleon_use_ivar = True
nitpicky = True
nitpick_ignore_regex = [
    # There is no inventory of other projects where the network cannot be reached.
    (
        "py:.*",
        r"(_pytest|anyio|collections|contextlib|datetime|google|grpc|jumpstarter\w*|pathlib|pexpect|pytest|re)\..*",
    ),
    ("py:.*", r"(pathlib\._local\.Path|Path|TracebackType|types\.\w+)"),
]
