"""The documentation site: `make docs` writes it to build/site. Its pages are the repository's documents as they are.

The source folder is the repository's root, so that a link works here as it does on GitHub.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
NAVIGATION = {
    "Use": ["adopt", "loops", "data", "gates", "reproduce", "report", "track"],
    "Release": ["release", "serve", "bundle", "runbooks"],
    "On GitHub": ["workflows", "runners", "container"],
    "Reference": ["record", "../CHANGELOG", "../CONTRIBUTING"],
}
"""Caption to documents, relative to docs/, in the order of reading. A document that is missing here fails the build."""

project = "Switchback"
root_doc = "README"
extensions = ["myst_parser"]
exclude_patterns = sorted(
    {path.name for path in ROOT.iterdir()} - {"docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
)
myst_heading_anchors = 4
nitpicky = True
highlight_language = "text"
html_theme = "furo"
html_title = "Switchback"
html_extra_path = ["site/index.html"]
html_static_path = ["site/style.css"]
html_css_files = ["style.css"]
html_use_index = False
pygments_style, pygments_dark_style = "default", "github-dark"
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False


def add_navigation(app, name, source):
    """GitHub would show a toctree as text: it is put behind the start page only while the site is built."""
    if name == root_doc:
        for caption, names in NAVIGATION.items():
            documents = "\n".join(f"/docs/{document}" for document in names)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{documents}\n```\n"


def setup(app):
    """Sphinx calls this."""
    app.connect("source-read", add_navigation)
