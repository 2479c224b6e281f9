"""`service`: an ASGI application that answers from one model, to be served or mounted in another application."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..data.allowed import Chosen
from ..data.where import Where
from ..learner.collab_learner import CollabLearner
from ..retrieval.index import Index

if TYPE_CHECKING:
    from starlette.types import ASGIApp

REMEDY = "serving needs starlette and uvicorn: pip install starlette uvicorn, or install collab with the extra serve"


def service(model: CollabLearner | Index, *, hosts: Iterable[str] | None = None,
            threads: int | None = None, among: Chosen | None = None, without: Chosen | None = None,
            where: Where | None = None, diversity: float = 0.0) -> ASGIApp:
    """The application that serves a learner or an index: JSON at `recommend`, `similar`, `search`, `items`, `map` and
    `health`, described at `openapi.json` and `docs`, and a page at the root.

    Its addresses are relative, so that it may be mounted in another ASGI application, such as
    `Mount("/films", service(learn))` in Starlette or FastAPI. It keeps nothing of what visitors send. Requests are
    answered by a pool of `threads` (by default one for each processor, at most 4), away from the event loop; with
    several, `torch.set_num_threads(1)` keeps torch from starting more in each.

    - `hosts`: names that a request may call the machine by (its Host header, without the port), such as
      ["localhost", "127.0.0.1"]. Others get status 403, so that a page from elsewhere cannot ask a local service by a
      name of its own (DNS rebinding). None, the default, leaves that to the application around it.
    - `among`, `without`, `where`, `diversity`: those of `CollabLearner.recommend`, to which every list of `recommend`
      keeps; lists of `similar` keep to the first three. All items are found and rated as before.

    The model is prepared first: the ridge of new users is chosen and the map is laid out, which may take seconds.
    Raises ImportError where Starlette is missing, TypeError for another kind of model, ValueError for `threads` < 1,
    and what `recommend` raises for rules that cannot be kept."""
    try:
        importlib.import_module("starlette")
    except ImportError:
        raise ImportError(REMEDY) from None
    from .guard import Guard
    from .routes import application
    from .served import served
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    view = served(model, among=among, without=without, where=where, diversity=diversity)
    return Guard(application(view, threads or min(4, os.cpu_count() or 1)), hosts)
