"""Serves the page of a run while it trains."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from grokscope.analysis.report.document import run_document
from grokscope.analysis.report.page import document_json, page_html
from grokscope.analysis.run import Run

IDLE_SECONDS = 30.0  # after which a connection that asks nothing is closed
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # the user has opened it to any name
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LiveDocument:
    """The newest document of a run, made again only when its files have changed.

    Making it takes at most half of the time of one core: the run may share the machine.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._seen: object = None
        self._rest_until = 0.0
        self._text, self._tag = "", ""

    def newest(self) -> tuple[str, str]:
        """JSON and its tag."""
        with self._lock:
            begun, signature = time.monotonic(), _signature(self._path)
            if not self._text or (signature != self._seen and begun >= self._rest_until):
                self._text = document_json(run_document(Run.open(self._path), live=True))
                self._tag = f'"{hashlib.sha256(self._text.encode()).hexdigest()[:32]}"'
                self._seen = signature
                now = time.monotonic()
                self._rest_until = now + (now - begun)
            return self._text, self._tag

    def close(self) -> None:
        """Wait for a document that is being made, and make no other.

        Threads that end with the process must not end within HDF5.
        """
        self._lock.acquire()


class LiveServer(ThreadingHTTPServer):
    """HTTP server of one run's page; :meth:`serve_forever` until :meth:`shutdown`.

    Only ``GET /`` and ``GET /data.json``; requests for another host name are refused, so that a
    page elsewhere cannot read them through a name that it points here.

    Args:
        run: The run.
        host: Where to listen.
        port: 0 takes a free one.

    Raises:
        OSError: If it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, run: Run, host: str = "127.0.0.1", port: int = 0) -> None:
        self.page = page_html(run_document(run, live=True))
        self.document = LiveDocument(run.path)
        self.names = None if host in EVERYWHERE else LOCAL | {host}
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing for a page that was closed while it was answered."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Listen no longer; returns when no document is being made."""
        super().server_close()
        self.document.close()

    def knows(self, host: str) -> bool:
        """Whether a request for this host, with or without a port, is meant for this server."""
        return self.names is None or re.sub(r":\d*$", "", host) in self.names

    @property
    def url(self) -> str:
        """Address of the page."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        if not self.server.knows(self.headers.get("Host", "")):
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "unknown host name\n")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, "text/html", self.server.page)
        elif self.path == "/data.json":
            self._data()
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "not found\n")

    def _data(self) -> None:
        try:
            text, tag = self.server.document.newest()
        except (OSError, ValueError) as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n")
            return
        if self.headers.get("If-None-Match") == tag:
            self._answer(HTTPStatus.NOT_MODIFIED, "application/json", "", tag)
        else:
            self._answer(HTTPStatus.OK, "application/json", text, tag)

    def _answer(self, status: HTTPStatus, kind: str, text: str, tag: str = "") -> None:
        body = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (HEADERS | ({"ETag": tag} if tag else {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line a second says nothing."""


def _signature(folder: Path) -> object:
    """Changes whenever the run has written."""
    files = [*sorted(folder.glob("*.h5")), folder / "run.json"]
    return [(f.name, s.st_mtime_ns, s.st_size) for f in files if f.exists() and (s := f.stat())]
