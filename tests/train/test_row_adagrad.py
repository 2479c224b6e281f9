"""Row-wise Adagrad by hand."""

import copy

import pytest
import torch
from torch import nn

from collab.train.optim import make_optimizer
from collab.train.row_adagrad import RowAdagrad


def stepped(p, grads, **options):
    opt = RowAdagrad([p], **options)
    for grad in grads:
        p.grad = torch.tensor(grad)
        opt.step()
    return opt


def test_a_row_has_one_accumulator_by_hand():
    p = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    opt = stepped(p, [[[3.0, 4.0], [0.0, 0.0]], [[0.0, 2.0], [1.0, 1.0]]], lr=0.5)
    # row 0: means of squares 12.5, then 12.5 + 2; row 1 has no gradient first, then a mean of 1
    expected = [[1 - 0.5 * 3 / 12.5 ** 0.5, 2 - 0.5 * 4 / 12.5 ** 0.5 - 0.5 * 2 / 14.5 ** 0.5], [2.5, 3.5]]
    torch.testing.assert_close(p.detach(), torch.tensor(expected))
    torch.testing.assert_close(opt.state[p]["row_sum"], torch.tensor([14.5, 1.0]))


def test_numbers_of_a_vector_are_rows_and_a_scalar_stays():
    vector, scalar = nn.Parameter(torch.tensor([1.0, 1.0])), nn.Parameter(torch.tensor(1.0))
    stepped(vector, [[2.0, -4.0]], lr=0.25)
    stepped(scalar, [8.0], lr=0.25)
    torch.testing.assert_close(vector.detach(), torch.tensor([0.75, 1.25]))
    assert scalar.item() == 1.0


def test_decay_is_decoupled_and_the_scale_of_the_loss_does_not_matter():
    p, q = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    stepped(p, [[[1.0, 1.0], [0.0, 0.0]]], lr=0.1, weight_decay=0.5)
    torch.testing.assert_close(p.detach(), torch.tensor([[0.85, 0.85], [0.95, 0.95]]))
    stepped(q, [[[1000.0, 1000.0], [0.0, 0.0]]], lr=0.1, weight_decay=0.5)
    torch.testing.assert_close(p, q)


def test_it_is_an_optimizer_like_others(tmp_path):
    layer = nn.Linear(3, 2)
    opt = make_optimizer(layer, RowAdagrad, lr=0.1, wd=0.01)
    assert type(opt) is RowAdagrad and opt.param_groups[0]["weight_decay"] == 0.01
    layer(torch.ones(4, 3)).sum().backward()
    opt.step()
    other = copy.deepcopy(opt)
    again = RowAdagrad(layer.parameters())
    again.load_state_dict(opt.state_dict())
    first, *others = ([s["row_sum"].tolist() for s in one.state.values()] for one in (opt, other, again))
    assert others == [first, first]
    assert opt.step(lambda: 3.0) == 3.0


@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay"])
def test_negative_numbers_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        RowAdagrad([nn.Parameter(torch.ones(1))], **{name: -1})
