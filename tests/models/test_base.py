"""CollabModel: what a subclass inherits, and what is recorded to build it again."""

import warnings

import torch
from torch import nn

from collab import EmbeddingDot, RankEnsemble, SolvedModel, SVDpp


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
