"""ALS by hand: dense normal equations, one after another, and the objective as a double sum over pairs, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from collab.models.als import ALS

KINDS: dict[str, dict[str, Any]] = {
    "implicit": {"reg": 0.7, "alpha": 2.0}, "implicit by counts": {"reg": 0.3, "alpha": 0.5, "reg_power": 0.5},
    "explicit": {"implicit": False, "reg": 0.2},
    "explicit, constant": {"implicit": False, "reg": 0.4, "reg_power": 0.0}}


def rows(n_users: int = 9, n_items: int = 12, n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Different pairs of known rows with ratings from 1 to 5."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice((n_users - 1) * (n_items - 1), size=min(n, (n_users - 1) * (n_items - 1)), replace=False)
    users, items = 1 + pairs // (n_items - 1), 1 + pairs % (n_items - 1)
    return torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(rng.integers(1, 6, len(pairs)) * 1.0)


def model(kind: str, n_users: int = 9, n_items: int = 12, n_factors: int = 3, seed: int = 0, cg_steps: int = 0,
          dtype: str = "float64") -> ALS:
    """A model with normally distributed weights."""
    torch.manual_seed(seed)
    made = ALS(n_factors, n_users, n_items, cg_steps=cg_steps, dtype=dtype, **KINDS[kind])
    with torch.no_grad():
        for p in made.parameters():
            p.normal_()
    return made


def dense(users: Tensor, items: Tensor, ratings: Tensor, n_users: int, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """(ratings, rated), both (n_users, n_items)."""
    table, rated = np.zeros((n_users, n_items)), np.zeros((n_users, n_items), bool)
    table[users, items], rated[users, items] = ratings, True
    return table, rated


def spread_of(data: tuple[Tensor, Tensor, Tensor]) -> float:
    return float(data[2].numpy().std()) or 1.0


def naive_side(m: ALS, side: str, data: tuple[Tensor, Tensor, Tensor]) -> np.ndarray:
    """All vectors of one side, one dense system after another, the other side fixed."""
    n_users, n_items = m.config["n_users"], m.config["n_items"]
    table, rated = dense(*data, n_users, n_items)
    other = "i" if side == "u" else "u"
    if side == "i":
        table, rated = table.T, rated.T
    fixed = getattr(m, f"{other}_weight").weight.double().numpy()
    reg, nu, alpha = m.config["reg"], m.config["reg_power"], m.config["alpha"]
    solved = []
    for r, seen in zip(table, rated):
        if not seen.any():
            solved.append(np.zeros(fixed.shape[1] + (not m.implicit)))
            continue
        if m.implicit:
            known = fixed[1:]
            c, p = 1 + alpha * r[1:], seen[1:].astype(float)
            left = known.T @ np.diag(c) @ known + reg * seen.sum() ** nu * np.eye(known.shape[1])
            right = known.T @ (c * p)
        else:
            bias = getattr(m, f"{other}_bias").weight.double().numpy()[:, 0]
            known = np.column_stack([fixed[seen], np.ones(seen.sum())])
            held = [spread_of(data)] * fixed.shape[1] + [1.0]
            left = known.T @ known + reg * seen.sum() ** nu * np.diag(held)
            right = known.T @ (r[seen] - data[2].numpy().mean() - bias[seen])
        solved.append(np.linalg.solve(left, right))
    return np.array(solved)


def naive_loss(m: ALS, data: tuple[Tensor, Tensor, Tensor]) -> float:
    """The objective as a double sum over pairs."""
    n_users, n_items = m.config["n_users"], m.config["n_items"]
    table, rated = dense(*data, n_users, n_items)
    x, y = m.u_weight.weight.double().numpy(), m.i_weight.weight.double().numpy()
    reg, nu, alpha = m.config["reg"], m.config["reg_power"], m.config["alpha"]
    total = 0.0
    for u in range(1, n_users):
        for i in range(1, n_items):
            if m.implicit:
                total += (1 + alpha * table[u, i]) * (rated[u, i] - x[u] @ y[i]) ** 2
            elif rated[u, i]:
                score = m.mu.item() + m.u_bias.weight[u, 0].item() + m.i_bias.weight[i, 0].item() + x[u] @ y[i]
                total += (table[u, i] - score) ** 2
    for n, tables in ((rated.sum(1), ["u_weight", "u_bias"]), (rated.sum(0), ["i_weight", "i_bias"])):
        for name in tables[:1 if m.implicit else 2]:
            for row, count in zip(getattr(m, name).weight.double().numpy(), n):
                held = 1.0 if m.implicit or name.endswith("bias") else spread_of(data)
                total += reg * count ** nu * held * (row @ row) if count else 0.0
    return total


def joined(m: ALS, side: str) -> np.ndarray:
    parts = [getattr(m, f"{side}_weight").weight]
    return torch.cat(parts if m.implicit else [*parts, getattr(m, f"{side}_bias").weight], 1).numpy().copy()
