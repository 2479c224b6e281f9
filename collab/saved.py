"""The one-file form of a trained learner: its parts to a safetensors file and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from .data.batches import TensorBatches
from .data.databunch import CollabDataBunch, default_device
from .data.vocab import Vocab, from_json, to_json
from .models.embedding import EmbeddingDot, EmbeddingDotBias, EmbeddingNet
from .train.checkpoint import read_tensors, write_tensors

VERSION = 1
MODELS: dict[str, type[nn.Module]] = {cls.__name__: cls for cls in (EmbeddingDot, EmbeddingDotBias, EmbeddingNet)}


def save_parts(path: str | Path, model: nn.Module, data: CollabDataBunch, notes: dict[str, Any]) -> Path:
    """Write the model's state and configuration, the vocabs, the item metadata and the training ratings."""
    config = {"version": VERSION, "model": type(model).__name__, "model_config": getattr(model, "config", None),
              "users": data.users.to_state(), "items": data.items.to_state(), "item_table": _pack(data.item_table),
              "bs": data.train.bs, "seed": data.seed, "notes": notes}
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    tensors |= {f"train.{name}": t for name, t in zip(("users", "items", "ratings"), data.train.tensors)}
    return write_tensors(path, tensors, config)


def load_parts(path: str | Path, model: nn.Module | None = None, device: torch.device | str | None = None,
               ) -> tuple[CollabDataBunch, nn.Module, dict[str, Any]]:
    """(data, model, notes) of a file that `save_parts` wrote. The data has the training part only.

    Raises FileNotFoundError, or ValueError where the file is of another kind or does not fit the model."""
    tensors, config = read_tensors(path)
    if config.get("version") != VERSION:
        raise ValueError(f"{path} has format version {config.get('version')}; this collab reads version {VERSION}")
    device = default_device() if device is None else torch.device(device)
    train = TensorBatches(*(tensors[f"train.{name}"] for name in ("users", "items", "ratings")), bs=config["bs"],
                          shuffle=True, seed=config["seed"], device=device)
    data = CollabDataBunch(train, None, None, Vocab.from_state(config["users"]), Vocab.from_state(config["items"]),
                           _unpack(config["item_table"]), seed=config["seed"], device=device)
    model = _rebuild(path, config) if model is None else model
    state = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit {type(model).__name__}: {error}") from None
    return data, model, config["notes"]


def _rebuild(path: str | Path, config: dict[str, Any]) -> nn.Module:
    name = config["model"]
    if name not in MODELS or config["model_config"] is None:
        raise ValueError(f"{path} holds a model of the class {name}, which is not collab's own; "
                         f"build it and pass it: load_learner(path, model={name}(...))")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in config["model_config"].items()}
    with torch.random.fork_rng(devices=[]):     # building draws initial weights, which are replaced
        return MODELS[name](**options)


def _pack(table: pd.DataFrame) -> dict[str, Any]:
    columns = {str(name): [None if missing else to_json(value) for value, missing in zip(column, column.isna())]
               for name, column in table.items()}
    return {"ids": [to_json(id) for id in table.index], "columns": columns,
            "dtypes": {str(name): str(dtype) for name, dtype in table.dtypes.items()}}


def _unpack(packed: dict[str, Any]) -> pd.DataFrame:
    index = pd.Index([from_json(id) for id in packed["ids"]], tupleize_cols=False)
    columns = {name: pd.Series([from_json(v) for v in values], index=index, dtype=object)
               for name, values in packed["columns"].items()}
    return pd.DataFrame({name: column.astype(packed["dtypes"][name]) for name, column in columns.items()}, index=index)
