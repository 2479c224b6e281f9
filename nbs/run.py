"""Execute every notebook of this folder from top to bottom, in a copy; the committed ones are not changed.

Run: python nbs/run.py [NAME ...]"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def main() -> None:
    books = [HERE / name for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb"))
    for path in books:
        start = time.perf_counter()
        book = nbformat.read(path, as_version=4)
        NotebookClient(book, timeout=600, resources={"metadata": {"path": str(HERE)}}).execute()
        n_cells = sum(cell.cell_type == "code" for cell in book.cells)
        print(f"{path.name}: {n_cells} cells, {time.perf_counter() - start:.0f} s")
    print(f"{len(books)} ran clean.")


if __name__ == "__main__":
    main()
