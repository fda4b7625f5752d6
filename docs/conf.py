"""Settings of the documentation site; ``make docs`` builds it.

Every page is Markdown that also reads on its own.  Nothing is downloaded: links to other projects' references are not
resolved, and what autodoc need not import is mocked.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# autodoc imports with TYPE_CHECKING set, which fastapi's own models do not survive
import fastapi  # noqa: F401

import tyche_env

project = "tyche-env"
author = "The tyche-env contributors"
project_copyright = author
version = release = tyche_env.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["examples/**"]
highlight_language = "bash"
nitpicky = True
# Types of other projects: their references would have to be fetched.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!(tyche_env|agents|traces|real_backend)\.).*"),
    # type variables, which nothing documents
    (r"py:.*", r"agents\.playing\.runs\.(T|Row_co)"),
]
# What is not meant to be imported.
nitpick_ignore_regex += [("py:class", r".*\._\w+"), ("py:class", r"tyche_env\.(part\.Part|state\.ClusterState)")]
# Tables that a command writes have headings of their own level.
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = f"tyche-env {release}"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False

myst_heading_anchors = 4
nb_execution_mode = "off"
"""``make docs NOTEBOOKS=force`` runs the notebooks, so that the site shows what they print."""
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300

autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_mock_imports = ["stable_baselines3"]
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
