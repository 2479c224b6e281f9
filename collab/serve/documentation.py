"""The page that documents the service, made from its OpenAPI document: no scripts, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

Json = dict[str, Any]


PLAIN = re.compile(r"https?://[\w.\-:\[\]]+[\w.\-/]*", re.ASCII)     # an address without what shells or HTML read


def documentation(document: Json, address: str = "http://127.0.0.1:8000") -> str:
    """The page, as HTML, of an OpenAPI document such as `openapi.document` makes. Its examples ask the service at
    `address`, as the reader called it; at a path alone, where that has characters that addresses do not have."""
    address = address.rstrip("/") if PLAIN.fullmatch(address) else ""
    info, schemas = document["info"], document["components"]["schemas"]
    operations = "".join(_operation(method, path, operation, schemas, address)
                         for path, methods in document["paths"].items() for method, operation in methods.items())
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            'content="width=device-width, initial-scale=1"><title>The service</title>'
            '<link rel="icon" href="icon.svg"><link rel="stylesheet" href="page.css"></head><body class="docs">'
            f'<header><h1>The service</h1><p>{escape(info["description"])} Answers are JSON; errors are '
            '<code>{"error": "..."}</code>. The same as an <a href="openapi.json">OpenAPI document</a>; '
            f'<a href="./">the page</a> uses it.</p></header><main>{operations}</main></body></html>')


def _operation(method: str, path: str, operation: Json, schemas: Json, address: str) -> str:
    parts = [f'<section><h2><span class="method">{method.upper()}</span> {escape(path)}</h2>'
             f'<p>{escape(operation["summary"])}. {escape(operation.get("description", ""))}</p>']
    if "parameters" in operation:
        parts.append(_table("Parameters", [(p["name"], p["description"] + " Needed." * bool(p.get("required")))
                                           for p in operation["parameters"]]))
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        fields = [(name, field["description"]) for name, field in content["schema"]["properties"].items()]
        parts.append(_table("Fields of the body", fields))
        example = json.dumps(content["example"], ensure_ascii=False)
        parts.append(f'<pre><code>{escape(_curl(address + path, example))}</code></pre>')
    given = operation["responses"]["200"]["content"]["application/json"]["schema"]
    if "properties" in given:
        what = given["properties"]["items"]["items"]["$ref"].rpartition("/")[2]
        fields = [(name, field.get("description", "")) for name, field in schemas[what]["properties"].items()]
        parts.append(_table("Each of items", fields))
    errors = [(status, one["description"]) for status, one in operation["responses"].items() if status != "200"]
    return "".join([*parts, _table("Errors", errors), "</section>"])


def _curl(address: str, body: str) -> str:
    quoted = body.replace("'", "'\\''")
    return f"curl -H 'Content-Type: application/json' -d '{quoted}' {address}"


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    inside = "".join(f"<tr><th scope=\"row\"><code>{escape(name)}</code></th><td>{escape(about)}</td></tr>"
                     for name, about in rows)
    return f"<h3>{escape(head)}</h3><table>{inside}</table>"
