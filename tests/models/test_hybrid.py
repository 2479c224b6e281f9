"""HybridNet: the sum of its parts by hand, cold items scored by what is known of them, and files that keep both."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from collab import (
    CollabDataBunch,
    CollabInterpretation,
    CollabLearner,
    DataError,
    cli,
    collab_learner,
    load_learner,
    synthetic,
)
from collab.models import hybrid as hybrid_module
from collab.models.embedding import EmbeddingDotBias
from collab.models.hybrid import HybridNet
from collab.models.layers import sigmoid_range
from collab.models.svdpp import SVDpp
from collab.retrieval.topk import cross_scores

PAIRS = torch.tensor([(1, 2), (1, 1), (2, 2), (2, 3), (3, 3)])     # user 4 and items 4 and 5 are cold
USERS = (torch.tensor([[0], [0], [1], [0], [1]]), torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0]]), 2)
ITEMS = (torch.tensor([[0, 0], [0, 2], [0, 1], [1, 2], [2, 0], [0, 0]]),
         torch.tensor([[0.0, 0.0], [1.0, -0.5], [0.5, 0.5], [1.0, 1.5], [2.0, 0.0], [0.0, 0.0]]), 3)
DENSE_ITEMS = [[0, 0, 0], [1, 0, -0.5], [0.5, 0.5, 0], [0, 1, 1.5], [0, 0, 2], [0, 0, 0]]
N_USERS, N_ITEMS, N_FACTORS = 5, 6, 3


def model(users: Any = USERS, items: Any = ITEMS, hidden: tuple[int, ...] = (), y_range: Any = (0.5, 5.5),
          drop: float = 0.0, id_drop: float = 0.0, **options: Any) -> HybridNet:
    torch.manual_seed(0)
    made = HybridNet(N_FACTORS, N_USERS, N_ITEMS, (PAIRS[:, 0], PAIRS[:, 1]), users, items, hidden, drop=drop,
                     id_drop=id_drop, y_range=y_range, mean=3.4, **options)
    for p in made.parameters():
        nn.init.normal_(p)          # far from zero, so that every part counts
    return made


def every_pair() -> tuple[Tensor, Tensor]:
    return torch.arange(N_USERS).repeat_interleave(N_ITEMS), torch.arange(N_ITEMS).repeat(N_USERS)


# Scores -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("hidden", [(), (4,), (5, 2)])
def test_a_score_is_the_sum_of_ids_history_metadata_and_network(hidden: tuple[int, ...]):
    made = model(hidden=hidden).eval()
    ids = SVDpp(N_FACTORS, N_USERS, N_ITEMS, (PAIRS[:, 0], PAIRS[:, 1]), mean=3.4).eval()
    ids.load_state_dict({k: v for k, v in made.state_dict().items() if k in ids.state_dict()})
    assert made.u_meta is not None and made.i_meta is not None
    directions = made.i_meta.table.weight
    for u, i in zip(*every_pair()):
        (x, b_u), (z, b_i) = ids.side("u", u[None]), ids.side("i", i[None])     # tested in test_svdpp
        job = made.u_meta.table.weight[USERS[0][u, 0]] * USERS[1][u, 0]
        known = sum(w * directions[f] for f, w in enumerate(DENSE_ITEMS[i]))
        x, z = x[0] + job[:-1], z[0] + known[:-1]
        score = x @ z + b_u[0] + job[-1] + b_i[0] + known[-1] + made.mu
        if hidden:
            h = torch.cat([x, z])
            assert made.layers is not None
            linear = [m for m in made.layers if isinstance(m, nn.Linear)]
            assert [m.out_features for m in linear] == [*hidden, 1]
            for layer in linear[:-1]:
                h = (layer.weight @ h + layer.bias).clamp(min=0)
            score = score + linear[-1].weight[0] @ h + linear[-1].bias[0]
        torch.testing.assert_close(made(u[None], i[None])[0], sigmoid_range(score, (0.5, 5.5)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hidden", [(), (4,)])
@pytest.mark.parametrize("users, items", [(USERS, ITEMS), (USERS, None), (None, ITEMS)])
def test_cross_is_every_pair_scored_by_itself(hidden: tuple[int, ...], users: Any, items: Any):
    made = model(users, items, hidden).eval()
    pairwise = made(*every_pair()).view(N_USERS, N_ITEMS)
    for cross in (made.cross, cross_scores(made)):
        torch.testing.assert_close(cross(torch.arange(N_USERS), torch.arange(N_ITEMS)), pairwise)
        torch.testing.assert_close(cross(torch.tensor([4, 1]), torch.tensor([5, 5, 2])), pairwise[[4, 1]][:, [5, 5, 2]])
        assert cross(torch.arange(0), torch.arange(3)).shape == (0, 3)


def test_without_metadata_on_both_sides_it_is_svdpp():
    made = model(None, None)
    plain = SVDpp(N_FACTORS, N_USERS, N_ITEMS, (PAIRS[:, 0], PAIRS[:, 1]), y_range=(0.5, 5.5), mean=3.4, drop=0,
                  id_drop=0)
    plain.load_state_dict(made.state_dict())
    for train in (True, False):
        assert torch.equal(made.train(train)(PAIRS[:, 0], PAIRS[:, 1]), plain.train(train)(PAIRS[:, 0], PAIRS[:, 1]))


def test_blocks_of_metadata_are_those_of_one_product(monkeypatch: pytest.MonkeyPatch):
    made = model().i_meta
    assert made is not None
    rows = torch.tensor([3, 1, 4, 0, 5, 2, 1])
    whole, dense = made(rows), torch.tensor(DENSE_ITEMS)
    torch.testing.assert_close(whole, dense[rows] @ made.table.weight)
    monkeypatch.setattr(hybrid_module, "MAX_CELLS", 7)             # two rows of three features
    torch.testing.assert_close(made(rows), whole)
    made(rows).sum().backward()
    torch.testing.assert_close(made.table.weight.grad, dense[rows].sum(0)[:, None].expand(-1, N_FACTORS + 1))
    assert made(rows[:0]).shape == (0, N_FACTORS + 1)


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that was made."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for t in made if isinstance(made, (tuple, list)) else [made]:
            self.n = max(self.n, t.numel() if isinstance(t, Tensor) and t.layout is torch.strided else 0)
        return made


def test_a_training_step_makes_no_tensor_of_users_times_items():
    n, bs, width = 5_000, 64, 20
    rng = torch.Generator().manual_seed(0)
    users, items = (torch.randint(1, n, (20_000,), generator=rng) for _ in range(2))
    known = torch.randint(width, (n, 1), generator=rng), torch.ones(n, 1), width
    with Largest() as largest:
        made = HybridNet(8, n, n, (users, items), known, known)
        made(users[:bs], items[:bs]).sum().backward()
    assert 8 * n <= largest.n <= max(8 * n, 2 * len(users))


def test_unknown_ids_are_dropped_and_metadata_are_not():
    made = model(id_drop=1.0).train()
    (x, b), (z, _) = made.sides(PAIRS[:, 0], PAIRS[:, 1])
    assert made.u_meta is not None
    known = made.u_meta(PAIRS[:, 0])
    torch.testing.assert_close(x, made.u_weight.weight[0] + known[:, :-1])
    torch.testing.assert_close(b, made.u_bias.weight[0, 0] + known[:, -1])
    assert len(torch.unique(z, dim=0)) == 3


def test_the_configuration_builds_the_model_again_and_weights_bring_the_metadata():
    for users, items, hidden in ((USERS, ITEMS, ()), (None, ITEMS, (4, 2)), (USERS, None, (3,))):
        made = model(users, items, hidden).eval()
        again = HybridNet(**made.config, interactions=(PAIRS[:, 0], PAIRS[:, 1])).eval()
        again.load_state_dict(made.state_dict())
        assert torch.equal(again(*every_pair()), made(*every_pair()))


def test_param_groups_hold_every_parameter_once():
    made = model(hidden=(4,))
    groups = made.param_groups()
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in made.parameters())


# Planted structure ------------------------------------------------------------------------------------------------

TRUTH = {"Drama": 4.5, "War": 1.5, "Comedy": 3.0, "Crime": 2.2}
N_RATED, N_FILMS = 60, 80          # films 61 to 80 are cold
GENRES = {film: list(TRUTH)[film % 4] for film in range(1, N_FILMS + 1)}


def planted(features: bool = True, **options: Any) -> CollabDataBunch:
    """Ratings that depend on the genre alone, and a little noise."""
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(100 * N_RATED)[:2000], N_RATED)
    means = np.array([TRUTH[GENRES[film]] for film in items + 1])
    ratings = pd.DataFrame({"user": users, "item": items + 1, "rating": (means + rng.normal(0, 0.3, 2000)).round(1)})
    films = pd.DataFrame({"item": [*GENRES], "title": [f"Film {k}" for k in GENRES], "genre": [*GENRES.values()]})
    people = pd.DataFrame({"user": range(120), "job": ["cook", "poet", "nurse"] * 40, "age": range(120)})
    kept = {"item_features": ["genre"], "users": people, "user_features": ["job", "age"]} if features else {}
    return CollabDataBunch.from_df(ratings, items=films, seed=0, bs=128, device="cpu", **{**kept, **options})


def trained(data: CollabDataBunch, model: Any = "hybrid", n_epochs: int = 8) -> CollabLearner:
    learn = collab_learner(data, model, n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(n_epochs)
    return learn


@pytest.fixture(scope="module")
def hybrid() -> CollabLearner:
    """Shared by tests that only look at it."""
    return trained(planted())


@pytest.fixture(scope="module")
def deep() -> CollabLearner:
    """The same with a network."""
    data = planted()
    known = [(f.codes, f.weights, len(f.labels)) for f in (data.user_features, data.item_features) if f]
    made = HybridNet(4, data.n_users, data.n_items, data.train.tensors[:2], *known, hidden=(8,), y_range=data.y_range,
                     mean=data.mean)
    return trained(data, made)


@pytest.mark.parametrize("kind", ["hybrid", "deep"])
def test_a_cold_item_is_scored_by_what_is_known_of_it(kind: str, request: pytest.FixtureRequest):
    learn = request.getfixturevalue(kind)
    cold = list(range(N_RATED + 1, N_FILMS + 1))
    truth = [TRUTH[GENRES[film]] for film in cold]
    with warnings.catch_warnings():
        warnings.simplefilter("error")              # a cold id is known
        for user in (0, 50, 119):                   # the last is cold too
            assert np.corrcoef(learn.predict(user, cold), truth)[0, 1] > 0.9
    plain = trained(learn.data, "dot_bias")
    assert len(set(plain.predict(3, cold).tolist())) == 1
    assert isinstance(plain.model, EmbeddingDotBias)


@pytest.mark.parametrize("kind", ["hybrid", "deep"])
def test_unknown_ids_warn_and_are_nobody_in_particular(kind: str, request: pytest.FixtureRequest):
    learn = request.getfixturevalue(kind)
    with pytest.warns(UserWarning, match="1 of 1 item ids were not trained on"):
        assert 1.5 < learn.predict(3, 999) < 4.5


@pytest.mark.parametrize("kind", ["hybrid", "deep"])
def test_recommendations_hold_cold_items_and_agree_with_predictions(kind: str, request: pytest.FixtureRequest):
    learn = request.getfixturevalue(kind)
    table = learn.recommend([5, 119], n=N_FILMS)
    mine = table[table["user"] == 5]
    assert set(mine["item"]) >= set(range(N_RATED + 1, N_FILMS + 1)) and not set(mine["item"]) & set(
        learn.rated(5)["item"])
    assert len(table[table["user"] == 119]) == N_FILMS
    assert GENRES[mine["item"].iloc[0]] == "Drama" and GENRES[mine["item"].iloc[-1]] == "War"
    np.testing.assert_allclose(mine["score"], learn.predict(5, mine["item"].tolist()), rtol=1e-5)


@pytest.mark.parametrize("kind", ["hybrid", "deep"])
def test_a_loaded_learner_gives_the_same_answers_to_the_bit_and_learns_on(kind: str, tmp_path: Path,
                                                                         request: pytest.FixtureRequest):
    learn = request.getfixturevalue(kind)
    loaded = load_learner(learn.export(tmp_path / "m"), device="cpu")
    items = list(range(1, N_FILMS + 1))
    assert isinstance(loaded.model, HybridNet) and loaded.model.config == learn.model.config
    for user in (3, 119):
        assert np.array_equal(loaded.predict(user, items), learn.predict(user, items))
    pd.testing.assert_frame_equal(loaded.recommend(119, n=50), learn.recommend(119, n=50), check_exact=True)
    assert torch.equal(loaded.weight(), learn.weight()) and torch.equal(loaded.bias(), learn.bias())
    with loaded.no_logging():
        loaded.fit(1)
    assert not np.array_equal(loaded.predict(3, items), learn.predict(3, items))
    assert torch.equal(loaded.model.i_meta.codes, learn.model.i_meta.codes)


def test_one_side_may_be_without_features():
    for options in ({"user_features": None}, {"item_features": None}):
        learn = trained(planted(**options), n_epochs=3)
        assert isinstance(learn.model, HybridNet)
        assert (learn.model.u_meta is None, learn.model.i_meta is None) == ("user_features" in options,
                                                                            "item_features" in options)
        assert learn.validate()["rmse"] < 1.0 and len(learn.recommend(1, n=3)) == 3


def test_the_data_s_features_are_not_the_model_s_to_write():
    data = planted()
    learn = collab_learner(data, "hybrid", n_factors=4)
    before = data.item_features.codes.clone()
    learn.model.i_meta.codes.fill_(0)
    assert torch.equal(data.item_features.codes, before)


def test_data_without_features_are_refused_with_the_remedy():
    with pytest.raises(DataError, match="needs features: make the data with items=... and item_features='auto'"):
        collab_learner(planted(features=False), "hybrid")


def test_the_same_seed_gives_the_same_bits():
    one, other = (trained(planted(), n_epochs=1).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


# Interpretation ---------------------------------------------------------------------------------------------------

def test_interpretation_shows_rated_and_cold_items(hybrid: CollabLearner):
    interp = CollabInterpretation(hybrid)
    biases = interp.biases(n=N_FILMS)
    assert len(biases) == N_FILMS and (biases["mean_rating"].isna() == (biases["n_ratings"] == 0)).all()
    assert biases["bias"].tolist() == sorted(biases["bias"], reverse=True)
    assert len(interp.norms()) == N_FILMS and len(interp.norms("user")) == 120
    assert interp.pca(2, top=None).components.shape == (2, 4)
    near = interp.neighbors(80, k=3, min_ratings=0)
    assert len(near) == 3 and 80 not in set(near["id"])
    similar = hybrid.similar_items(80, n=4, min_ratings=0)         # the four other cold films of its genre
    assert {GENRES[item] for item in similar["item"]} == {GENRES[80]} and similar["item"].min() > N_RATED
    assert set(hybrid.similar_items(80, n=5)["item"]) <= set(range(1, N_RATED + 1))


def test_the_parts_of_an_explanation_sum_to_the_logit_unless_there_is_a_network(hybrid: CollabLearner,
                                                                                deep: CollabLearner):
    for item in (4, 80):
        found = CollabInterpretation(hybrid).explain(7, item)
        assert found.parts is not None and found.logit is not None
        assert found.parts["value"].sum() == pytest.approx(found.logit)
        score = sigmoid_range(torch.tensor(found.logit), hybrid.model.y_range).clamp(*hybrid.scale).item()
        assert score == pytest.approx(found.score, abs=1e-5)
        assert found.score == hybrid.predict(7, item)
        other = CollabInterpretation(deep).explain(7, item)
        assert other.parts is None and other.score == deep.predict(7, item) and "no sum" in str(other)
        assert len(other.nearest) == 5


# The command line -------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hybrid")
    ml = synthetic(n_users=60, n_items=40, n_ratings=900, seed=1)
    ml.ratings.to_csv(folder / "ratings.csv", index=False)
    films = pd.DataFrame({"item": range(1, 41), "title": [f"t{k}" for k in range(40)], "genre": ["a", "b"] * 20})
    films.to_csv(folder / "films.csv", index=False)
    films[["item", "title"]].to_csv(folder / "titles.csv", index=False)
    pd.DataFrame({"user": ml.ratings["user"].unique()}).assign(age=lambda d: d.index % 30).to_csv(
        folder / "users.csv", index=False)
    return folder


def collab(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: Any) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["collab", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("model, items, users", [("svdpp", None, None), ("hybrid", "films", "users"),
                                                 ("hybrid", "films", None), ("hybrid", "titles", "users")])
def test_the_command_line_trains_evaluates_and_recommends(model: str, items: str | None, users: str | None,
                                                          tables: Path, tmp_path: Path, capsys, monkeypatch):
    known = [word for name, table in (("--items", items), ("--users", users)) if table
             for word in (name, tables / f"{table}.csv")]
    out = tmp_path / "m.safetensors"
    code, told, error = collab(capsys, monkeypatch, "train", tables / "ratings.csv", "-q", "--model", model, *known,
                               "--epochs", 2, "--factors", 4, "--out", out)
    assert code == 0 and not error, error
    assert f"\n  {model} " in told and "SVDpp" not in told and "HybridNet" not in told
    learn = load_learner(out)
    assert learn.data.train.bs == 1024
    if model == "hybrid":
        assert ((learn.model.u_meta is not None), (learn.model.i_meta is not None)) == (bool(users), items == "films")
    code, again, _ = collab(capsys, monkeypatch, "evaluate", out)
    assert code == 0 and again.strip() in told
    code, listed, _ = collab(capsys, monkeypatch, "recommend", out, "--user", 7, "-n", 3, "--as", "csv")
    assert code == 0 and len(listed.splitlines()) == 4
    code, why, _ = collab(capsys, monkeypatch, "explain", out, "--user", 7, "--item", 3)
    assert code == 0 and "user bias" in why


@pytest.mark.parametrize("items", [None, "titles"])
def test_a_hybrid_without_metadata_is_one_clear_line(items: str | None, tables: Path, tmp_path: Path, capsys,
                                                     monkeypatch):
    known = ["--items", tables / f"{items}.csv"] if items else []
    code, _, error = collab(capsys, monkeypatch, "train", tables / "ratings.csv", "--model", "hybrid", *known, "--out",
                            tmp_path / "m")
    assert code == 2 and error.count("\n") == 1 and "--items" in error and not (tmp_path / "m").exists()
