"""Files are written piece by piece, and are those of safetensors to the byte."""

import json
import tracemalloc

import pytest
import torch
from safetensors.torch import load, save

from collab import files
from collab.files import BLANK, CHECKSUM, CONFIG, read_tensors, write_tensors


@pytest.mark.parametrize("piece", [1, 50, files.PIECE])
def test_the_bytes_are_those_of_safetensors(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(files, "PIECE", piece)
    tensors = {f"{k} ä\"{name}": torch.arange(6).reshape(2, 3).to(dtype)
               for k, dtype in enumerate(files.DTYPES) for name in "ba"}
    tensors |= {"number": torch.tensor(2.5), "none": torch.empty(0, 4), "turned": torch.arange(12.0).view(3, 4).T,
                "half": torch.ones((), dtype=torch.bfloat16), "part": torch.arange(20)[::3]}
    written = write_tensors(tmp_path / "file", tensors, {"a": [1, None]}).read_bytes()
    config = json.dumps({"kind": "model", "version": files.VERSIONS["model"], "a": [1, None]}).encode()
    packed = {name: t.contiguous().clone() for name, t in tensors.items()}
    right = save({**packed, CONFIG: torch.frombuffer(bytearray(config), dtype=torch.uint8)}, {CHECKSUM: BLANK})
    at = right.index(BLANK.encode())
    assert written[:at] == right[:at] and written[at + 64:] == right[at + 64:]
    back, _ = read_tensors(tmp_path / "file")
    assert all(torch.equal(back[name], t) for name, t in tensors.items())
    assert torch.equal(load(written)["turned"], tensors["turned"])


def test_a_table_is_written_without_a_copy_of_it(tmp_path, monkeypatch):
    """Bytes of Python are traced: with a copy there would be 8 MB."""
    monkeypatch.setattr(files, "PIECE", 1 << 16)
    table = torch.zeros(2_000_000)
    tracemalloc.start()
    try:
        write_tensors(tmp_path / "file", {"table": table}, {})
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_a_file_cannot_hold_is_named_before_it_is_opened(tmp_path):
    with pytest.raises(TypeError, match="table is of torch.complex128, which a file cannot hold"):
        write_tensors(tmp_path / "file", {"table": torch.zeros(2, dtype=torch.complex128)}, {})
    assert not [*tmp_path.iterdir()]
