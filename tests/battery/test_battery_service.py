"""Every model: its service answers what it answers itself, and says what it cannot."""

from __future__ import annotations

import pytest
from serving import Client

from collab import DataError, service

from .ratings import NEW, USER


def test_a_service_answers_as_the_model_does(it):
    client = Client(service(it.learn, threads=2))
    said = client.get("/health").json()
    found = client.get("/recommend", params={"user": str(USER), "n": 6}).json()["items"]
    table = it.learn.recommend(USER, n=6, why=said["reasons"])
    assert [one["item"] for one in found] == table["item"].tolist()
    assert [one["score"] for one in found] == pytest.approx(table["score"].tolist(), abs=1e-4)
    assert not said["reasons"] or [one["why"] for one in found] == table["why"].tolist()
    answer = client.post("/recommend", json={"ratings": {str(item): rating for item, rating in NEW.items()}, "n": 6})
    if said["visitors"]:
        mine = it.learn.recommend(ratings=NEW, n=6)
        assert [one["item"] for one in answer.json()["items"]] == mine["item"].tolist()
    else:
        with pytest.raises(DataError) as refused:
            it.learn.recommend(ratings=NEW)
        assert answer.status_code == 400 and answer.json() == {"error": str(refused.value)}
    near = client.get("/similar", params={"item": str(it.items[0])})
    assert near.status_code == (200 if said["similar"] else 400)
