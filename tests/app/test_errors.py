from __future__ import annotations

import re
from functools import partial

import pytest
from omegaconf import OmegaConf

from grokscope.app.errors import (
    UserError,
    as_user_error,
    explain,
    nearest_names,
    one_line_errors,
    refuse,
)
from grokscope.store.replacing import replace_text

CONFIG = OmegaConf.create(
    {
        "seed": 0,
        "measures": {"top_k": 3},
        "schedule": {"batch": "every 1"},
        "net": {"widths": [1, 2], "seed": "${seed}", "n": "${plus:1,2}"},
        "callbacks": {"gop": {"top_k": "${measures.top_k}", "schedule": {"batch": "x"}}},
        "trainer": {"devices": 0, "none": None},
        "model": {"scheduler": {"steps": 1}},
    }
)


@pytest.mark.parametrize(
    ("where", "message", "expected"),
    [
        ("net", "widths must be", "net.widths must be"),
        ("net", "widths[1] must be", "net.widths[1] must be"),
        ("net", "n must be", "net.n must be"),
        ("net", "seed must be", "seed must be"),
        ("callbacks.gop", "top_k must be", "measures.top_k must be"),
        ("callbacks.gop", "schedule.batch must be", "callbacks.gop.schedule.batch must be"),
        ("callbacks.other", "schedule.batch must be", "schedule.batch must be"),
        ("model.scheduler", "scheduler.steps must be", "model.scheduler.steps must be"),
        ("trainer", "none must be", "trainer.none must be"),
        ("trainer", "`Trainer(devices=0)` is wrong", "trainer.devices=0: `Trainer(devices=0)`"),
        ("trainer", "wrong somehow", "trainer: wrong somehow"),
        ("", "seed must be", "seed must be"),
        ("", "", ""),
        ("net", "MLP.__init__() got an unexpected keyword argument 'width'", "net.width is not"),
        ("net", "MLP.__init__() got an unexpected keyword argument 'width'", "net.widths?"),
    ],
)
def test_a_message_names_the_key_that_the_user_writes(where, message, expected):
    assert expected in explain(where, message, CONFIG)


@pytest.mark.parametrize(
    ("wrong", "known", "expected"),
    [
        ("sede", ["seed", "data.seed", "trainer.devices"], "seed or data.seed"),
        ("data.modulu", ["data.modulus", "data.split"], "data.modulus"),
        (
            "optimizer",
            ["model.optimizer", "optimizer@model.optimizer"],
            "optimizer@model.optimizer",
        ),
        ("zzz", ["seed"], ""),
        ("seed", ["seed"], ""),
    ],
)
def test_the_nearest_names_are_close_in_their_last_part(wrong, known, expected):
    assert nearest_names(wrong, known) == expected


def test_a_refusal_is_one_line_and_code_1(capsys):
    with pytest.raises(SystemExit) as caught:
        refuse("seed must\n be 1")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: seed must be 1\n"


@pytest.mark.parametrize("error", [ValueError("widths must be"), TypeError("widths must be")])
def test_a_constructor_s_refusal_becomes_a_user_error(error):
    with pytest.raises(UserError, match=r"^net\.widths must be$"), one_line_errors(CONFIG, "net"):
        raise error


def test_a_bug_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), one_line_errors(CONFIG):
        raise ZeroDivisionError


def test_what_the_system_refuses_names_the_file(tmp_path):
    missing, found = tmp_path / "nothing" / "x", []
    for work in (partial(replace_text, missing, "x"), lambda: missing.read_text()):
        try:
            work()
        except OSError as error:
            below = error.__traceback__.tb_next  # as if something of ours had caught it
            found.append(as_user_error(error.with_traceback(below), CONFIG))
    ours, mine = found  # the second is of the code here: a user's own
    assert re.fullmatch(rf"{missing.parent}/\S+\.part: No such file or directory\.", str(ours))
    assert not ours.hint
    assert str(mine).startswith("FileNotFoundError: [Errno 2]")
    assert "traceback" in mine.hint
