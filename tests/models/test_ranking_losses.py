"""Ranking losses against the written formulas: values by hand, gradients by autograd and algebra, what log_q does."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from collab.losses import bpr, logistic, sampled_softmax, softmax_in_batch


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def same_gradients(loss: Callable[..., Tensor], formula: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Value and gradients of the loss are those of the formula, and autograd's are right by finite differences."""
    found, wanted = loss(*inputs), formula(*inputs)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    for a, b in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradcheck(loss, inputs)


def test_bpr_by_hand():
    assert bpr(torch.zeros(2), torch.zeros(2)).item() == pytest.approx(math.log(2))
    assert bpr(torch.tensor([1.0]), torch.tensor([[0.0, 3.0]])).item() == pytest.approx(
        (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2)
    assert bpr(torch.tensor([-1e4]), torch.tensor([1e4])).item() == 2e4        # no overflow, where a sigmoid has one


def test_bpr_is_the_formula():
    same_gradients(bpr, lambda pos, neg: -torch.log(torch.sigmoid(pos[:, None] - neg)).mean(), random(5),
                   random(5, 3, seed=1))


def test_the_gradient_of_bpr_is_the_one_of_the_paper():
    """Rendle et al. 2009, section 4.2: -e^-x / (1 + e^-x) times the gradient of x = pos - neg."""
    pos, neg = random(6), random(6, seed=1)
    bpr(pos, neg).backward()
    x = (pos - neg).detach()
    expected = -torch.exp(-x) / (1 + torch.exp(-x)) / 6
    torch.testing.assert_close(pos.grad, expected)
    torch.testing.assert_close(neg.grad, -expected)


def test_softmax_in_batch_is_the_formula():
    q, hits = torch.tensor([0.5, 0.1, 0.2, 0.01, 0.9]).double(), torch.zeros(5, 5, dtype=torch.bool)
    hits[0, 3] = hits[3, 0] = hits[2, 2] = True         # the diagonal is never left out

    def formula(logits: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for r in range(5):
            kept = [c for c in range(5) if c == r or not hits[r, c]]
            often = [1 - (1 - q[c]) ** 4 if c == r else 4 * q[c] for c in kept]         # 4 other rows draw items
            scores = torch.stack([logits[r, c] / 0.3 - math.log(n) for c, n in zip(kept, often)])
            total = total - (scores[kept.index(r)] - torch.log(torch.exp(scores).sum()))
        return total / 5
    same_gradients(lambda logits: softmax_in_batch(logits, q.log(), hits, 0.3), formula, random(5, 5))
    same_gradients(lambda logits: softmax_in_batch(logits, q.log()),
                   lambda logits: -torch.log_softmax(logits - q.log(), 1).diagonal().mean(), random(5, 5))


def test_logistic_is_the_formula():
    def formula(pos: Tensor, neg: Tensor) -> Tensor:
        chosen, not_chosen = 1 / (1 + torch.exp(-pos)), 1 / (1 + torch.exp(-neg))
        return -(chosen.log().sum() + (1 - not_chosen).log().sum()) / 16
    same_gradients(logistic, formula, random(4), random(4, 3, seed=1))
    assert logistic(torch.tensor([0.0]), torch.tensor([math.log(3)])).item() == pytest.approx(
        (math.log(2) + math.log(4)) / 2)


def test_softmax_in_batch_by_hand():
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    assert softmax_in_batch(logits).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    log_q = torch.tensor([0.75, 0.25]).log()        # 3 / .75 = 4 and 1 / .25 = 4; 1 / .75 and 1 / .25
    assert softmax_in_batch(logits, log_q).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert softmax_in_batch(logits, hits=torch.ones(2, 2, dtype=torch.bool)).item() == 0


def test_sampled_softmax_is_the_formula():
    log_q_pos, log_q_neg = (torch.randn(*shape, dtype=torch.float64) for shape in ((4,), (4, 3)))
    hits = torch.zeros(4, 3, dtype=torch.bool)
    hits[1, 2] = hits[3] = True

    def formula(pos: Tensor, neg: Tensor) -> Tensor:
        s, k = pos / 2 - log_q_pos, neg / 2 - log_q_neg
        others = torch.where(hits, 0.0, torch.exp(k)).sum(1)
        return -torch.log(torch.exp(s) / (torch.exp(s) + others)).mean()
    same_gradients(lambda pos, neg: sampled_softmax(pos, neg, log_q_pos, log_q_neg, 2.0, hits), formula, random(4),
                   random(4, 3, seed=1))


def test_sampled_softmax_with_every_item_once_is_the_softmax():
    logits, items = random(6, 8), torch.tensor([0, 3, 7, 2, 2, 5])
    every = torch.arange(8).expand(6, 8)
    pos = logits[torch.arange(6), items]
    found = sampled_softmax(pos, logits, hits=every == items[:, None])
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, items))


@pytest.mark.parametrize("wrong", [
    lambda: bpr(torch.zeros(3, 1), torch.zeros(3)), lambda: bpr(torch.zeros(3), torch.zeros(2)),
    lambda: softmax_in_batch(torch.zeros(2, 3)), lambda: softmax_in_batch(torch.zeros(2, 2), temperature=0.0),
    lambda: logistic(torch.zeros(2), torch.zeros(3, 2)), lambda: sampled_softmax(torch.zeros(2), torch.zeros(3, 2)),
    lambda: sampled_softmax(torch.zeros(2), torch.zeros(2, 2), log_q_pos=torch.zeros(2)),
    lambda: sampled_softmax(torch.zeros(2), torch.zeros(2, 2), temperature=-1.0)])
def test_shapes_and_temperatures_that_make_no_sense_are_refused(wrong: Callable[[], Tensor]):
    with pytest.raises(ValueError):
        wrong()


PLANTED = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])


def learned(loss: Callable[[Tensor, Tensor, torch.Generator], Tensor], steps: int = 1500) -> Tensor:
    """The distribution that free logits end at, when targets come from the planted one."""
    generator, logits = torch.Generator().manual_seed(0), torch.zeros(6, requires_grad=True)
    opt, kept = torch.optim.Adam([logits], lr=0.02), torch.zeros(6)
    for step in range(steps):
        items = torch.multinomial(PLANTED, 256, replacement=True, generator=generator)
        opt.zero_grad()
        loss(logits, items, generator).backward()
        opt.step()
        kept += logits.detach() * (step >= steps // 2)
    return (kept / (steps - steps // 2)).softmax(0)


@pytest.mark.parametrize("corrected", [True, False])
def test_log_q_recovers_planted_probabilities_in_the_batch(corrected: bool):
    def in_batch(logits: Tensor, items: Tensor, _: torch.Generator) -> Tensor:
        return softmax_in_batch(logits[items].expand(256, 256), PLANTED[items].log() if corrected else None)
    found = learned(in_batch, 600)
    if corrected:
        torch.testing.assert_close(found, PLANTED, rtol=0.1, atol=0.01)
    else:               # what is popular is also a frequent negative: nothing is left of it
        assert found.max() < 0.2


@pytest.mark.parametrize("corrected", [True, False])
def test_log_q_recovers_planted_probabilities_from_a_skewed_sample(corrected: bool):
    q = torch.tensor([0.02, 0.05, 0.08, 0.2, 0.3, 0.35])

    def sampled(logits: Tensor, items: Tensor, generator: torch.Generator) -> Tensor:
        negatives = torch.multinomial(q, 256 * 40, replacement=True, generator=generator).view(256, 40)
        expected = (40 * q).log()
        log_q = (expected[items], expected[negatives]) if corrected else (None, None)
        return sampled_softmax(logits[items], logits[negatives], *log_q)
    found = learned(sampled, 600)
    error = (found - PLANTED).abs().max()
    assert error < 0.05 if corrected else error > 0.15
