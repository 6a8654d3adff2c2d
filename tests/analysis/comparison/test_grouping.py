"""Groups of runs: what counts as a setting, and what a label says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from grokscope import Run
from grokscope.analysis.comparison.grouping import as_number, run_groups
from grokscope.analysis.comparison.snapshot import Snapshot


def runs(*configs):
    found = []
    for number, config in enumerate(configs):
        run = Snapshot(Path(f"run_{number}"))
        run.config = config
        run.info = {"name": config.get("name", "small")}
        found.append(run)
    return found


def config(lr=0.001, width=64, seed=0, **more):
    return {
        "seed": seed,
        "data": {"modulus": 97, "split_seed": seed},
        "net": {"width": width, "seed": seed + 1},
        "model": {"optimizer": {"lr": lr}},
        "paths": {"run_dir": f"logs/{lr}/{seed}"},
        "callbacks": {"gop": {"output_dir": f"logs/{lr}/{seed}"}},
        "logger": {"csv": {"mode": seed}},
    } | more


def labels(*configs):
    return [group.label for group in run_groups(runs(*configs)).groups]


def test_runs_that_differ_in_their_seeds_alone_are_one_group():
    every = runs(
        *(config(lr, width, s) for lr in (0.001, 0.1) for width in (64, 8) for s in (0, 1))
    )
    found = run_groups(every)
    assert found.keys == ("net.width", "model.optimizer.lr")
    assert [group.label for group in found.groups] == [
        "width=64, lr=0.001",
        "width=8, lr=0.001",
        "width=64, lr=0.1",
        "width=8, lr=0.1",
    ]
    assert [group.runs for group in found.groups] == [
        tuple(every[i : i + 2]) for i in range(0, 8, 2)
    ]
    assert found.groups[1].settings == {"net.width": 8, "model.optimizer.lr": 0.001}


def test_one_group_has_the_name_of_the_experiment():
    found = run_groups(runs(config(seed=0, name="nanda"), config(seed=1, name="nanda")))
    assert found.keys == ()
    assert [(group.label, len(group.runs)) for group in found.groups] == [("nanda", 2)]


def test_tails_are_as_short_as_they_can_be():
    a = {"a": {"b": {"c": 1}}, "d": {"b": {"c": 2}}, "e": {"c": 3, "f": 4}}
    b = {"a": {"b": {"c": 2}}, "d": {"b": {"c": 1}}, "e": {"c": 4, "f": 5}}
    assert labels(a, b)[0] == "a.b.c=1, d.b.c=2, e.c=3, f=4"
    # one name is the end of another
    assert labels({"c": 1, "a": {"c": 2}}, {"c": 2, "a": {"c": 3}})[0] == "c=1, a.c=2"


def test_copies_of_a_setting_are_named_once():
    def two(epochs, other):
        return {
            "callbacks": {"gop": {"schedule": {"batch": epochs}}},
            "schedule": {"batch": epochs},
            "other": {"batch": other},
        }

    found = run_groups(runs(two("log 5", 1), two("log 9", 1)))
    assert found.keys == ("schedule.batch",)
    assert labels(two("log 5", 1), two("log 9", 2))[0] == "schedule.batch=log 5, other.batch=1"


def test_experiments_come_first_and_then_what_differs_within_them():
    found = labels(
        config(name="a", lr=0.1, only_a=1),
        config(name="a", lr=0.2, only_a=1),
        config(name="b", width=9),
    )
    assert found == ["a, lr=0.1", "a, lr=0.2", "b"]


def test_a_setting_that_is_absent_differs_from_null():
    found = run_groups(runs({"x": None}, {}, {"x": 1}))
    assert [group.label for group in found.groups] == ["x=null", "x absent", "x=1"]
    assert [group.settings for group in found.groups] == [{"x": None}, {}, {"x": 1}]


def test_equal_numbers_are_equal_and_true_is_no_number():
    nan = float("nan")
    found = run_groups(runs(*({"x": v} for v in (1, 1.0, True, "1", nan, -nan, [1], [1]))))
    assert [len(group.runs) for group in found.groups] == [2, 1, 1, 2, 2]


def test_settings_of_folders_and_sections_that_cannot_matter_are_passed_over():
    idle = {"paths": {"x": 1}, "hydra": {"job": {"num": 1}}, "logger": None, "run": "a"}
    idle |= {"ckpt_path": "x", "trainer": {"default_root_dir": "y"}, "ticket": {"run": "z"}}
    assert run_groups(runs(idle, {})).keys == ()
    assert run_groups(runs({"seeds": 1}, {"seeds": 2})).keys == ("seeds",)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-05, "1e-05"), (0.1 + 0.2, "0.30000000000000004"), (123456789, "123456789"),
     (1234567.5, "1234567.5"), (False, "False"), ("a\x00\u202e<b>", "a\ufffd\ufffd<b>")],
)  # fmt: skip
def test_values_are_written_so_that_they_stay_different(value, text):
    assert labels({"x": value}, {"x": "other"})[0] == f"x={text}"


def test_runs_without_settings_are_a_group(write, tmp_path):
    paths = write(tmp_path / "a"), write(tmp_path / "b")
    found = run_groups(map(Run.open, paths))
    assert [(group.label, len(group.runs)) for group in found.groups] == [("small", 2)]
    assert all(isinstance(run, Snapshot) for run in found.groups[0].runs)


def test_a_hundred_runs_of_three_hundred_settings_take_well_below_a_second():
    leaves = {f"section_{i}": {f"key_{j}": j for j in range(20)} for i in range(15)}
    every = runs(*(leaves | config(lr=n % 10, width=n // 20, seed=n) for n in range(100)))
    begin = time.process_time()
    assert len(run_groups(every).groups) == 50
    assert time.process_time() - begin < 1


def test_only_finite_numbers_are_numbers():
    assert [as_number(value) for value in (3, 2.5, 10**300)] == [3.0, 2.5, 1e300]
    others = (True, None, "3", float("inf"), float("nan"), 10**400, [])
    assert all(as_number(value) != as_number(value) for value in others)


@pytest.mark.refusal
def test_no_run_is_refused():
    with pytest.raises(ValueError, match="runs must hold at least one run, got none"):
        run_groups([])
