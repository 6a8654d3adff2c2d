"""``metrics.csv``: rows kept and dropped, files that others have saved again, full disks."""

from __future__ import annotations

import errno
import os
import tracemalloc

import pytest

from grokscope.callbacks import CSVLogger, csv_logger

NAMES = "epoch,train/loss,test/loss"


def logger_of(folder, epochs, first=0):
    logger = CSVLogger(folder)
    logger.begin(first)
    for epoch in epochs:
        logger.log_metrics({"train/loss": 0.5 + epoch, "test/loss": 2.0 * epoch}, step=epoch)
    logger.save()
    return logger


def lines(folder):
    return (folder / "metrics.csv").read_bytes().decode().split("\r\n")[:-1]


def expected(epochs):
    return [NAMES, *(f"{e},{0.5 + e},{2.0 * e}" for e in epochs)]


def test_a_resumed_run_keeps_the_rows_before_its_checkpoint(tmp_path):
    logger_of(tmp_path, range(10))
    assert lines(tmp_path) == expected(range(10))
    logger_of(tmp_path, range(6, 8), first=6)
    assert lines(tmp_path) == expected(range(8))
    logger_of(tmp_path, [], first=0)
    assert not (tmp_path / "metrics.csv").exists()


def test_a_name_that_comes_later_is_a_new_column(tmp_path):
    logger = logger_of(tmp_path, range(2))
    logger.log_metrics({"gop/trace": 3.0}, step=2)
    logger.save()
    assert lines(tmp_path) == [f"{NAMES},gop/trace", "0,0.5,0.0,", "1,1.5,2.0,", "2,,,3.0"]


@pytest.mark.parametrize("end", [b"7,0.", b"7,1.0,2.0", b"\0" * 5000, b"\0\0\r\n\0"])
def test_what_a_kill_or_a_power_cut_leaves_at_the_end_is_dropped(tmp_path, end):
    logger_of(tmp_path, range(7))
    with (tmp_path / "metrics.csv").open("ab") as file:
        file.write(end)
    logger_of(tmp_path, range(7, 9), first=7)
    assert lines(tmp_path) == expected(range(9))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_that_pandas_or_a_spreadsheet_has_saved_again_is_gone_on_with(tmp_path, encoding):
    text = "\n".join([NAMES, "0.0,0.5,0.0", "1.0,1.5,2.0", "", "2.0,2.5,4.0"]) + "\n"
    (tmp_path / "metrics.csv").write_text(text, encoding=encoding)
    logger_of(tmp_path, range(2, 4), first=2)
    assert lines(tmp_path) == expected(range(4))


FOREIGN = [
    "sep=;\nepoch;train/loss\n0;1,5\n",
    "epoch;train/loss\n0;1,5\n",
    "train/loss,test/loss\n1,2\n",
    "epoch,epoch\n1,2\n",
    f"{NAMES}\n0,1,2,3\n",
    f"{NAMES}\n0,1\n",
    f"{NAMES}\nfirst,1,2\n",
    f"{NAMES}\n0.5,1,2\n",
    f"{NAMES}\nnan,1,2\n",
    f"{NAMES}\ninf,1,2\n",
    f"{NAMES}\n-1,1,2\n",
    f"{NAMES}\n{'9' * 5000}e999,1,2\n",
    f'{NAMES}\n0,"{"x" * 200_000}",2\n',
]


@pytest.mark.refusal
@pytest.mark.parametrize("text", [*FOREIGN, NAMES.encode("utf-16"), b"epoch\n\xff\xfe\n"])
def test_what_is_no_longer_the_table_is_refused_and_stays(tmp_path, text):
    content = text if isinstance(text, bytes) else text.encode()
    content += b"" if content.endswith(b"\n") else b"\n"
    (tmp_path / "metrics.csv").write_bytes(content)
    for act in (lambda logger: logger.check(), lambda logger: logger.begin(1)):
        with pytest.raises(ValueError, match=r"metrics\.csv must be as it was written") as error:
            act(CSVLogger(tmp_path))
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400 + len(str(tmp_path))
    assert (tmp_path / "metrics.csv").read_bytes() == content
    assert os.listdir(tmp_path) == ["metrics.csv"]


@pytest.mark.refusal
def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "metrics.csv").symlink_to(tmp_path / "mine")
    logger = CSVLogger(tmp_path)
    with pytest.raises(ValueError, match=r"must be a regular file, got a symbolic link"):
        logger.begin(3)
    logger.log_metrics({"a": 1.0}, step=0) if logger._begun else None
    with pytest.raises(ValueError, match=r"must be a regular file, got a symbolic link"):
        csv_logger._append(tmp_path / "metrics.csv", b"x")
    assert (tmp_path / "mine").read_text() == "precious"


def test_rows_that_a_full_disk_refuses_are_kept_for_later_and_leave_no_half_line(
    tmp_path, monkeypatch
):
    logger, real = logger_of(tmp_path, range(3)), csv_logger.write_at

    def half(fd, data, offset):
        real(fd, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    logger.log_metrics({"train/loss": 3.5, "test/loss": 6.0}, step=3)
    with monkeypatch.context() as patch:
        patch.setattr(csv_logger, "write_at", half)
        with pytest.raises(OSError, match="No space left"):
            logger.save()
    assert lines(tmp_path) == expected(range(3))
    logger.sync()
    assert lines(tmp_path) == expected(range(4))


def test_resuming_a_long_run_takes_little_memory(tmp_path):
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        file.write(f"{NAMES}\r\n")
        file.writelines(f"{epoch},0.123456789,{epoch / 7}\r\n" for epoch in range(60_000))
    logger = CSVLogger(tmp_path)
    tracemalloc.start()
    logger.check()
    logger.begin(59_000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**21
    assert len(lines(tmp_path)) == 59_001


@pytest.mark.parametrize("what", ["moved", "linked"])
def test_a_table_that_somebody_moves_or_links_to_is_written_anew(tmp_path, what):
    logger = logger_of(tmp_path, range(3))
    path, other = tmp_path / "metrics.csv", tmp_path / "other"
    path.rename(other) if what == "moved" else other.hardlink_to(path)
    logger.log_metrics({"train/loss": 3.5, "test/loss": 6.0}, step=3)
    logger.save()
    assert lines(tmp_path) == expected(range(3, 4) if what == "moved" else range(4))
    assert other.read_bytes().decode().split("\r\n")[:-1] == expected(range(3))
    logger_of(tmp_path, range(4, 5), first=4)
    assert lines(tmp_path)[-1] == "4,4.5,8.0"
