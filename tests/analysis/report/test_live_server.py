"""The server of a live page: who may ask, for what, and what it says when nothing is new."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from grokscope.analysis.report.live import IDLE_SECONDS, LiveDocument, LiveServer, _Handler
from grokscope.analysis.run import Run
from grokscope.store.info import update_info


@pytest.fixture
def server(synthetic):
    """Of a run with two rows; ``synthetic`` writes more."""
    for epoch in range(2):
        synthetic.write(epoch)
    with LiveServer(Run.open(synthetic.folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path="/", method="GET", **headers):
    """Status, headers and text of an answer."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=5)
    connection.request(method, path, headers={n.replace("_", "-"): v for n, v in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def document(server, tag=""):
    status, headers, text = ask(server, "/data.json", If_None_Match=tag)
    return status, headers.get("ETag"), json.loads(text) if text else None


def test_it_listens_on_loopback_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"


def test_it_gives_the_page_and_its_data(server):
    status, headers, html = ask(server)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert '"live":true' in html
    assert "connect-src 'self'" in html
    status, headers, text = ask(server, "/data.json")
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(text)["progress"] == "epoch 1"
    for name, value in (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")):
        assert headers[name] == value
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path",
    ["/other", "/run.json", "/../run.json", "/data.json/", "/%2e%2e/etc/passwd", "/?", ""],
)
def test_it_gives_nothing_else(server, path):
    status, _, text = ask(server, path or "/data.json?x")
    assert status == 404
    assert text == "not found\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_takes_nothing(server, method):
    assert ask(server, "/data.json", method)[0] == 501


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{}", "127.0.0.1.evil:{}", "", ":{}"]
)
def test_other_host_names_are_refused(server, host):
    port = server.server_address[1]
    status, _, text = ask(server, "/data.json", Host=host.format(port))
    assert (status, text) == (403, "unknown host name\n")


@pytest.mark.parametrize("host", ["localhost:{}", "127.0.0.1:{}", "[::1]:{}"])
def test_the_machine_s_own_names_are_known(server, host):
    assert ask(server, Host=host.format(server.server_address[1]))[0] == 200


def test_a_name_without_a_port_is_known(server):
    """As browsers send it for port 80."""
    assert ask(server, Host="localhost")[0] == 200


def test_data_are_sent_again_only_when_rows_have_come(server, synthetic):
    status, tag, first = document(server)
    assert (status, first["progress"]) == (200, "epoch 1")
    assert document(server, tag)[::2] == (304, None)
    synthetic.write(2)
    stop = time.monotonic() + 2
    while (answer := document(server, tag))[0] == 304 and time.monotonic() < stop:
        time.sleep(0.05)
    assert answer[0] == 200
    assert answer[1] != tag
    assert answer[2]["progress"] == "epoch 2"
    synthetic.finish()
    stop = time.monotonic() + 2
    while (answer := document(server))[2]["running"] and time.monotonic() < stop:
        time.sleep(0.05)
    assert answer[2]["title"] == "synthetic: finished"


def test_one_document_is_made_for_many_readers(synthetic, monkeypatch):
    synthetic.write(0)
    made = []
    monkeypatch.setattr(
        "grokscope.analysis.report.live.run_document",
        lambda run, live: made.append(run) or {"n": len(made)},
    )
    newest = LiveDocument(synthetic.folder)
    threads = [threading.Thread(target=newest.newest) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_making_documents_takes_at_most_half_of_the_time(synthetic, monkeypatch):
    synthetic.write(0)
    made = []

    def slow(run, live):
        made.append(time.monotonic())
        time.sleep(0.1)
        return {"n": len(made)}

    monkeypatch.setattr("grokscope.analysis.report.live.run_document", slow)
    newest = LiveDocument(synthetic.folder)
    stop, epoch = time.monotonic() + 1, 1
    while time.monotonic() < stop:
        synthetic.write(epoch)
        newest.newest()
        epoch += 1
    assert 3 <= len(made) <= 6
    assert min(b - a for a, b in pairwise(made)) >= 0.19


def within(seconds: float, wanted: Callable[[], bool]) -> bool:
    """Whether it becomes true in time; a server rests as long as it has worked."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if wanted():
            return True
        time.sleep(0.05)
    return False


def test_a_run_that_cannot_be_read_for_a_moment_is_an_error_of_that_moment(server, synthetic):
    path = synthetic.folder / "run.json"
    text = path.read_text()
    assert document(server)[0] == 200
    path.write_text("{")
    assert within(20, lambda: ask(server, "/data.json")[0] == 503)
    assert "run.json" in ask(server, "/data.json")[2]
    path.write_text(text)
    update_info(synthetic.folder, name="again")
    assert within(20, lambda: ask(server, "/data.json")[0] == 200)
    assert within(20, lambda: document(server)[2]["title"] == "again: running")


def test_two_servers_do_not_share_a_port(server, synthetic):
    with pytest.raises(OSError, match="in use"):
        LiveServer(Run.open(synthetic.folder), port=server.server_address[1])


def test_the_port_is_free_when_it_has_ended(synthetic):
    with LiveServer(Run.open(synthetic.folder)) as server:
        port = server.server_address[1]
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_serving_leaves_the_run_s_folder_as_it_is(server, synthetic):
    files = {p: p.read_bytes() for p in synthetic.folder.rglob("*") if p.is_file()}
    for _ in range(3):
        ask(server)
        document(server)
    assert {p: p.read_bytes() for p in synthetic.folder.rglob("*") if p.is_file()} == files


def test_closing_waits_for_the_document_that_is_being_made(synthetic, monkeypatch):
    """A thread that the process's end stops within HDF5 would hang it, or crash it."""
    synthetic.write(0)
    moments = []

    def slow(run, live):
        moments.append("begun")
        time.sleep(1)  # longer than ending takes
        moments.append("made")
        return {}

    server = LiveServer(Run.open(synthetic.folder))
    monkeypatch.setattr("grokscope.analysis.report.live.run_document", slow)
    for target in (server.serve_forever, lambda: ask(server, "/data.json")):
        threading.Thread(target=target, daemon=True).start()
    while not moments:
        time.sleep(0.01)
    server.shutdown()
    server.server_close()
    assert moments == ["begun", "made"]


def test_a_connection_that_asks_nothing_is_closed(server, monkeypatch):
    monkeypatch.setattr(_Handler, "timeout", 0.2)
    with socket.create_connection(server.server_address[:2], timeout=5) as idle:
        assert idle.recv(1) == b""
    assert ask(server)[0] == 200
    assert 10 < IDLE_SECONDS < 100
