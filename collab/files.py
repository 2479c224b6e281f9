"""Files of tensors and JSON: written whole or not at all, and read without executing anything.

Each is a safetensors file whose header holds the SHA-256 of all its bytes, with zeros in place of the checksum itself.
Tensors are copied as they are read: overwriting or truncating the file later does not change them."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from .errors import DataError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

CONFIG, CHECKSUM, BLANK = "config.json", "collab.sha256", "0" * 64
PIECE = 1 << 26         # bytes that are written at a time
DTYPES = {torch.int64: "I64", torch.float64: "F64", torch.complex64: "C64", torch.float32: "F32", torch.int32: "I32",
          torch.bfloat16: "BF16", torch.float16: "F16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
          torch.bool: "BOOL"}
"""The names of safetensors for what it holds, in the order of its files."""
VERSIONS = {"model": 3, "index": 2, "checkpoint": 2}
Config = dict[str, Any]
Tree = Any          # nested dicts, lists and tuples of tensors, arrays and plain values
READERS = {"model": "a model that was exported; read it with load_learner(path)", "index": "an index; read it with "
           "Index.load(path)", "checkpoint": "a checkpoint of a learner; put it back with learn.load(path)"}


def write_tensors(path: str | Path, tensors: dict[str, Tensor], config: Config, *, kind: str = "model") -> Path:
    """Write `tensors`, and `config` as JSON, to one safetensors file: a killed process leaves the old file or the new.
    `kind` is "model", "index" or "checkpoint", and is written together with the version of its format.

    Missing folders are made. Raises OSError if the file cannot be written and, before that, TypeError for a
    configuration that JSON cannot hold."""
    path = Path(path)
    not_a_folder(path)
    config = {"kind": kind, "version": VERSIONS[kind], **config}
    as_json = torch.frombuffer(bytearray(json.dumps(config, default=plain_value).encode()), dtype=torch.uint8)
    packed = _in_order({**{name: t.detach() for name, t in tensors.items()}, CONFIG: as_json})
    head = _header(packed)
    with whole_file(path) as file:
        digest = hashlib.sha256(head)
        file.write(head)
        for t in packed.values():
            for part in _bytes(t):
                digest.update(part)
                file.write(part)
        file.seek(head.index(BLANK.encode(), head.index(CHECKSUM.encode())))
        file.write(digest.hexdigest().encode())
    return path


def _in_order(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors orders them, so that each begins at a multiple of its numbers' size. Raises TypeError
    for a dtype that it does not have."""
    for name, t in tensors.items():
        if t.dtype not in DTYPES:
            raise TypeError(f"{name} is of {t.dtype}, which a file cannot hold")
    kinds = [*DTYPES]
    return dict(sorted(tensors.items(), key=lambda item: (kinds.index(item[1].dtype), item[0])))


def _header(tensors: dict[str, Tensor]) -> bytes:
    """The first bytes of a safetensors file: the length of its JSON, and the JSON, which says where each tensor is."""
    entries: dict[str, Any] = {"__metadata__": {CHECKSUM: BLANK}}
    begin = 0
    for name, t in tensors.items():
        end = begin + t.numel() * t.element_size()
        entries[name] = {"dtype": DTYPES[t.dtype], "shape": [*t.shape], "data_offsets": [begin, end]}
        begin = end
    told = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    told += b" " * (-len(told) % 8)
    return len(told).to_bytes(8, "little") + told


def _bytes(t: Tensor) -> Iterator[memoryview]:
    """A tensor's bytes, some PIECE at a time: a table may be larger than the memory that is free, out of a file."""
    rows = t.reshape(1) if not t.dim() else t
    size = max(1, rows[:1].numel() * t.element_size())
    for part in rows.split(max(1, PIECE // size)):
        if part.numel():
            flat = part.cpu().contiguous().as_strided((part.numel(),), (1,))     # one number may have any stride
            yield flat.view(torch.uint8).numpy().data


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all, and make missing folders. Raises OSError if it cannot be written."""
    with whole_file(path) as file:
        file.write(content)
    return path


def not_a_folder(path: Path) -> None:
    """Raise IsADirectoryError if `path` is a folder, and so cannot be written as a file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written piece by piece, which takes its name once it is complete: after an error or Ctrl-C the
    old file, if any, is still there. Removes what a killed process has left of an earlier write to this path.

    Missing folders are made. Raises OSError if the file cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    with ExitStack() as stack:
        while True:
            part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
            file = stack.enter_context(open(part, "xb"))
            _lock(file)
            if part.exists():               # or else another writer removed it as abandoned, before it was locked
                break
            file.close()
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":
                file.close()                # Windows neither renames nor removes open files
            os.replace(part, path)          # elsewhere still locked, so that no other writer removes it as abandoned
        except BaseException:
            file.close()
            part.unlink(missing_ok=True)
            raise


def _lock(file: BinaryIO) -> None:
    """Lock a file for as long as it is open: the system ends the lock with the process. On a file system without locks
    it stays unlocked, and unfinished files stay there."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)


@contextmanager
def alone_with(path: Path) -> Iterator[bool]:
    """Whether no other process, nor another part of this one, is inside a `with` of the same path: a lock on a file
    beside it, `.NAME.lock`, which the system ends with the process. True on a file system without locks."""
    lock, alone = path.with_name(f".{path.name}.lock"), False
    try:
        while not alone:
            with open(lock, "ab") as file:
                if not _free(file):
                    yield False
                    return
                with suppress(FileNotFoundError):
                    alone = os.path.samestat(lock.stat(), os.fstat(file.fileno()))      # not one just removed
                if alone:
                    try:
                        yield True
                    finally:
                        if sys.platform != "win32":
                            lock.unlink(missing_ok=True)
    finally:
        if sys.platform == "win32" and alone:
            with suppress(OSError):             # another process has opened it since it was closed here
                lock.unlink()


def _free(file: BinaryIO) -> bool:
    """Lock a file, for as long as it is open, unless it is locked already; True too where a file system has no
    locks."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter on Windows
        return False
    except OSError:
        pass
    return True


def _remove_left(path: Path) -> None:
    """Remove unfinished files of this path that no process has open."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):
        with suppress(OSError):             # one that is locked, open (on Windows) or gone
            if sys.platform == "win32":
                part.unlink()
            else:
                with open(part, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    part.unlink()


def read_tensors(path: str | Path, *, kind: str = "model") -> tuple[dict[str, Tensor], Config]:
    """Read (tensors, config) from a file of that kind that `write_tensors` wrote.

    Raises FileNotFoundError; DataError for a file of another kind or version, or with a byte missing or changed."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.absolute()}")
    content = path.read_bytes()
    _check_written(path, content)
    with reading(path):
        loaded = load(content)
        del content
        tensors = {name: loaded.pop(name).clone() for name in list(loaded)}     # aligned like all others
        config = json.loads(tensors.pop(CONFIG).numpy().tobytes())
        found, version = config.pop("kind"), config.pop("version")
    if found != kind:
        raise DataError(f"{path} is {READERS.get(found, f'a file of the kind {found!r}')}")
    if version != VERSIONS[kind]:
        newer = isinstance(version, int) and version > VERSIONS[kind]
        raise DataError(f"{path} has format version {version}, but this collab reads version {VERSIONS[kind]}"
                        + ("; update collab" if newer else "; export it again, with this one"))
    return tensors, config


def kind_of(path: str | Path) -> str | None:
    """The kind of a file that `write_tensors` wrote, without reading its tensors; None for any other file, and none."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > Path(path).stat().st_size:
                return None
            begin, end = json.loads(file.read(length))[CONFIG]["data_offsets"]
            file.seek(8 + length + begin)
            kind = json.loads(file.read(end - begin))["kind"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None         # whoever reads it says what is wrong
    return kind if isinstance(kind, str) else None


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Raise whatever goes wrong inside, where a file's content is taken apart, as a DataError that names the file."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path} does not hold what such a file must ({type(error).__name__}: {error}); it was written "
                        "by something else, or changed since; export it again") from error


def _check_written(path: Path, content: bytes) -> None:
    """Raise DataError unless every byte is as `write_tensors` wrote it."""
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:end])
    except (RecursionError, ValueError):
        header = None
    if not isinstance(header, dict):
        raise DataError(f"{path} is not a model file, index or checkpoint, or it was cut off")
    marks = header.get("__metadata__")
    if not isinstance(marks, dict) or not isinstance(mark := marks.get(CHECKSUM), str):
        raise DataError(f"{path} is a safetensors file, but it was not written by collab, or not by this version")
    at = content.find(mark.encode(errors="replace"), 0, end)
    if len(mark) != len(BLANK) or at < 0 or _checksum(content, at) != mark:
        raise DataError(f"{path} is damaged, or it was cut off: its bytes are not those that were written (their "
                        "checksum differs); copy or export it again")


def _checksum(content: bytes, at: int) -> str:
    """SHA-256 of the content, with zeros in place of the checksum that begins at byte `at`."""
    digest = hashlib.sha256(memoryview(content)[:at])
    digest.update(BLANK.encode())
    digest.update(memoryview(content)[at + len(BLANK):])
    return digest.hexdigest()


def write_tree(path: str | Path, tree: Tree) -> Path:
    """Write nested dicts, lists and tuples of tensors, arrays and plain values. Raises TypeError for anything else."""
    tensors: dict[str, Tensor] = {}
    return write_tensors(path, tensors, {"tree": _pack(tree, tensors)}, kind="checkpoint")


def read_tree(path: str | Path) -> Tree:
    """Read what `write_tree` wrote; arrays come back as tensors. Raises what `read_tensors` raises."""
    tensors, config = read_tensors(path, kind="checkpoint")
    with reading(path):
        return _unpack(config["tree"], tensors)


# JSON has only lists and text keys, and no tensors: everything else is written as {"type": ..., ...}.


def _pack(node: Tree, tensors: dict[str, Tensor]) -> object:
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


def _unpack(node: Tree, tensors: dict[str, Tensor]) -> Tree:
    if isinstance(node, list):
        return [_unpack(v, tensors) for v in node]
    if not isinstance(node, dict):
        return node
    if node["type"] == "tensor":
        return tensors[node["name"]]
    if node["type"] == "tuple":
        return tuple(_unpack(v, tensors) for v in node["items"])
    return {_unpack(k, tensors): _unpack(v, tensors) for k, v in node["items"]}


@runtime_checkable
class _Listable(Protocol):
    def tolist(self) -> object: ...


def plain_value(value: object) -> object:
    """Numbers and arrays of numpy and torch as numbers and lists."""
    if isinstance(value, _Listable):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written to a file; use text, numbers or lists")
