"""collab serve, the command: where it listens, what it prints, how it stops."""

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import pytest
import uvicorn
from serving import served, until

from benchmarks.load import asks as kinds_of
from benchmarks.load import load
from collab import service
from collab.serve import listening
from collab.serve.guard import HEADERS
from collab.serve.listening import hosts_of, listen, url_of


@pytest.fixture(scope="module")
def model(films, tmp_path_factory):
    """The file of a small model."""
    return films.export(tmp_path_factory.mktemp("serve") / "model.safetensors")


def said_to(address, content):
    """What the server sends back to these bytes, until it closes the connection."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(content)
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def refused(answer, status):
    """Whether an answer that no application gave is JSON, and has the headers of those that one gave."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = [line.partition(": ")[::2] for line in lines]
    assert first.startswith(f"HTTP/1.1 {status} ") and json.loads(body)["error"], answer
    assert {*headers} >= {(name.lower(), value) for name, value in HEADERS.items()} | {("connection", "close")}, answer
    assert len({name for name, _ in headers}) == len(headers)
    return True


@pytest.mark.parametrize("kind", ["ratings", "choices", "index"])
def test_it_answers_what_it_should_to_everything_at_once_and_stops_with_0(kind, films, liked_films, tmp_path, fresh):
    learn = liked_films if kind == "choices" else films
    file = learn.index(users=False).save(tmp_path / "index") if kind == "index" else learn.export(tmp_path / "model")
    users = [] if kind == "index" else [*learn.data.users]
    with served(file, fresh=fresh) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}health") as answer:
            about = json.load(answer)
            assert about["status"] == "ok" and answer.headers["server"] is None
        kinds = kinds_of([*learn.data.items], users, ["matrix", "film", "1999"], about)
        for content in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",        # the last has no Host
                        b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n"):
            refused(said_to(address, content), 400)
        evil = said_to(address, b"GET /health HTTP/1.1\r\nHost: evil.org\r\nConnection: close\r\n\r\n")
        assert evil.startswith(b"HTTP/1.1 403")
        two = said_to(address, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
                               b"GET /items?n=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert two.count(b"HTTP/1.1 200") == 2          # on one connection
        outcome = asyncio.run(load(urlsplit(address).port, process.pid, kinds, clients=6, seconds=1.5))
        assert not outcome.wrong and process.poll() is None
        assert outcome.requests > 20 and not [status for _, status in outcome.answers if status == 500]
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
        assert process.returncode == 0 and (out, error) == ("", "Stopped.\n")


def test_a_running_request_is_answered_and_logged_before_it_stops(model, fresh):
    with served(model, "--log", fresh=fresh) as (process, address):
        place = urlsplit(address)
        body = b'{"ratings": {"12": 5}, "n": 3}'
        with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
            connection.sendall(b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n%s" % (len(body), body[:10]))
            time.sleep(0.3)                     # until the request is known to run
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(OSError):          # until nobody else is taken
                while True:
                    socket.create_connection((place.hostname, place.port), timeout=1).close()
                    time.sleep(0.02)
            connection.sendall(body[10:])
            answer = connection.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200") and process.wait(20) == 0
        assert '"POST /recommend HTTP/1.1" 200' in process.communicate()[1]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_once_it_has_stopped_a_second_signal_does_not_change_its_exit_code(model, second):
    with served(model) as (process, address):
        urllib.request.urlopen(f"{address}health").close()
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == "Stopped.\n"
        process.send_signal(second)             # while the program ends, which takes a second with all that is loaded
        assert process.wait(20) == 0 and process.stderr.read() == ""


def test_its_lists_keep_to_the_rules_that_it_is_given(collab, model, films, fresh):
    user, out = next(iter(films.data.users)), films.data.items.ids[1]
    rules = "--without", "title=Amélie (2001)", "--without", str(out), "--diversity", "0.5"
    asked = f"recommend?user={user}&n=8"
    with served(model, *rules, fresh=fresh) as (_, at), urllib.request.urlopen(at + asked) as answer:
        found = [one["item"] for one in json.load(answer)["items"]]
    assert found == films.recommend(user, 8, without=[{"title": "Amélie (2001)"}, out], diversity=0.5)["item"].tolist()
    code, shown, error = collab("serve", model, "--port", 0, "--where", "titel=x")
    assert (code, shown) == (2, "") and "--where names a column 'titel' that the table of items has not" in error


def test_a_port_in_use_is_one_line_and_exit_code_2(collab, model):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, out, error = collab("serve", model, "--port", port)
    assert code == 2 and not out
    assert error == (f"Error: cannot listen at 127.0.0.1, port {port}: Address already in use; choose another with "
                     "--port, or --port 0 for a free one\n")


def test_a_file_that_is_not_there_and_a_host_that_is_not_known(collab, tmp_path):
    code, _, error = collab("serve", tmp_path / "none.safetensors", "--port", 0)
    assert code == 2 and "there is no model file" in error and error.count("\n") == 1
    code, _, error = collab("serve", tmp_path / "none.safetensors", "--host", "999.1.1.1")
    assert code == 2 and error.startswith("Error: cannot listen at 999.1.1.1") and error.count("\n") == 1


def test_a_host_beyond_this_machine_is_warned_of(collab, model, monkeypatch):
    asked = {}
    monkeypatch.setattr("collab.serve.listening.run", lambda app, sock, **_: asked.update(hosts=app.hosts))
    code, out, error = collab("serve", model, "--host", "0.0.0.0", "--port", 0)
    assert code == 0 and "not this machine alone" in error and out.startswith(f"Serving {model} at http://0.0.0.0:")
    assert asked["hosts"] is None


@pytest.mark.parametrize(("host", "names"), [
    ("127.0.0.1", {"localhost", "127.0.0.1", "[::1]"}), ("localhost", {"localhost", "127.0.0.1", "[::1]"}),
    ("127.0.0.5", {"localhost", "127.0.0.1", "[::1]", "127.0.0.5"}), ("::1", {"localhost", "127.0.0.1", "[::1]"}),
    ("0.0.0.0", None), ("::", None), ("10.1.2.3", None), ("films.example.org", None)])
def test_the_names_of_this_machine_are_known_where_it_listens_to_itself_alone(host, names):
    found = hosts_of(host)
    assert found is None if names is None else {*found} == names


def test_a_free_port_is_chosen_and_named():
    with listen("127.0.0.1", 0) as sock:
        assert url_of(sock, "127.0.0.1") == f"http://127.0.0.1:{sock.getsockname()[1]}/"
        assert url_of(sock, "::1") == f"http://[::1]:{sock.getsockname()[1]}/"


@pytest.fixture
def within(films):
    """The address of a server in a thread of this process, on the protocol of `collab serve`."""
    config = uvicorn.Config(service(films, threads=1), log_config=None, log_level="error", lifespan="off", ws="none",
                            http=listening.prompt())
    server = uvicorn.Server(config)
    with listening.listen("127.0.0.1", 0) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        until(lambda: server.started, "the server")
        yield sock.getsockname()
        server.should_exit = True
        thread.join(15)


def whole(connection):
    """The next answer on a connection, which is JSON."""
    answer = b""
    while b"\r\n\r\n{" not in answer or not answer.endswith(b"}"):
        part = connection.recv(1 << 16)
        assert part, answer
        answer += part
    return answer


def test_a_connection_without_a_whole_request_is_ended(within, monkeypatch):
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.2)
    with socket.create_connection(within, timeout=15) as slow:
        slow.sendall(b"GET /health HT")
        assert slow.recv(10) == b""
    with socket.create_connection(within, timeout=15) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert whole(connection).startswith(b"HTTP/1.1 200")
            time.sleep(0.3)


def test_more_connections_than_are_taken_get_503_until_there_is_room(within, monkeypatch):
    monkeypatch.setattr(listening, "CONNECTIONS", 2)

    def asked(connection):
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return whole(connection)
    with socket.create_connection(within, timeout=15) as first:
        with socket.create_connection(within, timeout=15) as second:
            assert asked(first).startswith(b"HTTP/1.1 200") and asked(second).startswith(b"HTTP/1.1 200")
            with socket.create_connection(within, timeout=15) as third:
                assert refused(asked(third), 503) and third.recv(10) == b""
            assert asked(second).startswith(b"HTTP/1.1 200")
        assert asked(first).startswith(b"HTTP/1.1 200")


def test_what_is_no_http_after_a_request_ends_the_connection_without_a_word_in_the_log(within, caplog):
    with socket.create_connection(within, timeout=15) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert whole(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\x00\xff\r\n\r\n")
        assert refused(whole(connection), 400) and connection.recv(10) == b""
    with socket.create_connection(within, timeout=15) as connection:
        connection.sendall(b"POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert whole(connection).startswith(b"HTTP/1.1 405")        # before its body has come
        connection.sendall(b"no length\r\n")
        assert connection.recv(10) == b""
    assert not caplog.records
