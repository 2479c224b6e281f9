"""MixedPrecision: where it changes what is computed, and where it says that it does not."""

import pytest
import torch
from test_loop import fit_quietly

from collab import CollabDataBunch, CollabWarning, EmbeddingDot, MixedPrecision, ShortEpoch, collab_learner, synthetic


@pytest.mark.parametrize("model", ["dot", "dot_bias", "bpr"])
def test_mixed_precision_says_where_it_changes_nothing(model):
    data = CollabDataBunch.from_df(synthetic(n_users=30, n_items=20, n_ratings=300).ratings, seed=0)

    def losses(*cbs):
        learn = collab_learner(data, model, n_factors=4, cbs=cbs, metrics=[])
        fit_quietly(learn, 1)
        return learn.recorder.losses
    with pytest.warns(CollabWarning, match=r"changes nothing in EmbeddingDot(Bias)? on batches of 64: .* bfloat16"):
        mixed = losses(MixedPrecision())
    assert mixed.tolist() == losses().tolist()


@pytest.mark.parametrize(("model", "n", "bs"), [("net", 300, 64), ("classifier", 300, 64), ("own", 24_000, 20_000)])
def test_mixed_precision_changes_what_matrix_products_compute(model, n, bs):
    ratings = synthetic(n_users=200, n_items=150, n_ratings=n).ratings
    data = CollabDataBunch.from_df(ratings, seed=0, bs=bs)      # so large a batch is one product of all factors

    def first(*cbs):
        torch.manual_seed(0)
        module = EmbeddingDot(16, data.n_users, data.n_items, init_std=0.5) if model == "own" else model
        learn = collab_learner(data, module, n_factors=16, cbs=[ShortEpoch(1), *cbs])
        fit_quietly(learn, 1)
        return learn.recorder.losses[0]
    plain, mixed = first(), first(MixedPrecision())             # any warning would be an error
    assert mixed != plain and mixed == pytest.approx(plain, rel=0.02)
