"""EMNIST: upright images, checked files, MNIST beside it, and what missing files give."""

from __future__ import annotations

import zipfile

import emnist_files
import numpy as np
import pooch
import pytest
import torch

from grokscope.data import EMNISTDataModule
from grokscope.data import emnist as module
from grokscope.data.emnist import NAMES


@pytest.fixture
def folder(tmp_path):
    emnist_files.write(tmp_path)
    return tmp_path


def made(folder, **settings):
    data = EMNISTDataModule(folder, **{"n_train": 94, "download": False} | settings)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("subset", ["first", "random"])
def test_images_stand_upright_beside_their_labels(folder, subset):
    data = made(folder, subset=subset)
    for split in (data.train, data.test):
        expected = emnist_files.pictures(split.targets.numpy()).reshape(-1, 784) / 255
        torch.testing.assert_close(split.inputs, torch.from_numpy(expected).float())
    assert (len(data.train), len(data.test)) == (94, 94)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.dtype == torch.int64


def test_mnist_is_a_split_of_its_own(folder):
    data = made(folder, mnist_dir=folder)
    assert data.extra["mnist"].targets.tolist() == [i % 10 for i in range(40)]
    expected = emnist_files.pictures(np.arange(40) % 10).reshape(-1, 784) / 255
    torch.testing.assert_close(data.extra["mnist"].inputs, torch.from_numpy(expected).float())
    assert len(made(folder, mnist_dir=folder, n_mnist=7).extra["mnist"]) == 7
    assert made(folder).extra == {}


def test_the_choice_depends_on_the_seed_alone(folder):
    a, b, c = (made(folder, seed=seed).train for seed in (1, 1, 2))
    assert torch.equal(a.inputs, b.inputs)
    assert not torch.equal(a.targets, c.targets)
    assert (
        len(set(map(tuple, made(folder, n_train=47, subset="first").train.inputs.tolist()))) == 47
    )


def test_files_may_lie_where_torchvision_puts_them(folder):
    raw = folder / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in folder.glob("emnist-*"):
        path.rename(raw / path.name)
    assert len(made(folder).train) == 94


def test_missing_files_come_out_of_the_archive(folder, tmp_path, monkeypatch):
    target = tmp_path / "fresh"
    target.mkdir()

    def retrieve(url, known_hash, fname, path, downloader):
        assert (url, known_hash) == (module.ARCHIVE, f"md5:{module.ARCHIVE_MD5}")
        with zipfile.ZipFile(path / fname, "w") as archive:
            for name in NAMES:
                there = next(p for p in folder.glob(f"{name}*"))
                archive.write(there, f"gzip/{name}.gz")
        return str(path / fname)

    monkeypatch.setattr(module, "answers", lambda url: True)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(made(target, download=True).train) == 94
    assert {path.name for path in target.iterdir()} == {f"{name}.gz" for name in NAMES}


@pytest.mark.refusal
def test_what_is_missing_is_named(folder, monkeypatch):
    (folder / NAMES[3]).unlink()
    with pytest.raises(FileNotFoundError, match=f"{NAMES[3]} missing .download=False"):
        made(folder)

    def refused(*_, **__):
        raise ValueError

    monkeypatch.setattr(module, "answers", lambda url: True)
    monkeypatch.setattr(pooch, "retrieve", refused)
    with pytest.raises(FileNotFoundError, match="its checksum is wrong"):
        made(folder, download=True)


@pytest.mark.refusal
def test_wrong_files_are_refused(folder):
    emnist_files.write_idx(folder / NAMES[1], np.full(188, 47))
    with pytest.raises(ValueError, match="must hold 188 classes below 47 as bytes"):
        made(folder)
    emnist_files.write_idx(folder / f"{NAMES[0]}.gz", np.zeros((188, 27, 28)))
    with pytest.raises(ValueError, match="must hold 28 x 28 images of bytes"):
        made(folder)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"n_train": 189}, "n_train must be at most 188"),
        ({"n_test": 95}, "n_test must be at most 94"),
        ({"subset": "last"}, "subset must be one of first, random"),
        ({"n_mnist": 10_001}, "n_mnist must be an integer >= 1 and <= 10000"),
        ({"data_dir": 3}, "data_dir must be the path of a folder"),
    ],
)
def test_bad_arguments_are_refused(folder, settings, reason):
    with pytest.raises(ValueError, match=reason):
        made(settings.pop("data_dir", folder), **settings)
