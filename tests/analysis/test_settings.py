"""``config.yaml`` of a stranger: refused in one line, at once."""

from __future__ import annotations

import os

import numpy as np
import pytest

from grokscope.analysis import Run
from grokscope.analysis.settings import MAX_BYTES, settings_text
from grokscope.app.errors import UserError
from grokscope.app.stored import read_settings
from grokscope.store.info import update_info

LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60)
)
HOSTILE = {
    "repeated": (LAUGHS, "more than 20,000 entries"),
    "merged": (MERGES, "more than 20,000 entries"),
    "itself": ("a: &a [*a]\n", r"\*a repeats itself"),
    "deep": ("a: " + "[" * 100_000, "50 levels"),
    "large": ("#" * (MAX_BYTES + 1), "more than 262,144 bytes"),
    "tag": ("a: !!python/object/apply:os.system [true]\n", "it has a tag"),
    "bad value of a tag": ("a: !!bool x\n", "it has a tag"),
    "digits": ("a: " + "9" * 5000, "a number of 5,000 digits"),
    "sixties": ("a: " + ":".join(["59"] * 20_000), "a number of 59,999 digits"),
}


@pytest.mark.refusal
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_settings_are_refused_by_both_readers(tmp_path, kind):
    content, why = HOSTILE[kind]
    (tmp_path / "config.yaml").write_text(content)
    update_info(tmp_path, name="x")
    with pytest.raises(ValueError, match=rf"config\.yaml is not valid YAML .*{why}"):
        Run.open(tmp_path).config  # noqa: B018
    with pytest.raises(UserError, match=r"run must have a readable config\.yaml, got .*config"):
        read_settings(tmp_path)


def test_settings_are_text_numbers_booleans_and_none(tmp_path):
    text = "[2026-99-99, 1e-3, 1.0e-05, -2E+1, .5, 0x1f, yes, ~, 1e, .inf]"
    (tmp_path / "config.yaml").write_text(f"a: {text}\n")
    update_info(tmp_path, name="x")
    found = Run.open(tmp_path).config["a"]
    assert found == ["2026-99-99", 1e-3, 1e-5, -20.0, 0.5, 31, True, None, "1e", np.inf]


@pytest.mark.refusal
@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "- 1\n", "a: =\n", "? [a]\n: 1\n"])
def test_what_is_no_mapping_of_plain_values_names_the_file(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    update_info(tmp_path, name="x")
    with pytest.raises(ValueError, match=r"config\.yaml (is not valid|must hold a) YAML"):
        Run.open(tmp_path).config  # noqa: B018


@pytest.mark.refusal
def test_interpolations_are_not_followed(tmp_path):
    (tmp_path / "config.yaml").write_text("name: ${oc.env:HOME}\n")
    with pytest.raises(UserError, match=r"config\.yaml has '\$\{oc\.env:HOME\}' at name"):
        read_settings(tmp_path)


@pytest.mark.refusal
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ValueError, match="must be a regular file, got a FIFO"):
        settings_text(tmp_path / "config.yaml")


def test_a_few_anchors_are_harmless(tmp_path):
    (tmp_path / "config.yaml").write_text("a: &a {k: 1.0e-3}\nb: {<<: *a, m: 2}\n")
    update_info(tmp_path, name="x")
    assert Run.open(tmp_path).config["b"] == {"k": 1e-3, "m": 2}


@pytest.mark.refusal
def test_a_threshold_of_another_kind_names_the_file(tmp_path):
    (tmp_path / "config.yaml").write_text("thresholds: {train: high}\n")
    update_info(tmp_path, name="x")
    match = r"thresholds\.train of .*config\.yaml must be a number"
    with pytest.raises(ValueError, match=match):
        Run.open(tmp_path).grokking_as_configured()


def test_a_series_that_was_not_recorded_is_nan(finished):
    metrics = Run.open(finished).metrics
    assert np.isnan(metrics.series("nothing")).all()
    assert metrics.series("nothing").shape == metrics["epoch"].shape


@pytest.mark.refusal
def test_a_series_of_several_numbers_names_the_file(finished):
    with pytest.raises(
        ValueError, match=r"metrics\.h5 cannot be read: eigenvalues_top_k has shape"
    ):
        Run.open(finished).metrics.series("eigenvalues_top_k")
