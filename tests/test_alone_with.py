"""The lock beside a file: one `with` at a time, whatever the system's way to lock, and nothing left behind."""

import importlib.util
import sys
import types

import pytest

from collab import files

fcntl = pytest.importorskip("fcntl")


@pytest.fixture(params=["here", "as on Windows"])
def alone_with(request, monkeypatch):
    """The function, and as it is made on Windows, with a module `msvcrt` of the same manners."""
    if request.param == "here":
        return files.alone_with

    def locking(fd, mode, n_bytes):
        assert (mode, n_bytes) == (made.LK_NBLCK, 1)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None
    made = types.ModuleType("msvcrt")
    made.LK_NBLCK, made.locking = 2, locking
    monkeypatch.setitem(sys.modules, "msvcrt", made)
    monkeypatch.setattr(sys, "platform", "win32")
    spec = importlib.util.spec_from_file_location("collab.files_on_windows", files.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.alone_with


def test_only_the_first_is_alone_until_it_ends_and_no_file_is_left(alone_with, tmp_path):
    study = tmp_path / "study.db"
    with alone_with(study) as first:
        with alone_with(study) as second, alone_with(tmp_path / "other.db") as other:
            assert (first, second, other) == (True, False, True)
        with alone_with(study) as third:
            assert not third
    with pytest.raises(ZeroDivisionError), alone_with(study) as again:
        assert again
        raise ZeroDivisionError
    assert not [*tmp_path.iterdir()]


def test_a_file_that_was_left_locks_nothing(alone_with, tmp_path):
    (tmp_path / ".study.db.lock").touch()
    with alone_with(tmp_path / "study.db") as alone:
        assert alone
    assert not [*tmp_path.iterdir()]


def test_on_a_file_system_without_locks_work_goes_on(alone_with, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(22, "Invalid argument")
    if sys.platform == "win32":
        monkeypatch.setattr(sys.modules["msvcrt"], "locking", fails)
    else:
        monkeypatch.setattr(files.fcntl, "flock", fails)
    with alone_with(tmp_path / "study.db") as alone:
        assert alone
