"""Execute notebooks of this folder from top to bottom; the committed ones are not changed without --write.

Run: python nbs/run.py [--fast] [--write] [NAME ...]

--fast   a cell whose metadata has "fast" runs that in place of its source: larger batches, outputs of the same form;
         pictures are coarse
--write  keep the outputs: pictures reduced to 128 colours, charts both as a picture and as what a page can make live

A notebook has one idea, runs in less than two minutes, needs nothing but `collab` and what it imports, and ends with
where to go next. Prose comes before the cell it speaks of; a number that it mentions is one that a cell prints.
Solutions of exercises are code cells with the tag "solution", which a notebook and the site fold."""

import argparse
import base64
import io
import os
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
BOTH = """
try:
    import altair, base64, vl_convert
except ImportError:
    pass
else:
    altair.renderers.register("both", lambda spec, **_: {{
        f"application/vnd.vegalite.{{altair.SCHEMA_VERSION.split('.')[0]}}+json": spec,
        "image/png": base64.b64encode(vl_convert.vegalite_to_png(spec, scale={scale})).decode()}})
    altair.renderers.enable("both")
"""     # run before the first cell: a chart is kept as its specification and as a picture
FAST = """
%config InlineBackend.print_figure_kwargs = {"bbox_inches": None, "dpi": 30}
"""     # the same with coarser pictures, each drawn once and not a second time for its margins


def executed(path: Path, fast: bool = False, folder: Path = HERE, kernel: str = "python3") -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in `folder`. Raises CellExecutionError where a cell fails."""
    book = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in book.cells]
    for cell in book.cells:
        cell.source = cell.metadata.get("fast", cell.source) if fast else cell.source
    client = NotebookClient(book, timeout=600, kernel_name=kernel, record_timing=False, coalesce_streams=True,
                            shutdown_kernel="immediate", resources={"metadata": {"path": str(folder)}})
    first = BOTH.format(scale=0.2 if fast else 1.5) + (FAST if fast else "")
    client.on_notebook_start = lambda notebook: client.kc.execute(first, store_history=False)
    with tempfile.TemporaryDirectory() as place:        # a kernel that is ended at once, not in seconds, leaves files
        client.execute(env={**os.environ, "TMPDIR": place})
    for cell, source in zip(book.cells, sources):
        cell.source = source
    return book


def write(book: nbformat.NotebookNode, path: Path) -> None:
    """Keep the outputs, small and without what differs from machine to machine."""
    book.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in book.cells:
        if cell.cell_type == "code":        # the terms of MovieLens are printed once on each machine
            cell.outputs = [out for out in cell.outputs if not out.get("text", "").startswith("MovieLens ")]
    for out in [out for cell in book.cells for out in cell.get("outputs", [])]:
        if "image/png" in out.get("data", {}):
            out.data["image/png"] = _small(out.data["image/png"])
            out.metadata = {}
    for cell in book.cells:
        if name := cell.metadata.get("picture"):        # which README or the site shows, too
            (png,) = [out.data["image/png"] for out in cell.outputs if "image/png" in out.get("data", {})]
            (PICTURES / f"{name}.png").write_bytes(base64.b64decode(png))
    nbformat.write(book, path)


def _small(png: str) -> str:
    drawn = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(128).save(drawn, "PNG", optimize=True)
    return base64.b64encode(drawn.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.fast and args.write:
        parser.error("--fast and --write do not go together: what is kept is what the sources give")
    books = [HERE / name for name in args.names] or sorted(HERE.glob("*.ipynb"))
    for path in books:
        start = time.perf_counter()
        book = executed(path, args.fast)
        if args.write:
            write(book, path)
        n_cells = sum(cell.cell_type == "code" for cell in book.cells)
        print(f"{path.name}: {n_cells} cells, {time.perf_counter() - start:.0f} s")
    print(f"{len(books)} ran clean.")


if __name__ == "__main__":
    main()
