"""Files from strangers: one clear error that names the file, and nothing else is read."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import zlib

import h5py
import numpy as np
import pytest

from grokscope.store import RunWriter, TableFile
from grokscope.store.layout import Column, Table
from grokscope.store.nofollow import NotPlainFileError

pytestmark = pytest.mark.refusal
TABLE = Table("", {"epoch": Column(dtype="<i8"), "x": Column((40,))})
DEEP = Table("gop/batch", {"epoch": Column(dtype="<i8"), "x": Column()}, {"layers": ["a"]})


@pytest.fixture(params=["live", "final"])
def path(tmp_path, request):
    run = RunWriter(tmp_path, {"metrics.h5": [(TABLE, 100), (DEEP, 100)]})
    for epoch in range(100):
        run.append("metrics.h5", "", {"epoch": epoch, "x": np.full(40, epoch)})
        run.append("metrics.h5", "gop/batch", {"epoch": epoch, "x": epoch})
    run.finalise() if request.param == "final" else run.close()
    return tmp_path / "metrics.h5"


def read_all(path):
    return dict(TableFile(path).everything())


def refused(path, reason=""):
    with pytest.raises(ValueError, match=rf"metrics\.h5 cannot be read: .*{reason}"):
        read_all(path)


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file(path, share):
    os.truncate(path, int(share * path.stat().st_size))
    refused(path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89HDF\r\n\x1a\n" + b"\xff" * 4000])
def test_garbage(tmp_path, content):
    (tmp_path / "metrics.h5").write_bytes(content)
    refused(tmp_path / "metrics.h5")


def test_a_foreign_file(tmp_path):
    for libver, why in (("v108", "without a schema"), ("earliest", "HDF5's oldest format")):
        with h5py.File(tmp_path / "metrics.h5", "w", libver=libver) as file:
            file["train_loss"] = np.arange(3.0)
        refused(tmp_path / "metrics.h5", why)


@pytest.mark.parametrize("version", ["1", [1, 1], 1.5])
def test_a_schema_that_is_no_number(path, version):
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = version
    refused(path, "without a schema")


def test_a_newer_schema(path):
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 2
    refused(path, "schema 2, this grokscope knows 1: update grokscope")


@pytest.mark.parametrize("count", [-1, 101, 2**62])
def test_a_count_of_rows_that_are_not_there(path, count):
    with h5py.File(path, "r+") as file:
        file["index/rows"][0] = count
    refused(path)


def test_a_count_that_is_text(path):
    with h5py.File(path, "r+") as file:
        del file["index/rows"]
        file["index/rows"] = "many"
    refused(path)


def test_an_index_without_its_table(path):
    with h5py.File(path, "r+") as file:
        del file["gop/batch"]
    refused(path, "batch")


def test_a_bomb_is_not_unpacked(path):
    with h5py.File(path, "r+") as file:
        del file["x"]
        file.create_dataset("x", (100, 2**40), "f8", chunks=(1, 2**20), compression="gzip")
    refused(path, "more than the file can hold")


def test_text_is_no_column(path):
    with h5py.File(path, "r+") as file:
        del file["x"]
        file["x"] = ["text"] * 100
    refused(path, "must be numbers in this file")


def test_bytes_of_another_file_are_not_read(path):
    secret = path.with_name("secret")
    secret.write_bytes(b"secret  " * 100)
    with h5py.File(path, "r+") as file:
        del file["x"]
        file.create_dataset("x", (100,), "f8", external=[(str(secret), 0, 800)])
    refused(path, "must be numbers in this file")


@pytest.mark.parametrize("way", ["link", "virtual"])
def test_data_of_another_hdf5_file_is_not_read(path, way):
    secret = path.with_name("secret.h5")
    with h5py.File(secret, "w") as file:
        file["x"] = np.arange(100.0)
    with h5py.File(path, "r+", libver="latest") as file:
        del file["x"]
        if way == "link":
            file["x"] = h5py.ExternalLink(str(secret), "x")
        else:
            layout = h5py.VirtualLayout((100,), "f8")
            layout[:] = h5py.VirtualSource(str(secret), "x", (100,))
            file.create_virtual_dataset("x", layout)
    refused(path, "must be numbers in this file")


def test_an_attribute_that_is_no_json(path):
    for text in ("[1,", "[" * 100_000):
        with h5py.File(path, "r+", libver="latest") as file:
            file["gop/batch"].attrs["layers"] = text
        with pytest.raises(ValueError, match=r"metrics\.h5 cannot be read"):
            TableFile(path).attribute("gop/batch", "layers")


def test_a_folder_or_a_pipe_in_its_place(tmp_path):
    (tmp_path / "metrics.h5").mkdir()
    with pytest.raises(NotPlainFileError, match=r"metrics\.h5 must be a regular file, got a fol"):
        TableFile(tmp_path / "metrics.h5")
    (tmp_path / "metrics.h5").rmdir()
    os.mkfifo(tmp_path / "metrics.h5")
    with pytest.raises(NotPlainFileError, match=r"metrics\.h5 must be a regular file, got a FIFO"):
        TableFile(tmp_path / "metrics.h5")


def test_an_absent_file_is_the_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.h5 does not exist"):
        TableFile(tmp_path / "metrics.h5")


def test_an_absent_column(path):
    with pytest.raises(ValueError, match=r"metrics\.h5 cannot be read: .*nothing"):
        TableFile(path).read("", "nothing")


def test_epochs_that_do_not_ascend(path):
    with h5py.File(path, "r+") as file:
        file["epoch"][3] = 7
    refused(path, "epoch must be epochs in ascending order")


def test_a_table_without_epochs(path):
    with h5py.File(path, "r+") as file:
        del file["gop/batch/epoch"]
    refused(path, "/gop/batch has no epochs")


def test_tables_without_end(path):
    with h5py.File(path, "r+") as file:
        file["index/" + "d/" * 300 + "end"] = [1]
    refused(path, "one table too many")


def test_tables_in_a_circle(path):
    with h5py.File(path, "r+") as file:
        file["index/again"] = file["/"]
    refused(path, "one table too many")


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (50, 2), "compression": "lzf", "dtype": "f8"},
        {"chunks": (50, 2), "scaleoffset": 4, "dtype": "f8"},
        {"dtype": [("a", "f8")]},
        {"dtype": np.longdouble},
    ],
)
def test_a_filter_or_a_type_that_no_run_uses(path, options):
    with h5py.File(path, "r+") as file:
        del file["x"]
        file.create_dataset("x", (100, 2), **options)
    refused(path, "must be numbers in this file")


def test_a_chunk_that_unpacks_to_more_than_it_says(path):
    packer, zeros = zlib.compressobj(1), bytes(2**23)
    first, again = (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    bomb = first + 200 * again + packer.flush()
    with h5py.File(path, "r+") as file:
        del file["x"]
        data = file.create_dataset("x", (2**20,), "f8", chunks=(2**17,), compression="gzip")
        data.id.write_direct_chunk((0,), bomb)
    refused(path, "claims chunks of more bytes than it has")


def test_a_link_to_a_pipe_is_not_opened(path):
    os.mkfifo(path.with_name("pipe"))
    with h5py.File(path, "r+") as file:
        del file["x"]
        file["x"] = h5py.ExternalLink(str(path.with_name("pipe")), "x")
    refused(path, "must be numbers in this file")


def heap_of(path):
    content = path.read_bytes()
    return content, content.index(b"GCOL")


@pytest.mark.parametrize("damage", ["zeros", "length", "size", "nowhere"])
def test_a_damaged_heap_of_texts_does_not_hang(path, damage):
    """HDF5 2.0 reads a heap with zeros in it for ever."""
    content, start = heap_of(path)
    changed = {
        "zeros": content[: start + 16] + bytes(200) + content[start + 216 :],
        "length": content[: start + 24] + b"\xff" * 8 + content[start + 32 :],
        "size": content[: start + 8] + b"\xff" * 8 + content[start + 16 :],
        "nowhere": content.replace(start.to_bytes(8, "little"), (2**50).to_bytes(8, "little")),
    }[damage]
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"metrics\.h5 cannot be read: "):
        TableFile(path).attribute("gop/batch", "layers")


@pytest.mark.parametrize("node", ["/", "gop/batch", "rows/gop/batch", "check/rows"])
def test_a_damaged_heap_does_not_hang_a_run_that_goes_on(path, node):
    with h5py.File(path, "r+") as file:
        node = node if node in file else "/"  # a final file has no checksums
        file[node].attrs["a note"] = "of a user, in a heap of its own " * 20
    content = path.read_bytes()
    start = content.rindex(b"GCOL")
    path.write_bytes(content[: start + 16] + bytes(200) + content[start + 216 :])
    with pytest.raises(ValueError, match="damaged"):
        RunWriter(path.parent, {"metrics.h5": [(TABLE, 100), (DEEP, 100)]}, resume_epoch=50)
    assert path.read_bytes()[start : start + 4] == b"GCOL"


def test_a_whole_heap_is_read_in_every_form_of_attribute(path):
    for version in ("earliest", "v108", "latest"):
        with h5py.File(path, "r+", libver=version) as file:
            file["gop/batch"].attrs["layers"] = '["b"]'
        assert TableFile(path).attribute("gop/batch", "layers") == ["b"]


def test_many_attributes_and_a_hole_without_end(path):
    with h5py.File(path, "r+", libver="latest") as file:
        file.attrs.update({f"note {number}": f"text {number}" for number in range(30)})
    os.truncate(path, 2**42)
    begun = time.perf_counter()
    assert len(read_all(path)["gop/batch"]["epoch"]) == 100
    assert time.perf_counter() - begun < 5


def test_an_attribute_that_is_neither_number_nor_text(path):
    value = np.empty(1, object)
    value[0] = np.ones(2)
    with h5py.File(path, "r+") as file:
        file["gop/batch"].attrs.create("more", value, dtype=h5py.vlen_dtype("f8"))
    refused(path, "neither a number nor a text")


FLIPS = """
import sys
from pathlib import Path
from grokscope.store import TableFile
for path in sorted(Path(sys.argv[1]).glob("flipped-*")):
    try:
        dict(TableFile(path).everything())
    except ValueError as error:
        assert str(error).startswith(str(path)), error
"""


def test_flipped_bytes_give_no_other_error(path):
    content, rng = path.read_bytes(), random.Random(0)
    for i in range(40):
        flipped = bytearray(content)
        for _ in range(3):
            flipped[rng.randrange(min(len(content), 20_000))] = rng.randrange(256)
        path.with_name(f"flipped-{i}").write_bytes(flipped)
    command = [sys.executable, "-c", FLIPS, str(path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("source", ["x", "live/gop/batch"])
def test_a_view_of_anything_but_the_tables_own_scalars_is_not_read(path, source):
    with h5py.File(path, "r+", libver="latest") as file:
        del file["gop/batch/x"]
        file.require_group("live")
        if source != "x":
            if source in file:
                del file[source]
            file[source] = h5py.SoftLink("/x")
        layout = h5py.VirtualLayout((100,), "f8")
        layout[:] = h5py.VirtualSource(".", source, (100, 40), "f8")[:, 0]
        file.create_virtual_dataset("gop/batch/x", layout)
    with pytest.raises(ValueError, match=r"metrics\.h5 cannot be read: .*must be numbers in this"):
        TableFile(path).read("gop/batch", "x")


@pytest.mark.parametrize("kind", ["external storage", "external link", "virtual"])
def test_a_run_goes_on_with_no_numbers_of_another_file(tmp_path, kind):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(9.0).tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["loss"] = np.arange(9.0)
        file["loss"].attrs["note"] = "secret"
    table = Table("", {"epoch": Column(dtype="<i8"), "loss": Column()})
    run = RunWriter(tmp_path / "run", {"metrics.h5": [(table, 9)]})
    run.extend("metrics.h5", "", {"epoch": range(9), "loss": range(9)})
    run.finalise()
    with h5py.File(tmp_path / "run" / "metrics.h5", "r+") as file:
        del file["loss"]
        if kind == "external storage":
            file.create_dataset("loss", (9,), "<f8", external=[(str(secret), 0, 72)])
        elif kind == "external link":
            file["loss"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "loss")
        else:
            layout = h5py.VirtualLayout((9,), "<f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "loss", (9,))
            file.create_virtual_dataset("loss", layout)
    before = (tmp_path / "run" / "metrics.h5").read_bytes()
    with pytest.raises(ValueError, match=r"metrics\.h5 cannot be read: .*must be numbers in this"):
        RunWriter(tmp_path / "run", {"metrics.h5": [(table, 9)]}, resume_epoch=5)
    assert (tmp_path / "run" / "metrics.h5").read_bytes() == before
