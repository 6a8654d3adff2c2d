"""``sweep.json``: what is written comes back; what is not one is refused by name."""

from __future__ import annotations

import json

import pytest

from grokscope.store.sweep import NAME, SlurmJob, Sweep, SweepRun, identity, read_sweep

RUNS = [
    SweepRun(0, ("seed=0", "name='a, \"b\"'"), "0"),
    SweepRun(11, ("seed=1", "~callbacks.x", "net.widths=[1,2]"), "below/11"),
]
JOBS = [SlurmJob("12", (0,)), SlurmJob("13_4", (0, 11)), SlurmJob("14", (11,))]


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path / "new").with_runs(RUNS).with_jobs(JOBS).of_command(["seed=0,1", "ä=ß"])


def test_what_is_written_comes_back(sweep):
    sweep.write()
    assert read_sweep(sweep.folder) == sweep
    assert [path.name for path in sweep.folder.iterdir()] == [NAME]


def test_an_empty_sweep_comes_back(tmp_path):
    Sweep(tmp_path).write()
    assert read_sweep(tmp_path) == Sweep(tmp_path)


def test_runs_and_jobs_are_added_and_the_old_sweep_stays_as_it_was(sweep):
    more = sweep.with_runs([SweepRun(12, (), "12")]).with_jobs([SlurmJob("15", (12,))])
    assert list(more.runs) == [0, 11, 12]
    assert [job.id for job in more.jobs] == ["12", "13_4", "14", "15"]
    assert list(sweep.runs) == [0, 11]
    assert len(sweep.jobs) == 3


def test_a_run_belongs_to_the_last_job_that_was_to_do_it(sweep):
    assert sweep.job_of(0) == JOBS[1]
    assert sweep.job_of(11) == JOBS[2]
    assert sweep.job_of(12) is None
    assert sweep.path(RUNS[1]) == sweep.folder / "below" / "11"


def test_runs_are_the_same_whatever_their_order_and_place():
    one = identity(["seed=1", "net.width=3", "resume=true", "+paths.log_dir=/here", "run=last"])
    assert one == identity(["net.width=3", "paths.log_dir=/there", "seed=1", "ckpt_path=x.ckpt"])
    assert one != identity(["seed=1", "net.width=4"])
    assert one != identity(["seed=1"])
    assert identity(["runs=3"]) != identity([])


@pytest.mark.parametrize("folder", ["0 1", ".hidden", "a/./b", "=x", "\N{SNOWMAN}"])
def test_folders_below_the_sweep_are_taken(folder, tmp_path):
    Sweep(tmp_path, {0: SweepRun(0, (), folder)}).write()
    (run,) = read_sweep(tmp_path).runs.values()
    assert (tmp_path / run.folder).is_relative_to(tmp_path)


RUN = {"number": 0, "overrides": ["seed=0"], "folder": "0"}
JOB = {"id": "1", "runs": [0]}


def content(**entries):
    return {"command": [], "runs": [RUN], "jobs": [JOB]} | entries


def run_with(**entries):
    return content(runs=[RUN | entries])


def job_with(**entries):
    return content(jobs=[JOB | entries])


BAD = {
    "no runs": ({"command": [], "jobs": []}, "no 'runs'"),
    "a list": ([1], "list indices must be"),
    "a number": (3, "not subscriptable"),
    "runs of another kind": (content(runs={"0": RUN}), "must be a list"),
    "a run of another kind": (content(runs=["0"]), "indices must be"),
    "a run without a folder": (content(runs=[{"number": 0, "overrides": []}]), "no 'folder'"),
    "a folder elsewhere": (run_with(folder="/etc"), "'/etc' is not below the sweep's folder"),
    "a folder above": (run_with(folder="a/../../b"), "is not below the sweep's folder"),
    "the folder itself": (run_with(folder="."), "is not below the sweep's folder"),
    "no folder": (run_with(folder=""), "is not below the sweep's folder"),
    "a folder with a zero byte": (run_with(folder="a\0b"), "is not the name of a folder"),
    "a folder of another kind": (run_with(folder=3), "str"),
    "a negative number": (run_with(number=-1), "-1 is not the number of a run"),
    "a fraction": (run_with(number=1.5), "1.5 is not the number of a run"),
    "a truth": (run_with(number=True), "True is not the number of a run"),
    "infinity": (run_with(number=float("inf")), "inf is not the number of a run"),
    "a huge number": (run_with(number=10**100), "is not the number of a run"),
    "two runs of one number": (content(runs=[RUN, RUN | {"folder": "1"}]), "number .* 0 twice"),
    "two runs in one folder": (content(runs=[RUN, RUN | {"number": 1}]), "folder .* '0' twice"),
    "overrides as one text": (run_with(overrides="seed=0"), "'seed=0' must be a list"),
    "overrides of another kind": (run_with(overrides=[{}]), r"\[\{\}\] must hold text"),
    "a command of another kind": (content(command=[1]), r"\[1\] must hold text"),
    "a job that is an option": (job_with(id="--help"), "'--help' is not the number of a job"),
    "two jobs in one": (job_with(id="1,2"), "'1,2' is not the number of a job"),
    "a job's end": (job_with(id="1_"), "'1_' is not the number of a job"),
    "another alphabet": (job_with(id="\N{ARABIC-INDIC DIGIT ONE}"), "is not the number of a job"),
    "a job of another kind": (job_with(id=1), "expected string"),
    "a job of no runs": (job_with(runs=None), "None must be a list"),
}


@pytest.mark.refusal
@pytest.mark.parametrize(("bad", "words"), BAD.values(), ids=BAD)
def test_what_is_not_a_list_of_runs_is_refused(bad, words, tmp_path):
    (tmp_path / NAME).write_text(json.dumps(bad))
    with pytest.raises(ValueError, match=f"{NAME} is not the list of a sweep's runs: .*{words}"):
        read_sweep(tmp_path)


@pytest.mark.refusal
@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000])
def test_what_is_no_json_is_refused(text, tmp_path):
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(ValueError, match=f"{NAME} is not the list of a sweep's runs: "):
        read_sweep(tmp_path)


@pytest.mark.refusal
def test_a_folder_without_a_sweep_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=rf"sweep must .*, got {folder}: no"):
            read_sweep(folder)
