"""CIFAR-10: small files of the binary format, and an archive of them."""

from __future__ import annotations

import hashlib
import io
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from grokscope.data import cifar10
from grokscope.data.cifar10 import FOLDER, MEAN, RECORD, STD, TEST, TRAIN, CIFAR10DataModule


def made_up(name: str, n: int = 4) -> bytes:
    """n images; image i of file f has label (f + i) % 10, red f, green i and blue 255."""
    number = [*TRAIN, *TEST].index(name)
    records = np.zeros((n, RECORD), dtype=np.uint8)
    records[:, 0] = (number + np.arange(n)) % 10
    records[:, 1:1025], records[:, 1025:2049] = number, np.arange(n)[:, None]
    records[:, 2049:] = 255
    return records.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*TRAIN, *TEST):
        (tmp_path / name).write_bytes(made_up(name))
    return tmp_path


def module(data_dir: Path, **settings) -> CIFAR10DataModule:
    return CIFAR10DataModule(data_dir, **({"download": False, "batch_size": 5} | settings))


def test_images_are_channels_first_and_normalised(folder: Path) -> None:
    data = module(folder)
    data.setup()
    assert data.train.inputs.shape == (20, 3, 32, 32)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.tolist() == [(f + i) % 10 for f in range(5) for i in range(4)]
    assert len(data.test) == 4
    assert data.steps_per_epoch == 4
    bytes_ = [(f, i, 255) for f in range(5) for i in range(4)]
    expected = (torch.tensor(bytes_) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(data.train.inputs[:, :, 7, 30], expected)


def test_rows_of_an_image_come_before_its_columns(folder: Path) -> None:
    content = np.frombuffer(made_up(TEST[0]), dtype=np.uint8).copy().reshape(-1, RECORD)
    content[0, 1 + 32 + 5] = 200  # second row, sixth column of red
    (folder / TEST[0]).write_bytes(content.tobytes())
    data = module(folder)
    data.setup()
    red = data.test.inputs[0, 0]
    assert (red == red.max()).nonzero().tolist() == [[1, 5]]


def test_the_range_is_that_of_the_released_code() -> None:
    ends = np.stack([np.zeros((3, 32, 32), np.uint8), np.full((3, 32, 32), 255, np.uint8)])
    values = cifar10.normalised(ends)
    assert float(values.min()) == pytest.approx(-2.4291, abs=1e-4)
    assert float(values.max()) == pytest.approx(2.7537, abs=1e-4)


def test_subsets_are_the_first_images(folder: Path) -> None:
    data = module(folder, n_train=6, n_test=2, n_recorded=3)
    data.setup()
    assert [len(s) for s in (data.train, data.test, data.recorded_train)] == [6, 2, 3]
    assert data.train.targets.tolist() == [0, 1, 2, 3, 1, 2]


def archive(names: tuple[str, ...] = (*TRAIN, *TEST)) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name, content in [
            ("../outside", b"x"),
            *((f"{FOLDER}/{n}", made_up(n)) for n in names),
        ]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_an_archive_in_the_folder_gives_the_six_files_and_nothing_else(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "cifar-10-binary.tar.gz").write_bytes(archive())
    module(data_dir).setup()
    assert {path.name for path in (data_dir / FOLDER).iterdir()} == {*TRAIN, *TEST}
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_a_download_is_checked_and_unpacked(tmp_path: Path, monkeypatch) -> None:
    import pooch

    asked = []

    def retrieve(url, known_hash, fname, path, downloader):
        asked.append(url)
        content = archive()
        if known_hash != f"md5:{hashlib.md5(content).hexdigest()}":
            raise ValueError("another hash")
        Path(path).mkdir(exist_ok=True)
        (Path(path) / fname).write_bytes(content)
        return str(Path(path) / fname)

    monkeypatch.setattr(cifar10, "answers", lambda url: True)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(FileNotFoundError, match="its checksum is wrong"):
        module(tmp_path / "a", download=True).setup()
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(archive()).hexdigest())
    module(tmp_path / "b", download=True).setup()
    module(tmp_path / "b", download=True).setup()
    assert asked == [cifar10.URL] * 2
    assert logging.getLogger("pooch").level != logging.CRITICAL


@pytest.mark.refusal
@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_damaged_archive_is_named(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(archive()[:kept])
    with pytest.raises(ValueError, match="is damaged or another archive") as caught:
        module(tmp_path).setup()
    assert str(path) in str(caught.value)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.refusal
def test_missing_files_are_named_in_one_line(folder: Path) -> None:
    (folder / TRAIN[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"; data_batch_2.bin missing \(download=False\)"):
        module(folder).setup()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (made_up(TEST[0])[:-1], "must hold at most 10,000 images of 3,073 bytes, got 12,291"),
        (b"", "got 0 bytes"),
        (b"\x0a" + made_up(TEST[0])[1:], "must hold labels of 0 to 9, got 10"),
    ],
)
def test_a_foreign_file_is_refused_by_its_name(folder: Path, content: bytes, message: str) -> None:
    (folder / TEST[0]).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        module(folder).setup()
    assert str(folder / TEST[0]) in str(caught.value)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_train": 0}, "n_train must be an integer >= 1, got 0"),
        ({"n_test": "a"}, "n_test must be an integer"),
        ({"n_recorded": 0}, "n_recorded must be an integer"),
        ({"download": 1}, "download must be true or false"),
        ({"data_dir": 3}, "data_dir must be the path of a folder, got 3"),
    ],
)
def test_wrong_arguments_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CIFAR10DataModule(**({"data_dir": "."} | settings))


@pytest.mark.refusal
def test_more_images_than_there_are_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="n_train must be at most 20, got 21"):
        module(folder, n_train=21).setup()
