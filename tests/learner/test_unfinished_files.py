"""A process that is killed while it writes leaves an unfinished file: the next write to that path removes it, and never
that of a writer who is at work."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

from collab.files import read_tree, whole_file, write_tree

WRITER = """
import sys
from pathlib import Path
from collab.files import whole_file

with whole_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    sys.stdin.readline()
"""
LEFT = ".m.0123abcd.part"


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of a write to the path."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "m")], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "written\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_what_a_killed_process_left_is_removed_by_the_next_write(writer, tmp_path):
    (tmp_path / LEFT).write_bytes(b"older")
    writer.kill()
    writer.communicate()
    assert len(names(tmp_path)) == 2 and not (tmp_path / "m").exists()
    write_tree(tmp_path / "m", {"a": torch.arange(3)})
    assert names(tmp_path) == ["m"] and read_tree(tmp_path / "m")["a"].tolist() == [0, 1, 2]


def test_a_writer_at_work_in_another_process_is_left_alone(writer, tmp_path):
    (part,) = names(tmp_path)
    write_tree(tmp_path / "m", {"a": 1})
    assert names(tmp_path) == [part, "m"]
    writer.stdin.write("\n")
    writer.stdin.flush()
    assert writer.wait() == 0
    assert names(tmp_path) == ["m"] and (tmp_path / "m").read_bytes() == b"half"        # the last one to finish


def test_writers_in_several_threads_leave_each_other_alone(tmp_path):
    failed = []

    def write(content):
        try:
            for _ in range(50):
                with whole_file(tmp_path / "m") as file:
                    file.write(content)
        except OSError as error:
            failed.append(error)
    threads = [threading.Thread(target=write, args=(bytes([k]) * 1000,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and names(tmp_path) == ["m"] and len(set((tmp_path / "m").read_bytes())) == 1


def test_unfinished_files_of_other_paths_are_left_alone(tmp_path):
    others = [".m.0123abcd.part.txt", ".m.2.0123abcd.part", ".mm.0123abcd.part", ".m.0123abcx.part", "m.0123abcd.part"]
    for name in [*others, LEFT]:
        (tmp_path / name).write_bytes(b"")
    write_tree(tmp_path / "m", {})
    assert names(tmp_path) == sorted([*others, "m"])
    write_tree(tmp_path / "[m]*", {})                       # nothing in a name is a pattern
    assert names(tmp_path) == sorted([*others, "m", "[m]*"])


def test_without_locks_a_file_is_written_and_nothing_is_removed(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError("no locks available")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / LEFT).write_bytes(b"")
    write_tree(tmp_path / "m", {"a": 1})
    assert names(tmp_path) == [LEFT, "m"] and read_tree(tmp_path / "m") == {"a": 1}


def test_a_file_that_is_written_anew_has_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_tree(tmp_path / "m", {})
    assert os.stat(tmp_path / "m").st_mode == os.stat(tmp_path / "plain").st_mode
