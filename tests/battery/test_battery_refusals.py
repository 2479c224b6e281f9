"""What a model lacks is said in the same words on every route to it: learner, interpretation, file, command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from collab import CollabInterpretation, CollabLearner, DataError
from collab.learner.recipes import name_of_model

from .cases import ABILITIES, CASES, FOREIGN, LACKS, STEPS
from .ratings import ITEMS, NEW, USER, valid_table
from .subject import Subject, assert_same_bits, bits

Route = Callable[[CollabLearner, CollabInterpretation], Any]
FURTHER = pd.DataFrame({"user": "nadia", "item": list(NEW), "rating": list(NEW.values())})


def factors(by: str, id: Any) -> list[Route]:
    is_item = by == "item"
    return [lambda learn, _: learn.weight(is_item=is_item), lambda learn, _: learn.weight([id], is_item),
            lambda _, interp: interp.norms(by), lambda _, interp: interp.plot_norms(by),
            lambda _, interp: interp.pca(2, by), lambda _, interp: interp.map("pca", by),
            lambda _, interp: interp.map("tsne", by), lambda _, interp: interp.plot_map("pca", by),
            lambda _, interp: interp.chart_map("pca", by), lambda _, interp: interp.neighbors(id, by=by),
            lambda _, interp: interp.similar_pairs(by=by)]


def biases(by: str, id: Any) -> list[Route]:
    is_item = by == "item"
    return [lambda learn, _: learn.bias(is_item=is_item), lambda learn, _: learn.bias(id, is_item),
            lambda _, interp: interp.biases(by), lambda _, interp: interp.plot_biases(by)]


ROUTES: dict[str, list[Route]] = {
    "item_factors": factors("item", ITEMS[4]), "user_factors": factors("user", USER),
    "item_biases": biases("item", ITEMS[4]), "user_biases": biases("user", USER),
    "similar_items": [lambda learn, _: learn.similar_items(ITEMS[4])],
    "similar_users": [lambda learn, _: learn.similar_users(USER)],
    "new_people": [lambda learn, _: learn.recommend(ratings=NEW), lambda learn, _: learn.predict(ratings=NEW, item=1),
                   lambda learn, _: learn.predict(ratings=NEW, item=[ITEMS[0]])],
    "index": [lambda learn, _: learn.index(), lambda learn, _: learn.index(users=False)],
    "add_ratings": [lambda learn, _: learn.add_ratings(FURTHER)],
    "probabilities": [lambda learn, _: learn.probabilities(USER, ITEMS[4]),
                      lambda learn, interp: interp.calibration(part=learn.data.batches(valid_table())),
                      lambda learn, interp: interp.plot_calibration(part=learn.data.batches(valid_table()))],
    "errors": [lambda _, interp: interp.errors(valid_table()),
               lambda _, interp: interp.plot_predictions(valid_table())],
    "fit": [lambda learn, _: learn.fit(1)],
    **{verb: [lambda learn, _, verb=verb: getattr(learn, verb)(*([] if verb in ("lr_find", "unfreeze") else [1]))]
       for verb in STEPS},
}
PAIRS = [pytest.param(name, ability, id=f"{name}-{ability}") for name, case in CASES.items()
         for ability in sorted(case.lacks & ROUTES.keys())]


def test_the_table_names_what_there_is():
    assert {*ROUTES} | {"parts"} == ABILITIES and {*LACKS} <= {*CASES}
    assert all(lacking <= ABILITIES for lacking in LACKS.values())


@pytest.fixture
def no_figures():
    """Nothing that is refused leaves a figure open."""
    plt.close("all")
    yield
    opened = len(plt.get_fignums())
    plt.close("all")
    assert not opened


@pytest.mark.usefixtures("quick_pictures", "no_figures")
@pytest.mark.parametrize(("name", "ability"), PAIRS)
def test_what_is_lacking_is_said_in_one_way(subjects, name, ability):
    it: Subject = subjects[name]
    before, said = bits(it.learn), {}
    for where, learn in (("trained", it.learn), ("loaded", it.loaded)):
        interp = CollabInterpretation(learn)
        with learn.no_logging():
            for k, route in enumerate(ROUTES[ability]):
                said[f"{where} {k}"] = it.refused(partial(route, learn, interp), ability)
    assert_same_bits(before, bits(it.learn))
    assert len({*said.values()}) == 1, said


COMMANDS = {"new_people": ("recommend", "--ratings", "mine.csv"), "similar_items": ("similar", str(ITEMS[4]))}


@pytest.mark.parametrize(("name", "ability"), [
    pytest.param(name, ability, id=f"{name}-{ability}") for name, case in CASES.items() if name not in FOREIGN
    for ability in COMMANDS if ability in case.lacks])
def test_the_command_line_says_it_in_the_same_words(subjects, collab, name, ability, tmp_path, monkeypatch):
    it: Subject = subjects[name]
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"item": NEW.keys(), "rating": NEW.values()}).to_csv("mine.csv", index=False)
    said = it.refused(lambda: ROUTES[ability][0](it.learn, it.interp), ability)
    said = said.replace(it.model, name_of_model(it.learn.collab_model, it.case.ranks), 1)       # as --model takes it
    said = said.replace(", and it has no score_new(items, ratings)", "")        # which is for authors of models
    command, *words = COMMANDS[ability]
    code, out, err = collab(command, it.path, *words)
    assert code == 2 and err.splitlines()[-1] == f"Error: {said}" and "Traceback" not in err
    assert "Recommended" not in out
    assert issubclass(DataError, ValueError)
