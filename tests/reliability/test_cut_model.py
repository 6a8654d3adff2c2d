"""The file system of scripts/reliability/cuts.py loses what a real one may lose, and no more."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "reliability"))

from cut_files import PAGE, File
from cut_states import Drawn, Kept, choosers
from cut_volume import Volume, write_out
from shim import Record

ROOT, NEW, FOLDER = 1000, 1001, 1002  # inodes


class Calls:
    """A watched folder, and calls on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.volume = folder, Volume(folder)
        self.root = folder.stat().st_ino

    def __call__(
        self, kind: str, name: str = "", file: int = NEW, a: int = 0, b: int = 0, **more: object
    ) -> None:
        path, path2 = (f"{self.folder}/{n}" for n in (name, more.get("to", "")))
        data = more.get("data", b"")
        assert isinstance(data, bytes)
        self.volume.apply(Record(kind, 0, file, a, b, path, path2, data))

    def create(self, name: str, data: bytes) -> None:
        self("open", name, b=1)
        self("write", name, data=data)

    def states(self, ordered: bool, count: int = 200) -> list[dict[str, bytes | None]]:
        draw = random.Random(0)
        found = [self.volume.after(Drawn(ordered, draw, p)) for p in (0.1, 0.5) * (count // 2)]
        return list({repr(state): state for state in found}.values())


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path)


def test_pages_survive_one_by_one() -> None:
    file = File(b"a" * 2 * PAGE)
    file.write(0, b"b" * 2 * PAGE)
    draw = random.Random(0)
    found = {file.after(Drawn(True, draw, 0.5))[::PAGE] for _ in range(50)}
    assert found == {b"aa", b"ab", b"ba", b"bb"}


def test_a_page_may_have_any_version_since_the_last_sync() -> None:
    file = File()
    for letter in (b"a", b"b", b"c"):
        file.write(0, letter)
    draw = random.Random(0)
    assert {file.after(Drawn(True, draw, 0.1)) for _ in range(99)} >= {b"\0", b"a", b"b", b"c"}
    file.sync()
    file.write(0, b"d")
    assert {file.after(Drawn(True, draw, 0.5)) for _ in range(50)} == {b"c", b"d"}


def test_a_size_may_survive_without_its_data() -> None:
    file = File(b"old")
    file.write(3, b"new")
    assert file.after(Kept(True, True, data=False, sizes=True)) == b"old\0\0\0"
    assert file.after(Kept(True, True, data=True, sizes=False)) == b"old"
    assert file.now() == b"oldnew"


def test_truncation_may_be_lost() -> None:
    file = File(b"a" * 2 * PAGE)
    file.truncate(1)
    draw = random.Random(0)
    assert {len(file.after(Drawn(True, draw, 0.5))) for _ in range(50)} == {1, 2 * PAGE}


def test_a_file_replaced_without_a_sync_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"old")
    calls = Calls(tmp_path)
    calls.create("draft", b"new")
    calls("rename", "draft", to="run.json")
    for ordered in (True, False):
        assert {"run.json": b""} in calls.states(ordered)


def test_a_file_synced_and_then_replaced_is_old_or_new(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"old")
    calls = Calls(tmp_path)
    calls.create("draft", b"new")
    calls("fsync", "draft")
    calls("rename", "draft", to="run.json")
    for ordered in (True, False):
        found = {state["run.json"] for state in calls.states(ordered)}
        assert found == {b"old", b"new"}
    calls("fsync", file=calls.root)
    for ordered in (True, False):
        assert calls.states(ordered) == [{"run.json": b"new"}]


def test_a_sync_takes_earlier_names_along_only_in_order(calls: Calls) -> None:
    calls("mkdir", "folder", file=FOLDER)
    calls.create("folder/file", b"data")
    calls("fsync", "folder/file")
    assert calls.states(ordered=True) == [{"folder": None, "folder/file": b"data"}]
    assert {} in calls.states(ordered=False)
    assert {"folder": None} in calls.states(ordered=False)
    calls("fsync", "folder", file=FOLDER)
    assert {} in calls.states(ordered=False)
    calls("fsync", file=calls.root)
    assert calls.states(ordered=False) == [{"folder": None, "folder/file": b"data"}]


def test_names_in_order_survive_up_to_one_of_them(calls: Calls) -> None:
    for number in range(3):
        calls("open", f"{number}", file=NEW + number, b=1)
    found = [sorted(state) for state in calls.states(ordered=True)]
    assert sorted(found) == [[], ["0"], ["0", "1"], ["0", "1", "2"]]
    assert ["2"] in [sorted(state) for state in calls.states(ordered=False)]


def test_a_deletion_may_be_lost(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"weights")
    calls = Calls(tmp_path)
    calls("unlink", "last.ckpt", file=(tmp_path / "last.ckpt").stat().st_ino)
    assert {len(state) for state in calls.states(ordered=True)} == {0, 1}


def test_a_file_written_after_its_deletion_leaves_nothing(calls: Calls) -> None:
    calls.create("draft", b"1")
    calls("unlink", "draft")
    calls("fsync", file=calls.root)
    calls("write", "draft (deleted)", a=1, data=b"2")
    assert calls.states(ordered=False) == [{}]


def test_every_sort_of_state_is_tried_and_can_be_written(calls: Calls, tmp_path: Path) -> None:
    calls("mkdir", "folder", file=FOLDER)
    calls.create("folder/file", b"data")
    found = dict(choosers(calls.volume, "names in any order", random.Random(0)))
    assert len(found) == 8
    write_out(calls.volume.after(found["everything"]), tmp_path / "state")
    assert (tmp_path / "state" / "folder" / "file").read_bytes() == b"data"


def test_a_mapping_that_is_written_through_is_refused(calls: Calls) -> None:
    with pytest.raises(ValueError, match="mapping"):
        calls("mmap", "file")
