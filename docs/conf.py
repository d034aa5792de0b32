"""The documentation site: `make site`."""

from importlib.metadata import version as installed

project = "servestream_client"
author = "The servestream_client authors"
copyright = f"2026, {author}"  # noqa: A001 — Sphinx's name
version = release = installed("servestream-client")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["benchmarks/*.json"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
# Pages link to files of the repository, which a site has no pages for.
suppress_warnings = ["myst.xref_missing"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_rtype = False
# Docstrings write names as `name`.
default_role = "code"

html_theme = "furo"
html_title = f"servestream_client {version}"
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
