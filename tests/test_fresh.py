"""Programs in forks of one interpreter run as in interpreters of their own."""

import os
import signal
import time

import pytest
from fresh import asked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def test_a_program_has_its_own_words_streams_folder_and_end(fresh, tmp_path, monkeypatch):
    monkeypatch.setenv("FROM_THE_TEST", "yes")
    code = ("import os, sys\nprint(sys.argv, os.getcwd(), os.environ['FROM_THE_TEST'], sys.stdin.read())\n"
            "print('x' * 200_000, file=sys.stderr)\nsys.exit(3)")
    done = fresh.run("-c", code, "a", 5, cwd=tmp_path)
    assert done.returncode == 3 and done.stdout == f"['-c', 'a', '5'] {tmp_path} yes \n" and len(done.stderr) == 200_001
    done = fresh.run("-m", "collab", "--version", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("collab ")


def test_nothing_is_left_of_one_program_in_the_next(fresh):
    assert fresh.run("-c", "import collab.losses, sys; collab.left = sys.left = 1").returncode == 0
    done = fresh.run("-c", "import sys; print('torch' in sys.modules, 'collab' in sys.modules, hasattr(sys, 'left'))")
    assert done.stdout == "True False False\n"


def test_errors_and_signals_end_it_as_they_end_any_program(fresh):
    done = fresh.run("-c", "1 / 0")
    assert done.returncode == 1 and "Traceback" in done.stderr and "ZeroDivisionError" in done.stderr
    assert fresh.run("-c", "import os; os.kill(os.getpid(), 9)").returncode == -signal.SIGKILL


def test_a_program_that_nobody_waits_for_any_more_is_ended(fresh, tmp_path):
    out, to_out = os.pipe()
    with open(os.devnull) as nothing, open(out) as said:
        sock = asked(fresh.address, ["-c", "import time; print('here', flush=True); time.sleep(20)"], str(tmp_path),
                     [nothing.fileno(), to_out, to_out])
        os.close(to_out)
        assert said.readline() == "here\n"
        sock.close()
        begin = time.monotonic()
        assert said.read() == "" and time.monotonic() - begin < 15      # the pipe is closed long before it wakes up
