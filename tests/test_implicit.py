"""Implicit data, the negatives that are drawn for it, and learners that are trained to rank."""

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
    DataError,
    EmbeddingDot,
    EmbeddingNet,
    FullSoftmax,
    InBatchSoftmax,
    Negatives,
    Popularity,
    SampledSoftmax,
    SoftmaxNet,
    collab_learner,
    evaluate,
    leave_last,
    load_learner,
    per_user_split,
    synthetic,
    time_split,
)
from collab.data.history import Histories
from collab.learner import CollabLearner
from collab.objectives import Objective

RATINGS = pd.DataFrame({"user": [1, 1, 2, 2, 3, 3, 3], "item": list("abacbcb"), "rating": [5, 3, 4, 1, 2, 5, 4]})


def made(df: pd.DataFrame, **options: Any) -> CollabDataBunch:
    return CollabDataBunch.from_df(df, **{"implicit": True, "valid_pct": 0.0, "seed": 0, "device": "cpu", **options})


def rows(data: CollabDataBunch) -> set[tuple[Any, Any, float]]:
    users, items, ratings = (t.numpy() for t in data.train.tensors)
    return set(zip(data.users.decode(users), data.items.decode(items), ratings.tolist()))


# Data -------------------------------------------------------------------------------------------------------------

def test_a_threshold_keeps_what_is_rated_above_it():
    assert rows(made(RATINGS, threshold=3)) == {(1, "a", 5), (2, "a", 4), (3, "c", 5), (3, "b", 4)}


def test_a_table_of_two_columns_weighs_every_interaction_1():
    data = made(RATINGS[["user", "item"]].drop_duplicates())
    assert data.train.tensors[2].unique().tolist() == [1.0]
    assert data.batches(RATINGS[["user", "item"]].head(2)).tensors[2].tolist() == [1.0, 1.0]


def test_a_third_column_that_is_no_rating_is_not_taken_for_one():
    frame = RATINGS.drop(columns="rating").assign(timestamp=range(7), shop="x").drop_duplicates(["user", "item"])
    data = made(frame)
    assert data.train.tensors[2].unique().tolist() == [1.0] and data.schema.time == "timestamp"
    assert made(frame.assign(timestamp=2.0), rating_name="timestamp").train.tensors[2].unique().tolist() == [2.0]


def test_a_column_of_ratings_or_strengths_is_found_by_its_name_in_any_place():
    frame = RATINGS.assign(timestamp=range(7))[["user", "item", "timestamp", "rating"]]
    data = made(frame)
    assert data.schema.rating == "rating" and data.schema.time == "timestamp" and rows(data) == rows(made(RATINGS))
    assert rows(made(frame, threshold=3)) == rows(made(RATINGS, threshold=3))
    plays = frame.rename(columns={"rating": "plays"})
    assert made(plays, time_name="timestamp").schema.rating == "plays"
    assert made(plays.assign(rating=1)).schema.rating == "plays"                # the first of several
    assert made(plays[["plays", "user", "item"]], user_name="user", item_name="item").schema.rating == "plays"


@pytest.mark.parametrize("name", ["rating", "count", "ts"])
def test_times_are_never_taken_for_strengths(name: str):
    frame = pd.DataFrame({"user": [1, 1, 2], "item": list("abb"), name: [881250949, 891717742, 880606923]})
    for times in (frame, frame.astype({name: "Int64"}), frame.assign(**{name: [881250949.0, 891717742, None]})):
        assert made(times).train.tensors[2].tolist() == [1.0] * 3
    data = made(frame, time_name=name, split=leave_last(1))
    assert rows(data) == {(1, "a", 1.0), (2, "b", 1.0)} and data.schema.time == name


@pytest.mark.parametrize("name", ["n_clicks", "views", "play_count", "num_purchases", "quantity", "nClicks",
                                  "Play Count", "Star", "listens", "NViews", "n_baskets"])
def test_a_column_that_counts_is_known_by_a_word_of_its_name(name: str):
    frame = RATINGS.rename(columns={"rating": name}).assign(timestamp=range(7))
    assert made(frame[["user", "item", "timestamp", name]]).schema.rating == name
    assert made(frame.assign(rating=1)).schema.rating == "rating"           # the whole name goes before a word


def test_numbers_in_third_place_that_are_not_used_are_warned_of():
    with pytest.warns(UserWarning, match="^column 'x' is not used; if it is a strength, say rating_name='x'$"):
        assert made(RATINGS.rename(columns={"rating": "x"})).schema.rating == "weight"
    for name in ("clicked_at", "viewTime", "view_id", "avg_rating"):        # neither a strength nor a warning
        assert made(RATINGS.rename(columns={"rating": name})).schema.rating == "weight"
    assert made(RATINGS.rename(columns={"rating": "x"}), time_name="x").schema.rating == "weight"
    assert made(RATINGS.assign(rating="good").rename(columns={"rating": "view"})).schema.rating == "weight"


@pytest.mark.parametrize("name", ["stars", "weight"])
def test_a_column_of_strengths_that_is_not_there_is_named(name: str):
    with pytest.raises(DataError, match=f"no column '{name}' for the rating"):
        made(RATINGS[["user", "item"]], rating_name=name)
    with pytest.raises(DataError, match=r"needs two columns \(user, item\), this one has 1: \['user'\]"):
        made(RATINGS[["user"]])


def test_a_threshold_without_a_column_to_compare_is_refused():
    frame = RATINGS.drop(columns="rating").assign(timestamp=range(7), liked=RATINGS["rating"])
    for columns in (["user", "item"], ["user", "item", "timestamp", "liked"]):
        with pytest.raises(DataError, match=r"(?s)threshold=0\.5 .*'item'.*rating_name="):
            made(frame[columns], threshold=0.5)
    assert rows(made(frame, threshold=3, rating_name="liked")) == rows(made(RATINGS, threshold=3))
    data = made(RATINGS.rename(columns={"rating": "weight"}), threshold=3)
    with pytest.raises(DataError, match="threshold=3 "):
        data.batches(RATINGS[["user", "item"]])


def test_somebody_new_is_told_by_what_was_chosen():
    learn = collab_learner(made(RATINGS.assign(item=[50, 12, 50, 7, 12, 7, 12])), "als", n_factors=2, seed=0)
    with learn.no_logging():
        learn.fit(2)
    expected = learn.recommend(ratings={50: 1, 12: 1})
    assert expected["item"].tolist() == [7]
    table = pd.DataFrame({"item": [50, 12]})
    times = table.assign(rating=[9e8, 8e8])
    for chosen in ([50, 12], {12, 50}, np.array([50, 12]), table, table.assign(user=9), times):
        pd.testing.assert_frame_equal(learn.recommend(ratings=chosen), expected)
    assert learn.recommend(ratings=table.assign(rating=[5, 1]))["score"].tolist() != expected["score"].tolist()
    for wrong, says in ((table.assign(user=[8, 9]), "holds 2 users"), ([99], "99 is not among"),
                        ("50", "a list of items")):
        with pytest.raises(DataError, match=says):
            learn.recommend(ratings=wrong)


def test_pairs_that_come_again_are_counted_without_a_warning():
    assert (3, "b", 2.0) in rows(made(RATINGS[["user", "item"]]))
    assert (3, "b", 6.0) in rows(made(RATINGS))


def test_rows_of_no_strength_are_left_out_and_counted():
    frame = pd.DataFrame({"user": [1, 1, 2, 2, 2, 3], "item": list("abaacb"), "plays": [0, 2, 0, 3, 1, 0]})
    with pytest.warns(UserWarning, match="'plays': 3 of 6 interactions have a strength of 0 .*left out"):
        data = made(frame)
    assert rows(data) == {(1, "b", 2), (2, "a", 3), (2, "c", 1)} and 3 not in data.users
    with pytest.raises(DataError, match="all 6 interactions have a strength of 0"):
        made(frame.assign(plays=0))


PLAYED = pd.DataFrame({"user": [1, 1, 1, 2, 2, 2], "item": list("abaccb"), "plays": [1, 2, 4, 3, 5, 7],
                       "time": [1, 2, 9, 3, 4, 8]})


@pytest.mark.parametrize("split", [time_split(0.34), leave_last(1)])
def test_a_split_by_time_lets_no_later_strength_into_training(split: Any):
    data = made(PLAYED, split=split)
    assert rows(data) == {(1, "a", 1), (1, "b", 2), (2, "c", 8)}        # not 5 plays of a, 4 of which came last
    users, items, plays = data.valid.tensors
    held_out = [(1, "a", 4), (2, "b", 7)]
    assert [*zip(data.users.decode(users), data.items.decode(items), plays.tolist())] == held_out
    assert data.table(PLAYED, split=split)[["user", "item", "rating"]].apply(tuple, axis=1).tolist() == held_out


def test_any_other_split_sees_each_pair_once():
    seen: list[int] = []
    data = made(PLAYED, split=lambda df: seen.append(len(df)) or (range(3), range(3, len(df))))
    assert seen == [4] and rows(data) == {(1, "a", 5), (1, "b", 2), (2, "c", 8)}


def test_histories_hold_each_pair_once():
    data = made(RATINGS)
    items, strengths = data.histories[data.users[3]]
    assert dict(zip(data.items.decode(items.numpy()), strengths.tolist())) == {"b": 6.0, "c": 5.0}


def test_implicit_data_have_no_scale():
    assert made(RATINGS).scale is None
    assert CollabDataBunch.from_df(RATINGS.head(6), valid_pct=0.0, seed=0).scale == (1, 5)


@pytest.mark.parametrize("options, what", [
    ({"threshold": 9}, "none of 7 ratings is above"), ({"threshold": "3"}, "finite number"),
    ({"threshold": 3, "implicit": False}, "needs implicit=True"), ({"rating_name": "score"}, "no column 'score'")])
def test_what_is_wrong_is_said(options: dict[str, Any], what: str):
    with pytest.raises(DataError, match=what):
        made(RATINGS, **options)


def test_negative_strengths_are_refused_unless_a_threshold_leaves_them_out():
    frame = RATINGS.assign(rating=[1, -1, 1, 1, 1, 1, 1])
    with pytest.raises(DataError, match="negative strength"):
        made(frame)
    assert len(rows(made(frame, threshold=0))) == 5


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


OBJECTIVES = [BPR(), BPR(n_negatives=4, beta=0.5), InBatchSoftmax(), InBatchSoftmax(0.5, exclude_seen=True),
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


@pytest.mark.parametrize("loss", ["bpr", "softmax", "sampled_softmax", "full_softmax"])
def test_the_same_seed_gives_the_same_bits(planted: CollabDataBunch, loss: str):
    one, two = (quiet(collab_learner(planted, "dot_bias", n_factors=4, loss_func=loss, seed=5), 1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters()))
    assert one.recorder.rows[0]["valid_loss"] == two.recorder.rows[0]["valid_loss"]


@pytest.mark.parametrize("loss", ["bpr", "softmax", "sampled_softmax", "full_softmax"])
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
    scores = learn.recommend(list(data.users), exclude_seen=False, n=30)["score"]
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


@pytest.mark.parametrize("objective", [InBatchSoftmax(), SampledSoftmax(40), SampledSoftmax(5), FullSoftmax(),
                                       SampledSoftmax(40, beta=1.0)], ids=str)
def test_the_softmaxes_find_the_shares_of_items_that_everybody_chooses_from(objective: Objective):
    """One free score an item: the best are the logarithms of the shares, and a sample's correction keeps them so."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": np.arange(6000) % 50, "item": rng.choice(5, 6000, p=[0.5, 0.25, 0.13, 0.07, 0.05])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # pairs that come twice
        data = CollabDataBunch.from_df(frame.assign(rating=1.0), valid_pct=0, seed=0, bs=200, device="cpu")

    class Free(nn.Module):
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
        with pytest.raises(TypeError, match="SoftmaxNet leaves things out of the input of each row"):
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
    with pytest.warns(UserWarning, match="an objective that is not collab's own"):
        loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    assert loaded.objective is None
    pd.testing.assert_frame_equal(loaded.recommend(1), learn.recommend(1))


def test_a_fit_that_was_cut_off_and_resumed_ends_with_the_same_bits(planted: CollabDataBunch, tmp_path: Path):
    class Stop(Callback):
        def after_step(self) -> None:
            if self.learn.epoch == 1 and self.learn.i == 2:
                raise CancelFit
    whole, cut, rest = (collab_learner(planted, "bpr", n_factors=4, seed=3) for _ in range(3))
    for learn, options in ((whole, {}), (cut, {"cbs": [Checkpoint(tmp_path / "c", every=5), Stop()]}),
                           (rest, {"resume": tmp_path / "c"})):
        with learn.no_logging():
            learn.fit_one_cycle(3, **options)
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
    with pytest.raises(ValueError, match="n_negatives"):
        BPR(0)


def test_implicit_data_train_with_bpr_where_nothing_else_is_said(planted: CollabDataBunch):
    assert isinstance(collab_learner(planted, "dot").objective, BPR)
    assert collab_learner(planted, "als").objective is None
