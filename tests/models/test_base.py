"""CollabModel: what a subclass inherits, and what is recorded to build it again."""

import warnings

import pytest
import torch
from torch import nn

from collab import EmbeddingDot, RankEnsemble, SolvedModel, SVDpp
from collab.models.base import as_collab


class Sevens(nn.Module):
    """Something that scores, to be mixed into a model."""

    def forward(self, users, items):
        return torch.full(users.shape, 7.0)


class Mixed(Sevens, EmbeddingDot):
    """Scores by the mixed-in `forward`, not by the product of its factors."""


class Passing(SVDpp):
    """Passes its arguments on."""

    def __init__(self, extra=1, **options):
        super().__init__(**options)


def test_a_model_with_a_mixed_in_forward_does_not_inherit_scores_of_another():
    model = Mixed(2, 3, 4)
    assert model.dot_form() is None and not model.crosses
    assert model.scorer()(torch.tensor([1, 2]), torch.tensor([0, 1, 3])).tolist() == [[7.0] * 3] * 2


def test_interactions_that_are_passed_on_are_not_recorded():
    model = Passing(n_factors=2, n_users=3, n_items=4, interactions=(torch.tensor([1]), torch.tensor([2])))
    assert model.stored_config() == {"extra": 1, "n_factors": 2, "n_users": 3, "n_items": 4}


def test_an_ensemble_has_no_second_configuration():
    assert "config" not in vars(RankEnsemble([EmbeddingDot(2, 3, 4)], 3))


def test_old_names_in_a_class_are_warned_of_where_the_class_stands():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        class Old(SolvedModel):
            predicts_ratings = True

            def score_history(self, items, ratings):
                return ratings
    assert not Old.ranks
    assert [(w.category, w.filename) for w in caught] == [(DeprecationWarning, __file__)] * 2


def test_old_names_in_a_subclass_of_a_shipped_model_still_work():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        class Ranker(EmbeddingDot):
            predicts_ratings = False

            def score_history(self, items, ratings):
                return ratings
    model = Ranker(2, 3, 4)
    assert model.ranks and model.score_new(None, 1.0) == 1.0
    assert [str(w.message).split(";")[0] for w in caught] == ["Ranker.predicts_ratings is now called ranks",
                                                              "Ranker.score_history is now called score_new"]


class Plain(nn.Module):
    """A module with what the version before asked of one."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(3, 2), nn.Embedding(4, 2)

    def forward(self, users, items):
        return self.users(users) * self.items(items)

    def expected(self, output):
        return output.sum(1)

    def id_tables(self):
        return [self.items.weight]


def test_a_plain_module_lists_its_own_tables_and_decodes_its_own_classes():
    model, rows = Plain(), torch.tensor([1, 2])
    with pytest.warns(DeprecationWarning):
        part = as_collab(model)
        assert part.id_tables() == {"user": [], "item": [model.items.weight]}
        assert torch.equal(part.scores(rows, rows), model(rows, rows).sum(1))


def test_a_plain_module_keeps_an_unknown_row_of_its_own():
    model = Plain()
    model.unknown_row = True
    with pytest.warns(DeprecationWarning, match="Plain.unknown_row"):
        part = as_collab(model)
    assert part.unknown_row and part.id_tables() == {}
