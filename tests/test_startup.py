"""What is imported when: each test asks a fresh process, or more than one, what it has loaded. Only where torch is not
what it is about, the process is one that had torch already, and nothing of `collab` (see `fresh`)."""

import json
import subprocess
import sys

import pytest

import collab
from collab.cli.app import commands

HEAVY = {"torch", "numpy", "pandas", "narwhals", "matplotlib", "numba", "rich", "fastprogress", "pooch", "requests",
         "safetensors"}
LATER = {"matplotlib", "numba", "sklearn", "altair", "polars", "IPython", "rich", "typer", "fastprogress", "pooch",
         "requests", "platformdirs", "usearch", "starlette", "uvicorn", "torch._dynamo", "sympy"}


def loaded(code: str) -> set[str]:
    """The modules that a fresh process has loaded once it has run `code`."""
    script = f"import json, sys\n{code}\nprint(json.dumps([*sys.modules]), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {*json.loads(done.stderr.splitlines()[-1])}


@pytest.fixture
def printed(fresh):
    """What a process prints that has imported nothing of `collab` before; it must go well."""
    def printed(code: str) -> str:
        done = fresh.run("-c", f"import sys\nassert not [name for name in sys.modules if 'collab.' in name]\n{code}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
    return printed


@pytest.fixture(scope="module")
def after_help():
    """{command, or "" for none: what a process has loaded after its help}; the process asks for one after another."""
    words = {"": [["--help"], ["--version"], []], **{command: [[command, "--help"]] for command in commands()}}
    script = ("import json, sys\nimport collab.cli\nfound = {}\n"
              f"for command, several in {words}.items():\n    for words in several:\n"
              "        sys.argv = ['collab', *words]\n"
              "        try:\n            collab.cli.main()\n"
              "        except SystemExit as end:\n            assert end.code in (0, 2)\n"
              "        else:\n            raise AssertionError(words)\n"
              "    found[command] = [*sys.modules]\nprint(json.dumps(found), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize("command", ["", *commands()])
def test_help_and_the_version_come_without_the_library(command, after_help):
    assert "collab.cli" in after_help[command] and not HEAVY & {*after_help[command]}


def test_an_option_that_does_not_exist_is_refused_without_the_library():
    code = "import collab.cli\nsys.argv = ['collab', 'train', 'ml-100k', '--no-such']\n"
    assert not HEAVY & loaded(code + "try:\n    collab.cli.main()\nexcept SystemExit as end:\n    assert end.code == 2")


def test_the_package_loads_the_library_when_a_name_is_asked_for():
    assert not HEAVY & loaded("import collab; collab.__version__; collab.__doc__; collab.interrupt")
    assert "torch" in loaded("import collab; collab.Vocab")


def test_public_names_come_without_what_only_some_calls_need():
    found = loaded("from collab import *; CollabLearner, movielens, evaluate, CollabInterpretation")
    assert "torch" in found and not LATER & found


def test_training_and_recommending_do_without_torchs_compiler_and_drawing(tmp_path):
    models = ["dot_bias", "bpr", "als", "net"]
    unwanted = {"torch._dynamo", "sympy", "matplotlib", "narwhals", "altair", "sklearn"}
    found = loaded("from collab import *\n"
                   "data = CollabDataBunch.from_df(synthetic(30, 20, 300, seed=0).ratings, seed=0, bs=64)\n"
                   f"for model in {models}:\n"
                   "    learn = collab_learner(data, model, 3)\n"
                   "    (learn.fit if learn.collab_model.solved else learn.fit_one_cycle)(1)\n"
                   f"    load_learner(learn.export({str(tmp_path / 'm.safetensors')!r})).recommend(1)\n"
                   f"    assert not {unwanted} & {{*sys.modules}}, model\n")
    assert "torch" in found and not unwanted & found


def test_every_public_name_is_there_for_stars_dir_and_from(printed):
    names = ["evaluate", "ALS", "user_split", "rmse"]
    for code in ("from collab import *", "from collab import " + ", ".join(collab.__all__),
                 "import collab; globals().update({name: getattr(collab, name) for name in dir(collab)})"):
        assert printed(f"{code}\nprint(all(callable(eval(name)) for name in {names}))") == "True"
    assert {*dir(collab)} == {*collab.__all__, "__all__", "__doc__", "__version__"}
    assert all(getattr(collab, name) is not None for name in collab.__all__)


@pytest.mark.parametrize("first", ["collab.evaluate", "collab.evaluate.ranking", "collab.cli.output"])
def test_the_function_evaluate_is_not_hidden_by_the_room_of_that_name(printed, first):
    said = printed(f"import collab, {first}\nfrom collab.evaluate import Popularity\nfrom collab import evaluate\n"
                   "print(evaluate is collab.evaluate, callable(evaluate), evaluate.__name__)")
    assert said == "True True evaluate"


def test_an_unknown_name_is_an_attribute_error_in_a_fresh_process(printed):
    said = printed("import collab\ntry:\n    collab.nothing\nexcept AttributeError as error:\n    print(error)")
    assert said == "module 'collab' has no attribute 'nothing'"
    said = printed("try:\n    from collab import nothing\nexcept ImportError as error:\n    print(error)")
    assert said.startswith("cannot import name 'nothing' from 'collab'")


@pytest.mark.parametrize("code", ["from collab.losses import L2", "from collab.learner import CollabLearner",
                                  "from collab.serve import scores_of", "from collab import fold",
                                  "from collab.models.embedding import EmbeddingNet",
                                  "from collab.learner.new_users import recommend_all",
                                  "from collab.retrieval.fold_in_ratings import pull_of"])
def test_old_names_are_found_in_a_fresh_process(printed, code):
    said = printed("import warnings\nwith warnings.catch_warnings(record=True) as said:\n"
                   f"    warnings.simplefilter('always')\n    {code}\nprint(said[0].message)")
    assert "is now called" in said
