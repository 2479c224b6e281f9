"""SoftmaxNet: its forward pass by hand, what is left out, fold-in, and files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from collab import (
    CollabDataBunch,
    CollabWarning,
    Index,
    Popularity,
    SoftmaxNet,
    collab_learner,
    evaluate,
    load_learner,
    per_user_split,
)
from collab import linear_softmax as linear_softmax_module
from collab.learner import objectives
from collab.models import softmax as softmax_module

PAIRS = torch.tensor([[1, 1, 1, 2, 3, 3], [1, 2, 4, 3, 2, 5]])      # (users, items)
CODES = torch.tensor([[0, 0], [0, 1], [1, 0], [2, 0], [0, 2], [2, 0]])
WEIGHTS = torch.tensor([[0, 0], [0.5, 0.5], [1, 0], [1, 0], [0.5, 0.5], [1, 0]])


def model(**options: object) -> SoftmaxNet:
    torch.manual_seed(0)
    return SoftmaxNet(3, 4, 6, (PAIRS[0], PAIRS[1]), **{"init_std": 1.0, "hidden": (3,), **options}).eval()


def by_hand(m: SoftmaxNet, history: list[int], meta: bool = False) -> Tensor:
    x = m.i_in.weight[history].mean(0)
    if meta:
        kinds = [sum(w * m.kinds[0].table.weight[c] for c, w in zip(CODES[i], WEIGHTS[i])) for i in history]
        x = torch.cat([x, torch.stack(kinds).mean(0)])
    for layer in m.layers:
        x = torch.relu(layer.weight @ x + layer.bias)
    return m.i_out.weight @ x + m.i_bias.weight[:, 0]


def logits(m: SoftmaxNet, users) -> torch.Tensor:
    users = torch.as_tensor(users)
    return m.logits(users, torch.zeros_like(users), torch.arange(m.i_in.num_embeddings))


def test_the_forward_pass_is_the_formula():
    users, items = torch.tensor([1, 3, 2]), torch.tensor([5, 1, 1])
    for m, meta in ((model(), False), (model(items=[(CODES, WEIGHTS, 3)], dims=[2], hidden=(4, 3)), True)):
        for user, history in ((1, [1, 2, 4]), (2, [3]), (3, [2, 5])):
            torch.testing.assert_close(logits(m, [user])[0], by_hand(m, history, meta))
        torch.testing.assert_close(m(users, items), logits(m, users).gather(1, items[:, None])[:, 0])
        torch.testing.assert_close(m.cross(users, items), logits(m, users)[:, items])
        torch.testing.assert_close(m.score_new(torch.tensor([4, 1, 2]), torch.ones(3)), by_hand(m, [1, 2, 4], meta))


def test_the_output_table_is_the_input_table_where_sizes_allow():
    m = model()
    assert m.tied and m.i_out is m.i_in
    m = model(hidden=(5,))
    assert not m.tied and m.i_out.weight.shape == (6, 5)


def test_a_target_is_left_out_of_its_own_input():
    users, items = torch.tensor([1, 3]), torch.tensor([2, 5])
    for leave_out, expected in ((True, [[1, 4], [2]]), (False, [[1, 2, 4], [2, 5]])):
        m = model(leave_out=leave_out)
        torch.manual_seed(1)        # of no row everything is dropped
        bags = m.bags(users, items)
        assert [torch.nonzero(bag)[:, 0].tolist() for bag in bags] == expected
        torch.testing.assert_close(bags.sum(1), torch.ones(2))


def test_dropping_keeps_the_expected_input():
    m = model(drop=0.4)
    total = torch.zeros(6)
    torch.manual_seed(0)
    for _ in range(400):
        total += m.bags(torch.tensor([1] * 20), torch.tensor([5] * 20)).mean(0) / 400
    expected = torch.tensor([0, 1, 1, 0, 1, 0]) / 3 * 0.98
    torch.testing.assert_close(total, expected, atol=0.02, rtol=0)


def test_of_two_in_a_hundred_rows_everything_is_dropped():
    m, rows = model(leave_out=False), torch.tensor([1] * 20_000)
    torch.manual_seed(0)
    empty = (m.train().bags(rows, rows).sum(1) == 0).float().mean().item()
    assert empty == pytest.approx(0.02, abs=0.003)                     # three standard deviations
    assert (m.bags(rows).sum(1) > 0).all()


def test_a_history_is_divided_by_a_power_of_its_length():
    for power, divisor in ((0.0, 1.0), (0.5, 3 ** 0.5), (1.0, 3.0)):
        m = model(bag_power=power)
        expected = torch.tensor([0, 1, 1, 0, 1, 0]) / divisor
        torch.testing.assert_close(m.bags(torch.tensor([1]))[0], expected)
        torch.testing.assert_close(m.score_new(torch.tensor([1, 2, 4]), torch.ones(3)), logits(m, [1])[0])


def test_biases_begin_at_how_popular_items_are_and_do_not_decay():
    m = model()
    counts = torch.tensor([0.5, 1, 2, 1, 1, 1])
    torch.testing.assert_close(m.i_bias.weight[:, 0], (counts / counts.mean()).log())
    weights, biases = m.param_groups()
    assert biases["decay"] == 0 and "decay" not in weights and len(weights["params"]) == 2
    assert {id(p) for p in biases["params"]} == {id(m.i_bias.weight), id(m.layers[0].bias)}


def test_its_index_ranks_as_it_does_and_it_takes_people_in(tmp_path: Path, data: CollabDataBunch):
    learn = collab_learner(data, "softmax", n_factors=8, seed=0, metrics=[])
    with learn.no_logging():
        learn.fit(3)
    index = learn.index()
    index.save(tmp_path / "index")
    for user in (0, 1, 2):
        seen = learn.rated(user)["item"].tolist()
        wanted = learn.recommend(user, n=5)
        found = Index.load(tmp_path / "index").recommend(user, n=5, exclude=seen)
        assert found["item"].tolist() == wanted["item"].tolist()
        torch.testing.assert_close(torch.tensor(found["score"]), torch.tensor(wanted["score"]), rtol=1e-4, atol=1e-5)
    new = pd.DataFrame({"user": [900, 900, 0], "item": [1, 2, 29]})
    more = learn.add_ratings(new)
    assert more.data.n_users == data.n_users + 1 and 900 not in learn.data.users
    pd.testing.assert_frame_equal(more.recommend(900, n=5), learn.recommend(ratings={1: 1, 2: 1}, n=5), rtol=1e-4)
    pd.testing.assert_frame_equal(more.recommend(1, n=5), learn.recommend(1, n=5))
    loaded = load_learner(more.export(tmp_path / "m"), device="cpu")
    pd.testing.assert_frame_equal(loaded.recommend(900, n=5), more.recommend(900, n=5))


def test_nobody_in_particular_has_an_empty_history():
    m = model()
    zero = torch.zeros(3)
    h = torch.relu(m.layers[0](zero))
    torch.testing.assert_close(logits(m, [0])[0], m.i_in.weight @ h + m.i_bias.weight[:, 0])


@pytest.mark.parametrize("options", [{"activation": "sine"}, {"dims": [2]}, {"drop": 1.0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, object]):
    with pytest.raises(ValueError):
        model(**options)


@pytest.fixture(scope="module")
def data() -> CollabDataBunch:
    """Users of two tastes; items have the taste as their genre, and a year."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(u, u % 2 * 15 + i) for u in range(60) for i in torch.randperm(15, generator=generator)[:8].tolist()]
    items = pd.DataFrame({"item": range(30), "genre": ["A|B"] * 15 + ["C|B"] * 15,
                          "year": [1990 + i % 5 for i in range(30)]})
    return CollabDataBunch.from_df(pd.DataFrame(pairs, columns=["user", "item"]), implicit=True, items=items, bs=100,
                                   item_features=["genre", "year"], split=per_user_split(0.25, 0), seed=0, device="cpu")


def reference(data: CollabDataBunch) -> SoftmaxNet:
    """35 + 3 + 2 dimensions, hidden 35."""
    return SoftmaxNet(35, data.n_users, data.n_items, data.train.tensors[:2], data.item_features.by_column(), (3, 2))


def test_features_by_column_are_those_of_the_whole(data: CollabDataBunch):
    features = data.item_features
    whole = torch.zeros(data.n_items, len(features.labels)).scatter_add_(1, features.codes, features.weights)
    parts = [torch.zeros(data.n_items, n).scatter_add_(1, codes, weights)
             for codes, weights, n in features.by_column()]
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_the_reference_settings_learn_two_tastes_and_come_back_from_a_file(data: CollabDataBunch, tmp_path: Path):
    learn = collab_learner(data, reference(data), opt_func=torch.optim.Adagrad, lr=0.05)
    with learn.no_logging():
        learn.fit(15)
    assert evaluate(learn, k=5).summary["recall"] > 1.4 * evaluate(Popularity(data), k=5).summary["recall"]
    with pytest.warns(CollabWarning, match="does not hold opt_func Adagrad"):
        loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    pd.testing.assert_frame_equal(learn.recommend([0, 1, 2]), loaded.recommend([0, 1, 2]))
    for user in (4, 5):         # somebody new with the history of a known user is that user
        rows, _ = data.histories[data.users[user]]
        torch.testing.assert_close(learn.model.eval().score_new(rows, torch.ones(len(rows))), logits(
            learn.model, [data.users[user]])[0].detach())
    assert learn.weight([4, 5], is_item=False).shape == (2, 35) and len(learn.similar_items(3, n=4)) == 4


def test_unknown_ids_are_the_average_ones(data: CollabDataBunch):
    learn = collab_learner(data, "softmax", n_factors=8)
    with learn.no_logging():
        learn.fit(1)
    torch.testing.assert_close(learn.model.i_in.weight[0], learn.model.i_in.weight[1:].mean(0))
    with pytest.warns(UserWarning, match="average"):
        assert len(learn.recommend("nobody" if data.users.kind == "string" else 10**6, n=3)) == 3


class Whole(SoftmaxNet):
    """Logits of its own, which are not known to be linear: they are made as a table."""

    def logits(self, users: Tensor, targets: Tensor, items: Tensor) -> Tensor:
        return super().logits(users, targets, items)


def gradients(data: CollabDataBunch, kind: type[SoftmaxNet], **options: object) -> list[Tensor]:
    """Scores, loss and gradients of a batch of 80 rows, and how many rows were encoded at a time."""
    torch.manual_seed(0)
    net = kind(4, data.n_users, data.n_items, data.train.tensors[:2], hidden=(4,), **options)
    objective = (learn := collab_learner(data, net, metrics=[], seed=1)).objective
    objective.setup(data)
    learn.xb, learn.training = [t[:80] for t in data.train.tensors[:2]], True
    rows = []
    net.layers[0].register_forward_hook(lambda m, args, out: rows.append(len(out)))
    net.train()
    objective.predict()
    objective.loss.backward()
    return [learn.pred.detach(), objective.loss.detach(), *(p.grad for p in net.parameters()), torch.tensor(max(rows))]


def n_inputs(data: CollabDataBunch, leave_out: bool) -> int:
    return 80 if leave_out else len(data.train.tensors[0][:80].unique())


@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_a_few_logits_at_a_time_give_the_loss_and_gradients_of_their_table(leave_out: bool, tied: bool,
                                                                          data: CollabDataBunch,
                                                                          monkeypatch: pytest.MonkeyPatch):
    options = {"leave_out": leave_out, "tied": tied, "drop": 0.5}
    whole = gradients(data, Whole, **options)
    for at_a_time in (1 << 22, 7 * data.n_items, 1):
        monkeypatch.setattr(linear_softmax_module, "MAX_LOGITS", at_a_time)
        for one, other in zip(whole, gradients(data, SoftmaxNet, **options)):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("leave_out", [False, True])
def test_training_in_pieces_gives_the_same_loss_and_gradients(leave_out: bool, data: CollabDataBunch,
                                                               monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.ones(*shape, **options))     # leaves out nothing
    *whole, all_rows = gradients(data, Whole, leave_out=leave_out)
    monkeypatch.setattr(objectives, "MAX_TRAINED", 7 * data.n_items)
    *pieces, few_rows = gradients(data, Whole, leave_out=leave_out)
    assert all_rows == n_inputs(data, leave_out) and few_rows == 7
    for one, other in zip(whole, pieces):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("leave_out", [False, True])
def test_long_histories_are_summed_in_pieces_with_the_same_gradients(leave_out: bool, data: CollabDataBunch,
                                                                     monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.ones(*shape, **options))
    *whole, all_rows = gradients(data, SoftmaxNet, leave_out=leave_out)
    monkeypatch.setattr(softmax_module, "MAX_NUMBERS", 30)      # histories have six entries
    *pieces, few_rows = gradients(data, SoftmaxNet, leave_out=leave_out)
    assert all_rows == n_inputs(data, leave_out) and few_rows == 5
    for one, other in zip(whole, pieces):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [Whole, SoftmaxNet])
def test_what_is_made_again_for_the_gradient_leaves_out_the_same(kind: type[SoftmaxNet], data: CollabDataBunch,
                                                                 monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(objectives, "MAX_TRAINED", 7 * data.n_items)
    monkeypatch.setattr(softmax_module, "MAX_NUMBERS", 30)
    again = gradients(data, kind, leave_out=False, drop=0.5)
    for module in (objectives, softmax_module):
        monkeypatch.setattr(module, "checkpoint", lambda function, *args, use_reentrant: function(*args))
    for one, other in zip(again, gradients(data, kind, leave_out=False, drop=0.5)):
        torch.testing.assert_close(one, other)


def test_linear_logits_are_inherited_with_their_logits_alone():
    assert Whole(3, 4, 6, (PAIRS[0], PAIRS[1])).linear_logits(PAIRS[0], PAIRS[1]) is None

    class Another(SoftmaxNet):
        """With the same logits."""
    assert len(Another(3, 4, 6, (PAIRS[0], PAIRS[1])).linear_logits(PAIRS[0], PAIRS[1])) == 3


@pytest.mark.parametrize("kind", [Whole, SoftmaxNet])
def test_a_batch_of_many_users_and_items_trains_in_bounded_memory(kind: type[SoftmaxNet],
                                                                  monkeypatch: pytest.MonkeyPatch):
    ratings = pd.DataFrame({"user": range(400), "item": [n % 300 for n in range(400)]})
    data = CollabDataBunch.from_df(ratings, implicit=True, bs=400, valid_pct=0, seed=0, device="cpu")
    for module, name in ((objectives, "MAX_TRAINED"), (linear_softmax_module, "MAX_LOGITS"),
                         (softmax_module, "MAX_NUMBERS")):
        monkeypatch.setattr(module, name, 301 * 10)
    most = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal most
            out = func(*args, **(kwargs or {}))
            most = max(most, out.numel() if isinstance(out, torch.Tensor) else 0)
            return out
    net = kind(4, data.n_users, data.n_items, data.train.tensors[:2], hidden=(), leave_out=False, drop=0.5, tied=False)
    learn = collab_learner(data, net, metrics=[])
    with Watch(), learn.no_logging():
        learn.fit(1)
    assert 0 < most <= 301 * 10 < 400 * 301
