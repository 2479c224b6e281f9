"""Files of tensors and JSON: written whole or not at all, and read without executing anything."""

from __future__ import annotations

import glob
import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

if sys.platform != "win32":
    import fcntl

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
    old file, if any, is what it was. What a process that was killed has left of an earlier write to this path is
    removed. Folders that are missing are made. Raises OSError where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    with ExitStack() as stack:
        while True:
            part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
            file = stack.enter_context(open(part, "xb"))
            _lock(file)
            if part.exists():               # or another writer took it for one that was left, before it was locked
                break
            file.close()
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":
                file.close()                # it renames no open file, and lets nobody remove one
            os.replace(part, path)          # elsewhere still locked, so that nobody takes it for one that was left
        except BaseException:
            file.close()
            part.unlink(missing_ok=True)
            raise


def _lock(file: BinaryIO) -> None:
    """Lock a file for as long as it is open: the system ends the lock with the process. On a file system without locks
    it stays unlocked, and nobody removes what is left there."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)


def _remove_left(path: Path) -> None:
    """Remove the unfinished files of this path that no process has open any more."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
        with suppress(OSError):             # one that is locked, open (on Windows) or gone
            if sys.platform == "win32":
                part.unlink()
            else:
                with open(part, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    part.unlink()


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

