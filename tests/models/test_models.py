"""Models: scores against the formulas in numpy, shapes, ranges, dropout and initial weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from collab.losses import mae, mse
from collab.models.embedding import EmbeddingDot, EmbeddingDotBias
from collab.models.layers import inverse_sigmoid_range, sigmoid_range
from collab.models.net import EmbeddingNet

N_USERS, N_ITEMS, N_FACTORS = 7, 9, 4


def small_models() -> list[nn.Module]:
    torch.manual_seed(0)
    sizes = N_FACTORS, N_USERS, N_ITEMS
    models = [EmbeddingDot(*sizes), EmbeddingDotBias(*sizes), EmbeddingDotBias(*sizes, y_range=(0.5, 5.5), mean=3.6),
              EmbeddingNet(*sizes), EmbeddingNet(*sizes, hidden=(6, 3), drop=(0.5, 0.2), y_range=(0.5, 5.5)),
              EmbeddingNet(*sizes, hidden=())]
    for model in models:
        for p in model.parameters():
            p.data.normal_()        # far from zero, so that every term of a formula counts
    return [model.eval() for model in models]


def array(t: torch.Tensor) -> np.ndarray:
    return t.detach().numpy().astype(np.float64)


def some_pairs(bs: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(bs)
    return torch.randint(N_USERS, (bs,), generator=draw), torch.randint(N_ITEMS, (bs,), generator=draw)


def test_dot_is_the_inner_product_of_the_factors():
    model, (u, i) = small_models()[0], some_pairs(20)
    expected = np.einsum("bf,bf->b", array(model.u_weight.weight)[u], array(model.i_weight.weight)[i])
    np.testing.assert_allclose(array(model(u, i)), expected, rtol=1e-5, atol=1e-6)


def test_dot_bias_adds_biases_and_mean_and_squashes_the_sum():
    plain, ranged = small_models()[1:3]
    u, i = some_pairs(20)
    for model in (plain, ranged):
        x = (np.einsum("bf,bf->b", array(model.u_weight.weight)[u], array(model.i_weight.weight)[i])
             + array(model.u_bias.weight)[u, 0] + array(model.i_bias.weight)[i, 0] + model.mu.item())
        expected = x if model is plain else 0.5 + 5 / (1 + np.exp(-x))
        np.testing.assert_allclose(array(model(u, i)), expected, rtol=1e-5, atol=1e-5)


def test_net_is_its_layers_after_another():
    model, (u, i) = small_models()[4], some_pairs(20)
    x = np.concatenate([array(model.u_weight.weight)[u], array(model.i_weight.weight)[i]], axis=1)
    linear = [m for m in model.layers if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(8, 6), (6, 3), (3, 1)]
    for layer in linear[:-1]:
        x = np.maximum(x @ array(layer.weight).T + array(layer.bias), 0)
    x = (x @ array(linear[-1].weight).T + array(linear[-1].bias))[:, 0]
    np.testing.assert_allclose(array(model(u, i)), 0.5 + 5 / (1 + np.exp(-x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bs", [1, 2, 33])
def test_every_batch_size_gives_one_score_a_pair(bs: int):
    for model in small_models():
        for training in (True, False):
            assert model.train(training)(*some_pairs(bs)).shape == (bs,)


def test_cross_is_every_pair_scored_by_itself():
    users, items = torch.tensor([3, 0, 6]), torch.tensor([1, 8, 1, 2])
    for model in small_models()[:3]:
        pairwise = torch.stack([torch.cat([model(u[None], i[None]) for i in items]) for u in users])
        torch.testing.assert_close(model.cross(users, items), pairwise)


def test_scores_never_leave_the_range():
    low, high = sigmoid_range(torch.tensor([-1e4, 1e4]), (0.5, 5.5)).tolist()
    assert low == 0.5 and high == 5.5
    for model in small_models()[2::2]:
        scores = model(torch.arange(N_USERS).repeat(N_ITEMS), torch.arange(N_ITEMS).repeat_interleave(N_USERS))
        assert scores.min() > 0.5 and scores.max() < 5.5


def test_mean_is_where_the_score_starts():
    for y_range in (None, (0.5, 5.5), (-10.0, 10.0)):
        torch.manual_seed(0)
        model = EmbeddingDotBias(50, 20, 20, y_range=y_range, mean=3.5)
        scores = model(torch.arange(20), torch.arange(20))
        assert (scores - 3.5).abs().max() < 0.2         # what is left are initial weights of 0.01
        for part in (model.u_bias, model.i_bias, model.u_weight, model.i_weight):
            nn.init.zeros_(part.weight)
        torch.testing.assert_close(model(torch.arange(20), torch.arange(20)), torch.full((20,), 3.5))


def test_inverse_of_the_range_is_exact_inside_and_refused_outside():
    assert inverse_sigmoid_range(3.0, (0.5, 5.5)) == 0.0
    assert sigmoid_range(torch.tensor(inverse_sigmoid_range(4.7, (0.5, 5.5))), (0.5, 5.5)).item() == pytest.approx(4.7)
    for outside in (0.5, 5.5, 6.0):
        with pytest.raises(ValueError, match="does not lie inside y_range"):
            EmbeddingDotBias(2, 3, 3, y_range=(0.5, 5.5), mean=outside)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model = EmbeddingNet(N_FACTORS, N_USERS, N_ITEMS, hidden=(50,), drop=0.5)
    u, i = some_pairs(30)
    model.train()
    assert not torch.equal(model(u, i), model(u, i))
    model.eval()
    assert torch.equal(model(u, i), model(u, i))


def test_one_drop_is_for_all_layers_and_a_sequence_is_layer_by_layer():
    def drops(model: nn.Module) -> list[float]:
        return [m.p for m in model.layers if isinstance(m, nn.Dropout)]
    assert drops(EmbeddingNet(4, 5, 6, hidden=(8, 4), drop=0.3)) == [0.3, 0.3]
    assert drops(EmbeddingNet(4, 5, 6, hidden=(8, 4), drop=(0.1, 0.2))) == [0.1, 0.2]
    assert EmbeddingNet(4, 5, 6, emb_drop=0.07).emb_drop.p == 0.07
    with pytest.raises(ValueError, match="drop has 3 numbers for 2 hidden layers"):
        EmbeddingNet(4, 5, 6, hidden=(8, 4), drop=(0.1, 0.2, 0.3))


def test_initial_embeddings_are_normal_and_cut_at_two_deviations():
    torch.manual_seed(0)
    weight = EmbeddingDot(50, 400, 10).u_weight.weight
    assert weight.abs().max() <= 0.02
    assert weight.mean().item() == pytest.approx(0, abs=5e-4)
    assert weight.std().item() == pytest.approx(0.01 * 0.8796, rel=0.02)     # sqrt(1 - 4 phi(2) / (2 Phi(2) - 1))


def test_config_builds_the_same_kind_of_model_again():
    for model in small_models():
        again = type(model)(**model.config)
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.eval()(*some_pairs(9)), model(*some_pairs(9)))


def test_param_groups_hold_every_parameter_once_and_spare_the_biases():
    model = small_models()[1]
    groups = model.param_groups()
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in model.parameters())
    decays = {p: g.get("decay", 1.0) for g in groups for p in g["params"]}
    assert {decay for p, decay in decays.items() if p.dim() == 2 and p.shape[1] == N_FACTORS} == {1.0}
    assert {decay for p, decay in decays.items() if p.dim() == 0 or p.shape[1] == 1} == {0.0}


# Losses -----------------------------------------------------------------------------------------------------------

def test_losses_are_means_and_refuse_shapes_that_would_broadcast():
    pred, target = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 4.0, 4.0])
    assert mse(pred, target).item() == pytest.approx(5 / 3) and mae(pred, target).item() == 1.0
    for loss in (mse, mae):
        with pytest.raises(ValueError, match=r"shape \(3, 1\), targets \(3,\)"):
            loss(pred[:, None], target)
