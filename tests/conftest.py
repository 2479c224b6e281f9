"""Real data for the tests, where it can be had, and the command line as tests call it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from fresh import FreshProcesses

from collab import CollabInterpretation, CollabLearner, cli
from collab.datasets.download import RECBOLE, RECBOLE_WHEEL, cache_folder, fetch_recbole
from collab.datasets.movielens import movielens
from collab.datasets.rating_set import RatingSet
from collab.datasets.synthetic import synthetic
from collab.errors import DataError
from collab.train.torchrec_tables import check_installed

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Forget compiled kernels that are older than any of their sources: numba looks at the file of a function alone,
    not at those of what is inlined in it. And let programs that tests start see Ctrl-C: what a shell runs in the
    background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    package = Path(cli.__file__).parents[1]
    sources = [*package.rglob("*_kernels.py"), package / "simd.py"]
    newest = max(source.stat().st_mtime for source in sources)
    for compiled in package.rglob("*.nb[ci]") if not hasattr(config, "workerinput") else ():
        if compiled.stat().st_mtime < newest:
            compiled.unlink()


@pytest.fixture(scope="session")
def torchrec_loaded() -> None:
    """TorchRec, where it is installed: forks need not import it, which takes seconds in each."""
    with suppress(DataError):
        check_installed()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that workers that are given whole files in this order end together."""
    long = ["test_notebooks.py", "test_site.py", "test_day.py", "test_sharded.py", "test_sharded_resume.py",
            "test_distributed.py", "test_distributed_stops.py", "test_startup.py", "test_battery_command_line.py"]
    place = {name: k for k, name in enumerate(long)}
    items.sort(key=lambda item: place.get(item.path.name, len(long)))


@pytest.fixture(scope="session")
def ml100k_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COLLAB_HOME with MovieLens-100K from the cache folder, from ../shared/data beside the repository, or from the
    package index; never from GroupLens, whose server should not serve test suites."""
    home = tmp_path_factory.mktemp("collab_home")
    cached = [cache_folder() / name for name in ("ml-100k.zip", "ml-100k.recbole.zip", RECBOLE_WHEEL)]
    for archive in [*cached, SHARED_DATA / "ml-100k.zip"]:
        if archive.exists():
            shutil.copy(archive, home)
            return home
    try:
        fetch_recbole(home / "ml-100k.recbole.zip")
    except DataError as error:
        pytest.skip(f"MovieLens-100K is not in {cache_folder()} (COLLAB_HOME), not in {SHARED_DATA}, and pip could not "
                    f"get {RECBOLE}: {error}")
    return home


@pytest.fixture(scope="session")
def ml100k(ml100k_home: Path) -> RatingSet:
    """MovieLens-100K (see `ml100k_home` for where from)."""
    return movielens("100k", home=ml100k_home)


@pytest.fixture(scope="session")
def ml_small(tmp_path_factory: pytest.TempPathFactory) -> RatingSet:
    """MovieLens latest-small from the cache folder or from ../shared/data; where it is in neither, synthetic ratings of
    as many users, since no package index has it."""
    home = tmp_path_factory.mktemp("small_home")
    for archive in (cache_folder() / "ml-latest-small.zip", SHARED_DATA / "ml-latest-small.zip"):
        if archive.exists():
            shutil.copy(archive, home)
            return movielens("latest-small", home=home)
    return synthetic(610, 3000, 50_000, seed=0)


@pytest.fixture(scope="module", autouse=True)
def few_threads() -> Iterator[None]:
    """One thread, or as many as OMP_NUM_THREADS says: the data of tests is small, and several mostly wait for each
    other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def fresh() -> Iterator[FreshProcesses]:
    """Runs programs in processes that are as good as just started."""
    processes = FreshProcesses()
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ratings.csv, films.csv and a model trained on them through the command line."""
    folder = tmp_path_factory.mktemp("cli")
    ml = synthetic(n_users=60, n_items=40, n_ratings=900, seed=1)
    ml.ratings.to_csv(folder / "ratings.csv", index=False)
    ml.items.to_csv(folder / "films.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["collab", "train", f"{folder}/ratings.csv", "--epochs", "2", "--factors", "4",
                                    "--items", f"{folder}/films.csv", "--out", f"{folder}/model.safetensors"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
    return folder


@pytest.fixture
def collab(monkeypatch: pytest.MonkeyPatch,
           capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command: (exit code, standard output, standard error)."""
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["collab", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err
    return run


@pytest.fixture
def interp(learn: CollabLearner) -> CollabInterpretation:
    """The interpretation of the learner that a module trains."""
    return CollabInterpretation.from_learner(learn)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("there is no chromium and chromedriver to open pages with")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "window-size=1400,1000",
                 f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()
