"""The softmax over all items of a linear layer: against autograd over the table of all logits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from collab import linear_softmax as module
from collab.linear_softmax import linear_softmax

N, N_ITEMS, SIZE = 6, 11, 3
NEVER = torch.zeros(N_ITEMS, dtype=torch.bool).index_fill(0, torch.tensor([0, 4]), True)
ROW = torch.tensor([0, 3, 3, 5, 0, 3, 3, 1])            # of rows 2 and 4 nothing is wanted, of row 3 an item twice
ITEMS = torch.tensor([1, 2, 2, 4, 10, 4, 7, 0])         # 0 and 4 are not in the sum of others


def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
            for shape in ((N, SIZE), (N_ITEMS, SIZE), (N_ITEMS,))]


def naive(hidden: Tensor, weight: Tensor, bias: Tensor, temperature: float) -> tuple[Tensor, list[float]]:
    losses, scores = [], []
    for row, item in zip(ROW.tolist(), ITEMS.tolist()):
        logits = (weight @ hidden[row] + bias)
        counted = [n for n in range(N_ITEMS) if not NEVER[n] or n == item]
        losses.append(-(logits / temperature)[counted].log_softmax(0)[counted.index(item)])
        scores.append(logits[item].item())
    return torch.stack(losses).mean(), scores


@pytest.mark.parametrize("at_a_time", [1, 2 * N_ITEMS, 1 << 22])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_loss_scores_and_gradients_are_those_of_the_table(at_a_time: int, temperature: float,
                                                          monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_LOGITS", at_a_time)
    one, other = tensors(), tensors()
    loss, scores = linear_softmax(*one, ROW, ITEMS, NEVER, temperature)
    expected, expected_scores = naive(*other, temperature)
    (5 * loss).backward()
    (5 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert scores.tolist() == pytest.approx(expected_scores, rel=1e-5) and not scores.requires_grad
    for made, wanted in zip(one, other):
        torch.testing.assert_close(made.grad, wanted.grad, rtol=1e-5, atol=1e-6)


def test_equal_logits_by_hand():
    # 9 of 11 items are in the sum: log 9, and log 10 with an item that is not
    zeros = torch.zeros(N, SIZE), torch.zeros(N_ITEMS, SIZE), torch.zeros(N_ITEMS)
    for items, expected in (([1, 2], math.log(9)), ([0, 4], math.log(10))):
        loss, _ = linear_softmax(*zeros, torch.tensor([0, 1]), torch.tensor(items), NEVER)
        assert loss.item() == pytest.approx(expected) and not loss.requires_grad


def test_large_logits_do_not_overflow():
    hidden, weight, bias = torch.ones(1, 1), torch.tensor([[0.0], [1000.0], [1000.0]]), torch.zeros(3)
    loss, _ = linear_softmax(hidden, weight, bias, torch.tensor([0]), torch.tensor([1]), NEVER[:3])
    assert loss.item() == pytest.approx(math.log(2), rel=1e-4)      # 1000.69 - 1000 in float32


def test_half_precision_is_summed_in_full():
    hidden, weight, bias = (t.detach().float().requires_grad_() for t in tensors())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = torch.nn.functional.linear(hidden, torch.eye(SIZE))
        loss, scores = linear_softmax(half, weight, bias, ROW, ITEMS, NEVER)
    loss.backward()
    assert half.dtype == torch.bfloat16 and loss.dtype == scores.dtype == weight.grad.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(*tensors(), 1.0)[0].item(), rel=0.02)
