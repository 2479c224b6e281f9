"""Files of tensors and JSON: written whole or not at all, and read without executing anything."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

FORMAT, CONFIG = "collab", "config.json"


def write_tensors(path: str | Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> Path:
    """One safetensors file of `tensors`, and `config` as JSON: a killed process leaves the old file or the new one.

    Folders that are missing are made. Raises OSError where the file cannot be written, TypeError before that for a
    configuration that JSON does not know."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it")
    packed = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}    # tied ones part
    packed[CONFIG] = torch.frombuffer(bytearray(json.dumps(config, default=_plain).encode()), dtype=torch.uint8)
    return write_bytes(path, save(packed, metadata={"format": FORMAT}))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all; folders that are missing are made. Raises OSError where it cannot be."""
    with whole_file(path) as file:
        file.write(content)
    return path


def not_a_folder(path: Path) -> None:
    """Raises IsADirectoryError where no file can be written because there is a folder of that name."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to be written piece by piece that takes its name when all of it is there: after an error or Ctrl-C the
    old file, if any, is what it was. Folders that are missing are made. Raises OSError where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_tensors(path: str | Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, config) of a file that `write_tensors` wrote.

    Raises FileNotFoundError, or ValueError for a file of another kind or one that was cut off."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.absolute()}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            if (file.metadata() or {}).get("format") != FORMAT:
                raise ValueError(f"{path} is a safetensors file, but it was not written by collab")
            names = file.keys()         # the file itself cannot be iterated over
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a model file, or it was cut off: {error}") from None
    if CONFIG not in tensors:
        raise ValueError(f"{path} is not a model file: it holds no {CONFIG}")
    return tensors, json.loads(tensors.pop(CONFIG).cpu().numpy().tobytes())


def write_tree(path: str | Path, tree: Any) -> Path:
    """Write nested dicts, lists and tuples of tensors, arrays and plain values. Raises TypeError for anything else."""
    tensors: dict[str, Tensor] = {}
    return write_tensors(path, tensors, {"tree": _pack(tree, tensors)})


def read_tree(path: str | Path) -> Any:
    """What `write_tree` wrote; arrays come back as tensors. Raises as `read_tensors` does."""
    tensors, config = read_tensors(path)
    if "tree" not in config:
        raise ValueError(f"{path} is no checkpoint; a model that was exported is read with load_learner(path)")
    return _unpack(config["tree"], tensors)


# JSON has lists and text keys only, and no tensors: what it lacks is written as {"type": ..., ...}.


def _pack(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, np.ndarray):
        node = torch.from_numpy(node)
    if isinstance(node, Tensor):
        tensors[name := f"tensor.{len(tensors)}"] = node
        return {"type": "tensor", "name": name}
    if isinstance(node, dict):
        return {"type": "dict", "items": [[_pack(k, tensors), _pack(v, tensors)] for k, v in node.items()]}
    if isinstance(node, tuple):
        return {"type": "tuple", "items": [_pack(v, tensors) for v in node]}
    return [_pack(v, tensors) for v in node] if isinstance(node, list) else node


def _unpack(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_unpack(v, tensors) for v in node]
    if not isinstance(node, dict):
        return node
    if node["type"] == "tensor":
        return tensors[node["name"]]
    if node["type"] == "tuple":
        return tuple(_unpack(v, tensors) for v in node["items"])
    return {_unpack(k, tensors): _unpack(v, tensors) for k, v in node["items"]}


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy and torch as what JSON knows."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written to a file; use text, numbers or lists")

