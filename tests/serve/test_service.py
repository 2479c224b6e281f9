"""What the service answers: the model's own lists, as JSON."""

import datetime
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from serving import Client
from starlette.applications import Starlette
from starlette.routing import Mount

from collab import CollabDataBunch, CollabWarning, DataError, Index, Unsupported, Vocab, collab_learner, service
from collab.data.rating_rules import step_of
from collab.files import read_tensors, write_tensors
from collab.serve.item_map import places
from collab.serve.served import Names, scale_of
from collab.serve.title_search import TitleSearch

N = 8       # threads


def trained(ratings, films=None, model="dot_bias", **options):
    data = CollabDataBunch.from_df(ratings, items=films, seed=0, bs=64, device="cpu", **options)
    learn = collab_learner(data, model, n_factors=4)
    with learn.no_logging():
        learn.fit() if learn.collab_model.solved else learn.fit_one_cycle(2)
    return learn


def client_of(model, **options):
    return Client(service(model, threads=2, **options))


def agrees(answer, table):
    """Whether the items of an answer are those of a table, with the same scores and reasons."""
    assert answer.status_code == 200, answer.text
    items = answer.json()["items"]
    assert [one["item"] for one in items] == table["item"].tolist() and len(items) == len(table)
    assert [one["title"] for one in items] == table["title"].tolist()
    assert [one["score"] for one in items] == pytest.approx(table["score"].tolist(), abs=1e-4)
    if "why" in table:
        assert [one["why"] for one in items] == table["why"].tolist()
    return True


# Lists ------------------------------------------------------------------------------------------------------------

def test_a_known_user_gets_the_models_own_list(asks, films):
    user = next(iter(films.data.users))
    assert agrees(asks.get(f"/recommend?user={user}&n=7"), films.recommend(user, n=7, why=True))
    first, second = films.recommend(user, n=2)["item"]
    assert agrees(asks.get(f"/recommend?user={user}&n=3&without={first}&without={second}"),
                  films.recommend(user, n=3, without=[first, second], why=True))


def test_a_visitor_gets_the_list_of_what_they_rated_by_id_or_title(asks, films):
    rated = {12: 5, 20: 1, 25: 4}
    table = films.recommend(ratings=rated, n=5, why=True)
    assert agrees(asks.post("/recommend", json={"ratings": {"12": 5, "20": 1, "25": 4}, "n": 5}), table)
    assert agrees(asks.post("/recommend", json={"ratings": {"matrix, the (1999)": 5, "20": 1, "25": 4}, "n": 5}), table)
    assert not {12, 20, 25} & {*table["item"]} and table["why"].notna().any()
    left = table["item"].iloc[0]
    assert agrees(asks.post("/recommend", json={"ratings": {"12": 5, "20": 1, "25": 4}, "without": [int(left)]}),
                  films.recommend(ratings=rated, without=[left], why=True))


def test_similar_items_are_those_of_the_model(asks, films):
    answer = asks.get("/similar?item=12&n=4")
    assert agrees(answer, films.similar_items(12, n=4)) and answer.json()["title"] == "Matrix, The (1999)"
    assert "why" not in answer.json()["items"][0]


def test_an_item_may_be_named_by_its_title_and_one_that_is_not_there_leads_to_the_search(asks, films):
    by_id = asks.get("/similar?item=12&n=4").json()
    for title in ("Matrix, The (1999)", "matrix, the (1999)", " MATRIX, THE (1999) "):
        assert asks.get("/similar", params={"item": title, "n": 4}).json() == by_id
    missing = asks.get("/similar", params={"item": "the matrix"})
    assert missing.status_code == 404
    assert missing.json()["error"] == ("there is no item 'the matrix'; did you mean 'Matrix, The (1999)' (12) or 'The "
                                       "Matrix Reloaded (2003)' (13)? /search?q=the%20matrix finds items by parts of "
                                       "their titles")
    assert asks.get("/search?q=the%20matrix").json()["items"][0]["item"] == 12
    lost = asks.get("/similar", params={"item": "Zauberberg & Co"}).json()["error"]
    assert lost == ("there is no item 'Zauberberg & Co'. /search?q=Zauberberg%20%26%20Co finds items by parts of their "
                    "titles")


def test_titles_that_are_the_ids_are_found_whatever_their_case(rated_films):
    titles = rated_films[1].set_index("item")["title"]
    learn = trained(rated_films[0].assign(item=rated_films[0]["item"].map(titles)), model="als_explicit")
    for client in (client_of(learn), client_of(learn.index())):
        found = client.get("/similar", params={"item": "matrix, the (1999)", "n": 3})
        assert found.status_code == 200 and found.json()["item"] == "Matrix, The (1999)"
        near = client.get("/similar", params={"item": "matrix reloaded"}).json()["error"]
        assert "did you mean 'The Matrix Reloaded (2003)'? /search?q=matrix%20reloaded" in near


def test_the_most_rated_items_come_first(asks, films):
    counts = films.data.counts().numpy()
    found = asks.get("/items?n=12").json()["items"]
    assert [one["n_ratings"] for one in found] == sorted(counts[1:], reverse=True)[:12]
    assert all(counts[films.data.items[one["item"]]] == one["n_ratings"] for one in found)


def test_what_the_service_says_of_itself(asks, films):
    said = asks.get("/health").json()
    assert (said["status"], said["model"], said["items"], said["users"]) == ("ok", "EmbeddingDotBias", 40, 60)
    assert said["scale"] == {"low": 1, "high": 5, "step": 1} and said["visitors"] and said["reasons"] and said["map"]
    assert client_of(films).get("/health").json()["key"] == said["key"]


def test_places_on_the_map_are_two_components_about_the_middle(asks, films):
    found = asks.get("/map").json()["items"]
    assert len(found) == 40 and {"item", "title", "x", "y"} <= {*found[0]}
    at = {one["item"]: (one["x"], one["y"]) for one in found}
    weight = films.weight().double().numpy()
    centred = weight - weight.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    for k in range(2):
        along, own = centred @ axes[k], np.array([at[item][k] for item in films.data.items])
        assert abs(np.corrcoef(along, own)[0, 1]) == pytest.approx(1, abs=1e-4)
        assert abs(np.median(own)) < 1e-3 and np.quantile(np.abs(own), 0.98) == pytest.approx(1, abs=1e-3)


def test_there_is_no_map_of_items_that_lie_on_a_line():
    assert places(np.outer(np.arange(5.0), [1, 2]), np.arange(5)) is None
    assert places(np.zeros((2, 3)), np.arange(2)) is None


@pytest.mark.parametrize(("ratings", "step"), [
    (lambda r: r - 0.25 * (r.index % 3), 0.25), (lambda r: r, 1.0),
    (lambda r: r - 0.1 * (r.index % 10), None)])      # on many levels: any number
def test_an_index_knows_the_scale_of_its_model(rated_films, tmp_path, ratings, step):
    table = rated_films[0].reset_index(drop=True)
    table["rating"] = ratings(table["rating"]).clip(1, 5)
    learn = trained(table, rated_films[1], "als_explicit")
    made = learn.index()
    read = Index.load(made.save(tmp_path / "films.index"))
    scales = [client_of(one).get("/health").json()["scale"] for one in (learn, made, read)]
    assert scales == [{"low": 1, "high": 5, "step": step}] * 3


def test_an_older_index_has_the_step_that_its_ends_suggest(rated_films, tmp_path):
    table = rated_films[0].assign(rating=lambda t: (t["rating"] - 0.25 * (t.index % 3)).clip(1, 5))
    tensors, config = read_tensors(trained(table, rated_films[1], "als_explicit").index().save(tmp_path / "i"),
                                   kind="index")
    assert config.pop("step") == 0.25
    older = Index.load(write_tensors(tmp_path / "older", tensors, {**config, "kind": "index"}, kind="index"))
    assert client_of(older).get("/health").json()["scale"] == {"low": 1, "high": 5, "step": 1}


# Search -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "found"), [
    ("amelie", ["Amélie (2001)"]), ("AMÉLIE", ["Amélie (2001)"]), ("buro arger", ["Ärger im Büro (1971)"]),
    ("the matrix", ["Matrix, The (1999)", "The Matrix Reloaded (2003)"]), ("atri", ["Matrix, The (1999)"]),
    ("1999", ["Matrix, The (1999)"]), ("  matrix   RELOADED ", ["The Matrix Reloaded (2003)"]),
    ("zzz", []), ("  ", [])])
def test_titles_are_found_by_parts_without_accents_and_case(text, found):
    names = ["The Matrix Reloaded (2003)", "Amélie (2001)", "Ärger im Büro (1971)", "Matrix, The (1999)"]
    search = TitleSearch(names, np.array([0, 5, 9, 1, 7]))
    assert [names[row - 1] for row in search.find(text, 2)][:len(found) or None] == found


def test_names_that_begin_with_the_text_come_first_then_those_with_such_a_word_each_by_ratings():
    names = ["Upstar", "A Star", "Star B", "Star A", "A (Star)"]
    assert TitleSearch(names, np.array([0, 99, 5, 1, 2, 6])).find("star", 5) == [4, 3, 5, 2, 1]


def test_search_finds_ids_too(asks):
    assert asks.get("/search?q=12").json()["items"][0]["item"] == 12
    assert asks.get("/search?q=am%C3%A9lie").json()["items"][0]["title"] == "Amélie (2001)"


# Every model ------------------------------------------------------------------------------------------------------

def test_a_model_that_cannot_fold_in_says_so_and_serves_known_users(rated_films):
    learn = trained(*rated_films, "net")
    client, user = client_of(learn), next(iter(learn.data.users))
    said = client.get("/health").json()
    assert not said["visitors"] and "new users" in said["why_not"]
    refused = client.post("/recommend", json={"ratings": {"12": 5}})
    assert refused.status_code == 400 and refused.json() == {"error": said["why_not"]}
    assert agrees(client.get(f"/recommend?user={user}&n=3"), learn.recommend(user, n=3, why=True))


def test_choices_are_a_list_and_ratings_below_the_threshold_are_left_out(liked_films):
    learn = liked_films
    for client in (client_of(learn), client_of(learn.index())):
        assert client.get("/health").json()["scale"] is None
        table = learn.recommend(ratings=[12, 20], n=5, why=True)
        assert agrees(client.post("/recommend", json={"ratings": [12, 20], "n": 5}), table)
        low = int(table["item"].iloc[0])
        weighed = learn.recommend(ratings={12: 5, 20: 4}, without=[low], n=5, why=True)
        assert agrees(client.post("/recommend", json={"ratings": {"12": 5, "20": 4, str(low): 2}, "n": 5}), weighed)
        with pytest.warns(CollabWarning, match="1 of 3 ratings are not above"):
            assert learn.recommend(ratings={12: 5, 20: 4, low: 2}, n=5)["item"].tolist() == weighed["item"].tolist()
        assert "above 3" in client.post("/recommend", json={"ratings": {"12": 1}}).json()["error"]
        document = client.get("/openapi.json").text
        assert "items with ratings, of which those above 3 count." in document


def test_an_index_file_serves_as_its_model_does(films, tmp_path):
    index = Index.load(films.index().save(tmp_path / "index"))
    client, user = client_of(index), next(iter(films.data.users))
    said = client.get("/health").json()
    assert said["model"] == "Index" and said["visitors"] and said["scale"] == {"low": 1, "high": 5, "step": 1}
    assert agrees(client.post("/recommend", json={"ratings": {"12": 5, "20": 1}, "n": 5}),
                  films.recommend(ratings={12: 5, 20: 1}, n=5, why=True))
    assert agrees(client.get(f"/recommend?user={user}&n=5"), index.recommend(user, n=5))
    assert agrees(client.get("/similar?item=12&n=5"), films.similar_items(12, n=5, min_ratings=0))


def test_an_index_without_users_or_equations_says_so(rated_films):
    items = trained(*rated_films).index(users=False)
    client = client_of(items)
    assert "no users" in client.get("/recommend?user=1").json()["error"]
    network = trained(*rated_films, "softmax", implicit=True).index()
    said = client_of(network).get("/health").json()
    assert not said["visitors"] and "in a way of its own" in said["why_not"] and said["users"] == 60


def test_an_index_of_a_ranker_takes_visitors_as_its_learner_does(rated_films):
    for implicit in (True, False):
        bpr = trained(*rated_films, "bpr", implicit=implicit)
        client, of_learner = client_of(bpr.index()), client_of(bpr)
        said = client.get("/health").json()
        assert said["visitors"] and said["reasons"] and said["scale"] is None
        for ratings in (["12", "20"], {"12": 5, "20": 2}):
            here, there = (one.post("/recommend", json={"ratings": ratings, "n": 5}) for one in (client, of_learner))
            assert here.status_code == there.status_code == 200
            lists = [[(one["item"], one["why"]) for one in answer.json()["items"]] for answer in (here, there)]
            assert lists[0] == lists[1]


def test_every_list_keeps_to_the_rules_of_the_service(rated_films):
    ratings, table = rated_films
    learn = trained(ratings, table.assign(genres=["Drama|War", "Comedy", "War", "Drama"] * 10, year=range(1950, 1990)))
    rules = {"where": {"genres": ["War", "Comedy"]}, "without": [{"year": ">=1985"}, 11], "diversity": 0.5}
    user, less = next(iter(learn.data.users)), {**rules, "without": [*rules["without"], 13]}
    kept = {"where": rules["where"], "without": rules["without"]}
    client = client_of(learn, **rules)
    assert agrees(client.get(f"/recommend?user={user}&n=6"), learn.recommend(user, n=6, why=True, **rules))
    assert agrees(client.get(f"/recommend?user={user}&n=6&without=13"), learn.recommend(user, n=6, why=True, **less))
    expected = learn.recommend(ratings={12: 5, 20: 1}, n=6, why=True, **rules)
    visitor = {"ratings": {"12": 5, "20": 1}, "n": 6}
    assert agrees(client.post("/recommend", json=visitor), expected)
    assert agrees(client.get("/similar?item=12&n=40"), learn.similar_items(12, n=40, **kept))
    assert len(client.get("/items?n=40").json()["items"]) == 40 and client.get("/search?q=Film 36").json()["items"]
    index = client_of(learn.index(), **rules)
    assert agrees(index.get(f"/recommend?user={user}&n=6"), learn.recommend(user, n=6, exclude=None, **rules))
    assert agrees(index.post("/recommend", json=visitor), expected)
    assert agrees(index.get("/similar?item=12&n=40"), learn.similar_items(12, n=40, min_ratings=0, **kept))


def test_rules_that_cannot_be_kept_are_refused_before_anything_is_served(films, rated_films):
    with pytest.raises(DataError, match="where= names a column 'genres'"):
        service(films, where="genres=War")
    with pytest.raises(ValueError, match="diversity must be a number"):
        service(films.index(), diversity=2)
    with pytest.raises(Unsupported, match="EASE learns no factors of items"):
        service(trained(*rated_films, "ease", implicit=True), diversity=0.2)


def test_only_a_learner_or_an_index_is_served(films):
    with pytest.raises(TypeError, match=r"load_learner\(path\)"):
        service("model.safetensors")
    with pytest.raises(ValueError, match="threads"):
        service(films, threads=0)


# Ids --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [
    lambda k: f"id/{k} ü?&", lambda k: ("a", k), lambda k: k + 0.5, lambda k: (1 << 60) + k],
    ids=["text", "tuple", "float", "big"])
def test_ids_of_every_kind_find_their_item_again(make, rated_films):
    ratings = rated_films[0].query("item < 22")
    ratings = ratings.assign(item=[make(k - 10) for k in ratings["item"]])
    learn = trained(ratings)
    client = client_of(learn)
    shown = [one["item"] for one in client.get("/items?n=2").json()["items"]]
    answer = client.post("/recommend", json={"ratings": {str(one): 4 for one in shown}, "n": 3})
    names = Names(learn.data.items)
    rated = {learn.data.items.ids[names.row(str(one))]: 4 for one in shown}
    table = learn.recommend(ratings=rated, n=3)
    assert [names.row(str(one["item"])) for one in answer.json()["items"]] == [*learn.data.items.encode(table["item"])]
    assert client.get("/similar", params={"item": str(shown[0])}).json()["item"] == shown[0]
    assert "title" not in answer.json()["items"][0]


@pytest.mark.parametrize("ids", [[uuid.UUID(int=1), uuid.UUID(int=2)], [datetime.date(2020, 1, 2)], [True, False],
                                 [-3]])
def test_what_is_shown_of_an_id_names_it(ids):
    vocab = Vocab(ids)
    assert [Names(vocab).row(str(Names(vocab).shown(row))) for row in range(1, len(vocab))] == [*range(1, len(vocab))]


def test_only_the_text_that_an_id_is_written_as_names_it():
    names = Names(Vocab([5, 10]))
    assert [names.row(text) for text in ("5", "05", "5.0", " 5", "+5", "٥", "1" * 5000, "")] == [1] + [0] * 7
    assert names.shown(1) == 5 and Names(Vocab([2 ** 53 + 1])).shown(1) == "9007199254740993"


@pytest.mark.parametrize(("ends", "levels", "step"), [
    ((1, 5), [1, 2, 3, 4, 5], 1), ((1, 5), [1, 3, 5], 2), ((0.5, 5), [0.5, 3, 4.5, 5], 0.5), ((0, 10), None, 1),
    ((0.5, 5), None, 0.5), ((0, 100), None, None), ((1, 5), [1, 2.5, 3.1, 5], None),
    ((1, 2), [1.0, 4 / 3, 5 / 3, 2], 1 / 3)])
def test_the_step_of_a_scale_is_that_of_its_ratings(ends, levels, step):
    found = scale_of(*ends, step=None if levels is None else step_of(ends[0], torch.tensor(levels)))
    assert (found["low"], found["high"]) == ends and found["step"] == (step and pytest.approx(step, abs=1e-5))


# In other applications, and several at a time ---------------------------------------------------------------------

def test_it_can_be_mounted_in_another_application(films, asks):
    client = Client(Starlette(routes=[Mount("/films", service(films, threads=1))]))
    assert client.get("/films/items?n=3").json() == asks.get("/items?n=3").json()
    page = client.get("/films/")
    assert page.status_code == 200 and 'src="page.js"' in page.text and "content-security-policy" in page.headers
    assert client.get("/films/page.js").headers["content-type"].startswith("text/javascript")


def test_eight_threads_get_the_answers_that_one_gets(rated_films):
    for model, options in (("dot_bias", {}), ("bpr", {"implicit": True})):
        learn = trained(*rated_films, model, **options)
        client = Client(service(learn, threads=N))
        bodies = [{"ratings": {str(10 + k): 4, str(20 + k): 1}, "n": 6} for k in range(N)]
        paths = [f"/recommend?user={user}&n=6" for user in [*learn.data.users][:N]]
        state = torch.get_rng_state()

        def answer(k, client=client, bodies=bodies, paths=paths):
            return client.post("/recommend", json=bodies[k]).json(), client.get(paths[k]).json()
        alone = [answer(k) for k in range(N)]
        learn._folding = None           # so that the threads begin by choosing the ridge, all at once
        with ThreadPoolExecutor(N) as pool:
            assert list(pool.map(answer, range(N))) == alone, model
        assert torch.equal(torch.get_rng_state(), state) and not learn.model.training


def test_without_starlette_the_remedy_is_named(films, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(ImportError, match="pip install starlette uvicorn"):
        service(films)


def test_a_strength_of_0_is_no_choice_and_an_absurd_one_is_refused(rated_films):
    ratings, items = rated_films
    data = CollabDataBunch.from_df(ratings.assign(rating=1), items=items, implicit=True, seed=0, device="cpu")
    learn = collab_learner(data, "als", n_factors=4)
    with learn.no_logging():
        learn.fit()
    for model in (learn, learn.index()):
        client = Client(service(model))
        answers = {text: client.post("/recommend", content=f'{{"ratings": {text}}}', headers={
            "Content-Type": "application/json"}) for text in (
                '{"12": 2, "13": 0}', '{"12": 2}', '{"12": 0}', '{"12": 1e-320}', '{"12": -1}', '{"12": 1e30}',
                '{"12": 1000000}')}
        codes = [answer.status_code for answer in answers.values()]
        assert codes == [200, 200, 400, 400, 400, 400, 200], {text: answer.text for text, answer in answers.items()}
        some, one = (answers[text].json()["items"] for text in ('{"12": 2, "13": 0}', '{"12": 2}'))
        assert [item for item in one if item["item"] != "13"][:5] == some[:5]
        assert "strength from 0 to 1e+06, got -1 for item 12" in answers['{"12": -1}'].json()["error"]


def test_a_ranker_of_ratings_that_do_not_hold_1_serves_visitors(rated_films):
    ratings, items = rated_films
    data = CollabDataBunch.from_df(ratings.assign(rating=2 * ratings["rating"]), items=items, seed=0, device="cpu")
    learn = collab_learner(data, "bpr", n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(1)
    client = Client(service(learn))
    assert client.get("/health").json()["visitors"]
    assert client.post("/recommend", json={"ratings": {"12": 10}}).status_code == 200


def test_ratings_outside_a_scale_without_steps_are_refused(rated_films):
    ratings, items = rated_films
    fine = ratings["rating"] + np.random.default_rng(0).uniform(-0.4, 0.4, len(ratings))
    data = CollabDataBunch.from_df(ratings.assign(rating=fine), items=items, seed=0, device="cpu")
    learn = collab_learner(data, "dot", n_factors=4)
    with learn.no_logging():
        learn.fit_one_cycle(1)
    answer = Client(service(learn)).post("/recommend", json={"ratings": {"12": 1e30}})
    assert answer.status_code == 400 and "1e+30 for 12 is outside the scale" in answer.json()["error"]


def test_a_search_looks_for_eight_different_words_at_most():
    found = TitleSearch(["a b c d e f g h", "a b c d e f g h i"], np.zeros(3, dtype=np.int64))
    assert found.find("h h g f e d c b a i", 5) == [1, 2] and found.find("i", 5) == [2]


def test_the_description_of_an_index_promises_no_counts(films):
    said = {kind: Client(service(served)).get("/openapi.json").json()["paths"]["/items"]["get"]["summary"]
            for kind, served in (("model", films), ("index", films.index()))}
    assert said == {"model": "The most rated items",
                    "index": "The first items of the index, which holds no counts"}
