"""Room on the disk: predicted, refused, and a disk that fills up while a run goes on."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from grokscope import Run
from grokscope.store import TableFile, disk

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "src" / "train.py"
LARGE = "schedule.factor=every 1"
EPOCHS = "trainer.max_epochs=12"


def info(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def written(run: Path) -> int:
    """Bytes of everything that the prediction is about."""
    files = [*run.glob("*.h5"), run / "metrics.csv", *run.glob("checkpoints/*")]
    return sum(path.stat().st_size for path in files)


def test_a_prediction_is_printed_and_nothing_is_made(command, tiny):
    result = command("train", *tiny, EPOCHS, "storage.predict_only=true")
    assert (result.code, result.err, result.files) == (0, "", set())
    assert result.out.splitlines()[0].split()[:2] == ["part", "rows"]
    for part in (
        "metrics.h5 top level",
        "gop_layers.h5 weight",
        "gop_full.h5 batch",
        "metrics.csv",
    ):
        assert part in result.out
    assert "total, at most" in result.out


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["trainer.precision=64-true"],
        ["measures=full", "measures.probe=8", "schedule.trajectory=every 1"],
    ],
)
def test_a_run_is_no_larger_than_predicted_and_notes_both_sizes(command, tiny, more):
    result = command("train", *tiny, "trainer.max_epochs=300", "schedule.factor=every 1", *more)
    assert (result.code, result.err) == (0, "")
    facts = info(result.run)
    assert facts["predicted_bytes"] / 4 < written(result.run) <= facts["predicted_bytes"]
    assert facts["disk_bytes"] > 0
    text = (result.run / "train.log").read_text()
    assert re.search(r"Predicted size on disk: at most [\d.]+ MB\n", text)
    assert "gop_full.h5 batch" in text


def test_dense_matrices_are_in_the_prediction(command, tiny):
    dense = ["storage.dense=true", "schedule.factor='at 0 5'", "data.batch_size=8"]
    result = command("train", *tiny, EPOCHS, *dense)
    assert (result.code, result.err) == (0, "")
    assert info(result.run)["predicted_bytes"] / 2 < written(result.run)
    assert written(result.run) <= info(result.run)["predicted_bytes"]
    with h5py.File(result.run / "gop_full.h5") as file:
        matrix = file["epoch_5"]["gop"][:]
    expected = Run.open(result.run).gop(5).dense().astype("f4")
    np.testing.assert_allclose(matrix, expected, rtol=1e-6, atol=1e-30)


@pytest.mark.refusal
def test_dense_matrices_of_a_large_network_are_refused_before_anything_is_made(
    command, tiny, monkeypatch
):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 5 * 10**11)
    wide = [*(word for word in tiny if "widths" not in word), "net.widths=[14,10000,7]"]
    result = command("train", *wide, EPOCHS, "storage.dense=true")
    assert result.err.startswith("error: the run must fit on the disk: it may need ")
    assert "gop_full.h5 epoch_<n> gop 359.9 GB (storage.dense and schedule.factor)" in result.err
    assert result.err.count("\n") == 1
    assert (result.code, result.out, result.files) == (1, "", set())
    small = command("train", *tiny, EPOCHS, "storage.dense=true", "storage.max_bytes=1000000")
    assert "error: storage.max_bytes must be >= the" in small.err
    assert (small.code, small.files) == (1, set())


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("settings", "fragments"),
    [
        (
            [LARGE, "storage.max_bytes=1000"],
            ["storage.max_bytes must be >= the", "got 1,000", "(schedule.", "on_too_large=warn"],
        ),
        (["storage.max_bytes=0"], ["storage.max_bytes must be an integer >= 1, got 0"]),
        (["storage.max_bytes=1GB"], ["storage.max_bytes must be an integer", "got '1GB'"]),
        (["storage.on_too_large=ask"], ["storage.on_too_large must be one of refuse, warn"]),
        (["storage.predict_only=3"], ["storage.predict_only must be true or false, got 3"]),
        (["storage.dense=yes"], ["storage.dense must be true or false, got 'yes'"]),
        (
            ["storage.dense=true", "measures.kinds=[weight]"],
            ["storage.dense must be false without the kind batch, got True"],
        ),
        (["storage.predict_only=true", "--multirun", "seed=0,1"], ["leave out --multirun"]),
        (["storage.max_bytes=1000", "--multirun", "seed=0,1"], ["storage.max_bytes must be >="]),
        (["storage.max_byte=1"], ["did you mean storage.max_bytes"]),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(command, tiny, settings, fragments):
    result = command("train", *tiny, EPOCHS, *settings)
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert all(fragment in result.err for fragment in fragments), result.err
    assert (result.code, result.out, result.files) == (1, "", set())


@pytest.mark.refusal
def test_a_run_above_the_free_space_is_refused(command, tiny, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 10_000)
    result = command("train", *tiny, EPOCHS, LARGE)
    assert "error: the run must fit on the disk: it may need" in result.err
    assert "10.0 kB free (paths.log_dir); largest:" in result.err
    assert (result.code, result.files) == (1, set())


def test_a_run_that_may_not_fit_is_only_warned_of_if_asked(command, tiny):
    settings = ["storage.max_bytes=1000", "storage.on_too_large=warn"]
    result = command("train", *tiny, EPOCHS, *settings)
    assert result.code == 0
    assert "storage.max_bytes must be >= the" in result.out
    assert "WARNING storage.max_bytes" in (result.run / "train.log").read_text()


FILLING = """
import resource, runpy, sys
from pathlib import Path

import {module} as module

limit, after, owner, name = {limit}, {after}, module.{owner}, "{name}"
whole, calls = getattr(owner, name), []


def limited(self, *arguments, **keywords):
    calls.append(name)
    if len(calls) == after:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    return whole(self, *arguments, **keywords)


setattr(owner, name, limited)
sys.argv = sys.argv[1:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
ROWS = {
    "module": "grokscope.store.run_writer",
    "owner": "RunWriter",
    "name": "extend",
    "limit": 6_000,
    "after": 40,
}
CHECKPOINT = {
    "module": "grokscope.callbacks.checkpoint",
    "owner": "Checkpoints",
    "name": "_save",
    "limit": 6_000,
    "after": 12,
}
FINAL = {
    "module": "grokscope.store.run_writer",
    "owner": "RunWriter",
    "name": "finalise",
    "limit": 6_000,
    "after": 1,
}


def process(folder: Path, *words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
        | {"OMP_NUM_THREADS": "1"},
        **options,
    )


def settings(tiny, epochs: int) -> list[str]:
    often = ["callbacks.checkpoints.last_every_seconds=0.001", "hydra.run.dir=run"]
    return [*tiny, f"trainer.max_epochs={epochs}", *often]


def assert_full(done: subprocess.CompletedProcess, run: Path, *, cause: str = "") -> None:
    """One line, and a run that says what happened and opens."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: no room for"), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert cause in done.stderr
    assert Run.open(run).status == "failed: disk full"
    for path in run.glob("*.h5"):
        for table, columns in TableFile(path).everything():
            rows = {len(column) for column in columns.values()}
            assert len(rows) == 1, (path, table)
    assert not [*run.glob("**/*.part")]


def assert_goes_on_to_the_end(folder: Path, tiny, epochs: int) -> None:
    done = process(folder, str(TRAIN), *settings(tiny, epochs)[:-1], "run=run")
    assert (done.returncode, done.stderr) == (0, "")
    run = Run.open(folder / "run")
    assert run.status == "finished"
    assert run.info["error"] is None
    assert run.metrics["epoch"].tolist() == [*range(epochs + 1)]


@pytest.mark.parametrize(
    ("moment", "cause"),
    [
        pytest.param(ROWS, "no room for more of", id="rows"),
        pytest.param(CHECKPOINT, "File too large", id="checkpoint", marks=pytest.mark.slow),
        pytest.param(FINAL, "no room for more of", id="finalise", marks=pytest.mark.slow),
    ],
)
def test_a_size_limit_in_the_middle_ends_the_run_and_it_goes_on_later(
    tmp_path, tiny, moment, cause
):
    epochs = 60
    script = FILLING.format(**moment)
    done = process(tmp_path, "-c", script, str(TRAIN), *settings(tiny, epochs))
    run = tmp_path / "run"
    assert_full(done, run, cause=cause)
    assert "run=" in done.stderr
    rows = TableFile(run / "metrics.h5").read("", "epoch").tolist()
    assert rows == [*range(len(rows))]
    assert len(rows) > 2
    if moment is not FINAL:
        assert_goes_on_to_the_end(tmp_path, tiny, epochs)


@pytest.mark.slow
def test_dense_matrices_without_room_at_the_end_can_be_left_out_later(tmp_path, tiny):
    epochs = 60
    script = FILLING.format(**FINAL | {"limit": 250_000})
    words = [*settings(tiny, epochs), "storage.dense=true", "schedule.factor='at 0'"]
    done = process(tmp_path, "-c", script, str(TRAIN), *words)
    assert_full(done, tmp_path / "run", cause="gop_full.h5")
    assert_goes_on_to_the_end(tmp_path, [*tiny, "schedule.factor='at 0'"], epochs)
    with h5py.File(tmp_path / "run" / "gop_full.h5") as file:
        assert "gop" not in file["epoch_0"]


@pytest.mark.slow
def test_a_limit_of_the_shell_is_met_by_growing_files(tmp_path, tiny):
    """``ulimit -f`` from outside: the files of an adaptive run are rewritten with more room."""
    words = [str(TRAIN), *settings(tiny, 3_000), "schedule.metrics=adaptive every 1 to every 1"]
    words += ["schedule.batch=at 0", "schedule.weight=at 0", "schedule.factor=at 0"]
    limit = 350_000
    done = process(
        tmp_path,
        *words,
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)
        ),
    )
    assert_full(done, tmp_path / "run", cause="metrics")
    assert Run.open(tmp_path / "run").metrics["epoch"].size >= 1_000


TMPFS = """
set -e
mkdir -p "$1/small" && mount -t tmpfs -o size=1500k tmpfs "$1/small" && cd "$1/small"
head -c 700k /dev/zero > ../ballast
( sleep 1; while [ ! -s run/metrics.csv ]; do sleep 0.05; done; cp /dev/zero filler ) 2>/dev/null &
shift
set +e
"$@"
code=$?
wait
rm filler
cp -r run ../run
exit $code
"""


def mountable() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not mountable(), reason="no user namespace here to mount a small tmpfs in")
def test_a_disk_that_is_really_full_ends_the_run_in_the_same_way(tmp_path, tiny):
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", TMPFS, "sh"]
    words = [str(TRAIN), *settings(tiny, 100_000), "schedule=sparse", "schedule.metrics=every 1"]
    done = subprocess.run(
        [*inside, str(tmp_path), sys.executable, *words, "storage.on_too_large=warn"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if "mount:" in done.stderr:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert Run.open(tmp_path / "run").status == "failed: disk full"
    rows = TableFile(tmp_path / "run" / "metrics.h5").read("", "epoch").tolist()
    assert rows == [*range(len(rows))]
