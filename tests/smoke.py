"""Check that the built wheel works where it is installed. Run: python smoke.py FOLDER_OF_ARCHIVES"""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import metadata
from pathlib import Path


def check_archives(folder: Path) -> None:
    """The wheel and the source archive contain the licence and the files that are not Python."""
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    with tarfile.open(source) as file:
        sources = file.getnames()
    page = [f"collab/serve/page/{name}" for name in ("index.html", "page.css", "page.js", "rating.js", "map.js",
                                                     "icon.svg")]
    for name in ("collab/py.typed", "collab/interpret/report.css", "collab/interpret/report.js", *page):
        assert name in names and any(other.endswith(f"/{name}") for other in sources), name
    assert any(name.endswith("/licenses/LICENSE") for name in names), names
    assert not [name for name in names if name.startswith(("tests/", "nbs/", "benchmarks/"))]
    for name in ("LICENSE", "README.md", "setup.cfg", "pyproject.toml"):
        assert any(other.count("/") == 1 and other.endswith(f"/{name}") for other in sources), name


def collab(*words: str) -> str:
    """The output of the installed command."""
    command = Path(sys.executable).with_name("collab")
    return subprocess.run([command, *words], check=True, capture_output=True, text=True).stdout


def check_package() -> None:
    """Train on synthetic ratings, write, load and recommend, in Python and from the command line."""
    import collab as package
    assert Path(package.__file__).is_relative_to(sys.prefix), package.__file__
    known = metadata("collab-torch")
    assert known["Version"] == package.__version__ and known["License-File"] == "LICENSE"
    assert collab("--version") == f"collab {package.__version__}\n"
    ml = package.synthetic(n_users=60, n_items=40, n_ratings=900, seed=0)
    data = package.CollabDataBunch.from_df(ml.ratings, items=ml.items, seed=0)
    learn = package.collab_learner(data, n_factors=4)
    learn.fit_one_cycle(1)
    loaded = package.load_learner(learn.export("model.safetensors"))
    asked = ml.ratings["user"].iloc[0]
    assert loaded.recommend(asked).equals(learn.recommend(asked))
    ml.ratings.to_csv("ratings.csv", index=False)
    collab("train", "ratings.csv", "--epochs", "1", "--factors", "4", "--out", "again.safetensors")
    assert len(collab("recommend", "again.safetensors", "--user", str(asked), "-n", "3", "--as", "csv").split()) == 4
    assert "rank  item  score" in collab("recommend", "again.safetensors", "--user", str(asked))


if __name__ == "__main__":
    check_archives(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        sys.path = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]
        os.chdir(folder)
        check_package()
    print("The wheel works.")
