"""Fresh processes at the price of a fork: one interpreter has imported torch and pandas, which takes seconds, and
nothing of `collab`; each program runs in a child of it, as in an interpreter that was just started.

Whether a program imports these cannot be asked here, nor what depends on the hash seed of strings, which all children
share: that takes a process of its own. Numba is not imported: where it is, `collab` takes another way. As pandas is
imported, it looks whether it is in a notebook: kernels of notebooks are forks of another interpreter, which has what
notebooks draw with.

Run: python fresh.py serve ADDRESS                      the interpreter that waits for programs
     python fresh.py torchrec ADDRESS                   one that has imported TorchRec, too
     python fresh.py notebooks ADDRESS                  that which waits for kernels
     python fresh.py ask ADDRESS -m MODULE ARGUMENTS    as `python -m MODULE ARGUMENTS`"""

import builtins
import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path

LIMIT = 300     # seconds, for what takes a few


class FreshProcesses:
    """The interpreter that waits for programs, or with the role "notebooks" for kernels, until `close`; with the role
    "torchrec" it has imported that, where it is installed. Where there is no fork, each program gets its own."""

    def __init__(self, role="serve"):
        if not hasattr(os, "fork"):
            return
        self.folder = tempfile.TemporaryDirectory(prefix="fresh")
        self.address = str(Path(self.folder.name) / "socket")
        self.process = subprocess.Popen([sys.executable, __file__, role, self.address], stdout=subprocess.PIPE,
                                        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert self.process.stdout.readline() == b"ready\n"

    def run(self, *words, cwd=None):
        """What `python WORDS` gives, with WORDS either -m MODULE ARGUMENTS or -c CODE ARGUMENTS: like the result of
        `subprocess.run` with its output captured as text. A signal ends it after LIMIT seconds."""
        if not hasattr(os, "fork"):
            return subprocess.run([sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True,
                                  timeout=LIMIT, env={**os.environ, "OMP_NUM_THREADS": "1"})
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        said = {}
        reader = threading.Thread(target=lambda: said.update(err=read(err)))    # a full pipe would hold the program up
        with open(os.devnull) as nothing, asked(self.address, [*map(str, words)], str(cwd or os.getcwd()),
                                                [nothing.fileno(), to_out, to_err], LIMIT) as sock:
            os.close(to_out)
            os.close(to_err)
            reader.start()
            said["out"] = read(out)
            reader.join()
            return subprocess.CompletedProcess(words, exit_code(sock), said["out"], said["err"])

    def start(self, *words):
        """A `Program`, or where there is no fork a `subprocess.Popen`, that runs `python WORDS`: see `run`."""
        if hasattr(os, "fork"):
            return Program(self.address, [*map(str, words)])
        return subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def command(self, *words):
        """The words by which another program starts `python WORDS` as a process of its own, which ends with it."""
        if not hasattr(os, "fork"):
            return [sys.executable, *words]
        return [sys.executable, __file__, "ask", self.address, *words]

    def kernel(self, folder):
        """Write a kernel of Jupyter into a folder, which JUPYTER_PATH may name; return its name."""
        if not hasattr(os, "fork"):
            return "python3"
        spec = {"argv": self.command("-m", "ipykernel_launcher", "-f", "{connection_file}"), "display_name": "Fresh",
                "language": "python"}
        (path := folder / "kernels" / "fresh").mkdir(parents=True)
        (path / "kernel.json").write_text(json.dumps(spec))
        return "fresh"

    def close(self):
        """End the interpreter."""
        if not hasattr(os, "fork"):
            return
        self.process.terminate()
        self.process.communicate()
        self.folder.cleanup()


class Program:
    """A running program: what tests ask of a `subprocess.Popen` with pipes for text."""

    def __init__(self, address, words):
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        with open(os.devnull) as nothing:
            self.sock = asked(address, words, os.getcwd(), [nothing.fileno(), to_out, to_err], LIMIT)
        os.close(to_out)
        os.close(to_err)
        self.pid, self.returncode, self.said = number(self.sock), None, {}
        self.stdout = open(out, encoding="utf-8")       # noqa: SIM115 (closed by `communicate`)
        self.reader = threading.Thread(target=lambda: self.said.update(err=read(err)))
        self.reader.start()

    def poll(self):
        """The exit code, or None of a program that runs."""
        if self.returncode is None and select.select([self.sock], [], [], 0)[0]:
            self.returncode = number(self.sock)
            self.sock.close()
        return self.returncode

    def wait(self, timeout=LIMIT):
        """The exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not select.select([self.sock], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a fresh process", timeout)
        return self.poll()

    def communicate(self, timeout=LIMIT):
        """(rest of the standard output, standard error), once it has ended."""
        self.wait(timeout)
        if "out" not in self.said:
            with self.stdout:
                self.said["out"] = self.stdout.read()
            self.reader.join()
        return self.said["out"], self.said["err"]

    def send_signal(self, what):
        """As to any process."""
        if self.poll() is None:
            os.kill(self.pid, what)

    def terminate(self):
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def asked(address, words, cwd, streams, limit=0):
    """A connection on which a program was asked for, with these standard streams."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(address)
    env = {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"}      # which is not its parent
    content = json.dumps({"words": words, "cwd": cwd, "limit": limit,
                          "env": env | {"OMP_NUM_THREADS": "1"}}).encode()
    socket.send_fds(sock, [len(content).to_bytes(4, "big")], streams)
    sock.sendall(content)
    return sock


def exit_code(sock):
    """Of the program that was asked for, once it has ended."""
    number(sock)        # of the process
    return number(sock)


def number(sock):
    """The next number: first that of the program's process, at its end the exit code."""
    return int.from_bytes(sock.recv(4, socket.MSG_WAITALL), "big", signed=True)


def read(pipe):
    """The text of a pipe, to its end."""
    with open(pipe, encoding="utf-8") as file:
        return file.read()


def next_program(address):
    """In a grandchild, what it is to run, with its standard streams in place. Its parent waits for it and says how it
    ended, or ends it when nobody listens any more; the process that calls this goes on with the next."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        os.write(1, b"ready\n")
        while True:
            sock, _ = server.accept()
            if not os.fork():
                break
            sock.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    size, streams, _, _ = socket.recv_fds(sock, 4, 3)
    program = json.loads(sock.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    if child := os.fork():
        for stream in [1, *streams]:
            os.close(stream)
        sock.sendall(child.to_bytes(4, "big"))
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if select.select([sock], [], [], 0.01)[0]:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                os._exit(0)
        sock.sendall(os.waitstatus_to_exitcode(ended[1]).to_bytes(4, "big", signed=True))
        os._exit(0)
    sock.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    return program


def run_program(words, cwd, limit, env):
    """Run a program as the interpreter would that is started with these words; a signal ends it after `limit` seconds,
    if that is not 0."""
    signal.alarm(limit)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path.insert(0, "")
    kind, what, *arguments = words
    sys.argv[:] = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(main))


def import_first(role):
    """What takes longest, as it is where it is imported first by a program, or by a notebook."""
    importlib.import_module("torch")
    if role == "notebooks":
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"      # as a kernel says
        builtins.get_ipython = lambda: types.SimpleNamespace(kernel=True)
        for name in ("ipykernel.ipkernel", "matplotlib.figure", "matplotlib.backends.backend_agg", "sklearn.manifold",
                     "altair", "vl_convert"):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    if role == "torchrec":
        with contextlib.suppress(ImportError, OSError, RuntimeError):
            importlib.import_module("torchrec")
    importlib.import_module("pandas")
    vars(builtins).pop("get_ipython", None)
    assert not {"collab", "numba"} & {*sys.modules}


if __name__ == "__main__":
    sys.path.pop(0)         # the folder of this file
    role, where, *rest = sys.argv[1:]
    if role == "ask":
        signal.signal(signal.SIGINT, signal.SIG_IGN)        # Jupyter interrupts a kernel before it tells it to stop
        sys.exit(exit_code(asked(where, rest, os.getcwd(), [0, 1, 2])))
    import_first(role)
    run_program(**next_program(where))
