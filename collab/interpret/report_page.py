"""The frame of a report: one file of HTML, with its style and script, and tables that can be copied as CSV."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

import numpy as np
import pandas as pd

POLICY = ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data:; "
          "base-uri 'none'; form-action 'none'")
"""What the page may load: nothing. Vega makes functions of the expressions in a chart, which needs unsafe-eval."""

SHOWN = {"n_ratings": "ratings", "mean_rating": "mean", "n_relevant": "relevant"}   # headers that read better so
SHORT = 16      # letters of an id that stays in one line


def page(title: str, about: str, tiles: Mapping[str, tuple[str, str]], sections: Mapping[str, str],
         bundle: str | None) -> str:
    """The page. `about` and `sections`, by their headings, are HTML; `tiles` map a name to a figure and a remark;
    `bundle` is the script that draws the map, if there is one."""
    style, script = (files(__package__).joinpath(f"report.{kind}").read_text(encoding="utf-8")
                     for kind in ("css", "js"))
    links = "".join(f'<a href="#{_slug(name)}">{escape(name)}</a>' for name in sections)
    body = "".join(f'<section id="{_slug(name)}"><h2>{escape(name)}</h2>{text}</section>'
                   for name, text in sections.items())
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(figure)}"
                    f"{f'<small>{escape(note)}</small>' if note else ''}</dd></div>"
                    for name, (figure, note) in tiles.items())
    libraries = "" if bundle is None else packed(bundle, "vega")
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{style}</style></head>'
            f'<body><header><h1>{escape(title)}</h1><p>{about}</p><dl class="tiles">{facts}</dl>'
            f'<nav aria-label="Sections">{links}</nav></header><main>{body}</main>'
            f'<div id="said" class="hidden" role="status"></div>{libraries}<script>{script}</script></body></html>\n')


def table(frame: pd.DataFrame, name: str, *, decimals: int = 3, shown: bool = True, own: int | None = None) -> str:
    """A table with a button that copies it as CSV, with numbers as exact as six digits. `name` is its caption, which is
    seen if `shown`; the row at `own` stands out."""
    if frame.empty:
        return f"<h4>{escape(name)}</h4><p class=missing>There is nothing to list.</p>"
    kinds = [_kind(str(label), column) for label, column in frame.items()]
    head = "".join(f'<th scope="col" class={kind}{_exact(str(label), SHOWN.get(str(label), str(label)))}>'
                   f"{escape(SHOWN.get(str(label), str(label)))}</th>" for label, kind in zip(frame, kinds))
    columns = [column.tolist() for _, column in frame.items()]
    rows = "".join(f"<tr{' class=own' * (k == own)}>" + "".join(_cell(value, kind, decimals)
                                                                for value, kind in zip(row, kinds)) + "</tr>"
                   for k, row in enumerate(zip(*columns)))
    caption = f"<h4>{escape(name)}</h4>" if shown else "<span></span>"
    small = " small" * ("t" not in kinds)
    return (f'<figure class="table{small}"><div>{caption}<button type="button" class="copy" '
            f'aria-label="Copy CSV: {escape(name)}">Copy CSV</button></div><div class="scroll" tabindex="0" '
            f'role="region" aria-label="{escape(name)}"><table><caption class="hidden">{escape(name)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></figure>")


def row(blocks: Sequence[str], kind: str = "") -> str:
    """Blocks side by side, as many as there is room for."""
    return f'<div class="row {kind}">{"".join(f"<div>{block}</div>" for block in blocks)}</div>'


def _kind(label: str, column: pd.Series) -> str:
    """What a column holds: "n" numbers, "i" short words in one line, such as ids, or "t" text."""
    if pd.api.types.is_numeric_dtype(column) and label not in ("id", "item", "user"):
        return "n"
    return "i" if label != "title" and column.astype(str).str.len().max() <= SHORT else "t"


def _cell(value: object, kind: str, decimals: int) -> str:
    if isinstance(value, float):
        missing = np.isnan(value)
        text, exact = ("", "") if missing else (f"{value:.{decimals}f}", f"{value:.6g}")
    else:
        text = "" if value is None else f"{value:,}" if isinstance(value, int) and kind == "n" else str(value)
        exact = "" if value is None else str(value)
    return f"<td class={kind}{_exact(exact, text)}>{escape(text)}</td>"


def _exact(exact: str, text: str) -> str:
    """What is copied, where it is not what is shown."""
    return "" if exact == text else f' data-v="{escape(exact)}"'


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def packed(text: str, id: str) -> str:
    """Text that the page's script unpacks by its id: compressed, a third as long, and without anything that HTML
    takes for its own."""
    content = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
    return f'<script type="text/plain" id="{id}">{content}</script>'
