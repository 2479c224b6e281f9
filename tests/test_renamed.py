"""Names of the version before: each works for one version more, and says its new name."""

import importlib
import sys
import warnings

import pytest
import torch
from torch import Tensor, nn

import collab
from collab import ALS, L2, CollabDataBunch, DotForm, SolvedModel, average_learners, collab_learner, synthetic
from collab.learner.objectives import Objective
from collab.moved import MODULES, MOVED


@pytest.fixture(scope="module")
def data() -> CollabDataBunch:
    return CollabDataBunch.from_df(synthetic(20, 15, 150, seed=0).ratings, seed=0, device="cpu")


@pytest.mark.parametrize("old", MODULES)
def test_a_module_that_moved_is_found_under_its_old_name(old: str):
    new, spec = importlib.import_module(f"collab.{MODULES[old]}"), sys.modules[f"collab.{MODULES[old]}"].__spec__
    sys.modules.pop(f"collab.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"collab.{old} is now called collab.{MODULES[old]};") as said:
        assert importlib.import_module(f"collab.{old}") is new
    assert len(said) == 1 and new.__spec__ is spec


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in MOVED.items() for name in names])
def test_a_name_that_moved_is_found_in_its_old_module(module: str, name: str):
    old, new = (importlib.import_module(f"collab.{of}") for of in (module, MOVED[module][name]))
    with pytest.warns(DeprecationWarning, match=f"collab.{module}.{name} is now called collab.{MOVED[module][name]}"):
        assert getattr(old, name) is getattr(new, name)
    with pytest.raises(AttributeError, match=f"module 'collab.{module}' has no attribute 'nothing'"):
        _ = old.nothing


def test_public_names_that_changed(data: CollabDataBunch):
    with pytest.warns(DeprecationWarning, match="fold is now called merge_dot_models"):
        assert collab.fold is collab.merge_dot_models
    with pytest.warns(DeprecationWarning, match="ClosedFormLearner is now called CollabLearner"):
        learner = collab.ClosedFormLearner
    learn = learner(data, ALS(4, data.n_users, data.n_items), None, [])
    with learn.no_logging():
        learn.fit()
    assert isinstance(learn, collab.CollabLearner) and len(learn.recorder.rows) == 15
    with pytest.raises(AttributeError, match="module 'collab' has no attribute 'nothing'"):
        _ = collab.nothing


def test_arguments_that_changed(data: CollabDataBunch):
    with pytest.warns(DeprecationWarning, match="terms= is now called loss_terms=") as said:
        learn = collab_learner(data, "dot", n_factors=3, terms=[L2(0.1)])
    assert "l2" in {name for cb in learn.cbs for name in vars(cb).get("terms", {})} and said[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="fold= is now called merge="):
        mean = average_learners([learn, learn], fold=False)
    assert isinstance(mean.model, collab.Ensemble)
    with pytest.warns(DeprecationWarning, match="fold= is now called merge="):
        collab.SnapshotEnsemble(fold=True)


def test_methods_of_objectives_and_solved_models_that_changed():
    with pytest.warns(DeprecationWarning, match="Own.expected is now called exact_loss"):
        class Own(Objective):
            name, config = "own", {}

            def expected(self, scores, items, history):
                return scores.sum()
    assert Own.exact_loss is Own.expected
    with pytest.warns(DeprecationWarning) as said:
        class Solved(SolvedModel):
            predicts_ratings = True

            def prepare(self, users, items, ratings): ...
            def sweep(self, prepared): ...
            def loss(self, prepared): ...
            def score_history(self, items, ratings): ...
    assert {str(w.message).partition(";")[0] for w in said} == {
        "Solved.score_history is now called score_new", "Solved.predicts_ratings is now called ranks, its opposite"}
    assert Solved.score_new is Solved.score_history and not Solved.ranks
    assert {w.filename for w in said} == {__file__}


class Own(nn.Module):
    """A module with methods under the names that models had."""

    def __init__(self, data: CollabDataBunch):
        super().__init__()
        self.p, self.q = nn.Embedding(data.n_users, 2), nn.Embedding(data.n_items, 2)
        self.predicts_ratings = False

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.p(users) * self.q(items)).sum(1)

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return self.p(users) @ self.q(items).T

    def dot_form(self) -> DotForm:
        return DotForm(self.p.weight.detach(), self.q.weight.detach())

    def fold_in(self, items: Tensor, ratings: Tensor) -> Tensor:
        return torch.arange(len(self.q.weight)).float()


def test_methods_of_a_plain_module_that_changed(data: CollabDataBunch):
    user = next(iter(data.users))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        learn = collab_learner(data, Own(data), loss_func="mse", metrics=[])
        assert learn.ranks and len(learn.recommend(user, n=3)) == len(learn.index().recommend(user, n=3)) == 3
        new = learn.recommend(ratings={next(iter(data.items)): 5.0}, n=1)
    assert new["item"].tolist() == [list(data.items)[-1]]
    assert {str(w.message).partition(";")[0] for w in said} == {
        "predicts_ratings of Own, a plain module, is now called CollabModel.ranks, its opposite",
        *(f"the method {old} of Own, a plain module, is now called CollabModel.{new}" for old, new in (
            ("cross", "cross"), ("dot_form", "dot_form"), ("fold_in", "score_new")))}
    assert {w.category for w in said} == {DeprecationWarning} and {w.filename for w in said} == {__file__}
