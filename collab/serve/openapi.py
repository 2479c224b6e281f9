"""The service described in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from .asked import DEFAULT_N, MAX_BODY, MAX_N, MAX_RATINGS, MAX_TEXT
from .served import Served

Json = dict[str, Any]
VERSION = "1"               # of the addresses and their answers
ID: Json = {"oneOf": [{"type": "integer"}, {"type": "string"}],
            "description": "An id. Ids that are neither text nor whole numbers are text here."}
N: Json = {"name": "n", "in": "query", "description": f"How many; by default {DEFAULT_N}.",
     "schema": {"type": "integer", "minimum": 1, "maximum": MAX_N, "default": DEFAULT_N}}

SHARE: Json = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
SURE: tuple[tuple[str, Json, str], ...] = (
    ("interval", SHARE, "A probability, such as 0.9: each item then has low and high, between which its rating lies "
                        "with it."),
    ("risk", {"oneOf": [{"type": "string", "enum": ["mean", "draw"]}, SHARE]},
     "What to rank by, and what the score is: mean, the default; a number such as 0.1, the rating that is exceeded "
     "with probability 0.9, a safe choice; or draw, by what may be true, each time differently, to explore."))
"""What a model that knows how sure it is takes, too: names, schemas and descriptions."""


def document(served: Served) -> Json:
    """The OpenAPI document of a model's service: its paths, and what they take and give."""
    likes = served.scale is None
    rating: Json = {"type": "number"}
    if served.scale is not None:
        rating |= {"minimum": served.scale["low"], "maximum": served.scale["high"]}
    ratings: Json = {"type": "object", "additionalProperties": rating, "minProperties": 1, "maxProperties": MAX_RATINGS}
    what = "rated: items, by id or title, and their ratings."
    if likes:
        what = "chose: items, or items with " + (
            "strengths." if served.threshold is None else f"ratings, of which those above {served.threshold:g} count.")
        ratings = {"oneOf": [{"type": "array", "items": ID, "minItems": 1, "maxItems": MAX_RATINGS}, ratings]}
    body = {"type": "object", "required": ["ratings"], "additionalProperties": False, "properties": {
        "ratings": {**ratings, "description": f"What the visitor {what}"},
        "n": {**N["schema"], "description": N["description"]},
        **({name: {**schema, "description": about} for name, schema, about in SURE} if served.intervals else {}),
        "without": {"type": "array", "items": ID, "maxItems": MAX_RATINGS, "description": "Items to leave out."}}}
    chosen = served.popular(2)
    example: Json = {"ratings": [one["item"] for one in chosen] if likes or served.scale is None else
                     {str(one["item"]): served.scale["high"] for one in chosen}, "n": 5}
    recommend = {
        "get": _operation("Recommend to a known user", _listed("Recommendation"), 404, parameters=[
            _text("user", "The id of the user."), N,
            *({"name": name, "in": "query", "description": about, "schema": schema}
              for name, schema, about in SURE if served.intervals),
            {"name": "without", "in": "query", "description": "An item to leave out; may be given again.",
             "schema": {"type": "array", "items": {"type": "string"}}}]),
        "post": _operation("Recommend to a visitor", _listed("Recommendation"), 404, 408, 413, 415,
                           description="Nothing is trained, and nothing that is sent is kept.", requestBody={
                               "required": True, "description": f"At most {MAX_BODY:,} bytes.",
                               "content": {"application/json": {"schema": body, "example": example}}})}
    similar = _operation("Items like one", _listed("Similar"), 404, parameters=[
        _text("item", "The id of the item, or its whole title; case does not matter."), N])
    search = _operation("Search titles", _listed("Item"), description="Parts of words are enough; case and accents do "
                        "not matter. Without titles, ids are searched.", parameters=[
                            _text("q", "What is looked for."), N])
    first = "most rated items" if served.counts is not None else "first items of the index, which holds no counts"
    paths = {"/recommend": recommend, "/similar": {"get": similar}, "/search": {"get": search},
             "/items": {"get": _operation(f"The {first}", _listed("Item"), parameters=[N])},
             "/map": {"get": _operation(f"The map of the page: the {first}, and their places", _listed("Item"))},
             "/health": {"get": _operation("What the service knows and can do", {"type": "object"})}}
    return {"openapi": "3.1.0", "paths": paths, "components": {"schemas": _schemas(served.intervals)},
            "info": {"title": "collab", "version": VERSION,
                     "description": f"Recommendations from {served.model}: {served.about()['items']:,} items."}}


def _schemas(intervals: bool) -> Json:
    item = {"item": ID, "title": {"type": "string", "description": "Where titles are known."},
            "n_ratings": {"type": "integer", "description": "How often it was rated, where that is known."},
            "x": {"type": "number", "description": "Its place on the map, where there is one: from the left,"},
            "y": {"type": "number", "description": "and from below; 0 is the middle."}}
    ranked = {"rank": {"type": "integer", "description": "1 for the first."}, **item,
              "score": {"type": "number", "description": "The predicted rating; of models that rank, and of similar "
                                                         "items, a number by which they are ordered."}}
    limits = {name: {"type": "number", "description": f"With interval, {what} the rating lies between them with its "
                     "probability."} for name, what in (("low", "the lower end:"), ("high", "the upper end:"))}
    why = {"type": ["string", "null"], "description": "The title (or id) of what was liked that raises the score most."}
    return {"Item": {"type": "object", "properties": item}, "Similar": {"type": "object", "properties": ranked},
            "Recommendation": {"type": "object", "properties": {**ranked, **(limits if intervals else {}),
                                                               "why": why}},
            "Error": {"type": "object", "properties": {"error": {"type": "string"}}}}


MEANINGS = {400: "The request cannot be used; the message says why.",
            404: "An id or a title that is not known; of an item the message names near ones, and where to search.",
            408: "The body came too slowly.", 413: "The body is too large.", 415: "The body is not JSON."}


def _operation(summary: str, schema: Json, *errors: int, **more: Any) -> Json:
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"summary": summary, **more, "responses": {
        "200": {"description": "What was asked for.", "content": {"application/json": {"schema": schema}}},
        **{str(status): {"description": MEANINGS[status], "content": failed} for status in (400, *errors)}}}


def _listed(what: str) -> Json:
    return {"type": "object", "properties": {"items": {"type": "array", "items": {
        "$ref": f"#/components/schemas/{what}"}}}}


def _text(name: str, description: str) -> Json:
    return {"name": name, "in": "query", "required": True, "description": description,
            "schema": {"type": "string", "maxLength": MAX_TEXT}}
