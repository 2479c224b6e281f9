"""The reference: one page for each room of the house, with the public names that live there."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import griffe

FIRST = ("collab_learner", "CollabLearner", "load_learner", "CollabDataBunch", "movielens", "Learner", "Callback",
         "evaluate", "EmbeddingDotBias", "CollabInterpretation", "Index")      # the others follow by the alphabet
ROOMS = {       # page: (title, what it begins with, packages and modules)
    "data": ("Data", "Tables of ratings become batches over two vocabularies.", ("collab.data",)),
    "datasets": ("Data sets", "MovieLens, and ratings with planted factors.", ("collab.datasets",)),
    "models": ("Models", "Modules from rows of users and items to scores.", ("collab.models",)),
    "losses": ("Losses and metrics", "Functions of predictions and targets.", ("collab.losses", "collab.metrics")),
    "training": ("Training", "The loop, its optimizers and schedules.", ("collab.train", "collab.sharded_rows")),
    "callbacks": ("Callbacks", "What may be hooked into training.", ("collab.train.callback", "collab.train.callbacks",
                                                                       "collab.train.events")),
    "learner": ("Collaborative learners", "Recipes, recommendations, new users, files.", ("collab.learner",)),
    "retrieval": ("Retrieval", "Exact and approximate top-k.", ("collab.retrieval",)),
    "evaluation": ("Evaluation", "Ranking metrics, comparisons, folds.\n\n::: collab.evaluate.ranking",
                   ("collab.evaluate", "collab.select")),
    "interpretation": ("Interpretation", "What was learned: tables, pictures, charts.", ("collab.interpret",)),
    "serving": ("Serving", "Recommendations over HTTP, and a page.", ("collab.serve",)),
    "errors": ("Errors", "What is raised and warned of.", ("collab.errors",)),
}

HELP = """
import contextlib, io, json, sys
from collab.cli import main
shown = {}
for command in sys.argv[1:]:
    sys.argv = ["collab", command, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as end:
            assert not end.code, command
    shown[command] = out.getvalue()
print(json.dumps(shown))
"""     # in a process of its own, without a terminal


def pages() -> Iterator[tuple[str, str]]:
    """(name, Markdown) of each page of the reference. Raises ValueError for a public name without a page."""
    import collab
    from collab import public
    names = sorted(public.__all__, key=lambda name: (name not in FIRST, name.lower()))
    homes = {name: getattr(inspect.getmodule(getattr(collab, name)), "__name__", "") for name in names}
    for page, (title, about, _) in ROOMS.items():
        own = [f"::: {home}.{name}" for name, home in homes.items() if page_of_module(home) == page]
        yield page, "\n\n".join([f"# {title}", about, *own]) + "\n"
    if lost := [name for name, home in homes.items() if page_of_module(home) is None]:
        raise ValueError(f"no page of the reference has {lost}; their modules belong in ROOMS")
    yield "command-line", _command_line()


def page_of_module(module: str) -> str | None:
    """The page whose place is the nearest one above a module."""
    depth = {page: max((len(place) for place in places if f"{module}.".startswith(f"{place}.")), default=0)
             for page, (_, _, places) in ROOMS.items()}
    best = max(depth, key=depth.__getitem__)
    return best if depth[best] else None


def _command_line() -> str:
    from collab.cli.app import commands
    env = os.environ | {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", HELP, *commands()], capture_output=True, text=True, env=env,
                          check=True)
    shown = [f"## {command}\n\n```text\n{text.strip()}\n```" for command, text in json.loads(done.stdout).items()]
    return "\n\n".join(["# Command line\n\n`collab COMMAND --help`, as it is printed.", *shown]) + "\n"


class Doctests(griffe.Extension):
    """Examples with >>> in docstrings are shown as code; Markdown would take them for quotations."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Text with a fence around each example."""
    lines, inside = [], False
    for line in [*text.splitlines(), ""]:
        if line.lstrip().startswith(">>>") and not inside:
            lines, inside = [*lines, "", "```pycon"], True
        elif inside and not line.strip():
            lines, inside = [*lines, "```"], False
        lines.append(line)
    return "\n".join(lines).rstrip()
