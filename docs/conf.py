"""Settings of the site: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``."""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

import rankseg  # noqa: E402  # from this checkout

project = "RankSEG"
author = "The RankSEG contributors"
project_copyright = author
version = release = rankseg.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    *("commands", "mathml"),  # in _extensions
]
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # shown as they are stored; the tests run them
smartquotes = False  # 'dice' is a string

# Whatever does not resolve is a warning, and -W makes warnings errors.
nitpicky = True
nitpick_ignore_regex = [("py:obj", "[a-z_]+")]  # parameters: `probs` is code, and no link
linkcheck_ignore = ["https?://"]  # so that the linkcheck builder lists them and fetches nothing

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

default_role = "py:obj"
autodoc_mock_imports = [  # the site needs none of the frameworks
    *("dask", "lightning", "monai", "nnunetv2", "pytorch_lightning", "sam2", "segment_anything"),
    *("torchmetrics", "torchvision", "transformers"),
]
autodoc_typehints = "none"  # the docstrings say more: shapes, ranges
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_validation_checks = {"PR02"}  # documented, but no parameter

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "RankSEG"
html_static_path = ["_static"]
html_css_files = ["rankseg.css"]
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def _stars(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """The star of (B, C, *spatial) is one, and not the beginning of emphasis."""
    lines[:] = [re.sub(r"(``.*?``)|\*spatial", lambda m: m[1] or r"\*spatial", x) for x in lines]


def setup(app: Any) -> None:
    """Before numpydoc reads a docstring."""
    app.connect("autodoc-process-docstring", _stars, priority=400)
