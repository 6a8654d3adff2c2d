"""Sweeps without Slurm: what is said of their runs, and of the time that is left."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from grokscope.analysis.sweeps import (
    RunState,
    collect,
    counts,
    duration,
    forecast_text,
    queue,
    state_table,
    states,
    status_text,
    time_left,
    write_csv,
)
from grokscope.analysis.sweeps.tables import MANY
from grokscope.callbacks.rows import LOSSES, root_table
from grokscope.store import RunWriter
from grokscope.store.info import update_info
from grokscope.store.lock import NAME as LOCK
from grokscope.store.run_writer import METRICS
from grokscope.store.sweep import NAME, SlurmJob, Sweep, SweepRun

SCRIPTS = Path(__file__).parents[2] / "scripts" / "slurm"
NOW = 1e9  # seconds; the clock of these tests
EPOCHS = 1000


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: NOW)


def write(folder, epoch=None, status="running", written=NOW, **info):
    """A run of 1000 epochs whose last row is that of an epoch; its accuracies are its epochs."""
    folder.mkdir(parents=True)
    if epoch is not None:
        writer = RunWriter(folder, {METRICS: [(root_table((), 0), 2)]})
        for row in sorted({0, epoch}):
            values = dict.fromkeys(LOSSES, 1 / 3) | {"train_acc": row > 0, "test_acc": row > 5}
            writer.append(METRICS, "", values | {"epoch": row, "global_step": row})
        writer.finalise() if status == "finished" else writer.close()
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {"max_epochs": EPOCHS}}))
    update_info(folder, status=status, **info)
    if status == "running":  # on another machine, whose locks do not reach this one
        (folder / LOCK).write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    for path in folder.iterdir():
        os.utime(path, (written, written))
    return folder


@pytest.fixture
def sweep(tmp_path):
    """Four runs that differ in their seeds, each with a job of an array."""
    runs = [SweepRun(n, ("net.width=8", f"seed={n}"), str(n)) for n in range(4)]
    jobs = [SlurmJob(f"7_{n}", (n,)) for n in range(4)]
    sweep = Sweep(tmp_path / "sweep").with_runs(runs).with_jobs(jobs)
    sweep.write()
    return sweep


def said(sweep, queue):
    return [(each.state, each.reason) for each in states(sweep, queue)]


# -- states -------------------------------------------------------------------------------------


def test_a_run_without_a_folder_waits_or_is_missing(sweep):
    assert said(sweep, {"7_0": "PENDING", "7_1": "RUNNING"}) == [
        ("waiting", "job 7_0 PENDING"),
        ("waiting", "job 7_1 RUNNING"),
        ("missing", "job 7_2 is over"),
        ("missing", "job 7_3 is over"),
    ]
    assert said(sweep, None)[0] == ("missing", "job 7_0: Slurm does not answer")
    without_jobs = Sweep(sweep.folder, sweep.runs)
    assert said(without_jobs, {}) == said(without_jobs, None) == [("missing", "")] * 4


def test_states_are_those_of_the_runs_by_number(sweep):
    write(sweep.folder / "0", 1000, "finished")
    write(sweep.folder / "1", 20)
    write(sweep.folder / "2", 30, "failed: disk full", error="No space\n  left\x1b[2J")
    write(sweep.folder / "3", status="stopped")
    found = states(Sweep(sweep.folder, dict(reversed(sweep.runs.items()))), None)
    assert [each.run.number for each in found] == [0, 1, 2, 3]
    assert [each.state for each in found] == [
        "finished",
        "running",
        "failed: disk full",
        "stopped",
    ]
    assert [each.epoch for each in found] == [1000, 20, 30, None]
    assert {each.epochs for each in found} == {EPOCHS}
    assert [each.reason for each in found] == ["", "", "No space left\ufffd[2J", ""]
    assert [each.path for each in found] == [sweep.folder / str(n) for n in range(4)]


def test_what_a_job_in_the_queue_will_do_waits_and_what_failed_in_it_has_failed(sweep):
    """A job may do several runs: one that failed is not begun anew by it."""
    written = (sweep.folder / NAME).stat().st_mtime
    for number, status in enumerate(("failed", "failed", "preempted", "finished")):
        folder = write(sweep.folder / str(number), 10, status, error="no luck")
        when = written + (-60 if number == 0 else 60)
        os.utime(folder / "run.json", (when, when))
    running = dict.fromkeys((f"7_{n}" for n in range(4)), "RUNNING")
    assert said(sweep, running) == [
        ("waiting", "job 7_0 RUNNING; before: no luck"),
        ("failed", "no luck"),
        ("waiting", "job 7_2 RUNNING; before: no luck"),
        ("finished", ""),
    ]
    pending = dict.fromkeys(running, "PENDING")
    assert [state for state, _ in said(sweep, pending)] == [*["waiting"] * 3, "finished"]


def test_a_run_whose_job_is_gone_was_killed_unless_a_process_holds_it(sweep):
    """By its own word it still runs, on another machine."""
    for number in range(3):
        write(sweep.folder / str(number), 10)
    holder = "import sys, time; from pathlib import Path; from grokscope.store.lock import *\n"
    holder += "lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", holder, str(sweep.folder / "2")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        found = said(sweep, {"7_0": "RUNNING"})
        process.kill()
    assert found[:3] == [("running", ""), ("killed", "job 7_1 is over"), ("running", "")]
    assert said(sweep, {})[2] == ("killed", "job 7_2 is over")


def test_a_run_whose_job_was_requeued_by_slurm_waits(sweep):
    """Its node died, so that it still says that it runs."""
    write(sweep.folder / "0", 10)
    assert said(sweep, {"7_0": "PENDING"})[0] == ("waiting", "job 7_0 PENDING")
    assert said(sweep, {"7_0": "RUNNING"})[0] == ("running", "")


def test_without_slurm_a_run_elsewhere_is_killed_after_ten_quiet_minutes(sweep):
    folder = write(sweep.folder / "0", 10)
    for path in folder.iterdir():
        os.utime(path, (NOW - 590, NOW - 590))
    assert said(sweep, None)[0] == ("running", "")
    for path in folder.iterdir():
        os.utime(path, (NOW - 610, NOW - 610))
    assert said(sweep, None)[0] == ("killed", "job 7_0: Slurm does not answer")


def test_a_run_that_cannot_be_read_is_unknown_and_says_why(sweep):
    for number, (name, text) in enumerate(
        [("run.json", "[]"), ("config.yaml", "\x00"), (METRICS, "none"), ("run.json", "{}")]
    ):
        (sweep.folder / str(number)).mkdir()
        update_info(sweep.folder / str(number), status="finished")
        (sweep.folder / str(number) / name).write_text(text)
    found = states(sweep, {})
    assert [each.state for each in found] == ["unknown"] * 4
    assert "run.json must hold a JSON object" in found[0].reason
    assert "config.yaml is not valid YAML" in found[1].reason
    assert "metrics.h5 cannot be read" in found[2].reason
    assert found[3].reason == "job 7_3 is over"
    assert counts(found) == "4 runs: 4 unknown"


@pytest.mark.parametrize("epochs", ["many", True, None, [3], 10**25])
def test_foreign_settings_do_no_harm(epochs, sweep):
    folder = write(sweep.folder / "0", 10, started=-1e308, started_epoch=0)
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {"max_epochs": epochs}}))
    (found, *_) = states(sweep, None)
    assert found.state == "running"
    assert found.seconds_left is None
    assert found.epochs == (epochs if epochs == 10**25 else None)


# -- time ---------------------------------------------------------------------------------------


def test_the_time_left_of_a_run_is_by_the_speed_of_its_process_until_its_last_row(sweep):
    """Rows may be far apart: of the passes since the last one nothing is known yet."""
    clock = {"started": NOW - 300, "started_epoch": 200}
    write(sweep.folder / "0", 600, written=NOW - 100, **clock)  # half a second a pass
    write(sweep.folder / "1", 600, written=NOW, started=NOW - 200, started_epoch=200)
    write(sweep.folder / "2", 600, written=NOW - 250, started=NOW - 290, started_epoch=200)
    first, second, third, _ = states(sweep, None)
    assert first.seconds_left == pytest.approx(0.5 * 400 - 100)
    assert second.seconds_left == pytest.approx(0.5 * 400)
    assert third.seconds_left == 0  # it should be over
    assert [first.seconds, second.seconds, third.seconds] == pytest.approx([500, 500, 100])


@pytest.mark.parametrize(
    ("epoch", "clock"),
    [
        (None, {"started": NOW - 60, "started_epoch": 0}),
        (200, {"started": NOW - 60, "started_epoch": 200}),  # rows of an earlier process
        (200, {"started": NOW - 60, "started_epoch": -5}),
        (200, {"started": NOW + 60, "started_epoch": 0}),  # the clocks differ
        (1001, {"started": NOW - 60, "started_epoch": 0}),
        (200, {"started": "now", "started_epoch": None}),
        (200, {}),
    ],
)
def test_the_time_left_is_not_known(epoch, clock, sweep):
    write(sweep.folder / "0", epoch, **clock)
    (found, *_) = states(sweep, None)
    assert (found.state, found.seconds_left, found.seconds) == ("running", None, None)


def test_a_finished_run_is_as_long_as_it_says(sweep):
    write(sweep.folder / "0", 1000, "finished", wall_seconds=50)
    write(sweep.folder / "1", 1000, "finished", wall_seconds=50, started_epoch=750)
    write(sweep.folder / "2", 1000, "finished", wall_seconds=-1)
    write(sweep.folder / "3", 1000, "finished", wall_seconds="long")
    assert [each.seconds for each in states(sweep, None)] == [50, 50, None, None]


def made(state, left=None, seconds=None, epoch=None, number=0):
    run = SweepRun(number, (f"seed={number}",), str(number))
    return RunState(run, Path(str(number)), state, epoch, 100, left, "", seconds)


def test_time_left_of_runs_that_run_side_by_side_is_that_of_the_last():
    runs = [made("running", left, 90) for left in (10, 70, 30)]
    assert time_left(runs) == 70
    assert time_left([*runs, made("finished", seconds=1e6), made("failed")]) == 70


def test_runs_that_wait_take_the_places_of_those_that_end():
    """Two places, of 10 and 30 seconds; then 100, 100 and 100: until 110, 130 and 210."""
    waiting = [made("waiting")] * 2 + [made("missing")]
    assert time_left([made("running", 10, 100), made("running", 30, 100), *waiting]) == 210


def test_what_a_waiting_run_has_done_is_not_done_again():
    found = [made("running", 10, 80), made("finished", seconds=120), made("waiting", epoch=75)]
    assert time_left(found) == pytest.approx(10 + 0.25 * 100)


def test_a_running_run_without_a_row_is_taken_to_be_like_the_others():
    assert time_left([made("running"), made("finished", seconds=40)]) == 40
    assert time_left([made("running", epoch=25), made("finished", seconds=40)]) == 30
    assert time_left([made("running"), made("running", 5, 10)]) == 10


@pytest.mark.parametrize("state", ["finished", "failed", "waiting", "missing", "running"])
def test_nobody_knows_the_time_left_where_nothing_runs_or_nothing_was_timed(state):
    assert time_left([made(state)]) is None
    assert time_left([]) is None


def test_time_left_is_that_of_a_simulation_second_by_second():
    draw = random.Random(0)
    for _ in range(30):
        running = [draw.randint(1, 40) for _ in range(draw.randint(1, 4))]
        n_waiting, places, seconds = draw.randint(0, 9), list(running), 0
        found = [made("running", left, 20) for left in running] + [made("waiting")] * n_waiting
        while any(places):
            seconds += 1
            places = [max(0, left - 1) for left in places]
            while 0 in places and n_waiting:
                places[places.index(0)] = 20
                n_waiting -= 1
        assert time_left(found) == seconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *[(0, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (89, "1 min"), (91, "2 min")],
        *[(3569, "59 min"), (3571, "1 h"), (7799, "2 h 10 min"), (86_369, "23 h 59 min")],
        *[(86_371, "1 d"), (100 * 3600, "4 d 4 h"), (47.6 * 3600, "2 d")],
        *[(1000 * 86_400, "1000 d"), (1e9, "more than 1000 d"), (math.inf, "more than 1000 d")],
    ],
)
def test_durations_are_rounded_and_never_read_60_min_or_24_h(seconds, words):
    assert duration(seconds) == words


def test_durations_grow():
    words = [duration(seconds) for seconds in range(0, 3 * 86_400, 7)]
    units = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
    for seconds, text in zip(range(0, 3 * 86_400, 7), words, strict=True):
        parts = text.split()
        value = sum(int(n) * units[u] for n, u in zip(parts[::2], parts[1::2], strict=True))
        smallest = units[parts[-1]] if seconds < 86_370 else 3600
        assert abs(value - seconds) <= max(smallest, 60 if seconds >= 3570 else 1) / 2


# -- tables -------------------------------------------------------------------------------------


def drawn(found, last=("reason / time left", status_text)):
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(state_table("a sweep", found, last))
    console.file.close()
    return console.export_text()


def test_the_table_shows_what_is_a_run_s_own_and_why_it_is_not_finished(sweep):
    write(sweep.folder / "0", 1000, "finished")
    write(sweep.folder / "1", 500, started=NOW - 600, started_epoch=0)
    write(sweep.folder / "2", 30, "failed", error="loss [red]is[/red] nan")
    text = drawn(states(sweep, {"7_1": "RUNNING", "7_3": "PENDING"}))
    rows = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["0", "seed=0", "finished", "1,000 of 1,000", ""],
        ["1", "seed=1", "running", "500 of 1,000", "about 10 min left"],
        ["2", "seed=2", "failed", "30 of 1,000", "loss [red]is[/red] nan"],
        ["3", "seed=3", "waiting", "-", "job 7_3 PENDING"],
    ]


def test_a_single_run_shows_all_its_settings(sweep):
    one = Sweep(sweep.folder, {2: sweep.runs[2]})
    assert "net.width=8 seed=2" in drawn(states(one, {}))


def test_of_many_runs_those_are_shown_that_say_most():
    few = [made("finished", number=n) for n in range(MANY)]
    assert len(drawn(few).splitlines()) == MANY + 5
    failed = [made("failed", number=n) for n in range(3)]
    text = drawn([*few, *failed, *[made("waiting", number=n) for n in range(1234)]])
    assert text.count("failed") == 3
    assert text.splitlines()[-1].strip() == "and 1,234 waiting, 60 finished"
    assert "waiting" not in "".join(text.splitlines()[:-1])


def test_lines_count_the_states_and_say_when_it_is_over():
    assert counts([]) == "0 runs"
    assert counts([made("failed")]) == "1 run: 1 failed"
    found = [made("finished", seconds=40), made("failed"), made("finished", seconds=60)]
    assert forecast_text(found) == "3 runs: 2 finished, 1 failed"
    found += [made("running", 3600, 7200), made("waiting")]
    whole = "5 runs: 2 finished, 1 failed, 1 running, 1 waiting"
    assert forecast_text(found) == f"{whole}; about 1 h 41 min left"  # 3600 + 7300 / 3


# -- sweep.csv ----------------------------------------------------------------------------------


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def collected(folder, *overrides):
    runs = {n: SweepRun(n, typed, str(n)) for n, typed in enumerate(overrides)}
    rows = collect(states(Sweep(folder, runs), None))
    return rows, read(write_csv(rows, folder / "sweep.csv"))


def test_settings_have_a_column_each_and_values_are_as_they_were_typed(tmp_path):
    typed = (
        ("seed=0", "model.optimizer.lr=1e-3", "name='a, \"b\"; c=d'", "+data.noise=-0.5"),
        ("seed=1", "net.widths=[8,4]", "~callbacks.rich", "optimizer@model.optimizer=sgd"),
        ("seed=2", "model.optimizer.lr=1.0e-3", "name=", "model.optimizer.lr=0.1"),
    )
    _, rows = collected(tmp_path, *typed)
    names = ["seed", "model.optimizer.lr", "name", "data.noise", "net.widths", "callbacks.rich"]
    assert list(rows[0])[2:9] == [*names, "optimizer@model.optimizer"]
    assert [[row[name] for name in names] for row in rows] == [
        ["0", "1e-3", "'a, \"b\"; c=d'", "-0.5", "", ""],
        ["1", "", "", "", "[8,4]", "~"],
        ["2", "0.1", "", "", "", ""],
    ]


def test_a_row_has_what_came_out_and_nothing_where_nothing_did(tmp_path):
    info = {"wall_seconds": 12.34, "measure_seconds": 1}
    write(tmp_path / "0", 8, "finished", **info)
    write(tmp_path / "1", 3, "failed", error="a, b")
    write(tmp_path / "3", 8, "finished")
    (tmp_path / "3" / METRICS).write_bytes(b"damaged")
    rows, written = collected(tmp_path, *((f"seed={n}",) for n in range(4)))
    shown = {"run": "0", "state": "finished", "seed": "0", "epoch": "8", "memorised": "8"}
    shown |= {"generalised": "8", "delay": "0", "train_loss": repr(1 / 3), "test_acc": "1.0"}
    shown |= {"wall_seconds": "12.34", "reason": "", "path": str(tmp_path / "0")}
    assert {name: written[0][name] for name in shown} == shown
    assert float(written[0]["train_loss"]) == np.float64(1 / 3)
    assert [row["state"] for row in written] == ["finished", "failed", "missing", "unknown"]
    assert written[1]["reason"] == "a, b"
    assert [row["memorised"] for row in written] == ["8", "3", "", ""]
    assert [row["generalised"] for row in rows] == [8, None, None, None]
    assert "metrics.h5 cannot be read" in written[3]["reason"]


def test_a_setting_does_not_hide_a_column_of_another_meaning(tmp_path):
    _, rows = collected(tmp_path, ("run=last", "path=x", "test_loss=0", "seed=1"))
    assert list(rows[0])[2:6] == ["override run", "override path", "override test_loss", "seed"]
    assert rows[0]["run"] == "0"
    assert rows[0]["override run"] == "last"
    assert rows[0]["path"] == str(tmp_path / "0")
    assert rows[0]["test_loss"] == ""


FORMULAS = [
    "=1+1",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "-inf",
    "+",
    "=",
    "-1_0",
    "+1,2",
    '=HYPERLINK("x")',
]
NUMBERS = ["-1", "+2", "-0.5", "-.5", "-5.", "-1e-3", "+1E5"]


@pytest.mark.parametrize("value", FORMULAS)
def test_a_stranger_s_sweep_does_not_compute_in_a_spreadsheet(value, tmp_path):
    path = write(tmp_path / "0", status=value, error=value).parent
    _, rows = collected(path, (f"name={value}", f"{value.partition('=')[0] or '@'}a=3"))
    for row in rows:
        assert row["name"] == row["state"] == row["reason"] == f"'{value}"
        cells = [*row, *row.values()]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_stay_numbers(value, tmp_path):
    _, rows = collected(tmp_path, (f"x={value}",))
    assert rows[0]["x"] == value
    assert float(rows[0]["x"]) == float(value)


def test_control_characters_and_half_characters_are_replaced(tmp_path):
    _, rows = collected(tmp_path, ("x=\ta\r\nb\x1b[2J", "y=\ud800"))
    assert rows[0]["x"] == "\ufffda\ufffd\ufffdb\ufffd[2J"
    assert rows[0]["y"] == "\ufffd"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_csv([{"a": 1, "b": None}], tmp_path / "t.csv")
    assert path.read_text() == "a,b\n1,\n"
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_csv([{"a": 2}], path)
    assert [each.name for each in tmp_path.iterdir()] == ["t.csv"]
    assert path.read_text() == "a,b\n1,\n"


def test_a_sweep_without_runs_has_an_empty_table(tmp_path):
    assert write_csv(collect([]), tmp_path / "t.csv").read_text().strip() == ""


# -- the queue ----------------------------------------------------------------------------------


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """``squeue(text)``: a program of that name, which prints its last argument to a file."""

    def install(body):
        program = tmp_path / "bin" / "squeue"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$SQUEUE_STATES $*" >> {tmp_path}/asked\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return tmp_path / "asked"

    return install


def test_jobs_are_asked_for_by_their_arrays_without_a_user_s_filters(squeue, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "all")
    asked = squeue('printf "12|RUNNING\\n13_0|PENDING\\n13_1|RUNNING\\n"')
    found = queue.queued(["13_1", "12", "13_7", "13_1"])
    assert found == {"12": "RUNNING", "13_1": "RUNNING"}
    assert asked.read_text() == " --noheader --array --format=%i|%T --jobs=12,13\n"


def test_many_jobs_are_asked_for_in_several_questions(squeue):
    asked = squeue("true")
    assert queue.queued(map(str, range(queue.AT_ONCE * 2 + 1))) == {}
    assert len(asked.read_text().splitlines()) == 3


def test_a_job_that_slurm_has_forgotten_is_over_and_a_dead_slurm_is_not_asked_in_vain(squeue):
    forgotten = (
        'test "$4" = --jobs=1 && echo "slurm_load_jobs error: Invalid job id specified" >&2'
    )
    squeue(f"{forgotten}; exit 1")
    assert queue.queued(["1"]) == {}
    assert queue.queued(["2"]) is None


def test_without_slurm_nobody_knows_and_without_jobs_nobody_is_asked(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert queue.queued(["1"]) is None
    assert queue.queued([]) == {}


# -- the scripts --------------------------------------------------------------------------------


def script(name, *arguments):
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    environment = os.environ | {"PATH": ""}  # no Slurm
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_status_shows_a_sweep_without_slurm(sweep):
    write(sweep.folder / "0", 1000, "finished")
    write(sweep.folder / "1", 10, "failed", error="loss is nan")
    done = script("status", sweep.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "loss is nan" in done.stdout
    assert "job 7_3: Slurm does not answer" in done.stdout
    assert done.stdout.splitlines()[-1] == "4 runs: 2 missing, 1 finished, 1 failed"


def test_collect_writes_the_same_table_anywhere(sweep, tmp_path):
    write(sweep.folder / "0", 1000, "finished")
    first = script("collect", sweep.folder)
    second = script("collect", sweep.folder, "--output", tmp_path / "other.csv")
    assert first.stdout == f"4 runs: 3 missing, 1 finished; {sweep.folder / 'sweep.csv'}\n"
    assert second.returncode == 0
    written = (sweep.folder / "sweep.csv").read_bytes()
    assert written == (tmp_path / "other.csv").read_bytes()
    assert [row["seed"] for row in read(tmp_path / "other.csv")] == ["0", "1", "2", "3"]


@pytest.mark.refusal
@pytest.mark.parametrize("name", ["status", "collect"])
def test_a_folder_that_is_no_sweep_is_refused_in_one_line(name, tmp_path):
    done = script(name, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: sweep must be a sweep's folder, got {tmp_path}: no {NAME} there.\n"
    )


@pytest.mark.refusal
def test_a_table_that_cannot_be_written_is_refused_in_one_line(sweep, tmp_path):
    done = script("collect", sweep.folder, "--output", tmp_path / "no" / "file.csv")
    assert done.returncode == 1
    assert done.stderr.startswith("error: [Errno 2] No such file or directory: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.refusal
@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "often"])
def test_status_refuses_to_watch_all_the_time(seconds, sweep):
    done = script("status", sweep.folder, f"--watch={seconds}")
    assert done.returncode == 2
    assert "--watch" in done.stderr
