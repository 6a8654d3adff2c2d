"""A file that another replaces while it is being opened is read all the same."""

from __future__ import annotations

import h5py
import pytest

from grokscope.store import hdf5_files
from grokscope.store.hdf5_files import ATTEMPTS, open_hdf5


@pytest.fixture(params=["/proc/self/fd", "elsewhere"])
def replaced(request, tmp_path, monkeypatch):
    """`path, times`: the file, and how often another takes its place once it has been opened."""
    if request.param == "elsewhere":
        monkeypatch.setattr(hdf5_files, "DESCRIPTORS", tmp_path / "none")
    path, times = tmp_path / "a.h5", [0]
    write(path, 0)
    real, opened = hdf5_files.open_regular, []

    def open_regular(name):
        fd = real(name)
        opened.append(fd)
        if len(opened) <= times[0]:
            write(tmp_path / "next", len(opened))
            (tmp_path / "next").replace(path)
        return fd

    monkeypatch.setattr(hdf5_files, "open_regular", open_regular)
    return path, times


def write(path, value):
    with h5py.File(path, "w") as file:
        file.attrs["value"] = value


@pytest.mark.parametrize("count", [0, 1, ATTEMPTS - 1])
def test_one_of_the_files_of_that_name_is_read(replaced, count):
    path, times = replaced
    times[0] = count
    with open_hdf5(path) as file:
        assert file.attrs["value"] in range(count + 1)


def test_a_file_that_is_replaced_for_ever_is_an_error(replaced):
    path, times = replaced
    times[0] = 10**6
    if hdf5_files.DESCRIPTORS.is_dir():
        with pytest.raises(OSError, match="real path"), open_hdf5(path):
            pass


def test_a_damaged_file_is_tried_once(replaced):
    path, _ = replaced
    path.write_bytes(b"no HDF5")
    with pytest.raises(OSError, match="signature"), open_hdf5(path):
        pass
