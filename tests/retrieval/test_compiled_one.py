"""One user's list by compiled kernels: the lists of the way without them, to the bit."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

from collab import BPR, CollabDataBunch, Index, Vocab, collab_learner
from collab.compiled import not_compiled
from collab.data.catalogue import Catalogue
from collab.data.frame_kinds import framed
from collab.data.histories import Histories
from collab.models.dot_form import DotForm, TableScorer
from collab.models.embedding import EmbeddingDotBias, only_reads
from collab.retrieval import compiled_one
from collab.retrieval.compiled_one import BestOfOne
from collab.retrieval.topk import top_k

pytestmark = pytest.mark.skipif(not_compiled() is not None, reason=str(not_compiled()))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(compiled_one, "PATIENCE", 0)


def without_kernels(ask):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestOfOne, "compiles", lambda *_, **__: False)
        return ask()


@st.composite
def questions(draw):
    """Tables of small whole numbers times one power of two each, whose sums are exact in float64, with many ties."""
    k, width = draw(st.integers(1, 40)), draw(st.integers(1, 37))
    n = draw(st.integers(8 * (k + compiled_one.FURTHER) + 1, 900))
    seed, most = draw(st.integers(0, 1 << 30)), draw(st.sampled_from([1, 2, 100]))
    generator = torch.Generator().manual_seed(seed)

    def whole(*shape):
        numbers = torch.randint(-most, most + 1, shape, generator=generator).float()
        return numbers * 2.0 ** draw(st.sampled_from([-70, -20, 0, 3, 50]))
    users, items = whole(3, width), whole(n, width)
    if draw(st.booleans()):
        items[n // 3:] = items[n // 3]              # most are the same item
    biases = (whole(3), whole(n), draw(st.sampled_from([0.0, 0.25]))) if draw(st.booleans()) else ()
    y_range = draw(st.sampled_from([None, (0.5, 5.5)]))
    m = draw(st.sampled_from([0, 5, n, 4 * n]))
    seen = Histories.of(torch.randint(0, 3, (m,), generator=generator),
                        torch.randint(0, n + 5, (m,), generator=generator), torch.ones(m), 3) if m else None
    first, last = draw(st.integers(0, 1)), n
    return DotForm(users, items, *biases, y_range=y_range), range(first, last), k, seen


@settings(max_examples=80, deadline=None)
@given(questions())
def test_the_kernels_find_the_lists_of_all_exact_scores(question):
    form, candidates, k, seen = question
    for user in range(3):
        found, plain = (way(lambda user=user: top_k(TableScorer(form), torch.tensor([user]), candidates, k, seen))
                        for way in (lambda ask: ask(), without_kernels))
        assert torch.equal(found[0], plain[0]) and torch.equal(found[1], plain[1])


@pytest.mark.parametrize("longest", [-1.0, 40.0])
def test_the_kernels_find_drawn_scores_with_certainty(longest):
    draw = torch.Generator().manual_seed(0)
    form = DotForm(torch.randn(4, 50, generator=draw), torch.randn(5000, 50, generator=draw))
    scores = TableScorer(form, longest=longest)
    for user in range(4):
        rows, best = BestOfOne(scores, range(1, 5000))(user, user, 10, None)
        exact = (form.items.double() @ form.users[user].double()).float()
        assert rows.tolist() == (exact[1:].argsort(descending=True)[:10] + 1).tolist()
        assert best.tolist() == exact[rows].tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_what_float32_cannot_sum_is_left_to_the_exact_way(bad):
    for row in (0, 300):
        form = DotForm(torch.ones(1, 8), torch.ones(400, 8))
        form.items[row, 2:4] = bad
        assert BestOfOne(TableScorer(form), range(1, 400))(0, 0, 5, None) is None


def learner(titles: bool = True, text: bool = False):
    draw = np.random.default_rng(0)
    rated = pd.DataFrame({"user": draw.integers(0, 30, 3000), "item": draw.integers(0, 400, 3000),
                          "rating": draw.integers(1, 6, 3000)}).drop_duplicates(["user", "item"])
    if text:
        rated = rated.assign(item="i" + rated["item"].astype(str), user="u" + rated["user"].astype(str))
    ids = rated["item"].unique()
    films = pd.DataFrame({"item": ids, "title": [f"Film {k % 350}" for k in range(len(ids))],
                          "year": np.arange(len(ids)) % 50 + 1950}) if titles else None
    learn = collab_learner(CollabDataBunch.from_df(rated, items=films, seed=0, device="cpu"), "dot_bias", 8, seed=0)
    learn.model.eval()
    return learn


@pytest.mark.parametrize(("titles", "text"), [(True, False), (False, False), (True, True)])
def test_a_users_table_is_that_of_the_general_way(titles, text):
    learn = learner(titles, text)
    index, (user, other) = learn.index(), [*learn.data.users][:2]
    items = [*learn.data.items]

    def tables(as_frame):
        asked = [{}, {"exclude": None}, {"exclude": "train"}, {"n": 1}, {"n": 27}, {"n": 10_000},
                 {"among": items[:60]}, {"without": items[:300]}, {"among": items[:3], "without": items[:3]}]
        if titles:
            asked.append({"where": {"year": ">=1960"}})
        made = [learn.recommend(one, as_frame=as_frame, **options) for one in (user, other) for options in asked]
        return [*made, *(index.recommend(user, n, exclude, as_frame=as_frame) for n in (1, 10, 10_000)
                         for exclude in ((), items[:30]))]
    for table, plain in zip(tables("pandas"), without_kernels(lambda: tables("pandas")), strict=True):
        assert type(table) is type(plain)
        pd.testing.assert_frame_equal(table, type(plain)(plain), check_exact=True, check_frame_type=False,
                                      check_index_type="exact")
        assert [type(column.array) for _, column in table.items()] == [type(own.array) for _, own in plain.items()]
    assert tables("dict") == without_kernels(lambda: tables("dict"))


IN_PLACE = {
    "the name of the rows": lambda t: setattr(t.index, "name", "place"),
    "the name of the columns": lambda t: setattr(t.columns, "name", "what"),
    "the columns": lambda t: setattr(t, "columns", [*"abcd"]),
    "one name": lambda t: t.rename(columns={"score": "rating"}, inplace=True),
    "a cell of each column": lambda t: [t.__setitem__(name, t[name].where(t.index > 0, t[name][1])) for name in t]
    + [t.loc.__setitem__((1, name), t[name][2]) for name in t],
    "cells at once": lambda t: t.iloc.__setitem__((slice(0, 2), [0, 1, 3]), -1),
    "the array of titles": lambda t: t["title"].array.__setitem__(0, "changed"),
    "a further column": lambda t: t.insert(0, "user", 1),
    "fewer columns": lambda t: t.drop(columns="title", inplace=True),
    "the order": lambda t: t.sort_values("score", inplace=True),
    "the index": lambda t: t.set_index("item", inplace=True),
    "attributes": lambda t: t.attrs.update(source="x"),
    "flags": lambda t: setattr(t.flags, "allows_duplicate_labels", False),
}


@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize("change", IN_PLACE)
def test_a_changed_table_changes_no_other(change):
    learn = learner()
    index = learn.index()
    for ask in (learn.recommend, index.recommend):
        ask(1)
        kept, expected = ask(1), without_kernels(lambda ask=ask: ask(1))
        changed = ask(1)
        IN_PLACE[change](changed)
        for table in (kept, ask(1)):
            pd.testing.assert_frame_equal(table, type(expected)(expected), check_exact=True, check_frame_type=False,
                                          check_index_type="exact", check_column_type="exact")
            assert table.index.name is table.columns.name is None and not table.attrs
            assert table.flags.allows_duplicate_labels
        pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(kept)), kept)
        pd.testing.assert_frame_equal(kept.copy(), kept)


def test_names_that_outlive_their_table_are_their_own():
    learn = learner()
    for ask in (learn.recommend, learn.index().recommend):
        expected = [*ask(1).columns]
        names = pd.Series(ask(1).columns)       # whose table is gone: nobody else seems to read them
        names.iloc[0] = "changed"
        assert names[0] == "changed" and [*ask(1).columns] == expected


def test_arrays_of_a_table_are_read_only():
    table = learner().recommend(1)
    for name in ("rank", "item", "score"):
        with pytest.raises(ValueError, match="read-only"):
            table[name].to_numpy()[0] = 7


def test_threads_get_the_lists_of_one():
    learn = learner()
    users = [*learn.data.users] * 10
    learn.recommend(users[0])
    expected = [learn.recommend(user) for user in users]
    with ThreadPoolExecutor(4) as pool:
        for table, own in zip(pool.map(learn.recommend, users), expected, strict=True):
            assert table.equals(own)


def test_lists_leave_no_memory_behind():
    learn = learner()
    index = learn.index()

    def lists(n):
        for k in range(n):
            user = learn.data.users.ids[1 + k % 20]
            learn.recommend(user), index.recommend(user)
        gc.collect()
    lists(1500)         # pandas forgets views of a name when there are some hundreds
    tracemalloc.start()
    try:
        lists(100)
        before = tracemalloc.get_traced_memory()[0]
        lists(1500)
        assert tracemalloc.get_traced_memory()[0] - before < 100_000        # less than 40 bytes a list
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 50, 61])
def test_products_and_the_bound_on_lengths(width):
    from collab.retrieval.screening_kernels import products
    draw = np.random.default_rng(width)
    for n in (1, 8, 63, 64, 203):
        items = draw.normal(size=(n, width)).astype(np.float32)
        p, rough, squares = draw.normal(size=width).astype(np.float32), np.empty(n, np.float32), np.empty(8, np.float32)
        exact = items.astype(np.float64) @ p
        for measured in (True, False):
            rough[:] = np.nan
            bound = products(items, p, rough, squares, measured)
            np.testing.assert_allclose(rough, exact, rtol=0, atol=1e-5)
            if measured:
                lengths = np.sqrt((items.astype(np.float64) ** 2).sum(1))
                parts = [np.sqrt((lengths[k:k + 64] ** 2).sum()) for k in range(0, n, 64)]
                assert lengths.max() <= bound * (1 + 1e-6) and bound == pytest.approx(max(parts), rel=1e-5)
        items[n // 2, width - 1] = np.nan
        assert np.isnan(products(items, p, rough, squares, True))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(64, 1200), st.integers(1, 120), st.sampled_from([1, 5, 1000]))
def test_enough_scores_are_above_the_floor_and_few_more(seed, n, wide, most):
    from collab.retrieval.screening_kernels import floor_of
    scores = np.random.default_rng(seed).integers(-most, most + 1, n).astype(np.float32)
    scores[np.random.default_rng(seed).random(n) < .1] = -np.inf        # seen
    parts = np.empty(compiled_one.LANES * (wide // compiled_one.FEW + 1), np.float32)
    floor = floor_of(scores, 1, n, wide, parts)
    above = (scores[1:] > floor).sum()
    assert above >= wide or floor == -np.inf
    if most == 1000 and 8 * wide < n:
        assert wide <= above < 4 * wide + 20


def test_new_weights_are_noticed_however_they_are_written():
    learn = learner()
    for row, write in ((3, lambda t: t.data), (5, lambda t: t.detach().numpy()), (7, lambda t: t.detach())):
        write(learn.model.i_bias.weight)[row] = row
        assert learn.recommend(1, 1, exclude=None)["item"].tolist() == [learn.data.items.ids[row]]


CHANGES = {
    "a method set on it": lambda m: setattr(m, "dot_form", lambda: type(m).dot_form(m)._replace(
        i_bias=m.i_bias.weight[:, 0].detach().flip(0))),
    "a table of its own": lambda m: setattr(m, "i_bias", torch.nn.Embedding.from_pretrained(m.i_bias.weight.flip(0))),
    "a parameter": lambda m: setattr(m.i_bias, "weight", torch.nn.Parameter(m.i_bias.weight.detach().flip(0))),
    "other memory": lambda m: setattr(m.i_bias.weight, "data", m.i_bias.weight.detach().flip(0)),
    "the mean": lambda m: m.mu.data.add_(0.5),
    "the range": lambda m: setattr(m, "y_range", (0.0, 4.0)),
    "another order of the numbers": lambda m: setattr(m.i_weight.weight, "data", m.i_weight.weight.detach().as_strided(
        m.i_weight.weight.shape, (1, len(m.i_weight.weight)))),
    "pruning": lambda m: prune.l1_unstructured(m.u_weight, "weight", 0.9),
    "double precision": lambda m: m.double(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_noticed(change):
    learn = learner()
    with torch.no_grad():
        learn.model.i_bias.weight.copy_(torch.linspace(-0.1, 0.1, learn.data.n_items)[:, None])
    before = learn.recommend(1, as_frame="dict")
    assert learn.recommend(1, as_frame="dict") == before == without_kernels(lambda: learn.recommend(1, as_frame="dict"))
    CHANGES[change](learn.model)
    after = learn.recommend(1, as_frame="dict")
    assert after == without_kernels(lambda: learn.recommend(1, as_frame="dict"))
    assert change == "double precision" or after != before


def test_a_model_in_training_mode_stays_in_it():
    learn = learner()
    expected = learn.recommend(1)
    learn.model.train()
    assert learn.recommend(1).equals(expected) and learn.model.training and learn.kept is None


def test_a_list_is_short_where_nearly_all_is_known():
    n = 200
    rated = pd.DataFrame({"user": [*[1] * (n - 4), *np.arange(n) % 7 + 2], "item": [*range(n - 4), *range(n)],
                          "rating": np.arange(2 * n - 4) % 5 + 1})
    learn = collab_learner(CollabDataBunch.from_df(rated, valid_pct=0, seed=0, device="cpu"), "dot_bias", 8, seed=0)
    learn.model.eval()
    for n_asked in (4, 5, 7):
        for as_frame in ("pandas", "dict"):
            asked = partial(learn.recommend, 1, n_asked, as_frame=as_frame)
            found, plain = (framed(pd.DataFrame(table), "dict") for table in (asked(), without_kernels(asked)))
            assert found == plain and sorted(found["item"]) == [*range(n - 4, n)]


def test_data_of_other_ids_are_noticed():
    learn, fewer = learner(), learner()
    few = pd.DataFrame({"user": np.arange(300) % 3, "item": np.arange(300), "rating": 3})
    fewer.data = CollabDataBunch.from_df(few, valid_pct=0, seed=0, device="cpu")
    users, items = (pd.DataFrame({"user": np.arange(4000) % n_users, "item": np.arange(4000) % n_items, "rating": 3})
                    for n_users, n_items in ((2000, 400), (30, 4000)))
    data = [CollabDataBunch.from_df(own.drop_duplicates(["user", "item"]), valid_pct=0, seed=0, device="cpu")
            for own in (users, items)]
    for other, user in ((fewer.data, 1), (data[0], 1999), (data[1], 1)):
        one = copy.copy(learn)
        one.recommend(1)
        one.data = other

        def asked(one=one, user=user):
            try:
                return one.recommend(user, 1, as_frame="dict")
            except IndexError:
                return "IndexError"
        assert asked() == asked() == without_kernels(asked)


def test_rows_that_tables_lack_are_not_read():
    draw = torch.Generator().manual_seed(0)
    users, items = torch.randn(50, 8, generator=draw), torch.randn(900, 8, generator=draw)
    form = DotForm(users[:3], items[:400])          # with more behind them
    best, catalogue = BestOfOne(TableScorer(form), range(1, 400)), Catalogue(Vocab(range(1, 900)), None)
    for as_frame in ("pandas", "dict"):
        assert best.listed(catalogue, 2, 0, 5, None, as_frame, pd.DataFrame) is not None
        assert best.listed(catalogue, 3, 0, 5, None, as_frame, pd.DataFrame) is None
    assert best(2, 0, 5, None) is not None and best(3, 0, 5, None) is best(-1, 0, 5, None) is None
    assert BestOfOne(TableScorer(form), range(1, 400)).compiles(5)
    assert not BestOfOne(TableScorer(form), range(1, 401)).compiles(5)


@pytest.mark.parametrize("k", [1, 2, 14, 15, 39, 40])
@pytest.mark.parametrize("n_items", [1201, 1202, 1207])
def test_the_kernel_keeps_within_its_room(k, n_items):
    draw = torch.Generator().manual_seed(k)
    scores = TableScorer(DotForm(torch.randn(1, 9, generator=draw), torch.randn(n_items, 9, generator=draw)))
    wide = k + compiled_one.FURTHER
    n = compiled_one.room_of(wide, n_items)
    room, best = np.full(n + 64, 7.25), BestOfOne(scores, range(1, n_items))
    rows, found = np.empty(k, np.int64), np.empty(k, np.float32)
    from collab.retrieval.screening_kernels import best_list
    assert best_list(*best._same, *compiled_one.NOTHING, 0, 0, wide, room[:n], rows, found)
    assert (room[n:] == 7.25).all()
    assert rows.tolist() == top_k(scores, torch.tensor([0]), range(1, n_items), k)[0][0].tolist()


def test_a_changed_learner_is_noticed():
    learn = learner()
    with torch.no_grad():
        learn.model.i_bias.weight.copy_(torch.linspace(-2, 2, learn.data.n_items)[:, None])
    other = learner().model
    changes = {"the scale": lambda: setattr(learn, "scale", (1, 3)), "no scale": lambda: setattr(learn, "scale", None),
               "the model": lambda: learn.set_model(other), "an objective": lambda: learn.cbs.append(BPR())}
    learn.scale = tuple(learn.scale)
    for change, make in changes.items():
        before = learn.recommend(1, as_frame="dict")
        if change == "an objective":
            learn.scale = (1, 3)
            before = learn.recommend(1, as_frame="dict")
        make()
        after = learn.recommend(1, as_frame="dict")
        assert after != before, change
        assert after == without_kernels(lambda: learn.recommend(1, as_frame="dict")), change


@pytest.mark.parametrize("kind", [list, np.array])
def test_a_scale_that_can_change_is_read_each_time(kind):
    learn = learner()
    with torch.no_grad():
        learn.model.i_bias.weight.copy_(torch.linspace(-9, 9, learn.data.n_items)[:, None])
    learn.scale = kind([1.0, 4.0])
    assert max(learn.recommend(1)["score"]) == 4.0
    learn.scale[1] = 1.5
    assert max(learn.recommend(1)["score"]) == 1.5


def test_the_model_before_is_not_kept():
    learn = learner()
    learn.recommend(1)
    before = weakref.ref(learn.model)
    learn.set_model(learner().model)
    gc.collect()
    assert before() is None


def test_copies_find_lists_by_their_own_weights():
    learn = learner()
    before = learn.recommend(1)
    assert learn.kept is not None
    for other in (copy.deepcopy(learn), copy.copy(learn)):
        assert other.kept is None or other.kept.model is other.model
    other = copy.deepcopy(learn)
    assert other.kept is None
    with torch.no_grad():
        other.model.i_bias.weight.copy_(torch.linspace(-2, 2, learn.data.n_items)[:, None])
    assert not other.recommend(1).equals(before) and learn.recommend(1).equals(before)


def test_a_model_of_ones_own_may_read_more_than_its_tables():
    class Shifted(EmbeddingDotBias):
        reads_tables, shift = True, 0.0

        def dot_form(self):
            form = super().dot_form()
            return form._replace(mu=form.mu + self.shift)
    data = learner().data
    model = Shifted(4, data.n_users, data.n_items, y_range=(0.5, 5.5)).eval()
    learn = collab_learner(data, model)
    before = learn.recommend(1, as_frame="dict")["score"]
    model.shift = 0.5
    assert min(np.subtract(learn.recommend(1, as_frame="dict")["score"], before)) > 0.1


def test_modes_and_random_states_stay_as_they_were():
    learn = learner()
    for training in (True, False):
        learn.model.train(training)
        modes, state = [m.training for m in learn.model.modules()], torch.get_rng_state()
        learn.recommend(1)
        assert [m.training for m in learn.model.modules()] == modes and torch.equal(torch.get_rng_state(), state)


def test_only_models_that_say_so_themselves_are_read_without_care():
    class Own(EmbeddingDotBias):
        def factors(self, side):
            return super().factors(side) + torch.rand(1)
    plain = EmbeddingDotBias(4, 3, 5).eval()
    assert only_reads(plain) and not only_reads(Own(4, 3, 5).eval()) and not only_reads(EmbeddingDotBias(4, 3, 5))
    plain.cross = lambda users, items: torch.zeros(len(users), len(items))
    assert not only_reads(plain)
    other = EmbeddingDotBias(4, 3, 5).eval()
    other.i_weight = torch.nn.Sequential(torch.nn.Embedding(5, 4))
    assert not only_reads(other)


def test_bad_arguments_are_refused_as_before():
    learn = learner()
    for ask in (learn.recommend, learn.index().recommend):
        with pytest.raises(ValueError, match="neither 'average' nor 'error'"):
            ask(1, unknown="no")
        for n in (0, -1, True, 1.5):
            with pytest.raises(ValueError, match="whole number"):
                ask(1, n)


def test_a_process_of_a_few_lists_does_not_import_numba(monkeypatch):
    learn = learner()
    monkeypatch.setattr(compiled_one, "PATIENCE", 30)
    monkeypatch.setattr(compiled_one, "_lists", lists := count())
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    for _ in range(3):
        learn.recommend(1), learn.recommend(1, as_frame="dict")
    assert next(lists) == 6 and "numba" not in sys.modules
    scores = TableScorer(DotForm(torch.ones(1, 2), torch.ones(400, 2)))
    monkeypatch.setattr(compiled_one, "PATIENCE", 10)
    assert [BestOfOne(scores, range(1, 400)).compiles(10) for _ in range(5)] == [False] * 3 + [True] * 2


def test_a_service_can_load_the_kernels_beforehand():
    """In a process of its own, in which nothing else has loaded them."""
    found = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=300,
                           cwd=Path(__file__).parents[2])
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["True", "1", "1", "1", "1"]


LOADED = """
import numpy as np, pandas as pd
from collab import CollabDataBunch, collab_learner
from collab.retrieval import compiled_one
compiled_one.load_kernels()
from collab.retrieval.list_kernels import list_frame
from collab.retrieval.screening_kernels import best_list
before = len(best_list.signatures), len(list_frame.signatures)
draw = np.random.default_rng(0)
rated = pd.DataFrame({"user": draw.integers(0, 30, 3000), "item": draw.integers(0, 400, 3000), "rating": 3.0 +
                      draw.integers(0, 2, 3000)}).drop_duplicates(["user", "item"])
for text in (False, True):
    if text:
        rated = rated.assign(item="i" + rated["item"].astype(str))
    for titled in (False, True):
        items = pd.DataFrame({"item": rated["item"].unique()}).assign(title="t") if titled else None
        learn = collab_learner(CollabDataBunch.from_df(rated, items=items, seed=0, device="cpu"), "dot_bias", 8, seed=0)
        learn.model.eval()
        for ask in (learn.recommend, learn.index().recommend):
            ask(1), ask(1, as_frame="dict")
print(before[0] > 0, *before, len(best_list.signatures), len(list_frame.signatures))
"""


def test_large_tables_are_left_to_torchs_threads(monkeypatch):
    scores = TableScorer(DotForm(torch.ones(1, 2), torch.ones(400, 2)))
    monkeypatch.setattr(compiled_one, "MOST", 799)
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda own=threads: own)
        assert BestOfOne(scores, range(1, 400)).compiles(10) is (threads == 1)


def test_vectors_that_break_later_are_noticed():
    index = learner().index()
    index.recommend(1)
    index.items[9, 0] = torch.nan
    with pytest.raises(ValueError, match="not numbers"):
        index.recommend(1)


def test_an_index_of_broken_vectors_says_so():
    learn = learner()
    index = learn.index()
    items = index.items.clone()
    items[9, 0] = torch.nan
    broken = Index(items, index.item_ids, users=index.users, user_ids=index.user_ids)
    with pytest.raises(ValueError, match="not numbers"):
        broken.recommend(1)
    assert 9 not in broken.item_ids.encode(broken.recommend(1, exclude=[index.item_ids.ids[9]])["item"])
