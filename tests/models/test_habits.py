"""Habits: factors on the probabilities of levels, by hand and from planted users."""

import pytest
import torch

from collab.models.habits import FIRM, Habits


def test_the_factors_are_the_formula():
    """User 1 rated three times, always the first level; user 2 once, the second; user 3 never."""
    habits = Habits(4, 2)
    p = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.25, 0.75], [0.6, 0.4]], dtype=torch.float64)
    rows, classes = torch.tensor([1, 1, 1, 2]), torch.tensor([0, 0, 0, 1])
    habits.count([(rows[:1], classes[:1], p[:1]), (rows[1:], classes[1:], p[1:])])
    low, high = (3 + FIRM) / (1.85 + FIRM), (1 + FIRM) / (2.15 + FIRM)
    wanted = [[low, high], [(3 + FIRM * low) / (1.25 + FIRM), FIRM * high / (1.75 + FIRM)],
              [FIRM * low / (0.6 + FIRM), (1 + FIRM * high) / (0.4 + FIRM)], [low, high]]
    torch.testing.assert_close(habits.factors, torch.tensor(wanted))
    a, b = 0.3 * wanted[1][0], 0.7 * wanted[1][1]
    torch.testing.assert_close(habits(torch.tensor([1]), torch.tensor([[0.3, 0.7]])), torch.tensor([[a, b]]) / (a + b))


def test_nothing_counted_changes_nothing():
    p = torch.tensor([[0.2, 0.3, 0.5]])
    assert torch.equal(Habits(2, 3)(torch.tensor([1]), p), p / p.sum())


@pytest.mark.parametrize("planted", [(1.0, 1.0, 1.0), (4.0, 0.25, 1.0)])
def test_planted_habits_come_back(planted):
    """A user with many ratings, whose levels are drawn from the model's probabilities times factors."""
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(20_000, 3, generator=generator, dtype=torch.float64)
    p /= p.sum(1, keepdim=True)
    true = p * torch.tensor(planted)
    true /= true.sum(1, keepdim=True)
    classes = torch.multinomial(true, 1, generator=generator)[:, 0]
    habits = Habits(2, 3)
    habits.count([(torch.ones_like(classes), classes, p)])
    rows = torch.ones_like(classes)
    before, after = ((q - true).abs().mean() for q in (p, habits(rows, p)))
    assert after < 0.01 if planted[0] == 1 else after < before / 4
