"""The library that lets calls fail, and the injector that it serves, in its small form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "reliability"
sys.path.insert(0, str(SCRIPTS))

import shim  # noqa: E402

why_not = shim.why_not()
pytestmark = pytest.mark.skipif(why_not is not None, reason=f"no calls can fail here: {why_not}")
BEGIN = f"""
import errno, os, sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPTS)!r})
from shim import FAIL, HALF, NOTHING, Shim
folder = Path(sys.argv[1])
shim = Shim()
shim.trace(folder.parent / "trace")
shim.record(folder.parent / "record")
shim.watch(folder)
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "watched").mkdir()
    return tmp_path / "watched"


def under_shim(folder: Path, script: str) -> str:
    """What a script prints that has the library and watches the folder."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=shim.environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def replayed(records: Path, folder: Path) -> dict[str, bytes]:
    """Relative path -> content, from nothing but the records of a folder that was empty."""
    files: dict[int, bytearray] = {}
    names: dict[str, int] = {}
    for each in shim.records(records):
        if each.kind == "open" and each.b:
            files[each.file] = bytearray()
            names[each.path] = each.file
        elif each.kind == "write":
            content = files[each.file]
            content.extend(bytes(max(0, each.a + len(each.data) - len(content))))
            content[each.a : each.a + len(each.data)] = each.data
        elif each.kind == "truncate":
            content = files[each.file]
            content[:] = content[: each.a] + bytes(max(0, each.a - len(content)))
        elif each.kind == "rename":
            names[each.path2] = names.pop(each.path)
        elif each.kind == "link":
            names[each.path2] = each.file
        elif each.kind == "unlink":
            del names[each.path]
    return {str(Path(name).relative_to(folder)): bytes(files[i]) for name, i in names.items()}


def test_a_record_holds_all_that_was_written_whoever_wrote_it(folder) -> None:
    under_shim(folder, """
import h5py, shutil
with h5py.File(folder / "rows.h5", "w") as file:
    file["x"] = range(2000)
shutil.copyfile(folder / "rows.h5", folder / "copy")
os.replace(folder / "copy", folder / "moved")
with (folder / "text").open("a") as file:
    file.write("one")
    file.flush()
    os.link(folder / "text", folder / "linked")
    os.pwrite(file.fileno(), b"three", 1)
os.truncate(folder / "text", 4)
inside = os.open(folder, os.O_RDONLY)
deep = os.open("deep", os.O_CREAT | os.O_RDWR, dir_fd=inside)
again = os.open(f"/proc/self/fd/{deep}", os.O_WRONLY)
os.writev(again, [b"a", b"bc"])
os.unlink(folder / "text")
Path(sys.argv[1]).parent.joinpath("elsewhere").write_text("not watched")
""")  # fmt: skip
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert there.keys() == {"rows.h5", "moved", "linked", "deep"}
    assert replayed(folder.parent / "record", folder) == there


def test_the_call_that_was_named_goes_wrong_as_asked_and_later_ones_if_asked(folder) -> None:
    printed = under_shim(folder, """
file = os.open(folder / "a", os.O_CREAT | os.O_WRONLY)
for mode in (HALF, NOTHING):
    shim.fail(shim.count() + 1, mode)
    print(os.write(file, b"12345678"))
shim.fail(shim.count() + 2, FAIL, errno.ENOSPC, ("write",))
for call in (os.fsync, lambda f: os.write(f, b"x"), os.fsync, lambda f: os.write(f, b"x")):
    try:
        print(call(file))
    except OSError as error:
        print(errno.errorcode[error.errno])
try:
    os.close(os.open(folder.parent / "b", os.O_CREAT | os.O_WRONLY))
    shim.fail(shim.count() + 1, FAIL, errno.EIO)
    os.close(file)
except OSError as error:
    print(errno.errorcode[error.errno], os.path.exists(f"/proc/self/fd/{file}"))
""")  # fmt: skip
    assert printed.split() == [
        *("4", "0", "None", "ENOSPC", "None", "ENOSPC", "EIO", "False"),
    ]
    assert (folder / "a").read_bytes() == b"1234"
    wrong = [call for call in shim.traced(folder.parent / "trace") if call.injected]
    assert [(call.kind, call.result) for call in wrong] == [
        ("write", 4), ("write", 0), ("write", -1), ("write", -1), ("close", -1)
    ]  # fmt: skip


def test_a_child_process_is_left_alone(folder) -> None:
    under_shim(
        folder,
        """
import subprocess
shim.fail(1, FAIL, errno.EIO, ("create", "write", "mkdir"))
subprocess.run(["mkdir", str(folder / "made")], check=True)
if not os.fork():
    (folder / "written").write_text("by a fork")
    os._exit(0)
os.wait()
""",
    )
    assert {path.name for path in folder.iterdir()} == {"made", "written"}


@pytest.mark.slow
def test_calls_that_fail_cost_no_row_and_no_run(tmp_path) -> None:
    page = tmp_path / "page.md"
    script = str(SCRIPTS / "inject.py")
    done = subprocess.run(
        [sys.executable, script, "--quick", f"--page={page}", f"--dir={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    found = {cells[0]: cells[1:] for cells in rows}
    assert found[""][-1] == "all"
    assert {"starting", "running", "checkpoint", "finalising", "resume"} <= {*found[""]}
    assert int(found["cases"][-1]) == 10
    assert int(found["ended with one line (exit code 1)"][-1]) > 0
    assert int(found["went on afterwards"][-1]) > 0
    assert found["**failures**"] == ["0"] * len(found[""])
