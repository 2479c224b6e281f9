"""collab serve: a model behind HTTP, with a page to try it on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import OUT, ModelFile
from .recommend import Among, Diversity, Where, Without, asked

if TYPE_CHECKING:
    from ..learner.collab_learner import CollabLearner
    from ..retrieval.index import Index

HOST, PORT = "127.0.0.1", 8000


def serve(model: ModelFile = OUT,
          host: Annotated[str, typer.Option(help="Where to listen; by default to this machine alone. 0.0.0.0: to all "
                                                 "that reach it.")] = HOST,
          port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = PORT,
          threads: Annotated[int | None, typer.Option(min=1, help="Requests answered at a time; by default as many as "
                                                                  "there are processors, at most 4.")] = None,
          log: Annotated[bool, typer.Option("--log", help="Log every request on standard error.")] = False,
          where: Where = None, among: Among = None, without: Without = None, diversity: Diversity = 0.0) -> None:
    """Serve recommendations as JSON, and a page on which a visitor rates and sees them change.

    MODEL is a model file or an index. All lists keep to --where, --among, --without and --diversity. Ctrl-C or SIGTERM
    stops it: running requests finish, and the exit code is 0."""
    import torch

    from ..retrieval.index import Index
    from ..serve import service
    from ..serve.listening import hosts_of, listen, run, url_of
    hosts = hosts_of(host)
    sock = listen(host, port)           # at once, so that a port in use is known before the model is read
    with sock:
        torch.set_num_threads(1)        # requests are answered side by side
        loaded = load_any(model)
        known = (loaded.catalogue, loaded.table) if isinstance(loaded, Index) else (
            loaded.data.catalogue, loaded.data.item_table)
        app = service(loaded, hosts=hosts, threads=threads, where=where, among=asked(*known, among),
                      without=asked(*known, without), diversity=diversity)
        if hosts is None:
            print(f"Warning: --host {host} is not this machine alone: all who reach it may ask for recommendations, "
                  "those of known users too; put a server that knows who may in front of it", file=sys.stderr)
        print(f"Serving {model} at {url_of(sock, host)} (Ctrl-C stops it)", flush=True)
        run(app, sock, log=log, ends=True)
    print("Stopped.", file=sys.stderr)


def load_any(path: Path) -> CollabLearner | Index:
    """The learner or the index of a file. Raises DataError for other files."""
    from ..files import kind_of
    from ..retrieval.index import Index
    from .inputs import load
    return Index.load(path) if kind_of(path) == "index" else load(path)
