"""Negatives, and learners that are trained to rank: the objectives, their options and their files."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from collab import (
    BPR,
    Callback,
    CancelFit,
    Checkpoint,
    CollabDataBunch,
    CollabModel,
    EmbeddingDot,
    EmbeddingNet,
    FullSoftmax,
    InBatchSoftmax,
    Logistic,
    Negatives,
    Popularity,
    SampledSoftmax,
    SoftmaxNet,
    Threads,
    collab_learner,
    evaluate,
    load_learner,
    per_user_split,
    synthetic,
)
from collab.data.histories import Histories
from collab.learner.collab_learner import CollabLearner
from collab.learner.objectives import Objective


def made(df: pd.DataFrame, **options: Any) -> CollabDataBunch:
    return CollabDataBunch.from_df(df, **{"implicit": True, "valid_pct": 0.0, "seed": 0, "device": "cpu", **options})


# Negatives --------------------------------------------------------------------------------------------------------

COUNTS = torch.tensor([9, 8, 4, 0, 2, 1, 1])        # row 0 is unknown, row 3 cold


def nobody(pairs: list[tuple[int, int]], n_users: int = 4) -> Histories:
    users, items = (torch.tensor(side) for side in zip(*pairs))
    return Histories.of(users, items, torch.ones(len(pairs)), n_users)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_negatives_are_drawn_by_popularity_to_the_power_beta(beta: float):
    n = 20_000
    drawn = Negatives(COUNTS, beta).draw(torch.ones(n // 10, dtype=torch.int64), 10, torch.Generator().manual_seed(1))
    q = np.array([0, 8, 4, 0, 2, 1, 1], float)
    q = np.where(q > 0, q ** beta, 0)
    q /= q.sum()
    found = np.bincount(drawn.flatten(), minlength=7)
    assert found[q == 0].sum() == 0
    chi_square = ((found - n * q)[q > 0] ** 2 / (n * q[q > 0])).sum()
    assert chi_square < 18.5            # 4 degrees of freedom: one seed in a thousand is beyond
    torch.testing.assert_close(Negatives(COUNTS, beta).log_q.exp().double(), torch.from_numpy(q))


def test_what_a_user_has_seen_is_never_drawn_and_the_rest_keeps_its_shares():
    seen = nobody([(1, 1), (1, 4), (2, 2), (3, 5)])
    negatives = Negatives(COUNTS, 1.0, seen)
    users = torch.tensor([1, 2, 3]).repeat(2000)
    drawn = negatives.draw(users, 10, torch.Generator().manual_seed(0))
    assert not negatives.seen(users.repeat_interleave(10), drawn.flatten()).any()
    found = torch.bincount(drawn[users == 1].flatten(), minlength=7) / 20_000
    torch.testing.assert_close(found, torch.tensor([0, 0, 4, 0, 0, 1, 1]) / 6, atol=0.015, rtol=0)


def test_a_single_unseen_item_is_found_however_rare_it_is():
    counts = torch.tensor([0, 10**6, 10**6, 1])
    negatives = Negatives(counts, 1.0, nobody([(1, 1), (1, 2)]))
    assert negatives.draw(torch.ones(50, dtype=torch.int64), 4).unique().tolist() == [3]


def test_a_user_who_has_seen_everything_gets_anything():
    negatives = Negatives(torch.tensor([0, 1, 1]), seen=nobody([(1, 1), (1, 2)]))
    assert set(negatives.draw(torch.ones(50, dtype=torch.int64), 2).flatten().tolist()) == {1, 2}


def test_the_same_seed_draws_the_same_and_touches_no_other_stream():
    negatives, users = Negatives(COUNTS, 0.5, nobody([(1, 1)])), torch.ones(40, dtype=torch.int64)
    before = torch.get_rng_state()
    first, again = (negatives.draw(users, 5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0, -1.0])
def test_shares_are_those_of_the_unseen_items_for_every_user(beta: float):
    """With users who have seen nothing, some, all but a rare item, and everything."""
    counts = torch.tensor([5, 0, *(10 ** 4 // k ** 2 for k in range(1, 12)), 0, 3])
    histories = {1: [], 2: [2, 3, 7, 8, 9, 13], 3: [*range(1, 14)], 4: [*range(15)], 5: [0, 1, 14]}
    negatives = Negatives(counts, beta, nobody([(u, i) for u, own in histories.items() for i in own], 6))
    q = np.where(counts.numpy() > 0, np.maximum(counts.numpy(), 1.0) ** beta, 0.0)
    q[0] = 0.0
    for user, own in histories.items():
        share = q * (1 - np.isin(np.arange(15), own)) if user != 4 else q
        share, n = share / share.sum(), 20_000
        drawn = negatives.draw(torch.full((n,), user), 1, torch.Generator().manual_seed(user)).flatten()
        found = np.bincount(drawn, minlength=15)
        assert found[share == 0].sum() == 0
        often = n * share > 5
        assert ((found - n * share)[often] ** 2 / (n * share[often])).sum() < 35    # at most 12 degrees of freedom


def test_every_place_of_the_line_is_an_unseen_item():
    """The ends of the random numbers, and of the items on the line, where a rounded sum would give a seen item."""
    counts = torch.tensor([0, 1, 3, 10 ** 9, 7, 1, 10 ** 5, 2])
    negatives = Negatives(counts, 1.0, nobody([(1, i) for i in (1, 3, 4, 7)], 2))
    lengths, left = negatives.lengths.tolist(), int(negatives.left[1])
    assert left == sum(lengths[i] for i in (2, 5, 6)) and negatives.total == sum(lengths) < 1 << 51
    edges = [0, lengths[2], lengths[2] + lengths[5], left]
    for item, begin, end in zip((2, 5, 6), edges, edges[1:], strict=False):
        for place in (begin, end - 1):
            mark = torch.searchsorted(negatives.marks, negatives.total + 1 + place, right=True)
            on_line = place + (negatives.skipped[mark] if mark > negatives.starts[1] else 0)
            assert int(torch.searchsorted(negatives.ends, on_line, right=True)) == item
    assert int((1 - 2 ** -53) * left) == left - 1


@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("bs", [1, 7, 300, 5000])
def test_many_rows_are_drawn_for_at_once_as_batch_by_batch(beta: float, bs: int):
    counts = torch.tensor([5, 0, *(10 ** 6 // k ** 3 for k in range(1, 60))])
    pairs = [*((2, i) for i in range(2, 40)), *((3, i) for i in range(2, 60)), *((4, i) for i in range(61))]
    users = torch.randint(1, 5, (800,), generator=torch.Generator().manual_seed(0))
    for negatives in (Negatives(counts, beta), Negatives(counts, beta, nobody(pairs, 5)),
                      Negatives(counts, beta, nobody(pairs[:1], 5))):
        one, other = (torch.Generator().manual_seed(4) for _ in range(2))
        wanted = torch.cat([negatives.draw(some, 3, one) for some in users.split(bs)])
        found = negatives.draw_many(users.numpy(), 3, other)
        assert np.array_equal(found, wanted.numpy()) and torch.equal(one.get_state(), other.get_state())
        assert len(np.unique(found)) > 5 or beta
    torch.manual_seed(5)
    wanted, after = negatives.draw(users, 3), torch.rand(3)
    torch.manual_seed(5)
    assert np.array_equal(negatives.draw_many(users.numpy(), 3), wanted) and torch.equal(torch.rand(3), after)


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="no item"):
        Negatives(torch.tensor([3, 0, 0]))
    with pytest.raises(ValueError, match="beta"):
        Negatives(COUNTS, float("nan"))


# Learners ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def planted() -> CollabDataBunch:
    """Three groups of users, each choosing among its own third of the items, and items of unequal popularity."""
    rng = np.random.default_rng(0)
    p = np.arange(20, 0, -1) / 210
    pairs = [(u, u % 3 * 20 + i) for u in range(90) for i in rng.choice(20, 9, replace=False, p=p)]
    frame = pd.DataFrame(pairs, columns=["user", "item"])
    return made(frame, split=per_user_split(0.25, 0), bs=64)


def quiet(learn: CollabLearner, n_epochs: int = 8) -> CollabLearner:
    with learn.no_logging():
        learn.fit_one_cycle(n_epochs)
    return learn


OBJECTIVES = [BPR(), BPR(n_negatives=4, beta=0.5), Logistic(), InBatchSoftmax(), InBatchSoftmax(0.5, exclude_seen=True),
              SampledSoftmax(10), SampledSoftmax(10, beta=1.0, exclude_seen=True), FullSoftmax()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_every_objective_learns_planted_groups(planted: CollabDataBunch, objective: Any):
    learn = quiet(collab_learner(planted, "dot", n_factors=8, lr=0.05, loss_func=type(objective)(**objective.config)))
    rows = learn.recorder.rows
    assert rows[-1]["ndcg@10"] > 2 * evaluate(Popularity(planted)).summary["ndcg"]
    assert rows[-1]["valid_loss"] < rows[0]["valid_loss"]


@pytest.mark.parametrize("name", ["bpr", "softmax", "two_tower"])
def test_models_by_name_beat_popularity_and_come_back_from_files(planted: CollabDataBunch, name: str, tmp_path: Path):
    learn = quiet(collab_learner(planted, name, n_factors=8, lr=0.03))
    assert evaluate(learn).summary["ndcg"] > 1.5 * evaluate(Popularity(planted)).summary["ndcg"]
    loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    pd.testing.assert_frame_equal(learn.recommend(list(range(90)), n=5), loaded.recommend(list(range(90)), n=5))
    assert repr(loaded.objective) == repr(learn.objective) and loaded.data.implicit
    assert loaded.scores.metrics == [] and learn.scores.metrics == []
    quiet(loaded, 1)        # a further fit has the same objective


@pytest.mark.parametrize("loss", ["bpr", "logistic", "softmax", "sampled_softmax", "full_softmax"])
def test_the_same_seed_gives_the_same_bits(planted: CollabDataBunch, loss: str):
    one, two = (quiet(collab_learner(planted, "dot_bias", n_factors=4, loss_func=loss, seed=5), 1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters()))
    assert one.recorder.rows[0]["valid_loss"] == two.recorder.rows[0]["valid_loss"]


@pytest.mark.parametrize("loss", ["bpr", "logistic", "softmax", "sampled_softmax", "full_softmax"])
def test_looking_repeats_itself_and_changes_nothing(planted: CollabDataBunch, loss: str):
    learn = quiet(collab_learner(planted, "dot_bias", n_factors=4, loss_func=loss), 1)
    before = torch.get_rng_state()
    assert learn.validate() == learn.validate()
    assert learn.validate()["valid_loss"] == pytest.approx(learn.recorder.rows[-1]["valid_loss"], rel=1e-6)
    preds, _ = learn.get_preds()
    users, items, _ = planted.valid.tensors
    torch.testing.assert_close(preds, torch.from_numpy(learn.predict(
        planted.users.decode(users.numpy()), planted.items.decode(items.numpy()))))
    assert torch.equal(before, torch.get_rng_state())


def test_scores_on_rated_data_are_raw(tmp_path: Path):
    data = CollabDataBunch.from_df(synthetic(40, 30, 500, seed=0).ratings, seed=0, device="cpu")
    learn = quiet(collab_learner(data, "dot", n_factors=4, lr=0.1, loss_func="bpr"), 3)
    scores = learn.recommend(list(data.users), exclude=None, n=30)["score"]
    assert scores.min() < data.scale[0] and "rmse" not in learn.recorder.rows[-1]
    assert load_learner(learn.export(tmp_path / "m"), device="cpu").recommend(1)["score"].tolist() == \
        learn.recommend(1)["score"].tolist()


def test_bpr_compares_with_nothing_that_was_seen(planted: CollabDataBunch):
    learn, drawn = collab_learner(planted, "dot", n_factors=4, loss_func="bpr"), []
    own = learn.objective.drawn
    learn.objective.drawn = lambda: drawn.append((learn.xb[0], (out := own())[0])) or out
    with learn.no_logging():
        learn.fit(1)
    seen = {(u, i) for u, i in zip(*(t.tolist() for t in planted.train.tensors[:2]))}
    assert drawn and not seen & {(u, i) for us, found in drawn for u, items in zip(us.tolist(), found.tolist())
                                 for i in items}


@pytest.mark.parametrize("options", [{}, {"exclude_seen": True}, {"log_q": False}])
def test_the_loss_of_a_fit_on_one_batch_is_the_formula(planted: CollabDataBunch, options: dict[str, bool]):
    torch.manual_seed(0)
    model = EmbeddingDot(4, planted.n_users, planted.n_items, init_std=1.0)
    learn = collab_learner(planted, model, loss_func=InBatchSoftmax(0.7, **options), lr=0.0)
    users, items, ratings = (t[:32] for t in planted.train.tensors)
    q = (planted.counts()[items] / planted.train.n).double()
    seen, total = set(zip(*(t.tolist() for t in planted.train.tensors[:2]))), 0.0
    for r in range(32):
        terms = {}
        for c in range(32):
            score = (model.u_weight(users[r]) @ model.i_weight(items[c])).item() / 0.7
            often = 1 - (1 - q[c]) ** 31 if c == r else 31 * q[c]
            hidden = items[c] == items[r] or ("exclude_seen" in options and (users[r].item(), items[c].item()) in seen)
            if c == r or not hidden:
                terms[c] = math.exp(score) / (1 if "log_q" in options else often)
        total += -math.log(terms[r] / sum(terms.values())) / 32
    with learn.no_logging():
        assert learn.validate([(users, items, ratings)])["valid_loss"] == pytest.approx(total, rel=1e-4)


def test_the_correction_is_of_the_negatives_that_are_drawn_now(planted: CollabDataBunch):
    learn, other = (collab_learner(planted, "dot", loss_func=SampledSoftmax(n), metrics=[], seed=0) for n in (5, 50))
    learn.validate()
    assert isinstance(learn.objective, SampledSoftmax)
    learn.objective.n_negatives = 50
    assert learn.validate() == other.validate()


def test_a_preparation_that_was_interrupted_is_made_again(planted: CollabDataBunch):
    class Cut(SampledSoftmax):
        cuts = 1

        def _corrections(self) -> tuple[Tensor, Tensor, Tensor]:
            self.cuts -= 1
            if self.cuts == 0:
                raise KeyboardInterrupt
            return super()._corrections()
    learn = collab_learner(planted, "dot", loss_func=Cut(5), metrics=[], seed=0)
    with learn.no_logging():
        learn.fit(1)
        assert learn.interrupted
        learn.fit(1)
    assert len(learn.recorder.rows) == 1


@pytest.mark.parametrize("objective", [InBatchSoftmax(), SampledSoftmax(40), SampledSoftmax(5), FullSoftmax(),
                                       SampledSoftmax(40, beta=1.0)], ids=str)
def test_the_softmaxes_find_the_shares_of_items_that_everybody_chooses_from(objective: Objective):
    """One free score an item: the best are the logarithms of the shares, and a sample's correction keeps them so."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": np.arange(6000) % 50, "item": rng.choice(5, 6000, p=[0.5, 0.25, 0.13, 0.07, 0.05])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # pairs that come twice
        data = CollabDataBunch.from_df(frame.assign(rating=1.0), valid_pct=0, seed=0, bs=200, device="cpu")

    class Free(CollabModel):
        def __init__(self):
            super().__init__()
            self.i_weight = nn.Embedding(data.n_items, 1)
            nn.init.zeros_(self.i_weight.weight)

        def forward(self, users: Tensor, items: Tensor) -> Tensor:
            return self.i_weight(items)[:, 0]

        def cross(self, users: Tensor, items: Tensor) -> Tensor:
            return self.i_weight(items)[:, 0].expand(len(users), -1)
    learn = collab_learner(data, Free(), loss_func=objective, lr=0.03, wd=0.0, metrics=[], seed=0)
    with learn.no_logging():
        learn.fit_one_cycle(12)
    found = learn.model.i_weight.weight[1:, 0].detach().softmax(0)
    shares = data.counts()[1:] / data.train.n
    torch.testing.assert_close(found, shares.float(), atol=0.015, rtol=0.1)


def test_a_network_with_an_input_a_row_is_trained_by_the_full_softmax_alone(planted: CollabDataBunch):
    for loss in ("bpr", "softmax", "sampled_softmax"):
        net = SoftmaxNet(4, planted.n_users, planted.n_items, planted.train.tensors[:2])
        with pytest.raises(TypeError, match="SoftmaxNet leaves items out of each row's input"):
            collab_learner(planted, net, loss_func=loss).fit(1)


@pytest.mark.parametrize("wrong", [
    lambda: FullSoftmax(0), lambda: FullSoftmax(float("nan")), lambda: InBatchSoftmax(-1), lambda: SampledSoftmax(
        temperature=0), lambda: BPR(beta=float("nan"))])
def test_options_that_make_no_sense_are_refused_at_once(wrong):
    with pytest.raises(ValueError, match=r"temperature|beta"):
        wrong()


def test_a_popularity_that_overflows_is_refused(planted: CollabDataBunch):
    with pytest.raises(ValueError, match="beta=400 is too large"):
        collab_learner(planted, "dot", loss_func=SampledSoftmax(beta=400.0), metrics=[]).fit(1)


def test_an_objective_of_ones_own_is_not_in_the_file_and_the_scores_stay_raw(planted: CollabDataBunch, tmp_path: Path):
    class Mine(BPR):
        name = "mine"
    ratings = synthetic(30, 20, 300, seed=0).ratings
    data = CollabDataBunch.from_df(ratings, seed=0, device="cpu")
    learn = collab_learner(data, "dot", n_factors=4, loss_func=Mine(), metrics=[])
    with learn.no_logging():
        learn.fit(1)
    with pytest.warns(UserWarning, match="does not hold the objective Mine of the learner"):
        loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    assert loaded.objective is None
    pd.testing.assert_frame_equal(loaded.recommend(1), learn.recommend(1))


def test_a_fit_that_was_cut_off_and_resumed_ends_with_the_same_bits(planted: CollabDataBunch, tmp_path: Path):
    class Stop(Callback):
        def after_chunk(self) -> None:
            if self.learn.epoch == 1:
                raise CancelFit
    whole, cut, rest = (collab_learner(planted, "bpr", n_factors=4, seed=3) for _ in range(3))
    for learn, name, cbs, resume in ((whole, "w", [], None), (cut, "c", [Stop()], None), (rest, "c", [], "auto")):
        with learn.no_logging():
            learn.fit_one_cycle(3, cbs=[Checkpoint(tmp_path / name, every=4), *cbs], resume=resume)
    assert cut.recorder.n_batches < rest.recorder.n_batches == whole.recorder.n_batches
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), rest.model.parameters()))


def test_what_cannot_be_trained_so_is_refused(planted: CollabDataBunch):
    net = EmbeddingNet(4, planted.n_users, planted.n_items)
    for loss in ("softmax", "full_softmax"):
        with pytest.raises(TypeError, match="sampled_softmax"):
            collab_learner(planted, net, loss_func=loss).fit(1)
    with pytest.raises(ValueError, match="not one of mse"):
        collab_learner(planted, "dot", loss_func="warp")
    with pytest.raises(TypeError, match="solved"):
        collab_learner(planted, "als", loss_func="bpr")


def test_implicit_data_train_with_bpr_where_nothing_else_is_said(planted: CollabDataBunch):
    assert isinstance(collab_learner(planted, "dot").objective, BPR)
    assert collab_learner(planted, "als").objective is None


@pytest.mark.parametrize("loss", ["bpr", "logistic", "sampled_softmax", None])
def test_a_model_that_ranks_starts_at_no_mean_of_strengths(planted: CollabDataBunch, loss: str | None):
    """A mean of 1 or of 4 would be the logarithm of a probability or of odds."""
    learn = collab_learner(planted, "dot_bias", loss_func=loss)
    mean = 0.0 if loss or planted.implicit else planted.mean
    assert learn.model.mu.item() == pytest.approx(mean)
    assert collab_learner(planted, "dot_bias", loss_func="mse").model.mu.item() != 0


def test_the_summary_names_the_objective(planted: CollabDataBunch):
    learn = collab_learner(planted, "dot_bias", loss_func=Logistic(3))
    assert "Loss: Logistic(n_negatives=3, beta=0.0, exclude_seen=True)\n" in str(learn.summary())


def test_threads_of_ones_own_are_the_only_ones(planted: CollabDataBunch):
    learn = collab_learner(planted, "bpr", cbs=Threads(2))
    assert [cb.n for cb in learn.cbs if isinstance(cb, Threads)] == [2]
