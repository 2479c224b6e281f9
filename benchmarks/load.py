"""`collab serve` under load: clients on this machine send valid, malformed and oversized requests, side by side.

    python benchmarks/load.py                       # 50 clients, 30 seconds, three models of MovieLens latest-small
    python benchmarks/load.py --clients 8 --seconds 5 --model model.safetensors index.safetensors

The server is a process of its own, started by the command line; clients speak HTTP over raw sockets, so that they can
also say what no HTTP library would. Each client sends its next request when the last one is answered. What they send,
and which answer is right, follows from what the server says at /health of its model: visitors rate where it has a
scale, and choose where it has none. Printed are, for each model, requests a second, quantiles of the time that valid
requests took, what was answered to which kind of request, and the memory of the server (RSS) from five seconds after
the start on; then the rows of the table in docs/results.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WARM = 5.0              # seconds until memory is measured
TIMEOUT = 60.0          # of one answer
HUGE = "y" * 1_000_000
JSON = "Content-Type: application/json\r\n"
WORDS = ["matrix", "star", "am%C3%A9lie", "the", "zzz", "1999"]         # that are searched for in titles of MovieLens


@dataclass(frozen=True)
class Ask:
    """One kind of request: how often it comes, the bytes it sends, and the statuses that are right: 0 where the server
    may close the connection, none where the client does."""

    name: str
    share: int
    content: Callable[[random.Random], bytes]
    right: tuple[int, ...]
    valid: bool = False


@dataclass
class Outcome:
    """What a load test has seen. `seconds` are those of valid requests; `wrong` are answers with another status than
    the right ones, and connections that broke off where an answer was due; `memory` holds (seconds, MiB)."""

    seconds: list[float] = field(default_factory=list)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    lasted: float = 0.0

    @property
    def settled(self) -> list[float]:
        """The memory from WARM seconds on, or from the middle where it did not last that long twice over."""
        return [mib for at, mib in self.memory if at >= min(WARM, self.lasted / 2)] or [0.0]

    @property
    def requests(self) -> int:
        """The number of answers."""
        return sum(self.answers.values())

    def quantile(self, share: float) -> float:
        """A quantile of the time that valid requests took, in milliseconds."""
        ordered = sorted(self.seconds)
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def request(method: str, path: str, body: bytes = b"", more: str = "") -> bytes:
    """The bytes of a request."""
    length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}{more}\r\n".encode() + body


def post(value: object, more: str = JSON) -> bytes:
    """A visitor's request."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return request("POST", "/recommend", body, more)


def asks(items: list[Any], users: list[Any], words: list[str], about: dict[str, Any]) -> list[Ask]:
    """The kinds of requests, for a server that knows these items, users and words of titles and says this `about` its
    model (at /health). What a model cannot do is asked too: 400 is right."""
    scale = about["scale"]

    def visitor(rng: random.Random) -> bytes:
        some = rng.sample(items, rng.randint(1, min(20, len(items))))
        if scale is None:
            return post({"ratings": some, "n": 10})
        step = scale["step"] or (scale["high"] - scale["low"]) / 4
        levels = round((scale["high"] - scale["low"]) / step)
        return post({"ratings": {str(item): scale["low"] + step * rng.randint(0, levels) for item in some}, "n": 10})

    def able(name: str, share: int, content: Callable[[random.Random], bytes], can: bool) -> Ask:
        return Ask(name, share, content, (200,) if can else (400,), can)
    first = str(items[0])
    wrong = [[], 5, None, {"ratings": 5}, {"ratings": []}, {"ratings": [1.5]}, {"ratings": {"1": "a"}}, {"other": 1},
             {"ratings": {first: 1e300}}, {"ratings": {first: 3}, "n": -1}]
    return [
        able("visitor", 40, visitor, about["visitors"]),
        Ask("search", 14, lambda rng: request("GET", f"/search?q={rng.choice(words)}"), (200,), True),
        able("known user", 10, lambda rng: request("GET", f"/recommend?user={rng.choice(users or [1])}"), bool(users)),
        able("similar", 6, lambda rng: request("GET", f"/similar?item={rng.choice(items)}"), about["similar"]),
        Ask("health", 2, lambda rng: request("GET", "/health"), (200,), True),
        Ask("page", 2, lambda rng: request("GET", rng.choice(["/", "/page.js", "/map", "/docs"])), (200,), True),
        Ask("closed after", 4, lambda rng: request("GET", "/health", more="Connection: close\r\n"), (200,), True),
        Ask("no JSON", 3, lambda rng: post(rng.randbytes(rng.randint(1, 300))), (400,)),
        Ask("wrong fields", 3, lambda rng: post(rng.choice(wrong)), (400,)),
        Ask("unknown item", 2, lambda rng: post({"ratings": {f"none {rng.random()}": 3}}), (404,)),
        Ask("nested", 1, lambda rng: post(b"[" * 60_000), (400,)),
        Ask("wrong method", 2, lambda rng: request(rng.choice(["PUT", "DELETE", "PATCH"]), "/recommend"), (405,)),
        Ask("wrong path", 2, lambda rng: request("GET", f"/{rng.choice('abc')}/../{rng.random()}"), (404,)),
        Ask("another host", 1, lambda rng: request("GET", "/health").replace(b"127.0.0.1", b"example.org"), (403,)),
        Ask("no HTTP", 2, lambda rng: rng.randbytes(200) + b"\r\n\r\n", (400,)),
        Ask("oversized body", 3, lambda rng: post(b"x" * rng.choice([65_537, 200_000, 900_000])), (413,)),
        Ask("oversized head", 1, lambda rng: request("GET", "/", more=f"X: {HUGE}\r\n"), (400, 431, 0)),
        Ask("broken off", 2, lambda rng: post(b"[1, 2").replace(b"Content-Length: 5", b"Content-Length: 5000"), ()),
    ]


async def client(port: int, kinds: list[Ask], until: float, seed: int, outcome: Outcome) -> None:
    """Send one request after another until a moment, on one connection for as long as the server keeps it."""
    rng, connection = random.Random(seed), None
    while time.monotonic() < until:
        ask = rng.choices(kinds, [kind.share for kind in kinds])[0]
        content = ask.content(rng)
        if connection is None:
            connection = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = connection
        start = time.perf_counter()
        try:
            writer.write(content)
            if not ask.right:               # it goes away in the middle
                outcome.answers[ask.name, 0] += 1
                writer.close()
                connection = None
                continue
            status, stays = await asyncio.wait_for(answer_of(reader), TIMEOUT)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            outcome.answers[ask.name, 0] += 1
            if 0 not in ask.right:
                outcome.wrong.append(f"{ask.name}: {type(error).__name__} {error}")
            writer.close()
            connection = None
            continue
        if ask.valid:
            outcome.seconds.append(time.perf_counter() - start)
        outcome.answers[ask.name, status] += 1
        if status not in ask.right:
            outcome.wrong.append(f"{ask.name}: status {status}")
        if not stays:
            writer.close()
            connection = None
    if connection is not None:
        connection[1].close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """(status, whether the connection stays) of the next answer. Raises EOFError where there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    lengths = [int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("content-length:")]
    if lengths:
        await reader.readexactly(lengths[0])
    elif "transfer-encoding: chunked" not in head:
        await reader.read()                 # up to the end of the connection
        return status, False
    else:
        while (size := int(await reader.readline(), 16)):
            await reader.readexactly(size + 2)
        await reader.readline()
    return status, "connection: close" not in head


async def load(port: int, pid: int, kinds: list[Ask], *, clients: int, seconds: float) -> Outcome:
    """Run this many clients for so long against the server with this process id."""
    outcome, start = Outcome(), time.monotonic()

    async def watch() -> None:
        while True:
            outcome.memory.append((time.monotonic() - start, rss(pid)))
            await asyncio.sleep(0.5)
    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client(port, kinds, start + seconds, seed, outcome) for seed in range(clients)))
    outcome.lasted = time.monotonic() - start
    watching.cancel()
    return outcome


def rss(pid: int) -> float:
    """The memory of a process in MiB, as Linux tells it; 0 elsewhere."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


@contextmanager
def server(model: str | Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(process, address) of `collab serve` at a free port; it is asked to stop at the end."""
    process = subprocess.Popen([sys.executable, "-m", "collab", "serve", str(model), "--port", "0", *options],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if " at http" not in said:
            raise RuntimeError(f"the server did not start: {said}{process.communicate(timeout=30)[1]}")
        yield process, said.split(" at ")[1].split()[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def report(outcome: Outcome, clients: int) -> str:
    """The outcome as text."""
    later = outcome.settled
    kinds: dict[str, list[str]] = {}
    for (name, status), n in sorted(outcome.answers.items()):
        kinds.setdefault(name, []).append(f"{n:,} x {status or 'closed'}")
    return "\n".join([
        f"{clients} clients, {outcome.lasted:.0f} s: {outcome.requests:,} requests, "
        f"{outcome.requests / outcome.lasted:,.0f} a second",
        f"valid ones: p50 {outcome.quantile(0.5):.0f} ms, p99 {outcome.quantile(0.99):.0f} ms, "
        f"longest {outcome.quantile(1):.0f} ms",
        f"memory of the server: {later[0]:.0f} MiB after {WARM:.0f} s, {later[-1]:.0f} MiB at the end, "
        f"{max(later):.0f} at most",
        f"status 500: {sum(n for (_, status), n in outcome.answers.items() if status == 500)}; "
        f"other than expected: {len(outcome.wrong)} {sorted(set(outcome.wrong))[:5] if outcome.wrong else ''}",
        *(f"  {name}: {', '.join(found)}" for name, found in kinds.items())])


def row(name: str, outcome: Outcome, before: float) -> str:
    """The outcome as a row of the table in docs/results.md. `before` is the load average at the start."""
    broken = sum(n for (_, status), n in outcome.answers.items() if status == 500)
    first, last = outcome.settled[0], outcome.settled[-1]
    return (f"| {name} | {outcome.requests:,} | {outcome.quantile(0.5):.0f} | {outcome.quantile(0.99):.0f} | "
            f"{outcome.quantile(1):.0f} | {broken}, {len(outcome.wrong)} | {first:.0f}, {last:.0f}, "
            f"{max(outcome.settled):.0f} | {before:.1f} |")


def three(folder: str) -> dict[str, str]:
    """{name: file} of a model of ratings, one of choices and an index, of MovieLens latest-small."""
    from collab import load_learner
    files = {name: f"{folder}/{name}.safetensors" for name in ("dot_bias", "als")}
    for name, options in (("dot_bias", []), ("als", ["--model", "als", "--threshold", "3"])):
        subprocess.run([sys.executable, "-m", "collab", "train", "ml-latest-small", *options, "--quiet", "--out",
                        files[name]], check=True, stdout=subprocess.DEVNULL)
    index = load_learner(files["dot_bias"]).index().save(f"{folder}/index")
    return {"ratings: dot_bias": files["dot_bias"], "choices: als above 3": files["als"],
            "an index of dot_bias": str(index)}


def main() -> int:
    """Load the servers of the models and print the outcomes; 1 where an answer was not the right one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", help="files of models or indexes of MovieLens; by default dot_bias, als "
                        "of ratings above 3 as choices, and an index of dot_bias, of ml-latest-small")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    from collab import Index
    from collab.cli.serve import load_any
    rows, wrong = [], False
    with tempfile.TemporaryDirectory() as folder:
        models = three(folder) if args.model is None else {Path(path).name: path for path in args.model}
        for name, path in models.items():
            model = load_any(Path(path))
            items, users = (model.catalogue.vocab, model.user_ids) if isinstance(model, Index) else (
                model.data.items, model.data.users)
            with server(path) as (process, address):
                with urllib.request.urlopen(f"{address}health") as answer:
                    kinds = asks([*items], [*(users or ())], WORDS, json.load(answer))
                before = os.getloadavg()[0]
                outcome = asyncio.run(load(int(address.rsplit(":", 1)[1].strip("/")), process.pid, kinds,
                                           clients=args.clients, seconds=args.seconds))
            print(f"{name}; {os.cpu_count()} processors, load average {before:.1f} before, {os.getloadavg()[0]:.1f} "
                  f"after\n{report(outcome, args.clients)}\n", flush=True)
            rows.append(row(name, outcome, before))
            wrong = wrong or bool(outcome.wrong)
    print("| model | requests | p50, ms | p99, ms | longest, ms | status 500, other wrong answers | "
          "memory after 5 s, at the end, at most, MiB | load average before |\n|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
