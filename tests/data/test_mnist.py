"""MNIST: the real test files where they lie, small made-up ones and a local mirror elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import logging
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from grokscope.data import download, mnist
from grokscope.data.mnist import MD5, MNISTDataModule

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "mnist"
T10K = [name for name in MD5 if name.startswith("t10k")]
SIZES = {"train": 60, "t10k": 40}
real_files = pytest.mark.skipif(
    not all((REAL / f"{name}.gz").is_file() for name in T10K),
    reason=f"needs the real MNIST test files in {REAL}",
)


def made_up(name: str) -> bytes:
    """A small file of the right kind; image i has pixel 0 equal to i, and the label i % 10."""
    n = SIZES[name.split("-")[0]]
    if "labels" in name:
        return struct.pack(">2xBBI", 8, 1, n) + bytes(i % 10 for i in range(n))
    images = np.zeros((n, 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, -1, -1] = np.arange(n), 255
    return struct.pack(">2xBB3I", 8, 3, n, 28, 28) + images.tobytes()


PACKED = {name: gzip.compress(made_up(name), 1, mtime=0) for name in MD5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All four made-up files, plain."""
    for name in MD5:
        (tmp_path / name).write_bytes(made_up(name))
    return tmp_path


def module(data_dir: Path, **arguments) -> MNISTDataModule:
    return MNISTDataModule(data_dir, **({"n_train": 20, "download": False} | arguments))


def first_pixels(split) -> list[int]:
    return (split.inputs[:, 0] * 255).round().int().tolist()


# The real files


@real_files
def test_real_test_images_come_as_numbers_between_0_and_1():
    data = MNISTDataModule(REAL, n_train=1000, train_images="t10k", download=False)
    data.setup()
    assert data.train.inputs.shape == (1000, 784)
    assert data.test.inputs.shape == (9000, 784)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.dtype == torch.int64
    assert data.train.targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    inputs, targets = (
        torch.cat([getattr(data.train, name), getattr(data.test, name)])
        for name in ("inputs", "targets")
    )
    assert (inputs.min(), inputs.max()) == (0.0, 1.0)
    assert inputs.mean().item() == pytest.approx(0.1325, abs=5e-5)
    per_digit = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert targets.bincount().tolist() == per_digit


@real_files
def test_real_files_have_the_checksums_that_downloads_must_have():
    for name in T10K:
        content = (REAL / f"{name}.gz").read_bytes()
        assert hashlib.md5(content).hexdigest() == MD5[name]


# Subsets


@pytest.mark.parametrize("subset", ["first", "random"])
@pytest.mark.parametrize("n_test", [None, 5])
def test_t10k_subsets_are_disjoint_and_pair_images_with_labels(folder, subset, n_test):
    data = module(folder, train_images="t10k", subset=subset, n_test=n_test)
    data.setup()
    train, test = first_pixels(data.train), first_pixels(data.test)
    assert len(train) == 20
    assert len(test) == (n_test or 20)
    assert len(set(train + test)) == len(train) + len(test)
    assert [i % 10 for i in train + test] == [*data.train.targets, *data.test.targets]


@pytest.mark.parametrize("subset", ["first", "random"])
def test_train_subsets_come_from_their_own_files(folder, subset):
    data = module(folder, n_train=60, n_test=40, subset=subset)
    data.setup()
    assert sorted(first_pixels(data.train)) == list(range(60))
    assert sorted(first_pixels(data.test)) == list(range(40))
    assert (first_pixels(data.train) == list(range(60))) == (subset == "first")
    assert [i % 10 for i in first_pixels(data.train)] == data.train.targets.tolist()


def test_first_takes_the_first_and_tests_on_all(folder):
    data = module(folder)
    data.setup()
    assert first_pixels(data.train) == list(range(20))
    assert first_pixels(data.test) == list(range(40))


def test_random_choice_depends_on_the_seed_and_on_nothing_else(folder):
    chosen = []
    for seed, noise in [(0, 1), (0, 2), (1, 1)]:
        torch.manual_seed(noise)
        np.random.seed(noise)
        state = torch.get_rng_state()
        data = module(folder, subset="random", seed=seed)
        data.setup()
        assert torch.equal(torch.get_rng_state(), state)
        chosen.append(first_pixels(data.train))
    assert chosen[0] == chosen[1] != chosen[2]


def test_images_are_flattened_row_by_row(folder):
    data = module(folder)
    data.setup()
    assert data.train.inputs[:, -1].tolist() == [1.0] * 20
    assert data.train.inputs[:, 1:-1].count_nonzero() == 0


def test_batch_size_divides_a_pass(folder):
    data = module(folder, batch_size=8)
    data.setup()
    assert data.steps_per_epoch == 3


# Where files lie


@pytest.mark.parametrize("place", [".", "MNIST/raw"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_are_found_plain_and_packed_and_where_torchvision_puts_them(tmp_path, place, ending):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name in MD5:
        content = PACKED[name] if ending else made_up(name)
        (tmp_path / place / (name + ending)).write_bytes(content)
    data = module(str(tmp_path))
    data.setup()
    assert len(data.train) == 20


def test_constructor_touches_no_file(tmp_path):
    MNISTDataModule(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


# Refusals


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"data_dir": None}, "data_dir must be the path"),
        ({"n_train": 0}, "n_train must be an integer >= 1"),
        ({"n_train": 60_001}, "n_train must be at most 60000, got 60001: train-images holds"),
        ({"n_train": 10_000, "train_images": "t10k"}, "n_train must be at most 9999.*one is kept"),
        ({"n_test": 0}, "n_test must be an integer >= 1"),
        ({"n_test": 10_001}, "n_test must be at most 10000"),
        ({"n_train": 6000, "n_test": 4001, "train_images": "t10k"}, "n_test must be at most 4000"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"seed": -1}, "seed must be"),
        ({"subset": "last"}, "subset must be one of first, random"),
        ({"train_images": "test"}, "train_images must be one of train, t10k"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(tmp_path, arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        MNISTDataModule(**({"data_dir": tmp_path} | arguments))


@pytest.mark.refusal
def test_a_file_with_fewer_images_than_asked_is_refused(folder):
    with pytest.raises(ValueError, match=r"^n_train must be at most 60, got 61"):
        module(folder, n_train=61).setup()


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("train-images-idx3-ubyte", made_up("train-images")[:-1], "is truncated"),
        ("train-images-idx3-ubyte", made_up("train-labels"), "must hold 28 x 28 images"),
        ("train-labels-idx1-ubyte", made_up("t10k-labels"), "must hold 60 classes"),
        ("t10k-labels-idx1-ubyte", made_up("t10k-labels")[:-1] + b"\x0a", "largest 10"),
    ],
)
def test_a_foreign_file_is_refused_by_its_name(folder, name, content, match):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        module(folder).setup()
    assert str(folder / name) in str(caught.value)


def the_one_line(data: MNISTDataModule) -> str:
    start = time.perf_counter()
    with pytest.raises(FileNotFoundError) as caught:
        data.setup()
    assert time.perf_counter() - start < 3
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.refusal
def test_missing_files_without_download_are_named_in_one_line(tmp_path, capfd):
    line = the_one_line(module(tmp_path / "absent"))
    assert all(name in line for name in MD5)
    assert str(tmp_path / "absent") in line
    assert "all missing (download=False)" in line
    assert not any(
        name in the_one_line(module(tmp_path, train_images="t10k"))
        for name in MD5
        if name not in T10K
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.refusal
def test_only_absent_files_are_called_missing(folder):
    (folder / "train-labels-idx1-ubyte").unlink()
    assert "; train-labels-idx1-ubyte missing (" in the_one_line(module(folder))


# Downloads


class Mirror:
    """A local server: sends ``files``, and says ``requests`` it got. Silent where asked to be."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.silent, self.cut = files, threading.Event(), 0
        self.requests: list[tuple[str, str]] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(b"")

            def do_GET(self) -> None:
                self.answer(mirror.files.get(self.path[1:], b""))

            def answer(self, body: bytes) -> None:
                mirror.requests.append((self.command, self.path[1:]))
                if mirror.silent.is_set():
                    time.sleep(0.6)
                    return
                content = mirror.files.get(self.path[1:])
                self.send_response(200 if content is not None else 404)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(body[: len(body) - mirror.cut])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def mirrors(monkeypatch):
    """Two mirrors of the made-up files, which get their checksums."""
    files = {f"{name}.gz": content for name, content in PACKED.items()}
    pair = [Mirror(dict(files)), Mirror(dict(files))]
    monkeypatch.setattr(mnist, "MIRRORS", tuple(mirror.url for mirror in pair))
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.3)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in PACKED.items()}
    monkeypatch.setattr(mnist, "MD5", sums)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield pair
    for mirror in pair:
        mirror.close()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


ALL = {f"{name}.gz" for name in MD5}


def test_missing_files_come_from_the_first_mirror_once(tmp_path, mirrors, capfd):
    folder = tmp_path / "new" / "folder"
    data = module(folder, download=True)
    data.prepare_data()
    data.setup()
    module(folder, download=True).setup()
    assert len(data.train) == 20
    assert names_in(folder) == ALL
    assert sorted(name for verb, name in mirrors[0].requests if verb == "GET") == sorted(ALL)
    assert mirrors[1].requests == []
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("pooch").level != logging.CRITICAL


def test_only_what_is_missing_and_needed_is_fetched(folder, mirrors):
    (folder / T10K[0]).unlink()
    (folder / "train-images-idx3-ubyte").unlink()
    module(folder, train_images="t10k", download=True).setup()
    assert [name for verb, name in mirrors[0].requests if verb == "GET"] == [f"{T10K[0]}.gz"]


@pytest.mark.parametrize("fault", ["dead", "silent", "empty", "checksum", "cut"])
def test_the_second_mirror_serves_where_the_first_fails(tmp_path, mirrors, monkeypatch, fault):
    first, second = mirrors
    if fault == "dead":
        monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/", second.url))
    elif fault == "silent":
        first.silent.set()
    elif fault == "empty":
        first.files.clear()
    elif fault == "checksum":
        first.files[f"{T10K[0]}.gz"] = gzip.compress(b"something else")
    else:
        first.cut = 3
    module(tmp_path, download=True).setup()
    assert names_in(tmp_path) == ALL
    if fault == "checksum":
        assert [name for verb, name in second.requests if verb == "GET"] == [f"{T10K[0]}.gz"]


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("dead", "does not answer or has no such file"),
        ("silent", "does not answer or has no such file"),
        ("unknown host", "does not answer or has no such file"),
        ("checksum", "its checksum is wrong"),
        ("cut", "broke off"),
    ],
)
def test_failed_downloads_end_in_one_line_and_leave_nothing(
    tmp_path, mirrors, monkeypatch, capfd, fault, reason
):
    for mirror in mirrors:
        if fault == "silent":
            mirror.silent.set()
        elif fault == "checksum":
            mirror.files = {name: gzip.compress(b"something else") for name in ALL}
        elif fault == "cut":
            mirror.cut = 3
    if fault == "dead":
        monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/", "http://127.0.0.1:10/"))
    elif fault == "unknown host":
        monkeypatch.setattr(mnist, "MIRRORS", ("http://nowhere.invalid/",))
    folder = tmp_path / "folder"
    line = the_one_line(module(folder, download=True))
    assert all(name in line for name in MD5)
    assert str(folder) in line
    assert reason in line
    assert names_in(folder) == set()
    assert capfd.readouterr() == ("", "")


def test_the_real_mirrors_are_given_up_within_ten_seconds():
    assert len(mnist.MIRRORS) * download.CONNECT_SECONDS <= 10
    assert all(url.startswith("https://") and url.endswith("/") for url in mnist.MIRRORS)


@real_files
def test_the_real_files_pass_a_download_with_the_real_checksums(tmp_path, monkeypatch):
    mirror = Mirror({f"{name}.gz": (REAL / f"{name}.gz").read_bytes() for name in T10K})
    monkeypatch.setattr(mnist, "MIRRORS", (mirror.url,))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    try:
        data = MNISTDataModule(tmp_path, train_images="t10k")
        data.setup()
    finally:
        mirror.close()
    assert len(data.test) == 9000


# Drawn with replacement


def test_a_subset_drawn_with_replacement_has_images_twice(folder):
    data = module(folder, subset="replacement", n_train=40, seed=1)
    data.setup()
    pixels = first_pixels(data.train)
    assert len(pixels) == 40
    assert len(set(pixels)) < 40
    assert max(pixels) < 60
    assert len(data.test) == 40
    again, other = (module(folder, subset="replacement", n_train=40, seed=s) for s in (1, 2))
    for each in (again, other):
        each.setup()
    assert first_pixels(again.train) == pixels != first_pixels(other.train)


def test_one_drawn_with_replacement_from_the_test_images_is_not_tested_on(folder):
    data = module(folder, subset="replacement", n_train=20, train_images="t10k", n_test=15)
    data.setup()
    drawn, tested = first_pixels(data.train), first_pixels(data.test)
    assert not set(drawn) & set(tested)
    assert tested == sorted(set(range(40)) - set(drawn))[:15]
