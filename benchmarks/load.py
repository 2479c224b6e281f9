"""`collab serve` under load: clients on this machine send valid, malformed and oversized requests, side by side.

    python benchmarks/load.py                       # 50 clients for 30 seconds, MovieLens latest-small
    python benchmarks/load.py --clients 8 --seconds 5 --model model.safetensors

The server is a process of its own, started by the command line; clients speak HTTP over raw sockets, so that they can
also say what no HTTP library would. Each client sends its next request when the last one is answered. Printed are
requests a second, quantiles of the time that valid requests took, what was answered to which kind of request, and the
memory of the server (RSS) from five seconds after the start on."""

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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

WARM = 5.0              # seconds until memory is measured
TIMEOUT = 60.0          # of one answer
HUGE = "y" * 1_000_000
JSON = "Content-Type: application/json\r\n"


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


def asks(items: list[int], users: list[int], words: list[str], high: float = 5.0) -> list[Ask]:
    """The kinds of requests, for a model that knows these items, users and words of titles."""
    def visitor(rng: random.Random) -> bytes:
        rated = rng.sample(items, rng.randint(1, min(20, len(items))))
        return post({"ratings": {str(item): float(rng.randint(1, int(high))) for item in rated}, "n": 10})
    return [
        Ask("visitor", 40, visitor, (200,), True),
        Ask("search", 14, lambda rng: request("GET", f"/search?q={rng.choice(words)}"), (200,), True),
        Ask("known user", 10, lambda rng: request("GET", f"/recommend?user={rng.choice(users)}"), (200,), True),
        Ask("similar", 6, lambda rng: request("GET", f"/similar?item={rng.choice(items)}"), (200,), True),
        Ask("health", 2, lambda rng: request("GET", "/health"), (200,), True),
        Ask("page", 2, lambda rng: request("GET", rng.choice(["/", "/page.js", "/map", "/docs"])), (200,), True),
        Ask("closed after", 4, lambda rng: request("GET", "/health", more="Connection: close\r\n"), (200,), True),
        Ask("no JSON", 3, lambda rng: post(rng.randbytes(rng.randint(1, 300))), (400,)),
        Ask("wrong fields", 3, lambda rng: post(rng.choice([[], 5, None, {"ratings": 5}, {"ratings": {"1": "a"}}, {
            "ratings": {str(items[0]): 1e300}}, {"ratings": {str(items[0]): 3}, "n": -1}, {"other": 1}])), (400,)),
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
    later = [mib for at, mib in outcome.memory if at >= min(WARM, outcome.lasted / 2)] or [0.0]
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


def main() -> int:
    """Train a model unless one is given, load it and print the outcome; 1 where an answer was not the right one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model file of MovieLens; by default dot_bias of ml-latest-small")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or f"{folder}/model.safetensors"
        if args.model is None:
            subprocess.run([sys.executable, "-m", "collab", "train", "ml-latest-small", "--out", model], check=True,
                           stdout=subprocess.DEVNULL)
        from collab import load_learner
        learn = load_learner(model)
        kinds = asks([*learn.data.items], [*learn.data.users], ["matrix", "star", "am%C3%A9lie", "the", "zzz", "1999"])
        with server(model) as (process, address):
            outcome = asyncio.run(load(int(address.rsplit(":", 1)[1].strip("/")), process.pid, kinds,
                                       clients=args.clients, seconds=args.seconds))
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[1]:.1f}\n{report(outcome, args.clients)}")
    return int(bool(outcome.wrong))


if __name__ == "__main__":
    sys.exit(main())
