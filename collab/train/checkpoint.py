"""Files of tensors and JSON: written whole or not at all, and read without executing anything."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

FORMAT, CONFIG = "collab", "config.json"


def write_tensors(path: str | Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> Path:
    """One safetensors file of `tensors`, and `config` as JSON: a killed process leaves the old file or the new one.

    Raises OSError where the folder cannot be written to."""
    path = Path(path)
    packed = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    packed[CONFIG] = torch.frombuffer(bytearray(json.dumps(config).encode()), dtype=torch.uint8)
    content = save(packed, metadata={"format": FORMAT})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


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
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a model file, or it was cut off: {error}") from None
    return tensors, json.loads(tensors.pop(CONFIG).cpu().numpy().tobytes())


