"""SVDpp: scores and gradients against loops over ratings, what a pair may see of itself, and the learner around it."""

from __future__ import annotations

import copy
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from collab import (
    EMA,
    Callback,
    Checkpoint,
    CollabDataBunch,
    CollabInterpretation,
    CollabLearner,
    CollabWarning,
    MixedPrecision,
    SaveBest,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.models.embedding import EmbeddingDotBias
from collab.models.layers import sigmoid_range
from collab.models.svdpp import Side, SVDpp
from collab.retrieval.topk import cross_scores

# (user, item) rows; user 4 and item 5 have no rating, (1, 2) is rated twice, user 3 once.
PAIRS = [(1, 2), (1, 1), (2, 2), (1, 2), (2, 4), (3, 3), (5, 4), (5, 1), (5, 2)]
N_USERS, N_ITEMS, N_FACTORS = 6, 6, 3


def pairs() -> tuple[Tensor, Tensor]:
    users, items = torch.tensor(PAIRS).T
    return users, items


def model(y_range: tuple[float, float] | None = (0.5, 5.5), drop: float = 0.0, id_drop: float = 0.0,
          **options: Any) -> SVDpp:
    """In float64 and far from zero, so that every term of the formula counts; nothing is dropped."""
    torch.manual_seed(0)
    made = SVDpp(N_FACTORS, N_USERS, N_ITEMS, pairs(), y_range=y_range, mean=3.4, drop=drop, id_drop=id_drop,
                 **options).double()
    for p in made.parameters():
        p.data = torch.randn_like(p.data)
    return made


def side_by_loop(made: SVDpp, side: str, row: int, own: int | None = None) -> tuple[Tensor, Tensor]:
    """Factors and bias of one row, from the list of pairs."""
    me, other = (0, 1) if side == "u" else (1, 0)
    partners = {pair[other] for pair in PAIRS if pair[me] == row}
    weight, bias = (getattr(made, f"{side}_{kind}").weight for kind in ("weight", "bias"))
    if not partners:
        return weight[0], bias[0, 0]
    table = (made.u_rated if side == "u" else made.i_raters).weight
    others = sorted(partners - {own})
    total = sum((table[k] for k in others), torch.zeros(N_FACTORS, dtype=torch.float64))
    return weight[row] + total / max(len(others), 1) ** 0.5, bias[row, 0]


def score_by_loop(made: SVDpp, user: int, item: int, training: bool = False) -> Tensor:
    x, b_u = side_by_loop(made, "u", user, item if training else None)
    z, b_i = side_by_loop(made, "i", item, user if training else None)
    return sigmoid_range((x * z).sum() + b_u + b_i + made.mu, made.y_range)


def every_pair() -> tuple[Tensor, Tensor]:
    return torch.arange(N_USERS).repeat_interleave(N_ITEMS), torch.arange(N_ITEMS).repeat(N_USERS)


# Scores -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("y_range", [None, (0.5, 5.5)])
def test_scores_are_those_of_loops_over_the_ratings(y_range: tuple[float, float] | None):
    made = model(y_range).eval()
    users, items = every_pair()
    expected = torch.stack([score_by_loop(made, u, i) for u, i in zip(users.tolist(), items.tolist())])
    torch.testing.assert_close(made(users, items), expected)
    torch.testing.assert_close(made.cross(torch.arange(N_USERS), torch.arange(N_ITEMS)), expected.view(N_USERS, -1))
    crossing = cross_scores(made)           # what recommend uses: sums once, then any blocks
    for some in (torch.tensor([4, 0, 1]), torch.tensor([5]), torch.tensor([], dtype=torch.int64)):
        scores = crossing(some, torch.tensor([2, 2, 5]))
        torch.testing.assert_close(scores, expected.view(N_USERS, -1)[some][:, [2, 2, 5]].float())


def test_in_training_a_pair_does_not_see_itself_on_either_side():
    made = model(y_range=None).train()
    users, items = pairs()
    expected = torch.stack([score_by_loop(made, u, i, training=True) for u, i in PAIRS])
    torch.testing.assert_close(made(users, items), expected)
    assert (made(users, items) - made.eval()(users, items)).abs().min() > 0.1       # which is not what it is without


def test_a_rating_teaches_the_partner_rows_of_others_only():
    # the gradient of (1, 2): user 1 also rated item 1, and item 2 was also rated by users 2 and 5
    made = model().train()
    made(torch.tensor([1]), torch.tensor([2])).backward()
    for table, taught in ((made.u_rated, [1]), (made.i_raters, [2, 5])):
        assert table.weight.grad is not None
        size = table.weight.grad.abs().sum(1)
        assert (size > 1e-6).nonzero().flatten().tolist() == taught and size[[2, 1][table is made.i_raters]] < 1e-12


def test_ratings_that_occur_twice_count_once():
    users, items = pairs()
    again = SVDpp(N_FACTORS, N_USERS, N_ITEMS, (users.repeat(3), items.repeat(3)))
    once = model()
    for kept, same in ((again.u_partners, once.u_partners), (again.i_partners, once.i_partners)):
        assert torch.equal(kept.starts, same.starts) and torch.equal(kept.columns, same.columns)
    assert again.u_partners.rows.counts.tolist() == [0, 2, 2, 1, 0, 3]
    assert again.i_partners.rows.counts.tolist() == [0, 2, 3, 1, 2, 0]


def test_rows_without_interactions_are_row_0():
    made = model().eval()
    u, i = torch.arange(N_USERS), torch.arange(N_ITEMS)
    assert torch.equal(made(torch.full_like(i, 4), i), made(torch.zeros_like(i), i))
    assert torch.equal(made(u, torch.full_like(u, 5)), made(u, torch.zeros_like(u)))
    unknown = made.mu + made.u_bias.weight[0, 0] + made.i_bias.weight[0, 0] + made.u_weight.weight[
        0] @ made.i_weight.weight[0]
    torch.testing.assert_close(made(u[:1], i[:1])[0], sigmoid_range(unknown, (0.5, 5.5)))


def test_the_only_rating_of_a_user_leaves_the_id_alone():
    made = model().train()
    (x, _), _ = made.sides(torch.tensor([3]), torch.tensor([3]))
    torch.testing.assert_close(x[0], made.u_weight.weight[3])


def test_gradients_are_those_of_finite_differences():
    made, (users, items) = model().train(), pairs()
    names, start = zip(*((name, p.detach().clone().requires_grad_()) for name, p in made.named_parameters()))
    for train in (True, False):
        made.train(train)
        assert torch.autograd.gradcheck(
            lambda *values: torch.func.functional_call(made, dict(zip(names, values)), (users, items)), start)


def test_without_history_it_is_a_factor_model_with_biases():
    made = model(history=False)
    plain = EmbeddingDotBias(N_FACTORS, N_USERS, N_ITEMS, y_range=(0.5, 5.5), mean=3.4).double()
    plain.load_state_dict(made.state_dict())        # the same parameters, by name
    users, items = pairs()
    for train in (True, False):
        torch.testing.assert_close(made.train(train)(users, items), plain(users, items))
    some_users, some_items = torch.tensor([1, 2, 3, 5]), torch.tensor([1, 2, 3, 4])      # those who are known
    torch.testing.assert_close(made.cross(some_users, some_items), plain.cross(some_users, some_items))


def test_learned_tables_give_the_scores():
    made = model().eval()
    x, b_u, z, b_i = (own(side) for side in ("user", "item") for own in (made.factors, made.biases))
    assert x is not None and z is not None and b_u is not None and b_i is not None
    assert x.shape == (N_USERS, N_FACTORS) and b_i.shape == (N_ITEMS,)
    scores = sigmoid_range(x @ z.T + b_u[:, None] + b_i + made.mu, made.y_range)
    torch.testing.assert_close(made(*every_pair()).view(N_USERS, -1), scores)


def test_many_blocks_of_recommendations_multiply_the_ratings_once(monkeypatch: pytest.MonkeyPatch):
    learn = small_learner()
    expected = learn.recommend([*learn.data.users], n=5)
    sums: list[str] = []
    plain = SVDpp._sums
    monkeypatch.setattr(SVDpp, "_sums", lambda self, side: (sums.append(side), plain(self, side))[1])
    monkeypatch.setattr("collab.retrieval.topk.MAX_SCORES", 64)
    blocks = learn.recommend([*learn.data.users], n=5)
    assert sums == ["u", "i"]
    pd.testing.assert_frame_equal(blocks.drop(columns="score"), expected.drop(columns="score"))
    np.testing.assert_allclose(blocks["score"], expected["score"], rtol=1e-5)


# Randomness -------------------------------------------------------------------------------------------------------

def test_id_drop_takes_its_share_for_unknown_in_training_only():
    made = model(id_drop=0.25)
    users, items = torch.full((4000,), 5), torch.full((4000,), 2)
    torch.manual_seed(1)
    (_, b_u), (_, b_i) = made.train().sides(users, items)
    gone_u, gone_i = b_u == made.u_bias.weight[0, 0], b_i == made.i_bias.weight[0, 0]
    for gone in (gone_u, gone_i):
        assert gone.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (gone_u & gone_i).double().mean().item() == pytest.approx(0.0625, abs=0.02)      # each for itself
    state = torch.get_rng_state()
    assert len(set(made.eval()(users, items).tolist())) == 1 and torch.equal(torch.get_rng_state(), state)
    (x, _), _ = made.train().sides(users, items)
    kept, dropped = side_by_loop(made, "u", 5, own=2)[0], made.u_weight.weight[0]
    near = torch.stack([(x - row).abs().amax(1) < 1e-6 for row in (kept, dropped)])
    assert near.any(0).all() and near.any(1).all()


def test_id_drop_draws_from_the_stream_of_torch():
    made, both = model(id_drop=0.5, drop=0.3).train(), pairs()
    torch.manual_seed(3)
    first = made(*both)
    assert not torch.equal(made(*both), first)
    torch.manual_seed(3)
    assert torch.equal(made(*both), first)


def small_data(bs: int = 64, **options: Any) -> CollabDataBunch:
    return CollabDataBunch.from_df(synthetic(40, 30, 500, seed=1).ratings, seed=0, bs=bs, device="cpu", **options)


def small_learner(n_epochs: int = 2, **options: Any) -> CollabLearner:
    learn = collab_learner(small_data(), "svdpp", n_factors=4, **options)
    with learn.no_logging():
        learn.fit_one_cycle(n_epochs)
    return learn


def weights(learn: CollabLearner) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in learn.model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_same_seed_gives_the_same_bits():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = weights(small_learner())
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(3)
    assert same(weights(small_learner()), one) and not same(weights(small_learner(seed=9)), one)


class Stop(Exception):
    pass


class StopAt(Callback):
    def __init__(self, n: int):
        self.left = n

    def after_backward(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stop


@pytest.mark.parametrize("at", [1, 9])
def test_a_run_that_was_stopped_ends_with_the_same_bits(at: int, tmp_path: Path):
    def learner() -> CollabLearner:
        return collab_learner(small_data(), "svdpp", n_factors=4,
                              cbs=[Checkpoint(tmp_path / "run", every=1), EMA(0.9), SaveBest(restore=False)])
    whole = learner()
    with whole.no_logging():
        whole.fit_one_cycle(2)
    stopped = learner()
    with stopped.no_logging(), pytest.raises(Stop):
        stopped.fit_one_cycle(2, cbs=StopAt(at))
    resumed = learner()
    with resumed.no_logging():
        resumed.fit_one_cycle(2, resume=tmp_path / "run")
    assert same(weights(resumed), weights(whole))


# The learner around it --------------------------------------------------------------------------------------------

def test_an_exported_learner_gives_the_same_answers_and_learns_on(tmp_path: Path):
    learn = small_learner()
    loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    assert isinstance(loaded.model, SVDpp) and same(weights(loaded), weights(learn))
    users, items, _ = learn.data.valid.tensors
    ids = learn.data.users.decode(users.numpy()), learn.data.items.decode(items.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")             # that some were not trained on
        assert np.array_equal(loaded.predict(*ids), learn.predict(*ids))
    pd.testing.assert_frame_equal(loaded.recommend(3), learn.recommend(3), check_exact=True)
    assert torch.equal(loaded.weight(), learn.weight()) and torch.equal(loaded.bias(), learn.bias())
    with loaded.no_logging():
        loaded.fit(1)
    assert not same(weights(loaded), weights(learn)) and len(loaded.recorder.losses) == 3 * 7
    with pytest.raises(ValueError, match="do not fit SVDpp"):
        load_learner(tmp_path / "m", model=SVDpp(9, learn.data.n_users, learn.data.n_items, pairs()))


def test_the_interactions_are_no_weights_and_the_file_does_not_hold_them_twice(tmp_path: Path):
    names = set(model().state_dict())
    assert names == {"mu", "u_weight.weight", "u_bias.weight", "i_weight.weight", "i_bias.weight", "u_rated.weight",
                     "i_raters.weight"}


def test_only_the_training_part_is_seen():
    data = small_data()
    made = collab_learner(data, "svdpp", n_factors=4).model
    assert torch.equal(made.u_partners.rows.counts, data.counts("user"))
    assert len(made.u_partners.columns) == data.train.n
    assert torch.equal(made.i_partners.rows.counts, data.counts("item"))


def test_row_0_is_trained_and_left_alone_or_else_the_average():
    learn = small_learner()
    row = learn.model.i_bias.weight[0].item()
    assert row != pytest.approx(learn.model.i_bias.weight[1:].mean().item(), abs=1e-9)
    with pytest.warns(UserWarning, match="stand for the average item"):
        low, high = learn.data.scale
        assert low <= learn.predict(1, 10_000) <= high
    data = small_data()
    options = {"y_range": data.y_range, "mean": data.mean, "id_drop": 0.0}
    own = collab_learner(data, SVDpp(4, data.n_users, data.n_items, data.train.tensors[:2], **options), lr=0.01)
    with own.no_logging():
        own.fit(2)
    for table in itertools.chain(*own.model.id_tables().values()):     # nobody trained row 0, so that it is the average
        torch.testing.assert_close(table[0], table[1:].mean(0))
    with pytest.warns(UserWarning, match="stand for the average item"):
        own.predict(1, 10_000)


def test_looking_changes_nothing():
    learn = small_learner()
    learn.model.train()
    before, state = weights(learn), torch.get_rng_state()
    learn.predict(1, 2), learn.recommend(1), learn.similar_items(2, min_ratings=0), learn.validate(), learn.weight(2)
    assert same(weights(learn), before) and torch.equal(torch.get_rng_state(), state) and learn.model.training
    assert all(p.grad is None or not p.grad.is_sparse for p in learn.model.parameters())


def test_the_parts_of_an_explanation_sum_to_the_logit_of_the_score():
    learn = small_learner(4)
    found = CollabInterpretation(learn).explain(1, 2, n_factors=2)
    assert found.parts is not None and found.logit is not None
    assert found.parts["part"].tolist()[:3] == ["mean", "user bias", "item bias"] and len(found.parts) == 6
    assert found.parts["value"].sum() == pytest.approx(found.logit)
    score = sigmoid_range(torch.tensor(found.logit), learn.model.y_range).clamp(*learn.data.scale).item()
    assert score == pytest.approx(learn.predict(1, 2), abs=1e-5)


def test_mixed_precision_trains_and_validates():
    with pytest.warns(CollabWarning, match="MixedPrecision changes nothing in SVDpp"):     # its product is sparse
        learn = small_learner(3, cbs=MixedPrecision())
    assert all(p.dtype == torch.float32 for p in learn.model.parameters())
    assert learn.validate()["rmse"] == pytest.approx(small_learner(3).validate()["rmse"], rel=0.05)


def test_buffers_and_copies_follow_the_model():
    made = model()
    assert all(b.device.type == "meta" for b in copy.deepcopy(made).to("meta").buffers())
    assert torch.equal(copy.deepcopy(made).eval()(*pairs()), made.eval()(*pairs()))


# What it learns ---------------------------------------------------------------------------------------------------

def test_whom_a_user_rated_tells_what_the_user_likes():
    # two camps, each rates items of its own kind high; a user's own factors are held at zero, so that all that is
    # known of a user is the set of the rated items, and of an item the set of those who rated it
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(120 * 60)[:2400], 60)
    liked = users % 2 == items % 2
    seen = rng.random(2400) < np.where(liked, 0.9, 0.1)     # who rates what depends on the camp as well
    ratings = pd.DataFrame({"user": users, "item": items, "rating": np.where(liked, 5.0, 1.0)})[seen]
    data = CollabDataBunch.from_df(ratings, seed=0, bs=128, device="cpu")
    learn = collab_learner(data, "svdpp", n_factors=4, lr=0.02, wd=0.0)
    learn.model.u_weight.weight.requires_grad_(False).zero_()
    learn.model.i_weight.weight.requires_grad_(False).zero_()
    with learn.no_logging():
        learn.fit_one_cycle(20)
    assert learn.validate()["rmse"] < 0.7 * np.std(ratings["rating"])     # biases alone leave all of it


def test_a_pair_cannot_be_recognised_by_its_own_rating():
    # Every rating is 1 and a score begins at 0; the mean, biases and ids are held at zero. If a pair saw itself, it
    # would be fitted by being recognised, and pairs that were held out would lag far behind.
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60 * 60)[:1200], 60)
    ratings = pd.DataFrame({"user": users, "item": items, "rating": 1.0})
    data = CollabDataBunch.from_df(ratings, seed=0, bs=240, device="cpu")

    def gap(cls: type[SVDpp]) -> float:
        torch.manual_seed(0)
        made = cls(8, data.n_users, data.n_items, data.train.tensors[:2], drop=0.0, id_drop=0.0)
        for p in (made.u_weight, made.i_weight, made.u_bias, made.i_bias):
            p.weight.requires_grad_(False).zero_()
        made.mu.requires_grad_(False)
        learn = collab_learner(data, made, lr=0.01)
        with learn.no_logging():
            learn.fit(8)
        users, items, ratings = data.train.tensors
        error = (made.train()(users, items) - ratings).square().mean().item()
        return error / learn.validate()["valid_loss"]

    class SeesItself(SVDpp):
        def sides(self, users: Tensor, items: Tensor) -> tuple[Side, Side]:
            return self.side("u", users), self.side("i", items)

    assert gap(SVDpp) > 0.95 and gap(SeesItself) < 0.8


def test_many_small_batches_are_warned_of(recwarn: pytest.WarningsRecorder):
    ratings = synthetic(60, 40, 1500, seed=0).ratings
    collab_learner(CollabDataBunch.from_df(ratings, seed=0, bs=2, device="cpu"), "svdpp", n_factors=2)
    assert not recwarn
    many = CollabDataBunch.from_df(ratings, seed=0, bs=1, device="cpu")
    with pytest.warns(UserWarning, match="matrix of all 1,200 training ratings in each .* 1,200 batches.* bs=16,"):
        collab_learner(many, "svdpp", n_factors=2)
    collab_learner(many, "dot", n_factors=2)
    assert not recwarn
