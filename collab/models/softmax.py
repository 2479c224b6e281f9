"""SoftmaxNet: a user's history in, a distribution over all items out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag
from torch.utils.checkpoint import checkpoint

from ..data.interactions import Interactions
from ..drawn import drawn_for, uniform
from ..numerics import products
from ..ragged import Ragged
from .base import CollabModel, Group, Side
from .dot_form import DotForm
from .hybrid import Known, Metadata, Size, metadata
from .kept_rows import MAX_NUMBERS, KeptRows, over
from .layers import embedding

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "none": lambda x: x}


class SoftmaxNet(CollabModel):
    """logits = O h + b, where h is the network's last layer over the bag of a user's history N (Covington et al. 2016):

        x = |N|^-bag_power sum_{j in N} [e_j, m_j1, m_j2, ...]          bag_power 1: the mean
        h = act(W_2 act(W_1 x)), with the sizes `hidden`

    e_j (n_factors) is the embedding of item j, m_jk that of its metadata of kind k (genres, years ...). `items` has
    (codes, weights, number of features) for each kind and `dims` its dimensions. O is the table of the e_j itself where
    the last of `hidden` is n_factors (unless `tied` is False), otherwise a table of its own. b starts at the logarithm
    of the items' counts. The item features are summed over all items once per batch. Training sums over the entries of
    histories and makes a few logits at a time: no table of users and items.

    `interactions` are the training part's (user rows, item rows), int64 (n,). Each (user, item) pair of a batch is one
    target. With `leave_out` the target is not in its own input, and each row of a batch is a pass of its own; without,
    `FullSoftmax` makes one pass per user. `drop` is the share of the other items that training leaves out at random
    (Liang et al. 2018, "Variational autoencoders for collaborative filtering", section 2.2). In 2 of 100 rows it leaves
    out all, so that an empty history, such as the unknown user's, gets the best scores for an unknown user.

    Reference settings (35 + 3 + 2 dimensions): n_factors=35, dims=(3, 2), hidden=(35,), with Adagrad and bs=200.
    Raises ValueError for another activation, or dims that do not fit items."""

    default_loss = "full_softmax"
    same_input = False

    def __init__(self, n_factors: int, n_users: int, n_items: int, interactions: tuple[Tensor, ...] | None = None,
                 items: Sequence[Known | Size] = (), dims: Sequence[int] = (), hidden: Sequence[int] = (35,),
                 activation: str = "relu", leave_out: bool = True, drop: float = 0.0, bag_power: float = 1.0,
                 init_std: float = 0.05, tied: bool = True):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if len(dims) != len(items):
            raise ValueError(f"dims must have a number for each kind of metadata, got {list(dims)} for {len(items)}")
        if not 0 <= drop < 1:
            raise ValueError(f"drop must be at least 0 and below 1, got {drop!r}")
        self.act, self.leave_out, self.drop, self.bag_power = ACTIVATIONS[activation], leave_out, drop, bag_power
        self.i_in = embedding(n_items, n_factors, init_std)
        self.kinds = nn.ModuleList([made for known, dim in zip(items, dims) if (made := metadata(known, dim))])
        sizes = [n_factors + sum(dims), *hidden]
        self.layers = nn.ModuleList([nn.Linear(n_in, n_out) for n_in, n_out in zip(sizes, hidden)])
        self.tied = tied and sizes[-1] == n_factors
        self.i_out = self.i_in if self.tied else embedding(n_items, sizes[-1], init_std)
        self.i_bias = embedding(n_items, 1)
        self.config |= {"items": [kind.size for kind in self.kinds if isinstance(kind, Metadata)]}
        self.histories = KeptRows()
        self.set_interactions(Interactions.of(interactions, n_users, n_items))
        with torch.no_grad():
            counts = torch.bincount(self.histories.columns, minlength=n_items).float().clamp(min=0.5)
            self.i_bias.weight.copy_((counts / counts.mean()).log()[:, None])

    def set_interactions(self, interactions: Interactions) -> None:
        """Keep the histories of users 1 to n_users - 1; they are not part of the state dict."""
        users, items = (t.to(self.i_in.weight.device) for t in interactions[:2])
        n_users, n_items = interactions.n_users, self.i_in.num_embeddings
        self.histories.keep(Ragged.unique(users, items, None, n_users, n_items))
        if "n_users" in self.config:
            self.config["n_users"] = n_users

    def id_tables(self) -> dict[Side, list[Tensor]]:
        tables = [self.i_in, self.i_bias] if self.tied else [self.i_in, self.i_bias, self.i_out]
        return {"item": [table.weight for table in tables]}

    def param_groups(self) -> list[Group]:
        """Embeddings and layers, which get all of the weight decay, and biases, which get none."""
        biases = [self.i_bias.weight, *(layer.bias for layer in self.layers)]
        rest = [p for p in self.parameters() if all(p is not b for b in biases)]
        return [{"name": "weights", "params": rest}, {"name": "biases", "params": biases, "decay": 0.0}]

    # Scores ------------------------------------------------------------------------------------------------------

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.hidden(users, items) * self.i_out(items)).sum(1) + self.i_bias(items)[:, 0]

    def cross(self, users: Tensor, items: Tensor) -> Tensor:
        return products(self.encode(self.bags(users)), self.i_out(items)) + self.i_bias(items)[:, 0]

    def logits(self, users: Tensor, targets: Tensor, items: Tensor) -> Tensor:
        """The logits of all items, (bs, n_items)."""
        return self.hidden(users, targets) @ self.i_out.weight.T + self.i_bias.weight[:, 0]

    def linear_logits(self, users: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.hidden(users, targets), self.i_out.weight, self.i_bias.weight[:, 0]

    def hidden(self, users: Tensor, targets: Tensor) -> Tensor:
        """The last hidden layer for the rows of a batch, (bs, size). In training it sums over the entries of histories,
        at most MAX_NUMBERS at a time; where there are more, they are gathered again for the gradient."""
        if not self.training:
            return self.encode(self.bags(users))
        ends = self.histories.rows.lengths(users).cumsum(0) // MAX_NUMBERS
        pieces = torch.unique_consecutive(ends, return_counts=True)[1].tolist()
        if len(pieces) == 1:
            return self._summed(users, targets)
        parts = targets.split(pieces) if self.leave_out else [targets] * len(pieces)
        return torch.cat([checkpoint(self._summed, some, mine, use_reentrant=False)
                          for some, mine in zip(users.split(pieces), parts)])

    def encode(self, bags: Tensor) -> Tensor:
        """Weights of items (bs, n_items) -> the last hidden layer."""
        return self._through(products(bags, self._inputs().T).to(bags.dtype))

    def bags(self, users: Tensor, targets: Tensor | None = None) -> Tensor:
        """The input from each user's history, as weights of items (bs, n_items). With the `targets` (bs,) of a training
        batch, these and the dropped items are left out."""
        every = torch.arange(len(users), device=users.device)
        return self._weighed(users, targets).dense(every, self.i_in.num_embeddings)

    def _weighed(self, users: Tensor, targets: Tensor | None = None) -> Ragged:
        """`bags` as rows of their entries."""
        rows, n_items = self.histories.rows, self.i_in.num_embeddings
        at, place = rows.entries(users)
        columns, values = rows.columns[place], rows.values[place].to(self.i_bias.weight)
        if targets is not None:
            if self.leave_out:
                values = values * (columns != targets[at])
            values = values * (uniform(len(users), 1, device=users.device) >= 0.02)[at, 0]
        n = values.new_zeros(len(users)).index_add_(0, at, values).clamp(min=1)
        if targets is not None and self.drop:
            if drawn_for(len(users)) * n_items <= MAX_NUMBERS:     # for each pair, as earlier versions drew them
                drawn = uniform(len(users), n_items, device=users.device)[at, columns]
            else:
                drawn = torch.rand_like(values)
            values = values * (drawn >= self.drop) / (1 - self.drop)
        lengths = rows.lengths(users).cumsum(0)
        return Ragged(torch.cat([lengths.new_zeros(1), lengths]), columns, values / n[at] ** self.bag_power)

    def _summed(self, users: Tensor, targets: Tensor) -> Tensor:
        """`encode(bags(users, targets))` as sums over entries, in a training pass."""
        bags = self._weighed(users, targets)
        bags = bags.where(bags.values != 0)
        return self._through(embedding_bag(bags.columns, self._inputs(), bags.starts[:-1], mode="sum",
                                           per_sample_weights=bags.values))

    def _inputs(self) -> Tensor:
        """The embedding and the metadata of every item, (n_items, size)."""
        every = torch.arange(self.i_in.num_embeddings, device=self.i_in.weight.device)
        return torch.cat([self.i_in.weight, *(kind(every) for kind in self.kinds)], 1)

    def _through(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.act(layer(x))
        return x

    @torch.no_grad()
    def score_new(self, items: Tensor, ratings: Tensor) -> Tensor:
        """A forward pass over the chosen items; their ratings do not count."""
        bag = self.i_bias.weight.new_zeros(1, self.i_in.num_embeddings)
        bag[0, items.to(bag.device)] = 1.0
        bag[0, 0] = 0.0
        hidden = self.encode(bag / bag.sum().clamp(min=1) ** self.bag_power)
        return products(hidden, self.i_out.weight)[0].to(hidden) + self.i_bias.weight[:, 0]

    def factors(self, side: Side) -> Tensor:
        """h of every user, or O."""
        if side == "item":
            return self.i_out.weight
        users = torch.arange(len(self.histories.rows), device=self.i_in.weight.device)
        step = max(1, MAX_NUMBERS // self.i_in.num_embeddings)
        return torch.cat([self.encode(self.bags(some)) for some in users.split(step)])

    @torch.no_grad()
    def dot_form(self) -> DotForm:
        users, items = self.factors("user"), self.i_out.weight.detach()
        return DotForm.of_items(users, items, self.biases("item").detach())

    def with_users(self, interactions: Interactions, kept: Tensor, fresh: Tensor,
                   solved: Callable[[], Tensor]) -> CollabModel:
        return over(self, interactions)
