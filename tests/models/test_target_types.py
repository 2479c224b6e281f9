"""Losses of targets that are whole numbers, booleans or of another precision: against the same numbers in float64."""

import pytest
import torch

from collab.data.batches import TensorBatches
from collab.losses import huber, mae, mse, observed_mse

DTYPES = [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float64, torch.float16, torch.bfloat16]
PREDS = [0.5, 2.0, 3.5]


def by_hand(loss, targets):
    errors = [abs(p - t) for p, t in zip(PREDS, targets)]
    return sum({mse: lambda e: e * e, mae: lambda e: e,
                huber: lambda e: e * e / 2 if e <= 1 else e - 0.5}[loss](e) for e in errors) / 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [mse, mae, huber])
def test_a_loss_and_its_gradient_are_those_of_the_same_numbers(loss, dtype):
    targets = torch.tensor([1, 0, 5]).to(dtype)
    pred = torch.tensor(PREDS, requires_grad=True)
    value = loss(pred, targets)
    value.backward()
    assert value.is_floating_point() and value.item() == pytest.approx(by_hand(loss, targets.tolist()))
    exact = torch.tensor(PREDS, dtype=torch.float64, requires_grad=True)
    loss(exact, targets.double()).backward()
    torch.testing.assert_close(pred.grad, exact.grad.float())


@pytest.mark.parametrize("loss", [mse, mae, huber])
def test_predictions_may_be_whole_numbers_too(loss):
    value = loss(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 6]))
    assert value.item() == pytest.approx({mse: 3.0, mae: 1.0, huber: 2.5 / 3}[loss])


@pytest.mark.parametrize("how", ["gather", "product"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_stored_ratings_may_be_of_any_type(dtype, how):
    stored = torch.sparse_coo_tensor(torch.tensor([[0, 0, 1], [0, 1, 1]]), torch.tensor([1, 0, 3]).to(dtype), (2, 2),
                                     check_invariants=True)
    u = torch.full((2, 1), 0.5, requires_grad=True)
    loss = observed_mse(stored, u, torch.ones(2, 1), how)
    loss.backward()
    third = stored._values()[2].item()                  # 3, or True
    assert loss.item() == pytest.approx((0.25 + 0.25 + (third - 0.5) ** 2) / 3)
    torch.testing.assert_close(u.grad, torch.tensor([[0.0], [2 / 3 * (0.5 - third)]]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_table_of_ratings_holds_means_in_float32(dtype):
    rows, ratings = torch.tensor([1, 1, 1]), torch.tensor([1, 0, 1]).to(dtype)
    table = TensorBatches(rows, torch.tensor([1, 1, 0]), ratings, shape=(2, 2)).to_sparse()
    assert table.dtype == torch.float32 and table.values().tolist() == [1.0, 0.5]
