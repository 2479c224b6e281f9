"""The file of an index: its parts as tensors and JSON, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..data.packed import pack, unpack
from ..data.rating_rules import RatingRules
from ..data.schema import Schema
from ..data.vocab import Vocab, from_json, to_json
from ..errors import DataError
from ..files import Config, read_tensors, reading, write_tensors
from ..models.dot_form import DotForm, Prior, Ridge
from .equations import Equations
from .exact_loss import KINDS, ExactLoss
from .fold_in_ranking import RankedFolding

if TYPE_CHECKING:
    from .index import Index

Parts = dict[str, Any]


def write_index(index: Index, path: str | Path) -> Path:
    """Write the parts of an index to one safetensors file. Raises DataError for a column that a file cannot hold."""
    tensors = {"items": index.items, **({} if index.users is None else {"users": index.users})}
    schema, own = index.rules.schema, index.equations
    fold_in: Config = {"ridge": [*own.ridge[:4]] if isinstance(own, Equations) else None, "ranked": None,
                       "implicit": index.rules.implicit, "threshold": index.rules.threshold,
                       "columns": [to_json(name) for name in (schema.user, schema.item, schema.rating)]}
    if own is not None:
        tensors |= {"average": own.form.average, **({} if own.pull is None else {"pull": own.pull})}
    if isinstance(own, Equations) and own.ridge.prior is not None:
        tensors |= {f"prior.{name}": t for name, t in own.ridge.prior._asdict().items()}
    if isinstance(own, RankedFolding):
        tensors["share"] = own.loss.share
        loss = {name: value for name, value in own.loss._asdict().items() if name != "share"}
        fold_in["ranked"] = {"loss": loss, "ridge": own.ridge, "mean": own.mean, "mu": own.form.mu,
                             "unit": own.form.unit}
    try:
        table = None if index.table is None else pack(index.table)
    except DataError as error:
        raise DataError(f"{error}; or choose which columns an index keeps: learn.index(columns=[...])") from None
    config = {"items": index.item_ids.to_state(), "titles": index.titles, "y_range": index.y_range,
              "users": index.user_ids and index.user_ids.to_state(), "scale": index.scale,
              "method": index.method, "fold_in": fold_in, "step": index.rules.step,
              "known_of_items": {"table": table, "n_factors": index.n_factors}}
    return write_tensors(path, tensors, config, kind="index")


def read_index(path: str | Path) -> Parts:
    """The arguments of `Index` that `write_index` wrote, and in "older" what its version did not write. Raises
    FileNotFoundError, or DataError for another file or a damaged one."""
    tensors, config = read_tensors(path, kind="index")
    with reading(path):
        users, items = config["users"] and Vocab.from_state(config["users"]), Vocab.from_state(config["items"])
        y_range, scale = (r and (float(r[0]), float(r[1])) for r in (config["y_range"], config["scale"]))
        titles, vectors, queries = config["titles"], tensors["items"], tensors.get("users")
        if len(vectors) != len(items) or (titles is not None and len(titles) != len(items) - 1) or (
                (None if users is None else len(users)) != (None if queries is None else len(queries))):
            raise DataError(f"{path} is damaged: it has other numbers of vectors or titles than of ids")
        if vectors.dim() != 2 or (queries is not None and queries.shape[1:] != vectors.shape[1:]):
            raise DataError(f"{path} is damaged: its vectors of users and items are not of one width")
        rules, fold_in, known = None, config.get("fold_in"), config.get("known_of_items")
        if fold_in is not None:
            rules = RatingRules(Schema(*map(from_json, fold_in["columns"])), fold_in["implicit"],
                                fold_in["threshold"], scale, config.get("step"))
        ridge = fold_in and fold_in["ridge"]        # of before there was a prior: other numbers, by another rule
        lacks = {"fold_in": fold_in is None or "ranked" not in fold_in if ridge is None else len(ridge) != 4,
                 "table": known is None}
        return {"items": vectors, "item_ids": items, "titles": titles, "users": queries, "user_ids": users,
                "y_range": y_range, "scale": scale, "method": config["method"], "rules": rules,
                "equations": None if fold_in is None or lacks["fold_in"] else _folding(path, tensors, fold_in, y_range),
                "n_factors": known and known["n_factors"], "table": known and known["table"] and unpack(known["table"]),
                "older": {name for name, lacking in lacks.items() if lacking}}


def form_of(items: Tensor, average: Tensor, like: DotForm) -> DotForm:
    """The tables that items' vectors were made of, with the average user alone (see `DotForm.item_vectors`): `mu`,
    `y_range` and `unit` are those of `like`."""
    average = average.detach().to("cpu")
    if items.shape[1] == len(average):
        return like._replace(users=average[None], items=items, u_bias=None, i_bias=None)
    return like._replace(users=average[None, :-1], items=items[:, :-2], u_bias=average[-1:],
                         i_bias=items[:, -2] - like.mu)


def _check_folding(path: str | Path, tensors: dict[str, Tensor], ranked: Config | None) -> None:
    """Raise DataError for tensors of other shapes than the vectors' width and number ask for, and for an unknown
    objective."""
    items, n = tensors["items"], len(tensors["average"])
    n_items, width = items.shape
    biased = n == width - 1 and bool((items[:, -1] == 1).all())         # see `DotForm.item_vectors`
    shapes = {"average": (width - biased,), "pull": (n, n), "prior.axes": (n, n), "prior.least": (n,),
              "share": (n_items,)}
    for name, shape in shapes.items():
        if name in tensors and tensors[name].shape != shape:
            raise DataError(f"{path} is damaged: {name!r} has the shape {(*tensors[name].shape,)}, not {shape}")
    if ranked is not None:
        kind, draws = ranked["loss"]["kind"], ranked["loss"]["draws"]
        if kind not in KINDS or (kind == "logistic" and draws is None):
            raise DataError(f"{path} is damaged: there is no objective {kind!r} with draws {draws!r}")


def _folding(path: str | Path, tensors: dict[str, Tensor], fold_in: Config,
             y_range: tuple[float, float] | None) -> Equations | RankedFolding | None:
    ranked = fold_in.get("ranked")
    if fold_in["ridge"] is None and ranked is None:
        return None
    _check_folding(path, tensors, ranked)
    items, average = tensors["items"], tensors["average"]
    if ranked is None:
        factors, bias, power, alpha = fold_in["ridge"]
        known = {name: t for name in Prior._fields if (t := tensors.get(f"prior.{name}")) is not None}
        ridge = Ridge(factors, bias, power, alpha, Prior(**known) if known else None)
        return Equations(form_of(items, average, DotForm(average, items, y_range=y_range)), ridge, tensors.get("pull"))
    like = DotForm(average, items, mu=ranked["mu"], y_range=y_range, unit=ranked["unit"])
    loss = ExactLoss(**{**ranked["loss"], "share": tensors["share"]})
    return RankedFolding(form_of(items, average, like), loss, ranked["ridge"], tensors.get("pull"), ranked["mean"])
