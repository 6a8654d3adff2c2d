"""Files that are replaced whole, for good, and never through a link."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
from pathlib import Path

import pytest

from grokscope.store import replacing
from grokscope.store.nofollow import (
    NotPlainFileError,
    check_no_links,
    open_regular,
    readable_subfolder,
    subfolder,
)
from grokscope.store.replacing import make_folder, remove_drafts, replace_text


def calls_of(monkeypatch):
    """The calls that decide what a power cut can leave, in their order."""
    calls = []

    def noted(name, real):
        def call(*arguments, **keywords):
            first = arguments[0]
            where = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else first
            calls.append((name, Path(where).name))
            return real(*arguments, **keywords)

        return call

    for name in ("fsync", "fdatasync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    return calls


def test_the_content_the_name_and_the_folder_reach_the_disk_in_this_order(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    calls = calls_of(monkeypatch)
    replace_text(folder / "a.txt", "new")
    (synced, draft), (renamed, old), (last, where) = calls
    assert (synced, renamed, last, where) == ("fdatasync", "replace", "fsync", "run")
    assert draft == old
    assert draft.startswith(".a.txt.")


def test_a_new_folder_is_in_its_parent_for_good(tmp_path, monkeypatch):
    calls = calls_of(monkeypatch)
    make_folder(tmp_path / "a" / "b")
    assert calls == [("fsync", tmp_path.name), ("fsync", "a")]
    make_folder(tmp_path / "a" / "b")
    assert len(calls) == 2


@pytest.mark.parametrize("where", ["fdatasync", "replace"])
def test_what_fails_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch, where):
    replace_text(tmp_path / "a.txt", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, where, lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
        with pytest.raises(OSError, match="broken") as error:
            replace_text(tmp_path / "a.txt", "new")
    if where == "fdatasync":
        assert error.value.filename == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path, monkeypatch):
    def unable(fd):
        raise OSError(errno.EINVAL, "invalid")

    monkeypatch.setattr(os, "fsync", unable)
    assert replace_text(tmp_path / "a.txt", "new").read_text() == "new"


def test_a_folder_that_may_not_be_read_is_no_error(tmp_path, monkeypatch):
    opened = os.open

    def refused(path, flags, *mode, **more):
        if flags & os.O_DIRECTORY:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", refused)
    assert replace_text(tmp_path / "a.txt", "new").read_text() == "new"


@pytest.mark.parametrize("error", [errno.ENOTSUP, errno.EIO])
def test_where_macos_cannot_empty_the_disk_s_cache_it_syncs(tmp_path, monkeypatch, error):
    def refused(fd, what):
        raise OSError(error, os.strerror(error))

    calls = calls_of(monkeypatch)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", refused)
    if error == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            replace_text(tmp_path / "a.txt", "new")
        return
    replace_text(tmp_path / "a.txt", "new")
    assert [name for name, _ in calls] == ["fsync", "replace", "fsync"]


def test_many_writers_at_once_leave_one_whole_file(tmp_path):
    path, texts = tmp_path / "report.html", [f"{i} " * 50_000 for i in range(8)]
    threads = [threading.Thread(target=replace_text, args=(path, text)) for text in texts]
    replace_text(path, texts[0])
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_text() in texts
    for thread in threads:
        thread.join()
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, ".hidden", "a.b.c"])
def test_any_name_that_a_file_may_have(tmp_path, name):
    assert replace_text(tmp_path / name, "new").read_text() == "new"


def others(folder):
    """Everything that is no plain file, by its kind."""
    (folder / "victim").write_text("mine")
    (folder / "link").symlink_to(folder / "victim")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "to_device").symlink_to("/dev/null")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    names = ["link", "dangling", "loop", "to_device", "folder", "fifo", "socket"]
    return [*(folder / name for name in names), Path("/dev/null"), Path("/dev/full")]


def test_nothing_but_a_file_is_replaced_or_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # paths of sockets are short
    found = others(tmp_path)
    before = {path: os.lstat(path).st_ino for path in found}
    for path in found:
        with pytest.raises(NotPlainFileError, match=rf"{path} must be a regular file"):
            replace_text(path, "other")
        for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_RDWR):
            with pytest.raises(NotPlainFileError, match=rf"{path} must be a regular file, got"):
                os.close(open_regular(path, flags))
    assert {path: os.lstat(path).st_ino for path in found} == before
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_file_of_two_names_is_read_and_replaced_but_not_written_in_place(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "train.log"
    path.hardlink_to(tmp_path / "victim")
    os.close(open_regular(path))
    for flags in (os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_TRUNC):
        with pytest.raises(NotPlainFileError, match=r"one name.* got one with 2 names \(hard"):
            open_regular(path, flags)
    with pytest.raises(NotPlainFileError, match=r"train\.log must be a file of one name"):
        check_no_links(tmp_path / "run")
    replace_text(path, "new")
    check_no_links(tmp_path / "run")
    assert (tmp_path / "victim").read_text() == "mine"


def test_an_absent_file_is_the_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")


def test_folders_below_a_run_are_no_links(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run.mkdir()
    assert subfolder(run, "measured", "default", create=True).is_dir()
    (run / "figures").symlink_to(elsewhere)
    (run / "checkpoints").write_text("")
    with pytest.raises(NotPlainFileError, match="figures must be a folder, got a symbolic link"):
        subfolder(run, "figures", create=True)
    with pytest.raises(NotPlainFileError, match="checkpoints must be a folder, got a file"):
        subfolder(run, "checkpoints")
    with pytest.raises(FileNotFoundError):
        subfolder(run, "nothing")
    alias = tmp_path / "alias"
    alias.symlink_to(run)  # the user's own, to a whole run
    assert subfolder(alias, "measured").is_dir()


def test_a_folder_for_reading_may_be_a_link_to_one_of_the_same_owner(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "scratch")
    assert readable_subfolder(tmp_path, "checkpoints").is_dir()
    if os.geteuid() == 0:
        os.chown(tmp_path / "scratch", 12345, 12345)
        with pytest.raises(NotPlainFileError, match="must be a folder of the run's owner"):
            readable_subfolder(tmp_path, "checkpoints")


def test_a_link_anywhere_in_a_run_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    check_no_links(tmp_path)
    (tmp_path / "checkpoints" / "last.ckpt").symlink_to("/etc/passwd")
    with pytest.raises(NotPlainFileError, match=r"checkpoints/last\.ckpt must be a file of the"):
        check_no_links(tmp_path)
    check_no_links(tmp_path, left_out=("checkpoints",))
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(NotPlainFileError, match=r"config\.yaml must be a file of the run, got"):
        check_no_links(tmp_path, left_out=("checkpoints",))


def test_drafts_of_killed_processes_are_removed_and_no_other_file(tmp_path):
    kept = [".a.h5.part", "a.h5", ".b.html.12-0123abcd.part", ".part"]
    for name in (".a.h5.12-0123abcd.part", ".last.ckpt.7-00000000.part", *kept):
        (tmp_path / name).touch()
    remove_drafts(tmp_path, (".h5", ".ckpt"), older_than=0)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    remove_drafts(tmp_path, (".html",))  # somebody may be at it
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    os.utime(tmp_path / kept[2], (0, 0))
    remove_drafts(tmp_path, (".html",))
    assert not (tmp_path / kept[2]).exists()
    remove_drafts(tmp_path / "nowhere", (".html",))
    assert replacing.draft_of(tmp_path / "a.h5").name.startswith(".a.h5.")
