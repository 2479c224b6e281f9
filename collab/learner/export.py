"""Export a learner's parts to one safetensors file, and load them back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.aside import Aside, WiderVocab
from ..data.batches import TensorBatches
from ..data.databunch import CollabDataBunch, default_device
from ..data.packed import pack, unpack
from ..data.schema import Schema
from ..data.vocab import Vocab, from_json, to_json
from ..errors import DataError
from ..files import Config, read_tensors, reading, write_tensors
from ..models.arguments import class_name
from ..models.base import CollabModel
from ..models.ensemble import Ensemble
from ..models.plain import as_collab
from ..models.rank_ensemble import RankEnsemble
from ..processes import is_main
from ..train.misfit import misfit
from .card import card_path, remove_card, write_card
from .settings import settings_of

if TYPE_CHECKING:
    from .collab_learner import CollabLearner

ENSEMBLES: dict[str, type[Ensemble]] = {cls.__name__: cls for cls in (Ensemble, RankEnsemble)}
TRAIN, HISTORY = ("users", "items", "ratings"), ("losses", "sizes", "lrs", "moms")


class Parts(NamedTuple):
    """The contents of a file; `weights` are not yet loaded into `model`."""

    data: CollabDataBunch       # the training part, and held-out ratings, which are not a validation part
    model: nn.Module
    weights: dict[str, Tensor]
    recipe: Config      # settings: lr, wd, seed
    notes: Config
    history: Config     # the recorder's state


def export(learn: CollabLearner, path: str | Path, card: bool | str, notes: Mapping[str, Any]) -> Path:
    """See `CollabLearner.export`."""
    if not is_main():
        return Path(path)
    text = learn.card(notes=notes, file=path) if card is True else card     # before: what fails has written nothing
    written = save_parts(path, learn.model, learn.data, settings_of(learn), {**learn.notes, **notes},
                         learn.recorder.state_dict())
    if isinstance(text, str):
        write_card(card_path(path), text)
    else:
        remove_card(card_path(path))        # it tells of the model before
    return written


def save_parts(path: str | Path, model: nn.Module, data: CollabDataBunch, recipe: Config,
               notes: Config, history: Config) -> Path:
    """Write the model's state and configuration, settings, vocabs, item metadata, training and held-out ratings, and
    the recorder's state without seconds, so that the same seed gives the same file."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history["rows"]]
    config = {"model": class_name(type(model)), "recipe": recipe, "notes": notes, "bs": data.train.bs,
              "shuffle": data.train.shuffle, "model_config": as_collab(model).stored_config(), "seed": data.seed,
              "users": data.users.to_state(), "items": data.items.to_state(), "item_table": pack(data.item_table),
              "title_name": to_json(data.title_name),
              "schema": {role: to_json(name) for role, name in data.schema.roles().items()},
              "implicit": data.implicit, "threshold": data.threshold,
              "beyond": {side: wide.more and wide.more.to_state()       # ids that only held-out ratings have
                         for side, wide in (("users", data.aside.users), ("items", data.aside.items))},
              "history": {"rows": rows, "ends": history["ends"], "start": history["start"], "seconds": 0.0,
                          **{key: history[key] for key in ("put_back",) if key in history}}}
    tensors = {f"model.{key}": t for key, t in model.state_dict().items()}
    tensors |= {f"train.{key}": t for key, t in zip(TRAIN, data.train.tensors)}
    tensors |= {f"aside.{key}": t for key, t in zip(TRAIN, data.aside.joined())}
    tensors |= {f"history.{key}": history[key] for key in HISTORY}
    tensors |= {f"part.{name}": t for name, t in history["parts"].items()}
    return write_tensors(path, tensors, config)


def load_parts(path: str | Path, model: nn.Module | None = None, device: torch.device | str | None = None) -> Parts:
    """Load the parts that `save_parts` wrote, with the model that the file names or the given one, whose weights take
    the types of the file's.

    Raises FileNotFoundError, DataError for a file of another kind or a damaged one, or ValueError where the model
    cannot be built."""
    tensors, config = read_tensors(path)
    with reading(path):
        return _parts(path, tensors, config, model, device)


def _parts(path: str | Path, tensors: dict[str, Tensor], config: Config, model: nn.Module | None,
           device: torch.device | str | None) -> Parts:
    device = default_device() if device is None else torch.device(device)
    users, items = Vocab.from_state(config["users"]), Vocab.from_state(config["items"])
    rows = [tensors[f"train.{name}"] for name in TRAIN]
    _check_rows(path, rows, {"n_users": len(users), "n_items": len(items)}, config["model_config"] or {})
    train = TensorBatches(*rows, bs=config["bs"], seed=config["seed"], shuffle=config["shuffle"], device=device,
                          shape=(len(users), len(items)))
    more = {side: state and Vocab.from_state(state) for side, state in config["beyond"].items()}
    wide = WiderVocab(users, more["users"]), WiderVocab(items, more["items"])
    known: Any = tuple(tensors[f"aside.{name}"] for name in TRAIN)
    _check_rows(path, known, {"n_users": len(wide[0]), "n_items": len(wide[1])}, {})
    data = CollabDataBunch(train, None, None, users, items,
                           item_table=unpack(config["item_table"]), seed=config["seed"], device=device,
                           title_name=from_json(config["title_name"]),
                           implicit=config["implicit"], threshold=config["threshold"],
                           schema=Schema(**{role: from_json(name) for role, name in config["schema"].items()}),
                           aside=Aside(*wide, {"file": known}))
    weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    model = _rebuild(path, config, len(users)) if model is None else model
    _take_types(model, weights)
    load_weights(path, model, weights, config["model"])     # before anything else uses the model: it may not fit
    history = config["history"] | {key: tensors[f"history.{key}"] for key in HISTORY}
    history["parts"] = {name.removeprefix("part."): t for name, t in tensors.items() if name.startswith("part.")}
    return Parts(data, model, weights, config["recipe"], config["notes"], history)


def _check_rows(path: str | Path, rows: list[Tensor], sizes: dict[str, int], model: Config) -> None:
    """Raise DataError where rows of ratings, or sizes in the model's configuration, do not fit the ids."""
    for (name, n), some in zip(sizes.items(), rows):
        if some.dtype != torch.int64 or (len(some) and not 0 <= int(some.min()) <= int(some.max()) < n):
            raise DataError(f"{path} is damaged: its ratings have rows outside its {n:,} {name[2:]}")
        if model.get(name, n) != n:
            raise DataError(f"{path} is damaged: its model has {name}={model[name]!r}, but it holds {n:,} ids")


def _take_types(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Make the model's weights double or half where those to be loaded are."""
    floats = {name: t.dtype for name, t in weights.items() if t.is_floating_point()}
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    other = {name: dtype for name, dtype in floats.items() if name in own and own[name].dtype != dtype}
    if other and len(set(floats.values())) == 1:        # what is not in the file follows the rest
        model.to(next(iter(other.values())))
    for name, dtype in other.items():
        own[name].data = own[name].data.to(dtype)


def load_weights(path: str | Path, model: nn.Module, weights: dict[str, Tensor],
                 saved_class: str | None = None) -> None:
    """Load weights that were read from `path`, of a model of `saved_class`, into the model. Raises ValueError where
    they do not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        why = misfit(weights, model, saved_class) or error
        raise ValueError(f"the weights in {path} do not fit {type(model).__name__}: {why}; build the model with the "
                         "class and arguments of the one that was exported") from None


def _rebuild(path: str | Path, config: Config, n_users: int) -> nn.Module:
    name, given = config["model"], config["model_config"]
    if given is None or name not in {**CollabModel.registry, **ENSEMBLES}:
        what = "a member of which" if name in ENSEMBLES else "which"
        why = (f"{what} is a plain module, or was built from more than numbers, text and lists;" if given is None else
               "which is not collab's own and not imported here: import it, or")
        raise ValueError(f"{path} holds a model of the class {name}, {why} build it and pass it: "
                         f"load_learner(path, model={name.rpartition('.')[2]}(...))")
    with torch.random.fork_rng(devices=[]):     # building draws initial weights, which are replaced
        return _made(path, name, given, n_users)


def _made(path: str | Path, name: str, config: Config, n_users: int) -> nn.Module:
    if name in ENSEMBLES:
        members = [_made(path, **member, n_users=n_users) for member in config["members"]]
        return RankEnsemble(members, n_users) if name == RankEnsemble.__name__ else Ensemble(members)
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    try:
        return CollabModel.registry[name](**options)
    except TypeError as error:
        raise ValueError(f"{name} cannot be built from its configuration in {path} ({error}); build it and pass it: "
                         f"load_learner(path, model={name.rpartition('.')[2]}(...))") from None
