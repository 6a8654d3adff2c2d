"""Phases of nets with wrong labels: the published outcomes and the limits."""

from __future__ import annotations

import pytest

from grokscope.analysis.corruption_phases import corruption_phase

NOTEBOOK = [  # train and test accuracy as printed, corruption, what the notebook calls it
    (0.978, 0.983, 0.35, "coexistence"),
    (0.786, 1.000, 0.35, "partial inversion"),
    (0.654, 1.000, 0.35, "full inversion"),
]


@pytest.mark.parametrize(("train", "test", "corruption", "phase"), NOTEBOOK)
def test_printed_outcomes_have_their_names(train, test, corruption, phase):
    assert corruption_phase(train, test, corruption) == phase


def test_a_net_that_has_forgotten_was_once_right():
    assert corruption_phase(0.009, 0.011, 0.35, had_generalised=True) == "forgetting"
    assert corruption_phase(0.009, 0.011, 0.35) == "confusion"
    assert corruption_phase(1.0, 0.011, 0.35, had_generalised=True) == "memorisation"


def test_limits_belong_to_the_better_phase():
    assert corruption_phase(0.9, 0.9, 0.35) == "coexistence"
    assert corruption_phase(0.7001, 0.9, 0.35) == "partial inversion"
    assert corruption_phase(0.6999, 0.9, 0.35) == "full inversion"
    assert corruption_phase(0.89, 0.95, 0.1) == "full inversion"  # 1.05 - 0.1 is above 0.9


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((98.0, 1.0, 0.3), "train_acc must be a number"),
        ((1.0, -0.1, 0.3), "test_acc must be a number"),
        ((1.0, 1.0, 1.0), "corruption must be a number"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match="^" + match):
        corruption_phase(*arguments)
