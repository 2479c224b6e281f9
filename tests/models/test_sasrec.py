"""SASRec: its states by a loop over attention, what each of them may read, windows, order of time, and what it finds.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from collab import (
    EASE,
    CollabDataBunch,
    CollabWarning,
    DataError,
    SASRec,
    TensorBatches,
    collab_learner,
    evaluate,
    leave_last,
    random_split,
    time_split,
)
from collab.data.windows import WindowedBatches
from collab.learner.window_order import WindowOrder

HISTORIES = {1: [3, 1, 4, 2, 5], 2: [2], 3: [6, 5, 4]}
PAIRS = torch.tensor([[u, i] for u, history in HISTORIES.items() for i in history]).T
N_USERS, N_ITEMS, WINDOW = 5, 7, 3          # user 4 has no history


def model(**options: object) -> SASRec:
    torch.manual_seed(0)
    made = SASRec(4, N_USERS, N_ITEMS, (PAIRS[0], PAIRS[1]), **{"window": WINDOW, "init_std": 0.5, **options})
    with torch.no_grad():
        for p in made.parameters():         # so that every one counts
            p.add_(torch.randn_like(p) * 0.3)
    return made.double().eval()


def state(m: SASRec, items: list[int | None], filled: int | None = None) -> Tensor:
    """The state after reading these items, of which None is the start, in a window that reads `filled` in all:
    attention by its formula, position by position."""
    width, size, n = m.start.numel(), m.start.shape, len(items)
    read = [m.start if i is None else m.i_weight.weight[i] * math.sqrt(width) for i in items]
    x = [r + m.place.weight[WINDOW - (filled or n) + j] for j, r in enumerate(read)]
    for block in m.blocks:
        att, heads = block.self_attn, block.self_attn.num_heads
        normed = [F.layer_norm(v, size, block.norm1.weight, block.norm1.bias) for v in x]
        q, k, v = ([w @ one + b for one in normed] for w, b in zip(att.in_proj_weight.chunk(3),
                                                                   att.in_proj_bias.chunk(3)))
        out = []
        for j in range(n):
            mixed = []
            for part in torch.arange(width).chunk(heads):
                score = torch.stack([q[j][part] @ k[before][part] for before in range(j + 1)])
                weight = (score / math.sqrt(width / heads)).softmax(0)
                mixed.append(sum(w * v[before][part] for before, w in enumerate(weight)))
            out.append(x[j] + att.out_proj(torch.cat(mixed)))
        x = [o + block.linear2(F.gelu(block.linear1(F.layer_norm(o, size, block.norm2.weight, block.norm2.bias))))
             for o in out]
    return F.layer_norm(x[-1], size, m.norm.weight, m.norm.bias)


def read_by(history: list[int]) -> list[int | None]:
    """What predicts the item after a history: its last WINDOW items or, where it is shorter, the start and all."""
    return [None, *history][-WINDOW:]


def test_scores_are_of_what_comes_after_the_whole_history():
    m, users = model(), torch.arange(N_USERS)
    every = torch.arange(N_ITEMS)
    with torch.no_grad():
        states = torch.stack([state(m, read_by(HISTORIES.get(u, []))) for u in range(N_USERS)])
        scores = states @ m.i_weight.weight.T + m.i_bias.weight[:, 0]
        torch.testing.assert_close(m.factors("user"), states)
        torch.testing.assert_close(m.cross(users, every), scores)
        torch.testing.assert_close(m.logits(users, every[:N_USERS], every), scores)
        torch.testing.assert_close(m(users, torch.tensor([1, 6, 2, 3, 0])), scores[users, [1, 6, 2, 3, 0]])
        for history in HISTORIES.values():
            expected = state(m, read_by(history)) @ m.i_weight.weight.T + m.i_bias.weight[:, 0]
            torch.testing.assert_close(m.score_new(torch.tensor(history), torch.ones(len(history))), expected)
        new = [6, 0, 1, 2, 3]               # row 0 is an item that is not known
        expected = state(m, read_by([6, 1, 2, 3])) @ m.i_weight.weight.T + m.i_bias.weight[:, 0]
        torch.testing.assert_close(m.score_new(torch.tensor(new), torch.ones(5)), expected)
        torch.testing.assert_close(m.score_new(torch.tensor([], dtype=torch.int64), torch.ones(0)), scores[4])
    form = m.dot_form()
    torch.testing.assert_close(form.user_vectors() @ form.item_vectors().T, scores)


def test_in_training_an_item_is_predicted_from_those_before_it_in_its_window():
    """Windows of 3 from the end: user 1 has [3, 1] and [4, 2, 5]; 4 is predicted from 1 alone, without a start."""
    m = model(drop=0.0).train()
    windows = {1: [[None], [None, 3], [1], [1, 4], [1, 4, 2]], 2: [[None]], 3: [[None], [None, 6], [None, 6, 5]]}
    filled = {1: 2, 2: 1, 3: 3}          # what the first window of each reads in all
    with torch.no_grad():
        expected = torch.stack([state(m, items, 3 if items[0] == 1 else filled[user])
                                for user in HISTORIES for items in windows[user]])
        torch.testing.assert_close(m.hidden(*PAIRS), expected)
        order = torch.randperm(PAIRS.shape[1])
        torch.testing.assert_close(m.hidden(*PAIRS[:, order]), expected[order])
        some = torch.tensor([4, 0, 4])                                      # a part of a window, and a row twice
        torch.testing.assert_close(m.hidden(*PAIRS[:, some]), expected[some])
        never = m.hidden(torch.tensor([2, 4, 0]), torch.tensor([6, 1, 2]))  # pairs that no history holds
        torch.testing.assert_close(never, m.after(torch.tensor([2, 4, 0])))


def test_gradients_reach_every_parameter_and_agree_however_rows_are_batched():
    made = []
    for rows in (torch.arange(9), torch.tensor([8, 3, 0, 6, 2, 1, 7, 5, 4])):
        m = model(drop=0.0).train()
        hidden, weight, bias = m.linear_logits(*PAIRS[:, rows])
        F.cross_entropy(hidden @ weight.T + bias, PAIRS[1, rows]).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in m.parameters() if p is not m.start)
        made.append([p.grad for p in m.parameters()])
    for one, other in zip(*made):
        torch.testing.assert_close(one, other)


def test_a_pair_that_comes_again_is_predicted_where_it_came_last():
    """As if another item stood there, which its own prediction does not read."""
    made = []
    for history, item in (([2, 3, 2, 4], 2), ([2, 3, 1, 4], 1)):
        torch.manual_seed(0)
        m = SASRec(4, 2, 5, (torch.ones(4, dtype=torch.int64), torch.tensor(history)), window=4, drop=0.0).train()
        made.append(m.hidden(torch.tensor([1]), torch.tensor([item])))
    torch.testing.assert_close(*made)


@pytest.mark.parametrize(("options", "said"), [
    ({"n_factors": 5}, "n_factors must be a multiple of n_heads=2, got 5"),
    ({"window": 0}, "window must be a whole number, at least 1, got 0"),
    ({"n_blocks": 1.5}, "n_blocks must be a whole number, at least 1, got 1.5"),
    ({"n_heads": 0}, "n_heads must be a whole number, at least 1, got 0"),
    ({"drop": 1.0}, "drop must be at least 0 and below 1, got 1.0")])
def test_settings_out_of_range_are_refused(options: dict, said: str):
    with pytest.raises(ValueError) as caught:
        SASRec(**{"n_factors": 4, "n_users": 3, "n_items": 3, **options})
    assert str(caught.value) == said


# Batches -----------------------------------------------------------------------------------------------------------

def test_windows_hold_every_row_once_and_stay_together():
    """Windows of 4 from the end: of 11 ratings 3, 4 and 4; the rows of users lie among each other."""
    counts = {1: 11, 2: 4, 3: 1, 5: 6}
    users = torch.tensor([u for k in range(11) for u, n in counts.items() if k < n])
    at = torch.tensor([int((users[:k] == u).sum()) for k, u in enumerate(users)])        # the place in its history
    batches = WindowedBatches(TensorBatches(users, at, torch.arange(len(users)).float(), bs=9, shuffle=True), 4, 6)
    expected = {(1, (0, 1, 2)), (1, (3, 4, 5, 6)), (1, (7, 8, 9, 10)), (2, (0, 1, 2, 3)), (3, (0,)), (5, (0, 1)),
                (5, (2, 3, 4, 5))}
    orders = []
    for _ in range(3):
        found, order = list(batches), []
        assert len(found) == len(batches) == 4 and all(len(u) <= 9 for u, _, _ in found)
        for u, k, row in found:
            assert torch.equal(users[row.long()], u) and torch.equal(at[row.long()], k)
            cut = [0, *(torch.nonzero((u.diff() != 0) | (k.diff() != 1))[:, 0] + 1).tolist(), len(u)]
            order += [(int(u[a]), tuple(k[a:b].tolist())) for a, b in pairwise(cut)]
        assert {*order} == expected and len(order) == 7
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    assert torch.equal(torch.cat([row for *_, row in batches.in_order()]), torch.arange(len(users)).float())


def test_batches_smaller_than_a_window_hold_parts_of_it():
    users = torch.tensor([1] * 7 + [2] * 2)
    batches = WindowedBatches(TensorBatches(users, torch.arange(9), torch.zeros(9), bs=3, shuffle=True), 50, 3)
    found = [i.tolist() for _, i, _ in batches]
    assert sorted(found) == [[0], [1, 2, 3], [4, 5, 6], [7, 8]] and batches.bs == 3


# Order of time -------------------------------------------------------------------------------------------------------

def listened(n_users: int = 60, n_items: int = 20, length: int = 12) -> pd.DataFrame:
    """What comes next follows from what came last: every item has one that follows it, in a circle. Rows are not in
    order of time."""
    draw = np.random.default_rng(0)
    circle = draw.permutation(n_items)
    rows = [(f"u{u}", f"i{circle[(start + k) % n_items]}", 1.0, 100 * k + u)
            for u, start in enumerate(draw.integers(n_items, size=n_users)) for k in range(length)]
    return pd.DataFrame(rows, columns=["user", "item", "rating", "time"]).sample(frac=1, random_state=1)


@pytest.mark.parametrize("split", [leave_last(1), time_split(0.2), time_split(0)])
def test_a_split_by_time_puts_the_training_rows_in_order_of_time(split):
    table = listened()
    data = CollabDataBunch.from_df(table, split=split, implicit=True, seed=0, device="cpu")
    users, items, _ = data.train.tensors
    when = table.set_index(["user", "item"])["time"]
    times = when.loc[[*zip(data.users.decode(users), data.items.decode(items))]].to_numpy()
    assert (np.diff(times) >= 0).all() and len(times) == len(table) - (0 if data.valid is None else data.valid.n)


def test_ratings_of_one_time_keep_the_order_of_the_table():
    table = pd.DataFrame({"user": [1, 1, 1, 2, 2], "item": [9, 8, 7, 9, 7], "rating": [1., 2, 3, 4, 5],
                          "time": [5, 5, 4, 5, 4]})
    data = CollabDataBunch.from_df(table, split=time_split(0), seed=0, device="cpu")
    assert data.train.tensors[2].tolist() == [3, 5, 1, 2, 4]


def test_it_finds_what_follows():
    data = CollabDataBunch.from_df(listened(), split=leave_last(1), implicit=True, bs=128, seed=0, device="cpu")
    learn = collab_learner(data, "sasrec", n_factors=16, window=10, drop=0.0, seed=0)
    assert isinstance(next(cb for cb in learn.cbs if isinstance(cb, WindowOrder)), WindowOrder)
    with learn.no_logging():
        learn.fit_one_cycle(20, 1e-2)
    found = evaluate(learn, k=1, metrics=["recall"], baseline=False).summary["recall"]
    blind = collab_learner(data, "ease", seed=0)
    with blind.no_logging():
        blind.fit()
    assert found > 0.95 and evaluate(blind, k=1, metrics=["recall"], baseline=False).summary["recall"] < 0.6
    assert isinstance(blind.model, EASE)
    table = listened()
    follows = {a: b for _, of in table.sort_values("time").groupby("user")["item"] for a, b in pairwise(of)}
    first = table["item"].iloc[0]
    heard = [first, follows[first], follows[follows[first]]]
    assert learn.recommend(ratings=heard, n=1)["item"].tolist() == [follows[heard[-1]]]
    assert learn.recommend(ratings=heard[::-1], n=1)["item"].tolist() != [follows[heard[-1]]]      # their order counts


def test_ratings_in_no_order_of_time_are_warned_of():
    said = r"sasrec takes the ratings of a user in the order of the table, since the split does not go by time"
    data = CollabDataBunch.from_df(listened(), split=random_split(0.2), implicit=True, seed=0, device="cpu")
    with pytest.warns(CollabWarning, match=said):
        collab_learner(data, "sasrec", n_factors=4)
    held = CollabDataBunch.from_df(listened(), split=random_split(0.2), test=leave_last(1), implicit=True, seed=0,
                                   device="cpu")
    collab_learner(held, "sasrec", n_factors=4)       # in order, since what is kept for the end goes by time


def test_shuffled_files_are_refused(tmp_path):
    listened().to_parquet(tmp_path / "plays.parquet")
    data = CollabDataBunch.from_parquet(tmp_path / "plays.parquet", folder=tmp_path / "encoded", seed=0, bs=64)
    said = "sasrec reads ratings in order of time, and those of from_parquet are shuffled"
    with pytest.raises(DataError, match=said):
        collab_learner(data, "sasrec", n_factors=4)
