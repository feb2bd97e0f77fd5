"""Requests answered as `thalweg predict --json` answers, together or not, and everything that is refused."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import thalweg
from thalweg.cli import main
from thalweg.serving.batches import Batches
from thalweg.serving.requests import Asked, Limits, RefusedError
from thalweg.serving.server import serve
from thalweg.serving.service import Service
from thalweg.tasks.questions import AnswerOptions

pytest.importorskip("uvicorn")

DATA = {"text": ["good film", "fine cast", "bad film", "poor cast"] * 4, "label": ["pos", "pos", "neg", "neg"] * 4}
SMALL = Limits(body=2000, inputs=3, characters=50, length=10, waiting=4, seconds=5.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return thalweg.train(DATA, task="classify", model="linear", l2=0.01, out=out, name="run")


class Client:
    """A server of ASGI that has one client."""

    def __init__(self, service):
        self.service = service

    async def live(self, work):
        received, sent = asyncio.Queue(), asyncio.Queue()
        task = asyncio.create_task(self.service({"type": "lifespan"}, received.get, sent.put))
        await received.put({"type": "lifespan.startup"})
        assert (await sent.get())["type"] == "lifespan.startup.complete"
        found = await work()
        await received.put({"type": "lifespan.shutdown"})
        assert (await sent.get())["type"] == "lifespan.shutdown.complete"
        await task
        return found

    async def ask(self, method, path, body=b"", headers=(), parts=1):
        size = max(1, -(-len(body) // parts))
        pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        messages = iter(
            {"type": "http.request", "body": piece, "more_body": place < len(pieces) - 1}
            for place, piece in enumerate(pieces)
        )
        sent = []

        async def receive():
            return next(messages, {"type": "http.disconnect"})

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
        await self.service(scope, receive, send)
        start, content = sent
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        assert headers["content-type"] == "application/json"
        return start["status"], headers, content["body"]


def asked(run, *requests, limits=None, say=lambda sentence: None):
    """The statuses and contents of answers to requests that come at the same time."""
    client = Client(Service(run, limits, say))

    async def work():
        return await asyncio.gather(*(client.ask(*request) for request in requests))

    found = asyncio.run(client.live(work))
    return [(status, json.loads(body) if body else None) for status, _, body in found]


def post(content, **more):
    return ("POST", "/predict", content if isinstance(content, bytes) else json.dumps(content).encode())


def test_answers_are_those_of_predict_as_json(run, capsys):
    texts = ["a good film", "", "nothing known", "bad \u2028 \x1b[31m", "poor poor"]
    with pytest.raises(SystemExit):
        main.run(["predict", str(run.folder), *texts, "--json", "--top", "1"])
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    several, *single = asked(
        run, post({"inputs": texts, "top": 1}), *(post({"input": text, "top": 1}) for text in texts)
    )
    assert several == (200, {"answers": expected})
    assert single == [(200, {"answer": answer}) for answer in expected]


def test_what_cannot_be_answered_has_its_reason_in_its_place(run):
    (status, content), alone, none = asked(
        run, post({"inputs": ["good", 7, None]}), post({"input": ["good"]}), post({"inputs": []})
    )
    assert status == 200
    assert [answer["label"] for answer in content["answers"]] == ["pos", None, None]
    assert "expected a text, got a number" in content["answers"][1]["error"]
    assert alone == (422, {"error": "The input cannot be answered: expected a text, got a list."})
    assert none == (200, {"answers": []})


def test_options_are_those_of_each_request(run):
    first, second, odd = asked(
        run,
        post({"input": "good", "top": 2}),
        post({"input": "good", "top": 1, "threshold": 0.01}),
        post({"input": "\ud800 good"}),
    )
    assert len(first[1]["answer"]["top"]) == 2
    assert first[1]["answer"]["label"] == "pos"
    assert second[1]["answer"]["label"] == "neg"
    assert odd[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "no JSON"),
        (b"{", 400, "no JSON"),
        (b"\xff\xfe\xff", 400, "no JSON"),
        (b'{"input": NaN}', 400, "NaN is no number of JSON"),
        (b'{"input": ' + b"1" * 1500 + b"." + b"1" * 10 + b"}", 422, "expected a text, got a number"),
        (b'{"inputs": ' + b"[" * 1900, 400, "no JSON"),
        (b"[]", 422, "Expected an object such as"),
        (b"null", 422, "got null"),
        ({"text": "good"}, 422, "Expected keys among input, inputs, threshold, top; got 'text'"),
        ({"input": "a", "length": 3}, 422, "Expected keys among input, inputs, threshold, top; got 'length'"),
        ({}, 422, 'either "input" or "inputs", got none'),
        ({"input": "a", "inputs": []}, 422, "got both"),
        ({"inputs": "a"}, 422, 'a list as "inputs", got a text'),
        ({"inputs": ["a"] * 4}, 413, "at most 3 inputs, got 4"),
        ({"inputs": ["a", "b" * 51]}, 413, "Input 2: expected at most 50 characters, got 51"),
        ({"input": [["b" * 26, {"c": "d" * 25}]]}, 413, "at most 50 characters, got 51"),
        ({"input": "a", "top": 0}, 422, "top must be a whole number from 1 to 1,000; got 0"),
        ({"input": "a", "top": "2"}, 422, "top must be a whole number"),
        ({"input": "a", "top": None}, 422, "top must be a whole number"),
        ({"input": "a", "top": 10**400}, 422, "top must be a whole number"),
        ({"input": "a", "threshold": 1}, 422, '"threshold" must be a number between 0 and 1; got 1'),
        ({"input": "a", "threshold": True}, 422, "got True"),
        (b'{"input": "' + b"a" * 2000 + b'"}', 413, "at most 2,000 bytes"),
    ],
    ids=str,
)
def test_what_is_no_request_is_refused_with_a_sentence(run, body, status, message):
    ((found, content),) = asked(run, post(body), limits=SMALL)
    assert (found, list(content)) == (status, ["error"])
    assert message in content["error"]


def test_a_body_in_parts_is_counted_and_a_length_that_is_told_is_believed(run):
    client = Client(Service(run, SMALL))

    async def work():
        good = json.dumps({"input": "good"}).encode()
        return [
            await client.ask("POST", "/predict", good, parts=5),
            await client.ask("POST", "/predict", b"x" * 3000, parts=5),
            await client.ask("POST", "/predict", good, headers=[(b"content-length", b"3000")]),
        ]

    found = asyncio.run(client.live(work))
    assert [status for status, _, _ in found] == [200, 413, 413]
    assert found[2][1]["connection"] == "close"


def test_paths_and_methods(run):
    about, health, head, other, wrong = asked(
        run, ("GET", "/"), ("GET", "/health"), ("HEAD", "/"), ("GET", "/../etc"), ("GET", "/predict")
    )
    assert about[1]["task"] == "classify"
    assert about[1]["labels"] == ["neg", "pos"]
    assert about[1]["limits"]["inputs"] == 256
    assert str(run.folder.parent) not in json.dumps(about[1])
    assert health == (200, {"status": "ok"})
    assert head == (200, None)
    assert other[0] == 404
    assert wrong == (405, {"error": "/predict takes POST."})


def test_while_it_ends_health_says_so_and_connections_close(run):
    client = Client(Service(run))

    async def work():
        client.service.is_ending = True
        answer = json.dumps({"input": "good"}).encode()
        return await client.ask("GET", "/health"), await client.ask("POST", "/predict", answer)

    health, answer = asyncio.run(client.live(work))
    assert health[0] == 503
    assert answer[0] == 200
    assert answer[1]["connection"] == "close"


def test_a_mistake_of_its_own_is_500_without_a_traceback(run, monkeypatch):
    said = []
    monkeypatch.setattr("thalweg.serving.service.answers_to", lambda *rest: 1 / 0)
    ((status, content),) = asked(run, post({"input": "secret\nline"}), say=said.append)
    assert (status, content) == (500, {"error": "The request has failed by a mistake of the server's."})
    assert said == ["A request has failed (ZeroDivisionError)."]


@pytest.mark.parametrize(
    ("data", "task", "options", "good", "bad"),
    [
        ({"text": DATA["text"], "other": DATA["text"][::-1], "number": [float(i) for i in range(16)]}, "score",
         {"l2": 0.1, "text_column": "text", "other_column": "other", "label_column": "number"}, ["a", "b"], "a"),
        ({"a": [float(i % 5) for i in range(60)]}, "forecast", {},
         {"values": [float(i % 5) for i in range(50)], "steps": 2}, {"values": [1.0], "steps": 11}),
        ({"tokens": [["a", "b"], ["b", "c"]] * 8, "tags": [["X", "Y"], ["Y", "X"]] * 8}, "tag", {"epochs": 1.0},
         ["a", "b"], ["a", 1]),
    ],
    ids=["pairs", "forecast", "tag"],
)  # fmt: skip
def test_inputs_of_other_tasks(tmp_path, data, task, options, good, bad):
    run = thalweg.train(data, task=task, out=tmp_path, **options)
    right, wrong = asked(run, post({"input": good}), post({"input": bad}), limits=Limits(length=10))
    (expected,) = run.predict([tuple(good) if task == "score" else good])
    assert right[0] == 200
    assert json.loads(json.dumps(expected)) == right[1]["answer"]
    assert wrong[0] == 422


def test_texts_are_drawn_and_measured(tmp_path):
    rows = {"text": ["the river runs to the sea"] * 60}
    run = thalweg.train(rows, task="language", out=tmp_path, fast=True, width=4, max_length=8, tie=False)
    drawn = {"samples": 2, "length": 5, "top_k": 9, "no_repeat": 2, "stop": ["sea", "\n"]}
    answers = asked(
        run,
        post({"inputs": ["the", "the"], **drawn}),
        post({"input": "the river", "score": True}),
        post({"input": "the river", "score": True, "length": 3}),
        post({"input": "the river", "score": 1}),
        post({"input": "the", "min_length": 3}),
        post({"input": "the", "samples": 65}),
        post({"input": "the", "places": [1]}),
    )
    assert [status for status, _ in answers] == [200, 200, 422, 422, 422, 422, 422]
    assert answers[0][1]["answers"] == json.loads(json.dumps(run.predict(["the", "the"], **drawn)))
    (expected,) = run.predict(["the river"], score=True)
    assert answers[1][1]["answer"] == json.loads(json.dumps(expected))
    said = [content["error"] for _, content in answers[2:]]
    assert "is for texts that are written" in said[0]
    assert '"score" must be true or false; got 1' in said[1]
    assert '"min_length" 3 is for texts that end at "stop"' in said[2]
    assert '"samples" may be at most 64 here; got 65' in said[3]
    assert "Expected keys among" in said[4]


# Batches


def request_of(*inputs, top=3):
    return Asked(inputs, AnswerOptions(top=top), None, False)


async def answered(batches, *requests, seconds=5.0):
    batches.start()
    found = await asyncio.gather(*(batches.ask(one, seconds) for one in requests), return_exceptions=True)
    await batches.stop()
    return found


def test_requests_that_wait_are_answered_together_by_kind():
    calls = []

    def answer(inputs, asked):
        calls.append((asked.options.top, list(inputs)))
        return [{"answer": value} for value in inputs]

    requests = [request_of("a"), request_of("b", "c"), request_of("d", top=1), request_of("e")]

    async def work(together):
        return await answered(Batches(answer, most=100, together=together), *requests)

    expected = [[{"answer": value} for value in one.inputs] for one in requests]
    assert asyncio.run(work(True)) == expected
    assert calls == [(3, ["a", "b", "c", "e"]), (1, ["d"])]
    calls.clear()
    assert asyncio.run(work(False)) == expected
    assert len(calls) == 4


def test_one_that_fails_does_not_harm_the_others():
    def answer(inputs, asked):
        if "bad" in inputs:
            raise MemoryError
        return [{} for _ in inputs]

    found = asyncio.run(answered(Batches(answer, most=100), request_of("a"), request_of("bad"), request_of("b")))
    assert found[0] == found[2] == [{}]
    assert isinstance(found[1], MemoryError)


def test_too_many_and_too_slow_are_503():
    def answer(inputs, asked):
        time.sleep(0.2)
        return [{} for _ in inputs]

    async def work():
        batches = Batches(answer, most=2)
        return await answered(batches, request_of("a"), request_of("b"), request_of("c"), seconds=5.0)

    found = asyncio.run(work())
    assert [type(one) for one in found] == [list, list, RefusedError]
    assert (found[2].status, found[2].headers) == (503, {"retry-after": "1"})
    (slow,) = asyncio.run(answered(Batches(answer, most=2), request_of("a"), seconds=0.01))
    assert (slow.status, "0.01 seconds" in slow.sentence) == (503, True)


# The server


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70_000}, "--port must lie between 0 and 65535"),
        ({"host": "no such host"}, "Cannot listen at no such host"),
        ({"host": "192.0.2.1"}, "Cannot listen at 192.0.2.1"),
    ],
)
def test_an_address_that_cannot_be_had(run, options, message):
    with pytest.raises(thalweg.InputError, match=message):
        serve(run, **options)


def test_without_uvicorn_and_with_limits_of_nothing(run, monkeypatch):
    with pytest.raises(thalweg.InputError, match="limit of inputs must be above 0"):
        Limits(inputs=0)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(thalweg.InputError, match=r"pip install 'thalweg\[serve\]'"):
        serve(run)


@contextlib.contextmanager
def server_of(folder, *options, command=(sys.executable, "-m", "thalweg")):
    command = [*command, "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals on Windows")
def test_a_signal_ends_it_once_every_request_has_its_answer(run):
    """Clients on open connections ask until they are told to close; what was sent has its answer."""
    with server_of(run.folder) as (process, port):
        statuses, ready = [], threading.Event()

        def client(_):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            for turn in range(10_000):
                connection.request("POST", "/predict", json.dumps({"input": "good"}))
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
                if turn == 20:
                    ready.set()
                if response.getheader("connection") == "close":
                    return True
            return False

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            told = pool.map(client, range(4))
            assert ready.wait(20)
            process.send_signal(signal.SIGTERM)
            assert all(told)
        assert process.wait(20) == 0
        assert set(statuses) == {200}
        assert "Traceback" not in process.stderr.read()


def ended(connection, seconds=10.0):
    """Whether the server ends a connection in time, whatever it says before."""
    connection.settimeout(seconds)
    try:
        while connection.recv(2**16):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


RUN = "from thalweg.cli.main import run; run()"
BEGUN = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n"


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals and limits on Windows")
def test_clients_that_are_silent_or_read_nothing_are_let_go_and_do_not_keep_the_server_from_ending(run):
    """More than there may be files; without a request, a header or a body that ends; with answers that nobody takes."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)); {RUN}"
    command = [sys.executable, "-c", limited]
    with server_of(run.folder, "--timeout", "0.3s", command=command) as (process, port), contextlib.ExitStack() as rest:

        def connected():
            return rest.enter_context(socket.create_connection(("127.0.0.1", port)))

        unread, silent = connected(), [connected() for _ in range(100)]
        unread.settimeout(0.2)
        body = json.dumps({"inputs": ["good " * 1000] * 200}).encode()
        with contextlib.suppress(TimeoutError):
            for _ in range(50):
                unread.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        for one, begun in zip(silent, (BEGUN, BEGUN + b"\r\n{", b"no request\r\n\r\n"), strict=False):
            one.sendall(begun)
        assert all(map(ended, silent))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/predict", json.dumps({"input": "good"}))
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (200, True)
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert len(process.stderr.read().splitlines()) <= 1
