"""Sphinx: pages of docs/*.md, the API from docstrings, a gallery that is executed. Built by ``make docs``."""

from __future__ import annotations

import logging
import os
import warnings
from importlib import metadata
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

# One thread of torch each, so that a build's pictures are the same everywhere and nothing is crowded out.
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore", module="(pytorch_lightning|lpips|torchvision|deepinv)")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

project = "ilo_pl"
release = metadata.version("ilo_pl")
author = "the founders of ilo_pl"
project_copyright = "the founders of ilo_pl, Apache 2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "_templates",
    "gallery",
    "sg_execution_times.rst",
    "auto_gallery/*.ipynb",
]
templates_path = ["_templates"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Nothing is looked up or loaded from elsewhere: formulas are MathML, fonts those of the reader.
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "ilo_pl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "plot_gallery": "True",
    "show_memory": False,
    "min_reported_time": 10**6,
    "matplotlib_animations": False,
}


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(str(tex2mathml(node.astext(), as_block=False)))
    raise nodes.SkipNode


def _display(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math-block">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Let browsers set formulas by themselves, without a script from elsewhere."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
