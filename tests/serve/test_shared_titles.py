"""Items that share a title are told apart by their ids."""

from serving import Client

from collab import CollabDataBunch, collab_learner
from collab.serve import service


def refusal(ratings, films, title):
    learn = collab_learner(CollabDataBunch.from_df(ratings, items=films, seed=0, device="cpu"), "als_explicit",
                           n_factors=3)
    with learn.no_logging():
        learn.fit()
    answer = Client(service(learn, threads=2)).get("/similar", params={"item": title})
    assert answer.status_code == 400
    return answer.json()["error"]


def test_a_title_of_several_items_is_refused_with_their_ids(rated_films):
    ratings, films = rated_films
    twice = films.assign(title=films["title"].where(~films["item"].isin([20, 25]), "Solaris"))
    assert refusal(ratings, twice, "solaris") == "several items have the title 'solaris'; say the id of one: 20, 25"
    often = films.assign(title=films["title"].where(~films["item"].isin([20, 25, 30, 31, 32]), "Solaris"))
    assert refusal(ratings, often, "Solaris").endswith("; say the id of one: 20, 25, 30 and 2 more")


def test_ids_that_differ_in_case_alone_are_all_named(rated_films):
    ratings, _ = rated_films
    names = {20: "solaris", 25: "SOLARIS"}
    ratings = ratings.assign(item=ratings["item"].map(lambda id: names.get(id, f"film {id}")))
    said = refusal(ratings, None, "Solaris")
    assert said.endswith(("say the id of one: solaris, SOLARIS", "say the id of one: SOLARIS, solaris"))
