"""The pages for those who come from other libraries: their code runs, and the names they give exist."""

import ast
import inspect
import re
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import run_blocks

import collab
from collab import CollabDataBunch, CollabInterpretation, Learner, cross_validate, synthetic
from collab.learner.recipes import DATA, RECIPES
from collab.train.events import EVENTS, VERBS

FOLDER = Path(__file__).parents[1] / "docs" / "coming-from"
PAGES = sorted(page.stem for page in FOLDER.glob("*.md"))
OPTIONS = {name for recipe in RECIPES.values() for name in inspect.signature(recipe.model).parameters} - {*DATA}
OF_DATA = set(inspect.signature(CollabDataBunch.from_df).parameters)
MORE = {collab.collab_learner: OPTIONS, CollabDataBunch.from_csv: OF_DATA, cross_validate: OF_DATA}    # behind **


def text_of(page):
    return (FOLDER / f"{page}.md").read_text()


def test_there_are_five_pages():
    assert PAGES == ["fastai", "implicit", "lightning", "surprise", "tensorflow-recommenders"]


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_runs_from_top_to_bottom(page, tmp_path, monkeypatch, capsys):
    ml = synthetic(250, 250, 8_000, seed=0)
    ml.ratings.to_csv(tmp_path / "ratings.csv", index=False)
    ml.items.to_csv(tmp_path / "films.csv", index=False)
    ml.ratings.iloc[:, :2].to_csv(tmp_path / "clicks.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert run_blocks(FOLDER / f"{page}.md") >= 2 and "\n```py\n" in text_of(page)


def here(page):
    """The pieces of code in the right-hand columns of its tables."""
    rows = re.findall(r"^\| (.+) \| (.+) \|$", text_of(page), re.MULTILINE)
    return [code for _, cell in rows for code in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture(scope="module")
def objects():
    data = CollabDataBunch.from_df(synthetic(60, 40, 900, seed=0).ratings, seed=0, device="cpu")
    learn = collab.collab_learner(data)
    return {**{name: getattr(collab, name) for name in collab.__all__}, "learn": learn, "data": data,
            "index": learn.index()}


@pytest.fixture(scope="module")
def arguments(objects):
    """The names of all arguments of the public functions, classes and methods of the objects."""
    found = set(OPTIONS)
    for one in objects.values():
        public = [value for name, value in inspect.getmembers(one) if not name.startswith("_") and callable(value)]
        for function in (one, *public):
            with suppress(TypeError, ValueError):
                found |= set(inspect.signature(function).parameters)
    return found


def resolved(node, objects):
    """The object that a name, an attribute or a call of a class's own constructor stands for."""
    if isinstance(node, ast.Attribute):
        of = resolved(node.value, objects)
        if isinstance(of, Learner) and node.attr in Learner.__annotations__:      # what it has during a fit alone
            return Learner.__annotations__[node.attr]
        return getattr(of, node.attr)
    if isinstance(node, ast.Call):
        called = resolved(node.func, objects)
        if called == CollabInterpretation.from_learner:
            return CollabInterpretation
        if inspect.ismethod(called) and called.__name__ == "lr_find":
            return SimpleNamespace(valley=None)
        raise LookupError(f"what {ast.unparse(node)} gives")
    return {**objects, "torch": torch, "nn": torch.nn}[node.id]


def check(code, objects, arguments):
    """Raise LookupError, AttributeError or AssertionError for a name that does not exist."""
    if given := re.fullmatch(r"(\w+)=(.*)", code):
        assert given[1] in arguments, f"{given[1]} is no argument"
        return
    tree = ast.parse(code, mode="eval").body
    if isinstance(tree, ast.Constant):
        assert tree.value in RECIPES, tree.value
    elif isinstance(tree, ast.Name):
        known = {*objects, *EVENTS, *VERBS, *arguments, *dir(objects["learn"]), *dir(objects["data"])}
        assert tree.id in known, f"{tree.id} is nowhere"
    elif isinstance(tree, ast.Attribute):
        resolved(tree, objects)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = resolved(call.func, objects)
        signature = inspect.signature(function).parameters
        allowed = {*signature, *MORE.get(function, set())}
        anything = function.__name__ == "note"          # takes names of the caller's own
        for keyword in call.keywords:
            assert anything or keyword.arg in allowed, f"{function.__name__} takes no {keyword.arg}"
        free = [p for p in signature.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        starred = any(p.kind is p.VAR_POSITIONAL for p in signature.values())
        assert starred or len(call.args) <= len(free), f"{function.__name__} takes fewer arguments"
        if function is collab.collab_learner and len(call.args) > 1:
            assert call.args[1].value in RECIPES


@pytest.mark.parametrize("page", PAGES)
def test_every_name_in_a_right_hand_column_exists(page, objects, arguments):
    found = here(page)
    assert len(found) > 25
    wrong = {}
    for code in found:
        try:
            check(code, objects, arguments)
        except (LookupError, AttributeError, AssertionError, SyntaxError) as error:
            wrong[code] = repr(error)
    assert not wrong


@pytest.mark.parametrize("code", ["learn.nowhere()", "EarlyStopping(patients=3)", "nowhere=1", "Nowhere", '"nowhere"',
                                  'collab_learner(data, "nowhere")', "GradientClip(1.0, 2.0)", "Index.nowhere"])
def test_a_name_that_does_not_exist_is_found_out(code, objects, arguments):
    with pytest.raises((LookupError, AttributeError, AssertionError)):
        check(code, objects, arguments)


@pytest.mark.parametrize("page", PAGES)
def test_it_says_what_differs_and_what_is_missing(page):
    assert {"The smallest program", "Names", "What differs", "What is not here"} <= set(
        re.findall(r"^## (.+)$", text_of(page), re.MULTILINE))
    for link in re.findall(r"\]\((\.\./[\w-]+\.md)", text_of(page)):
        assert (FOLDER / link).resolve().exists(), link
