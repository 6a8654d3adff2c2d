"""What a page says of a run, in every state that a run can be in."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml

from grokscope.analysis.grokking import GrokkingTimes
from grokscope.analysis.report.document import LONGEST, cut, run_document, verdict
from grokscope.analysis.report.page import page_html
from grokscope.analysis.run import Run
from grokscope.store.info import update_info


def facts(document, title):
    return {f["title"]: dict(f["rows"]) for f in document["facts"]}[title]


@pytest.mark.parametrize(
    ("memorised", "generalised", "words"),
    [
        (None, None, "It has neither memorised nor generalised."),
        (1200, None, "It memorised at epoch 1,200 and has not generalised."),
        (None, 30, "It generalised at epoch 30 without memorising all."),
        (30, 30, "It generalised at epoch 30, no later than it memorised."),
        (30, 20, "It generalised at epoch 20, no later than it memorised."),
        (0, 20, "It memorised at epoch 0 and generalised at 20: 20 epochs later."),
        (
            100,
            12_000,
            "It memorised at epoch 100 and generalised at 12,000: 11,900 epochs later, "
            "120 times as many.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(memorised, generalised, words):
    times = GrokkingTimes(memorised, generalised, 0.99, 0.99, 0)
    assert verdict(SimpleNamespace(status="finished"), times) == words
    running = verdict(SimpleNamespace(status="running"), times)
    assert running == words.replace("It ", "So far it ", 1)


def test_a_finished_run_says_how_it_went(finished):
    document = run_document(Run.open(finished))
    assert document["title"] == "synthetic: finished"
    assert document["verdict"].startswith("It memorised at epoch 20 and generalised at 199: 179 ")
    assert document["moments"] == {"memorised": 20, "generalised": 199}
    assert (document["running"], document["live"]) == (False, False)
    assert document["progress"] == "epoch 299"
    assert facts(document, "Summary")["delay"] == "179 epochs  (9.9 times)"


def test_a_running_run_says_so(synthetic):
    for epoch in range(3):
        synthetic.write(epoch)
    document = run_document(Run.open(synthetic.folder), live=True)
    assert (document["running"], document["live"]) == (True, True)
    assert document["title"] == "synthetic: running"
    assert document["verdict"].startswith("So far it")
    assert document["progress"] == "epoch 2"


@pytest.mark.parametrize(
    ("settings", "progress"),
    [
        ("trainer: {max_epochs: 40000}", "epoch 39 of 40,000"),
        ("trainer: {max_epochs: never}", "epoch 39"),
        ("trainer: soon", "epoch 39"),
    ],
)
def test_progress_names_the_end_where_it_is_known(live, settings, progress):
    (live / "config.yaml").write_text(settings)
    assert run_document(Run.open(live))["progress"] == progress


def test_a_killed_run_is_not_running(live):
    document = run_document(Run.open(live))
    assert document["title"] == "synthetic: killed"
    assert document["running"] is False
    assert document["verdict"].startswith("It memorised")
    assert {panel["key"] for panel in document["panels"]} >= {"loss", "gop_batch"}


def test_a_folder_with_only_its_description_is_a_page(tmp_path):
    update_info(tmp_path, status="running", name="young")
    document = run_document(Run.open(tmp_path))
    assert document["panels"] == []
    assert document["progress"] == "no row yet"
    assert "young: running" in page_html(document)


def test_what_was_typed_and_all_settings_are_listed(make, tmp_path):
    folder = make(tmp_path / "run", last=3)
    typed = ["trainer.max_epochs=40", "data.modulus=7", "flag"]
    update_info(folder, overrides=typed, versions={"torch": "2", "python": "3"}, machine="Linux")
    settings = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": [], 5: {True: "x"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    document = run_document(Run.open(folder))
    named = "Settings that differ from the defaults"
    expected = {"trainer.max_epochs": "40", "data.modulus": "7", "flag": ""}
    assert facts(document, named) == expected
    rows = {"a.b": "1", "a.c": "[1, 2]", "d": "None", "e": "[]", "5.True": "x"}
    assert facts(document, "All settings") == rows
    machine = facts(document, "Machine")
    assert machine == {"versions": "torch 2, python 3", "machine": "Linux"}


def test_tables_without_a_row_are_left_out(live):
    assert [found["title"] for found in run_document(Run.open(live))["facts"]] == ["Summary"]


def test_a_run_s_own_revision_is_listed(make, tmp_path):
    folder = make(tmp_path / "run", last=3)
    update_info(folder, git_revision="abc123")
    assert "abc123" in facts(run_document(Run.open(folder)), "Machine").values()


@pytest.mark.parametrize("overrides", ["text", {"a": 1}, 5, [None, 3, ["x"]]])
def test_foreign_descriptions_do_not_end_it(make, tmp_path, overrides):
    folder = make(tmp_path / "run", last=3)
    update_info(folder, overrides=overrides, versions=[1], git=None, name=5, status=[1])
    document = run_document(Run.open(folder))
    assert json.loads(json.dumps(document, allow_nan=False))["title"].startswith("5: ")


def test_long_text_is_cut_and_control_characters_are_replaced():
    assert cut("a\0b\u202ec") == "a\ufffdb\ufffdc"
    assert cut("x" * LONGEST) == "x" * LONGEST
    assert cut("x" * 10_000) == "x" * (LONGEST - 1) + "…"


@pytest.mark.refusal
def test_a_damaged_file_is_named(make, tmp_path):
    folder = make(tmp_path / "run", last=3)
    (folder / "metrics.h5").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"metrics\.h5"):
        run_document(Run.open(folder))
