"""The live page of a run that another process writes."""

from __future__ import annotations

import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import entry
import numpy as np
import pytest

from grokscope import Run
from grokscope.analysis.report.live import LiveServer
from grokscope.app import training
from grokscope.callbacks.rows import LOSSES, root_table
from grokscope.store import RunWriter
from grokscope.store.info import update_info
from grokscope.store.run_writer import METRICS

REPORT = Path(__file__).parents[2] / "src" / "report.py"
TINY = (
    *("experiment=none", "data.modulus=7", "net.widths=[14,16,7]", "threads=1"),
    *("model.optimizer.lr=1e-2", "schedule=dense", "trainer.max_epochs=2000"),
)
WITHIN = 2.0  # seconds from a row to the page
SAID = """() => {
  const status = document.getElementById("live");
  window.said = [];
  new MutationObserver(() => window.said.push(status.textContent))
    .observe(status, { childList: true });
}"""


def interruptible() -> None:
    """As at a terminal; what runs in the background may ignore Ctrl-C, and its children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def serve(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``python src/report.py run=... live=true``, and its address."""
    command = [sys.executable, str(REPORT), f"run={folder}", "live=true", "port=0", *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, preexec_fn=interruptible, **pipes)
    try:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line + process.stderr.read()
        yield process, address.group()
    finally:
        process.kill()
        process.communicate()


@contextmanager
def serve_here(folder: Path) -> Iterator[str]:
    """Address of a server in a thread: no process to wait for."""
    with LiveServer(Run.open(folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


def end(process: subprocess.Popen[str], number: signal.Signals, address: str) -> None:
    """The signal ends it after the document at hand, without a word; its port is free."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    port = int(address.rstrip("/").rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        pass


class Growing:
    """A run to which the test adds rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer = RunWriter(folder, {METRICS: [(root_table((), 0), 100)]})
        update_info(folder, status="running", name="growing")

    def add(self, epoch: int) -> None:
        values = {name: 1 / (1 + epoch) for name in LOSSES}
        self.writer.append(METRICS, "", values | {"epoch": epoch, "global_step": epoch})

    def finish(self) -> None:
        self.writer.finalise()
        update_info(self.folder, status="finished")


def wait(page, text: str) -> float:
    """Seconds until the status begins so."""
    begun = time.monotonic()
    says = "text => document.getElementById('live').textContent.startsWith(text)"
    page.wait_for_function(says, arg=text, polling=50)
    return time.monotonic() - begun


def test_the_page_follows_a_run_until_its_end(visit, tmp_path):
    run = Growing(tmp_path / "run")
    with serve(run.folder) as (process, address):
        visited = visit(address)
        wait(visited.page, "live: no row yet")
        assert visited.keys == []
        delays = []
        for epoch in (0, 5, 6):
            run.add(epoch)
            delays.append(wait(visited.page, f"live: epoch {epoch}"))
        assert statistics.median(delays) < WITHIN
        visited.panel("loss")
        run.add(9)
        wait(visited.page, "live: epoch 9")
        assert visited.chart("loss", "u => u.data[0]") == [0.5, 5, 6, 9]
        shown = np.array(visited.chart("loss", "u => u.data[1]"))
        np.testing.assert_array_equal(shown, np.float32([1, 1 / 6, 1 / 7, 1 / 10]))
        run.finish()
        wait(visited.page, "ended: epoch 9")
        assert visited.page.title() == "growing: finished"
        assert {url.removeprefix(address) for url in visited.asked} == {"", "data.json"}
        visited.page.context.close()
        end(process, signal.SIGTERM, address)


def test_what_the_reader_has_set_stays_when_rows_come(visit, tmp_path):
    run = Growing(tmp_path / "run")
    for epoch in range(5):
        run.add(epoch)
    with serve_here(run.folder) as address:
        visited = visit(address)
        panel = visited.panel("loss")
        panel.get_by_label("log epochs").uncheck()
        panel.locator(".u-legend th").nth(2).click()
        panel.locator(".plot").press("+")
        zoomed = visited.scale("loss")
        run.add(7)
        wait(visited.page, "live: epoch 7")
        assert not panel.get_by_label("log epochs").is_checked()
        assert visited.scale("loss") == pytest.approx(zoomed)
        assert visited.chart("loss", "u => u.series.slice(1).map(s => s.show)") == [True, False]
    run.writer.close()


def train(folder: Path, monkeypatch) -> Run:
    monkeypatch.setattr(training, "save_figures", lambda run: None)
    entry.call("train", *TINY, f"hydra.run.dir={folder}", f"paths.log_dir={folder.parent}")
    return Run.open(folder)


def test_a_run_beside_a_polling_page_is_the_run_alone(visit, tmp_path, monkeypatch):
    alone = train(tmp_path / "alone", monkeypatch)
    watched = tmp_path / "watched"
    update_info(watched, status="running")
    with serve(watched) as (process, address):
        page = visit(address).page
        wait(page, "live: no row yet")
        page.evaluate(SAID)
        beside = train(watched, monkeypatch)
        wait(page, "ended: epoch 2,000")
        said = page.evaluate("() => window.said")
        page.context.close()
        end(process, signal.SIGINT, address)
    assert [text for text in said if re.fullmatch(r"live: epoch [1-9].*", text)], said
    assert set(beside.metrics) == set(alone.metrics)
    for name, values in alone.metrics.items():
        np.testing.assert_array_equal(beside.metrics[name], values, err_msg=name)
