"""One writer a folder, and how a reader sees that a writer is gone."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from grokscope.store import RunWriter, lock
from grokscope.store.layout import Column, Table
from grokscope.store.lock import FolderInUseError, FolderLock, abandoned, check_free

TABLES = {"metrics.h5": [(Table("", {"epoch": Column(dtype="<i8")}), 10)]}
HOLD = "import sys, time; from pathlib import Path; from grokscope.store.lock import FolderLock\n"
HOLD += "held = FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of ``tmp_path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def end(process, how=signal.SIGKILL):
    process.send_signal(how)
    process.wait()


@pytest.mark.refusal
def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path, other):
    text = rf"{tmp_path} is written by another process \({other.pid} on {platform.node()}\)\."
    for take in (FolderLock, check_free, lambda folder: RunWriter(folder, TABLES)):
        with pytest.raises(FolderInUseError, match=text):
            take(tmp_path)
    assert not abandoned(tmp_path)
    assert not list(tmp_path.glob("*.h5"))
    end(other)
    assert abandoned(tmp_path)
    check_free(tmp_path)
    RunWriter(tmp_path, TABLES).close()


def test_readers_that_look_do_not_keep_a_writer_out(tmp_path):
    command = "import sys; from pathlib import Path; from grokscope.store.lock import abandoned\n"
    command += "print('looks', flush=True)\nwhile True: abandoned(Path(sys.argv[1]))"
    FolderLock(tmp_path).release()
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", command, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        assert all(reader.stdout.readline() == "looks\n" for reader in readers)
        for _ in range(200):
            FolderLock(tmp_path).release()
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()


def test_one_process_may_hold_it_twice(tmp_path):
    with FolderLock(tmp_path) as first:
        FolderLock(tmp_path).release()
        assert not abandoned(tmp_path)
        first.release()
        assert abandoned(tmp_path)


def test_a_writer_holds_it_until_it_is_closed_or_final(tmp_path):
    for end_of in (RunWriter.close, RunWriter.finalise):
        folder = tmp_path / end_of.__name__
        run = RunWriter(folder, TABLES)
        run.append("metrics.h5", "", {"epoch": 0})
        assert not abandoned(folder)
        end_of(run)
        assert abandoned(folder)


def test_a_writer_that_is_refused_holds_nothing(tmp_path):
    RunWriter(tmp_path, TABLES).close()
    with pytest.raises(FileExistsError):
        RunWriter(tmp_path, TABLES)
    assert abandoned(tmp_path)


def test_without_a_lock_nothing_is_known(tmp_path):
    assert not abandoned(tmp_path)
    check_free(tmp_path)
    os.mkfifo(tmp_path / lock.NAME)
    assert not abandoned(tmp_path)


def test_a_run_of_another_machine_is_given_up_when_it_is_quiet(tmp_path, monkeypatch):
    FolderLock(tmp_path).release()
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    assert not abandoned(tmp_path)
    old = time.time() - lock.QUIET_SECONDS - 1
    os.utime(tmp_path / lock.NAME, (old, old))
    assert abandoned(tmp_path)


@pytest.mark.parametrize("note", [b"", b"\xff\xfe", b"[1, 2]", b"[" * 5000])
def test_a_note_of_garbage_is_no_note(tmp_path, note):
    FolderLock(tmp_path).release()
    (tmp_path / lock.NAME).write_bytes(note)
    assert not abandoned(tmp_path)


def test_a_file_system_without_locks_refuses_nobody(tmp_path, monkeypatch, other):
    def unsupported(fd, operation):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    FolderLock(tmp_path).release()
