"""Hooks of MkDocs: the pages and files that are made from notebooks, docstrings and packages.

MathJax comes from the package django-static-mathjax and Vega from vl-convert-python, so that the site needs no network,
neither to be built nor to be read."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vl_convert
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from notebooks import page_of
from reference import page_of_module, pages

SOURCE = re.compile(r"\]\((?:\.\./)+(collab|nbs)/([\w/]+)\.(?:py|ipynb)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the course, the reference and the scripts of other packages."""
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        page = page_of(path)
        files.append(_made(config, f"course/{path.stem}.md", page.text))
        for name, content in page.pictures.items():
            files.append(_made(config, f"course/{name}", content))
    for name, text in pages():
        files.append(_made(config, f"reference/{name}.md", text))
    files.append(_made(config, "assets/vega.js", vl_convert.javascript_bundle()))
    files.append(_made(config, "assets/mathjax.js", _mathjax()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository: a notebook is a page of the course, a source file is in the reference."""
    up = "../" * page.file.src_uri.count("/")

    def there(match: re.Match[str]) -> str:
        folder, name = match.groups()
        if folder == "nbs":
            return f"]({up}course/{name}.md)"
        if (room := page_of_module("collab." + name.replace("/", "."))) is None:
            raise ValueError(f"{page.file.src_uri} links to collab/{name}.py, which has no page in the reference")
        return f"]({up}reference/{room}.md)"
    return SOURCE.sub(there, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Leave out what only a server with an address can use."""
    for name in ("404.html", "sitemap.xml", "sitemap.xml.gz"):
        (Path(config.site_dir) / name).unlink(missing_ok=True)


def _made(config: Any, uri: str, content: str | bytes) -> File:
    return File.generated(config, uri, content=content)


def _mathjax() -> str:
    """The whole of MathJax that typesets TeX as pictures, in one script."""
    package = importlib.util.find_spec("mathjax")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("pip install django-static-mathjax, for the mathematics of the site")
    return (Path(package.submodule_search_locations[0]) / "static/mathjax/es5/tex-svg.js").read_text(encoding="utf-8")
