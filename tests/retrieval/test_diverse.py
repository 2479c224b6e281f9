"""Maximal marginal relevance, against a loop over every candidate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from collab.evaluate.ranking import intra_list_distance
from collab.retrieval.diverse import check_diversity, diverse, n_candidates


def naive(rows: list[int], scores: list[float], vectors: np.ndarray, n: int, diversity: float) -> list[int]:
    low, high = min(scores), max(scores)
    relevance = [(s - low) / (high - low) if high > low else 0.0 for s in scores]

    def cosine(a: int, b: int) -> float:
        return float(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]))
    chosen = [0]
    while len(chosen) < min(n, len(rows)):
        def gain(k: int) -> float:
            return (1 - diversity) * relevance[k] - diversity * max(cosine(rows[k], rows[c]) for c in chosen)
        chosen.append(max((k for k in range(len(rows)) if k not in chosen), key=lambda k: (round(gain(k), 9), -k)))
    return [rows[k] for k in chosen]


@pytest.mark.parametrize("diversity", [0.2, 0.5, 1.0])
def test_every_place_has_the_largest_marginal_relevance(diversity: float, monkeypatch):
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(40, 5))
    found = np.stack([draw.permutation(np.arange(1, 40))[:20] for _ in range(6)])
    scores = -np.sort(-draw.normal(size=(6, 20)).astype(np.float32), axis=1)
    scores[2] = scores[2, 0]                    # all equal
    found[4, 3:], scores[4, 3:] = -1, -np.inf   # three candidates
    expected = [naive([int(r) for r in rows if r > 0], [float(s) for s in own if s > -np.inf], vectors, 7, diversity)
                for rows, own in zip(found, scores)]
    tensors = torch.from_numpy(found), torch.from_numpy(scores), torch.from_numpy(vectors)
    rows, best = diverse(*tensors, 7, diversity)
    assert [[r for r in own if r > 0] for own in rows.tolist()] == expected
    assert rows[4].tolist()[3:] == [-1] * 4 and best[4, 3:].isinf().all()
    place = {(u, int(r)): float(s) for u in range(6) for r, s in zip(found[u], scores[u])}
    assert all(place[u, int(r)] == float(s) for u in range(6) for r, s in zip(rows[u], best[u]))
    monkeypatch.setattr("collab.retrieval.diverse.MAX_NUMBERS", 1)      # one user at a time
    again = diverse(*tensors, 7, diversity)
    assert torch.equal(again[0], rows) and torch.equal(again[1], best)


def test_twins_of_the_best_give_way():
    vectors = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found, scores = torch.tensor([[1, 2, 3]]), torch.tensor([[5.0, 4.9, 4.0]])
    assert diverse(found, scores, vectors, 2, 0.5)[0].tolist() == [[1, 3]]
    assert diverse(found, scores, vectors, 3, 0.01)[0].tolist() == [[1, 2, 3]]
    assert diverse(found[:0], scores[:0], vectors, 2, 0.5)[0].shape == (0, 2)


def test_diversity_lies_between_0_and_1():
    for wrong in (-0.1, 1.1, "0.3", True, float("nan")):
        with pytest.raises(ValueError, match=r"diversity must be a number from 0 \(the best items\) to 1"):
            check_diversity(wrong)
    assert (n_candidates(5, 0.3), n_candidates(50, 0.3), n_candidates(50, 0)) == (100, 500, 50)


def test_intra_list_distance_by_hand():
    vectors = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    found = torch.tensor([[1, 2, 3], [1, 3, -1], [2, -1, -1]])
    # cosines of the first: 0, -1 and 0; of the second -1
    values = intra_list_distance(found, vectors)
    assert values[:2].tolist() == pytest.approx([(1 + 2 + 1) / 3, 2.0]) and values[2].isnan()
