"""SASRec: its states by a loop over attention, what each of them may read, windows, order of time, and what it finds.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from collab import (
    Callback,
    CollabDataBunch,
    CollabLearner,
    CollabWarning,
    DataError,
    RowAdagrad,
    SASRec,
    TensorBatches,
    collab_learner,
    compare_models,
    evaluate,
    leave_last,
    load_learner,
    random_split,
    time_split,
)
from collab.data.new_user import rated_file
from collab.data.windows import WindowedBatches
from collab.learner import factory
from collab.learner.settings import training_cbs
from collab.learner.tile_order import TileOrder
from collab.learner.window_order import WindowOrder
from collab.select.comparison import _fitting
from collab.select.contenders import contenders_of
from collab.select.three_way import three_way

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
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in m.parameters())
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


def test_decay_is_of_tables_and_matrices_and_biases_start_at_the_logarithm_of_counts():
    m = SASRec(4, N_USERS, N_ITEMS, (PAIRS[0], PAIRS[1]))
    weights, rest = m.param_groups()
    assert rest["decay"] == 0.0 and "decay" not in weights
    assert {*map(id, rest["params"])} == {id(m.i_bias.weight), *(id(p) for p in m.parameters() if p.dim() == 1)}
    assert len(weights["params"]) + len(rest["params"]) == len([*m.parameters()])
    counts = torch.tensor([0.5, 1, 2, 1, 2, 2, 1])              # row 0 has none
    torch.testing.assert_close(m.i_bias.weight[:, 0], (counts / counts.mean()).log())


def test_a_user_is_read_once_however_many_rows_ask(monkeypatch: pytest.MonkeyPatch):
    m, read = model(), []
    through = m.blocks[0].forward
    monkeypatch.setattr(m.blocks[0], "forward", lambda x, **options: read.append(len(x)) or through(x, **options))
    with torch.no_grad():
        m(torch.tensor([1, 3, 1, 1, 3]), torch.tensor([1, 2, 3, 4, 5]))
    assert read == [2]


@pytest.mark.parametrize(("options", "said"), [
    ({"n_factors": 5}, "n_factors must be a multiple of n_heads=2, got 5"),
    ({"window": 0}, "window must be a whole number, at least 1, got 0"),
    ({"n_blocks": 1.5}, "n_blocks must be a whole number, at least 1, got 1.5"),
    ({"n_heads": 0}, "n_heads must be a whole number, at least 1, got 0"),
    ({"window": True}, "window must be a whole number, at least 1, got True"),
    ({"drop": "0.1"}, "drop must be a number, at least 0 and below 1, got '0.1'"),
    ({"drop": 1.0}, "drop must be a number, at least 0 and below 1, got 1.0")])
def test_settings_out_of_range_are_refused(options: dict, said: str):
    with pytest.raises(ValueError) as caught:
        SASRec(**{"n_factors": 4, "n_users": 3, "n_items": 3, **options})
    assert str(caught.value) == said


# Batches -----------------------------------------------------------------------------------------------------------

def test_windows_hold_every_row_once_and_stay_together():
    """Windows of 4 from the end: of 11 ratings 3, 4 and 4; the rows of users lie among each other. Of 22 rows in 7
    windows two make 6.3 in the mean, three 9.4."""
    counts = {1: 11, 2: 4, 3: 1, 5: 6}
    users = torch.tensor([u for k in range(11) for u, n in counts.items() if k < n])
    at = torch.tensor([int((users[:k] == u).sum()) for k, u in enumerate(users)])        # the place in its history
    batches = WindowedBatches(TensorBatches(users, at, torch.arange(len(users)).float(), bs=7, shuffle=True), 4, 6)
    expected = {(1, (0, 1, 2)), (1, (3, 4, 5, 6)), (1, (7, 8, 9, 10)), (2, (0, 1, 2, 3)), (3, (0,)), (5, (0, 1)),
                (5, (2, 3, 4, 5))}
    orders = []
    for _ in range(3):
        found, order = list(batches), []
        assert len(found) == len(batches) == 4 and all(len(u) <= 8 for u, _, _ in found)
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


def test_short_histories_make_batches_of_as_many_rows():
    users = torch.arange(1, 1001).repeat_interleave(2)
    batches = WindowedBatches(TensorBatches(users, users, users, bs=200, shuffle=True), 50, 1001)
    assert [len(u) for u, *_ in batches] == [200] * 10


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


def test_a_pair_that_is_added_up_has_the_place_of_its_last_row():
    """However the rows of the table lie: x, y, z, x are y, z, x."""
    table = pd.DataFrame({"user": ["a"] * 4 + ["b"], "item": ["x", "y", "z", "x", "y"], "time": [1, 2, 3, 4, 5]})
    for order in (range(5), [4, 3, 2, 1, 0], [1, 3, 0, 4, 2]):
        data = CollabDataBunch.from_df(table.iloc[[*order]], split=time_split(0), implicit=True, seed=0, device="cpu")
        mine = data.histories[data.users.encode(["a"])[0]]
        assert [*data.items.decode(mine[0])] == ["y", "z", "x"] and mine[1].tolist() == [1, 1, 2]


@pytest.mark.parametrize(("split", "timed"), [(leave_last(3), True), (random_split(0.3), False)])
def test_validation_ratings_that_join_the_training_part_stay_in_order_of_time(split, timed):
    """`tune` trains on both in the end."""
    data = CollabDataBunch.from_df(listened(), split=split, test=leave_last(1), implicit=True, seed=0, device="cpu")
    whole, when = three_way(data).whole, listened().set_index(["user", "item"])["time"]
    ordered = []
    for user in whole.users:
        items = whole.items.decode(whole.histories[whole.users.encode([user])[0]][0])
        ordered.append((np.diff(when.loc[[(user, item) for item in items]]) > 0).all())
    assert whole.timed == all(ordered) == timed and len(ordered) == 60


@pytest.fixture(scope="module")
def learn() -> CollabLearner:
    data = CollabDataBunch.from_df(listened(), split=leave_last(1), implicit=True, bs=128, seed=0, device="cpu")
    learn = collab_learner(data, "sasrec", n_factors=16, window=10, drop=0.0, seed=0)
    with learn.no_logging():
        learn.fit_one_cycle(20, 1e-2)
    return learn


@pytest.fixture(scope="module")
def heard() -> list[str]:
    """Four items, each of which follows the one before, and what comes after them."""
    table = listened()
    follows = {a: b for _, of in table.sort_values("time").groupby("user")["item"] for a, b in pairwise(of)}
    heard = [table["item"].iloc[0]]
    while len(heard) < 5:
        heard.append(follows[heard[-1]])
    return heard


def test_it_finds_what_follows(learn: CollabLearner):
    found = evaluate(learn, k=1, metrics=["recall"], baseline=False).summary["recall"]
    blind = collab_learner(learn.data, "ease", seed=0)
    with blind.no_logging():
        blind.fit()
    assert found > 0.95 and evaluate(blind, k=1, metrics=["recall"], baseline=False).summary["recall"] < 0.6


def test_the_order_of_a_new_user_counts(learn: CollabLearner, heard: list[str], tmp_path):
    *before, then = heard

    def first(ratings: object) -> str:
        return learn.recommend(ratings=ratings, n=1)["item"].iloc[0]
    assert first(before) == then != first(before[::-1])
    assert first([before[-1], *before]) == then                     # one that comes twice is at its last place
    table = pd.DataFrame({"item": before, "time": [1, 2, 3, 4]}).iloc[[2, 0, 3, 1]]
    assert first(table) == then
    table.to_csv(tmp_path / "heard.csv", index=False)
    assert [*rated_file(learn.data, tmp_path / "heard.csv")["item"]] == before
    again = pd.concat([table, pd.DataFrame({"item": before[-1:], "time": [0]})])       # heard before as well
    assert first(again) == then
    added = learn.add_ratings(again.assign(user="new", rating=1.0))
    assert added.recommend("new", 1)["item"].tolist() == [then] and added.data.timed
    items, weights = added.data.histories[added.data.users.encode(["new"])[0]]
    assert [*added.data.items.decode(items)] == before and weights.tolist() == [1, 1, 1, 2]
    unread = table.assign(time=["a day", "some day", "one day", "today"])
    with pytest.warns(CollabWarning, match="the order of the table is taken, since its times do not sort: column"):
        first(unread)
    with pytest.raises(DataError, match="column 'time'"):
        learn.add_ratings(unread.assign(user="new", rating=1.0))


def test_training_goes_by_windows_in_every_learner_of_the_model(learn: CollabLearner, tmp_path,
                                                                 monkeypatch: pytest.MonkeyPatch):
    def length(of: CollabLearner) -> int:
        """Of the windows of an epoch's batches."""
        seen: list[object] = []

        class Look(Callback):
            def before_batch(self) -> None:
                seen.append(self.learn.batches)
        with of.no_logging():
            of.fit(1, 0.0, cbs=Look())
        assert isinstance(seen[0], WindowedBatches)
        return seen[0].length
    loaded = load_learner(learn.export(tmp_path / "m.safetensors"))
    assert length(loaded) == 10
    assert [type(cb) for cb in training_cbs(learn) if isinstance(cb, WindowOrder)] == [WindowOrder]
    monkeypatch.setattr(factory, "MANY_ROWS", 1)        # ratings that go by tiles otherwise
    other = collab_learner(learn.data, "sasrec", n_factors=4, window=3, opt_func=RowAdagrad, seed=0)
    assert not any(isinstance(cb, TileOrder) for cb in other.cbs)
    other.set_model(SASRec(4, learn.data.n_users, learn.data.n_items, window=5))
    assert length(other) == 5


@pytest.mark.parametrize(("table", "why"), [
    (listened(), "the split does not go by time; split with "),
    (listened().drop(columns="time"), "no column of times is known; name it with time_name=..., and split with ")])
def test_ratings_in_no_order_of_time_are_warned_of(table: pd.DataFrame, why: str):
    said = f"SASRec reads the ratings of a user in the order of the table, since {why}split=leave_last(1)"
    data = CollabDataBunch.from_df(table, split=random_split(0.2), implicit=True, seed=0, device="cpu")
    for model in ("sasrec", SASRec(4, data.n_users, data.n_items)):
        with pytest.warns(CollabWarning, match=re.escape(said)):
            collab_learner(data, model, n_factors=4)


def test_what_is_kept_for_the_end_by_time_puts_the_rest_in_order():
    for how in ({"split": random_split(0.2)}, {"valid_pct": 0}):
        data = CollabDataBunch.from_df(listened(), test=leave_last(1), implicit=True, seed=0, device="cpu", **how)
        assert data.timed
        collab_learner(data, "sasrec", n_factors=4)


def test_a_comparison_has_no_place_for_it_where_the_split_does_not_go_by_time():
    data = CollabDataBunch.from_df(listened(), split=random_split(0.2), implicit=True, seed=0, device="cpu")
    why = ("it reads histories in order of time, by which these ratings are not split; hold out the last ones, with "
           "split=leave_last(1) or time_split(0.2), and without folds")
    racing, left_out = _fitting(contenders_of(["sasrec", "ease"]), data, ["ndcg"], False)
    assert [one.label for one in racing] == ["ease"] and left_out == {"sasrec": why}
    with pytest.raises(DataError, match=re.escape(f"sasrec: {why}")):
        compare_models(data, ["sasrec"])
    timed = CollabDataBunch.from_df(listened(), split=leave_last(1), implicit=True, seed=0, device="cpu")
    with pytest.raises(DataError, match="without folds"):
        compare_models(timed, ["sasrec"], folds=2)


@pytest.mark.filterwarnings("default")
def test_the_command_line_keeps_the_order_of_time_where_it_holds_nothing_out(collab, tmp_path):
    """As it was told to by the warning of a split at random."""
    listened().to_csv(tmp_path / "plays.csv", index=False)
    words = [str(tmp_path / "plays.csv"), "--model", "sasrec", "--implicit", "--epochs", "1", "--factors", "4"]
    path = tmp_path / "m.safetensors"
    code, _, err = collab("train", *words, "--split", "time", "--valid-pct", "0", "--out", path)
    assert code == 0 and "in the order of the table" not in err
    made, when = load_learner(path), listened().set_index(["user", "item"])["time"]
    for user in made.data.users:
        items = made.data.items.decode(made.data.histories[made.data.users.encode([user])[0]][0])
        assert (np.diff(when.loc[[(user, item) for item in items]]) > 0).all()
    _, _, err = collab("train", *words, "--out", tmp_path / "other.safetensors")
    assert ("take --split last or --split time, or --split time --valid-pct 0, which holds none out"
            in " ".join(err.split()))


def test_shuffled_files_are_refused(tmp_path):
    listened().to_parquet(tmp_path / "plays.parquet")
    data = CollabDataBunch.from_parquet(tmp_path / "plays.parquet", folder=tmp_path / "encoded", seed=0, bs=64)
    said = "SASRec reads ratings in order of time, and those of from_parquet are shuffled"
    with pytest.raises(DataError, match=said):
        collab_learner(data, "sasrec", n_factors=4)
