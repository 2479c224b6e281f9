"""Notebooks as pages: what a cell shows becomes Markdown, pictures become files.

Material renders Markdown in its own style: copy buttons, a dark scheme, narrow screens, a search that knows headings,
and links that a strict build checks. A notebook's own HTML has none of these, and much style on each page."""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

CHART = re.compile(r"application/vnd\.vegalite\.v\d+\+json")
HEADING = re.compile(r"^#+ (.+)", re.M)
STYLE = re.compile(r"^\s*<style scoped>.*?</style>\s*", re.S | re.M)     # pandas' own, for a page of the same table


@dataclass
class Page:
    """The Markdown of a notebook, and its pictures by file name."""

    text: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)


def page_of(path: Path) -> Page:
    """The page of a notebook; its pictures are expected in a folder of its name beside it."""
    page, parts, heading = Page(), [], ""
    for k, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.cell_type == "markdown":
            heading = [heading, *HEADING.findall(cell.source)][-1]
            parts.append(_prose(cell.source))
            continue
        shown = _code(cell, page, f"{path.stem}/{k}", heading)
        if "solution" in cell.metadata.get("tags", []):
            summary = html.escape(cell.source.partition("\n")[0].lstrip("# "))
            shown = f'<details class="success" markdown="1">\n<summary>{summary}</summary>\n\n{shown}\n\n</details>'
        parts.append(shown)
    page.text = "\n\n".join(parts) + "\n"
    return page


def _prose(source: str) -> str:
    """Markdown cells as they are; displayed formulas are paragraphs of their own, and notebooks are pages."""
    source = re.sub(r"\n*(\$\$.+?\$\$)\n*", r"\n\n\1\n\n", source, flags=re.S)
    source = re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.md", source)
    return source.replace("](../docs/", "](../").strip()


def _code(cell: Any, page: Page, name: str, heading: str) -> str:
    shown = [f"```python\n{cell.source}\n```"] if cell.source.strip() else []
    for k, out in enumerate(cell.outputs):
        shown.append(_output(out, page, f"{name}-{k}", heading))
    return "\n\n".join(shown)


def _output(out: Any, page: Page, name: str, heading: str) -> str:
    """One output, in the richest of its forms that a page can show."""
    data = out.get("data", {})
    picture = ""
    if "image/png" in data:
        page.pictures[f"{name}.png"] = base64.b64decode(data["image/png"])
        picture = f"![Picture: {heading}]({name}.png)"
    if chart := next((data[kind] for kind in data if CHART.fullmatch(kind)), None):
        spec = json.dumps(chart, separators=(",", ":")).replace("</", "<\\/")
        return (f'<div class="chart" markdown="1">\n\n{picture}\n\n<script type="application/json">{spec}</script>\n\n'
                "</div>")
    if picture:
        return picture
    if "text/html" in data:
        return f'<div class="output">{STYLE.sub("", data["text/html"])}</div>'
    text = data.get("text/plain", out.get("text", "")).rstrip("\n")
    return f'<div class="output"><pre>{html.escape(text, quote=False)}</pre></div>'
