"""collab index: the vectors of a model in a file of their own, without ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import OUT, As, ModelFile, Quiet

INDEX = Path("index.safetensors")
Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write the index.")]
Columns = Annotated[list[str] | None, typer.Option(metavar="NAMES", help="The columns of --items to keep, for "
                                                   "conditions such as genres=War; names may follow each other. By "
                                                   "default all.")]
NoUsers = Annotated[bool, typer.Option("--no-users", help="Leave out the vectors of known users: the file answers new "
                                                          "ones alone.")]


def index(model: ModelFile = OUT, *, out: Out = INDEX, columns: Columns = None, no_users: NoUsers = False,
          as_: As = None, quiet: Quiet = False) -> None:
    """Write a model's vectors, ids and titles into an index, which recommend and serve take in place of the model. It
    holds no ratings: lists of known users may have what they rated. Models whose score is not a product of vectors
    have none."""
    from .inputs import check_writable, load
    from .output import print_written, remarks
    from .read_again import training_files
    check_writable(out, "index", inputs=[model])
    learn = load(model)
    check_writable(out, "index", inputs=training_files(learn, model))
    made = learn.index(users=not no_users, columns=columns)
    print_written(made.save(out), as_)
    users = "no users" if made.user_ids is None else f"{len(made.user_ids) - 1:,} users"
    known = [str(name) for name in ([] if made.table is None else made.table)]
    if made.titles and (title := str(learn.data.title_name or "title")) not in known:
        known.insert(0, title)
    alone = "" if made.equations is not None else (
        f"\nIt serves known users alone, since it holds nothing to solve new ones by; collab serve {model} may take "
        "them.")
    remarks(as_, quiet)(f"{made.items.shape[1]} numbers for each of {len(made):,} items; {users}; what is known of "
                        f"items: {', '.join(known) or 'ids alone'}.\n\nNext: collab serve {out}{alone}")
