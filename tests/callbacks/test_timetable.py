from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grokscope.callbacks.schedule import adaptive, at, every, log
from grokscope.callbacks.timetable import DEFAULTS, Timetable, check_epochs, parse_schedules

schedules = st.dictionaries(
    st.sampled_from(sorted(DEFAULTS)),
    st.one_of(
        st.integers(1, 30).map(every),
        st.integers(1, 9).map(log),
        st.lists(st.integers(0, 90), min_size=1, max_size=3).map(at),
        st.just(adaptive(log(3), every(2))),
    ),
    min_size=1,
)
losses = st.fixed_dictionaries({"test_acc": st.floats(0, 1), "test_loss": st.floats(0, 9)})


@given(schedules, st.lists(st.integers(0, 100), max_size=20), losses, st.integers(0, 60))
def test_what_is_kept_of_earlier_answers_changes_none(given, asked, row, seen: int) -> None:
    table = Timetable(given)
    for epoch in asked:
        if epoch == seen:
            table.observe(epoch, row)
        fresh = Timetable({})
        fresh._schedules = table._schedules
        assert table.next_due(epoch) == fresh.next_due(epoch)
        assert (table.next_due(epoch) == epoch) == bool(table.due(epoch))


def test_a_row_changes_what_was_answered_before() -> None:
    table = Timetable({"weight": adaptive(log(1), every(1))})
    assert table.next_due(12) == 100
    table.observe(10, {"test_acc": 0.0})
    table.observe(11, {"test_acc": 1.0})
    assert table.next_due(12) == 12
    table.restore(Timetable({"weight": adaptive(log(1), every(1))}).state())
    assert table.next_due(12) == 100


def test_rows_without_test_values_change_nothing() -> None:
    table = Timetable({"weight": adaptive()})
    state = table.state()
    table.observe(1, {"train_loss": 1.0})
    table.observe(2, {"train_loss": 0.0})
    assert table.state() == state


def test_names_without_a_schedule_take_the_default() -> None:
    found = parse_schedules({"weight": 3, "batch": None}, ("batch", "weight", "trajectory"))
    assert found == {
        "metrics": every(1),
        "batch": every(1),
        "weight": every(3),
        "trajectory": every(10),
        "factor": log(20),
    }
    assert set(parse_schedules("adaptive", ("trajectory",))) == {"metrics", "trajectory"}


@pytest.mark.refusal
def test_an_unknown_name_and_an_epoch_that_never_comes_are_refused() -> None:
    with pytest.raises(ValueError, match="schedule must be one of metrics, batch, weight, traj"):
        parse_schedules({"trajectroy": 1}, ())
    with pytest.raises(
        ValueError, match=r"schedule.factor must have an epoch before max_epochs=5"
    ):
        check_epochs({"factor": at([5])}, 5)
    check_epochs({"factor": at([5]), "weight": adaptive()}, None)
